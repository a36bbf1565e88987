"""Generated readers make of any bytes what fastavro makes of them, or refuse them."""

from __future__ import annotations

import copy
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
from fastavro._read_py import read_data
from fastavro.io.binary_decoder import BinaryDecoder
from fastavro.read import SchemaResolutionError
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.decode import Decoder, Encoding, Undecodable
from consumer.evolution import Evolution, Reading
from consumer.reader_code import Unresolvable
from tests.support.events import SCHEMA, any_event, avro, event, purchase, values

if TYPE_CHECKING:
    from collections.abc import Callable

few = settings(max_examples=40, deadline=None)
many = settings(max_examples=150, deadline=None)

EVOLUTION = Evolution(SCHEMA)


class StrictDecoder(BinaryDecoder):
    """fastavro's own decoder in Python, without what it lets pass: the oracle for hostile bytes."""

    def read_long(self) -> int:
        """At most 64 bits."""
        start = self.fo.tell()
        number = super().read_long()
        if self.fo.tell() - start > 10 or not -(2**63) <= number < 2**63:
            raise ValueError("more than 64 bits")
        return number

    read_int = read_long

    def read_index(self) -> int:
        """Not from the end of the list."""
        index = self.read_long()
        if index < 0:
            raise ValueError("negative index")
        return index

    read_enum = read_index

    def read_bytes(self) -> bytes:
        """No length below nothing."""
        size = self.read_long()
        out = self.fo.read(max(size, 0))
        if len(out) != size:
            raise EOFError
        return out


def by_oracle(reading: Reading, value: bytes) -> Any:
    """The value as strict fastavro has it; any exception for one that is not sound."""
    stream = BytesIO(value)
    names: Any = {"writer": {}, "reader": {}}
    writer = fastavro.parse_schema(_unparsed(reading.writer), names["writer"])
    reader = reading.reader and fastavro.parse_schema(_unparsed(reading.reader), names["reader"])
    read = read_data(StrictDecoder(stream), writer, names, reader, {})
    if stream.tell() != len(value):
        raise ValueError("bytes after the end")
    return read


def _unparsed(schema: Any) -> Any:
    return {k: v for k, v in schema.items() if not k.startswith("__fastavro")}


def by_fastavro(reading: Reading, value: bytes) -> Any:
    """The value as the consumer without generated readers would have it."""
    stream = BytesIO(value)
    read = fastavro.schemaless_reader(stream, reading.writer, reading.reader)
    assert stream.tell() == len(value)
    return read


def by_generated(reading: Reading, value: bytes) -> Any:
    """The value by the generated reader, its end checked."""
    assert reading.read is not None
    read, end = reading.read(value, 0)
    assert end == len(value)
    return read


def same(left: Any, right: Any) -> bool:
    """Equality that knows NaN and tells 1 from 1.0 and True; the order of fields is free."""
    return repr(_sorted(left)) == repr(_sorted(right))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, _sorted(value[key])) for key in sorted(value)]
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def inner(schema: Any, field: str) -> Any:
    """The record in a nullable field."""
    return next(f for f in schema["fields"] if f["name"] == field)["type"][1]


