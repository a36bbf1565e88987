"""Valid events and their bytes, built in as few words as a test needs."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import fastavro
from hypothesis import strategies as st

from consumer.schemas import load_schema

SCHEMA = load_schema("conversion_event")
_PARSED = fastavro.parse_schema(load_schema("conversion_event"))

EVENT_TIME_MS = 1_764_000_000_000
"""When the built events happened: a fixed moment of November 2025, in milliseconds."""

PIXEL = "C9ABC1234567890DEFGH"


def _records(schema: Any, found: dict[str, list[str]]) -> dict[str, list[str]]:
    for branch in schema if isinstance(schema, list) else [schema]:
        if isinstance(branch, dict) and branch["type"] == "record":
            found[branch["name"]] = [field["name"] for field in branch["fields"]]
            for field in branch["fields"]:
                _records(field["type"], found)
        elif isinstance(branch, dict) and branch["type"] == "array":
            _records(branch["items"], found)
    return found


FIELDS = _records(SCHEMA, {})
"""Field names of each record of the event schema, by the record's name."""


def _complete(record: str, given: dict[str, Any] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    unknown = given.keys() - FIELDS[record]
    if unknown:
        raise ValueError(f"{record} has no fields {sorted(unknown)}")
    return dict.fromkeys(FIELDS[record]) | given


def event(**fields: Any) -> dict[str, Any]:
    """A decoded web event with every field of the schema, null unless given.

    Nested records are given as dicts with the fields that matter. Without more it is the smallest
    event that can be sent: a page view with an address.
    """
    given: dict[str, Any] = {
        "event_id": "event-1",
        "event": "ViewContent",
        "event_time": EVENT_TIME_MS,
        "page": {"url": "https://shop.example/p/1"},
    } | fields
    for name in ("page", "user", "properties", "app", "ad", "lead", "consent"):
        given[name] = _complete(name.capitalize(), given.get(name))
    properties = given["properties"]
    if properties and properties["contents"] is not None:
        properties["contents"] = [_complete("Content", c) for c in properties["contents"]]
    whole = _complete("ConversionEvent", given)
    assert whole is not None
    return whole


def purchase(number: int = 1, **fields: Any) -> dict[str, Any]:
    """A decoded purchase as shops send it, of about 590 bytes; `number` makes it another one."""
    return event(
        **{
            "event_id": f"order-{number:08d}-purchase",
            "event": "purchase",
            "event_source_id": PIXEL,
            "event_source": "web",
            "page": {
                "url": f"https://shop.example/checkout/thank-you?order={number}&utm_source=tiktok",
                "referrer": "https://shop.example/checkout/payment",
            },
            "user": {
                "email": f"person{number}@mail.example",
                "phone": f"+1213373{number % 10_000:04d}",
                "external_id": f"customer-{number}",
                "ttclid": f"E.C.P.click-{number}-abcdefghijklmnopqrstuvwxyz0123456789",
                "ttp": f"01J8ZK-{number}-ttp-cookie",
                "ip": f"81.2.{number // 250 % 250}.{number % 250 + 1}",
                "user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)"
                " AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Safari/604.1",
                "locale": "en-US",
            },
            "properties": {
                "value": 49.9,
                "currency": "USD",
                "content_type": "product",
                "contents": [
                    {"content_id": "sku-1", "content_name": "Mug", "quantity": 1, "price": 19.9},
                    {"content_id": "sku-2", "content_name": "Lamp", "quantity": 2, "price": 15.0},
                ],
                "order_id": f"order-{number:08d}",
            },
            "consent": {
                "marketing": "GRANTED",
                "ad_user_data": "GRANTED",
                "ad_personalization": "GRANTED",
                "region": "US-CA",
            },
        }
        | fields
    )


def avro(decoded: dict[str, Any], schema: Any = _PARSED) -> bytes:
    """The bare Avro value of an event."""
    stream = BytesIO()
    fastavro.schemaless_writer(stream, schema, decoded)
    return stream.getvalue()


def confluent(decoded: dict[str, Any], schema_id: int = 1, schema: Any = _PARSED) -> bytes:
    """An event in Confluent's wire format."""
    return b"\x00" + schema_id.to_bytes(4, "big") + avro(decoded, schema)


def single_object(decoded: dict[str, Any], fingerprint: bytes, schema: Any = _PARSED) -> bytes:
    """An event in Avro's single-object encoding."""
    return b"\xc3\x01" + fingerprint + avro(decoded, schema)


_PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(),
    "string": st.text(max_size=12),
}


def values(schema: Any, names: dict[str, Any] | None = None) -> st.SearchStrategy[Any]:
    """Any value of an Avro schema; event_time is near `EVENT_TIME_MS`."""
    names = {} if names is None else names
    if isinstance(schema, list):
        return st.one_of([values(branch, names) for branch in schema])
    if isinstance(schema, str):
        return values(names[schema], names) if schema in names else _PLAIN[schema]
    names[schema.get("name", "")] = schema
    return _complex_values(schema, names)


def _complex_values(schema: dict[str, Any], names: dict[str, Any]) -> st.SearchStrategy[Any]:
    kind = schema["type"]
    if kind == "enum":
        return st.sampled_from(schema["symbols"])
    if kind == "array":
        return st.lists(values(schema["items"], names), max_size=3)
    if kind == "map":
        return st.dictionaries(st.text(max_size=8), values(schema["values"], names), max_size=3)
    if kind != "record":
        return values(kind, names)
    fields = {field["name"]: values(field["type"], names) for field in schema["fields"]}
    if "event_time" in fields:
        fields["event_time"] = st.integers(EVENT_TIME_MS - 1000, EVENT_TIME_MS)
    return st.fixed_dictionaries(fields)


any_event = values(SCHEMA)
"""Every event the schema allows, sensible or not."""
