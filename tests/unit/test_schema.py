"""The event schema is the contract with producers."""

from __future__ import annotations

from typing import Any

import fastavro
import pytest

from consumer.schemas import load_schema

SCHEMA = load_schema("conversion_event")

TEXT: Any = ["null", "string"]
SEVERAL: Any = ["null", "string", {"type": "array", "items": "string"}]
FLAG: Any = ["null", "boolean"]
WHOLE: Any = ["null", "long"]
NUMBER: Any = ["null", "double"]

PLAIN_FIELDS: dict[str, dict[str, Any]] = {
    "ConversionEvent": {
        "event_source_id": TEXT,
        "test_event_code": TEXT,
        "limited_data_use": FLAG,
    },
    "Page": {"url": TEXT, "referrer": TEXT},
    "User": {
        **dict.fromkeys(("email", "phone", "external_id"), SEVERAL),
        **dict.fromkeys(
            ("ttclid", "ttp", "ip", "user_agent", "locale", "first_name", "last_name"), TEXT
        ),
        **dict.fromkeys(("city", "state", "country", "zip_code"), TEXT),
        **dict.fromkeys(("idfa", "idfv", "gaid", "att_status"), TEXT),
    },
    "Properties": {
        "value": NUMBER,
        **dict.fromkeys(("currency", "content_type"), TEXT),
        "content_ids": ["null", {"type": "array", "items": "string"}],
        "num_items": WHOLE,
        **dict.fromkeys(
            ("order_id", "shop_id", "search_string", "description", "customer_type"), TEXT
        ),
        "custom": [
            "null",
            {"type": "map", "values": ["null", "boolean", "long", "double", "string"]},
        ],
    },
    "Content": {
        **dict.fromkeys(("content_id", "content_name", "content_category", "brand"), TEXT),
        "quantity": WHOLE,
        "price": NUMBER,
    },
    "App": dict.fromkeys(("app_id", "app_name", "app_version"), TEXT),
    "Ad": {
        **dict.fromkeys(("callback", "campaign_id", "ad_id", "creative_id"), TEXT),
        "is_retargeting": FLAG,
        "attributed": FLAG,
        **dict.fromkeys(("attribution_type", "attribution_provider", "attribution_share"), TEXT),
    },
    "Lead": {"lead_id": TEXT, "lead_event_source": TEXT},
    "Consent": {"region": TEXT, "cmp_version": TEXT},
}
NESTED_FIELDS = {
    "ConversionEvent": {"event_source", "page", "user", "properties", "app", "ad", "lead"}
    | {"consent"},
    "Properties": {"contents"},
    "Consent": {"marketing", "ad_user_data", "ad_personalization", "collected_at"},
}


def named_types(schema: Any) -> dict[str, Any]:
    """Every record and enum in the schema by its name."""
    found: dict[str, Any] = {}
    if isinstance(schema, list):
        for branch in schema:
            found |= named_types(branch)
    elif isinstance(schema, dict):
        if "name" in schema:
            found[schema["name"]] = schema
        for field in schema.get("fields", ()):
            found |= named_types(field["type"])
        found |= named_types(schema.get("items"))
    return found


TYPES = named_types(SCHEMA)
RECORDS = [type_ for type_ in TYPES.values() if type_["type"] == "record"]


def test_the_event_is_valid_avro_under_its_name() -> None:
    """Producers and registries know the record as tiktok_events.ConversionEvent."""
    assert fastavro.parse_schema(SCHEMA)["name"] == "tiktok_events.ConversionEvent"


def test_only_id_name_and_time_are_required() -> None:
    """The first three fields have no default and admit no null."""
    required = [f["name"] for record in RECORDS for f in record["fields"] if "default" not in f]
    assert required == ["event_id", "event", "event_time"]


def test_times_are_in_milliseconds() -> None:
    """event_time says its unit to every Avro library."""
    assert SCHEMA["fields"][2]["type"] == {"type": "long", "logicalType": "timestamp-millis"}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["name"])
def test_every_optional_field_is_null_unless_given(record: dict[str, Any]) -> None:
    """Null first and as default, so that any field can be left out by any producer."""
    for field in record["fields"]:
        if "default" in field:
            assert field["type"][0] == "null", field["name"]
            assert field["default"] is None, field["name"]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["name"])
def test_every_record_has_the_fields_of_the_contract(record: dict[str, Any]) -> None:
    """Names and types are what producers were promised, no more and no less."""
    optional = {field["name"]: field["type"] for field in record["fields"] if "default" in field}
    plain = PLAIN_FIELDS[record["name"]]
    assert {name: optional[name] for name in plain} == plain
    assert optional.keys() - plain.keys() == NESTED_FIELDS.get(record["name"], set())


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["name"])
def test_every_field_says_what_it_means(record: dict[str, Any]) -> None:
    """A doc of a sentence on the record and on each of its fields."""
    for part in (record, *record["fields"]):
        assert part["doc"].endswith("."), part["name"]


def test_a_new_consent_answer_is_read_as_unknown() -> None:
    """An enum default keeps a newer producer's symbol from failing its events."""
    assert TYPES["ConsentState"]["symbols"] == ["UNKNOWN", "GRANTED", "DENIED"]
    assert TYPES["ConsentState"]["default"] == "UNKNOWN"


def test_event_sources_are_tiktoks_and_none_stands_for_an_unknown_one() -> None:
    """Reading an unknown source as web would send it to the wrong place."""
    assert TYPES["EventSource"]["symbols"] == ["web", "app", "offline", "crm"]
    assert "default" not in TYPES["EventSource"]


def test_the_older_name_of_search_string_is_an_alias() -> None:
    """TikTok once called it query, and producers still do."""
    fields = {field["name"]: field for field in TYPES["Properties"]["fields"]}
    assert fields["search_string"]["aliases"] == ["query"]


def test_a_schema_that_does_not_exist_is_not_found() -> None:
    """A misspelt name fails where it is written."""
    with pytest.raises(FileNotFoundError):
        load_schema("no_such_schema")
