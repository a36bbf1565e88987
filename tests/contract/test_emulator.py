"""The TikTok emulator over a real socket behaves as TikTok documents its Events API 2.0."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest

from consumer.sandbox.emulator import TRACK_PATH, Running, serve
from consumer.sandbox.faults import Fault, FaultKind, Scenario
from consumer.sandbox.ground_truth import AcceptedEvent
from consumer.sandbox.rules import IndexWording
from consumer.sandbox.tiktok import Access, EmulatorSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PIXEL = "C9ABC1234567890DEFGH"
TOKEN = "made-up-token"
HEADERS = {"Access-Token": TOKEN, "Content-Type": "application/json"}
DIGEST = hashlib.sha256(b"user_123").hexdigest()


@pytest.fixture
async def emulator() -> AsyncIterator[Running]:
    tokens = {TOKEN: Access("app-1", frozenset({PIXEL}))}
    async with serve(EmulatorSettings(tokens=tokens)) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as opened:
        yield opened


def event(event_id: object = "e-1", **more: object) -> dict[str, object]:
    return {
        "event": "CompletePayment",
        "event_time": 1_700_000_000,
        "event_id": event_id,
        "user": {"external_id": DIGEST, "ttclid": "E.C.P.abc"},
        "page": {"url": "https://shop.example.com/thanks"},
        "properties": {"value": 19.0, "currency": "EUR"},
        **more,
    }


def body(*events: object, **envelope: object) -> bytes:
    source = {"event_source": "web", "event_source_id": PIXEL}
    return orjson.dumps({**source, "data": list(events), **envelope})


async def post(session: aiohttp.ClientSession, url: str, payload: bytes) -> dict[str, Any]:
    async with session.post(url, data=payload, headers=HEADERS) as response:
        assert response.status == 200
        answer: dict[str, Any] = orjson.loads(await response.read())
        return answer


async def truth(session: aiohttp.ClientSession, emulator: Running) -> list[AcceptedEvent]:
    async with session.get(f"{emulator.control_url}/events") as response:
        lines = (await response.read()).splitlines()
    return [AcceptedEvent.from_json(orjson.loads(line)) for line in lines]


async def test_the_endpoint_stands_at_tiktoks_own_path(emulator: Running) -> None:
    """Only the host differs from TikTok's, so a configuration needs no other change."""
    assert emulator.url.endswith("/open_api/v1.3/event/track/")


async def test_a_good_batch_is_accepted_and_in_the_truth(
    emulator: Running, session: aiohttp.ClientSession
) -> None:
    """The answer has the documented shape, and its request id leads to the accepted events."""
    answer = await post(session, emulator.url, body(event("a"), event("b")))
    assert set(answer) == {"code", "message", "request_id", "data"}
    assert (answer["code"], answer["data"]) == (0, {})
    accepted = await truth(session, emulator)
    assert [(seen.identity.event_id, seen.accepted) for seen in accepted] == [("a", 1), ("b", 1)]
    assert {seen.request_ids for seen in accepted} == {(answer["request_id"],)}


@pytest.mark.parametrize(
    ("wording", "message"),
    [
        (IndexWording.SPACED, "Invalid value for data. 1 .event_id: not a valid string."),
        (IndexWording.DOTTED, "Invalid value for data.1.event_id: not a valid string."),
        (IndexWording.BATCH, "Batch.1.event_id: Not a valid string"),
        (IndexWording.NONE, "Invalid value for event_id: not a valid string."),
    ],
)
async def test_a_refusal_comes_with_http_200_in_the_wording_asked_for(
    emulator: Running, session: aiohttp.ClientSession, wording: IndexWording, message: str
) -> None:
    """The whole batch is refused with 40002 and nothing of it is taken."""
    emulator.play(Scenario(wording=wording))
    answer = await post(session, emulator.url, body(event("a"), event(273196)))
    assert (answer["code"], answer["message"]) == (40002, message)
    assert await truth(session, emulator) == []


