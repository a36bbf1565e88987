"""The pipeline: the engine's actions become I/O, and what the world answers becomes its inputs.

Everything here runs on the event loop's thread. It decides nothing: it takes the time, hands an
input to the engine and carries out the actions that come back, in their order. An exception in
here is a defect; it ends the process, which loses nothing, rather than one event.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, assert_never

from consumer.errors import SourceError, StoreError
from consumer.event import Instant
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
    RegistryUnavailable,
    Released,
    Resume,
    SchemaAnswer,
    Send,
    Settled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from consumer.dedup import Store
    from consumer.deliver import Request
    from consumer.engine import Engine
    from consumer.event import Attempt, Item, Record, TopicPartition
    from consumer.offsets import CommitOffset
    from consumer.source_events import AssignedPartition, CommitResult, PositionChange
    from consumer.verdict import Answer

logger = logging.getLogger(__name__)


class SourceControl(Protocol):
    """What the engine asks of the source. Every method returns at once."""

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these partitions no further."""

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these partitions again."""

    def flow(self, open: bool) -> None:  # noqa: A002, FBT001  the one thing it says
        """Take records at all, or none."""

    def commit(self, offsets: Mapping[TopicPartition, CommitOffset]) -> None:
        """Commit; the result comes to `Pipeline.committed`."""


class Sender(Protocol):
    """Sends requests to TikTok."""

    async def send(self, request: Request) -> Answer:
        """One attempt; never raises."""


class SchemaSource(Protocol):
    """Knows schemas by id."""

    async def fetch(self, schema_id: int) -> SchemaAnswer:
        """One question to the registry; never raises."""


class Producer(Protocol):
    """Produces dead letters; what became of them comes to `Pipeline.acknowledged`."""

    def produce(self, outgoing: Sequence[Produce]) -> None:
        """Takes records to produce; returns at once."""


class StoreKeeper(Protocol):
    """The deduplication stores of this process, one a partition."""

    def open(self, tp: TopicPartition) -> Store:
        """The partition's store; opened when first asked for. May raise `StoreError`."""

    def close(self, tp: TopicPartition) -> None:
        """Gives the partition's store up."""


class Observer(Protocol):
    """Is told what happened, a chunk at a time."""

    def settled(self, items: Sequence[Item]) -> None:
        """These items have their outcome."""

    def attempt_finished(self, attempt: Attempt) -> None:
        """A request is over."""

    def consumed(self, topic: str, records: int) -> None:
        """Records were read."""

    def records_lost(self, tp: TopicPartition, lost: tuple[int, int]) -> None:
        """Retention deleted these offsets (half-open range) before this group read them."""

    def paused(self, reason: str) -> None:
        """A partition was paused."""


