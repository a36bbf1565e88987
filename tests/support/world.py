"""A small world around the real engine for tests: no I/O, time moves when the test says so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from consumer.commit_metadata import binding
from consumer.event import Record, TopicPartition
from consumer.source_events import AssignedPartition
from tests.support.surroundings import OWN_TOPICS, PIXEL, RETRY, STATE, TOPIC, Clock, Surroundings
from tests.support.tiktok_values import START_MS, TIMEOUT, JsonDecoder, code, event, ok

if TYPE_CHECKING:
    from consumer.messages import Acknowledged, SchemaAnswer
    from consumer.offsets import Partition
    from consumer.requests import Request
    from consumer.source_events import CommitResult, PositionChange
    from consumer.verdict import Answer

__all__ = [
    "BOUND_TO",
    "OTHER_PIXEL",
    "OWN_TOPICS",
    "PIXEL",
    "RETRY",
    "START_MS",
    "STATE",
    "STATE_BOUND_TO",
    "TIMEOUT",
    "TOPIC",
    "Clock",
    "JsonDecoder",
    "World",
    "code",
    "event",
    "ok",
]

OTHER_PIXEL = "C9OTHER4567890DEFGHIJ"
BOUND_TO = binding("cluster", "topic")
STATE_BOUND_TO = binding("cluster", "state")


@dataclass
class World(Surroundings):
    """One process, as a test drives it: what happens to it, and what came of it.

    With `parks` every source partition is read with its partition of the retry topic beside it.
    """

    parks: bool = False

    # Whose the partitions are

    def assign(
        self,
        *partitions: int,
        position: int = 0,
        hold: str | None = None,
        bound_to: bytes | None = BOUND_TO,
    ) -> None:
        """Partitions are ours, none of them committed before."""
        self.own(
            *(
                AssignedPartition(
                    TopicPartition(TOPIC, p),
                    position,
                    None,
                    hold,
                    bound_to=bound_to,
                    state_bound_to=STATE_BOUND_TO,
                )
                for p in partitions
            )
        )

    def take_over(self, *partitions: int) -> None:
        """Partitions are ours, from the offsets that the group has committed."""
        assigned = []
        for partition in partitions or (0,):
            source = TopicPartition(TOPIC, partition)
            assigned.append(self._as_committed(source)._replace(state_bound_to=STATE_BOUND_TO))
            if self.parks:
                retry = TopicPartition(RETRY, partition)
                assigned.append(self._as_committed(retry)._replace(beside=source))
        self.own(*assigned)

    def own(self, *assigned: AssignedPartition) -> None:
        """Partitions are ours; nothing is read of them before the engine says so."""
        self.paused.update(one.tp for one in assigned)
        self._do(self.engine.assigned(assigned, self.clock.now))

    def _as_committed(self, tp: TopicPartition) -> AssignedPartition:
        committed = self.group.get(tp)
        offset, metadata = committed or (0, "")
        return AssignedPartition(
            tp,
            offset,
            None if committed is None else offset,
            metadata=metadata,
            bound_to=BOUND_TO,
        )

    def revoke(self, *partitions: int, seconds: float = 10.0) -> None:
        """Partitions are to be handed over within so many seconds."""
        tps = [TopicPartition(TOPIC, p) for p in partitions]
        deadline = self.clock.mono + seconds
        self._do(self.engine.revoked(tps, deadline, self.clock.now))

    def lose(self, *partitions: int) -> None:
        """Partitions are gone already."""
        tps = [TopicPartition(TOPIC, p) for p in partitions]
        self.paused.difference_update(tps)  # as the source does with what it gives up
        self._do(self.engine.lost(tps, self.clock.now))

    def successor(self, **fields: Any) -> World:
        """Another process of the group, at this time: what survives a crash of this one is there.

        Its clock is its own; `fields` are what differs.
        """
        return replace(
            self,
            **{
                "process": self.process[:7] + bytes([self.process[7] + 1]),
                "clock": replace(self.clock),
                **fields,
            },
        )

    # Records

    def produce(self, *values: bytes | None, partition: int = 0) -> list[int]:
        """Appends records to a partition and hands them to the engine as one chunk."""
        records = self.append(*values, partition=partition)
        self.give(records)
        return [record.offset for record in records]

    def append(
        self, *values: bytes | None, partition: int = 0, timestamp: int = START_MS
    ) -> list[Record]:
        """Appends records to a partition; nobody reads them yet."""
        log = self.topic.setdefault(TopicPartition(TOPIC, partition), [])
        records = [
            Record(TOPIC, partition, offset, timestamp, b"k", value, (("h", b"1"),))
            for offset, value in enumerate(values, len(log))
        ]
        log += records
        return records

    def read(self, partition: int = 0, most: int = 1000, topic: str = TOPIC) -> int:
        """Hands the next records of a partition to the engine as one chunk; says how many."""
        tp = TopicPartition(topic, partition)
        start = self.engine.partitions[tp].position
        records = self.topic.get(tp, [])[start : start + most]
        self.give(records)
        return len(records)

    def give(self, records: list[Record]) -> None:
        """Hands records to the engine as one chunk."""
        self._do(self.engine.records(records, self.clock.now))

    # Answers

    def reply(self, answer: Answer, request: Request | None = None) -> None:
        """Answers a request that is in the air, the oldest unless given."""
        request = request or self.in_air[0]
        self.in_air.remove(request)
        self._do(self.engine.answered(request.handle, answer, self.clock.now))

    def answer_schema(self, schema_id: int, answer: SchemaAnswer) -> None:
        """Answers a question to the registry that was left in the air."""
        self._do(self.engine.schema_answered(schema_id, answer, self.clock.now))

    def commit_done(self, error: str | None = None) -> None:
        """Answers the oldest commit that waits."""
        self._do(self._end_commit(self.waiting_commits.pop(0), error))

    def commit_result(self, result: CommitResult) -> None:
        """Tells of a commit that the engine did not ask for."""
        self._do(self.engine.committed([result], self.clock.now))

    def move(self, change: PositionChange) -> None:
        """Tells that a partition is read from elsewhere, is held, or is no longer held."""
        self._do(self.engine.position_changed(change, self.clock.now))

    def acknowledge(self, *answers: Acknowledged) -> None:
        """Tells what became of records that were produced."""
        self._do(self.engine.acknowledged(answers, self.clock.now))

    def lose_store(self, partition: int = 0) -> None:
        """The local store of a partition is found to be another one, and empty."""
        tp = TopicPartition(TOPIC, partition)
        self.stores.wipe(tp)
        self._do(self.engine.store_lost(tp, self.clock.now))

    # Time

    def tick(self) -> None:
        """Wakes the engine now."""
        self._do(self.engine.tick(self.clock.now))

    def run(self, seconds: float) -> None:
        """Lets time pass, waking the engine whenever it asked for it."""
        until = self.clock.mono + seconds
        for _ in range(10_000 + 20 * int(seconds)):
            at = self.engine.wake_at(self.clock.now)
            if at > until:
                break
            self.clock.advance(max(0.0, at - self.clock.mono))
            self._do(self.engine.tick(self.clock.now))
        else:
            raise AssertionError("the engine asks to be woken without end")
        self.clock.advance(max(0.0, until - self.clock.mono))
        self._do(self.engine.tick(self.clock.now))

    # What came of it

    def outcomes(self, partition: int = 0, topic: str = TOPIC) -> dict[int, str]:
        """Outcome (and reason) by offset, of one partition's records."""
        return {
            item.record.offset: f"{item.outcome}" + (f":{item.reason}" if item.reason else "")
            for item in self.settled
            if (item.record.topic, item.record.partition) == (topic, partition)
        }

    def sent_ids(self) -> list[str]:
        """The event_ids of every event in every request, in order."""
        return [orjson.loads(body)["event_id"] for r in self.requests for body in r.events]

    def repeats(self) -> list[dict[str, int]]:
        """What each finished attempt sent again although TikTok may have had it, by cause."""
        return [dict(attempt.repeats) for attempt in self.attempts]

    def committed(self, partition: int = 0) -> int | None:
        """The last committed offset of a partition."""
        tp = TopicPartition(TOPIC, partition)
        return next((c[tp] for c in reversed(self.commits) if tp in c), None)

    def group_offset(self, partition: int = 0, topic: str = TOPIC) -> int | None:
        """What the group has committed for a partition, hand-overs included."""
        committed = self.group.get(TopicPartition(topic, partition))
        return None if committed is None else committed.offset

    def partition(self, partition: int = 0) -> Partition:
        """The engine's view of a partition that is ours."""
        return self.engine.partitions[TopicPartition(TOPIC, partition)]

    def holds(self, partition: int = 0) -> set[str]:
        """The reasons for which a partition is paused."""
        return set(self.partition(partition).holds)

    def idle(self) -> bool:
        """Whether nothing at all is left of any record: no queue, no wait, no count."""
        queues = self.delivery.queues.values()
        flight = self.engine.in_flight
        return (
            not any(items for queue in queues for items in queue.waiting())
            and not self.delivery.requests_in_air
            and not any(p.pending or p.holds for p in self.engine.partitions.values())
            and (flight.events, flight.bytes) == (0, 0)
            and len(self.settlement.in_flight) == 0
            and not self.engine.reading.paused
        )
