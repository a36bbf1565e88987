"""The Kafka source: what the group gives this process of the topics, told to a listener.

It is read on two threads: the group's member reads the source's partitions and commits, a second
client reads those of the retry topic. The listener on the event loop hears of both in one voice
(`source_reports`); whoever gives orders here need not know which thread carries them out.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from typing import TYPE_CHECKING, Final

from consumer.errors import SourceError
from consumer.group_commits import NOT_OWNED
from consumer.group_member import GroupMember
from consumer.offsets import CommitOffset
from consumer.reading_thread import SLICE, ReadingThread
from consumer.retry_source import RetrySource
from consumer.source_events import (
    AssignedPartition,
    CommitResult,
    PositionChange,
    SourceEvents,
    SourceSettings,
    StartTime,
)
from consumer.source_reports import SourceReports
from consumer.topic_ids import TopicIds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from consumer.event import TopicPartition

__all__ = [
    "NOT_OWNED",
    "SLICE",
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

_STOP_MARGIN: Final = 1.0


class Source:
    """Reads the group's share of the topics and tells `events` about it on `loop`.

    With each source partition comes the partition of the retry topic of the same number; orders
    take both kinds alike. All methods are to be called on the loop's thread.
    """

    def __init__(
        self, settings: SourceSettings, events: SourceEvents, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._settings = settings
        self._loop = loop
        self._reports = SourceReports(events, loop, self._halt)
        self._parts: _Parts | None = None
        self._stop_at: float | None = None

    def __repr__(self) -> str:
        """What is read, and how much of it is owned."""
        return f"<Source {list(self._settings.topics)} owned={self._reports.owned}>"

    async def start(self) -> None:
        """Join the group and begin to read.

        Raises:
            ConfigError: librdkafka refused a property.
        """
        self._parts = _Parts(self._settings, self._reports, self._loop, self._hand_over_by)
        self._parts.start()

    async def stop(self, timeout: float) -> bool:  # noqa: ASYNC109  the deadline is the caller's, and also bounds the threads
        """Revoke what is owned (drain, commit), leave the group and close.

        Returns whether that was done within `timeout` seconds. If not, the threads are left behind
        as daemons and the group notices the absence at its session time-out.
        """
        if self._parts is None:
            return True
        self._stop_at = time.monotonic() + timeout
        try:
            async with asyncio.timeout(timeout + _STOP_MARGIN):
                await self._parts.stop()
        except TimeoutError:
            _log.warning("The consumer did not leave its group within %.1f s", timeout)
            return False
        return True

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop reading these; the records of one read, already under way, may still come."""
        if (parts := self._parts) is None:
            return
        orders = [self._reports.stamped(tp) for tp in partitions]
        beside = [order for order in orders if self._reports.is_of_retry_topic(order.tp)]
        of_source = [order for order in orders if order not in beside]
        if of_source:
            parts.member_thread.order(lambda: parts.member.pause(of_source))
        if beside:
            parts.retry_thread.order(lambda: parts.retries.pause(beside))

    def resume(self, tp: TopicPartition, position: int) -> None:
        """Read this one: the first time from `position`, later from where it was left.

        Nothing of it is fetched before the first time. One that is held for its position is read
        once the hold has ended.
        """
        if (parts := self._parts) is None:
            return
        order = self._reports.stamped(tp)
        parts.member_thread.order(lambda: parts.member.resume(order, position))
        if self._reports.is_of_retry_topic(tp):
            parts.retry_thread.order(lambda: parts.retries.resume(order, position))

    def flow(self, open: bool) -> None:  # noqa: A002, FBT001  the word for it; there is one argument
        """Open or close the flow of all records, without a word about single partitions."""
        if self._parts is not None:
            for thread in self._parts.threads:
                thread.flow(open)

    def commit(self, offsets: Mapping[TopicPartition, CommitOffset], number: int) -> None:
        """Commit; `events.committed` tells the results. An offset is committed again if asked.

        The results carry the `number`.

        An offset for a partition that has been revoked or lost in the meantime is not committed
        and comes back as `NOT_OWNED`.
        """
        if self._parts is not None:
            orders = [(self._reports.stamped(tp), offset) for tp, offset in offsets.items()]
            self._parts.member.commits.ask(orders, number)
            self._parts.member_thread.wake()

    def _halt(self) -> None:
        if self._parts is not None:
            for thread in self._parts.threads:
                thread.halt()

    def _hand_over_by(self) -> float:
        deadline = time.monotonic() + self._settings.revoke_timeout
        return deadline if self._stop_at is None else min(deadline, self._stop_at)


class _Parts:
    """The clients of a source that was started, and their threads."""

    def __init__(
        self,
        settings: SourceSettings,
        reports: SourceReports,
        loop: asyncio.AbstractEventLoop,
        hand_over_by: Callable[[], float],
    ) -> None:
        ids, epochs = TopicIds(settings.properties), itertools.count(1)
        self.member = GroupMember(
            settings,
            ids,
            reports,
            epochs,
            retries=lambda order: self.retry_thread.order(lambda: order(self.retries)),
            hand_over_by=hand_over_by,
        )
        self.retries = RetrySource(
            settings,
            ids,
            reports,
            lambda order: self.member_thread.order(lambda: order(self.member.commits)),
            epochs,
        )
        self.member_thread = ReadingThread("kafka-source", self.member, loop, reports.broke)
        self.retry_thread = ReadingThread("kafka-retries", self.retries, loop, reports.broke)
        self.threads = (self.member_thread, self.retry_thread)

    def start(self) -> None:
        """Begin to read."""
        for thread in self.threads:
            thread.start()

    async def stop(self) -> None:
        """Hand over, leave and close; returns when that is done."""
        for thread in self.threads:
            thread.stop()
        for thread in self.threads:
            await thread.ended()
