"""The emulator is steered and read over HTTP, so that a test in any language can use it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest

from consumer.sandbox.emulator import Running, serve
from consumer.sandbox.faults import FaultKind
from consumer.sandbox.tiktok import EmulatorSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PIXEL, OTHER = "C9ABC1234567890DEFGH", "C9OTHER"
HEADERS = {"Access-Token": "made-up-token", "Content-Type": "application/json"}
DIGEST = hashlib.sha256(b"user_123").hexdigest()


@pytest.fixture
async def emulator() -> AsyncIterator[Running]:
    async with serve(EmulatorSettings()) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as opened:
        yield opened


class Steered:
    """An emulator as somebody sees it who has only HTTP."""

    def __init__(self, emulator: Running, session: aiohttp.ClientSession) -> None:
        self._emulator = emulator
        self._session = session

    async def send(self, *event_ids: str, to: str = PIXEL, **envelope: object) -> dict[str, Any]:
        """Sends good events to the endpoint; the answer."""
        data = [
            {
                "event": "CompletePayment",
                "event_time": 1_700_000_000,
                "event_id": event_id,
                "user": {"external_id": DIGEST},
                "page": {"url": "https://shop.example.com/thanks"},
            }
            for event_id in event_ids or ("e-1",)
        ]
        body = {"event_source": "web", "event_source_id": to, "data": data, **envelope}
        url = self._emulator.url
        async with self._session.post(url, data=orjson.dumps(body), headers=HEADERS) as response:
            answer: dict[str, Any] = orjson.loads(await response.read())
            return answer

    async def control(self, method: str, path: str, document: object = None) -> tuple[int, Any]:
        """Asks the control; status and JSON, of NDJSON a list."""
        body = None if document is None else orjson.dumps(document)
        url = f"{self._emulator.control_url}/{path}"
        async with self._session.request(method, url, data=body) as response:
            content = await response.read()
            if response.content_type == "application/x-ndjson":
                return response.status, [orjson.loads(line) for line in content.splitlines()]
            return response.status, orjson.loads(content)

    async def told(self, method: str, path: str, document: object = None) -> Any:
        """What the control answers where all is well."""
        status, answer = await self.control(method, path, document)
        assert status == 200, answer
        return answer


@pytest.fixture
def steered(emulator: Running, session: aiohttp.ClientSession) -> Steered:
    return Steered(emulator, session)


async def test_a_fault_is_added_shown_and_taken_away(steered: Steered) -> None:
    """One more fault for one pixel, without a word about the rest of the scenario."""
    await steered.told("POST", "scenario", {"latency_ms": 1, "wording": "none"})
    await steered.told("POST", "faults", {"kind": "code", "code": 40132, "event_source_id": OTHER})
    codes = [(await steered.send(to=to))["code"] for to in (PIXEL, OTHER)]
    assert codes == [0, 40132]
    (fault,) = await steered.told("GET", "faults")
    assert (fault["code"], fault["struck"], fault["left"]) == (40132, 1, None)
    assert await steered.told("DELETE", "faults") == []
    assert (await steered.send(to=OTHER))["code"] == 0
    assert (await steered.told("GET", "scenario"))["wording"] == "none"


async def test_several_faults_are_added_at_once(steered: Steered) -> None:
    """A script comes as a list and plays in its order."""
    script = [{"kind": "code", "code": code, "times": 1} for code in (50000, 40100)]
    assert [each["left"] for each in await steered.told("POST", "faults", script)] == [1, 1]
    assert [(await steered.send())["code"] for _ in range(3)] == [50000, 40100, 0]


async def test_a_part_of_the_scenario_is_changed(steered: Steered) -> None:
    """A token expires and is renewed while a script of faults goes on where it was."""
    await steered.told("POST", "faults", {"kind": "code", "code": 50000, "times": 2})
    assert (await steered.send())["code"] == 50000
    await steered.told("PATCH", "scenario", {"expired_tokens": ["made-up-token"]})
    assert (await steered.send())["code"] == 50000
    assert (await steered.send())["code"] == 40102
    await steered.told("PATCH", "scenario", {"expired_tokens": []})
    assert (await steered.send())["code"] == 0


async def test_all_is_well_again_after_a_scenario_is_deleted(steered: Steered) -> None:
    """The way back is one request."""
    await steered.told("POST", "scenario", {"faults": [{"kind": "code"}], "pixel_rate": 0})
    assert (await steered.send())["code"] == 50000
    assert (await steered.told("DELETE", "scenario"))["faults"] == []
    assert (await steered.send())["code"] == 0


async def test_the_truth_is_asked_for_one_event(steered: Steered) -> None:
    """Filters go by destination, name, id and test code, and by how often an event counted."""
    answer = await steered.send("a", "b")
    await steered.send("a", to=OTHER)
    await steered.send("a", test_event_code="TEST1")
    (event,) = await steered.told("GET", f"events?event_source_id={PIXEL}&event_id=b")
    assert (event["accepted"], event["request_ids"]) == (1, [answer["request_id"]])
    assert len(await steered.told("GET", "events?event_id=a")) == 3
    assert len(await steered.told("GET", "events?event_id=a&test_event_code=")) == 2
    assert len(await steered.told("GET", "events?test_event_code=TEST1")) == 1
    assert await steered.told("GET", "events?accepted_at_least=2") == []
    assert await steered.told("GET", "events?event=Purchase") == []


async def test_requests_are_asked_for_by_what_became_of_them(steered: Steered) -> None:
    """Code, fault, destination and time, newest first."""
    await steered.send("a", "b")
    await steered.told("POST", "faults", {"kind": "page", "status": 502, "times": 1})
    with pytest.raises(orjson.JSONDecodeError):
        await steered.send(to=OTHER)
    await steered.send("c")
    requests = await steered.told("GET", "requests")
    assert [seen["code"] for seen in requests] == [0, None, 0]
    assert [seen["status"] for seen in requests] == [200, 502, 200]
    assert [seen["events"] for seen in requests] == [1, 1, 2]
    assert requests[2]["body_bytes"] > requests[0]["body_bytes"]
    for query, found in (
        ("code=0", 2),
        ("code=none", 1),
        ("fault=page", 1),
        (f"event_source_id={OTHER}", 1),
        (f"since={requests[1]['at']}", 2),
        ("limit=1", 1),
        ("limit=0", 0),
    ):
        assert len(await steered.told("GET", f"requests?{query}")) == found, query


async def test_test_events_are_listed_and_leave_the_real_ones_alone(steered: Steered) -> None:
    """A test event is seen as it came, and the real one of the same id still counts."""
    await steered.send("a", test_event_code="TEST1")
    await steered.send("b", test_event_code="TEST2")
    await steered.send("a")
    newest, oldest = await steered.told("GET", "test-events")
    assert (newest["event"]["event_id"], oldest["event"]["event_id"]) == ("b", "a")
    assert oldest["event"]["user"] == {"external_id": DIGEST}
    (only,) = await steered.told("GET", "test-events?test_event_code=TEST1")
    assert only == oldest
    assert len(await steered.told("GET", "test-events?limit=1")) == 1
    totals = await steered.told("GET", "truth")
    assert (totals["test_events_accepted"], totals["events_deduplicated"]) == (2, 0)


@pytest.mark.parametrize("kind", FaultKind)
async def test_the_truth_tells_which_faults_struck(
    steered: Steered, emulator: Running, session: aiohttp.ClientSession, kind: FaultKind
) -> None:
    """It stays readable after each kind of fault, also where the client got no answer."""
    fault = {"kind": kind, "times": 1, "seconds": 0}
    await steered.told("POST", "faults", fault)
    with contextlib.suppress(aiohttp.ClientError):
        async with session.post(emulator.url, data=b"{}") as response:
            await response.read()
    assert (await steered.told("GET", "truth"))["requests_by_fault"] == {kind.value: 1}


async def test_the_truth_is_reset(steered: Steered) -> None:
    """One emulator serves one test after the other; the scenario stays."""
    await steered.told("POST", "scenario", {"wording": "batch"})
    before = await steered.send("a")
    assert (await steered.told("DELETE", "truth"))["requests"] == 0
    assert await steered.told("GET", "events") == []
    assert await steered.told("GET", "requests") == []
    after = await steered.send("a")
    assert after["request_id"] != before["request_id"]
    (event,) = await steered.told("GET", "events")
    assert (event["accepted"], event["deduplicated"]) == (1, 0)
    assert (await steered.told("GET", "scenario"))["wording"] == "batch"


@pytest.mark.parametrize(
    ("method", "path", "document", "told"),
    [
        ("POST", "scenario", {"wrding": "none"}, "scenario.wrding: unknown key"),
        ("PATCH", "scenario", {"pixel_rates": {"C9": "5"}}, "scenario.pixel_rates: numbers"),
        ("PATCH", "scenario", {"retry_after_date": True}, "retry_after: must be whole seconds"),
        ("POST", "faults", {"kind": "fire"}, "faults[0].kind: must be one of"),
        ("POST", "faults", [{"kind": "code"}, 5], "faults[1]: an object is expected"),
        ("GET", "events?pixel=C9", None, "pixel: unknown parameter"),
        ("GET", "events?accepted_at_least=two", None, "accepted_at_least: 'two'"),
        ("GET", "requests?limit=-1", None, "limit: must not be negative"),
        ("GET", "requests?code=fine", None, "code: 'fine'"),
    ],
)
async def test_a_mistake_is_a_sentence_and_changes_nothing(
    steered: Steered, method: str, path: str, document: object, told: str
) -> None:
    """A typing error must not silently test nothing, nor ask for everything."""
    before = await steered.told("GET", "scenario")
    status, answer = await steered.control(method, path, document)
    assert status == 400
    assert answer["error"].startswith(told)
    assert await steered.told("GET", "scenario") == before


async def test_broken_json_is_a_sentence(emulator: Running, session: aiohttp.ClientSession) -> None:
    """Whoever writes JSON by hand learns where it broke."""
    for method, path in (("POST", "scenario"), ("PATCH", "scenario"), ("POST", "faults")):
        url = f"{emulator.control_url}/{path}"
        async with session.request(method, url, data=b"{") as response:
            assert response.status == 400
            assert (await response.json())["error"].startswith("no JSON: ")


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "fault"), ("PUT", "scenario")])
async def test_an_unknown_control_lists_the_known_ones(
    steered: Steered, method: str, path: str
) -> None:
    """Nobody has to look into the source for the way."""
    status, answer = await steered.control(method, path)
    assert status == 404
    assert "POST /_emulator/faults" in answer["known"]


async def test_an_answer_cut_short_is_no_answer(steered: Steered, emulator: Running) -> None:
    """The head comes and half the body; the events are taken all the same, and a retry is well."""
    await steered.told("POST", "faults", {"kind": "cut", "times": 1})
    with pytest.raises(aiohttp.ClientPayloadError):
        await steered.send("a")
    assert emulator.truth.events_accepted == 1
    assert (await steered.send("a"))["code"] == 0
    newest, cut = await steered.told("GET", "requests")
    assert (cut["fault"], cut["code"], cut["accepted"]) == ("cut", None, 1)
    assert newest["deduplicated"] == 1


async def test_reading_a_long_truth_does_not_hold_up_the_endpoint(
    steered: Steered, emulator: Running, session: aiohttp.ClientSession
) -> None:
    """While a hundred thousand events go out, no request waits for more than a part of them."""
    for batch in range(100):
        events = [{"event": "A", "event_id": f"{batch}-{n}"} for n in range(1000)]
        emulator.truth.accept(emulator.truth.begin(0), PIXEL, None, events)

    async def read() -> int:
        async with session.get(f"{emulator.control_url}/events?event=A") as response:
            return sum([chunk.count(b"\n") async for chunk in response.content.iter_any()])

    began = time.monotonic()
    reading = asyncio.create_task(read())
    waits: list[float] = []
    while not reading.done():
        asked = time.monotonic()
        assert (await steered.send(str(len(waits))))["code"] == 0
        waits.append(time.monotonic() - asked)
    assert await reading == 100_000
    assert max(waits) < 0.5 * (time.monotonic() - began)
