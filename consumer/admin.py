"""Health, metrics and status over HTTP, and a page for people.

`/livez` and `/readyz` answer 200 or 503, `/metrics` in a form the scraper accepts, `/status` the
state as JSON, `/` a page that shows it. Nothing here changes the consumer's state; a request that
is no plain read is refused unless it carries the configured token.
"""

from __future__ import annotations

import hmac
import logging
import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from aiohttp import web

from consumer.errors import StartError
from consumer.exposition import PrometheusText

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from consumer.metrics import Metrics

logger = logging.getLogger(__name__)

_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class StatusSource(Protocol):
    """Who knows how the consumer is. Every method returns at once."""

    def status(self) -> Mapping[str, Any]:
        """The state as `/status` shows it; no personal data in it."""

    def live(self) -> bool:
        """Whether the process does its work; false asks for a restart."""

    def ready(self) -> tuple[bool, str]:
        """Whether it takes events, and if not, why."""


class Admin:
    """The admin server, on the event loop that runs the consumer.

    Args:
        source: who is asked for the state.
        metrics: what `/metrics` shows.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        token: the bearer token for requests that would change something; None refuses them all.
    """

    def __init__(
        self, source: StatusSource, metrics: Metrics, host: str, port: int, token: str | None = None
    ) -> None:
        self._source = source
        self._text = PrometheusText(metrics)
        self._host = host
        self._port = port
        self._token = token
        self._page, self._policy = _page()
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port it listens on, once it does."""
        return self._port

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            StartError: the address cannot be listened on.
        """
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/status", self._status),
                web.get("/", self._index),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            await runner.cleanup()
            raise StartError(
                f"the admin server cannot listen on {self._host}:{self._port} ({error.strerror})",
                "set admin.host and admin.port to a free address of this machine",
            ) from error
        self._runner = runner
        self._port = int(runner.addresses[0][1])
        logger.info("admin server listens", extra={"host": self._host, "port": self._port})

    async def stop(self) -> None:
        """Stops listening; requests under way are answered."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _guard(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        if request.method not in _READS and not self._is_allowed(request):
            raise web.HTTPUnauthorized(
                text="this needs admin.token\n", headers={"WWW-Authenticate": "Bearer"}
            )
        response = await handler(request)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    def _is_allowed(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        return self._token is not None and hmac.compare_digest(
            given, f"Bearer {self._token}".encode()
        )

    async def _livez(self, _request: web.Request) -> web.Response:
        live = self._source.live()
        return web.Response(text="ok\n" if live else "stuck\n", status=200 if live else 503)

    async def _readyz(self, _request: web.Request) -> web.Response:
        ready, why = self._source.ready()
        return web.Response(text="ok\n" if ready else f"{why}\n", status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._text.render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _status(self, _request: web.Request) -> web.Response:
        body = orjson.dumps(self._source.status(), option=orjson.OPT_APPEND_NEWLINE)
        return web.Response(body=body, content_type="application/json")

    async def _index(self, _request: web.Request) -> web.Response:
        return web.Response(
            text=self._page,
            content_type="text/html",
            headers={
                "Content-Security-Policy": self._policy,
                "Referrer-Policy": "no-referrer",
                "X-Frame-Options": "DENY",
            },
        )


def _page() -> tuple[str, str]:
    """The page, and a policy that lets run exactly its own script and style."""
    page = (files("consumer") / "page.html").read_text(encoding="utf-8")
    return page, (
        "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; script-src {_digest(page, 'script')}; "
        f"style-src {_digest(page, 'style')}"
    )


def _digest(page: str, tag: str) -> str:
    content = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[0]
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
