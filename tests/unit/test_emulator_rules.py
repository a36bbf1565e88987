"""The emulator demands of a request what TikTok documents, and says so in TikTok's words."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.sandbox.fields import CURRENCIES
from consumer.sandbox.rules import (
    MAX_EVENTS,
    Complaint,
    IndexWording,
    check_events,
    check_identities,
    check_request,
)

DIGEST = hashlib.sha256(b"alice_abc@gmail.com").hexdigest()
LEFT_OUT = object()


def web_event() -> dict[str, Any]:
    return {
        "event": "CompletePayment",
        "event_time": 1_700_000_000,
        "event_id": "e-1",
        "user": {
            "email": [DIGEST, DIGEST],
            "phone": DIGEST,
            "external_id": DIGEST,
            "ttclid": "E.C.P.abc",
            "ttp": "94e2a4j9-h3ss-k2b5-98cc-84c745mk0902",
            "ip": "20.42.7.9",
            "user_agent": "Mozilla/5.0",
            "locale": "zh-Hant-TW",
            "first_name": DIGEST,
            "last_name": DIGEST,
            "zip_code": DIGEST,
            "city": "münchen",
            "state": "bavaria",
            "country": "de",
        },
        "page": {"url": "https://shop.example.com/cart", "referrer": "https://example.com/"},
        "properties": {
            "contents": [
                {
                    "content_id": "sku-1",
                    "quantity": 2,
                    "price": 9.5,
                    "content_name": "Cup",
                    "content_category": "Kitchen",
                    "brand": "Brand",
                }
            ],
            "content_type": "product",
            "content_ids": ["sku-1"],
            "num_items": 2,
            "value": 19,
            "currency": "EUR",
            "order_id": "o-1",
            "shop_id": "s-1",
            "search_string": "cup",
            "description": "a cup",
            "customer_type": "new",
            "a_custom_one": {"any": ["thing"]},
        },
        "limited_data_use": True,
    }


def request(source: str, *events: object) -> dict[str, Any]:
    return {"event_source": source, "event_source_id": "C9", "data": list(events)}


EVENTS: dict[str, dict[str, Any]] = {
    "web": web_event(),
    "app": {
        "event": "InstallApp",
        "event_time": 1_700_000_000,
        "event_id": "e-1",
        "user": {"idfa": DIGEST, "gaid": DIGEST, "idfv": "x", "att_status": "AUTHORIZED"},
        "app": {"app_id": "123", "app_name": "Shop", "app_version": "1.0"},
        "ad": {"callback": "c", "is_retargeting": False, "attributed": True},
    },
    "offline": {
        "event": "Purchase",
        "event_time": 1_700_000_000,
        "event_id": "e-1",
        "user": {"email": DIGEST, "phone": [DIGEST]},
        "properties": {"value": 10.0, "currency": "USD"},
    },
    "crm": {
        "event": "Qualified",
        "event_time": 1_700_000_000,
        "event_id": "e-1",
        "user": {"email": DIGEST, "external_id": DIGEST},
        "lead": {"lead_id": "l-1", "lead_event_source": "CRM"},
    },
}


def changed(source: str, path: str, value: object) -> dict[str, Any]:
    """A good event with one field set, or with `LEFT_OUT` taken away."""
    event = copy.deepcopy(EVENTS[source])
    *sections, name = path.split(".")
    place: Any = event
    for section in sections:
        place = place[int(section)] if section.isdigit() else place.setdefault(section, {})
    if value is LEFT_OUT:
        del place[name]
    else:
        place[name] = value
    return event


@pytest.mark.parametrize("source", EVENTS)
def test_a_complete_event_of_every_source_is_taken(source: str) -> None:
    """The documented fields of each source, all at once, are no reason to complain."""
    assert check_request(request(source, EVENTS[source])) is None


BAD_FIELDS = [
    ("web", "event", LEFT_OUT, "event"),
    ("web", "event", "", "event"),
    ("web", "event_id", LEFT_OUT, "event_id"),
    ("web", "event_id", 273196, "event_id"),
    ("web", "event_time", "1700000000", "event_time"),
    ("web", "event_time", 1_700_000_000.5, "event_time"),
    ("web", "event_time", 1_700_000_000_000, "event_time"),
    ("web", "event_time", True, "event_time"),
    ("web", "pixel_code", "C9", "pixel_code"),
    ("web", "page", LEFT_OUT, "page"),
    ("web", "page.url", LEFT_OUT, "page.url"),
    ("web", "page.url", "", "page.url"),
    ("web", "page.title", "x", "page.title"),
    ("web", "user", [], "user"),
    ("web", "user.email", "alice@example.com", "user.email"),
    ("web", "user.email", DIGEST.upper(), "user.email"),
    ("web", "user.email", None, "user.email"),
    ("web", "user.email", [], "user.email"),
    ("web", "user.phone", [DIGEST, "+12133734253"], "user.phone"),
    ("web", "user.external_id", "user_123", "user.external_id"),
    ("web", "user.first_name", "jane", "user.first_name"),
    ("web", "user.last_name", "doe", "user.last_name"),
    ("web", "user.zip_code", "m5v3l9", "user.zip_code"),
    ("web", "user.city", "New York", "user.city"),
    ("web", "user.city", "Berlin", "user.city"),
    ("web", "user.state", "n.y.", "user.state"),
    ("web", "user.country", "", "user.country"),
    ("web", "user.ip", "10.0.0.1", "user.ip"),
    ("web", "user.ip", "::1", "user.ip"),
    ("web", "user.ip", "224.0.0.9", "user.ip"),
    ("web", "user.ip", "not an address", "user.ip"),
    ("web", "user.locale", "en_US!", "user.locale"),
    ("web", "user.ttclid", "", "user.ttclid"),
    ("web", "user.idfa", DIGEST, "user.idfa"),
    ("web", "user.phone_number", DIGEST, "user.phone_number"),
    ("web", "properties", [], "properties"),
    ("web", "properties.value", LEFT_OUT, "properties.value"),
    ("web", "properties.currency", LEFT_OUT, "properties.currency"),
    ("web", "properties.currency", "eur", "properties.currency"),
    ("web", "properties.currency", "XBT", "properties.currency"),
    ("web", "properties.value", "19.00", "properties.value"),
    ("web", "properties.value", True, "properties.value"),
    ("web", "properties.contents", {}, "properties.contents"),
    ("web", "properties.contents.0.content_id", 7, "properties.contents.0.content_id"),
    ("web", "properties.contents.0.quantity", 1.5, "properties.contents.0.quantity"),
    ("web", "properties.contents.0.price", "9.5", "properties.contents.0.price"),
    ("web", "properties.contents.0.content_type", "x", "properties.contents.0.content_type"),
    ("web", "properties.content_type", "thing", "properties.content_type"),
    ("web", "properties.content_ids", "sku-1", "properties.content_ids"),
    ("web", "properties.content_ids", [1], "properties.content_ids"),
    ("web", "properties.num_items", "2", "properties.num_items"),
    ("web", "properties.order_id", 5, "properties.order_id"),
    ("web", "properties.customer_type", "old", "properties.customer_type"),
    ("web", "properties.emulator_reject", True, "properties.emulator_reject"),
    ("web", "limited_data_use", 1, "limited_data_use"),
    ("web", "user.ip", LEFT_OUT, "user.ip"),
    ("web", "user", LEFT_OUT, "user.ip"),
    ("web", "ad", {"callback": "c"}, "ad.callback"),
    ("web", "app", {"app_id": "1"}, "app"),
    ("web", "lead", {"lead_id": "1"}, "lead"),
    ("app", "app", LEFT_OUT, "app"),
    ("app", "app.app_id", LEFT_OUT, "app.app_id"),
    ("app", "page", {"url": "https://example.com"}, "page"),
    ("app", "user.ttclid", "x", "user.ttclid"),
    ("app", "user.external_id", DIGEST, "user.external_id"),
    ("app", "limited_data_use", True, "user.ip"),
    ("app", "user.idfa", "EA7583CD-A667-48BC-B806-42ECB2B48606", "user.idfa"),
    ("app", "user.att_status", "MAYBE", "user.att_status"),
    ("app", "user.ip", "2001:4860:4860::8888%eth0", "user.ip"),
    ("app", "ad.attributed", "yes", "ad.attributed"),
    ("offline", "event", "Haggled", "event"),
    ("offline", "event", "Pageview", "event"),
    ("offline", "event", "purchase", "event"),
    ("offline", "user.ip", "20.42.7.9", "user.ip"),
    ("offline", "user.external_id", DIGEST, "user.external_id"),
    ("offline", "limited_data_use", True, "limited_data_use"),
    ("crm", "lead", LEFT_OUT, "lead"),
    ("crm", "lead.lead_id", 5, "lead.lead_id"),
    ("crm", "lead.lead_id", LEFT_OUT, "lead.lead_id"),
    ("crm", "user.ip", "20.42.7.9", "user.ip"),
    ("crm", "limited_data_use", False, "limited_data_use"),
    ("crm", "user.ttp", "x", "user.ttp"),
]


@pytest.mark.parametrize(("source", "path", "value", "blamed"), BAD_FIELDS)
def test_a_wrong_field_refuses_the_batch_by_its_path(
    source: str, path: str, value: object, blamed: str
) -> None:
    """Every documented rule is enforced, and the complaint names the field and the event."""
    complaint = check_events(request(source, EVENTS[source], changed(source, path, value)))
    assert complaint is not None
    assert (complaint.path, complaint.event_index) == (blamed, 1)


def test_the_complaint_about_a_plain_identifier_quotes_it() -> None:
    """TikTok's messages may repeat what was sent, so the emulator's do."""
    complaint = check_events(request("web", changed("web", "user.email", "bob@example.com")))
    assert complaint is not None
    assert "'bob@example.com'" in complaint.message(IndexWording.DOTTED)


@pytest.mark.parametrize(
    ("wording", "message"),
    [
        ("spaced", "Invalid value for data. 1 .event_id: not a valid string."),
        ("dotted", "Invalid value for data.1.event_id: not a valid string."),
        ("batch", "Batch.1.event_id: Not a valid string"),
        ("none", "Invalid value for event_id: not a valid string."),
    ],
)
def test_a_bad_event_is_named_in_each_known_wording(wording: str, message: str) -> None:
    """The four wordings are TikTok's own, letter by letter."""
    complaint = check_events(request("web", web_event(), changed("web", "event_id", 1)))
    assert complaint is not None
    assert complaint.message(IndexWording(wording)) == message


