"""Events of every source and what the mapper makes of them."""

from __future__ import annotations

from typing import Any

import orjson

from consumer.consent import ConsentRules
from consumer.event import ConsentState, Destination, EventSource, Mapped, Refused, Suppressed
from consumer.identity import IdentityRules
from consumer.names import default_event_names
from consumer.payload import Mapper
from tests.support.events import EVENT_TIME_MS, event

NOW = EVENT_TIME_MS + 60_000
"""A minute after the events happened, in milliseconds."""

MINUTE, DAY = 60_000, 86_400_000
ALLOWED = ConsentRules(missing=ConsentState.GRANTED)
"""The default rules, save that a missing consent is read as given."""

IDS = {
    EventSource.WEB: "C9ABC1234567890DEFGH",
    EventSource.APP: "7123456789012345678",
    EventSource.OFFLINE: "7234567890123456789",
    EventSource.CRM: "7345678901234567890",
}
REQUIRED: dict[EventSource, dict[str, dict[str, Any]]] = {
    EventSource.WEB: {"page": {"url": "https://shop.example/p/1"}},
    EventSource.APP: {"app": {"app_id": "com.shop.example"}},
    EventSource.OFFLINE: {},
    EventSource.CRM: {"lead": {"lead_id": "7400000000000000001"}},
}
"""What an event of each source cannot be without."""


def destination(source: EventSource = EventSource.WEB, **settings: Any) -> Destination:
    """A destination of a source, with its default names."""
    names = {"event_names": default_event_names(source)}
    return Destination(source, IDS[source], **names | settings)


DESTINATIONS = {source: destination(source) for source in EventSource}


def event_of(source: EventSource, **fields: Any) -> dict[str, Any]:
    """The smallest event of a source, with these fields over it."""
    return event(**{"page": None} | REQUIRED[source] | fields)


def mapper(
    consent: ConsentRules = ALLOWED,
    identity: IdentityRules | None = None,
    max_body_bytes: int = 1 << 20,
) -> Mapper:
    """A mapper with the default bounds that reads a missing consent as given."""
    return Mapper(
        consent=consent,
        identity=identity or IdentityRules(),
        max_future_ms=10 * MINUTE,
        max_body_bytes=max_body_bytes,
    )


def outcome(
    given: dict[str, Any],
    to: Destination = DESTINATIONS[EventSource.WEB],
    consent: ConsentRules = ALLOWED,
) -> Mapped | Suppressed | Refused:
    """What becomes of an event a minute after it happened."""
    return mapper(consent).map(given, to, NOW)


def mapped(
    given: dict[str, Any],
    to: Destination = DESTINATIONS[EventSource.WEB],
    consent: ConsentRules = ALLOWED,
) -> Mapped:
    """The event as mapped; the test fails if it was not."""
    found = outcome(given, to, consent)
    assert isinstance(found, Mapped), found
    return found


def element(found: Mapped) -> dict[str, Any]:
    """What stands in `data[]` for it."""
    parsed: dict[str, Any] = orjson.loads(found.body)
    return parsed


def warned(found: Mapped) -> list[str]:
    """The fields that were warned about."""
    return [warning.field for warning in found.warnings]


def request(source: EventSource, sent: dict[str, Any]) -> dict[str, Any]:
    """A whole request with this one element."""
    return {"event_source": source.value, "event_source_id": IDS[source], "data": [sent]}


def complete_event(source: EventSource, **fields: Any) -> dict[str, Any]:
    """An event with every field of the schema given, as a producer that knows no sources sends it.

    Only the event source differs: what the source does not take is there as well.
    """
    return event(**{**_COMPLETE, "event_source": source.value} | fields)


_COMPLETE: dict[str, Any] = {
    "event_id": "order-1-purchase",
    "event": "purchase",
    "limited_data_use": False,
    "page": {"url": "https://shop.example/thanks?order=1", "referrer": "https://shop.example/pay"},
    "user": {
        "email": " ALICE_abc@gmail.com ",
        "phone": "(+1)2133734253",
        "external_id": "user_123",
        "ttclid": "E.C.P.Abc-123",
        "ttp": "01J8ZK-ttp",
        "ip": "8.8.8.8",
        "user_agent": "Mozilla/5.0 (iPhone)",
        "locale": "en-US",
        "first_name": "Jane",
        "last_name": "O'Neil",
        "city": "New York",
        "state": "N.Y.",
        "country": "US",
        "zip_code": "10001-1234",
        "idfa": "EA7583CD-A667-48BC-B806-42ECB2B48606",
        "idfv": "5E6BA2F1-51C7-4EFA-8C0B-9E9C1CE3B7FA",
        "gaid": "aaaaaa-2222-1111-8787-809e92233ba0",
        "att_status": "authorized",
    },
    "properties": {
        "value": 49.9,
        "currency": "USD",
        "content_type": "product",
        "contents": [
            {
                "content_id": "sku-1",
                "content_name": "Mug",
                "content_category": "Kitchen",
                "brand": "Acme",
                "quantity": 2,
                "price": 24.95,
            }
        ],
        "content_ids": ["sku-1"],
        "num_items": 2,
        "order_id": "order-1",
        "shop_id": "shop-1",
        "search_string": "mugs",
        "description": "Two mugs",
        "customer_type": "new",
        "custom": {"plan": "pro", "seats": 3, "rate": 0.5, "trial": False},
    },
    "app": {"app_id": "com.shop.example", "app_name": "Shop", "app_version": "4.2"},
    "ad": {
        "callback": "cb-1",
        "campaign_id": "c-1",
        "ad_id": "a-1",
        "creative_id": "cr-1",
        "is_retargeting": False,
        "attributed": True,
        "attribution_type": "CTA",
        "attribution_provider": "mmp",
        "attribution_share": "0.5",
    },
    "lead": {"lead_id": "7400000000000000001", "lead_event_source": "Acme CRM"},
    "consent": {
        "marketing": "GRANTED",
        "ad_user_data": "GRANTED",
        "ad_personalization": "GRANTED",
        "region": "US-CA",
        "cmp_version": "2.1",
        "collected_at": EVENT_TIME_MS - 1000,
    },
}