async def test_a_good_neighbour_is_accepted_once_the_bad_event_is_out(
    emulator: Running, session: aiohttp.ClientSession
) -> None:
    """Splitting a refused batch is what the refusal asks for."""
    assert (await post(session, emulator.url, body(event("a"), event(1))))["code"] == 40002
    assert (await post(session, emulator.url, body(event("a"))))["code"] == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", TRACK_PATH.rstrip("/"), 404),
        ("GET", TRACK_PATH, 405),
        ("PUT", TRACK_PATH, 405),
        ("POST", "/open_api/v1.2/event/track/", 404),
    ],
)
async def test_a_wrong_address_gets_a_gateways_page(
    emulator: Running, session: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    """Without the trailing slash, or with another method, no JSON comes back."""
    url = emulator.url.removesuffix(TRACK_PATH) + path
    async with session.request(method, url, data=body(event()), headers=HEADERS) as response:
        assert (response.status, response.content_type) == (status, "text/html")
    assert emulator.truth.summary()["requests"] == 0


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content-Type": "application/json"}, 40104),
        ({**HEADERS, "Access-Token": "another"}, 40105),
        ({**HEADERS, "Access-Token": f"Bearer {TOKEN}"}, 40105),
        ({"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}, 40104),
        ({**HEADERS, "Content-Type": "text/plain"}, 40000),
    ],
)
async def test_wrong_headers_are_refused_in_the_body(
    emulator: Running, session: aiohttp.ClientSession, headers: dict[str, str], code: int
) -> None:
    """The token stands bare in `Access-Token`, and the body is declared as JSON."""
    async with session.post(emulator.url, data=body(event()), headers=headers) as response:
        answer = orjson.loads(await response.read())
    assert (response.status, answer["code"]) == (200, code)


async def test_a_pixel_the_token_may_not_write_is_refused(
    emulator: Running, session: aiohttp.ClientSession
) -> None:
    """40001 means permission, whatever some guides say."""
    answer = await post(session, emulator.url, body(event(), event_source_id="C_OTHER"))
    assert answer["code"] == 40001


async def test_a_throttled_answer_carries_retry_after(
    emulator: Running, session: aiohttp.ClientSession
) -> None:
    """A rate limit answers 200 with its code; the header comes only where it is set."""
    emulator.play(Scenario(app_rate=1, retry_after="2"))
    async with session.post(emulator.url, data=body(event()), headers=HEADERS) as first:
        assert "Retry-After" not in first.headers
    async with session.post(emulator.url, data=body(event("b")), headers=HEADERS) as second:
        assert orjson.loads(await second.read())["code"] == 40100
        assert second.headers["Retry-After"] == "2"


async def test_a_server_error_is_html_with_its_status(
    emulator: Running, session: aiohttp.ClientSession
) -> None:
    """A gateway's 502 has no code and takes nothing."""
    emulator.play(Scenario(faults=(Fault(FaultKind.PAGE, status=502),)))
    async with session.post(emulator.url, data=body(event()), headers=HEADERS) as response:
        assert (response.status, response.content_type) == (502, "text/html")
    assert await truth(session, emulator) == []


@pytest.mark.parametrize(
    ("kind", "taken"), [(FaultKind.CLOSE_BEFORE, 0), (FaultKind.CLOSE_AFTER, 1)]
)
async def test_a_closed_connection_leaves_the_client_guessing(
    emulator: Running, session: aiohttp.ClientSession, kind: FaultKind, taken: int
) -> None:
    """Both look alike to the client; only the truth knows what was taken, and a retry mends it."""
    emulator.play(Scenario(faults=(Fault(kind, times=1),)))
    with pytest.raises(aiohttp.ClientConnectionError):
        await post(session, emulator.url, body(event()))
    assert len(await truth(session, emulator)) == taken
    assert (await post(session, emulator.url, body(event())))["code"] == 0
    (seen,) = await truth(session, emulator)
    assert (seen.accepted, seen.deduplicated) == (1, taken)


@pytest.mark.parametrize(("kind", "taken"), [(FaultKind.HANG, 0), (FaultKind.LATE, 1)])
async def test_no_answer_in_time_is_a_timeout(
    emulator: Running, session: aiohttp.ClientSession, kind: FaultKind, taken: int
) -> None:
    """A hanging request ends with the client's patience, taken or not."""
    emulator.play(Scenario(faults=(Fault(kind, seconds=30),)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await post(session, emulator.url, body(event()))
    assert emulator.truth.events_accepted == taken


async def test_a_hanging_request_does_not_hold_up_the_end() -> None:
    """The emulator stops at once although an answer is still owed."""
    scenario = Scenario(faults=(Fault(FaultKind.HANG, seconds=300),))
    began = time.monotonic()
    async with aiohttp.ClientSession() as session:
        async with serve(EmulatorSettings(scenario=scenario)) as running:
            hanging = asyncio.create_task(post(session, running.url, body(event())))
            async with asyncio.timeout(5):
                while not running.truth.requests_by_fault:  # noqa: ASYNC110  another side's state
                    await asyncio.sleep(0.01)
        with pytest.raises(aiohttp.ClientConnectionError):
            await hanging
    assert time.monotonic() - began < 5


async def test_latency_is_waited_for(emulator: Running, session: aiohttp.ClientSession) -> None:
    """Answers take the time that the scenario says, side by side and not one after the other."""
    emulator.play(Scenario(latency_ms=150))
    began = time.monotonic()
    await asyncio.gather(*(post(session, emulator.url, body(event(str(n)))) for n in range(5)))
    assert 0.15 <= time.monotonic() - began < 0.7


async def test_the_scenario_is_set_and_read_over_http(
    emulator: Running, session: aiohttp.ClientSession
) -> None:
    """A test in another process steers the emulator by JSON."""
    url = f"{emulator.control_url}/scenario"
    scenario = {"wording": "none", "faults": [{"kind": "code", "code": 50000, "times": 1}]}
    async with session.post(url, json=scenario) as response:
        assert response.status == 200
    async with session.get(url) as response:
        shown = await response.json()
    assert (shown["wording"], shown["faults"][0]["code"]) == ("none", 50000)
    codes = [(await post(session, emulator.url, body(event())))["code"] for _ in range(2)]
    assert codes == [50000, 0]


@pytest.mark.parametrize("document", [b"{", b"[]", b'{"wrding": "none"}'])
async def test_a_wrong_scenario_changes_nothing(
    emulator: Running, session: aiohttp.ClientSession, document: bytes
) -> None:
    """HTTP 400 says what is wrong, and the old scenario stays in force."""
    async with session.post(f"{emulator.control_url}/scenario", data=document) as response:
        assert response.status == 400
        assert (await response.json())["error"]
    assert emulator.tiktok.scenario == Scenario()


async def test_totals_and_requests_are_readable_over_http(
    emulator: Running, session: aiohttp.ClientSession
) -> None:
    """Totals count what was asked and taken; the list of requests begins with the newest."""
    await post(session, emulator.url, body(event("a"), event("b")))
    await post(session, emulator.url, body(event("a"), test_event_code="TEST1"))
    await post(session, emulator.url, body(event("a")))
    await post(session, emulator.url, body(event(1)))
    async with session.get(f"{emulator.control_url}/truth") as response:
        summary = await response.json()
    assert summary["requests_by_code"] == {"0": 3, "40002": 1}
    assert summary["batch_sizes"] == {"1": 3, "2": 1}
    assert (summary["events_received"], summary["events_accepted"]) == (5, 3)
    assert summary["events_deduplicated"] == 1
    assert summary["distinct_events_by_destination"] == {PIXEL: 3}
    async with session.get(f"{emulator.control_url}/requests") as response:
        newest, *_, oldest = await response.json()
    assert (newest["code"], newest["events"]) == (40002, 1)
    assert (oldest["accepted"], oldest["test_event_code"]) == (2, None)


async def test_a_long_truth_is_streamed_whole(
    emulator: Running, session: aiohttp.ClientSession
) -> None:
    """More events than fit one write arrive, each once."""
    for batch in range(3):
        names = [event(f"{batch}-{n}") for n in range(1000)]
        await post(session, emulator.url, body(*names))
    accepted = await truth(session, emulator)
    assert len({seen.identity for seen in accepted}) == len(accepted) == 3000


def test_the_command_runs_until_sigterm_and_sums_up(tmp_path: Path) -> None:
    """Its files count, its printed request is accepted, and SIGTERM ends it with a summary."""
    scenario, tokens = tmp_path / "scenario.json", tmp_path / "tokens.json"
    scenario.write_text('{"faults": [{"kind": "code", "code": 50000, "times": 1}]}')
    tokens.write_bytes(orjson.dumps({TOKEN: {"app": "shop", "event_source_ids": [PIXEL]}}))
    command = ["emulator", "--port", "0", "--scenario", str(scenario), "--tokens", str(tokens)]
    with subprocess.Popen(
        [sys.executable, "-u", "-c", "from consumer.cli import main; main()", *command],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    ) as process:
        try:
            assert process.stdout is not None
            example = next(line for line in process.stdout if line.startswith("curl"))
            url, payload = re.findall(r"http://\S+|\{.*\}", example)
            codes = [asyncio.run(_send(url, payload.encode()))["code"] for _ in range(2)]
            process.send_signal(signal.SIGTERM)
            summary = process.stdout.read()
            assert process.wait(10) == 0
        finally:
            process.kill()
    assert codes == [50000, 0]
    assert json.loads(payload)["event_source_id"] == PIXEL
    assert re.search(r"requests +2\n", summary)
    assert re.search(r"code 50000 +1  System error", summary)
    assert re.search(r"counted +1\n", summary)
    assert TOKEN not in example + summary


async def _send(url: str, payload: bytes) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session:
        return await post(session, url, payload)
