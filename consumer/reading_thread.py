"""The thread that drives one Kafka client: orders in, slices of records out.

The loop gives orders, which queue to the thread. Records go to the loop in slices of `SLICE`; at
most `SLICES_AHEAD` of them wait for it. Polling never stops: where nothing may be read for longer
than `SUSPEND_AFTER` seconds, no partition is fetched and polling brings nothing, so that
rebalances and the group's poll deadline are served. A shorter shortage is bridged by not reading,
because what was fetched ahead is thrown away otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.event import Record

_log = logging.getLogger(__name__)

SLICES_AHEAD: Final = 2
SLICE: Final = 64
"""Records that the loop is given at once: a few milliseconds of its time."""

SUSPEND_AFTER: Final = 1.0
_READ_TIMEOUT: Final = 0.05
_BRIDGE_TIMEOUT: Final = 0.05


class Client(Protocol):
    """What the thread drives; all of it is called on the thread."""

    @property
    def has_failed(self) -> bool:
        """Whether a failure was reported; nothing more is read then."""

    def begin(self) -> None:
        """Before the first read."""

    def tick(self, now: float) -> None:
        """Do what is due between two reads; `now` is in monotonic seconds."""

    def suspend(self, *, suspended: bool) -> None:
        """Let reading bring nothing, or go on."""

    def read(self, timeout: float) -> list[Record]:
        """The next records, waiting up to `timeout` seconds for them."""

    def hand_out(self, records: list[Record]) -> Callable[[], None]:
        """The call that gives these records to the listener, for the loop; it never raises."""

    def end(self) -> None:
        """Leave and close."""


class ReadingThread:
    """Drives a client until it is stopped. `defect` is told of an exception, on the thread."""

    def __init__(
        self,
        name: str,
        client: Client,
        loop: asyncio.AbstractEventLoop,
        defect: Callable[[Exception], None],
    ) -> None:
        self._client = client
        self._loop = loop
        self._defect = defect
        self._orders: deque[Callable[[], None]] = deque()
        self._wake = threading.Event()
        self._ended = asyncio.Event()
        self._open = True
        self._halted = False
        self._stopped = False
        # Each counter has one writing thread; their difference is what the loop has yet to take.
        self._slices_sent = 0
        self._slices_taken = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def order(self, order: Callable[[], None]) -> None:
        """Carry this out between two reads. May be called on any thread."""
        self._orders.append(order)
        self._wake.set()

    def wake(self) -> None:
        """Look soon whether there is something to do."""
        self._wake.set()

    def flow(self, open: bool) -> None:  # noqa: A002, FBT001  the word for it; there is one argument
        """Open or close the flow of records."""
        self._open = open
        self._wake.set()

    def halt(self) -> None:
        """Read nothing more, and wait to be stopped."""
        self._halted = True
        self._wake.set()

    def stop(self) -> None:
        """Let the client leave and close; `ended` tells when that is done."""
        self._stopped = True
        self._wake.set()

    async def ended(self) -> None:
        """Wait until the client is closed."""
        await self._ended.wait()

    def _run(self) -> None:
        client = self._client
        try:
            try:
                client.begin()
                self._read_until_stopped()
            except Exception as error:  # noqa: BLE001  whatever it is, reading on would lose records
                if not client.has_failed:
                    self._defect(error)
            while not self._stopped:
                self._wake.wait()
                self._wake.clear()
            client.end()
        except Exception:  # noqa: BLE001  a closed loop or consumer: nobody is left to be told
            _log.exception("The thread %s ended early", self._thread.name)
        finally:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._ended.set)

    def _read_until_stopped(self) -> None:
        client = self._client
        blocked_since: float | None = None
        while not (self._stopped or self._halted or client.has_failed):
            self._wake.clear()
            while self._orders:
                self._orders.popleft()()
            now = time.monotonic()
            client.tick(now)
            if self._open and self._slices_sent - self._slices_taken < SLICES_AHEAD:
                blocked_since = None
                client.suspend(suspended=False)
            else:
                blocked_since = now if blocked_since is None else blocked_since
                if now - blocked_since < SUSPEND_AFTER:
                    self._wake.wait(_BRIDGE_TIMEOUT)
                    continue
                client.suspend(suspended=True)
            self._send(client.read(_READ_TIMEOUT))

    def _send(self, records: list[Record]) -> None:
        """Give records to the loop, a slice when it has taken those before.

        Where the thread is stopped in between the rest is left out: nobody has seen it, so nobody
        commits past it.
        """
        for first in range(0, len(records), SLICE):
            while self._slices_sent - self._slices_taken >= SLICES_AHEAD:
                if self._stopped or self._halted:
                    return
                self._wake.wait(_BRIDGE_TIMEOUT)
                self._wake.clear()
            self._slices_sent += 1
            call = self._client.hand_out(records[first : first + SLICE])
            self._loop.call_soon_threadsafe(self._take, call)

    def _take(self, call: Callable[[], None]) -> None:
        """On the loop."""
        try:
            call()
        finally:
            self._slices_taken += 1
            self._wake.set()
