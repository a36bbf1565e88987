"""TikTok's documented demands on a request, row by row, against the emulator over a real socket.

Every test id begins with the section of the Events API reference that its row belongs to: 1 the
request, 2 the user, 3 what is hashed, 4 properties, 5 event names, 6 limits, 8 where widespread
guides are wrong. A rule that no request can show has no row.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from consumer.sandbox.faults import Scenario
from consumer.sandbox.rules import IndexWording
from consumer.verdict import Answer, judge
from tests.support.api_endpoint import FOREIGN_TOKEN, HEADERS, TOKEN, Endpoint, endpoint
from tests.support.api_examples import (
    DIGEST,
    EVENT_SOURCE_ID,
    EVENTS,
    LEFT_OUT,
    changed,
    request,
)
from tests.support.api_rows import (
    EVENT_ROWS,
    NAME_ROWS,
    PROPERTY_ROWS,
    SOURCES,
    TAKEN,
    USER_ROWS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.api_rows import Row

GOOD = request("web", changed("web"))


@pytest.fixture(scope="module")
def _endpoint() -> Iterator[Endpoint]:
    with endpoint() as opened:
        yield opened


@pytest.fixture
def tiktok(_endpoint: Endpoint) -> Endpoint:
    _endpoint.emulator.play(Scenario())
    return _endpoint


def rows(*groups: list[Row]) -> list[Any]:
    """The rows as parameters by their ids; a row that stands in two groups comes once."""
    named: dict[str, Row] = {}
    for row in (row for group in groups for row in group):
        assert named.setdefault(row[0], row) == row, f"two rows have the id {row[0]}"
    return [pytest.param(*row[1:], id=name) for name, row in named.items()]


@pytest.mark.parametrize(
    ("source", "path", "value", "blamed"), rows(EVENT_ROWS, USER_ROWS, PROPERTY_ROWS, NAME_ROWS)
)
def test_an_event_is_taken_or_refused_by_its_row(
    tiktok: Endpoint, source: str, path: str, value: object, blamed: str
) -> None:
    """A right value is taken; a wrong one refuses the batch, and the message names event and field.

    A good event of the same source stands before it, so that the index tells something.
    """
    body = request(source, changed(source), changed(source, path, value))
    if blamed == TAKEN:
        assert tiktok.code(body) == 0
    else:
        assert tiktok.refusal(body).startswith(f"Invalid value for data. 1 .{blamed}: ")


@pytest.mark.parametrize(
    ("user", "blamed"),
    [
        pytest.param({"email": DIGEST}, "user.ip", id="1 limited_data_use: without ip"),
        pytest.param({"ip": "10.0.0.1"}, "user.ip", id="1 limited_data_use: private ip"),
        pytest.param({"ip": "20.42.7.9"}, TAKEN, id="1 limited_data_use: public ip"),
    ],
)
@pytest.mark.parametrize("source", ["web", "app"])
def test_limited_data_use_asks_for_a_public_ip(
    tiktok: Endpoint, source: str, user: dict[str, str], blamed: str
) -> None:
    """TikTok decides by the address whose law holds."""
    body = request(source, {**changed(source), "user": user, "limited_data_use": True})
    if blamed == TAKEN:
        assert tiktok.code(body) == 0
    else:
        assert tiktok.refusal(body).startswith(f"Invalid value for data. 0 .{blamed}: ")


ENVELOPES = [
    *[(f"1 event_source: {source}", source, {}, TAKEN) for source in SOURCES],
    ("1 event_source: left out", "web", {"event_source": LEFT_OUT}, "event_source"),
    ("1 event_source: unknown", "web", {"event_source": "website"}, "event_source"),
    ("1 event_source: case", "web", {"event_source": "WEB"}, "event_source"),
    ("1 event_source_id: left out", "web", {"event_source_id": LEFT_OUT}, "event_source_id"),
    ("1 event_source_id: empty", "web", {"event_source_id": ""}, "event_source_id"),
    ("1 event_source_id: number", "web", {"event_source_id": 7}, "event_source_id"),
    ("1 data: left out", "web", {"data": LEFT_OUT}, "data"),
    ("1 data: none", "web", {"data": []}, "data"),
    ("1 data: an object", "web", {"data": {}}, "data"),
    ("1 data: 1,000 events", "web", {"data": [EVENTS["web"]] * 1000}, TAKEN),
    ("1 data: 1,001 events", "web", {"data": [EVENTS["web"]] * 1001}, "data"),
    ("6 1,001 offline events", "offline", {"data": [EVENTS["offline"]] * 1001}, "data"),
    ("1 test_event_code", "web", {"test_event_code": "TEST12345"}, TAKEN),
    ("1 test_event_code: empty", "web", {"test_event_code": ""}, "test_event_code"),
    ("1 partner_name", "web", {"partner_name": "Invented"}, "partner_name"),
    ("8 pixel_code", "web", {"pixel_code": EVENT_SOURCE_ID}, "pixel_code"),
]


@pytest.mark.parametrize(
    ("source", "envelope", "blamed"), [pytest.param(*row[1:], id=row[0]) for row in ENVELOPES]
)
@pytest.mark.parametrize("wording", IndexWording)
def test_an_envelope_is_taken_or_blamed_on_no_event(
    tiktok: Endpoint, source: str, envelope: dict[str, object], blamed: str, wording: IndexWording
) -> None:
    """What belongs to the request reads the same in every wording and is nobody's event."""
    tiktok.emulator.play(Scenario(wording=wording))
    body = request(source, changed(source), **envelope)
    if blamed == TAKEN:
        assert tiktok.code(body) == 0
        return
    message = tiktok.refusal(body)
    assert message.startswith(f"Invalid value for {blamed}: ")
    found = judge(Answer(200, orjson.dumps({"code": 40002, "message": message})), 1).blame
    assert found.event is None
    assert found.envelope or blamed not in ("event_source", "event_source_id", "test_event_code")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        pytest.param(HEADERS, 0, id="1 headers"),
        pytest.param(
            {**HEADERS, "Content-Type": "application/json; charset=utf-8"}, 0, id="1 charset"
        ),
        pytest.param({"Content-Type": "application/json"}, 40104, id="1 Access-Token: none"),
        pytest.param({**HEADERS, "Access-Token": ""}, 40104, id="1 Access-Token: empty"),
        pytest.param({**HEADERS, "Access-Token": f"Bearer {TOKEN}"}, 40105, id="1 no Bearer"),
        pytest.param(
            {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
            40104,
            id="1 not Authorization",
        ),
        pytest.param({**HEADERS, "Access-Token": "revoked"}, 40105, id="7 40105"),
        pytest.param({**HEADERS, "Access-Token": FOREIGN_TOKEN}, 40001, id="7 40001"),
        pytest.param({**HEADERS, "Content-Type": "text/plain"}, 40000, id="1 Content-Type"),
    ],
)
def test_headers_decide_before_the_body(
    tiktok: Endpoint, headers: dict[str, str], code: int
) -> None:
    """The token stands bare in its own header; each fault has TikTok's code, with HTTP 200."""
    assert tiktok.code(GOOD, headers) == code


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("POST", "/open_api/v1.3/event/track", 404, id="1 trailing slash"),
        pytest.param("POST", "/open_api/v1.2/event/track/", 404, id="1 version"),
        pytest.param("GET", "/open_api/v1.3/event/track/", 405, id="1 POST"),
    ],
)
def test_another_address_is_a_gateways_page(
    tiktok: Endpoint, method: str, path: str, status: int
) -> None:
    """No JSON comes back, so there is no code to decide by."""
    said = tiktok.send(GOOD, method=method, path=path)
    assert (said.status, said.document) == (status, None)


