"""An event in plain JSON is the event that Avro would have given, or the field that keeps it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.decode import Decoder, Encoding
from consumer.errors import InputError
from consumer.event import Reason, Refused
from consumer.event_file import parse_event, read_event_file
from consumer.plain_json import PlainEvent, PlainForm
from consumer.schemas import load_schema
from tests.support.events import EVENT_TIME_MS, FIELDS, any_event, avro, event

FORM = PlainForm(load_schema("conversion_event"))
LEAST: dict[str, Any] = {"event_id": "e1", "event": "purchase", "event_time": EVENT_TIME_MS}
TIME = (
    "a time: ISO 8601 with its offset, such as 2026-01-31T16:20:00Z, or milliseconds since the"
    " epoch"
)


def read(**fields: Any) -> PlainEvent:
    return FORM.read(LEAST | fields)


def nested(path: str, value: Any) -> dict[str, Any]:
    """The fields of an event with `value` at a path such as `user.email`."""
    *outer, last = path.split(".")
    fields: dict[str, Any] = {last: value}
    for name in reversed(outer):
        fields = {name: fields}
    return fields


def at(found: PlainEvent, path: str) -> Any:
    value: Any = found.event
    for name in path.split("."):
        value = value[name]
    return value


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list):
        return all(map(finite, value))
    return not isinstance(value, float) or value - value == 0


@settings(max_examples=60, deadline=None)
@given(any_event.filter(finite))
def test_every_event_is_its_own_plain_form(event: dict[str, Any]) -> None:
    """Written as JSON without its nulls and read again, it is what Avro decodes."""
    plain = parse_event(json.dumps(without_nulls(event)).encode(), "event")
    found = FORM.read(plain)
    assert (found.problems, found.event) == ((), completed(event, "ConversionEvent"))
    decoder = Decoder(Encoding.RAW, load_schema("conversion_event"))
    assert found.event is not None
    assert decoder.decode(avro(found.event)) == found.event


def completed(given: Any, record: str) -> Any:
    """Nulls within a custom map are not told from absent ones by `without_nulls`."""
    properties = given["properties"]
    if properties and properties["custom"] is not None:
        kept = {k: v for k, v in properties["custom"].items() if v is not None}
        given = {**given, "properties": {**properties, "custom": kept}}
    return dict.fromkeys(FIELDS[record]) | given


def test_what_is_absent_or_null_is_null() -> None:
    """The event is complete: every field of every record that was given."""
    found = read(user={"email": None}, page={})
    assert found.event == event(**LEAST, user={}, page={})


@pytest.mark.parametrize("field", ["event_id", "event", "event_time"])
def test_the_first_three_fields_are_required(field: str) -> None:
    """Absent and null are the same."""
    for document in ({k: v for k, v in LEAST.items() if k != field}, LEAST | {field: None}):
        found = FORM.read(document)
        assert found.event is None
        assert found.problems == (Refused(Reason.INVALID, "is required", field),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T16:20:00Z", datetime(2026, 1, 31, 16, 20, tzinfo=UTC)),
        ("2026-01-31T16:20:00.123456Z", datetime(2026, 1, 31, 16, 20, 0, 123000, tzinfo=UTC)),
        (
            "2026-01-31T17:20:00+01:00",
            datetime(2026, 1, 31, 17, 20, tzinfo=timezone(timedelta(hours=1))),
        ),
        ("20260131T162000Z", datetime(2026, 1, 31, 16, 20, tzinfo=UTC)),
    ],
)
def test_a_time_may_be_iso_8601(text: str, expected: datetime) -> None:
    """With its offset, to the millisecond; for every field that is a time."""
    found = read(event_time=text, consent={"collected_at": text})
    assert at(found, "event_time") == int(expected.timestamp() * 1000)
    assert at(found, "consent.collected_at") == int(expected.timestamp() * 1000)


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_a_time_may_be_milliseconds(milliseconds: int) -> None:
    """Any that fits into Avro's long; how plausible it is, is for the mapping to say."""
    assert at(read(event_time=milliseconds), "event_time") == milliseconds


