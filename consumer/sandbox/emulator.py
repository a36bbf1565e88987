"""TikTok's Events API over HTTP, for tests, the demo and trying things out by hand.

The endpoint stands at TikTok's own path. What goes wrong is set, and what has been taken is read,
under `/_emulator/`: see `control`.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from consumer.sandbox.control import CONTROL_PATH, Control, now
from consumer.sandbox.tiktok import Ask, EmulatorSettings, TikTok

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from consumer.sandbox.answers import Reply
    from consumer.sandbox.control import Handler
    from consumer.sandbox.faults import Fault, Scenario
    from consumer.sandbox.ground_truth import GroundTruth

TRACK_PATH = "/open_api/v1.3/event/track/"
"""The path of TikTok's endpoint; without its last slash there is nothing there."""

_MAX_BODY = 64 * 1024 * 1024
_NOT_FOUND = b"<html><body><h1>404 Not Found</h1><hr>gateway</body></html>"
_NOT_ALLOWED = b"<html><body><h1>405 Method Not Allowed</h1><hr>gateway</body></html>"


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
        self.tiktok.play(scenario, now())

    def amend(self, **changes: Any) -> None:
        """Changes the named fields of the scenario from now on; everything else goes on.

        Raises:
            ScenarioError: the changes contradict each other or what stays.
        """
        self.tiktok.amend(changes, now())

    def add_faults(self, *faults: Fault) -> None:
        """Adds faults to the scenario in force; their times count from now."""
        self.tiktok.add_faults(faults, now())


@asynccontextmanager
async def serve(
    settings: EmulatorSettings | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Running]:
    """Runs an emulator on this event loop for the length of the context; port 0 picks one.

    Raises:
        OSError: the address cannot be listened on.
    """
    tiktok = TikTok(settings or EmulatorSettings(), now())
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


class _Front:
    """The HTTP side of a `TikTok`."""

    def __init__(self, tiktok: TikTok) -> None:
        self._tiktok = tiktok
        self._closing = asyncio.Event()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_MAX_BODY)
        application.on_shutdown.append(self._shut_down)
        handlers: dict[tuple[str, str], Handler] = {
            ("POST", TRACK_PATH): self._track,
            ("*", TRACK_PATH): self._not_allowed,
            **Control(self._tiktok).handlers(),
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
        came = now()
        ask = Ask(
            body,
            request.headers.get("Access-Token"),
            request.headers.get("Content-Type"),
            came.mono - began,
        )
        reply = self._tiktok.answer(ask, came)
        if reply.delay:
            await self._wait(reply.delay)
        if request.transport is not None and not request.transport.is_closing():
            if reply.cut:
                return await _cut(request, request.transport, reply)
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


async def _cut(
    request: web.Request, transport: asyncio.Transport, reply: Reply
) -> web.StreamResponse:
    """Begins an answer and closes the connection in the middle of it."""
    response = web.StreamResponse(status=reply.status)
    response.content_type = reply.content_type
    response.content_length = len(reply.body)
    await response.prepare(request)
    await response.write(reply.body[: len(reply.body) // 2])
    transport.close()
    return response


def _response(reply: Reply) -> web.Response:
    headers = {"Content-Type": reply.content_type}
    if reply.retry_after is not None:
        headers["Retry-After"] = reply.retry_after
    return web.Response(status=reply.status or 500, body=reply.body, headers=headers)
