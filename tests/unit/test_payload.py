"""A decoded event becomes exactly what TikTok documents, or a stated reason why not."""

from __future__ import annotations

import re
import tracemalloc
from math import inf, nan
from typing import Any

import pytest

from consumer.event import (
    EventSource,
    FieldWarning,
    Mapped,
    Reason,
    Refused,
    Suppressed,
)
from consumer.names import GA4_EVENT_NAMES, NEWER_EVENT_NAMES
from tests.support.events import EVENT_TIME_MS, event, purchase
from tests.support.mapping import (
    DAY,
    DESTINATIONS,
    MINUTE,
    NOW,
    destination,
    element,
    mapped,
    mapper,
    outcome,
)

PUBLIC_IP = {"ip": "8.8.8.8"}


def body(given_: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The JSON element of an event that is sent."""
    return element(mapped(given_, **more))


def properties(**given_: Any) -> tuple[dict[str, Any], list[str]]:
    """The properties as sent, and the fields that were warned about."""
    found = mapped(event(properties=given_))
    sent = element(found).get("properties", {})
    return sent, [warning.field for warning in found.warnings]


def test_a_purchase_is_mapped_whole() -> None:
    """Every part of an ordinary event, as TikTok documents it."""
    found = mapped(purchase(7, test_event_code="TEST1"))
    assert found.event == "CompletePayment"
    assert found.event_id == "order-00000007-purchase"
    assert found.event_time_ms == EVENT_TIME_MS
    assert found.test_event_code == "TEST1"
    assert found.match_keys == (
        "email",
        "phone",
        "external_id",
        "ttclid",
        "ttp",
        "ip",
        "user_agent",
    )
    assert found.warnings == found.removed == ()
    sent = element(found)
    user = sent.pop("user")
    assert user["locale"] == "en-US"
    assert re.fullmatch("[0-9a-f]{64}", user["phone"])
    assert sent == {
        "event": "CompletePayment",
        "event_time": EVENT_TIME_MS // 1000,
        "event_id": "order-00000007-purchase",
        "page": {
            "url": "https://shop.example/checkout/thank-you?order=7&utm_source=tiktok",
            "referrer": "https://shop.example/checkout/payment",
        },
        "properties": {
            "value": 49.9,
            "currency": "USD",
            "content_type": "product",
            "contents": [
                {"content_id": "sku-1", "content_name": "Mug", "quantity": 1, "price": 19.9},
                {"content_id": "sku-2", "content_name": "Lamp", "quantity": 2, "price": 15.0},
            ],
            "order_id": "order-00000007",
            "ad_user_data": "GRANTED",
            "ad_personalization": "GRANTED",
        },
    }


def test_a_mapped_event_takes_hardly_more_memory_than_what_is_sent() -> None:
    """Ten thousands of them may wait for TikTok."""
    one, given_ = mapper(), purchase()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        held = [one.map(given_, DESTINATIONS[EventSource.WEB], NOW) for _ in range(100)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    sent = sum(len(found.body) for found in held if isinstance(found, Mapped))
    assert sent > 0
    assert after - before < 2 * sent


def test_the_smallest_event_sends_nothing_but_what_it_has() -> None:
    """No nulls, no empty strings, no empty objects."""
    given_ = event(user={"email": ""}, properties={"custom": {}, "contents": [{}], "order_id": " "})
    assert body(given_).keys() == {"event", "event_time", "event_id", "page"}


@pytest.mark.parametrize(
    ("name", "overrides", "sent"),
    [
        ("purchase", {}, "CompletePayment"),
        ("generate_lead", {}, "SubmitForm"),
        ("purchase", NEWER_EVENT_NAMES, "Purchase"),
        ("purchase", {"purchase": "MyPurchase"}, "MyPurchase"),
        ("Purchase", {}, "Purchase"),
        ("CompletePayment", {}, "CompletePayment"),
        ("Purchase", {"Purchase": "CompletePayment"}, "CompletePayment"),
        ("quiz_finished", {}, "quiz_finished"),
    ],
)
def test_event_names_are_mapped(name: str, overrides: dict[str, str], sent: str) -> None:
    """GA4's names by default; TikTok's own and custom names stay unless the user renames them."""
    names = {**GA4_EVENT_NAMES, **overrides}
    assert mapped(event(event=name), destination(event_names=names)).event == sent


def test_allowed_events_are_named_as_sent() -> None:
    """What is not allowed is suppressed, on purpose and not as an error."""
    only = destination(allow_events=frozenset({"CompletePayment"}))
    assert outcome(event(event="page_view"), only) == Suppressed(Reason.FILTER)
    assert mapped(event(event="purchase"), only).event == "CompletePayment"


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"event": ""}, Reason.INVALID, "event"),
        ({"event": " "}, Reason.INVALID, "event"),
        ({"event_id": ""}, Reason.INVALID, "event_id"),
        ({"event_id": "\t"}, Reason.INVALID, "event_id"),
        ({"page": None}, Reason.INVALID, "page.url"),
        ({"page": {"referrer": "https://a.example"}}, Reason.INVALID, "page.url"),
        ({"page": {"url": " "}}, Reason.INVALID, "page.url"),
        ({"limited_data_use": True}, Reason.INVALID, "user.ip"),
        ({"limited_data_use": True, "user": {"ip": "10.0.0.1"}}, Reason.INVALID, "user.ip"),
        ({"event_time": NOW - 7 * DAY - 1}, Reason.TOO_OLD, "event_time"),
        ({"event_time": -1}, Reason.TOO_OLD, "event_time"),
        ({"event_time": NOW + 10 * MINUTE + 1}, Reason.IN_FUTURE, "event_time"),
        ({"event_time": 2**63 - 1}, Reason.IN_FUTURE, "event_time"),
    ],
)
def test_an_event_without_what_tiktok_requires_is_refused(
    fields: dict[str, Any], reason: Reason, field: str
) -> None:
    """The reason is of the closed list and the field is the one to mend."""
    found = outcome(event(**fields))
    assert isinstance(found, Refused)
    assert (found.reason, found.field) == (reason, field)


@pytest.mark.parametrize("time", [NOW - 7 * DAY, NOW + 10 * MINUTE])
def test_times_at_the_bounds_are_taken(time: int) -> None:
    """Both bounds belong to the allowed range."""
    assert body(event(event_time=time))["event_time"] == time // 1000


def test_a_destination_may_take_older_events() -> None:
    """The bound is the destination's own."""
    found = outcome(event(event_time=NOW - 20 * DAY), destination(max_age_ms=28 * DAY))
    assert isinstance(found, Mapped)


def test_an_event_larger_than_the_bound_is_refused() -> None:
    """Measured on the JSON that would be sent."""
    size = len(mapped(purchase()).body)
    assert isinstance(
        mapper(max_body_bytes=size).map(purchase(), DESTINATIONS[EventSource.WEB], NOW), Mapped
    )
    found = mapper(max_body_bytes=size - 1).map(purchase(), DESTINATIONS[EventSource.WEB], NOW)
    assert isinstance(found, Refused)
    assert found.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("own", "of_destination", "sent"),
    [("A", "B", "A"), (None, "B", "B"), ("", "B", "B"), (" ", None, None), (None, None, None)],
)
def test_the_events_test_code_wins(
    own: str | None, of_destination: str | None, sent: str | None
) -> None:
    """A blank one is none; it never stands inside the event, but beside it."""
    found = mapped(event(test_event_code=own), destination(test_event_code=of_destination))
    assert found.test_event_code == sent
    assert b"test_event_code" not in found.body


