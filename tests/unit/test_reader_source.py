"""Generated readers: Avro's rarer forms, hostile values, hostile schemas and their limits."""

from __future__ import annotations

import ast
import copy
import json
from io import BytesIO
from typing import Any

import fastavro
import pytest

from consumer.decode import Decoder, Encoding, Undecodable
from consumer.evolution import Evolution, Reading
from consumer.reader_source import Unsupported, generate
from consumer.reader_text import MAX_BRANCHES, MAX_DEPTH, MAX_LINES, MAX_LOOPS
from tests.support.events import SCHEMA, avro, event, purchase

EVOLUTION = Evolution(SCHEMA)


def by_fastavro(reading: Reading, value: bytes) -> Any:
    """The value as fastavro reads it."""
    return fastavro.schemaless_reader(BytesIO(value), reading.writer, reading.reader)


def by_generated(reading: Reading, value: bytes) -> Any:
    """The value by the generated reader, its end checked."""
    assert reading.read is not None
    read, end = reading.read(value, 0)
    assert end == len(value)
    return read


def inner(schema: Any, field: str) -> Any:
    """The record in a nullable field."""
    return next(f for f in schema["fields"] if f["name"] == field)["type"][1]


def _bytes(value: Any, parsed: Any) -> bytes:
    stream = BytesIO()
    fastavro.schemaless_writer(stream, parsed, value)
    return stream.getvalue()


BLOCKS = {
    "type": "record",
    "name": "ConversionEvent",
    "fields": [
        {"name": "extra", "type": {"type": "map", "values": ["null", "string"]}},
        *SCHEMA["fields"][:3],
        {"name": "user", "type": copy.deepcopy(SCHEMA["fields"][8]["type"])},
    ],
}


def blocks(extra: bytes, emails: bytes) -> bytes:
    """An event of the schema above, around a map's and an array's blocks."""
    return extra + b"\x02i\x02e\x02" + b"\x02\x04" + emails + bytes(17)


@pytest.mark.parametrize(
    ("extra", "emails", "expected"),
    [
        (b"\x00", b"\x00", []),
        (b"\x00", b"\x04\x02a\x02b\x00", ["a", "b"]),
        (b"\x00", b"\x02\x02a\x02\x02b\x00", ["a", "b"]),
        (b"\x00", b"\x03\x08\x02a\x02b\x00", ["a", "b"]),
        (b"\x00", b"\x02\x02a\x01\x04\x02b\x00", ["a", "b"]),
        (b"\x02\x02k\x00\x00", b"\x00", []),
        (b"\x01\x06\x02k\x00\x02\x02l\x02\x02v\x00", b"\x00", []),
    ],
)
def test_blocks_with_and_without_their_size_are_read(
    extra: bytes, emails: bytes, expected: list[str]
) -> None:
    """Avro's writers may split arrays and maps into blocks and tell the bytes of each."""
    reading = EVOLUTION.reading([BLOCKS])
    value = blocks(extra, emails)
    assert by_generated(reading, value)["user"]["email"] == expected
    assert by_generated(reading, value) == by_fastavro(reading, value)


COUNTS = [
    b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xfe\xff\xff\xff\x0f",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02",
    b"\x80",
]
HOSTILE = [
    {"type": "array", "items": "double"},
    {"type": "array", "items": "string"},
    {"type": "array", "items": {"type": "array", "items": "boolean"}},
    {"type": "map", "values": "null"},
]


@pytest.mark.timeout(10)
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("items", HOSTILE)
def test_hostile_counts_cost_no_time(items: Any, count: bytes) -> None:
    """A block that claims 2^63 items is refused before the first, also where it is skipped."""
    schema = {"type": "record", "name": "ConversionEvent", "fields": [*SCHEMA["fields"][:3]]}
    schema["fields"].append({"name": "extra", "type": items})
    decoder = Decoder(Encoding.RAW, SCHEMA, [schema])
    with pytest.raises(Undecodable):
        decoder.decode(b"\x02i\x02e\x02" + count + bytes(20))