BAD_ENVELOPES: list[tuple[str, object, str]] = [
    ("event_source", LEFT_OUT, "event_source"),
    ("event_source", "website", "event_source"),
    ("event_source_id", LEFT_OUT, "event_source_id"),
    ("event_source_id", "", "event_source_id"),
    ("event_source_id", 9, "event_source_id"),
    ("test_event_code", None, "test_event_code"),
    ("partner_name", "Somebody", "partner_name"),
    ("data", LEFT_OUT, "data"),
    ("data", {}, "data"),
    ("data", [], "data"),
    ("data", [web_event()] * (MAX_EVENTS + 1), "data"),
]


@pytest.mark.parametrize(("name", "value", "blamed"), BAD_ENVELOPES)
@pytest.mark.parametrize("wording", IndexWording)
def test_a_wrong_envelope_is_blamed_on_no_event(
    name: str, value: object, blamed: str, wording: IndexWording
) -> None:
    """What stands around the events blames the whole request, the same in every wording."""
    body = request("web", web_event())
    if value is LEFT_OUT:
        del body[name]
    else:
        body[name] = value
    complaint = check_request(body)
    assert complaint is not None
    assert complaint.event_index is None
    assert complaint.message(wording).startswith(f"Invalid value for {blamed}: ")


def test_a_thousand_events_are_taken() -> None:
    """The limit itself is allowed."""
    assert check_request(request("web", *[web_event()] * MAX_EVENTS)) is None