@pytest.mark.parametrize(
    ("given_", "sent", "warned"),
    [
        pytest.param(
            {"value": 1.5, "currency": " usd "}, {"value": 1.5, "currency": "USD"}, [], id="both"
        ),
        pytest.param(
            {"value": 0.0, "currency": "EUR"}, {"value": 0.0, "currency": "EUR"}, [], id="zero"
        ),
        pytest.param({"value": 1.5}, {}, ["value"], id="a value without a currency"),
        pytest.param({"value": 1.5, "currency": " "}, {}, ["value"], id="a blank currency"),
        pytest.param({"currency": "USD"}, {}, ["currency"], id="a currency without a value"),
        pytest.param(
            {"value": 1.5, "currency": "XXX"}, {}, ["currency"], id="a currency TikTok lacks"
        ),
        pytest.param({"value": nan, "currency": "USD"}, {}, ["value"], id="no number"),
        pytest.param({"value": inf, "currency": "USD"}, {}, ["value"], id="infinite"),
        pytest.param({"content_type": "product"}, {"content_type": "product"}, [], id="product"),
        pytest.param(
            {"content_type": "Product_Group"},
            {"content_type": "product_group"},
            [],
            id="a choice in another case",
        ),
        pytest.param({"content_type": "shoe"}, {}, ["content_type"], id="no such content type"),
        pytest.param({"customer_type": "new"}, {"customer_type": "new"}, [], id="new customer"),
        pytest.param({"customer_type": "vip"}, {}, ["customer_type"], id="no such customer type"),
        pytest.param({"num_items": 0}, {"num_items": 0}, [], id="an empty cart"),
        pytest.param({"num_items": -1}, {}, ["num_items"], id="less than nothing"),
        pytest.param(
            {"content_ids": ["a", "", " ", "b"]}, {"content_ids": ["a", "b"]}, [], id="blank ids"
        ),
        pytest.param(
            {"order_id": "o", "shop_id": "s", "search_string": "q", "description": "d"},
            {"order_id": "o", "shop_id": "s", "search_string": "q", "description": "d"},
            [],
            id="texts as they are",
        ),
        pytest.param(
            {"contents": [{"content_name": "Mug"}, {"content_id": " "}]},
            {"contents": [{"content_name": "Mug"}]},
            [],
            id="an item without an id stays, an empty one goes",
        ),
        pytest.param(
            {"contents": [{"content_id": "a", "price": nan, "quantity": 0}] * 2},
            {"contents": [{"content_id": "a"}, {"content_id": "a"}]},
            ["contents.price", "contents.quantity"],
            id="an impossible price and quantity, warned about once",
        ),
        pytest.param(
            {"custom": {"plan": "pro", "seats": 3, "rate": 0.5, "trial": False}},
            {"plan": "pro", "seats": 3, "rate": 0.5, "trial": False},
            [],
            id="custom properties",
        ),
        pytest.param(
            {"custom": {"plan": None, "tier": " ", "": "x"}}, {}, [], id="blank custom properties"
        ),
        pytest.param({"custom": {"rate": inf}}, {}, ["custom"], id="an infinite custom number"),
        pytest.param(
            {"order_id": "o", "custom": {"order_id": "p", "value": 1.0}},
            {"order_id": "o"},
            ["custom"],
            id="custom never over standard",
        ),
        pytest.param(
            {"custom": {"Email": "a@b.example", "phone_number": "1", "firstName": "A"}},
            {},
            ["custom"],
            id="personal data under a custom name",
        ),
        pytest.param(
            {"custom": {"customer_email": "x", "user_phone": 4917139, "accepts_email": True}},
            {"accepts_email": True},
            ["custom"],
            id="personal data under a longer custom name",
        ),
        pytest.param(
            {"custom": {"note": "call jane@mail.example", "jane@mail.example": 1, "plan": "pro"}},
            {"plan": "pro"},
            ["custom", "custom"],
            id="an e-mail address in a custom text, and as a name",
        ),
        pytest.param(
            {"custom": {"landing": "https://a.example/?phone=1&b=2", "from": "mailto://a@b.de"}},
            {"landing": "https://a.example/?b=2", "from": "mailto://b.de"},
            ["custom"],
            id="personal data in a page's address",
        ),
        pytest.param(
            {"search_string": "jane@mail.example", "description": "for jane%40mail.example"},
            {},
            ["search_string", "description"],
            id="texts with an e-mail address",
        ),
        pytest.param(
            {"order_id": "jane@mail.example", "search_string": "mugs @ 50% off"},
            {"order_id": "jane@mail.example", "search_string": "mugs @ 50% off"},
            [],
            id="ids stay as they are",
        ),
        pytest.param(
            {"contents": [{"content_id": "a@b.example", "content_name": "For jane@b.example"}]},
            {"contents": [{"content_id": "a@b.example"}]},
            ["contents"],
            id="an item named after a person",
        ),
        pytest.param(
            {"custom": {"ad_user_data": "GRANTED"}},
            {},
            ["custom"],
            id="consent signals come from consent alone",
        ),
    ],
)
def test_properties_are_checked(
    given_: dict[str, Any], sent: dict[str, Any], warned: list[str]
) -> None:
    """What cannot be right is left out with a warning; all else is passed on."""
    assert properties(**given_) == (sent, [f"properties.{field}" for field in warned])


