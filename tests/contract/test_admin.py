"""The admin server on a real socket, asked as a probe, a scraper and a browser would."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from consumer.admin import Admin
from consumer.errors import StartError
from consumer.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STATUS: dict[str, Any] = {
    "version": "1.0",
    "group": "tiktok-events",
    "ready": True,
    "totals": {"consumed": 3, "delivered": 2, "duplicate": 0, "suppressed": 1, "dead_lettered": 0},
    "lease": {"held": False, "proved_seconds_ago": None, "valid_seconds": 30.5},
    "partitions": [],
    "retry": [],
    "destinations": [],
}


class Consumer:
    """A consumer whose health a test sets."""

    def __init__(self) -> None:
        self.alive = True
        self.missing = ""

    def status(self) -> dict[str, Any]:
        """As a real one tells it."""
        return STATUS

    def live(self) -> bool:
        """As set."""
        return self.alive

    def ready(self) -> tuple[bool, str]:
        """Ready unless something is missing."""
        return not self.missing, self.missing


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def http(consumer: Consumer, metrics: Metrics) -> AsyncIterator[aiohttp.ClientSession]:
    admin = Admin(consumer, metrics, "127.0.0.1", 0, token="s3cret")
    await admin.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{admin.port}") as session:
            yield session
    finally:
        await admin.stop()


async def test_health_follows_the_consumer(http: aiohttp.ClientSession, consumer: Consumer) -> None:
    """Both probes answer 200 when all is well and 503 with the reason when not."""
    for path in ("/livez", "/readyz"):
        async with http.get(path) as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
    consumer.alive, consumer.missing = False, "no partition assigned"
    async with http.get("/livez") as answer:
        assert answer.status == 503
    async with http.get("/readyz") as answer:
        assert (answer.status, await answer.text()) == (503, "no partition assigned\n")


async def test_status_is_what_the_consumer_says(http: aiohttp.ClientSession) -> None:
    """The state comes as JSON, and no cache keeps it."""
    async with http.get("/status") as answer:
        assert answer.content_type == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"
        assert await answer.json() == STATUS


async def test_metrics_are_negotiated(http: aiohttp.ClientSession, metrics: Metrics) -> None:
    """Prometheus text as a rule, OpenMetrics for who accepts it."""
    metrics.consumed.add(5, ("conversions",))
    async with http.get("/metrics") as answer:
        assert answer.content_type == "text/plain"
        assert 'tiktok_events_consumed_total{topic="conversions"} 5.0' in await answer.text()
    accept = {"Accept": "application/openmetrics-text"}
    async with http.get("/metrics", headers=accept) as answer:
        assert answer.content_type == "application/openmetrics-text"


async def test_the_page_may_run_its_own_script_and_nothing_else(
    http: aiohttp.ClientSession,
) -> None:
    """The policy names the digests of what stands in the page, and forbids the rest."""
    async with http.get("/") as answer:
        page, policy = await answer.text(), answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    for tag in ("script", "style"):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = b64encode(sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r"\son\w+=|style=|https?://", page)
    assert "innerHTML" not in page


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "s3cret", "Bearer \u00fc"])
async def test_changing_anything_needs_the_token(
    http: aiohttp.ClientSession, authorization: str | None
) -> None:
    """A request that is no read is refused before anybody looks at where it goes."""
    headers = {} if authorization is None else {"Authorization": authorization}
    async with http.post("/status", headers=headers) as answer:
        assert answer.status == 401


async def test_the_token_opens_the_door(http: aiohttp.ClientSession) -> None:
    """With it the request reaches the routes, where nothing takes a POST."""
    async with http.post("/status", headers={"Authorization": "Bearer s3cret"}) as answer:
        assert answer.status == 405


async def test_without_a_token_nothing_can_be_changed(consumer: Consumer) -> None:
    """No configured token means no valid one, not an open door."""
    admin = Admin(consumer, Metrics(), "127.0.0.1", 0)
    await admin.start()
    try:
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{admin.port}") as session,
            session.post("/status", headers={"Authorization": "Bearer None"}) as answer,
        ):
            assert answer.status == 401
    finally:
        await admin.stop()


async def test_a_taken_port_is_said_with_how_to_mend_it(consumer: Consumer) -> None:
    """The start fails with the address and the setting's name."""
    first = Admin(consumer, Metrics(), "127.0.0.1", 0)
    await first.start()
    try:
        with pytest.raises(StartError, match=r"cannot listen on 127\.0\.0\.1.*admin\.port"):
            await Admin(consumer, Metrics(), "127.0.0.1", first.port).start()
    finally:
        await first.stop()