@pytest.mark.timeout(10)
def test_hostile_counts_of_items_that_nothing_is_read_of_cost_no_memory() -> None:
    """Items whose fields are all unknown here become defaults without a look at their bytes."""
    schema = copy.deepcopy(SCHEMA)
    contents = inner(schema, "properties")["fields"][3]["type"][1]
    contents["items"]["fields"] = [{"name": "junk", "type": "double"}]
    reading = EVOLUTION.reading([schema])
    assert reading.generated
    value = b"\x02i\x02e\x02" + bytes(6) + b"\x02" + bytes(3) + b"\x02" + COUNTS[0]
    with pytest.raises(Undecodable):
        Decoder(Encoding.RAW, SCHEMA, [schema]).decode(value + bytes(30))


@pytest.mark.parametrize("tag", [b"\x01", b"\x81\x00", b"\x03", b"\x06"])
@pytest.mark.parametrize("before", [b"", b"\x00"], ids=["union", "enum"])
def test_an_index_out_of_range_or_negative_is_undecodable(tag: bytes, before: bytes) -> None:
    """Python, and so fastavro, counts negative ones from the end."""
    event_source = b"\x02" + (b"\x08" if tag == b"\x06" else tag) if before else tag
    value = b"\x02i\x02e\x02\x00" + event_source + bytes(9)
    with pytest.raises(Undecodable):
        Decoder(Encoding.RAW, SCHEMA).decode(value)


@pytest.mark.parametrize(
    ("type_", "sound", "broken"),
    [
        ({"type": "enum", "name": "Level", "symbols": ["low", "high"]}, b"\x02", b"\x04"),
        ({"type": "enum", "name": "Level", "symbols": ["low", "high"]}, b"\x02", b"\x01"),
        (["null", "long"], b"\x02\x02", b"\x01"),
        (["long", "null"], b"\x02", b"\x04"),
        ("string", b"\x02a", b"\x01"),
        ("string", b"\x02a", b"\x04a"),
        ("double", bytes(8), bytes(7)),
        ({"type": "fixed", "name": "Mac", "size": 6}, bytes(6), bytes(5)),
    ],
)
def test_a_field_that_nobody_wants_is_still_checked(
    type_: Any, sound: bytes, broken: bytes
) -> None:
    """Where the next field starts must be certain, and the last one must be whole."""
    fields = [*SCHEMA["fields"][:3], {"name": "extra", "type": type_}]
    schema = {"type": "record", "name": "ConversionEvent", "fields": fields}
    decoder = Decoder(Encoding.RAW, SCHEMA, [schema])
    assert decoder.decode(b"\x02i\x02e\x02" + sound)["event_time"] == 1
    with pytest.raises(Undecodable):
        decoder.decode(b"\x02i\x02e\x02" + broken)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (b"\x02", 1),
        (b"\x82\x80\x00", 1),
        (b"\xfe" + b"\xff" * 8 + b"\x01", 2**63 - 1),
        (b"\xff" * 9 + b"\x01", -(2**63)),
        (b"\xff" * 9 + b"\x02", None),
        (b"\x80" * 9 + b"\x7e", None),
        (b"\x80" * 10 + b"\x00", None),
        (b"\x80" * 40, None),
    ],
)
def test_a_number_has_64_bits(number: bytes, expected: int | None) -> None:
    """Of a longer one fastavro keeps what happens to be left."""
    decoder = Decoder(Encoding.RAW, SCHEMA)
    value = b"\x02i\x02e" + number + bytes(11)
    if expected is None:
        with pytest.raises(Undecodable, match="corrupt"):
            decoder.decode(value)
    else:
        assert decoder.decode(value)["event_time"] == expected