def test_content_ids_and_num_items_are_never_derived() -> None:
    """Contents say what they say."""
    sent, _ = properties(contents=[{"content_id": "a", "quantity": 2}])
    assert sent.keys() == {"contents"}


def test_warnings_never_repeat_what_came_with_the_event() -> None:
    """Not even the name of a custom property."""
    found = mapped(
        event(
            user={"email": "canary", "phone": "canary", "ip": "canary"},
            properties={
                "value": 1.0,
                "currency": "canary",
                "content_type": "canary",
                "custom": {"canary": nan},
            },
        )
    )
    assert len(found.warnings) == 6
    assert "canary" not in repr(found.warnings)
    assert all(isinstance(warning, FieldWarning) for warning in found.warnings)


def test_the_click_id_of_the_page_counts_as_a_match_key() -> None:
    """In the order of all match keys, wherever it was found."""
    found = mapped(event(page={"url": "https://s.example/?ttclid=E.1"}, user=PUBLIC_IP))
    assert found.match_keys == ("ttclid", "ip")


def test_equal_match_keys_are_one_object() -> None:
    """So that a chunk's events can be counted by identity."""
    one = mapper()
    first = one.map(event(user=PUBLIC_IP), DESTINATIONS[EventSource.WEB], NOW)
    with_locale = event(user={**PUBLIC_IP, "locale": "de"})
    second = one.map(with_locale, DESTINATIONS[EventSource.WEB], NOW)
    assert isinstance(first, Mapped)
    assert isinstance(second, Mapped)
    assert first.match_keys is second.match_keys


def test_page_addresses_go_without_personal_data() -> None:
    """Both of them, with a warning that does not repeat it; the click id is still read."""
    page = {
        "url": "https://s.example/?email=jane@mail.example&ttclid=E.1&utm_medium=email",
        "referrer": "https://s.example/?em=x#top",
    }
    found = mapped(event(page=page))
    sent = element(found)
    assert sent["page"] == {
        "url": "https://s.example/?ttclid=E.1&utm_medium=email",
        "referrer": "https://s.example/#top",
    }
    assert sent["user"] == {"ttclid": "E.1"}
    assert [warning.field for warning in found.warnings] == ["page.url", "page.referrer"]
    assert "jane" not in repr(found.warnings)


def test_what_is_only_an_e_mail_address_is_no_page() -> None:
    """A referrer is left out, an event without an address of its page refused."""
    found = mapped(event(page={"url": "https://s.example/", "referrer": "mailto:jane@s.example"}))
    assert element(found)["page"] == {"url": "https://s.example/"}
    assert [warning.field for warning in found.warnings] == ["page.referrer"]
    refused = outcome(event(page={"url": "mailto:jane@s.example"}))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.field) == (Reason.INVALID, "page.url")
