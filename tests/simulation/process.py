"""A process: one engine, and everything that it does to the simulated world.

It does what `consumer.pipeline` does: hands inputs to the engine with the time, and carries the
actions out in their order. It can be suspended, and it can end at any moment, also in the middle
of its actions.
"""

from __future__ import annotations

import math
import random
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from consumer.event import Instant
from consumer.messages import (
    Acknowledged,
    Action,
    AttemptFinished,
    Commit,
    FetchSchema,
    Flow,
    GiveUp,
    LookUp,
    OpenStore,
    Parked,
    Pause,
    Produce,
    ReadState,
    Released,
    Resume,
    SchemaAnswer,
    Send,
    Settled,
    StateChunk,
    StoreMarks,
)
from tests.simulation import edges
from tests.simulation.assembly import build_engine
from tests.simulation.link import Link
from tests.simulation.member import Member
from tests.simulation.producer import Producer
from tests.simulation.session import Session
from tests.simulation.stores import Stores
from tests.support.world import START_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from consumer.event import Record, TopicPartition
    from consumer.source_events import AssignedPartition, CommitResult, PositionChange
    from consumer.verdict import Answer
    from tests.simulation.stores import Disk
    from tests.simulation.tiktok import Call
    from tests.simulation.world import World

_NO_TIME, _MOST_TICKS = 1e-6, 50
"""So often an engine may be woken without any time passing."""

_HIGHS_EVERY = 1.0
_WAKING = 0.3


