"""TikTok, the schema registry and the OTLP receiver of the benchmark, as cheap as they can be.

Each of `python -m tests.bench.servers tiktok` and `... otlp` is a process of its own that prints
where it listens, as a line of JSON, and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import urllib.request
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from consumer.sandbox import emulator, registry
from consumer.sandbox.faults import Scenario
from consumer.sandbox.tiktok import EmulatorSettings
from consumer.schemas import load_schema
from tests.bench.process import ROOT, pinned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ANSWER_MS = 150.0
"""How long TikTok takes to answer."""

SCHEMA_ID = 1
"""The id that a new registry gives to the first schema."""

_MOST_BYTES = 64 << 20


@contextmanager
def serving(kind: str, cores: frozenset[int]) -> Iterator[dict[str, str]]:
    """A server for the length of the block; gives its addresses by name."""
    with pinned(cores):
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, kind], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
    try:
        assert process.stdout is not None
        addresses: dict[str, str] = json.loads(process.stdout.readline())
        yield addresses
    finally:
        process.terminate()
        process.communicate(timeout=30)


def read_json(url: str) -> dict[str, Any]:
    """The JSON object at an address on this machine."""
    with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310  our own servers
        document: dict[str, Any] = json.load(response)
    return document


@asynccontextmanager
async def _tiktok() -> AsyncIterator[dict[str, str]]:
    settings = EmulatorSettings(strict=False, scenario=Scenario(latency_ms=ANSWER_MS))
    async with emulator.serve(settings) as tiktok, registry.serve() as schemas:
        given = schemas.register("conversions-value", json.dumps(load_schema("conversion_event")))
        assert given == SCHEMA_ID
        yield {
            "endpoint": tiktok.url,
            "truth": f"{tiktok.control_url}/truth",
            "registry": schemas.url,
        }


@asynccontextmanager
async def _otlp() -> AsyncIterator[dict[str, str]]:
    counts = {"spans": 0, "requests": 0, "bytes": 0}

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        counts["requests"] += 1
        counts["bytes"] += request.content_length or 0
        if request.path == "/v1/traces":
            parsed = ExportTraceServiceRequest.FromString(body)
            counts["spans"] += sum(
                len(scope.spans) for res in parsed.resource_spans for scope in res.scope_spans
            )
        return web.Response(content_type="application/x-protobuf")

    async def show(_: web.Request) -> web.Response:
        return web.json_response(counts)

    application = web.Application(client_max_size=_MOST_BYTES)
    application.router.add_post("/v1/{signal:traces|metrics}", take)
    application.router.add_get("/counts", show)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield {"endpoint": url, "counts": f"{url}/counts"}
    finally:
        await runner.cleanup()


async def _serve(kind: str) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with {"tiktok": _tiktok, "otlp": _otlp}[kind]() as addresses:
        sys.stdout.write(json.dumps(addresses) + "\n")
        sys.stdout.flush()
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
