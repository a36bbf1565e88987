"""TikTok's documented answers and limits, row by row, from the emulator over a real socket.

Every test id names the section of the Events API reference that its row belongs to: 6 limits,
7 answers. What the consumer makes of each answer is checked beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from consumer.event import Instant
from consumer.sandbox.faults import Fault, FaultKind, Scenario, ThrottleForm
from consumer.sandbox.rules import IndexWording
from consumer.sandbox.tiktok import Ask, EmulatorSettings, TikTok
from consumer.verdict import Answer, Kind, judge
from tests.support.api_endpoint import TOKEN, Endpoint, endpoint
from tests.support.api_examples import EVENT_SOURCE_ID, EVENTS, changed, request

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD = request("web", changed("web"))


@pytest.fixture(scope="module")
def _endpoint() -> Iterator[Endpoint]:
    with endpoint() as opened:
        yield opened


@pytest.fixture
def tiktok(_endpoint: Endpoint) -> Endpoint:
    _endpoint.emulator.play(Scenario())
    return _endpoint


WORDINGS = [
    ("spaced", "event_id", 1, "Invalid value for data. 1 .event_id: not a valid string."),
    ("dotted", "event_id", 1, "Invalid value for data.1.event_id: not a valid string."),
    ("none", "event_id", 1, "Invalid value for event_id: not a valid string."),
    (
        "batch",
        "properties.contents.0.content_id",
        1,
        "Batch.1.properties.contents.0.content_id: Not a valid string",
    ),
]


@pytest.mark.parametrize(
    ("wording", "path", "value", "message"),
    [pytest.param(*row, id=f"7 wording {row[0]}") for row in WORDINGS],
)
def test_a_refusal_reads_letter_by_letter_as_documented(
    tiktok: Endpoint, wording: str, path: str, value: object, message: str
) -> None:
    """One bad event fails its batch, and the consumer finds it where the message names it."""
    tiktok.emulator.play(Scenario(wording=IndexWording(wording)))
    body = request("web", changed("web"), changed("web", path, value))
    said = tiktok.send(body)
    assert said.document is not None
    assert (said.document["code"], said.document["message"]) == (40002, message)
    blamed = judge(Answer(said.status, said.body), 2).blame
    assert (blamed.event, blamed.envelope) == (None if wording == "none" else 1, False)


def test_7_an_answer_has_four_keys(tiktok: Endpoint) -> None:
    """Code, message, request id and data, whether taken or refused."""
    for body in (GOOD, request("web", {})):
        said = tiktok.send(body)
        assert said.document is not None
        kinds = {name: type(value) for name, value in said.document.items()}
        assert kinds == {"code": int, "message": str, "request_id": str, "data": dict}


CODES: dict[Kind, tuple[int, ...]] = {
    Kind.ACCEPTED: (0, 20001, 40050, 40900),
    Kind.REJECTED: (40002, 40000, 40061, 40062, 40063, 40700),
    Kind.THROTTLED: (40100, 40016, 40133, 61000, 40132),
    Kind.RETRY: (40202, 50000, 50002, 51010, 52000, 53999, 60001),
    Kind.HELD: (
        *(40001, 40003, 40113, 40124, 40125, 40130, 40051, 40300, 40301, 41000, 41001, 41002),
        *range(40101, 40107),
        *range(40115, 40120),
        *range(40006, 40011),
    ),
}
"""What to do with each code of the table."""


@pytest.mark.parametrize(
    ("code", "kind"),
    [pytest.param(code, kind, id=f"7 {code}") for kind, listed in CODES.items() for code in listed],
)
def test_every_code_can_be_had_and_is_understood(tiktok: Endpoint, code: int, kind: Kind) -> None:
    """HTTP 200 with the code in the body; the events are TikTok's only where the code says so."""
    before = tiktok.emulator.events_accepted
    tiktok.emulator.play(Scenario(faults=(Fault(FaultKind.CODE, code=code),)))
    said = tiktok.send(request("web", changed("web", "event_id", f"of code {code}")))
    assert said.document is not None
    assert (said.status, said.document["code"]) == (200, code)
    assert said.document["message"]
    assert judge(Answer(said.status, said.body), 1).kind is kind
    taken = tiktok.emulator.events_accepted - before
    assert taken == (1 if kind is Kind.ACCEPTED else 0)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        pytest.param(status, kind, id=f"7 HTTP {status}")
        for status, kind in (
            (200, Kind.RETRY),
            (401, Kind.HELD),
            (403, Kind.HELD),
            (429, Kind.THROTTLED),
            (500, Kind.RETRY),
            (502, Kind.RETRY),
            (503, Kind.RETRY),
            (504, Kind.RETRY),
        )
    ],
)
def test_a_gateways_page_has_a_status_and_no_code(
    tiktok: Endpoint, status: int, kind: Kind
) -> None:
    """Only then does the status speak."""
    tiktok.emulator.play(Scenario(faults=(Fault(FaultKind.PAGE, status=status),)))
    said = tiktok.send(GOOD)
    assert (said.status, said.document) == (status, None)
    assert judge(Answer(said.status, said.body), 1).kind is kind


