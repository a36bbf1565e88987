"""Reads the state topic, a chunk at a time, for the partitions that are being taken over.

The loop asks; a consumer of its own on a thread of its own (`state_fetcher`) answers by calls on
the loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from consumer.state_fetcher import PATIENCE, StateFetcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from consumer.event import TopicPartition
    from consumer.messages import ReadState, StateChunk

__all__ = ["PATIENCE", "StateReader"]

_log = logging.getLogger(__name__)

_BROKEN = "the reader of the state topic has ended on a defect: restart the consumer"


class StateReader:
    """Answers each `ReadState` once: with a chunk, or with a failure that ends it.

    All methods are to be called on the loop's thread, where both callbacks come too, each with the
    handle of its read:

    - `on_chunk`: the records that there are from `start` on, at most up to `end` and no more of
      them than are a few milliseconds' work. None of them, with a `next_offset` that is not
      beyond `start`: the log ends there, below `end`; the broker was asked twice.
    - `on_failed`: why the broker has not answered for `patience` seconds, or why it never will.
      The read is over, and is to be asked for again.

    Nothing else is ever outstanding: of one partition there is one read at a time, and another one
    takes its place. What was replaced, forgotten or stopped is answered no more.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        group_id: str,
        loop: asyncio.AbstractEventLoop,
        on_chunk: Callable[[int, StateChunk], None],
        on_failed: Callable[[int, str], None],
        *,
        patience: float = PATIENCE,
    ) -> None:
        self._properties = properties
        self._group_id = group_id
        self._loop = loop
        self._on_chunk = on_chunk
        self._on_failed = on_failed
        self._patience = patience
        self._asked: dict[TopicPartition, ReadState] = {}
        self._orders: deque[tuple[TopicPartition, ReadState | None]] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._broken = False
        self._thread: threading.Thread | None = None
        self._ended = asyncio.Event()

    def __repr__(self) -> str:
        """How much is asked for."""
        return f"<StateReader asked={len(self._asked)}>"

    def start(self) -> None:
        """Connect, in the background.

        Raises:
            ConfigError: librdkafka refused a property.
        """
        fetcher = StateFetcher(
            self._properties,
            self._group_id,
            lambda read, chunk: self._post(self._answer, read, chunk),
            lambda read, detail: self._post(self._fail, read, detail),
            patience=self._patience,
        )
        self._thread = threading.Thread(
            target=self._run, args=(fetcher,), name="kafka-state", daemon=True
        )
        self._thread.start()

    def read(self, read: ReadState) -> None:
        """Ask for a chunk."""
        self._asked[read.tp] = read
        if self._broken:
            self._loop.call_soon(self._fail, read, _BROKEN)
        else:
            self._order(read.tp, read)

    def forget(self, tp: TopicPartition) -> None:
        """Give a partition up: what is asked for of it is answered no more."""
        self._asked.pop(tp, None)
        self._order(tp, None)

    async def stop(self, timeout: float) -> bool:  # noqa: ASYNC109  the deadline is the caller's, as with its siblings
        """Close. False where that took longer than `timeout` seconds; the thread is a daemon."""
        self._asked.clear()
        self._stopping = True
        self._wake.set()
        if self._thread is None:
            return True
        try:
            async with asyncio.timeout(timeout):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True

    def _order(self, tp: TopicPartition, read: ReadState | None) -> None:
        self._orders.append((tp, read))
        self._wake.set()

    # Answers, on the loop

    def _answer(self, read: ReadState, chunk: StateChunk) -> None:
        if self._asked.get(read.tp) is read:
            del self._asked[read.tp]
            self._on_chunk(read.handle, chunk)

    def _fail(self, read: ReadState, detail: str) -> None:
        if self._asked.get(read.tp) is read:
            del self._asked[read.tp]
            self._on_failed(read.handle, detail)

    def _break(self) -> None:
        self._broken = True
        for read in self._asked.values():
            self._loop.call_soon(self._fail, read, _BROKEN)

    # On the thread

    def _post(self, method: Callable[..., None], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(method, *arguments)

    def _run(self, fetcher: StateFetcher) -> None:
        try:
            try:
                while not self._stopping:
                    self._wake.wait(fetcher.may_wait)
                    self._wake.clear()
                    while self._orders:
                        tp, read = self._orders.popleft()
                        if read is None:
                            fetcher.forget(tp)
                        else:
                            fetcher.begin(read)
                    fetcher.step()
            except Exception:  # noqa: BLE001  whatever it is, its reads must not wait for ever
                _log.exception("A defect ends the reader of the state topic")
                self._post(self._break)
            fetcher.close()
        finally:
            self._post(self._ended.set)
