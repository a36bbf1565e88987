"""The pipeline: the engine's actions become I/O, and what the world answers becomes its inputs.

Everything here runs on the event loop's thread. It decides nothing: it takes the time, hands an
input to the engine and carries out the actions that come back, in their order. An exception in
here is a defect; it ends the process, which loses nothing, rather than one event.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, assert_never

from consumer.errors import SourceError, StoreError, StoreLostError
from consumer.event import Instant
from consumer.log_limit import LogLimit
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
    RegistryUnavailable,
    Released,
    Resume,
    Send,
    Settled,
    StoreMarks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from consumer.engine import Engine
    from consumer.event import Destination, Record, TopicPartition
    from consumer.messages import StateChunk
    from consumer.offsets import CommitOffset
    from consumer.ports import (
        Observer,
        Producer,
        SchemaSource,
        Sender,
        SourceControl,
        StateSource,
        StoreKeeper,
    )
    from consumer.requests import Request
    from consumer.source_events import AssignedPartition, CommitResult, PositionChange

logger = logging.getLogger(__name__)


QUESTIONS = 4
"""Questions to the registry at once, so that none of them waits while its time-out runs."""


def clock() -> Instant:
    """Now. The monotonic part runs on while the machine is suspended, where the system can."""
    return Instant(time.clock_gettime(_CLOCK), time.time_ns())


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Pipeline:
    """Drives one engine. Source, producer and state source report here: they are set afterwards."""

    source: SourceControl
    producer: Producer
    state_source: StateSource

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
        self._questions = asyncio.Semaphore(QUESTIONS)
        self._log_limit = LogLimit(lines=1, seconds=60.0)
        self._timer: asyncio.TimerHandle | None = None
        self._handles = itertools.count(1)
        self._released: dict[int, asyncio.Future[Mapping[TopicPartition, CommitOffset | None]]] = {}
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
        self._drive(lambda now: self.engine.records(records, now))

    def partitions_assigned(self, assigned: list[AssignedPartition]) -> None:
        """Partitions are ours."""
        self._observer.assigned()
        for one in assigned:
            if one.lost is not None:
                self._observer.records_lost(one.tp, one.lost)
        self._drive(lambda now: self.engine.assigned(assigned, now))

    def topic_grown(self, topic: str, partitions: int) -> None:
        """A source topic has more partitions than before."""
        self._drive(lambda now: self.engine.grown(topic, partitions, now))

    def source_partitions(self, counts: Mapping[str, int]) -> None:
        """So many partitions has each source topic."""
        self._drive(lambda now: self.engine.source_partitions(counts, now))

    def token_changed(self, destinations: Sequence[Destination]) -> None:
        """Another token is there for these destinations."""
        self._drive(lambda now: self.engine.token_changed(destinations, now))

    def position_changed(self, change: PositionChange) -> None:
        """A partition is read from another position now, is held there, or no longer held."""
        if change.lost is not None:
            self._observer.records_lost(change.tp, change.lost)
        self._drive(lambda now: self.engine.position_changed(change, now))

    async def partitions_revoked(
        self, partitions: list[TopicPartition]
    ) -> Mapping[TopicPartition, CommitOffset]:
        """Partitions are to be handed over; returns what to commit for them once drained."""
        if self.failed.done():
            return {}
        handle = next(self._handles)
        released = self._released[handle] = self._loop.create_future()
        self._drive(
            lambda now: self.engine.revoked(
                partitions, now.mono + self._drain_seconds, now, handle=handle
            )
        )
        try:
            offsets = await released
        finally:
            del self._released[handle]
        return {tp: offset for tp, offset in offsets.items() if offset is not None}

    def partitions_lost(self, partitions: list[TopicPartition]) -> None:
        """Partitions are somebody else's already."""
        self._drive(lambda now: self.engine.lost(partitions, now))

    def committed(self, results: list[CommitResult]) -> None:
        """A commit has ended."""
        self._drive(lambda now: self.engine.committed(results, now))

    def high_watermarks(self, highs: Mapping[TopicPartition, int]) -> None:
        """How far partitions reach."""
        self.engine.high_watermarks(highs)

    def session_timeout(self, seconds: float) -> None:
        """The group's session time-out, where the broker owns it."""
        self.engine.session_timeout(seconds)
        if self.engine.lease.seconds <= 0:
            self._fail(
                SourceError(
                    f"the group's session time-out ({seconds:g} s) leaves no time for a request",
                    "raise the group's consumer.session.timeout.ms or shorten tiktok.timeout",
                )
            )

    def source_failed(self, error: SourceError) -> None:
        """The source cannot go on."""
        self._fail(error)

    # What the producer reports

    def acknowledged(self, answers: Sequence[Acknowledged]) -> None:
        """Records were acknowledged or refused."""
        for answer in answers:
            if answer.error is not None:
                self._tell("own topic", answer.detail or answer.error)
        self._drive(lambda now: self.engine.acknowledged(answers, now))

    # What the state source reports

    def state_read(self, handle: int, chunk: StateChunk) -> None:
        """A chunk of the state topic was read."""
        self._drive(lambda now: self.engine.state_read(handle, chunk, now))

    def state_unread(self, handle: int, detail: str) -> None:
        """The state topic could not be read."""
        self._tell("state topic", detail)
        self._drive(lambda now: self.engine.state_unread(handle, now))

    # Driving the engine

    def _drive(self, step: Callable[[Instant], Iterable[Action]]) -> None:
        """Hands one input to the engine and carries out all that follows from it, in order."""
        if self.failed.done():
            return
        try:
            self._actions.extend(step(self._now()))
            while self._actions:
                self._carry_out(self._actions.popleft())
            self._set_timer()
        except Exception as error:  # noqa: BLE001  a defect must end the process, not one event
            self._fail(error)

    def _carry_out(self, action: Action) -> None:  # noqa: C901, PLR0912  one case an action
        match action:
            case Settled(items):
                self._observer.settled(items)
            case LookUp():
                self._look_up(action)
            case OpenStore():
                # One in a turn of the loop: each may take tens of milliseconds, and others wait.
                self._loop.call_soon(self._drive, lambda _: self._open_store(action))
            case StoreMarks():
                self._mark(action)
            case ReadState():
                self.state_source.read(action)
            case Send(request):
                self._start(self._send(request))
            case AttemptFinished(attempt):
                self._observer.attempt_finished(attempt)
            case Commit(offsets, number):
                self.source.commit(offsets, number)
            case Produce():
                self.producer.produce([action])
            case FetchSchema(schema_id):
                self._start(self._fetch(schema_id))
            case Flow(is_open):
                self.source.flow(is_open)
            case Pause(tp):
                self._pause(tp)
            case Resume(tp, position):
                self.source.resume(tp, position)
            case Parked(items):
                self._observer.parked(items)
            case GiveUp(tp, state_tp):
                self._stores.close(tp)
                self.state_source.forget(state_tp)
            case Released(offsets, handle):
                released = self._released.get(handle)
                if released is not None and not released.done():
                    released.set_result(offsets)
            case _:
                assert_never(action)

    def _pause(self, tp: TopicPartition) -> None:
        partition = self.engine.partitions.get(tp)
        if partition is not None and partition.holds:
            self._observer.paused(next(reversed(partition.holds)))
        self.source.pause([tp])

    def _look_up(self, action: LookUp) -> None:
        # On the loop's thread on purpose: the store is embedded and answers from memory as a
        # rule, in less time than a hand-over to another thread takes.
        try:
            found = self._stores.accepted_at(action.tp, action.keys)
        except StoreError as error:
            self._store_failed(action, error)
        else:
            self._actions.extend(self.engine.looked_up(action.handle, found, self._now()))

    def _open_store(self, action: OpenStore) -> Sequence[Action]:
        if not self.engine.wants(action.handle):
            return ()
        try:
            reached = self._stores.open(action.tp, action.state_bound_to)
        except StoreError as error:
            self._store_failed(action, error)
            return ()
        return self.engine.store_opened(action.handle, reached, self._now())

    def _mark(self, action: StoreMarks) -> None:
        try:
            self._stores.mark(action.tp, action.marks, action.reached)
        except StoreError as error:
            self._store_failed(action, error)
        else:
            self._actions.extend(self.engine.marked(action.handle, self._now()))

    def _store_failed(self, action: LookUp | OpenStore | StoreMarks, error: StoreError) -> None:
        self._tell("deduplication store", str(error))
        now = self._now()
        if isinstance(error, StoreLostError):
            self._actions.extend(self.engine.store_lost(action.tp, now))
        self._actions.extend(self.engine.store_failed(action.handle, now))

    def _tell(self, what: str, text: str) -> None:
        """Logs why something waits: what is said again and again, once a minute."""
        skipped = self._log_limit.skipped(what, self._now().mono)
        if skipped is not None:
            logger.error("%s: %s", what, text, extra={"not_logged": skipped or None})

    async def _send(self, request: Request) -> None:
        answer = await self._sender.send(request)
        self._drive(lambda now: self.engine.answered(request.handle, answer, now))

    async def _fetch(self, schema_id: int) -> None:
        async with self._questions:
            answer = await self._schemas.fetch(schema_id)
        if isinstance(answer, RegistryUnavailable):
            self._tell("schema registry", answer.detail)
        self._drive(lambda now: self.engine.schema_answered(schema_id, answer, now))

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
        self._drive(self.engine.tick)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)
        for released in self._released.values():
            if not released.done():
                released.set_result({})  # nothing settles any more: a drain would wait in vain

    async def close(self) -> None:
        """Ends what is still in the air. To be called when all partitions are handed over."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
