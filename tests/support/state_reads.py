"""A running reader of state partitions, asked as the engine asks it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING

from consumer.messages import ReadState, StateChunk, StateRecord
from consumer.state_reader import PATIENCE, StateReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from consumer.event import TopicPartition

_TIMEOUT = 30.0


class ReadFailedError(Exception):
    """A read was answered by a failure; its text is the detail."""


class Reads:
    """Asks a reader and waits for its answers; `answered` counts them by handle."""

    def __init__(self, bootstrap_servers: str, patience: float, **properties: str) -> None:
        self.answered: dict[int, int] = {}
        self._handles = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[StateChunk]] = {}
        self.reader = StateReader(
            {"bootstrap.servers": bootstrap_servers, **properties},
            "group",
            asyncio.get_running_loop(),
            self._on_chunk,
            self._on_failed,
            patience=patience,
        )

    def ask(self, tp: TopicPartition, start: int | None, end: int) -> asyncio.Future[StateChunk]:
        """Ask for one chunk."""
        handle = next(self._handles)
        answer: asyncio.Future[StateChunk] = asyncio.get_running_loop().create_future()
        self._waiting[handle] = answer
        self.reader.read(ReadState(handle, tp, start, end))
        return answer

    async def chunk(self, tp: TopicPartition, start: int | None, end: int) -> StateChunk:
        """One chunk.

        Raises:
            ReadFailedError: The read failed.
        """
        async with asyncio.timeout(_TIMEOUT):
            return await self.ask(tp, start, end)

    async def chunks(self, tp: TopicPartition, start: int | None, end: int) -> list[StateChunk]:
        """Chunk after chunk, until `end` is reached or nothing more comes."""
        chunks = [await self.chunk(tp, start, end)]
        while chunks[-1].next_offset < end:
            chunk = await self.chunk(tp, chunks[-1].next_offset, end)
            chunks.append(chunk)
            if not chunk.records and chunk.next_offset == chunks[-2].next_offset:
                break
        return chunks

    async def records(self, tp: TopicPartition, start: int | None, end: int) -> list[StateRecord]:
        """The records of all these chunks."""
        return [record for chunk in await self.chunks(tp, start, end) for record in chunk.records]

    def _on_chunk(self, handle: int, chunk: StateChunk) -> None:
        self.answered[handle] = self.answered.get(handle, 0) + 1
        self._waiting.pop(handle).set_result(chunk)

    def _on_failed(self, handle: int, detail: str) -> None:
        self.answered[handle] = self.answered.get(handle, 0) + 1
        self._waiting.pop(handle).set_exception(ReadFailedError(detail))


@contextlib.asynccontextmanager
async def state_reads(
    bootstrap_servers: str, *, patience: float = PATIENCE, **properties: str
) -> AsyncIterator[Reads]:
    """A reader that runs, and ends with the test."""
    reads = Reads(bootstrap_servers, patience, **properties)
    reads.reader.start()
    try:
        yield reads
    finally:
        assert await reads.reader.stop(10.0)
