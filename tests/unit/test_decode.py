"""Bytes become events by Avro's rules, and hostile bytes become nothing else."""

from __future__ import annotations

import copy
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.decode import Decoder, Encoding, Undecodable, UnknownSchema, UnusableSchema
from consumer.evolution import fingerprint
from tests.support import events
from tests.support.events import SCHEMA, any_event, avro, confluent, event, purchase, single_object

few = settings(max_examples=40, deadline=None)


def learned(*schemas: Any) -> Decoder:
    """A decoder that knows schema id 1: our own unless others are given."""
    decoder = Decoder(Encoding.CONFLUENT, SCHEMA)
    decoder.learn(1, [json.dumps(schema) for schema in schemas or (SCHEMA,)])
    return decoder


def changed(**fields: Any) -> Any:
    """Our schema with fields of the event replaced, added or (None) left out."""
    schema = copy.deepcopy(SCHEMA)
    kept = [f for f in schema["fields"] if f["name"] not in fields]
    new = [{"name": name, "type": type_} for name, type_ in fields.items() if type_ is not None]
    schema["fields"] = kept + new
    return schema


def properties_of(schema: Any) -> Any:
    """The Properties record inside an event schema."""
    field = next(f for f in schema["fields"] if f["name"] == "properties")
    return field["type"][1]


OURS = learned()


@few
@given(any_event)
def test_any_event_comes_back_as_it_was_written(written: dict[str, Any]) -> None:
    """Decoding is the inverse of Avro's own encoding, byte for byte."""
    assert avro(OURS.decode(confluent(written))) == avro(written)


@few
@given(any_event)
def test_a_resolved_event_equals_one_read_directly(written: dict[str, Any]) -> None:
    """Resolution through another writer schema changes nothing that both have."""
    newer = changed(loyalty_level={"type": "string"})
    value = confluent(written | {"loyalty_level": "gold"}, schema=fastavro.parse_schema(newer))
    assert avro(learned(newer).decode(value)) == avro(written)


def test_times_are_integers_in_milliseconds() -> None:
    """No datetime is made: nothing downstream wants one, and it costs more than the rest."""
    decoded = OURS.decode(confluent(event(consent={"collected_at": 1_700_000_000_123})))
    assert decoded["event_time"] == events.EVENT_TIME_MS
    assert decoded["consent"]["collected_at"] == 1_700_000_000_123


def test_raw_values_need_no_header() -> None:
    """With a configured schema the value is Avro and nothing else."""
    assert Decoder(Encoding.RAW, SCHEMA).decode(avro(purchase())) == purchase()


def test_raw_values_of_another_writer_resolve() -> None:
    """The configured writer schema may be older than ours."""
    older = changed(lead=None, consent=None)
    value = avro(event(), fastavro.parse_schema(older))
    assert Decoder(Encoding.RAW, SCHEMA, [older]).decode(value) == event()


@pytest.mark.parametrize("schema", [SCHEMA, changed(lead=None)], ids=["ours", "another"])
def test_single_object_values_are_recognised_by_fingerprint(schema: Any) -> None:
    """Ours is always known, others where configured."""
    decoder = Decoder(Encoding.SINGLE_OBJECT, SCHEMA, [changed(lead=None)])
    value = single_object(event(), fingerprint(schema), fastavro.parse_schema(schema))
    assert decoder.decode(value) == event()


@pytest.mark.parametrize(
    ("schema", "number"), [("null", 7195948357588979594), ("int", 8247732601305521295)]
)
def test_fingerprints_are_those_of_the_avro_specification(schema: str, number: int) -> None:
    """Published CRC-64-AVRO values, in the byte order of single-object encoding."""
    assert fingerprint(schema) == number.to_bytes(8, "little")


def test_an_unknown_fingerprint_is_undecodable() -> None:
    """The detail names the fingerprint, so that the schema can be found and configured."""
    with pytest.raises(Undecodable, match="0102030405060708"):
        Decoder(Encoding.SINGLE_OBJECT, SCHEMA).decode(single_object(event(), bytes(range(1, 9))))


def test_an_unlearned_id_is_asked_for() -> None:
    """The exception carries the id that the registry is to be asked for."""
    with pytest.raises(UnknownSchema) as unknown:
        OURS.decode(confluent(event(), schema_id=70_000))
    assert unknown.value.schema_id == 70_000


def test_an_older_writer_leaves_later_fields_null() -> None:
    """Defaults fill what the writer did not know."""
    older = changed(consent=None, lead=None, ad=None, app=None)
    value = confluent(event(), schema=fastavro.parse_schema(older))
    assert learned(older).decode(value) == event()


def test_the_alias_query_is_read_as_search_string() -> None:
    """A producer that uses TikTok's older name needs no change."""
    older = copy.deepcopy(SCHEMA)
    field = next(f for f in properties_of(older)["fields"] if f["name"] == "search_string")
    field["name"] = "query"
    del field["aliases"]
    written = event(properties={})
    written["properties"]["query"] = "mug"
    decoded = learned(older).decode(confluent(written, schema=fastavro.parse_schema(older)))
    assert decoded["properties"]["search_string"] == "mug"


