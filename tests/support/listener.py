"""A listener to the Kafka source that writes down what it hears."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from consumer.event import Record, TopicPartition
from consumer.source import (
    AssignedPartition,
    CommitOffset,
    CommitResult,
    PositionChange,
    Source,
    SourceError,
    SourceSettings,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping


class Listener:
    """Hears everything; gives revoked partitions up with all that was heard of them settled.

    Reads what it is assigned at once, unless `resume_at_once` is false.
    """

    source: Source

    def __init__(self, *, resume_at_once: bool = True) -> None:
        self.records: list[Record] = []
        self.slices: list[int] = []
        self.owned: dict[TopicPartition, AssignedPartition] = {}
        self.assigned: list[AssignedPartition] = []
        self.revoked: list[TopicPartition] = []
        self.lost: list[TopicPartition] = []
        self.changes: list[PositionChange] = []
        self.results: list[CommitResult] = []
        self.highs: dict[TopicPartition, int] = {}
        self.errors: list[SourceError] = []
        self.next: dict[TopicPartition, int] = {}
        self.session_timeouts: list[tuple[float, str]] = []
        self._resume_at_once = resume_at_once
        self.drain_seconds = 0.0
        self.is_draining = False
        self.refuse_records = False
        self._heard = asyncio.Event()

    def records_received(self, records: list[Record]) -> None:
        """Write records down; each must belong to an owned partition."""
        if self.refuse_records:
            raise ValueError("a defect")
        self.records += records
        self.slices.append(len(records))
        for record in records:
            tp = TopicPartition(record.topic, record.partition)
            assert tp in self.owned, "a record of a partition that is not owned"
            self.next[tp] = record.offset + 1
        self._heard.set()

    def partitions_assigned(self, assigned: list[AssignedPartition]) -> None:
        """Write new partitions down."""
        self.assigned += assigned
        self.owned.update({each.tp: each for each in assigned})
        self.next.update({each.tp: each.position for each in assigned})
        if self._resume_at_once:
            for each in assigned:
                self.source.resume(each.tp, each.position)
        self._heard.set()

    async def partitions_revoked(
        self, partitions: list[TopicPartition]
    ) -> Mapping[TopicPartition, CommitOffset]:
        """Drain for `drain_seconds`, then give up with everything heard settled."""
        self.is_draining = True
        self._heard.set()
        await asyncio.sleep(self.drain_seconds)
        self.is_draining = False
        self.revoked += partitions
        both = self._with_retry(partitions)
        for tp in both:
            del self.owned[tp]
        self._heard.set()
        return {tp: CommitOffset(self.next[tp], "drained") for tp in both}

    def partitions_lost(self, partitions: list[TopicPartition]) -> None:
        """Forget partitions."""
        self.lost += partitions
        for tp in self._with_retry(partitions):
            del self.owned[tp]
        self._heard.set()

    def _with_retry(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        beside = [tp for tp, each in self.owned.items() if each.beside in partitions]
        return partitions + beside

    @property
    def answers(self) -> list[tuple[TopicPartition, int, str | None, int | None]]:
        """What became of commits: of which partition and offset, with which error and number."""
        return [(r.tp, r.offset, r.error, r.number) for r in self.results]

    @property
    def sources(self) -> dict[TopicPartition, AssignedPartition]:
        """The owned partitions of the source."""
        return {tp: each for tp, each in self.owned.items() if each.beside is None}

    @property
    def retries(self) -> dict[TopicPartition, AssignedPartition]:
        """The owned partitions of the retry topic."""
        return {tp: each for tp, each in self.owned.items() if each.beside is not None}

    def position_changed(self, change: PositionChange) -> None:
        """Write the change down."""
        self.changes.append(change)
        self.next[change.tp] = change.position
        self._heard.set()

    def committed(self, results: list[CommitResult]) -> None:
        """Write results down."""
        self.results += results
        self._heard.set()

    def high_watermarks(self, highs: Mapping[TopicPartition, int]) -> None:
        """Write log ends down."""
        self.highs.update(highs)
        self._heard.set()

    def session_timeout(self, seconds: float) -> None:
        """Write it down."""
        when = "after partitions" if self.assigned else "before any partition"
        self.session_timeouts.append((seconds, when))
        self._heard.set()

    def source_failed(self, error: SourceError) -> None:
        """Write the failure down."""
        self.errors.append(error)
        self._heard.set()

    async def until(self, true: Callable[[], bool], timeout: float = 15.0) -> None:  # noqa: ASYNC109  what a test waits at most
        """Wait until something heard makes it true."""
        async with asyncio.timeout(timeout):
            while not true():
                if self.errors:
                    raise self.errors[0]
                self._heard.clear()
                await self._heard.wait()


@contextlib.asynccontextmanager
async def reading(
    settings: SourceSettings, listener: Listener | None = None
) -> AsyncIterator[tuple[Source, Listener]]:
    """A source that runs, with its listener; stopped at the end."""
    heard = listener or Listener()
    source = heard.source = Source(settings, heard, asyncio.get_running_loop())
    await source.start()
    try:
        yield source, heard
    finally:
        assert await source.stop(10.0)
