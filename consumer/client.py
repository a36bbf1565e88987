"""The HTTP client: one request to TikTok and what came back, as a value.

The body is sent as it is, uncompressed: TikTok documents no support for `Content-Encoding`, and
an answer of 40002 to a body it cannot read would dead-letter good events. gzip at level 1 would
save 70 % of the bytes for 4 µs of CPU an event (measured on batches of 1,000 events of 710 bytes,
most of them hashes), about a tenth of what an event costs in all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
import orjson

from consumer import __version__
from consumer.log_limit import LogLimit
from consumer.outbound import describe, proxy_for, read_at_most
from consumer.verdict import Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from aiohttp.abc import AbstractStreamWriter

    from consumer.requests import Request
    from consumer.tokens import Tokens
    from consumer.verdict import Failure

logger = logging.getLogger(__name__)

ANSWER_BYTES = 64 * 1024
"""Read of an answer at most. TikTok's are some hundred bytes; the rest is a gateway's page."""

RETRY_AFTER_CHARACTERS = 128
"""Kept of a `Retry-After` header at most."""

DNS_SECONDS = 60
"""How long a looked-up address is used for further connections."""

WHOLE_BYTES = 1024 * 1024
"""Bodies up to this size are handed to the transport in one piece; larger ones in chunks, between
which others get their turn on the loop."""

CHUNK_BYTES = 64 * 1024
"""Of a large body, between two turns of others."""

LATE_SECONDS = 0.05
"""A time-out that comes later than this found the loop busy with something else."""

READING_SECONDS = 0.25
"""For answers that arrived while the loop was busy: they are read before a time-out counts."""


TOKEN_HEADER: Final = "Access-Token"  # noqa: S105  the name of a header
"""The header that carries the access token, as it is: TikTok wants no `Bearer` before it."""

HEADERS: Final[Mapping[str, str]] = {
    "Accept": "application/json",
    # An answer is shorter than what unpacking it costs.
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": f"tiktok-events/{__version__}",
}
"""The headers of every request, beside the token and what HTTP itself needs."""


def envelope(request: Request) -> bytes:
    """The body of a request: the events' own bytes, joined into TikTok's JSON object."""
    parts = [
        b'{"event_source":',
        orjson.dumps(request.event_source),
        b',"event_source_id":',
        orjson.dumps(request.event_source_id),
    ]
    if request.test_event_code is not None:
        parts += (b',"test_event_code":', orjson.dumps(request.test_event_code))
    parts += (b',"data":[', b",".join(request.events), b"]}")
    return b"".join(parts)


@asynccontextmanager
async def time_limit(seconds: float) -> AsyncIterator[None]:
    """Ends its block after so many seconds as `asyncio.timeout` does, but not unread.

    Where the loop stood still (a stalled disk, a starved machine), the answer may have been there
    in time, and a time-out would make its events unknown and send them again.

    Raises:
        TimeoutError: the time is over.
    """
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds

    def over() -> None:
        now = loop.time()
        limit.reschedule(now + READING_SECONDS if now - due > LATE_SECONDS else now)

    async with asyncio.timeout(None) as limit:
        timer = loop.call_at(due, over)
        try:
            yield
        finally:
            timer.cancel()


class Body(aiohttp.Payload):
    """A request's body. `began`: bytes may have left, so TikTok may have the events.

    aiohttp keeps the headers back until the first bytes of the body, so nothing has left before
    `write` asks whether it may. Asked any earlier, several requests could be past the question when
    the process is stopped, and go out when it wakes up.
    """

    def __init__(self, value: bytes, may_send: Callable[[], bool]) -> None:
        super().__init__(value, content_type="application/json")
        self._size = len(value)
        self._bytes = value
        self._may_send = may_send
        self.began = False

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The body as text."""
        return self._bytes.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Writes it, large ones in chunks.

        Raises:
            PermissionError: it must not be sent any more.
        """
        if not self._may_send():
            raise PermissionError("membership of the group is not proven any more")
        self.began = True
        if len(self._bytes) <= WHOLE_BYTES:
            await writer.write(self._bytes)
            return
        chunks = memoryview(self._bytes)
        for at in range(0, len(chunks), CHUNK_BYTES):
            await writer.write(chunks[at : at + CHUNK_BYTES])


class Client:
    """Sends requests to TikTok's endpoint. To be built on the running event loop.

    Connections are kept and used again; redirects and cookies are not followed or kept. A proxy
    that the environment names (`HTTPS_PROXY`) is used.

    Args:
        endpoint: the URL of `event/track/`, trailing slash included.
        timeout: seconds for one attempt as a whole, connecting and reading the answer included.
        tokens: the destinations' access tokens.
        max_connections: connections open at once.
        may_send: asked right before a request is written. A process that was stopped between the
            decision and here may have lost its partitions: then nothing is sent.

    Raises:
        StartError: the environment names a proxy that cannot be used.
    """

    def __init__(
        self,
        endpoint: str,
        timeout: float,
        tokens: Tokens,
        max_connections: int,
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._tokens = tokens
        self._may_send = may_send
        self._log_limit = LogLimit(lines=1, seconds=60.0)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=max_connections, ttl_dns_cache=DNS_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            # The whole attempt is timed below; aiohttp's own would round up to whole seconds.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            proxy=proxy_for(endpoint),
            headers=HEADERS,
        )

    async def send(self, request: Request) -> Answer:
        """Makes one attempt and returns what came of it; never raises.

        `not_sent` only where it is certain that no byte of the request left: no token, no
        connection, not allowed any more. `timeout` and `connection` leave open whether TikTok took
        the events.
        """
        token = self._tokens.current(request.event_source, request.event_source_id)
        if token is None:
            return self._failed("not_sent", "no access token can be read")
        body = Body(envelope(request), self._may_send)
        try:
            async with (
                time_limit(self._timeout),
                self._session.post(
                    self._endpoint,
                    data=body,
                    headers={TOKEN_HEADER: token.reveal()},
                    allow_redirects=False,
                ) as response,
            ):
                text = await read_at_most(response, ANSWER_BYTES)
                retry_after = response.headers.get("Retry-After")
                return Answer(
                    response.status,
                    text,
                    None if retry_after is None else retry_after[:RETRY_AFTER_CHARACTERS],
                )
        except TimeoutError:
            failure: Failure = "timeout" if body.began else "not_sent"
            return self._failed(failure, f"no answer within {self._timeout:g} s")
        except Exception as error:  # noqa: BLE001  whatever breaks, only whether it was sent counts
            return self._failed("connection" if body.began else "not_sent", describe(error))

    async def close(self) -> None:
        """Closes all connections. To be called when no attempt is in the air."""
        await self._session.close()

    def __repr__(self) -> str:
        """Where it sends to; never a token."""
        return f"<Client {self._endpoint} {self._tokens!r}>"

    def _failed(self, failure: Failure, detail: str) -> Answer:
        skipped = self._log_limit.skipped(failure, time.monotonic())
        if skipped is not None:
            logger.warning("TikTok: %s, %s", failure, detail, extra={"skipped_lines": skipped})
        return Answer(None, b"", None, failure)
