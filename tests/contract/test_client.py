"""The HTTP client against the TikTok emulator, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from aiohttp import web

from consumer.client import ANSWER_BYTES, Client, envelope
from consumer.requests import Request
from consumer.sandbox.emulator import Running, serve
from consumer.sandbox.faults import Fault, FaultKind, Scenario
from consumer.sandbox.tiktok import Access, EmulatorSettings
from consumer.secret import SecretSource
from consumer.tokens import Tokens
from consumer.verdict import Answer
from tests.support.sandbox_threads import LoopThread
from tests.support.tls import server_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

PIXEL = "C9ABC1234567890DEFGH"
TOKEN = "canary-token-5f1d"
DIGEST = hashlib.sha256(b"user_123").hexdigest()
NOT_SENT = Answer(None, b"", None, "not_sent")
BROKEN = Answer(None, b"", None, "connection")
TIMED_OUT = Answer(None, b"", None, "timeout")


def event(event_id: str = "e-1", **more: object) -> bytes:
    return orjson.dumps(
        {
            "event": "CompletePayment",
            "event_time": 1_700_000_000,
            "event_id": event_id,
            "user": {"external_id": DIGEST},
            "page": {"url": "https://shop.example.com/thanks"},
            **more,
        }
    )


def request(*events: bytes, test_event_code: str | None = None) -> Request:
    return Request(1, "web", PIXEL, test_event_code, events or (event(),))


def tokens_of(source: SecretSource | None = None) -> Tokens:
    return Tokens({("web", PIXEL): source or SecretSource(env="TOKEN")}, {"TOKEN": TOKEN})


@asynccontextmanager
async def client(
    endpoint: str, *, patience: float = 5.0, connections: int = 8, tokens: Tokens | None = None
) -> AsyncIterator[Client]:
    opened = Client(endpoint, patience, tokens or tokens_of(), connections)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def emulator() -> AsyncIterator[Running]:
    allowed = {TOKEN: Access("app-1", frozenset({PIXEL}))}
    async with serve(EmulatorSettings(tokens=allowed)) as running:
        yield running


@asynccontextmanager
async def stub(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """An HTTP server that answers any POST like this."""
    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_post("/{path:.*}", handler)
    runner = web.AppRunner(
        application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/track/"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def talking(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """A server that talks like this to everyone and then closes the connection; its port."""
    talks: set[asyncio.Task[None] | None] = set()

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.current_task())
        try:
            await talk(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*(talk for talk in talks if talk), return_exceptions=True)


@asynccontextmanager
async def raw(says: bytes) -> AsyncIterator[str]:
    """A server that reads a request's head, says this and closes the connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(says)

    async with talking(talk) as port:
        yield f"http://127.0.0.1:{port}/track/"


async def test_tiktok_accepts_what_the_client_sends(emulator: Running) -> None:
    """Header, path and envelope are as documented, for one event and for many."""
    async with client(emulator.url) as tiktok:
        for events in ([event()], [event(f"n-{n}") for n in range(1000)]):
            answer = await tiktok.send(request(*events))
            assert (answer.status, answer.failure) == (200, None)
            assert orjson.loads(answer.body)["code"] == 0
    assert emulator.truth.summary()["requests"] == 2


async def test_a_refusal_is_an_answer_like_any_other(emulator: Running) -> None:
    """What the body means is not the client's to say."""
    async with client(emulator.url) as tiktok:
        answer = await tiktok.send(request(event(user={"email": "not hashed"})))
    assert answer.status == 200
    assert orjson.loads(answer.body)["code"] == 40002


async def test_retry_after_comes_with_the_answer(emulator: Running) -> None:
    """As it is, for whoever can read it."""
    emulator.play(
        Scenario(
            faults=(
                Fault(FaultKind.CODE, code=40100, retry_after="7", times=1),
                Fault(FaultKind.PAGE, status=503, times=1),
            )
        )
    )
    async with client(emulator.url) as tiktok:
        throttled = await tiktok.send(request())
        page = await tiktok.send(request())
    assert throttled.retry_after == "7"
    assert (page.status, page.retry_after) == (503, None)
    assert b"<html" in page.body