HASHES = [
    (
        "3 email",
        "web",
        "email",
        " ALICE_abc@gmail.com ",
        "alice_abc@gmail.com",
        "848a7714",
        "d3bb4f",
    ),
    ("3 phone", "web", "phone", "(+1)2133734253", "+12133734253", "9f7ec22d", "8fb2948bb22dd2fd"),
    ("3 external_id", "web", "external_id", "user_123", "user_123", "80fba0ae", "dafc7e3f2ab8b"),
    ("3 names", "web", "first_name", "Jane", "jane", "81f8f6dd", "eb13e24546a2"),
    ("3 zip", "web", "zip_code", "M5V 3L9", "m5v3l9", "5c850751", "dcd913dd32a41c7"),
    (
        "3 idfa",
        "app",
        "idfa",
        "ea7583cd-a667-48bc-b806-42ecb2b48606",
        "EA7583CD-A667-48BC-B806-42ECB2B48606",
        "70574fa9",
        "5bd33092fd1c",
    ),
    (
        "3 gaid",
        "app",
        "gaid",
        "AAAAAA-2222-1111-8787-809E92233BA0",
        "aaaaaa-2222-1111-8787-809e92233ba0",
        "0ebad966",
        "c6d8ee7fc",
    ),
]


@pytest.mark.parametrize(
    ("source", "name", "raw", "normalised", "begins", "ends"),
    [pytest.param(*row[1:], id=row[0]) for row in HASHES],
)
def test_what_is_hashed_is_taken_as_a_digest_alone(
    tiktok: Endpoint, source: str, name: str, *, raw: str, normalised: str, begins: str, ends: str
) -> None:
    """The reference's examples: the digest is taken, what it is made of is refused and quoted."""
    digest = hashlib.sha256(normalised.encode()).hexdigest()
    assert digest.startswith(begins)
    assert digest.endswith(ends)
    assert tiktok.code(request(source, changed(source, f"user.{name}", digest))) == 0
    for plain in (raw, normalised):
        message = tiktok.refusal(request(source, changed(source, f"user.{name}", plain)))
        assert f"'{plain}' is not a SHA-256 hash." in message


@pytest.mark.parametrize(
    "number", [pytest.param(b"NaN", id="4 NaN"), pytest.param(b"Infinity", id="4 infinity")]
)
def test_numbers_that_json_does_not_have_are_no_json(tiktok: Endpoint, number: bytes) -> None:
    """Such a body is refused as a whole, so a sender must never write one."""
    body = orjson.dumps(request("web", changed("web", "properties.value", 7654321)))
    assert tiktok.code(body.replace(b"7654321", number)) == 40000


def test_8_api_1_is_not_spoken(tiktok: Endpoint) -> None:
    """Pixel code, context and an ISO timestamp are the older API's."""
    older = {
        "pixel_code": EVENT_SOURCE_ID,
        "event": "CompletePayment",
        "timestamp": "2026-01-01T00:00:00Z",
        "context": {"page": {"url": "https://shop.example.com/"}},
    }
    assert tiktok.refusal(older).startswith("Invalid value for event_source: missing")