@pytest.mark.parametrize("text", ["2026-01-31T16:20:00", "2026-01-31"])
def test_a_time_without_an_offset_is_no_time(text: str) -> None:
    """Whose midnight it is would be a guess."""
    (problem,) = read(event_time=text).problems
    assert problem.field == "event_time"
    assert "offset" in problem.detail


def test_seconds_given_for_milliseconds_are_noticed() -> None:
    """TikTok itself counts seconds, so they are often written."""
    (warning,) = read(event_time=EVENT_TIME_MS // 1000).warnings
    assert warning.field == "event_time"
    assert "seconds" in warning.message


@settings(deadline=None)
@given(st.integers(-(10**30), 10**30))
def test_a_whole_number_given_for_text_becomes_that_text(number: int) -> None:
    """Ids are often written as numbers: alone, in a list, and the key itself."""
    found = read(
        event_id=number,
        user={"external_id": [number, "a"], "phone": number},
        properties={"order_id": number, "content_ids": [number]},
    )
    assert at(found, "event_id") == at(found, "user.phone") == str(number)
    assert at(found, "user.external_id") == [str(number), "a"]
    assert at(found, "properties.content_ids") == [str(number)]


def test_a_custom_property_keeps_its_type() -> None:
    """Numbers stay numbers there, since text is not all that it may be."""
    custom = {"a": 1, "b": 1.0, "c": "1", "d": True, "e": None}
    kept = at(read(properties={"custom": custom}), "properties.custom")
    assert [(k, type(v), v) for k, v in kept.items()] == [
        (k, type(v), v) for k, v in custom.items()
    ]


def test_a_whole_number_is_a_number() -> None:
    """JSON tells 10 and 10.0 apart, prices do not."""
    value = at(read(properties={"value": 10}), "properties.value")
    assert (type(value), value) == (float, 10.0)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("event", True, "must be text"),
        ("event", 1.5, "must be text"),
        ("event_time", 1.5, f"must be {TIME}"),
        ("event_time", "yesterday", f"must be {TIME}"),
        ("event_time", True, f"must be {TIME}"),
        ("event_time", 2**63, "does not fit into 64 bits"),
        ("event_source", "tv", "must be one of web, app, offline, crm"),
        ("event_source", 7, "must be one of web, app, offline, crm"),
        ("limited_data_use", 1, "must be true or false"),
        ("limited_data_use", "true", "must be true or false"),
        ("page", "https://shop.example", "must be an object"),
        ("page", [], "must be an object"),
        ("user.email", 1.5, "must be text or a list of text"),
        ("user.ip", ["1.2.3.4"], "must be text"),
        ("properties.value", "10", "must be a number"),
        ("properties.value", True, "must be a number"),
        ("properties.value", 10**400, "is too large a number"),
        ("properties.num_items", 1.0, "must be a whole number"),
        ("properties.num_items", 2**63, "does not fit into 64 bits"),
        ("properties.contents", {}, "must be a list of objects"),
        ("properties.custom", [], "must be an object of names and values"),
        ("consent.marketing", "granted", "must be one of UNKNOWN, GRANTED, DENIED"),
        ("consent.collected_at", "now", f"must be {TIME}"),
    ],
)
def test_any_other_wrong_type_is_invalid(path: str, value: Any, expected: str) -> None:
    """With the path of the field and what belongs there; the value is not repeated."""
    found = read(**nested(path, value))
    assert found.event is None
    assert found.problems == (Refused(Reason.INVALID, expected, path),)


def test_a_place_in_a_list_is_part_of_the_path() -> None:
    """Counted from zero, as in TikTok's own messages."""
    found = read(
        properties={"contents": [{"price": 1}, {"price": "1"}], "custom": {"x": {"y": 1}}},
        user={"email": ["a@b.example", None]},
    )
    assert [problem.field for problem in found.problems] == [
        "user.email.1",
        "properties.contents.1.price",
        "properties.custom.x",
    ]


