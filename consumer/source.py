"""The Kafka source: a consumer on a thread of its own, slices of records to the event loop.

The loop gives orders, which queue to the thread; the thread reports by calls on the loop, in
order. Records go in slices of `SLICE`; at most `SLICES_AHEAD` of them wait for the loop. Polling
never stops: where nothing may be read for longer than `SUSPEND_AFTER` seconds, all partitions are
paused and polled empty, so that rebalances, commit results and the group's poll deadline are
served. A shorter shortage is bridged by not reading, because pausing throws away what librdkafka
has fetched ahead.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from consumer.errors import SourceError
from consumer.fetching import Stamped
from consumer.group_commits import NOT_OWNED
from consumer.group_member import GroupMember
from consumer.offsets import CommitOffset
from consumer.source_events import (
    AssignedPartition,
    CommitResult,
    PositionChange,
    SourceEvents,
    SourceSettings,
    StartTime,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from consumer.event import Record, TopicPartition

__all__ = [
    "NOT_OWNED",
    "AssignedPartition",
    "CommitOffset",
    "CommitResult",
    "PositionChange",
    "Source",
    "SourceError",
    "SourceEvents",
    "SourceSettings",
    "StartTime",
]

_log = logging.getLogger(__name__)

SLICES_AHEAD: Final = 2
SLICE: Final = 64
"""Records that the loop is given at once: a few milliseconds of its time."""

SUSPEND_AFTER: Final = 1.0
_READ_TIMEOUT: Final = 0.05
_BRIDGE_TIMEOUT: Final = 0.05
_REVOKE_MARGIN: Final = 1.0


class Source:
    """Reads the group's share of the topics and tells `events` about it on `loop`.

    All methods are to be called on the loop's thread.
    """

    def __init__(
        self, settings: SourceSettings, events: SourceEvents, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._settings = settings
        self._events = events
        self._loop = loop
        self._member: GroupMember | None = None
        self._orders: deque[Callable[[], None]] = deque()
        self._wake = threading.Event()
        self._ended = asyncio.Event()
        self._stop_at: float | None = None
        self._open = True
        self._broken = False
        # Each counter has one writing thread; their difference is what the loop has yet to take.
        self._slices_sent = 0
        self._slices_taken = 0
        # The loop's view of who owns what: an order for an assignment that ended is void.
        self._epochs: dict[TopicPartition, int] = {}

    def __repr__(self) -> str:
        """What is read and whether it flows."""
        return f"<Source {list(self._settings.topics)} open={self._open} owned={len(self._epochs)}>"

    async def start(self) -> None:
        """Join the group and begin to read.

        Raises:
            ConfigError: librdkafka refused a property.
        """
        self._member = GroupMember(
            self._settings, self._events, self._post, self._drain, self._post_assigned
        )
        thread = threading.Thread(
            target=self._run, args=(self._member,), name="kafka-source", daemon=True
        )
        thread.start()

    async def stop(self, timeout: float) -> bool:  # noqa: ASYNC109  the deadline is the caller's, and also bounds the thread
        """Revoke what is owned (drain, commit), leave the group and close.

        Returns whether that was done within `timeout` seconds. If not, the thread is left behind
        as a daemon and the group notices the absence at its session time-out.
        """
        if self._member is None:
            return True
        self._stop_at = time.monotonic() + timeout
        self._wake.set()
        try:
            async with asyncio.timeout(timeout + _REVOKE_MARGIN):
                await self._ended.wait()
        except TimeoutError:
            _log.warning("The consumer did not leave its group within %.1f s", timeout)
            return False
        return True

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop reading these; the records of one read, already under way, may still come.

        Right after an assignment it takes half a second longer.
        """
        self._order_pause(partitions, paused=True)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Go on reading these where they were paused."""
        self._order_pause(partitions, paused=False)

    def flow(self, open: bool) -> None:  # noqa: A002, FBT001  the word for it; there is one argument
        """Open or close the flow of all records, without a word about single partitions."""
        self._open = open
        self._wake.set()

    def commit(self, offsets: Mapping[TopicPartition, CommitOffset]) -> None:
        """Commit asynchronously; `events.committed` tells the results.

        An offset for a partition that has been revoked or lost in the meantime is not committed
        and comes back as `NOT_OWNED`.
        """
        orders = [(self._stamped(tp), offset) for tp, offset in offsets.items()]
        self._order(lambda member: member.commits.commit(orders))

    def _order_pause(self, partitions: Iterable[TopicPartition], *, paused: bool) -> None:
        orders = [self._stamped(tp) for tp in partitions]
        self._order(lambda member: member.fetching.pause(orders, paused=paused))

    def _stamped(self, tp: TopicPartition) -> Stamped:
        return Stamped(tp, self._epochs.get(tp, -1))

    def _order(self, order: Callable[[GroupMember], None]) -> None:
        member = self._member
        if member is not None:
            self._orders.append(lambda: order(member))
            self._wake.set()

    # -- on the loop ----------------------------------------------------------------------------

    def _call(self, method: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if method == self._events.partitions_lost:
            self._forget(arguments[0])
        try:
            method(*arguments)
        except Exception as error:  # noqa: BLE001  whatever it is, reading on would lose records
            self._break(error)

    def _take_records(self, records: list[Record]) -> None:
        try:
            self._events.records_received(records)
        finally:
            self._slices_taken += 1
            self._wake.set()

    def _take_assigned(
        self, epochs: dict[TopicPartition, int], assigned: list[AssignedPartition]
    ) -> None:
        self._epochs.update(epochs)
        self._events.partitions_assigned(assigned)

    async def _revoke(
        self, partitions: list[TopicPartition]
    ) -> Mapping[TopicPartition, CommitOffset]:
        revoked = {tp: epoch for tp in partitions if (epoch := self._epochs.get(tp)) is not None}
        try:
            return await self._events.partitions_revoked(partitions)
        except Exception as error:  # noqa: BLE001  as in _call
            self._break(error)
            return {}
        finally:
            # By the time a cancelled drain ends, a partition may have come back.
            self._forget(tp for tp, epoch in revoked.items() if self._epochs.get(tp) == epoch)

    def _forget(self, partitions: Iterable[TopicPartition]) -> None:
        for tp in list(partitions):
            self._epochs.pop(tp, None)

    def _break(self, error: Exception) -> None:
        """Report a defect once; the thread then reads nothing more and waits for `stop`."""
        if not self._broken:
            self._broken = True
            _log.error("A defect stops the source", exc_info=error)
            failure = SourceError(
                f"the source stopped on {type(error).__name__}",
                "start again; nothing was committed for what was in flight",
            )
            failure.__cause__ = error
            self._events.source_failed(failure)

    # -- on the thread --------------------------------------------------------------------------

    def _post(self, method: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(self._call, method, arguments)

    def _post_assigned(
        self, epochs: dict[TopicPartition, int], assigned: list[AssignedPartition]
    ) -> None:
        self._post(self._take_assigned, epochs, assigned)

    def _drain(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, CommitOffset]:
        if self._broken:
            return {}
        timeout = self._settings.revoke_timeout
        if self._stop_at is not None:
            timeout = min(timeout, max(self._stop_at - time.monotonic(), 0.0))
        answer = asyncio.run_coroutine_threadsafe(self._revoke(partitions), self._loop)
        try:
            return answer.result(timeout)
        except concurrent.futures.TimeoutError:
            answer.cancel()
            _log.warning("%d partitions did not drain within %.1f s", len(partitions), timeout)
        except concurrent.futures.CancelledError:
            _log.warning("Draining %d partitions was cancelled", len(partitions))
        return {}

    def _run(self, member: GroupMember) -> None:
        try:
            try:
                member.join()
                self._read_until_stopped(member)
            except Exception as error:  # noqa: BLE001  as in _call
                if not member.failed:
                    self._post(self._break, error)
            while self._stop_at is None:
                self._wake.wait()
                self._wake.clear()
            member.leave()
        except Exception:  # noqa: BLE001  a closed loop or consumer: nobody is left to be told
            _log.exception("The consumer's thread ended early")
        finally:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._ended.set)

    def _read_until_stopped(self, member: GroupMember) -> None:
        blocked_since: float | None = None
        while self._stop_at is None and not self._broken and not member.failed:
            self._wake.clear()
            while self._orders:
                self._orders.popleft()()
            now = time.monotonic()
            member.tick(now)
            if self._open and self._slices_sent - self._slices_taken < SLICES_AHEAD:
                blocked_since = None
                member.fetching.suspend(suspended=False)
            else:
                blocked_since = now if blocked_since is None else blocked_since
                if now - blocked_since >= SUSPEND_AFTER:
                    member.fetching.suspend(suspended=True)
                if not member.fetching.quiet:
                    self._wake.wait(_BRIDGE_TIMEOUT)
                    continue
            self._send(member.read(_READ_TIMEOUT))

    def _send(self, records: list[Record]) -> None:
        """Give records to the loop, a slice when it has taken those before.

        Where the source is stopped in between the rest is left out: nobody has seen it, so
        nobody commits past it.
        """
        for first in range(0, len(records), SLICE):
            while self._slices_sent - self._slices_taken >= SLICES_AHEAD:
                if self._stop_at is not None or self._broken:
                    return
                self._wake.wait(_BRIDGE_TIMEOUT)
                self._wake.clear()
            self._slices_sent += 1
            self._post(self._take_records, records[first : first + SLICE])