class Process:
    """One incarnation of a consumer process; what is started again later is another one."""

    def __init__(self, world: World, name: str, serial: int, disk: Disk) -> None:
        self.world = world
        self.name = name
        self.serial = serial
        self.disk = disk
        self.alive = True
        self.suspended = False
        self.calls: dict[int, Call] = {}
        self.proved_at = -math.inf
        self.crash_after: int | None = None
        self.rng = rng = random.Random(f"{world.seed}/process/{serial}")
        clock, setup = world.clock, world.setup
        self._clock = clock
        self._mono = 1000.0 * serial
        self._wall_ms = START_MS + round(setup.wall_skew * 1000 * (rng.random() - 0.5))
        self._inbox: list[Callable[[], None]] = []
        self._timer_at = math.inf
        self._ticked_at, self._ticks = -1.0, 0
        self._highs_at = 0.0
        self.stores = Stores(disk)
        self.engine = build_engine(setup, b"%08d" % serial, rng)
        self.link = Link(clock, rng)
        self.producer = Producer(
            clock, world.broker, self.link, world.producer_weather, rng, self._acknowledge
        )
        session = Session(clock, world.broker, world.coordinator, self.link, setup, rng)
        self.member = Member(self, session)
        self.member.start()

    def __repr__(self) -> str:
        """Which one, and how it is."""
        state = "dead" if not self.alive else "suspended" if self.suspended else "running"
        return f"<Process {self.name}#{self.serial} {state}>"

    @property
    def now(self) -> Instant:
        """The time by this process's clocks."""
        now = self._clock.now
        return Instant(self._mono + now, self._wall_ms * 1_000_000 + int(now * 1e9))

    # Life

    def deliver(self, what: Callable[[], None]) -> None:
        """Something comes in: at once, when the process wakes up, or never."""
        if not self.alive:
            return
        if self.suspended:
            self._inbox.append(what)
        else:
            what()

    def suspend(self) -> None:
        """The process is stopped; the world goes on."""
        self.suspended = True
        self.link.halted_at = self._clock.now

    def wake(self) -> None:
        """The process goes on, and meets what came in meanwhile, in any order."""
        self.suspended = False
        self.link.halted_at = None
        inbox, self._inbox = self._inbox, []
        inbox.append(self._tick)
        self.rng.shuffle(inbox)
        for what in inbox:
            self._clock.after(_WAKING * self.rng.random(), partial(self.deliver, what))
        self.link.mend()
        self._timer_at = math.inf
        self.member.readings.poke()

    def end(self, why: str) -> None:
        """The process is no more. What it put on the wire before goes on."""
        if self.alive:
            self.world.tell(f"{self.name} ends: {why}")
            self.alive = False
            self.link.dead = True
            if self.link.halted_at is None:
                self.link.halted_at = self._clock.now
            self.world.judge.process_ended(self)

    # Inputs

    def records(self, records: list[Record]) -> None:
        """Records were read."""
        now = self._clock.now
        if now - self._highs_at >= _HIGHS_EVERY:
            self._highs_at = now
            self.engine.high_watermarks(self.member.readings.highs())
        self._drive(lambda at: self.engine.records(records, at))

    def assigned(self, found: list[AssignedPartition]) -> None:
        """Partitions are ours."""
        if self.world.telling:
            sources = [one for one in found if one.beside is None]
            places = ", ".join(f"{one.tp.partition} from {one.position}" for one in sources)
            self.world.tell(f"{self.name} is given partition {places}")
        for one in found:
            self.world.judge.assigned(one)
        self._drive(lambda at: self.engine.assigned(found, at))
        self.engine.high_watermarks(self.member.readings.highs())

    def revoked(self, tps: list[TopicPartition], seconds: float, handle: int) -> None:
        """Partitions are to be handed over."""
        self.world.tell(f"{self.name} is to hand over {_named(tps)}")
        self._drive(lambda at: self.engine.revoked(tps, at.mono + seconds, at, handle=handle))

    def lost(self, tps: list[TopicPartition]) -> None:
        """Partitions are gone."""
        self.world.tell(f"{self.name} has lost {_named(tps)}")
        self._drive(lambda at: self.engine.lost(tps, at))

    def position_changed(self, change: PositionChange) -> None:
        """A partition is read from elsewhere, or held."""
        held = f"holds {_named([change.tp])}: {change.hold}"
        moved = f"reads {_named([change.tp])} from {change.position} on"
        self.world.tell(f"{self.name} {moved if change.hold is None else held}")
        self.world.judge.moved(change)
        self._drive(lambda at: self.engine.position_changed(change, at))

    def committed(self, results: list[CommitResult]) -> None:
        """A commit has ended."""
        self._drive(lambda at: self.engine.committed(results, at))

    def proved(self, asked_at: float) -> None:
        """The coordinator took a commit that was asked for at this time."""
        self.proved_at = max(self.proved_at, asked_at)

    def state_read(self, handle: int, chunk: StateChunk) -> None:
        """A chunk of a state partition was read."""
        self._drive(lambda at: self.engine.state_read(handle, chunk, at))

    def state_unread(self, handle: int) -> None:
        """A state partition could not be read."""
        self._drive(lambda at: self.engine.state_unread(handle, at))

    def answered(self, call: Call, handle: int, answer: Answer) -> None:
        """An answer of TikTok, or none in time; whichever is first."""
        if not call.ended:
            self.world.judge.attempts.answered(self, call, handle, answer)
            call.ended = True
            del self.calls[handle]
            self._drive(lambda at: self.engine.answered(handle, answer, at))

    def _acknowledge(self, answer: Acknowledged) -> None:
        self.deliver(lambda: self._acknowledged(answer))

    def _acknowledged(self, answer: Acknowledged) -> None:
        self.world.judge.own_records.acknowledged(self, answer)
        self._drive(lambda at: self.engine.acknowledged([answer], at))

    def _schema(self, schema_id: int, answer: SchemaAnswer) -> None:
        self._drive(lambda at: self.engine.schema_answered(schema_id, answer, at))

    # Driving the engine

    def _drive(self, step: Callable[[Instant], Iterable[Action]]) -> None:
        if not self.alive:
            return
        now = self.now
        actions = deque(self._heard(step(now)))
        while actions:
            if self.crash_after is not None:
                self.crash_after -= 1
                if self.crash_after < 0:
                    self.end("it crashes in the middle of what it does")
                    return
            self._carry_out(actions.popleft(), actions)
        self.world.judge.look(self)
        self._set_timer(now)

    def _heard(self, actions: Iterable[Action]) -> Iterable[Action]:
        """Outcomes hold from the moment of the decision; the rest is still to be done."""
        for action in actions:
            if isinstance(action, Settled):
                self.world.judge.settled(self, action.items)
            elif isinstance(action, Parked):
                self.world.judge.parked(action.items)
            else:
                yield action

    def _tick(self) -> None:
        now = self._clock.now
        self._ticks = self._ticks + 1 if now - self._ticked_at < _NO_TIME else 1
        self._ticked_at = now
        if self._ticks > _MOST_TICKS:
            self.world.judge.notes.fail("tight loop", f"{self.name} asks to be woken without end")
        self._drive(self.engine.tick)

    def _set_timer(self, now: Instant) -> None:
        at = max(self.engine.wake_at(now) - self._mono, self._clock.now)
        if at != self._timer_at:
            self._timer_at = at
            if at < math.inf:
                self._clock.at(at, lambda: self._timer(at))

    def _timer(self, due: float) -> None:
        if due == self._timer_at and self.alive and not self.suspended:
            self._timer_at = math.inf
            self._tick()

    def _carry_out(self, action: Action, actions: deque[Action]) -> None:  # noqa: C901  one case an action
        member, judge = self.member, self.world.judge
        match action:
            case LookUp() | OpenStore() | StoreMarks():
                actions.extend(self._heard(edges.ask_store(self, action)))
            case ReadState():
                edges.read_state(self, action)
            case Send(request):
                edges.send(self, request)
            case AttemptFinished(attempt):
                judge.attempts.attempted(attempt)
            case Commit(offsets, number):
                member.commits.commit(offsets, number)
            case Produce():
                judge.own_records.produced(self, action)
                self.producer.produce(action)
            case FetchSchema(schema_id):
                take = lambda found: self.deliver(lambda: self._schema(schema_id, found))  # noqa: E731  handed on
                self.world.registry.ask(take)
            case Flow(is_open):
                member.readings.flow(is_open=is_open)
            case Pause(tp):
                member.readings.pause(tp)
            case Resume(tp, position):
                judge.resumed(self, tp, position)
                member.readings.resume(tp, position)
            case GiveUp(tp):
                self.stores.close(tp)
            case Released(offsets, handle):
                # Another thread takes it up.
                release = lambda: member.released(offsets, handle)  # noqa: E731  delivered below
                self._clock.after(0.0, lambda: self.deliver(release))


def _named(tps: Iterable[TopicPartition]) -> str:
    numbers = [str(tp.partition) for tp in tps]
    return f"partition {', '.join(numbers)}" if numbers else "nothing"