def clock() -> Instant:
    """Now. The monotonic part runs on while the machine is suspended, where the system can."""
    return Instant(time.clock_gettime(_CLOCK), time.time_ns())


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Pipeline:
    """Drives one engine. `source` and `producer` are set before `run`, since they report here."""

    source: SourceControl
    producer: Producer

    def __init__(
        self,
        engine: Engine,
        *,
        sender: Sender,
        schemas: SchemaSource,
        stores: StoreKeeper,
        observer: Observer,
        drain_seconds: float,
        now: Callable[[], Instant] = clock,
    ) -> None:
        self.engine = engine
        self._sender = sender
        self._schemas = schemas
        self._stores = stores
        self._observer = observer
        self._drain_seconds = drain_seconds
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._actions: deque[Action] = deque()
        self._carrying_out = False
        self._store_error = ""
        self._registry_error = ""
        self._timer: asyncio.TimerHandle | None = None
        self._released: deque[asyncio.Future[Mapping[TopicPartition, CommitOffset | None]]] = (
            deque()
        )
        self.failed: asyncio.Future[None] = self._loop.create_future()
        """Ends with the exception that ends the process."""

    # What the source reports

    def records_received(self, records: list[Record]) -> None:
        """Records were read."""
        counts: dict[str, int] = {}
        for record in records:
            counts[record.topic] = counts.get(record.topic, 0) + 1
        for topic, number in counts.items():
            self._observer.consumed(topic, number)
        self._input(self.engine.records(records, self._now()))

    def partitions_assigned(self, assigned: list[AssignedPartition]) -> None:
        """Partitions are ours."""
        for one in assigned:
            if one.lost is not None:
                self._observer.records_lost(one.tp, one.lost)
        self._input(self.engine.assigned(assigned, self._now()))

    def position_changed(self, change: PositionChange) -> None:
        """A partition is read from another position now, is held there, or no longer held."""
        if change.lost is not None:
            self._observer.records_lost(change.tp, change.lost)
        self._input(self.engine.position_changed(change, self._now()))

    async def partitions_revoked(
        self, partitions: list[TopicPartition]
    ) -> Mapping[TopicPartition, CommitOffset]:
        """Partitions are to be handed over; returns what to commit for them once drained."""
        now = self._now()
        released = self._loop.create_future()
        self._released.append(released)
        self._input(self.engine.revoked(partitions, now.mono + self._drain_seconds, now))
        offsets = await released
        return {tp: offset for tp, offset in offsets.items() if offset is not None}

    def partitions_lost(self, partitions: list[TopicPartition]) -> None:
        """Partitions are somebody else's already."""
        self._input(self.engine.lost(partitions, self._now()))
        for tp in partitions:
            self._stores.close(tp)

    def committed(self, results: list[CommitResult]) -> None:
        """A commit has ended."""
        self._input(self.engine.committed(results, self._now()))

    def high_watermarks(self, highs: Mapping[TopicPartition, int]) -> None:
        """How far partitions reach."""
        self.engine.high_watermarks(highs)

    def source_failed(self, error: SourceError) -> None:
        """The source cannot go on."""
        self._fail(error)

    # What the producer reports

    def acknowledged(self, answers: Sequence[Acknowledged]) -> None:
        """Dead letters were acknowledged or refused."""
        self._input(self.engine.acknowledged(answers, self._now()))

    # Driving the engine

    def _input(self, actions: Iterable[Action]) -> None:
        """Carries actions out, and those that follow from them, in order."""
        self._actions.extend(actions)
        if self._carrying_out:
            return
        self._carrying_out = True
        try:
            while self._actions:
                self._carry_out(self._actions.popleft())
        except Exception as error:  # noqa: BLE001  a defect must end the process, not one event
            self._fail(error)
        finally:
            self._carrying_out = False
        self._set_timer()

    def _carry_out(self, action: Action) -> None:  # noqa: C901, PLR0912  one case an action
        match action:
            case Settled(items):
                self._observer.settled(items)
            case LookUp():
                self._look_up(action)
            case Mark():
                self._mark(action)
            case Send(request):
                self._start(self._send(request))
            case AttemptFinished(attempt):
                self._observer.attempt_finished(attempt)
            case Commit(offsets):
                self.source.commit(offsets)
            case Produce():
                self.producer.produce([action])
            case FetchSchema(schema_id):
                self._start(self._fetch(schema_id))
            case Flow(is_open):
                self.source.flow(is_open)
            case Pause(tp):
                self._observer.paused(next(iter(self.engine.partitions[tp].holds), ""))
                self.source.pause([tp])
            case Resume(tp):
                self.source.resume([tp])
            case Released(offsets):
                for tp in offsets:
                    self._stores.close(tp)
                self._released.popleft().set_result(offsets)
            case _:
                assert_never(action)

    def _look_up(self, action: LookUp) -> None:
        # On the loop's thread on purpose: the store is embedded and answers from memory as a
        # rule, in less time than a hand-over to another thread takes.
        try:
            found = self._stores.open(action.tp).accepted_at(action.keys)
        except StoreError as error:
            self._store_failed(error)
            self._actions.extend(self.engine.store_failed(action.handle, self._now()))
        else:
            self._actions.extend(self.engine.looked_up(action.handle, found, self._now()))

    def _mark(self, action: Mark) -> None:
        try:
            self._stores.open(action.tp).mark(action.marks)
        except StoreError as error:
            self._store_failed(error)
            self._actions.extend(self.engine.store_failed(action.handle, self._now()))
        else:
            self._actions.extend(self.engine.marked(action.handle, self._now()))

    def _store_failed(self, error: StoreError) -> None:
        # The partition stops and the store is asked again: what it said is told once a change.
        text = str(error)
        if text != self._store_error:
            self._store_error = text
            logger.error("deduplication store of %s", text)

    async def _send(self, request: Request) -> None:
        answer = await self._sender.send(request)
        self._input(self.engine.answered(request.handle, answer, self._now()))

    async def _fetch(self, schema_id: int) -> None:
        answer = await self._schemas.fetch(schema_id)
        # As with the stores: the source waits, and what was said is told once a change.
        text = answer.detail if isinstance(answer, RegistryUnavailable) else ""
        if text and text != self._registry_error:
            logger.error("schema registry: %s", text)
        self._registry_error = text
        self._input(self.engine.schema_answered(schema_id, answer, self._now()))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._now()
        at = self.engine.wake_at(now)
        if at != float("inf"):
            self._timer = self._loop.call_later(max(0.0, at - now.mono), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._input(self.engine.tick(self._now()))

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    async def close(self) -> None:
        """Ends what is still in the air. To be called when all partitions are handed over."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
