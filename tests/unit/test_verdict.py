"""What TikTok's answers mean, row by row: the body's code first, the HTTP status without one."""

from __future__ import annotations

import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.verdict import (
    CODES,
    Answer,
    Blame,
    Failure,
    Kind,
    Rule,
    Scope,
    Verdict,
    blame,
    judge,
    rule_for_code,
)
from tests.support.world import code

PIXEL, APP = Scope.PIXEL, Scope.APP

TABLE: list[tuple[str, list[int], Kind, Scope, bool]] = [
    ("ok", [0], Kind.ACCEPTED, PIXEL, False),
    ("partially successful", [20001], Kind.ACCEPTED, PIXEL, False),
    ("bad parameters", [40002, 40000, *range(40061, 40064), 40700], Kind.REJECTED, PIXEL, False),
    ("too many requests", [40100, 40016, 40133, 61000], Kind.THROTTLED, APP, False),
    ("too many for a pixel", [40132], Kind.THROTTLED, PIXEL, False),
    ("TikTok's side", [40202, 50000, 50002, 51000, 52123, 53999], Kind.RETRY, PIXEL, True),
    ("maintenance", [60001], Kind.RETRY, PIXEL, False),
    ("no permission for this pixel", [40001], Kind.HELD, PIXEL, False),
    (
        "token or app",
        [*range(40101, 40107), 40113, *range(40115, 40120), 40124, 40125, 40130, 40003],
        Kind.HELD,
        APP,
        False,
    ),
    (
        "set-up",
        [*range(40006, 40011), 40051, 40300, 40301, *range(41000, 41003)],
        Kind.HELD,
        PIXEL,
        False,
    ),
    ("already there", [40050, 40900], Kind.ACCEPTED, PIXEL, False),
    ("an unknown token code", [40199], Kind.HELD, APP, False),
    ("an unknown client code", [40999, 49999], Kind.HELD, PIXEL, False),
    ("a code of no class", [1, -1, 99999, 2**62], Kind.RETRY, PIXEL, True),
]
"""What a row says, its codes, the verdict, whom it reaches, whether TikTok may have the events."""

ROWS = [
    pytest.param(number, kind, scope, unknown, id=f"{number} {meaning}")
    for meaning, codes, kind, scope, unknown in TABLE
    for number in codes
]


@pytest.mark.parametrize(("number", "kind", "scope", "unknown"), ROWS)
@pytest.mark.parametrize("status", [200, 401, 500])
def test_the_bodys_code_decides_whatever_the_status(
    *, status: int, number: int, kind: Kind, scope: Scope, unknown: bool
) -> None:
    """TikTok says HTTP 200 to most errors, and the code counts with any other status, too."""
    verdict = judge(code(number, "message", "req-1", status), 1)
    assert (verdict.kind, verdict.rule.scope) == (kind, scope)
    assert verdict.rule.unknown is unknown
    assert (verdict.code, verdict.http_status) == (number, status)
    assert (verdict.request_id, verdict.message) == ("req-1", "message")
    assert verdict.cause == str(number)
    assert verdict.rule.why


def test_every_row_of_the_table_is_named_here() -> None:
    """A code that is added to the program has to be added to this list with what it means."""
    named = {number for _, codes, *_ in TABLE for number in codes}
    assert CODES.keys() <= named


def test_what_needs_a_person_alerts() -> None:
    """Tokens, permissions, set-up, leaked tokens and partial success ask for somebody."""
    alerting = {number for number, rule in CODES.items() if rule.alert}
    held = {number for number, rule in CODES.items() if rule.kind is Kind.HELD}
    assert alerting == held | {20001, 40132}
    assert rule_for_code(12345).alert
    assert not rule_for_code(51234).alert


def test_maintenance_pauses_for_long() -> None:
    """60001 says that there is no use in coming back soon."""
    assert rule_for_code(60001).pause >= 60.0


