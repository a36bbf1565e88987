"""What must hold, checked at each step. A check that fails raises `Violation` and ends the run."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from consumer.commit_metadata import decode as decode_metadata
from consumer.event import Outcome, Reason, TopicPartition
from consumer.state_phases import Phase
from tests.simulation.attempts import Attempts
from tests.simulation.broker import TOPIC
from tests.simulation.own_records import OwnRecords
from tests.simulation.owners import Owners
from tests.simulation.pauses import Pauses
from tests.simulation.schedule import Kind
from tests.simulation.truth import Source, Truth
from tests.simulation.verdicts import Notes, fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumer.event import Item
    from consumer.offsets import CommitOffset, Partition
    from consumer.source_events import AssignedPartition, PositionChange
    from tests.simulation.process import Process
    from tests.simulation.world import World


class Judge:
    """All invariants of one run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._setup = setup = world.setup
        self._clock = world.clock
        self.notes = Notes(world.clock)
        self.truth = Truth()
        self.own_records = OwnRecords(world, self.truth, self.notes)
        self.pauses = Pauses(world.clock, setup, self.notes)
        self.counts: Counter[str] = Counter()
        self.owners = Owners(world, self.notes)
        self.attempts = Attempts(world, self)
        self.states: set[int] = set()
        self._looks = 0
        self._settled: dict[Partition, set[int]] = {}
        self._committed: dict[TopicPartition, CommitOffset] = {}

    # Outcomes

    def settled(self, process: Process, items: Sequence[Item]) -> None:
        """Items have their outcome."""
        for item in items:
            self._settle(process, item)

    def _settle(self, process: Process, item: Item) -> None:
        owner, record, outcome = item.owner, item.record, item.outcome
        before = self._settled.setdefault(owner, set())
        if record.offset in before:
            self.notes.fail("one outcome", f"{record!r} has two outcomes in one assignment")
        before.add(record.offset)
        source = self.truth.source_of(item)
        if self._setup.receipts and outcome not in self.truth.receipts.get(source.serial, ()):
            self.notes.fail("receipt", f"{record!r} is settled before its receipt is safe")
        if not self._may_end(process, item, source):
            self.notes.fail(
                "outcome",
                f"{record!r}, a {source.kind} record ({source.event_id}), "
                f"ends as {outcome} {item.reason or ''}",
            )
        self.counts[f"{outcome}"] += 1
        self.notes.note(7, process.serial, source.serial, len(outcome or ""))
        self.truth.outcomes[source.serial] = f"{outcome}"
        if self._world.telling:
            why = f", {item.reason}" if item.reason else ""
            self._world.tell(f"{process.name} ends {_place(item)}: {outcome}{why}")
        self.truth.mark_done(item)

    def _may_end(self, process: Process, item: Item, source: Source) -> bool:
        kind, reason, event_id = source.kind, item.reason, source.event_id
        match item.outcome:
            case Outcome.DELIVERED:
                self.attempts.told(item)
                # While it waits for its receipt, the disk may be lost again.
                is_new = not self._setup.receipts
                if is_new and item.key not in process.disk.of(item.owner.source.tp).keys:
                    self.notes.fail("marked", f"{event_id} is delivered, and not in the store")
                return kind in _SENDABLE and event_id in self.truth.known
            case Outcome.DUPLICATE:
                ago = _waited(process, item)
                return kind in _EVENTS and self._is_accepted_lately(event_id, ago)
            case Outcome.SUPPRESSED:
                return (kind, reason) in _SUPPRESSED or (
                    reason is Reason.REWOUND
                    and (source.serial in self.truth.outcomes or source.serial in self.truth.parked)
                )
            case Outcome.DEAD_LETTERED:
                return self._may_be_letter(item, source)
            case _:
                return False

    def _is_accepted_lately(self, event_id: str, ago: float) -> bool:
        """Whether so many seconds ago the state topic told of an acceptance that counted still."""
        oldest = self._clock.now - ago - self._setup.window - self._setup.wall_skew - _MOMENT
        return any(known.told_at > oldest for known in self.truth.known.get(event_id, ()))

    def _may_be_letter(self, item: Item, source: Source) -> bool:
        reason = item.reason
        if reason is None or reason.value not in self.truth.letters.get(source.serial, ()):
            self.notes.fail("dead letter", f"{item.record!r} is settled before its letter is safe")
        if reason is not Reason.RETRIES_EXHAUSTED:
            return (source.kind, reason) in _LETTERS
        announced_at = self.truth.announced_at.get(item.key, math.inf)
        waited = self._clock.now - announced_at + self._setup.wall_skew
        self.truth.given_up[source.event_id] = self._clock.now
        return source.kind in _EVENTS and waited >= self._setup.give_up_after

    def parked(self, items: Sequence[Item]) -> None:
        """Items stand in the retry topic."""
        for item in items:
            source = self.truth.source_of(item)
            if source.serial not in self.truth.parked:
                self.notes.fail("parked", f"{item.record!r} passes before it is in the retry topic")
            self.counts["parked"] += 1
            if self._world.telling:
                self._world.tell(f"{_place(item)} is parked")
            self.truth.mark_done(item)

    # Offsets

    def offsets_committed(self, offsets: Mapping[TopicPartition, CommitOffset]) -> None:
        """The group has taken a commit."""
        self.counts["commits"] += 1
        if self._world.telling:
            places = [f"{commit.offset} of {_topic(tp)}" for tp, commit in offsets.items()]
            self._world.tell(f"the group has {', '.join(places)}", is_routine=True)
        for tp, commit in offsets.items():
            before = self._committed.get(tp)
            truncated = tp.topic == TOPIC and tp.partition in self._world.truncated
            if before != commit and not truncated:
                self._check_commit(tp, commit, before)
                self._committed[tp] = commit
                self.notes.note(8, tp.partition, commit.offset, len(commit.metadata))

    def _check_commit(
        self, tp: TopicPartition, commit: CommitOffset, before: CommitOffset | None
    ) -> None:
        (offset, metadata), broker = commit, self._world.broker
        where, through = f"{tp.topic}/{tp.partition}", self.truth.through(tp, broker)
        if offset > through:
            self.notes.fail("committed", f"{where}: {offset}, settled through {through}")
        if before is not None and offset < before.offset:
            self.notes.fail("committed back", f"{where}: {offset} after {before.offset}")
        done, entries = self.truth.done.get(tp, ()), broker.log(tp).entries
        for start, end in decode_metadata(metadata, offset, broker.binding(tp)):
            for settled in range(start, end):
                if settled in entries and settled not in done:
                    self.notes.fail("metadata", f"{where}: {settled} is called settled")

    def offsets_moved(self) -> None:
        """Somebody has set the group's offsets, or what they mean has changed."""
        self._committed.clear()

    # A process

    def assigned(self, one: AssignedPartition) -> None:
        """A process is given a partition."""
        self.counts["assigned"] += 1
        self.pauses.disturbed(0.0)
        self.notes.note(9, one.tp.partition, one.position)

    def moved(self, change: PositionChange) -> None:
        """A process reads a partition from elsewhere, or holds it."""
        self.notes.note(10, change.tp.partition, change.position)

    def resumed(self, process: Process, tp: TopicPartition, position: int) -> None:
        """A process goes on reading a partition."""
        partition = process.engine.partitions.get(tp)
        if partition is None or self.owners.was_ready(partition.state):
            return
        if partition.state.phase is not Phase.READY:
            self.notes.fail("read too early", f"{tp.topic}/{tp.partition} from {position}")

    def look(self, process: Process) -> None:
        """After each step of a process: bounds, and who owns what."""
        engine, setup = process.engine, self._setup
        pending = came_back = 0
        for partition in engine.partitions.values():
            count = len(partition.pending)
            pending += count
            if partition.beside is not None:
                came_back += count
                continue
            self.owners.look(process, partition.state)
        if engine.in_flight.events != pending:
            self.notes.fail(
                "count", f"{process.name} has {pending} events, counts {engine.in_flight}"
            )
        most = setup.max_in_flight_events
        chunk = max(setup.chunk, len(engine.partitions))  # of each partition a record at least
        if pending >= most + chunk or came_back >= max(1, most // 4) + 2 * chunk:
            self.notes.fail(
                "bound", f"{process.name} has {pending} events, {came_back} parked before"
            )
        self.pauses.look(process)
        self._looks += 1
        if self._looks % _SAMPLED == 0:
            self._sample(process)

    def _sample(self, process: Process) -> None:
        """Which states an engine passes through, coarsely."""
        engine = process.engine
        coarse: list[object] = [engine.lease.holds(process.now.mono), engine.reading.flowing]
        for partition in engine.partitions.values():
            if partition.beside is None:
                count = len(partition.pending).bit_length()
                coarse += (partition.state.phase, count, len(partition.holds), partition.draining)
        for queue in engine.delivery.queues.values():
            coarse += (queue.gates.hold.state, queue.gates.in_flight, bool(queue.retrying))
        self.states.add(fingerprint(coarse))

    def process_ended(self, process: Process) -> None:
        """A process is no more."""
        self.notes.note(11, process.serial)

    def finish(self) -> None:
        """All is settled: every record has its outcome."""
        self.attempts.finish()
        truth = self.truth
        for serial, source in truth.sources.items():
            if serial not in truth.outcomes and serial not in truth.excused:
                where = f"partition {source.partition}, offset {source.offset}"
                self.notes.fail("lost", f"{source.event_id} ({where}) has no outcome")


_MOMENT = 1.0
"""Seconds that a step may take from the look-up to the outcome."""

_SAMPLED = 4
"""Every so many steps the state is noted."""

_SENDABLE = frozenset({Kind.GOOD, Kind.STRIPPED, Kind.SCHEMA})
_EVENTS = _SENDABLE | {Kind.BAD}
_LETTERS = frozenset({(Kind.BAD, Reason.REJECTED), (Kind.GARBAGE, Reason.UNDECODABLE)})
_SUPPRESSED = frozenset({(Kind.TOMBSTONE, Reason.TOMBSTONE), (Kind.DENIED, Reason.CONSENT)})


def _waited(process: Process, item: Item) -> float:
    """For how many seconds an item that has its outcome has waited for its receipt."""
    assert item.settled is not None
    return process.now.mono - item.settled.mono


def _place(item: Item) -> str:
    """An event, and where the record of it stood."""
    record = item.record
    name = item.event_id or "a record"
    where = "" if record.topic == TOPIC else " of the retry topic"
    return f"{name} ({record.partition}@{record.offset}{where})"


def _topic(tp: TopicPartition) -> str:
    return f"partition {tp.partition}" + ("" if tp.topic == TOPIC else " of the retry topic")