@pytest.mark.parametrize("length", [b"\x01", b"\x05", b"\x81\x00", b"\x83\x01", b"\x85\x80\x01"])
@pytest.mark.parametrize("skipped", [False, True], ids=["read", "skipped"])
def test_a_negative_length_is_undecodable(length: bytes, skipped: bool) -> None:  # noqa: FBT001  a case
    """It must not pass for the length it has without its sign."""
    extra = [{"name": "extra", "type": "string"}] if skipped else []
    schema = record_of() | {"fields": extra + SCHEMA["fields"][:3]}
    decoder = Decoder(Encoding.RAW, SCHEMA, [schema])
    end = b"\x02i\x02e\x02" if skipped else b"\x02e\x02"
    for size in range(300):
        with pytest.raises(Undecodable):
            decoder.decode(length + b"a" * size + end)


EVIL = [
    "'] = 1; raise SystemExit #",
    'a"""\nraise SystemExit\n"""',
    "class",
    "naïve\u2028\ud800\x00\\",
    "__import__('os').abort()",
]


@pytest.mark.parametrize("name", EVIL)
def test_a_name_in_a_schema_is_harmless(name: str) -> None:
    """Names and symbols of a writer are not in the source at all, the reader's only escaped."""
    symbols = {"type": "enum", "name": "E", "symbols": [name]}
    fields = [{"name": "id", "type": "string"}, {"name": name, "type": ["null", symbols]}]
    record = {"type": "record", "name": "R", "fields": fields}
    theirs = generate(record, record | {"fields": fields[:1]}, {}, {})
    ours = generate(record, record, {}, {})
    assert name not in theirs.text
    assert ours.text.isascii()
    literals = [node.value for node in ast.walk(ast.parse(ours.text)) if _is_text(node)]
    assert sorted(literals) == sorted(["id", name])
    identifiers = {node.id for node in ast.walk(ast.parse(ours.text)) if isinstance(node, ast.Name)}
    assert all(name.isascii() and name.isalnum() for name in identifiers)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.parametrize("name", EVIL)
def test_a_registry_schema_with_a_hostile_name_is_read_or_refused(name: str) -> None:
    """Learning it runs nothing of it, and values of it lose only the field."""
    theirs = copy.deepcopy(SCHEMA)
    theirs["fields"].append({"name": name, "type": "string", "doc": name, "default": name})
    reading = EVOLUTION.reading([json.loads(json.dumps(theirs))])
    assert reading.generated
    assert by_generated(reading, avro(purchase()) + b"\x02x") == purchase()


def record_of(*types: Any) -> Any:
    """A record with fields of these types after those that an event must have."""
    fields = [{"name": f"f{number}", "type": type_} for number, type_ in enumerate(types)]
    return {
        "type": "record",
        "name": "ConversionEvent",
        "fields": [*SCHEMA["fields"][:3], *fields],
    }


def arrays(depth: int) -> Any:
    """Arrays in arrays."""
    return {"type": "array", "items": arrays(depth - 1)} if depth else "string"


def nested(depth: int) -> Any:
    """Nullable records in each other, five blocks each."""
    inside: Any = "string"
    for level in range(depth):
        fields = [{"name": f"f{n}", "type": ["null", "long"]} for n in range(32)]
        fields[-1]["type"] = ["null", inside]
        inside = {"type": "record", "name": f"R{level}", "fields": fields}
    return inside


def branching(count: int) -> Any:
    """A union of as many enums."""
    return [{"type": "enum", "name": f"E{n}", "symbols": ["a"]} for n in range(count)]


