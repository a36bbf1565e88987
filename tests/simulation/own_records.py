"""What must hold for the consumer's own topics: state, retry, dead letters and receipts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from consumer.event import TopicPartition
from consumer.state_records import Kind, StateValue, decode, split
from tests.simulation import broker as topics
from tests.simulation.broker import STATE, TOPIC
from tests.simulation.truth import Known

if TYPE_CHECKING:
    from consumer.messages import Acknowledged, Produce
    from tests.simulation.log import Entry
    from tests.simulation.process import Process
    from tests.simulation.truth import Truth
    from tests.simulation.verdicts import Notes
    from tests.simulation.world import World


class OwnRecords:
    """Watches every record that processes produce, and that readers can see."""

    def __init__(self, world: World, truth: Truth, notes: Notes) -> None:
        self._world = world
        self._truth = truth
        self._notes = notes
        self._produced: dict[tuple[int, int], StateValue] = {}
        self._announced: dict[bytes, set[bytes]] = {}

    def is_announced(self, member: bytes, key: bytes) -> bool:
        """Whether a member has heard that its announcement of a key is safe."""
        return key in self._announced.get(member, ())

    def produced(self, process: Process, produce: Produce) -> None:
        """A process gives a record to its producer."""
        if produce.topic != STATE:
            return
        value = decode(produce.value)
        assert value is not None
        self._produced[process.serial, produce.handle] = value
        if value.kind is Kind.ATTEMPTED:
            for key in split(value.keys):
                self._truth.announced_at.setdefault(key, self._world.clock.now)
        elif value.kind is Kind.REFUSED:
            self._announced.get(value.member, set()).difference_update(split(value.keys))

    def acknowledged(self, process: Process, answer: Acknowledged) -> None:
        """A process hears that a record was written."""
        value = self._produced.get((process.serial, answer.handle))
        if value is not None and answer.error is None and value.kind is Kind.ATTEMPTED:
            self._announced.setdefault(value.member, set()).update(split(value.keys))

    def committed(self, tp: TopicPartition, entry: Entry) -> None:
        """A record can be read by everybody."""
        if tp.topic == STATE:
            self._state_record(tp.partition, entry)
            return
        serial = int(entry.key or b"-1")
        match tp.topic:
            case topics.RETRY:
                self._truth.parked.add(serial)
            case topics.LETTERS:
                reason = dict(entry.headers)["dlq.reason"] or b""
                self._truth.letters.setdefault(serial, set()).add(reason.decode())
            case topics.RECEIPTS:
                outcome = dict(entry.headers)["outcome"] or b""
                self._truth.receipts.setdefault(serial, set()).add(outcome.decode())
            case _:
                return
        self._notes.note(4, entry.offset, serial)

    def _state_record(self, partition: int, entry: Entry) -> None:
        value = decode(entry.value)
        if value is None:
            return
        self._notes.note(6, value.kind, entry.offset, len(value.keys))
        self._check_settled_through(partition, entry.offset, value)
        if self._world.telling:
            keys = [self._truth.event_of.get(key, "?") for key in split(value.keys)]
            says = f"{value.kind.name.lower()} {', '.join(keys)}".rstrip()
            self._world.tell(f"state {partition}@{entry.offset}: {says}")
        match value.kind:
            case Kind.OPEN:
                opens = self._truth.opens.setdefault(partition, [])
                opens.append((entry.offset, value.member))
            case Kind.ATTEMPTED:
                announced = dict.fromkeys(split(value.keys), value.member)
                self._truth.announced_by.update(announced)
            case Kind.ACCEPTED:
                self._accepted(partition, entry, value)
            case Kind.REFUSED:
                self._refused(value)
            case _:
                pass

    def _check_settled_through(self, partition: int, offset: int, value: StateValue) -> None:
        broker = self._world.broker
        source = TopicPartition(TOPIC, partition)
        if value.bound_to != broker.binding(source):
            return  # a topic that is no more
        through = self._truth.settled_limit(source, broker)
        if value.settled_through > through:
            self._notes.fail(
                "settled through",
                f"a record ({value.kind.name.lower()}) says {value.settled_through} of partition "
                f"{partition}, settled through {through}",
            )
        told = (offset, value.settled_through, self._world.clock.now)
        self._truth.told.setdefault(partition, []).append(told)

    def _accepted(self, partition: int, entry: Entry, value: StateValue) -> None:
        truth = self._truth
        for key in split(value.keys):
            event_id = truth.event_of.get(key, "what was never sent")
            if event_id not in truth.accepted:
                self._notes.fail("never accepted", f"a record says that {event_id} was accepted")
            known = Known(partition, entry.offset, value.time_ms, self._world.clock.now)
            truth.known.setdefault(event_id, []).append(known)

    def _refused(self, value: StateValue) -> None:
        """It must not hide from the next owner that TikTok may have an event."""
        truth, now = self._truth, self._world.clock.now
        for key in split(value.keys):
            event_id = truth.event_of.get(key)
            if event_id is None or truth.announced_by.get(key) != value.member:
                continue
            taken_at = truth.last_acceptance(event_id)
            recent = taken_at > -math.inf and now - taken_at < self._world.setup.window
            if recent and event_id not in truth.known:
                self._notes.fail("refused", f"a record says that TikTok does not have {event_id}")