async def test_a_late_answer_is_a_time_out_with_an_unknown_outcome(emulator: Running) -> None:
    """The events may have been taken, as they are here."""
    emulator.play(Scenario(faults=(Fault(FaultKind.LATE, seconds=5.0),)))
    async with client(emulator.url, patience=0.2) as tiktok:
        began = asyncio.get_running_loop().time()
        assert await tiktok.send(request()) == TIMED_OUT
        assert asyncio.get_running_loop().time() - began < 1.0


@pytest.mark.parametrize("fault", [FaultKind.CLOSE_BEFORE, FaultKind.CLOSE_AFTER])
async def test_a_connection_that_breaks_leaves_the_outcome_open(
    emulator: Running, fault: FaultKind
) -> None:
    """From here, a request that was taken and one that was not look the same."""
    emulator.play(Scenario(faults=(Fault(fault, times=1),)))
    async with client(emulator.url) as tiktok:
        assert await tiktok.send(request()) == BROKEN
        assert (await tiktok.send(request())).status == 200


@pytest.mark.parametrize(
    "says",
    [
        b"",
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Encoding: gzip\r\n\r\nabcd",
    ],
)
async def test_an_answer_that_breaks_off_or_is_garbage_leaves_the_outcome_open(
    says: bytes,
) -> None:
    """Whatever came back, the request was sent."""
    async with raw(says) as url, client(url) as tiktok:
        assert await tiktok.send(request()) == BROKEN


async def test_nothing_was_sent_where_no_connection_stood(tmp_path: Path) -> None:
    """Refused, unknown host, untrusted certificate, silence during the handshake: all certain."""
    async with client("http://127.0.0.1:1/track/") as tiktok:
        assert await tiktok.send(request()) == NOT_SENT
    async with client("http://tiktok.invalid/track/") as tiktok:
        assert await tiktok.send(request()) == NOT_SENT

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    for context, patience in ((server_context(tmp_path), 5.0), (None, 0.2)):
        async with (
            talking(silent, context) as port,
            client(f"https://127.0.0.1:{port}/", patience=patience) as tiktok,
        ):
            assert await tiktok.send(request()) == NOT_SENT


async def test_without_a_token_nothing_is_sent(emulator: Running, tmp_path: Path) -> None:
    """Until there is one, in the same process."""
    path = tmp_path / "token"
    seconds = iter(range(100))
    source = {("web", PIXEL): SecretSource(file=path)}
    tokens = Tokens(source, {}, lambda: float(next(seconds)))
    async with client(emulator.url, tokens=tokens) as tiktok:
        assert await tiktok.send(request()) == NOT_SENT
        assert emulator.truth.summary()["requests"] == 0
        path.write_text(TOKEN)
        assert (await tiktok.send(request())).status == 200


async def test_what_may_not_go_any_more_is_not_written(emulator: Running) -> None:
    """Asked last of all, when the connection stands: the process may have stood still till then."""
    may = [False, True]
    sender = Client(emulator.url, 5.0, tokens_of(), 4, lambda: may.pop(0))
    try:
        assert await sender.send(request()) == NOT_SENT
        assert emulator.truth.summary()["requests"] == 0
        assert (await sender.send(request())).status == 200
    finally:
        await sender.close()


async def test_a_connection_is_used_again_and_no_more_are_opened_than_allowed() -> None:
    """Keep-alive spares the handshake; the limit holds whatever the engine starts."""
    peers: list[object] = []
    at_once = most = 0

    async def answer(asked: web.Request) -> web.Response:
        nonlocal at_once, most
        peers.append(asked.transport.get_extra_info("peername") if asked.transport else None)
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return web.json_response({"code": 0})

    async with stub(answer) as url, client(url, connections=3) as tiktok:
        await asyncio.gather(*(tiktok.send(request()) for _ in range(12)))
    assert len(peers) == 12
    assert most == len(set(peers)) == 3


async def test_headers_are_tiktoks_and_nothing_else_travels() -> None:
    """The bare token, JSON, an uncompressed body; no cookie comes back to the server."""
    seen: list[web.Request] = []
    bodies: list[bytes] = []

    async def answer(asked: web.Request) -> web.Response:
        seen.append(asked)
        bodies.append(await asked.read())
        response = web.json_response({"code": 0})
        response.set_cookie("session", "1")
        return response

    async with stub(answer) as url, client(url) as tiktok:
        await tiktok.send(request())
        await tiktok.send(request())
    for asked, body in zip(seen, bodies, strict=True):
        assert asked.headers["Access-Token"] == TOKEN
        assert asked.headers["Content-Type"] == "application/json"
        assert asked.headers["Content-Length"] == str(len(body))
        assert not {"Authorization", "Cookie", "Content-Encoding"} & set(asked.headers)
        assert body == envelope(request())


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    """The token goes to the configured address only."""
    paths: list[str] = []

    async def answer(asked: web.Request) -> web.Response:
        paths.append(asked.path)
        raise web.HTTPPermanentRedirect("/elsewhere/")

    async with stub(answer) as url, client(url) as tiktok:
        assert (await tiktok.send(request())).status == 308
    assert paths == ["/track/"]