@pytest.mark.parametrize(
    ("largest", "too_large"),
    [
        (record_of(*["string"] * (MAX_LINES // 4)), record_of(*["string"] * (MAX_LINES // 3))),
        (record_of(arrays(MAX_LOOPS)), record_of(arrays(MAX_LOOPS + 1))),
        (record_of(nested(MAX_DEPTH // 5 - 1)), record_of(nested(MAX_DEPTH // 5))),
        (record_of(branching(MAX_BRANCHES)), record_of(branching(MAX_BRANCHES + 1))),
    ],
    ids=["lines", "loops", "depth", "branches"],
)
def test_what_is_too_large_for_generated_code_is_read_by_fastavro(
    largest: Any, too_large: Any
) -> None:
    """Up to the limit Python compiles it; past it the schema is as readable as before."""
    assert EVOLUTION.reading([largest]).generated
    reading = EVOLUTION.reading([too_large])
    assert not reading.generated
    ours = {name: value for name, value in event().items() if name in {"event_id", "event"}}
    filler = {field["name"]: _smallest(field["type"]) for field in too_large["fields"][3:]}
    value = _bytes(ours | {"event_time": 1} | filler, fastavro.parse_schema(too_large))
    assert Decoder(Encoding.RAW, SCHEMA, [too_large]).decode(value)["event_id"] == "event-1"


def _smallest(type_: Any) -> Any:
    if isinstance(type_, list):
        return "a"
    if isinstance(type_, str):
        return ""
    return [] if type_["type"] == "array" else dict.fromkeys(f["name"] for f in type_["fields"])


@pytest.mark.parametrize(
    "field",
    [
        {"name": "f", "type": {"type": "fixed", "name": "F", "size": 2}},
        {"name": "g", "type": {"type": "array", "items": "long"}, "default": []},
    ],
)
def test_what_our_schema_has_not_is_left_to_fastavro(field: Any) -> None:
    """A reader schema of the future falls back instead of being read wrongly."""
    writer = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "f", "type": {"type": "fixed", "name": "F", "size": 2}}],
    }
    with pytest.raises(Unsupported):
        generate(writer, writer | {"fields": [field]}, {}, {})
    assert not Evolution(writer | {"fields": [field]}).reading([writer]).generated


def test_two_fields_of_a_writer_that_are_one_of_ours_are_left_to_fastavro() -> None:
    """Which of them counts is not ours to say."""
    reader = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "a", "type": "long", "aliases": ["b", "c"]}],
    }
    fields = [{"name": "b", "type": "long"}, {"name": "c", "type": "long"}]
    with pytest.raises(Unsupported, match="two fields"):
        generate(reader | {"fields": fields}, reader, {}, {})


PAIRS: list[tuple[Any, Any, Any]] = [
    ("int", "double", 7),
    ("long", "float", -7),
    ("float", "double", 0.5),
    ("string", "bytes", "é"),
    ("bytes", "string", "é".encode()),
    ("bytes", "bytes", b"\xff"),
    ("null", ["string", "null"], None),
    (["null", "int"], ["double", "long", "null"], 3),
    (["string", "null"], ["null", "bytes"], "x"),
    ({"type": "map", "values": "int"}, {"type": "map", "values": ["null", "double"]}, {"a": 1}),
]


@pytest.mark.parametrize(("written_as", "read_as", "value"), PAIRS)
def test_types_widen_and_unions_resolve_as_in_fastavro(
    written_as: Any, read_as: Any, value: Any
) -> None:
    """The first branch that fits is taken, in the reader's order."""
    writer = {"type": "record", "name": "R", "fields": [{"name": "a", "type": written_as}]}
    reader = {"type": "record", "name": "R", "fields": [{"name": "a", "type": read_as}]}
    reading = Evolution(reader).reading([writer])
    encoded = _bytes({"a": value}, fastavro.parse_schema(writer))
    expected = by_fastavro(reading, encoded)
    assert repr(by_generated(reading, encoded)) == repr(expected)


def test_records_share_nothing() -> None:
    """Each starts as a copy: what one event's mapping changes is not in the next."""
    value = avro(event(properties={}))
    first = by_generated(EVOLUTION.reading([SCHEMA]), value)
    first["properties"]["currency"] = first["event_id"] = "changed"
    assert by_generated(EVOLUTION.reading([SCHEMA]), value) == event(properties={})