def test_a_writer_with_both_names_is_read_by_the_newer() -> None:
    """A producer in the middle of its renaming is readable, and its own field wins."""
    both = copy.deepcopy(SCHEMA)
    properties_of(both)["fields"].append({"name": "query", "type": ["null", "string"]})
    written = event(properties={"search_string": "new"})
    written["properties"]["query"] = "old"
    decoded = learned(both).decode(confluent(written, schema=fastavro.parse_schema(both)))
    assert decoded["properties"]["search_string"] == "new"


def test_an_int_is_promoted_to_a_long() -> None:
    """Numbers widen by Avro's rules."""
    narrow = changed(event_time="int")
    value = confluent(event(event_time=7), schema=fastavro.parse_schema(narrow))
    assert learned(narrow).decode(value)["event_time"] == 7


def test_another_namespace_resolves() -> None:
    """Avro compares names without their namespaces."""
    theirs = copy.deepcopy(SCHEMA) | {"namespace": "com.shop"}
    value = confluent(purchase(), schema=fastavro.parse_schema(theirs))
    assert learned(theirs).decode(value) == purchase()


def test_referenced_schemas_are_taken_from_the_registrys_answer() -> None:
    """A schema that refers to others is read with them in front of it."""
    page = {"type": "record", "name": "Page", "namespace": "shop"} | {
        "fields": [{"name": "url", "type": "string"}]
    }
    theirs = changed(page=["null", "shop.Page"])
    names: dict[str, Any] = {}
    fastavro.parse_schema(page, names)
    value = confluent(event(), schema=fastavro.parse_schema(theirs, names))
    assert learned(page, theirs).decode(value) == event()


def test_a_consent_answer_of_a_newer_producer_is_unknown() -> None:
    """The enum's default stands for a symbol that is not known here."""
    newer = copy.deepcopy(SCHEMA)
    consent = next(f for f in newer["fields"] if f["name"] == "consent")["type"][1]
    consent["fields"][0]["type"][1]["symbols"].append("ASKED_AGAIN")
    written = event(consent={"marketing": "ASKED_AGAIN"})
    decoded = learned(newer).decode(confluent(written, schema=fastavro.parse_schema(newer)))
    assert decoded["consent"]["marketing"] == "UNKNOWN"


def test_an_event_source_of_a_newer_producer_is_undecodable() -> None:
    """It is kept as a dead letter instead of being sent as an event of another source."""
    newer = changed(event_source={"type": "enum", "name": "EventSource", "symbols": ["web", "tv"]})
    written = event(event_source="tv")
    with pytest.raises(Undecodable, match="does not resolve"):
        learned(newer).decode(confluent(written, schema=fastavro.parse_schema(newer)))


@pytest.mark.parametrize("encoding", Encoding)
def test_every_truncation_is_undecodable(encoding: Encoding) -> None:
    """No prefix of a value passes for an event."""
    decoder = OURS if encoding is Encoding.CONFLUENT else Decoder(encoding, SCHEMA)
    value = {
        Encoding.CONFLUENT: confluent(purchase()),
        Encoding.SINGLE_OBJECT: single_object(purchase(), fingerprint(SCHEMA)),
        Encoding.RAW: avro(purchase()),
    }[encoding]
    assert decoder.decode(value) == purchase()
    for length in range(len(value)):
        with pytest.raises(Undecodable):
            decoder.decode(value[:length])


def test_bytes_after_the_end_are_undecodable() -> None:
    """Two values in one record, or a wrong schema, must not pass for one event."""
    with pytest.raises(Undecodable, match="2 bytes after the end"):
        OURS.decode(confluent(event()) + b"\x00\x00")


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x00\x00\x00\x01", b"\x01\x00\x00\x00\x01\x02"])
def test_what_is_not_in_the_wire_format_is_undecodable(value: bytes) -> None:
    """A wrong magic byte or a value without a whole id names no schema."""
    with pytest.raises(Undecodable, match="wire format"):
        OURS.decode(value)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(5, len(confluent(purchase())) - 1),
    st.binary(min_size=1, max_size=10),
    st.booleans(),
)
def test_mutated_values_decode_or_are_undecodable(at: int, noise: bytes, resolve: bool) -> None:  # noqa: FBT001  drawn by hypothesis
    """Whatever a producer's broken serialiser writes, nothing but Undecodable escapes."""
    value = confluent(purchase())
    mutated = value[:at] + noise + value[at + len(noise) :]
    decoder = learned(changed(lead=None)) if resolve else OURS
    try:
        decoded = decoder.decode(mutated)
    except Undecodable:
        return
    assert decoded.keys() == purchase().keys()