def without_defaults(schema: Any) -> Any:
    """A writer's schema: its defaults do not matter and would have to fit changed types."""
    if isinstance(schema, list):
        return [without_defaults(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: without_defaults(part) for key, part in schema.items() if key != "default"}


def older() -> Any:
    """A writer that knows less, has narrower types and the older name of a field."""
    schema = without_defaults(SCHEMA)
    schema["namespace"] = "com.shop"
    schema["fields"] = [f for f in schema["fields"] if f["name"] not in {"lead", "ad", "page"}]
    schema["fields"][2]["type"] = "int"
    for field in (fields := inner(schema, "properties")["fields"]):
        if field["name"] == "value":
            field["type"] = ["null", "long", "float"]
        if field["name"] == "search_string":
            field["name"] = "query"
            del field["aliases"]
    fields.reverse()
    content = next(f for f in fields if f["name"] == "contents")["type"][1]["items"]
    content["fields"][4]["type"] = "int"
    content["fields"][5]["type"] = ["double", "null"]
    inner(schema, "user")["fields"][0]["type"] = ["string", "null"]
    inner(schema, "app")["fields"][0]["type"] = "bytes"
    return schema


EXTRA: Any = [
    "string",
    "long",
    "boolean",
    "double",
    "float",
    "bytes",
    {"type": "fixed", "name": "Mac", "size": 6},
    {"type": "enum", "name": "Level", "symbols": ["low", "high"]},
    {"type": "array", "items": "double"},
    {"type": "array", "items": ["null", "string", "long"]},
    {"type": "map", "values": "null"},
    {"type": "map", "values": {"type": "array", "items": "long"}},
    {
        "type": "record",
        "name": "Fraud",
        "fields": [
            {"name": "score", "type": ["null", "double"]},
            {"name": "rule", "type": ["null", "string"]},
            {"name": "by", "type": ["null", "Level"]},
            {"name": "at", "type": "long"},
        ],
    },
]


def newer() -> Any:
    """A writer with fields of every type that we do not know, and more symbols and branches."""
    schema = without_defaults(SCHEMA)
    extra = [{"name": f"extra_{n}", "type": type_} for n, type_ in enumerate(EXTRA)]
    schema["fields"] = extra + schema["fields"]
    inner(schema, "user")["fields"].insert(3, {"name": "loyalty", "type": ["null", "Fraud"]})
    consent = inner(schema, "consent")
    consent["fields"][0]["type"][1]["symbols"].insert(1, "ASKED_AGAIN")
    consent["fields"][1]["type"] = "ConsentState"
    source = next(f for f in schema["fields"] if f["name"] == "event_source")["type"][1]
    source["symbols"].append("tv")
    page = next(f for f in schema["fields"] if f["name"] == "page")
    page["type"] = ["null", "long", page["type"][1]]
    custom = inner(schema, "properties")["fields"][-1]["type"][1]
    custom["values"] = ["string", "int", "null", "float", "bytes", "double"]
    return schema


WRITERS = {"ours": SCHEMA, "older": older(), "newer": newer()}
READINGS = {name: EVOLUTION.reading([schema]) for name, schema in WRITERS.items()}

_FEWER: Any = {
    "int": st.integers(-(2**31), 2**31 - 1),
    "float": st.floats(width=32),
    "bytes": st.binary(max_size=6) | st.text(max_size=4).map(str.encode),
}


def written(schema: Any) -> st.SearchStrategy[bytes]:
    """The bytes of any value of a writer's schema."""
    parsed = fastavro.parse_schema(copy.deepcopy(schema))
    return _values(schema, {}).map(lambda value: _bytes(value, parsed))


def _bytes(value: Any, parsed: Any) -> bytes:
    stream = BytesIO()
    fastavro.schemaless_writer(stream, parsed, value)
    return stream.getvalue()


def _values(schema: Any, names: dict[str, Any]) -> st.SearchStrategy[Any]:
    if isinstance(schema, list):
        return st.one_of([_values(branch, names) for branch in schema])
    if isinstance(schema, str):
        if schema in names:
            return _complex_values(names[schema], names)
        return _FEWER[schema] if schema in _FEWER else values(schema)
    names[schema.get("name", "")] = schema
    return _complex_values(schema, names)


def _complex_values(schema: Any, names: dict[str, Any]) -> st.SearchStrategy[Any]:
    match schema["type"]:
        case "fixed":
            return st.binary(min_size=schema["size"], max_size=schema["size"])
        case "record":
            return st.fixed_dictionaries(
                {field["name"]: _values(field["type"], names) for field in schema["fields"]}
            )
        case "array":
            return st.lists(_values(schema["items"], names), max_size=3)
        case "map":
            return st.dictionaries(
                st.text(max_size=8), _values(schema["values"], names), max_size=3
            )
        case _:
            return values(schema)


WRITTEN = {name: written(schema) for name, schema in WRITERS.items()}


@pytest.mark.parametrize("writer", WRITERS)
def test_the_schemas_that_matter_are_read_by_generated_code(writer: str) -> None:
    """The tests below would say nothing if fastavro did the reading."""
    assert READINGS[writer].generated


@pytest.mark.parametrize("writer", WRITERS)
@few
@given(data=st.data())
def test_any_value_is_read_as_fastavro_reads_it(writer: str, data: st.DataObject) -> None:
    """The same dict, or refused by both where a symbol or branch does not resolve."""
    value = data.draw(WRITTEN[writer])
    reading = READINGS[writer]
    try:
        expected = by_fastavro(reading, value)
    except SchemaResolutionError:
        refusal: type[Exception] = Unresolvable
    except UnicodeDecodeError:
        refusal = UnicodeDecodeError
    else:
        assert same(by_generated(reading, value), expected)
        return
    with pytest.raises(refusal):
        by_generated(reading, value)


@pytest.mark.parametrize("writer", WRITERS)
@many
@given(data=st.data())
def test_a_mutated_value_is_read_as_strict_fastavro_reads_it(
    writer: str, data: st.DataObject
) -> None:
    """Hostile bytes give neither another dict nor one where strict fastavro refuses."""
    value = bytearray(avro(purchase()) if writer == "ours" else data.draw(WRITTEN[writer]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(value)))
        noise = data.draw(st.sampled_from([b"", b"\x80\x00", b"\x01"]) | st.binary(max_size=4))
        value[at : at + data.draw(st.integers(0, 4))] = noise
    assert_like_the_oracle(READINGS[writer], bytes(value))


REFUSED = object()


def attempt(read: Callable[[Reading, bytes], Any], reading: Reading, value: bytes) -> Any:
    """The value as it is read, or `REFUSED`."""
    try:
        return read(reading, value)
    except Exception:  # noqa: BLE001  readers of hostile bytes raise whatever they hit
        return REFUSED


def assert_like_the_oracle(reading: Reading, value: bytes) -> None:
    """What generated code makes of a value is what fastavro makes of it; what it refuses is bad.

    Strict fastavro goes first: the native one counts for hours where a skipped array of doubles
    claims so. What is skipped they see differently: the strict one decodes text and walks over the
    items of a block that tells its size, and only reading it as the writer's checks its symbols.
    """
    strict = attempt(by_oracle, reading, value)
    generated = attempt(by_generated, reading, value)
    if generated is REFUSED:
        as_written = attempt(by_oracle, reading._replace(reader=None), value)
        bad = strict is REFUSED or as_written is REFUSED
        assert bad or attempt(by_fastavro, reading, value) is REFUSED
    else:
        assert same(generated, attempt(by_fastavro, reading, value))
        assert same(generated, strict) or reading is READINGS["newer"]


@few
@given(any_event)
def test_numbers_written_in_more_bytes_than_needed_are_read(drawn: dict[str, Any]) -> None:
    """Avro does not ask for the shortest form of a number: a padded tag is a tag."""
    value = avro(drawn | {"event_source_id": None, "event_source": "crm"})
    start = len(avro(event(event_id=drawn["event_id"], event=drawn["event"]))) - len(
        avro(event(event_id="", event=""))
    )
    at = start + 2 + len(_long(drawn["event_time"]))
    assert value[at : at + 3] == b"\x00\x02\x06"
    padded = value[:at] + b"\x80\x80\x00\x82\x00\x86\x80\x00" + value[at + 3 :]
    assert same(by_generated(READINGS["ours"], padded), by_fastavro(READINGS["ours"], value))


def _long(number: int) -> bytes:
    return _bytes(number, "long")


@pytest.mark.parametrize("writer", WRITERS)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_every_prefix_is_undecodable(writer: str, data: st.DataObject) -> None:
    """A slice past the end is noticed, in the last field as in any other."""
    value = data.draw(WRITTEN[writer])
    decoder = Decoder(Encoding.RAW, SCHEMA, [WRITERS[writer]])
    for length in range(len(value)):
        with pytest.raises(Undecodable):
            decoder.decode(value[:length])
