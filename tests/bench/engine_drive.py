"""Drives the engine as the pipeline does, on one thread, with answers that come at once."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import orjson

from consumer import compose
from consumer.client import envelope
from consumer.event import TopicPartition
from consumer.messages import (
    Acknowledged,
    AttemptFinished,
    Commit,
    FetchSchema,
    LookUp,
    OpenStore,
    Produce,
    ReadState,
    SchemaFound,
    Send,
    Settled,
    StoreMarks,
)
from consumer.pipeline import clock
from consumer.schemas import load_schema
from consumer.source import SLICE
from consumer.source_events import AssignedPartition, CommitResult
from consumer.state_records import UNBOUND
from consumer.verdict import Answer
from tests.support.state_world import StateTopic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from consumer.config import Config
    from consumer.event import Record
    from consumer.messages import Action
    from consumer.store import Stores
    from consumer.telemetry import Telemetry

_OK = Answer(200, b'{"code":0,"message":"OK","request_id":"20260101000000000000000000","data":{}}')
_T = TypeVar("_T")


class Timer(Protocol):
    """Calls something and books its time under a name."""

    def __call__(self, what: str, call: Callable[..., _T], *arguments: Any) -> _T:
        """Returns what the call returns."""


def schema_text() -> str:
    """The event schema, as a registry gives it out."""
    return orjson.dumps(load_schema("conversion_event")).decode()


class EngineDrive:
    """An engine and what stands around it; `timer` books each call into one of them.

    The names it books under: `intake`, `look up`, `batch`, `body`, `verdict`, `mark`, `settle`
    and `telemetry`.
    """

    def __init__(self, config: Config, stores: Stores, telemetry: Telemetry, timer: Timer) -> None:
        self._stores = stores
        self._telemetry = telemetry
        self._time = timer
        self._linger = config.batching.linger
        self._settled = 0
        self._state = StateTopic()
        self._engine = compose.engine(
            config,
            compose.destinations(config),
            begin_trace=telemetry.tracer.begin,
            request_trace=telemetry.tracer.request,
        )

    def run(self, sample: Sequence[Record]) -> None:
        """Takes all records from reading to outcome; their offsets are given here."""
        engine = self._engine
        tps = {TopicPartition(record.topic, record.partition) for record in sample}
        assigned = [AssignedPartition(tp, 0, None, state_bound_to=UNBOUND) for tp in tps]
        self._carry_out(engine.assigned(assigned, clock()))
        offsets: Counter[int] = Counter()
        for start in range(0, len(sample), SLICE):
            chunk = []
            for record in sample[start : start + SLICE]:
                chunk.append(record._replace(offset=offsets[record.partition]))
                offsets[record.partition] += 1
            self._carry_out(self._time("intake", engine.records, chunk, clock()))
        now = clock()
        self._carry_out(engine.tick(now._replace(mono=now.mono + self._linger)))
        assert self._settled == len(sample), f"{self._settled} of {len(sample)} are settled"

    def _carry_out(self, actions: Iterable[Action]) -> None:
        waiting = deque(actions)
        while waiting:
            waiting += self._answers(waiting.popleft())

    def _answers(self, action: Action) -> Iterable[Action]:  # noqa: C901, PLR0911  one case an action
        engine, telemetry, now = self._engine, self._telemetry, clock()
        match action:
            case LookUp(handle, tp, keys):
                found = self._time("look up", self._stores.accepted_at, tp, keys)
                return self._time("batch", engine.looked_up, handle, found, now)
            case Send(request):
                self._time("body", envelope, request)
                return self._time("verdict", engine.answered, request.handle, _OK, now)
            case OpenStore(handle, tp, bound_to):
                return engine.store_opened(handle, self._stores.open(tp, bound_to), now)
            case ReadState(handle):
                return engine.state_read(handle, self._state.chunk(action), now)
            case StoreMarks(handle, tp, marks, reached):
                self._time("mark", self._stores.mark, tp, marks, reached)
                return self._time("settle", engine.marked, handle, now)
            case Produce(handle, topic, _, value, partition=partition):
                state_tp = TopicPartition(topic, partition or 0)
                offset = self._state.append(state_tp, value, now.wall_ms)
                return engine.acknowledged([Acknowledged(handle, offset=offset)], now)
            case Settled(items):
                self._settled += len(items)
                self._time("telemetry", telemetry.settled, items)
            case AttemptFinished(attempt):
                self._time("telemetry", telemetry.attempt_finished, attempt)
            case Commit(offsets, number):
                done = [
                    CommitResult(tp, at.offset, None, retriable=False, number=number)
                    for tp, at in offsets.items()
                ]
                return engine.committed(done, now)
            case FetchSchema(schema_id):
                return engine.schema_answered(schema_id, SchemaFound((schema_text(),)), now)
        return ()
