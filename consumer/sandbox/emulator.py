"""TikTok's Events API over HTTP, for tests, the demo and trying things out by hand.

The endpoint stands at TikTok's own path. What goes wrong is set, and what has been taken is read,
under `/_emulator/`:

| request | does |
|---|---|
| `POST /_emulator/scenario` | puts a scenario in force (JSON of `faults.Scenario`) |
| `GET /_emulator/scenario` | shows the one in force |
| `GET /_emulator/truth` | totals: requests by code, batch sizes, events accepted and dropped |
| `GET /_emulator/events` | every accepted event as NDJSON |
| `GET /_emulator/requests` | the latest requests, newest first |
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import orjson
from aiohttp import web

from consumer.event import Instant
from consumer.sandbox.faults import ScenarioError, scenario_from_json, scenario_to_json
from consumer.sandbox.tiktok import Ask, EmulatorSettings, TikTok

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from consumer.sandbox.answers import Reply
    from consumer.sandbox.faults import Scenario
    from consumer.sandbox.ground_truth import GroundTruth

TRACK_PATH = "/open_api/v1.3/event/track/"
"""The path of TikTok's endpoint; without its last slash there is nothing there."""

CONTROL_PATH = "/_emulator"

_MAX_BODY = 64 * 1024 * 1024
_LINES_A_WRITE = 1000
_NOT_FOUND = b"<html><body><h1>404 Not Found</h1><hr>gateway</body></html>"
_NOT_ALLOWED = b"<html><body><h1>405 Method Not Allowed</h1><hr>gateway</body></html>"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Running:
    """An emulator at work. `url` is the endpoint to send to, `control_url` its control's root."""

    url: str
    control_url: str
    tiktok: TikTok

    @property
    def truth(self) -> GroundTruth:
        """What it has taken so far."""
        return self.tiktok.truth

    def play(self, scenario: Scenario) -> None:
        """Puts a scenario in force, from now on."""
        self.tiktok.play(scenario, _now())