@pytest.mark.parametrize(
    "length", [b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x80\x80\x80\x80\x80\x20", b"\x09"]
)
def test_hostile_lengths_are_undecodable(length: bytes) -> None:
    """A string that claims exabytes, terabytes or less than nothing costs no memory."""
    with pytest.raises(Undecodable):
        OURS.decode(b"\x00\x00\x00\x00\x01" + length + b"abc")


def test_an_undecodable_value_is_never_quoted() -> None:
    """Neither the text nor a chained exception holds a piece of the value."""
    canary = b"canary@mail.example"
    broken = confluent(event(event_id="A" * len(canary))).replace(b"A" * 19, canary[:-1] + b"\xff")
    with pytest.raises(Undecodable) as refused:
        OURS.decode(broken)
    assert "canary" not in repr(refused.value) + refused.value.detail
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None


NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
NOTHING = {"type": "record", "name": "Nothing", "fields": []}


def doubling(levels: int) -> Any:
    """Records of two of the record below, and so on: few words, many parts."""
    inner: Any = "null"
    for level in range(levels):
        below = inner["name"] if level else "null"
        fields = [{"name": "a", "type": inner}, {"name": "b", "type": below}]
        inner = {"type": "record", "name": f"Level{level}", "fields": fields}
    return inner


def nested(depth: int) -> Any:
    """Arrays in arrays."""
    inner: Any = "long"
    for _ in range(depth):
        inner = {"type": "array", "items": inner}
    return inner


@pytest.mark.parametrize(
    ("schema", "detail"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"type": "record"}', "not an Avro schema"),
        ('{"type": "no.such.Type"}', "no.such.Type"),
        ("7", "not an Avro schema"),
        (json.dumps("string"), "the record"),
        (json.dumps(NOTHING), "the record"),
        (json.dumps(changed(event_id=None)), "field event_id: missing"),
        (json.dumps(changed(event_time="string")), "field event_time"),
        (json.dumps(changed(page="long")), "field page: long does not resolve"),
        (json.dumps(changed(page=NODE)), "contains itself"),
        (json.dumps(changed(extra={"type": "array", "items": "null"})), "take no bytes"),
        (json.dumps(changed(extra={"type": "array", "items": NOTHING})), "take no bytes"),
        (json.dumps(changed(extra=doubling(20))), "parts"),
        (json.dumps(changed(extra=nested(70))), "deep"),
        (
            json.dumps(changed(event_time={"type": "long", "logicalType": "timestamp-micros"})),
            "timestamp-micros",
        ),
    ],
)
def test_a_schema_that_cannot_or_must_not_be_read_is_unusable(schema: str, detail: str) -> None:
    """It is refused when it is learned, with a detail that says why, not at every record."""
    decoder = Decoder(Encoding.CONFLUENT, SCHEMA)
    with pytest.raises(UnusableSchema, match=detail) as refused:
        decoder.learn(1, [schema])
    assert len(refused.value.detail) <= 300
    with pytest.raises(UnknownSchema):
        decoder.decode(confluent(event()))


def test_an_answer_without_a_schema_is_unusable() -> None:
    """An empty answer is no schema."""
    with pytest.raises(UnusableSchema, match="no schema"):
        OURS.learn(2, [])


def test_a_mismatch_inside_a_record_names_its_field() -> None:
    """The producer reads which field to change, not merely that the record does not fit."""
    theirs = copy.deepcopy(SCHEMA)
    theirs["fields"][7]["type"] = theirs["fields"][7]["type"][1]
    theirs["fields"][7]["type"]["fields"][0]["type"] = "long"
    with pytest.raises(UnusableSchema, match=r"field page\.url: long does not resolve"):
        learned(theirs)


def test_a_field_that_only_some_values_fit_is_read_for_those() -> None:
    """A union of the writer is judged by each value, not as a whole."""
    theirs = changed(page=["null", "long"])
    parsed = fastavro.parse_schema(theirs)
    decoder = learned(theirs)
    assert decoder.decode(confluent(event(page=None), schema=parsed)) == event(page=None)
    with pytest.raises(Undecodable, match="does not resolve"):
        decoder.decode(confluent(event() | {"page": 7}, schema=parsed))


def test_a_writers_wrong_default_does_not_matter() -> None:
    """Other Avro libraries let producers register it, and reading never uses it."""
    theirs = copy.deepcopy(SCHEMA)
    theirs["fields"].append({"name": "extra", "type": "long", "default": "none"})
    assert learned(theirs).decode(confluent(event()) + b"\x00") == event()


@pytest.mark.parametrize(
    ("encoding", "count"), [(Encoding.RAW, 2), (Encoding.CONFLUENT, 1)], ids=["raw", "confluent"]
)
def test_writer_schemas_must_fit_the_encoding(encoding: Encoding, count: int) -> None:
    """A configured schema that would never be used is a mistake."""
    with pytest.raises(ValueError, match="values"):
        Decoder(encoding, SCHEMA, [SCHEMA] * count)