@pytest.mark.parametrize(
    ("status", "kind", "scope", "unknown", "alert"),
    [
        (200, Kind.RETRY, PIXEL, True, False),
        (204, Kind.RETRY, PIXEL, True, False),
        (302, Kind.RETRY, PIXEL, True, True),
        (400, Kind.RETRY, PIXEL, True, True),
        (401, Kind.HELD, APP, False, True),
        (403, Kind.HELD, APP, False, True),
        (404, Kind.RETRY, PIXEL, True, True),
        (413, Kind.REJECTED, PIXEL, False, False),
        (429, Kind.THROTTLED, APP, False, False),
        (500, Kind.RETRY, PIXEL, True, False),
        (503, Kind.RETRY, PIXEL, True, False),
        (599, Kind.RETRY, PIXEL, True, False),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>Bad Gateway</html>", id="html"),
        pytest.param(b'{"message": "no code"}', id="no code"),
        pytest.param(b'{"code": "0"}', id="a code in quotes"),
        pytest.param(b'{"code": true}', id="a boolean"),
        pytest.param(b'{"code": 0.0}', id="a fraction"),
        pytest.param(b'{"code": null}', id="null"),
        pytest.param(b"[0]", id="a list"),
        pytest.param(b'{"code": 99999999999999999999999}', id="a number beyond all codes"),
        pytest.param(b'{"code": 9223372036854775808}', id="a number that no receipt can hold"),
        pytest.param(b"[" * 5000, id="deeply nested"),
        pytest.param(b'{"code": 0', id="cut off"),
    ],
)
def test_without_a_code_the_status_decides(
    *, body: bytes, status: int, kind: Kind, scope: Scope, unknown: bool, alert: bool
) -> None:
    """A gateway's page blames no event; an unreadable success may have been one."""
    verdict = judge(Answer(status, body, "17"), 3)
    assert (verdict.kind, verdict.rule.scope) == (kind, scope)
    assert (verdict.rule.unknown, verdict.rule.alert) == (unknown, alert)
    assert verdict.code is None
    assert verdict.cause == f"http_{status}"
    assert verdict.retry_after == "17"
    assert verdict.blame == Blame()


@pytest.mark.parametrize(
    ("failure", "unknown"), [("timeout", True), ("connection", True), ("not_sent", False)]
)
def test_without_an_answer_it_counts_whether_anything_was_sent(
    *, failure: Failure, unknown: bool
) -> None:
    """A broken connection leaves open what TikTok did; one that never was does not."""
    verdict = judge(Answer(None, b"", None, failure), 3)
    assert (verdict.kind, verdict.rule.unknown) == (Kind.RETRY, unknown)
    assert (verdict.failure, verdict.cause) == (failure, failure)


WORDINGS = [
    pytest.param("Invalid value for data. 1 .event_id: not a valid string.", 1, "event_id"),
    pytest.param("Invalid value for data.1.event_id: not a valid string.", 1, "event_id"),
    pytest.param("Invalid value for data . 1 . event_id : not valid", 1, "event_id"),
    pytest.param("Invalid value for data[1].user.email: not a hash", 1, "user.email"),
    pytest.param("data.0.user. ip: invalid", 0, "user.ip"),
    pytest.param("data.2: not an object", 2, None),
    pytest.param(
        "Batch.0.properties.contents.0.content_id: Not a valid string",
        0,
        "properties.contents.0.content_id",
    ),
    pytest.param("batch.11.page.url: missing", 11, "page.url"),
    pytest.param("DATA.1.EVENT: x", 1, "EVENT"),
    pytest.param("Invalid  value for\tdata.\n1.event_id\u00a0: x", 1, "event_id"),
    pytest.param("Invalid value for event_id: not a valid string.", None, "event_id"),
    pytest.param("Invalid value for properties.value : x", None, "properties.value"),
    pytest.param("Invalid value for data.12.event_id: x", None, "event_id"),
    pytest.param("Invalid value for data.999999.event_id: x", None, "event_id"),
    pytest.param("Invalid value for data.9999999.event_id: x", None, None),
    pytest.param("Invalid value for data.-1.event_id: x", None, None),
    pytest.param("Something is wrong", None, None),
    pytest.param("metadata.1.x: no", None, None),
    pytest.param("", None, None),
    pytest.param(None, None, None),
]


@pytest.mark.parametrize(("message", "event", "field"), WORDINGS)
def test_whom_a_rejection_blames(message: str | None, event: int | None, field: str | None) -> None:
    """Every wording that is known, against a request of twelve events; others blame nobody."""
    found = blame(message, 12)
    assert not found.envelope
    assert found.event == event
    if field is not None:
        assert found.field == field


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("properties.gift_for_alice", "properties"),
        ("properties.contents.0.alice", "properties.contents.0"),
        ("alice_abbott", None),
        ("alice.email", None),
        ("user.email.2133734253", "user.email"),
    ],
)
def test_a_field_is_named_as_far_as_the_api_names_it(path: str, field: str | None) -> None:
    """What follows may be a custom property's name or a quoted value: it goes no further."""
    assert blame(f"Invalid value for data.1.{path}: not valid.", 5) == Blame(1, field)
    assert blame(f"Invalid value for {path}: not valid.", 5) == Blame(None, field)


@pytest.mark.parametrize(
    "name", ["event_source", "event_source_id", "test_event_code", "access_token"]
)
def test_an_envelope_error_blames_the_request(name: str) -> None:
    """No event of it is at fault, so nobody is dead-lettered by index or bisection."""
    assert blame(f"Invalid value for {name}: not valid.", 5) == Blame(None, name, envelope=True)
    assert not blame(f"Invalid value for data.1.{name}: not valid.", 5).envelope