@asynccontextmanager
async def serve(
    settings: EmulatorSettings | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Running]:
    """Runs an emulator on this event loop for the length of the context; port 0 picks one.

    Raises:
        OSError: the address cannot be listened on.
    """
    tiktok = TikTok(settings or EmulatorSettings(), _now())
    front = _Front(tiktok)
    # Without handler_cancellation a hanging answer would outlive the client that gave it up.
    runner = web.AppRunner(
        front.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound = runner.addresses[0][1]
        authority = f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"
        yield Running(authority + TRACK_PATH, authority + CONTROL_PATH, tiktok)
    finally:
        await runner.cleanup()


def run_emulator(
    host: str = "127.0.0.1",
    port: int = 8088,
    settings: EmulatorSettings | None = None,
    say: Callable[[str], object] = click.echo,
) -> int:
    """Runs an emulator until SIGTERM or SIGINT; the body of `tiktok-events emulator`.

    `say` is given the endpoint's address and a request to try, line by line. Returns 0.

    Raises:
        OSError: the address cannot be listened on.
    """
    return asyncio.run(_run(host, port, settings, say))


async def _run(
    host: str, port: int, settings: EmulatorSettings | None, say: Callable[[str], object]
) -> int:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with serve(settings, host, port) as running:
        say(f"TikTok emulator at {running.url}")
        say(f"What it accepted: {running.control_url}/truth and {running.control_url}/events")
        say(f"Try it:\n{example_request(running.url, int(time.time()))}")
        await stopped.wait()
    return 0


def example_request(url: str, event_time: int) -> str:
    """A curl command that the emulator at `url` accepts; `event_time` in seconds."""
    body = {
        "event_source": "web",
        "event_source_id": "C9ABC1234567890DEFGH",
        "data": [
            {
                "event": "ViewContent",
                "event_time": event_time,
                "event_id": f"example-{event_time}",
                "user": {"ttclid": "E.C.P.example"},
                "page": {"url": "https://shop.example.com/"},
            }
        ],
    }
    return (
        f"curl -X POST {url} -H 'Access-Token: any' -H 'Content-Type: application/json'"
        f" -d '{orjson.dumps(body).decode()}'"
    )


class _Front:
    """The HTTP side of a `TikTok`."""

    def __init__(self, tiktok: TikTok) -> None:
        self._tiktok = tiktok
        self._closing = asyncio.Event()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_MAX_BODY)
        application.on_shutdown.append(self._shut_down)
        handlers: dict[tuple[str, str], _Handler] = {
            ("POST", TRACK_PATH): self._track,
            ("*", TRACK_PATH): self._not_allowed,
            ("POST", f"{CONTROL_PATH}/scenario"): self._set_scenario,
            ("GET", f"{CONTROL_PATH}/scenario"): self._scenario,
            ("GET", f"{CONTROL_PATH}/truth"): self._truth,
            ("GET", f"{CONTROL_PATH}/events"): self._events,
            ("GET", f"{CONTROL_PATH}/requests"): self._requests,
            ("*", "/{path:.*}"): self._not_found,
        }
        for (method, path), handler in handlers.items():
            application.router.add_route(method, path, handler)
        return application

    async def _shut_down(self, _: web.Application) -> None:
        self._closing.set()

    async def _track(self, request: web.Request) -> web.StreamResponse:
        began = time.monotonic()
        body = await request.read()
        now = _now()
        ask = Ask(
            body,
            request.headers.get("Access-Token"),
            request.headers.get("Content-Type"),
            now.mono - began,
        )
        reply = self._tiktok.answer(ask, now)
        if reply.delay:
            await self._wait(reply.delay)
        if request.transport is not None and not request.transport.is_closing():
            if reply.answered:
                self._tiktok.truth.answered(reply.number, time.time())
            else:
                request.transport.abort()
        return _response(reply)

    async def _wait(self, seconds: float) -> None:
        """Waits, though not beyond the server's own end."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return

    async def _not_found(self, _: web.Request) -> web.StreamResponse:
        return web.Response(status=404, body=_NOT_FOUND, content_type="text/html")

    async def _not_allowed(self, _: web.Request) -> web.StreamResponse:
        return web.Response(status=405, body=_NOT_ALLOWED, content_type="text/html")

    async def _set_scenario(self, request: web.Request) -> web.StreamResponse:
        try:
            scenario = scenario_from_json(orjson.loads(await request.read()))
        except (orjson.JSONDecodeError, ScenarioError) as error:
            return _json({"error": str(error)}, status=400)
        self._tiktok.play(scenario, _now())
        return _json(scenario_to_json(scenario))

    async def _scenario(self, _: web.Request) -> web.StreamResponse:
        return _json(scenario_to_json(self._tiktok.scenario))

    async def _truth(self, _: web.Request) -> web.StreamResponse:
        return _json(self._tiktok.truth.summary())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        lines: list[bytes] = []
        for event in self._tiktok.truth.events():
            lines.append(orjson.dumps(event.to_json(), option=orjson.OPT_APPEND_NEWLINE))
            if len(lines) == _LINES_A_WRITE:
                await response.write(b"".join(lines))
                lines.clear()
        await response.write(b"".join(lines))
        await response.write_eof()
        return response

    async def _requests(self, _: web.Request) -> web.StreamResponse:
        newest_first = reversed(self._tiktok.truth.recent)
        return _json([seen._asdict() for seen in newest_first])


def _now() -> Instant:
    return Instant(time.monotonic(), time.time_ns())


def _response(reply: Reply) -> web.Response:
    headers = {"Content-Type": reply.content_type}
    if reply.retry_after is not None:
        headers["Retry-After"] = reply.retry_after
    return web.Response(status=reply.status or 500, body=reply.body, headers=headers)


def _json(document: object, status: int = 200) -> web.Response:
    body = orjson.dumps(document)
    return web.Response(status=status, body=body, content_type="application/json")
