"""A small world around the real engine for tests: no I/O, time moves when the test says so."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from consumer.batch import BatchLimits
from consumer.commit_metadata import binding
from consumer.consent import ConsentRules, OnDenied
from consumer.deadletter import DeadLetters
from consumer.decode import Encoding, Undecodable, UnknownSchema
from consumer.dedup import Keys
from consumer.deliver import Delivery, Request
from consumer.engine import Engine, EngineSettings
from consumer.event import (
    Attempt,
    ConsentState,
    Destination,
    EventSource,
    Instant,
    Item,
    Record,
    TopicPartition,
    TraceIds,
)
from consumer.identity import IdentityRules
from consumer.intake import Intake
from consumer.limits import RetryPolicy
from consumer.messages import (
    Acknowledged,
    Action,
    AttemptFinished,
    Commit,
    FetchSchema,
    Flow,
    LookUp,
    Mark,
    Pause,
    Produce,
    Released,
    Resume,
    SchemaAnswer,
    Send,
    Settled,
)
from consumer.payload import Mapper
from consumer.queues import DeliverySettings
from consumer.route import Routes
from consumer.schema_wait import SchemaWaits
from consumer.schemas import load_schema
from consumer.settle import Settlement
from consumer.source_events import AssignedPartition, CommitResult
from consumer.verdict import Answer
from tests.support.events import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from consumer.offsets import CommitOffset, Partition
    from consumer.source_events import PositionChange

TOPIC = "conversions"
PIXEL = "C9ABC1234567890DEFGH"
OTHER_PIXEL = "C9OTHER4567890DEFGHIJ"
BOUND_TO = binding("cluster", "topic")
START_MS = 1_790_000_000_000
_EMPTY: dict[str, Any] = {f["name"]: None for f in load_schema("conversion_event")["fields"]}
_EMPTY_PAGE = {"url": "https://shop.example/p/1", "referrer": None}
_NESTED = ("user", "page", "consent")


class JsonDecoder:
    """Stands in for Avro: values are JSON of the fields that matter, resolved to whole events.

    `b"?7"` needs schema 7, anything that is no JSON object is undecodable.
    """

    encoding = Encoding.RAW

    def __init__(self) -> None:
        self.learned: dict[int, tuple[str, ...]] = {}

    def learn(self, schema_id: int, schema_json: tuple[str, ...]) -> None:
        """As `Decoder.learn`; anything will do as a schema."""
        self.learned[schema_id] = schema_json

    def decode(self, value: bytes) -> dict[str, Any]:
        """As `Decoder.decode`."""
        if value.startswith(b"?"):
            schema_id, value = int(value[1:4]), value[4:]
            if schema_id not in self.learned:
                raise UnknownSchema(schema_id)
        try:
            given = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise Undecodable("no event") from None
        for name in _NESTED:
            if name in given:
                given[name] = dict.fromkeys(FIELDS[name.capitalize()]) | given[name]
        return {**_EMPTY, "page": _EMPTY_PAGE, "event_time": START_MS, **given}


def event(event_id: str = "e1", name: str = "purchase", **fields: Any) -> bytes:
    """A value for `JsonDecoder`."""
    return orjson.dumps({"event_id": event_id, "event": name, **fields})


def ok(request_id: str = "r") -> Answer:
    """TikTok took everything."""
    return code(0, "OK", request_id)


def code(number: int, message: str = "", request_id: str = "r", status: int = 200) -> Answer:
    """An answer of TikTok's with a code in the body."""
    body = {"code": number, "message": message, "request_id": request_id, "data": {}}
    return Answer(status, orjson.dumps(body))


TIMEOUT = Answer(None, b"", None, "timeout")


@dataclass
class Clock:
    """Time that moves when told to."""

    mono: float = 1000.0
    wall_ms: int = START_MS

    @property
    def now(self) -> Instant:
        """The time by both clocks."""
        return Instant(self.mono, self.wall_ms * 1_000_000)

    def advance(self, seconds: float) -> None:
        """Lets time pass; nobody is woken."""
        self.mono += seconds
        self.wall_ms += round(seconds * 1000)


