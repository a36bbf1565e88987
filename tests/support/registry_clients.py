"""The registry's client in a test, and servers that answer it as the test says."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

from consumer.registry import BasicAuth, BearerAuth, Registry

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable


@asynccontextmanager
async def client(
    url: str, auth: BasicAuth | BearerAuth | None = None, patience: float = 5.0
) -> AsyncIterator[Registry]:
    """A client, closed in the end; `patience` is in seconds."""
    registry = Registry(url, auth, None, patience)
    try:
        yield registry
    finally:
        await registry.close()


@asynccontextmanager
async def stub(
    answer: Callable[[web.Request], Awaitable[web.Response]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """A server with only this to say; its address."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_patience=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def reference(name: str, subject: str, version: int = 1) -> dict[str, Any]:
    """What a schema says of another one that it needs."""
    return {"name": name, "subject": subject, "version": version}