@given(st.binary(max_size=200), st.integers(0, 999) | st.none(), st.integers(1, 1000))
def test_no_bytes_make_the_judge_fail(body: bytes, status: int | None, events: int) -> None:
    """Whatever comes back has a verdict, and none of it accepts events without a code."""
    verdict = judge(Answer(status, body), events)
    assert isinstance(verdict, Verdict)
    if verdict.code is None:
        assert verdict.kind is not Kind.ACCEPTED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    number=st.sampled_from([*CODES, 20001, 40002]) | JSON,
    message=st.text() | st.from_regex(r"(Invalid value for )?data\. ?\d+ ?\.[\w. ]*:.*") | JSON,
    data=JSON,
    request_id=JSON,
    events=st.integers(1, 1000),
)
def test_no_json_makes_the_judge_fail(
    number: object, message: object, data: object, request_id: object, events: int
) -> None:
    """Right fields with wrong types: still a verdict, and blame within the request."""
    body = {"code": number, "message": message, "request_id": request_id, "data": data}
    verdict = judge(Answer(200, orjson.dumps(body)), events)
    assert isinstance(verdict.rule, Rule)
    assert verdict.blame.event is None or 0 <= verdict.blame.event < events
    assert verdict.request_id is None or len(verdict.request_id) <= 128


@pytest.mark.parametrize(
    "message",
    [
        "data.0" + " " * 100_000 + "!",
        "data.0 " + "a " * 100_000 + "!",
        "data. " * 50_000,
        "Invalid value for " * 20_000,
        "Invalid value for a" + " " * 100_000 + "!",
        "Batch." + "1" * 100_000,
    ],
)
def test_no_message_holds_the_judge_up(message: str) -> None:
    """A message may quote a value that somebody made for it: reading it takes no time."""
    began = time.perf_counter()
    blame(message, 1000)
    assert time.perf_counter() - began < 0.2


@pytest.mark.parametrize(
    ("data", "failed"),
    [
        ({"failed_events": [{"index": 2}, {"index": 0}]}, (2, 0)),
        ({"events": [{"event_id": "a"}, {"event_id": "7"}]}, ("a", "7")),
        ({"events": [{"index": 1, "event_id": "a"}]}, (1,)),
        ({"events": [{"index": "1", "event_id": "a"}]}, ("a",)),
        ({"events": [{"event_id": 1}]}, ()),
        ({"events": [{"index": True}]}, ()),
        ({"events": "none", "more": [1, None, "x"]}, ()),
        ({}, ()),
        (None, ()),
        ([{"index": 1}], ()),
    ],
)
def test_a_partial_success_may_name_failed_events(
    data: object, failed: tuple[int | str, ...]
) -> None:
    """By index or by event_id, and an event_id that looks like a number is no index."""
    body = {"code": 20001, "message": "partial", "request_id": "r", "data": data}
    verdict = judge(Answer(200, orjson.dumps(body)), 5)
    assert verdict.rule.partial
    assert verdict.failed == failed


def test_a_request_id_that_is_no_id_is_left_out() -> None:
    """It goes into headers and logs: printable text, not too long."""
    assert judge(code(0, "OK", "r\n: x"), 1).request_id is None
    assert judge(code(0, "OK", "r" * 500), 1).request_id == "r" * 128


@pytest.mark.parametrize("field", ["event_source", "event_source_id"])
def test_a_missing_envelope_field_blames_the_request_in_any_wording(field: str) -> None:
    """No event can mend it, so none is blamed; a quoted value cannot pretend to be it."""
    for words in ("Missing data for required field: ", "Unknown value in request: "):
        assert blame(f"{words}{field}", 10) == Blame(None, field, envelope=True)
    assert not blame(f"Unknown value: 'x: {field}'", 10).envelope
    assert not blame(f"Invalid value for user.email: {field}", 10).envelope


@pytest.mark.parametrize("field", ["event_source", "event_source_id", "access_token"])
@pytest.mark.parametrize(
    "message",
    [
        "{}: Missing data for required field.",
        "{}: Must be one of: web, app, offline, crm.",
        "{} is required",
        "The {} is invalid.",
        "Invalid {}.",
        "Invalid parameter '{}': no such pixel",
        "Missing data for required field {}.",
    ],
)
def test_an_envelope_field_that_leads_the_message_blames_the_request(
    message: str, field: str
) -> None:
    """Splitting would dead-letter every event for a setting of the destination."""
    assert blame(message.format(field), 10) == Blame(None, field, envelope=True)


@pytest.mark.parametrize(
    "message",
    [
        "event_source_identity: not valid",
        "event_source.custom: not valid",
        "Invalid value for properties.event_source_id: not valid",
        "Unknown event event_source_id in this request",
        "properties: unknown field event_source_id",
        "data.0.event_source_id: unknown field",
    ],
)
def test_an_envelope_field_further_on_may_be_an_events_own_word(message: str) -> None:
    """Whoever names an event or a property must not get to hold the destination."""
    assert not blame(message, 10).envelope
