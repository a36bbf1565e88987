"""What surrounds the engine in a small world, and answers everything it asks for: no I/O."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumer.batch import BatchLimits
from consumer.consent import ConsentRules, OnDenied
from consumer.deadletter import DeadLetters
from consumer.dedup import Keys
from consumer.deliver import Delivery
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
from consumer.memory import Memory
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
    StoreMarks,
)
from consumer.own_topics import OwnTopics
from consumer.park_choice import ParkingSettings
from consumer.parking import Parking
from consumer.payload import Mapper
from consumer.queues import DeliverySettings
from consumer.receipt import Receipts
from consumer.route import Routes
from consumer.schema_wait import SchemaWaits
from consumer.schemas import load_schema
from consumer.settle import Settlement
from consumer.source_events import CommitResult
from consumer.state_phases import StateRules
from tests.support.state_world import MemoryStores, StateTopic
from tests.support.tiktok_values import START_MS, JsonDecoder, ok

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from consumer.offsets import CommitOffset
    from consumer.requests import Request
    from consumer.verdict import Answer

TOPIC = "conversions"
PIXEL = "C9ABC1234567890DEFGH"
OWN_TOPICS = OwnTopics("group")
STATE = OWN_TOPICS.state_of(TOPIC)
RETRY = OWN_TOPICS.retry_of(TOPIC)
RECEIPTS = "receipts"
TEST_RECEIPTS = Receipts(RECEIPTS, load_schema("delivery_receipt"), "tiktok-events/test")


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
class Surroundings:
    """The engine's surroundings: everything it asks for is answered as the fields say.

    `answer` judges a request, `letter_answer` a dead letter, `receipt_answer` a receipt (without
    it none are written), `park_answer` a record of the retry topic, `registry` a question; None
    leaves it in the air. `store_fails`, `marks_fail`,
    `state_unread` and `commit_error` make the store (wholly or at marks), reads of the state topic
    and the group coordinator fail; `commits_wait` leaves commits in the air. The state topic takes
    every record, unless `state_answer` says what becomes of one. What stands in Kafka and on disks
    (`topic`, `group`, `state_topic`, `stores`) may be shared by several worlds.
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
    stores: MemoryStores = field(default_factory=MemoryStores)
    state_topic: StateTopic = field(default_factory=StateTopic)
    process: bytes = b"process1"
    state_answer: Callable[[Produce], Acknowledged | None] | None = None
    state_unread: bool = False
    store_fails: bool = False
    marks_fail: bool = False
    letter_answer: Callable[[Produce], Acknowledged | None] = lambda p: Acknowledged(p.handle)
    receipt_answer: Callable[[Produce], Acknowledged | None] | None = None
    park_answer: Callable[[Produce], Acknowledged | None] | None = None
    registry: Callable[[int], SchemaAnswer | None] = lambda _schema_id: None
    decoder: JsonDecoder = field(default_factory=JsonDecoder)
    topic: dict[TopicPartition, list[Record]] = field(default_factory=dict)
    group: dict[TopicPartition, CommitOffset] = field(default_factory=dict)
    rules: StateRules = field(default_factory=StateRules)
    commit_error: str | None = None
    commits_wait: bool = False
    on_marketing_denied: OnDenied = OnDenied.SUPPRESS
    limited_data_use_regions: frozenset[str] = frozenset()
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.rng = random.Random(7)
        self.handles = itertools.count(1)
        self.spans = itertools.count(1)
        self.delivery = self._delivery()
        receipts = None if self.receipt_answer is None else TEST_RECEIPTS
        self.settlement = Settlement(DeadLetters("tiktok-events/test"), self.handles, receipts)
        self.engine = self._engine()
        self.requests: list[Request] = []
        self.in_air: list[Request] = []
        self.letters: list[Produce] = []
        self.receipts: list[Produce] = []
        self.marks: list[StoreMarks] = []
        self.appended: list[Produce] = []
        self.parked: list[Item] = []
        self.given_up: list[TopicPartition] = []
        self.settled: list[Item] = []
        self.attempts: list[Attempt] = []
        self.commits: list[dict[TopicPartition, int]] = []
        self.paused: set[TopicPartition] = set()
        self.flowing = True
        self.asked_schemas: list[int] = []
        self.released: list[dict[TopicPartition, int | None]] = []
        self.waiting_commits: list[Commit] = []
        self.log: list[Action] = []

    def _delivery(self) -> Delivery:
        return Delivery(
            self.destinations,
            DeliverySettings(
                self.batch,
                self.retry,
                self.requests_per_second,
                self.max_concurrency,
            ).sharing(self.settings.max_in_flight_events, len(self.destinations)),
            token_group={
                d: self.token_groups.get(d.event_source_id, n)
                for n, d in enumerate(self.destinations)
            },
            draw=lambda sampled: TraceIds(next(self.spans), next(self.spans), 0, sampled, ""),
            rng=self.rng,
        )

    def _engine(self) -> Engine:
        settings = self.settings
        consent = ConsentRules(
            missing=ConsentState.GRANTED,
            on_marketing_denied=self.on_marketing_denied,
            limited_data_use_regions=self.limited_data_use_regions,
        )
        mapper = Mapper(
            consent=consent, identity=IdentityRules(), max_future_ms=600_000, max_body_bytes=100_000
        )
        parking = ParkingSettings(
            settings.max_in_flight_events,
            settings.max_in_flight_bytes,
            tail_after=self.retry.maximum,
        )
        return Engine(
            settings,
            intake=Intake(
                self.decoder,  # type: ignore[arg-type]  # stands in for Avro
                Routes(self.destinations, None),
                mapper,
                Keys(),
            ),
            schemas=SchemaWaits(self.decoder, self.unknown_after),  # type: ignore[arg-type]  # as above
            delivery=self.delivery,
            settlement=self.settlement,
            memory=Memory(OWN_TOPICS, self.rules, self.process, self.handles),
            parking=Parking(parking, len(self.destinations), self.handles),
            handles=self.handles,
            begin_trace=lambda _headers: TraceIds(next(self.spans), next(self.spans), 0, True, ""),
            rng=self.rng,
        )

    # What the engine asks for

    def _do(self, actions: Iterable[Action]) -> None:
        queue = list(actions)
        while queue:
            action = queue.pop(0)
            self.log.append(action)
            queue += self._carry_out(action)

    def _carry_out(self, action: Action) -> list[Action]:  # noqa: C901, PLR0911, PLR0912  one case an action
        match action:
            case LookUp() | OpenStore() | StoreMarks():
                return self._ask_store(action)
            case ReadState(handle):
                if self.state_unread:
                    return self.engine.state_unread(handle, self.clock.now)
                chunk = self.state_topic.chunk(action)
                return self.engine.state_read(handle, chunk, self.clock.now)
            case Send(request):
                self.requests.append(request)
                answer = self.answer(request)
                if answer is None:
                    self.in_air.append(request)
                    return []
                return self.engine.answered(request.handle, answer, self.clock.now)
            case Produce():
                acknowledged = self._broker(action)
                if acknowledged is None:
                    return []
                return self.engine.acknowledged([acknowledged], self.clock.now)
            case FetchSchema(schema_id):
                self.asked_schemas.append(schema_id)
                found = self.registry(schema_id)
                if found is None:
                    return []
                return self.engine.schema_answered(schema_id, found, self.clock.now)
            case Commit():
                if self.commits_wait:
                    self.waiting_commits.append(action)
                    return []
                return self._end_commit(action, self.commit_error)
            case Released(offsets):
                self.paused.difference_update(offsets)
                self.released.append(
                    {tp: o.offset if o is not None else None for tp, o in offsets.items()}
                )
                if self.commit_error is None:
                    self.group |= {tp: o for tp, o in offsets.items() if o is not None}
            case Settled(items):
                self.settled += items
            case Parked(items):
                self.parked += items
            case AttemptFinished(attempt):
                self.attempts.append(attempt)
            case Pause(tp):
                self.paused.add(tp)
            case GiveUp(tp):
                self.given_up.append(tp)
            case Resume(tp):
                self.paused.discard(tp)
            case Flow(is_open):
                self.flowing = is_open
        return []

    def _ask_store(self, action: LookUp | OpenStore | StoreMarks) -> list[Action]:
        engine, now = self.engine, self.clock.now
        handle, tp = action.handle, action.tp
        if self.store_fails or (self.marks_fail and isinstance(action, StoreMarks)):
            return engine.store_failed(handle, now)
        match action:
            case LookUp(keys=keys):
                found = [self.stores.keys.get((tp, key)) for key in keys]
                return engine.looked_up(handle, found, now)
            case OpenStore():
                return engine.store_opened(handle, self.stores.reached.get(tp), now)
            case StoreMarks(marks=marks, reached=reached):
                if any(mark.keys for mark in marks):
                    self.marks.append(action)
                self.stores.mark(tp, marks, reached)
                return engine.marked(handle, now)

    def _broker(self, produce: Produce) -> Acknowledged | None:
        """What becomes of a record that is produced."""
        if produce.topic == STATE:
            self.appended.append(produce)
            return self.state_answer(produce) if self.state_answer else self.write(produce)
        if produce.topic == RETRY:
            return self.park_answer(produce) if self.park_answer else self.put_by(produce)
        if produce.topic == RECEIPTS and self.receipt_answer is not None:
            self.receipts.append(produce)
            return self.receipt_answer(produce)
        self.letters.append(produce)
        return self.letter_answer(produce)

    def write(self, produce: Produce) -> Acknowledged:
        """Writes a record to the state topic; the broker's acknowledgement of it."""
        tp = TopicPartition(produce.topic, produce.partition or 0)
        offset = self.state_topic.append(tp, produce.value, self.clock.wall_ms)
        return Acknowledged(produce.handle, offset=offset)

    def put_by(self, produce: Produce) -> Acknowledged:
        """Writes a record to the retry topic; the broker's acknowledgement of it."""
        tp = TopicPartition(produce.topic, produce.partition or 0)
        log = self.topic.setdefault(tp, [])
        record = Record(
            *tp, len(log), produce.timestamp, produce.key, produce.value, produce.headers
        )
        log.append(record)
        return Acknowledged(produce.handle, offset=record.offset)

    def _end_commit(self, commit: Commit, error: str | None) -> list[Action]:
        offsets, number = commit
        if error is None:
            self.commits.append({tp: o.offset for tp, o in offsets.items()})
            self.group |= offsets
        results = [
            CommitResult(tp, at.offset, error, retriable=True, number=number)
            for tp, at in offsets.items()
        ]
        return self.engine.committed(results, self.clock.now)