@pytest.mark.parametrize("currency", sorted(CURRENCIES))
def test_a_listed_currency_is_taken(currency: str) -> None:
    """Each currency of TikTok's closed list passes, and its lower-case form does not."""
    assert check_request(request("web", changed("web", "properties.currency", currency))) is None
    assert check_request(request("web", changed("web", "properties.currency", currency.lower())))


def test_the_quick_check_still_tells_events_apart() -> None:
    """Without the strict rules an event needs no more than its name and id, and these it needs."""
    assert check_identities(request("web", {"event": "A", "event_id": "1"})) is None
    assert check_identities(request("web", {"event": "A", "event_id": 1})) == Complaint(
        "event_id", "not a valid string.", 0
    )
    assert check_identities(request("web", 5)) is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["event", "event_time", "event_id", "user", "page", "properties", "limited_data_use", "ad"]
)


@given(JSON | st.fixed_dictionaries({"event_source": JSON, "event_source_id": JSON, "data": JSON}))
@settings(max_examples=150, deadline=None)
def test_any_json_gets_an_answer(body: object) -> None:
    """Hostile bodies are complained about, they never break the emulator."""
    complaint = check_request(body)
    assert complaint is not None
    assert complaint.message(IndexWording.BATCH)


@given(FIELDS, JSON)
@settings(max_examples=150, deadline=None)
def test_any_value_of_a_field_gets_an_answer(name: str, value: object) -> None:
    """A field of any JSON type is judged; only a complaint or silence comes of it."""
    complaint = check_request(request("web", {**web_event(), name: value}))
    assert complaint is None or complaint.path.split(".")[0] in (name, "user", "event")