@dataclass
class World:
    """The engine's surroundings: everything it asks for is answered as the fields say.

    `answer` judges a request, `letter_answer` a dead letter, `registry` a question; None leaves it
    in the air. `store_fails`, `marks_fail` and `commit_error` make the store (wholly or at marks)
    and the group coordinator fail; `commits_wait` leaves commits in the air.
    """

    answer: Callable[[Request], Answer | None] = lambda _request: ok()
    destinations: tuple[Destination, ...] = (Destination(EventSource.WEB, PIXEL),)
    batch: BatchLimits = field(default_factory=lambda: BatchLimits(max_events=10, linger=0.25))
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    settings: EngineSettings = field(default_factory=EngineSettings)
    max_concurrency: int = 4
    requests_per_second: float = 1000.0
    unknown_after: float = 300.0
    token_groups: dict[str, int] = field(default_factory=dict)
    store: dict[tuple[TopicPartition, bytes], int] = field(default_factory=dict)
    store_fails: bool = False
    marks_fail: bool = False
    letter_answer: Callable[[Produce], Acknowledged | None] = lambda p: Acknowledged(p.handle)
    registry: Callable[[int], SchemaAnswer | None] = lambda _schema_id: None
    decoder: JsonDecoder = field(default_factory=JsonDecoder)
    commit_error: str | None = None
    commits_wait: bool = False
    on_marketing_denied: OnDenied = OnDenied.SUPPRESS
    limited_data_use_regions: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.clock = Clock()
        rng = random.Random(7)
        handles = itertools.count(1)
        spans = itertools.count(1)
        self.delivery = Delivery(
            self.destinations,
            DeliverySettings(
                self.batch, self.retry, self.requests_per_second, self.max_concurrency
            ),
            token_group={
                d: self.token_groups.get(d.event_source_id, n)
                for n, d in enumerate(self.destinations)
            },
            draw=lambda sampled: TraceIds(next(spans), next(spans), 0, sampled, ""),
            rng=rng,
        )
        self.settlement = Settlement(DeadLetters("tiktok-events/test"), handles)
        self.engine = Engine(
            self.settings,
            intake=Intake(
                self.decoder,  # type: ignore[arg-type]  # stands in for Avro
                Routes(self.destinations, None),
                Mapper(
                    consent=ConsentRules(
                        missing=ConsentState.GRANTED,
                        on_marketing_denied=self.on_marketing_denied,
                        limited_data_use_regions=self.limited_data_use_regions,
                    ),
                    identity=IdentityRules(),
                    max_future_ms=600_000,
                    max_body_bytes=100_000,
                ),
                Keys(),
            ),
            schemas=SchemaWaits(self.decoder, self.unknown_after),  # type: ignore[arg-type]  # as above
            delivery=self.delivery,
            settlement=self.settlement,
            handles=handles,
            begin_trace=lambda _headers: TraceIds(next(spans), next(spans), 0, True, ""),
            rng=rng,
        )
        self.requests: list[Request] = []
        self.in_air: list[Request] = []
        self.letters: list[Produce] = []
        self.marks: list[Mark] = []
        self.settled: list[Item] = []
        self.attempts: list[Attempt] = []
        self.commits: list[dict[TopicPartition, int]] = []
        self.paused: set[TopicPartition] = set()
        self.flowing = True
        self.asked_schemas: list[int] = []
        self.released: list[dict[TopicPartition, int | None]] = []
        self.waiting_commits: list[Commit] = []
        self.log: list[Action] = []
        self.topic: dict[TopicPartition, list[Record]] = {}
        self._group: dict[TopicPartition, CommitOffset] = {}

    # Inputs

    def assign(self, *partitions: int, position: int = 0, hold: str | None = None) -> None:
        """Partitions are ours, none of them committed before."""
        assigned = [
            AssignedPartition(TopicPartition(TOPIC, p), position, None, hold, bound_to=BOUND_TO)
            for p in partitions
        ]
        self._do(self.engine.assigned(assigned, self.clock.now))

    def produce(self, *values: bytes | None, partition: int = 0) -> list[int]:
        """Appends records to a partition and hands them to the engine as one chunk."""
        records = self.append(*values, partition=partition)
        self.give(records)
        return [record.offset for record in records]

    def append(self, *values: bytes | None, partition: int = 0) -> list[Record]:
        """Appends records to a partition; nobody reads them yet."""
        log = self.topic.setdefault(TopicPartition(TOPIC, partition), [])
        records = [
            Record(TOPIC, partition, offset, START_MS, b"k", value, (("h", b"1"),))
            for offset, value in enumerate(values, len(log))
        ]
        log += records
        return records

    def take_over(self, partition: int = 0) -> None:
        """Assigns a partition from the offset that the group has committed."""
        tp = TopicPartition(TOPIC, partition)
        committed = self._group.get(tp)
        if committed is None:
            assigned = AssignedPartition(tp, 0, None, bound_to=BOUND_TO)
        else:
            offset, metadata = committed
            assigned = AssignedPartition(tp, offset, offset, metadata=metadata, bound_to=BOUND_TO)
        self._do(self.engine.assigned([assigned], self.clock.now))

    def read(self, partition: int = 0, most: int = 1000) -> int:
        """Hands the next records of a partition to the engine as one chunk; says how many."""
        start = self.partition(partition).position
        records = self.topic.get(TopicPartition(TOPIC, partition), [])[start : start + most]
        self.give(records)
        return len(records)

    def give(self, records: list[Record]) -> None:
        """Hands records to the engine as one chunk."""
        self._do(self.engine.records(records, self.clock.now))

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
        offsets = self.waiting_commits.pop(0).offsets
        self._do(self._end_commit(offsets, error))

    def commit_result(self, result: CommitResult) -> None:
        """Tells of a commit that the engine did not ask for."""
        self._do(self.engine.committed([result], self.clock.now))

    def move(self, change: PositionChange) -> None:
        """Tells that a partition is read from elsewhere, is held, or is no longer held."""
        self._do(self.engine.position_changed(change, self.clock.now))

    def tick(self) -> None:
        """Wakes the engine now."""
        self._do(self.engine.tick(self.clock.now))

    def acknowledge(self, *answers: Acknowledged) -> None:
        """Tells what became of dead letters."""
        self._do(self.engine.acknowledged(answers, self.clock.now))

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

    def run(self, seconds: float) -> None:
        """Lets time pass, waking the engine whenever it asked for it."""
        until = self.clock.mono + seconds
        for _ in range(100_000):
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

    def outcomes(self, partition: int = 0) -> dict[int, str]:
        """Outcome (and reason) by offset, of one partition's records."""
        return {
            item.record.offset: f"{item.outcome}" + (f":{item.reason}" if item.reason else "")
            for item in self.settled
            if item.record.partition == partition
        }

    def sent_ids(self) -> list[str]:
        """The event_ids of every event in every request, in order."""
        return [orjson.loads(body)["event_id"] for r in self.requests for body in r.events]

    def committed(self, partition: int = 0) -> int | None:
        """The last committed offset of a partition."""
        tp = TopicPartition(TOPIC, partition)
        return next((c[tp] for c in reversed(self.commits) if tp in c), None)

    def group_offset(self, partition: int = 0) -> int | None:
        """What the group has committed for a partition, hand-overs included."""
        committed = self._group.get(TopicPartition(TOPIC, partition))
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
            and not self.engine._paused
        )

    # The world

    def _do(self, actions: Iterable[Action]) -> None:
        queue = list(actions)
        while queue:
            action = queue.pop(0)
            self.log.append(action)
            queue += self._carry_out(action)

    def _carry_out(self, action: Action) -> list[Action]:  # noqa: C901, PLR0911, PLR0912  one case an action
        now = self.clock.now
        match action:
            case LookUp(handle, tp, keys):
                if self.store_fails:
                    return self.engine.store_failed(handle, now)
                return self.engine.looked_up(
                    handle, [self.store.get((tp, key)) for key in keys], now
                )
            case Mark(handle, tp, marks):
                if self.store_fails or self.marks_fail:
                    return self.engine.store_failed(handle, now)
                self.marks.append(action)
                self.store.update({(tp, key): at for key, at in marks})
                return self.engine.marked(handle, now)
            case Send(request):
                self.requests.append(request)
                answer = self.answer(request)
                if answer is None:
                    self.in_air.append(request)
                    return []
                return self.engine.answered(request.handle, answer, now)
            case Produce():
                self.letters.append(action)
                acknowledged = self.letter_answer(action)
                if acknowledged is None:
                    return []
                return self.engine.acknowledged([acknowledged], now)
            case FetchSchema(schema_id):
                self.asked_schemas.append(schema_id)
                found = self.registry(schema_id)
                if found is None:
                    return []
                return self.engine.schema_answered(schema_id, found, now)
            case Commit(offsets):
                if self.commits_wait:
                    self.waiting_commits.append(action)
                    return []
                return self._end_commit(offsets, self.commit_error)
            case Released(offsets):
                self.paused.difference_update(offsets)
                self.released.append(
                    {tp: o.offset if o is not None else None for tp, o in offsets.items()}
                )
                if self.commit_error is None:
                    self._group |= {tp: o for tp, o in offsets.items() if o is not None}
            case Settled(items):
                self.settled += items
            case AttemptFinished(attempt):
                self.attempts.append(attempt)
            case Pause(tp):
                self.paused.add(tp)
            case Resume(tp):
                self.paused.discard(tp)
            case Flow(is_open):
                self.flowing = is_open
        return []

    def _end_commit(
        self, offsets: Mapping[TopicPartition, CommitOffset], error: str | None
    ) -> list[Action]:
        if error is None:
            self.commits.append({tp: o.offset for tp, o in offsets.items()})
            self._group |= offsets
        results = [CommitResult(tp, o.offset, error, retriable=True) for tp, o in offsets.items()]
        return self.engine.committed(results, self.clock.now)