@pytest.mark.parametrize(
    ("limits", "codes"),
    [
        pytest.param({"app_rate": 2}, [0, 0, 40100], id="7 40100"),
        pytest.param({"pixel_rate": 2}, [0, 0, 40132], id="7 40132"),
        pytest.param({"pixel_rates": {EVENT_SOURCE_ID: 1}}, [0, 40132, 40132], id="7 40132 of one"),
        pytest.param({"app_rate": 1, "pixel_rate": 2}, [0, 40100, 40100], id="7 both"),
    ],
)
def test_too_many_requests_are_throttled(
    tiktok: Endpoint, limits: dict[str, Any], codes: list[int]
) -> None:
    """What is refused was the number of requests and not what was in them."""
    tiktok.emulator.play(Scenario(burst_seconds=1, **limits))
    assert [tiktok.code(GOOD) for _ in codes] == codes


@pytest.mark.parametrize(
    ("form", "status"),
    [
        pytest.param(ThrottleForm.STATUS, 429, id="7 HTTP 429 with code"),
        pytest.param(ThrottleForm.PAGE, 429, id="7 HTTP 429 without code"),
    ],
)
def test_a_real_429_may_look_either_way(tiktok: Endpoint, form: ThrottleForm, status: int) -> None:
    """Nobody documents one, so both are there to be tried."""
    tiktok.emulator.play(Scenario(pixel_rate=0, throttle_form=form, retry_after="3"))
    said = tiktok.send(GOOD)
    assert (said.status, said.retry_after) == (status, "3")
    assert judge(Answer(said.status, said.body), 1).kind is Kind.THROTTLED


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        pytest.param({}, "None", id="6 no Retry-After"),
        pytest.param({"retry_after": "7"}, "7", id="6 Retry-After in seconds"),
        pytest.param({"retry_after": "7", "retry_after_date": True}, "GMT", id="6 as a date"),
    ],
)
def test_retry_after_has_two_forms_or_none(
    tiktok: Endpoint, options: dict[str, Any], shape: str
) -> None:
    """None is documented; a client honours what comes."""
    tiktok.emulator.play(Scenario(pixel_rate=0, **options))
    assert str(tiktok.send(GOOD).retry_after).endswith(shape)


def test_7_an_expired_token_is_refused_until_it_is_renewed(tiktok: Endpoint) -> None:
    """40102 and not 40100; the events that waited are taken afterwards."""
    tiktok.emulator.play(Scenario(expired_tokens=frozenset({TOKEN})))
    assert tiktok.code(GOOD) == 40102
    tiktok.emulator.play(Scenario())
    assert tiktok.code(GOOD) == 0


@pytest.mark.parametrize(
    ("hours", "part", "value", "counted"),
    [
        pytest.param(47.9, "", None, 1, id="6 repeat within 48 h is dropped"),
        pytest.param(48.0, "", None, 2, id="6 repeat after 48 h counts twice"),
        pytest.param(0.1, "event_id", "e-2", 2, id="6 another event_id"),
        pytest.param(0.1, "event", "ViewContent", 2, id="6 another event"),
        pytest.param(0.1, "event_source_id", "C_OTHER", 2, id="6 another event_source_id"),
        pytest.param(0.1, "test_event_code", "TEST1", 2, id="6 a test event"),
        pytest.param(0.1, "event_time", 1_700_000_009, 1, id="6 event_time is no part"),
    ],
)
def test_the_deduplication_key_and_its_window(
    hours: float, part: str, value: object, counted: int
) -> None:
    """The key is event_source_id, event and event_id, for 48 hours from the first."""
    tiktok = TikTok(EmulatorSettings(), Instant(0.0, 0))
    second = request("web", {**changed("web"), **({part: value} if part in EVENTS["web"] else {})})
    if part not in EVENTS["web"] and part:
        second[part] = value
    for seconds, body in ((0.0, GOOD), (hours * 3600, second)):
        reply = tiktok.answer(Ask(orjson.dumps(body), "any"), Instant(seconds, int(seconds * 1e9)))
        assert reply.code == 0
    assert tiktok.truth.events_accepted == counted
