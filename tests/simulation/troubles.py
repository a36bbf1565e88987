"""What goes wrong: each fault of a schedule, done to the world."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from consumer.event import TopicPartition
from consumer.offsets import CommitOffset
from tests.simulation.broker import TOPIC
from tests.simulation.broker_troubles import (
    OF_BROKERS,
    BrokerTroubles,
    NobodyThereError,
    partition_name,
)
from tests.simulation.schedule import Fault, Trouble
from tests.simulation.stores import Disk

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.process import Process
    from tests.simulation.world import World

_KILL_AFTER = 15.0
_LOOK_AGAIN = 1.0
_HALF = 0.5


class Troubles:
    """Makes the troubles of a schedule happen, and ends them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._clock = world.clock
        self._rng = random.Random(f"{world.seed}/troubles")
        self._tell = world.tell_cause
        self._brokers = BrokerTroubles(world, self._rng)
        self._over = False
        self.met = 0
        """Faults that have happened."""
        self.to_come = len(world.schedule.troubles)
        """Faults that have not."""

    def meet(self, trouble: Trouble) -> None:
        """A fault happens; where there is nobody whom it could happen to, as soon as there is."""
        if self._over:
            return
        try:
            if (meet := OF_BROKERS.get(trouble.fault)) is not None:
                meet(self._brokers, trouble)
            else:
                _MEET[trouble.fault](self, trouble)
        except NobodyThereError:
            self._clock.after(_LOOK_AGAIN, lambda: self.meet(trouble))
            return
        self.met += 1
        self.to_come -= 1
        self._world.judge.counts[f"fault: {trouble.fault}"] += 1
        self._world.judge.pauses.disturbed(trouble.seconds)

    def end(self) -> None:
        """All is well from now on."""
        self._over = True
        world = self._world
        self._tell("the faults are over")
        world.tiktok.calm()
        world.broker.calm()
        world.coordinator.gone_until = min(world.coordinator.gone_until, self._clock.now)
        world.producer_weather.until = world.producer_weather.letters_fail_until = 0.0
        world.registry.away_until = 0.0
        for process in world.processes:
            process.disk.fails = False
            self._wake(process)
            self._mend(process)
            commits = process.member.commits
            commits.failing_until = commits.unanswered_until = 0.0
        if world.truncated:
            self._stop_all(0.0, self._after_truncation)
        elif not world.running:
            world.start("A")

    # Processes

    def _one_of(self, target: int, fit: Callable[[Process], bool] = bool) -> Process:
        fitting = [process for process in self._world.running if fit(process)]
        if not fitting:
            raise NobodyThereError
        return fitting[target % len(fitting)]

    def _restart(self, name: str, seconds: float) -> None:
        self._clock.after(seconds, lambda: self._world.start(name))

    def _crash(self, trouble: Trouble) -> None:
        process = self._one_of(trouble.target)
        if trouble.share < _HALF:
            process.crash_after = self._rng.randrange(12)
            self._clock.after(5.0, lambda: process.end("it crashes"))
        else:
            process.end("it crashes")
        self._restart(process.name, 5.0 + trouble.seconds)

    def _machine_crash(self, trouble: Trouble) -> None:
        process = self._one_of(trouble.target)
        process.end("its machine crashes, with the last writes to its disk")
        for directory in process.disk.directories.values():
            directory.lose_last(self._rng.randrange(6))
        self._restart(process.name, trouble.seconds)

    def _suspend(self, trouble: Trouble) -> None:
        process = self._one_of(trouble.target, lambda one: not one.suspended)
        self._tell(f"{process.name} is suspended for {trouble.seconds:.0f} s")
        process.suspend()
        self._clock.after(trouble.seconds, lambda: self._wake(process))

    def _wake(self, process: Process) -> None:
        if process.alive and process.suspended:
            self._tell(f"{process.name} wakes up")
            process.wake()

    def _cut(self, trouble: Trouble) -> None:
        process = self._one_of(trouble.target, lambda one: not one.link.cut)
        self._cut_off(process, trouble.seconds)

    def _cut_off(self, process: Process, seconds: float) -> None:
        if not process.link.cut:
            self._tell(f"{process.name} is cut off from Kafka for {seconds:.0f} s")
            process.link.cut = True
            self._clock.after(seconds, lambda: self._mend(process))

    def _mend(self, process: Process) -> None:
        if process.link.cut:
            self._tell(f"{process.name} can reach Kafka again")
            process.link.cut = False
            process.link.mend()
            process.member.readings.poke()

    def _stop(self, trouble: Trouble) -> None:
        process = self._one_of(trouble.target)
        self._stop_one(process)
        self._restart(process.name, 30.0 + trouble.seconds)

    def _stop_one(self, process: Process) -> None:
        self._tell(f"{process.name} is told to stop")
        process.deliver(process.member.stop)
        # Whoever stops it does not wait for ever.
        patience = self._world.setup.drain_seconds + _KILL_AFTER
        self._clock.after(patience, lambda: process.end("it is killed"))

    def _join(self, _trouble: Trouble) -> None:
        slots = self._world.slots
        for name in "ABCDEFGH":
            if name not in slots or not slots[name].alive:
                self._world.start(name)
                return
        raise NobodyThereError

    def _replace(self, trouble: Trouble) -> None:
        """A process is thought dead: another one of its name starts elsewhere."""
        process = self._one_of(trouble.target)
        if trouble.share > _HALF:
            self._cut_off(process, trouble.seconds)
        self._tell(f"another {process.name} starts on another machine")
        self._world.start(process.name, Disk())

    # The group

    def _shuffle(self, _trouble: Trouble) -> None:
        self._tell("the group shares its partitions out anew")
        self._world.coordinator.rebalance(shuffle=True)

    def _coordinator_gone(self, trouble: Trouble) -> None:
        self._tell(f"the group's coordinator is gone for {trouble.seconds:.0f} s")
        self._world.coordinator.gone_until = self._clock.now + trouble.seconds

    def _commits_fail(self, trouble: Trouble) -> None:
        process = self._one_of(trouble.target)
        self._tell(f"commits of {process.name} fail for {trouble.seconds:.0f} s")
        process.member.commits.failing_until = self._clock.now + trouble.seconds
        process.member.commits.share = trouble.share

    def _commits_unanswered(self, trouble: Trouble) -> None:
        process = self._one_of(trouble.target)
        self._tell(f"commits of {process.name} are answered late for {trouble.seconds:.0f} s")
        process.member.commits.unanswered_until = self._clock.now + trouble.seconds
        process.member.commits.share = trouble.share

    # What only a group that is stopped allows

    def _stop_all(self, seconds: float, then: Callable[[], None]) -> None:
        """Everybody is stopped, something is done, and everybody starts again."""
        world = self._world
        names = sorted({process.name for process in world.running})
        for process in world.running:
            self._wake(process)
            self._mend(process)
            self._stop_one(process)

        def stopped() -> None:
            for process in world.running:
                process.end("it is killed")
            for member in list(world.coordinator.members):
                world.coordinator.leave(member)
            then()
            world.judge.offsets_moved()
            for name in names or ["A"]:
                world.start(name)

        patience = world.setup.drain_seconds + _KILL_AFTER + 1.0
        self._clock.after(patience + seconds, stopped)

    def _reset_offsets(self, trouble: Trouble) -> None:
        self._stop_all(trouble.seconds, self._set_back)

    def _set_back(self) -> None:
        self._tell("somebody sets the group's offsets to the beginning")
        world = self._world
        for tp in world.coordinator.offsets:
            if tp.topic == TOPIC:
                world.coordinator.offsets[tp] = CommitOffset(world.broker.log(tp).start)

    def _forget_offsets(self, trouble: Trouble) -> None:
        self._stop_all(trouble.seconds, self._forget)

    def _forget(self) -> None:
        self._tell("the group's offsets are forgotten")
        world, offsets = self._world, self._world.coordinator.offsets
        # Where the log lost its tail, nothing would be left that tells new records from old ones.
        for tp in [tp for tp in offsets if tp.partition not in world.ever_truncated]:
            del offsets[tp]

    def _recreate(self, trouble: Trouble) -> None:
        self._stop_all(trouble.seconds, self._make_again)

    def _make_again(self) -> None:
        self._tell("the source topic is deleted and made again")
        world, offsets = self._world, self._world.coordinator.offsets
        for tp in world.broker.recreate(TOPIC):
            world.judge.truth.recreated(tp)
            if tp in offsets and not offsets[tp].metadata:
                del offsets[tp]  # nobody could tell that it was another topic's
        world.mended()

    def _truncate(self, trouble: Trouble) -> None:
        world = self._world
        partition = trouble.target % world.setup.partitions
        tp = TopicPartition(TOPIC, partition)
        log = world.broker.log(tp)
        end = max(log.start, log.end - 1 - self._rng.randrange(12))
        self._tell(f"{partition_name(tp)} loses its tail, from {end} of {log.end} on")
        world.truncated.add(partition)
        world.ever_truncated.add(partition)
        world.judge.truth.truncated(tp, log.end, end)
        log.truncate(end)
        self._clock.after(trouble.seconds, self._look_after)

    def _look_after(self) -> None:
        if self._world.truncated:
            self._stop_all(0.0, self._after_truncation)

    def _after_truncation(self) -> None:
        self._tell("somebody sets the offsets of truncated partitions to their ends")
        world, offsets = self._world, self._world.coordinator.offsets
        for partition in world.truncated:
            tp = TopicPartition(TOPIC, partition)
            if tp in offsets:
                # Not to what is still there of a topic that is no more: that would skip records.
                settled = world.judge.truth.through(tp, world.broker)
                offsets[tp] = CommitOffset(min(offsets[tp].offset, settled))
        world.mended()

    # A process's own machine

    def _store_fails(self, trouble: Trouble) -> None:
        process = self._one_of(trouble.target)
        disk = process.disk
        self._tell(f"the disk of {process.name} does not work for {trouble.seconds:.0f} s")
        disk.fails = True
        self._clock.after(trouble.seconds, lambda: setattr(disk, "fails", False))

    def _store_wiped(self, trouble: Trouble) -> None:
        process = self._one_of(trouble.target)
        self._tell(f"the local stores of {process.name} are deleted")
        for tp, directory in process.disk.directories.items():
            directory.wipe()
            process.stores.disturb(tp)

    # The rest of the world

    def _registry_away(self, trouble: Trouble) -> None:
        self._tell(f"the schema registry is away for {trouble.seconds:.0f} s")
        self._world.registry.away_until = self._clock.now + trouble.seconds

    def _tiktok(self, trouble: Trouble) -> None:
        pixel = trouble.target % self._world.setup.pixels
        self._tell(
            f"TikTok {trouble.weather} for {trouble.seconds:.0f} s "
            f"(pixel {pixel}, {trouble.share:.0%} of the requests)"
        )
        self._world.judge.counts[f"TikTok: {trouble.weather}"] += 1
        self._world.tiktok.change(trouble._replace(target=pixel))


_MEET: dict[Fault, Callable[[Troubles, Trouble], None]] = {
    Fault.CRASH: Troubles._crash,
    Fault.MACHINE_CRASH: Troubles._machine_crash,
    Fault.SUSPEND: Troubles._suspend,
    Fault.CUT: Troubles._cut,
    Fault.STOP: Troubles._stop,
    Fault.JOIN: Troubles._join,
    Fault.REPLACE: Troubles._replace,
    Fault.SHUFFLE: Troubles._shuffle,
    Fault.COORDINATOR_GONE: Troubles._coordinator_gone,
    Fault.COMMITS_FAIL: Troubles._commits_fail,
    Fault.COMMITS_UNANSWERED: Troubles._commits_unanswered,
    Fault.RESET_OFFSETS: Troubles._reset_offsets,
    Fault.FORGET_OFFSETS: Troubles._forget_offsets,
    Fault.SOURCE_RECREATED: Troubles._recreate,
    Fault.SOURCE_TRUNCATED: Troubles._truncate,
    Fault.STORE_FAILS: Troubles._store_fails,
    Fault.STORE_WIPED: Troubles._store_wiped,
    Fault.REGISTRY_AWAY: Troubles._registry_away,
    Fault.TIKTOK: Troubles._tiktok,
}
