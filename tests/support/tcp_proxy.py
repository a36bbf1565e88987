"""A TCP proxy that stands before a server of this machine and can cut the network.

A cut is silent, as when a cable is pulled: connections stay open, nothing comes through, and what
was on its way arrives late when the network is back. New connections are taken and hang.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, contextmanager
from enum import Enum
from typing import TYPE_CHECKING

from tests.support.sandbox_threads import LoopThread

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 64 * 1024


class Cut(Enum):
    """What a cut swallows."""

    BOTH_WAYS = "both ways"
    ANSWERS = "answers"
    """Requests still arrive: the server acts on them, and the client never learns it."""


class TcpProxy:
    """Forwards connections on `port` to `target_port`, unless it is cut.

    `target_port` may be set later than the proxy has begun to listen, since a Kafka broker has to
    be told the proxy's port before it starts.
    """

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread
        self._towards_server = asyncio.Event()
        self._towards_client = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.target_port = 0

    def cut(self, what: Cut = Cut.BOTH_WAYS) -> None:
        """Lets nothing through from now on."""
        self._thread.call(lambda: self._cut(what))

    def heal(self) -> None:
        """Lets everything through again, what was held back first."""
        self._thread.call(self._heal)

    def drop(self) -> None:
        """Closes every connection, as a firewall that has forgotten them does."""
        self._thread.call(self._drop)

    async def listen(self) -> None:
        """Listens on a free port."""
        self._heal()
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Ends every connection and listens no longer."""
        if self._server is not None:
            self._server.close()
        self._drop()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _cut(self, what: Cut) -> None:
        self._towards_client.clear()
        if what is Cut.BOTH_WAYS:
            self._towards_server.clear()

    def _heal(self) -> None:
        self._towards_server.set()
        self._towards_client.set()

    def _drop(self) -> None:
        for connection in self._connections:
            connection.cancel()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        writers = [writer]
        try:
            await self._towards_server.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self.target_port)
            writers.append(back)
            ways = (
                asyncio.ensure_future(_forward(reader, back, self._towards_server)),
                asyncio.ensure_future(_forward(there, writer, self._towards_client)),
            )
            try:
                # Kafka's connections are never half closed: with one way the other ends.
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # nobody listens there now, or the connection is being dropped
        finally:
            for each in writers:
                each.transport.abort()
            self._connections.discard(connection)


async def _forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
) -> None:
    while data := await reader.read(_CHUNK):
        await gate.wait()
        writer.write(data)
        await writer.drain()


@contextmanager
def run_proxy() -> Iterator[TcpProxy]:
    """A proxy for the length of the block."""
    with ExitStack() as stack:
        thread = stack.enter_context(LoopThread())
        proxy = TcpProxy(thread)
        thread.run(proxy.listen())
        stack.callback(lambda: thread.run(proxy.close()))
        yield proxy