def test_every_problem_is_found_at_once() -> None:
    """In the order of the schema."""
    found = FORM.read({"event": False, "page": 1, "consent": {"region": 1.5}})
    assert [problem.field for problem in found.problems] == [
        "event_id",
        "event",
        "event_time",
        "page",
        "consent.region",
    ]


def test_a_tagged_union_is_explained() -> None:
    """Avro's own JSON writes them so, and people paste that."""
    (problem,) = read(user={"ip": {"string": "1.2.3.4"}}).problems
    assert problem.detail == "must be text, written plainly, not as {'string': ...}"


def test_half_a_character_is_no_text() -> None:
    """JSON can write it, UTF-8 and so Avro cannot; nor may it reach a terminal."""
    found = FORM.read(
        parse_event(
            b'{"event_id": "\\ud800", "event": "a", "event_time": 1,'
            b' "properties": {"custom": {"\\udfff": 1}}}',
            "event",
        )
    )
    assert [problem.field for problem in found.problems] == ["event_id", "properties.custom"]
    odd = read(**{"\ud800\x1b[2J": 1})
    assert odd.warnings[0].field.isprintable()


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("email", "; did you mean user.email?"),
        ("user.zip", "; did you mean user.zip_code?"),
        ("user.phone_number", "; did you mean user.phone?"),
        ("user.value", "; did you mean properties.value?"),
        ("properties.curency", "; did you mean properties.currency?"),
        ("user.shoe", ""),
    ],
)
def test_an_unknown_key_is_told_and_ignored(path: str, hint: str) -> None:
    """With the field that was probably meant; in the wrong place it is unknown as well."""
    found = read(**nested(path, "x"))
    assert found.problems == ()
    assert found.warnings == ((path, f"is no field of an event and is ignored{hint}"),)


def test_an_alias_of_the_schema_is_known() -> None:
    """`query` is the older name of `search_string`; beside that it is unknown."""
    assert at(read(properties={"query": "cups"}), "properties.search_string") == "cups"
    both = read(properties={"query": "cups", "search_string": "mugs"})
    assert at(both, "properties.search_string") == "mugs"
    assert [warning.field for warning in both.warnings] == ["properties.query"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"{", "is no JSON: Expecting property name enclosed in double quotes in line 1, column 2"),
        (b"purchase", "is no JSON"),
        (b'{"value": NaN}', "is no JSON: NaN is no number of JSON"),
        (b'{"value": -Infinity}', "is no JSON: -Infinity is no number of JSON"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "is no JSON: the key 'c' is given twice"),
        (b"[" * 100_000, "is no JSON"),
        (b"1" * 10_000, "is no JSON"),
        (b'[{"a": 1}, {"a": 2}]', "holds a list of 2; one event is taken, as one JSON object"),
        (b'{"a": 1}\n{"a": 2}\n', "holds more than one JSON document; one event is taken"),
        (b'"event"', "holds no object"),
        (b"null", "holds no object"),
    ],
)
def test_what_is_not_one_json_object_is_a_sentence(content: bytes, problem: str) -> None:
    """It names the file, what is wrong, and what is taken instead."""
    with pytest.raises(InputError) as refused:
        parse_event(content, "event.json")
    assert str(refused.value).startswith(f"event.json: {problem}")


def test_a_byte_order_mark_is_no_fault() -> None:
    """Editors on Windows write one."""
    assert parse_event(b'\xef\xbb\xbf{"a": 1}', "event") == {"a": 1}


def test_a_file_that_cannot_be_read_is_a_sentence() -> None:
    """With the system's reason."""
    with pytest.raises(InputError) as refused:
        read_event_file("there/is/none.json")
    assert "there/is/none.json: no such file or directory" in str(refused.value)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["user", "email", "custom", "x"]), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    st.sampled_from(["user", "properties", "page", "consent", "event_time", "user.email"]),
)
def test_no_json_value_breaks_the_reader(value: Any, path: str) -> None:
    """It is an event, or a problem names a field; never an exception."""
    found = read(**nested(path, value))
    assert (found.event is None) == bool(found.problems)
    assert all(problem.field for problem in found.problems)