async def test_of_an_endless_answer_only_the_beginning_is_read() -> None:
    """A gateway's page cannot fill the memory, and the next request has a connection."""

    async def answer(asked: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=502)
        await response.prepare(asked)
        while True:
            await response.write(b"x" * 10_000)

    async with stub(answer) as url, client(url, connections=1) as tiktok:
        for _ in range(2):
            read = await tiktok.send(request())
            assert (read.status, len(read.body)) == (502, ANSWER_BYTES)


async def test_an_answer_that_came_while_the_loop_stood_still_is_read() -> None:
    """A stalled disk may hold the loop for longer than the time-out: the answer was there."""
    settings = EmulatorSettings(scenario=Scenario(latency_ms=150))
    with LoopThread() as aside, aside.entered(serve(settings)) as emulator:
        async with client(emulator.url, patience=0.5) as opened:
            sending = asyncio.create_task(opened.send(request()))
            while not emulator.truth.events_received:  # noqa: ASYNC110  it lives in another thread
                await asyncio.sleep(0.01)
            time.sleep(1.0)  # noqa: ASYNC251  the loop must stand still
            assert (await sending).status == 200


async def test_an_answer_that_drips_ends_with_the_time_out() -> None:
    """The time is the whole attempt's, not one read's."""

    async def answer(asked: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(asked)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.02)

    async with stub(answer) as url, client(url, patience=0.2) as tiktok:
        assert await tiktok.send(request()) == TIMED_OUT


async def test_a_body_of_several_megabytes_arrives_whole() -> None:
    """Larger batches are a setting; they need no warning and no other code."""
    events = [event(f"n-{n}", properties={"description": "x" * 10_000}) for n in range(500)]
    lengths: list[int] = []

    async def answer(asked: web.Request) -> web.Response:
        lengths.append(len(orjson.loads(await asked.read())["data"]))
        return web.json_response({"code": 0})

    async with stub(answer) as url, client(url) as tiktok:
        assert (await tiktok.send(request(*events))).status == 200
    assert lengths == [500]


async def test_a_cancelled_attempt_ends_at_once(emulator: Running) -> None:
    """Stopping the process does not wait for TikTok."""
    emulator.play(Scenario(faults=(Fault(FaultKind.HANG, seconds=60.0),)))
    async with client(emulator.url) as tiktok:
        attempt = asyncio.create_task(tiktok.send(request()))
        await asyncio.sleep(0.05)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt


@pytest.mark.parametrize("status", [403, 407, 502])
async def test_a_proxy_that_refuses_means_not_sent(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tunnel never stood, so the request did not leave."""
    asked: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)

    async with talking(talk) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "")
        async with client("https://business-api.tiktok.com/track/") as tiktok:
            assert await tiktok.send(request()) == NOT_SENT
    assert asked == [b"CONNECT business-api.tiktok.com:443 HTTP/1.1\r\n"]


async def test_the_log_says_why_once_a_minute_and_quotes_neither_token_nor_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An operator learns the reason; a long outage does not fill the disk."""
    caplog.set_level(logging.DEBUG)
    marked = request(event("canary-event"))
    shown: list[Any] = []
    async with client("http://127.0.0.1:1/track/") as tiktok:
        shown += [await tiktok.send(marked) for _ in range(5)]
        shown.append(tiktok)
    async with raw(b"canary-answer\r\n\r\n") as url, client(url) as tiktok:
        shown.append(await tiktok.send(marked))
    lines = [record.getMessage() for record in caplog.records if record.name == "consumer.client"]
    assert len(lines) == 2
    assert lines[0].startswith("TikTok: not_sent, ClientConnectorError: Connect")
    assert "canary" not in f"{shown!r} {caplog.text}"
