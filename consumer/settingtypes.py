"""The types of single settings: what may be written, what it becomes, how the JSON Schema says it.

Each takes the value as it stands in the file, or as text from the environment. Their messages say
what to write and never quote what was written: it may be a secret in the wrong place.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from consumer.units import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


def _duration_value(value: Any) -> float:
    if not isinstance(value, str):
        raise PydanticCustomError(
            "duration", "must be a duration with its unit ms, s, m, h or d, for example 500ms"
        )
    seconds = parse_duration(value)
    if seconds <= 0:
        raise PydanticCustomError("duration", "must be longer than nothing")
    return seconds


def _size_value(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise PydanticCustomError(
            "size", "must be a size with its unit B, KiB, MiB or GiB, for example 1MiB"
        )
    text = str(value)
    size = int(text) if text.isascii() and text.isdigit() else parse_size(text)
    if size <= 0:
        raise PydanticCustomError("size", "must be more than nothing")
    return size


def _start_value(value: Any) -> str | datetime:
    if value in ("earliest", "latest"):
        return str(value)
    if isinstance(value, datetime) and value.tzinfo:
        return value
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise PydanticCustomError(
            "start", "must be earliest, latest or a time with its zone such as 2026-01-31T00:00:00Z"
        )
    return moment


def _start_text(start: str | datetime) -> str:
    return start if isinstance(start, str) else start.isoformat()


def _not_a_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number")
    return value


def _flag_value(value: Any) -> bool:
    flag = {"true": True, "false": False}.get(value) if isinstance(value, str) else value
    if not isinstance(flag, bool):
        raise PydanticCustomError("flag", "must be true or false")
    return flag


def _property_value(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (dict, list)):
        raise PydanticCustomError(
            "property", "must be one value; write the property's whole name with its dots"
        )
    return value


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


def _empty_if_none(value: Any) -> Any:
    return () if value is None else value


def _no_keys_if_none(value: Any) -> Any:
    return {} if value is None else value


Duration = Annotated[
    float,
    PlainValidator(_duration_value),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}),
]
Size = Annotated[
    int,
    PlainValidator(_size_value),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": SIZE_PATTERN}, {"type": "integer", "minimum": 1}]}
    ),
]
Start = Annotated[
    Literal["earliest", "latest"] | datetime,
    PlainValidator(_start_value),
    PlainSerializer(_start_text, return_type=str, when_used="json"),
    WithJsonSchema(
        {"anyOf": [{"enum": ["earliest", "latest"]}, {"type": "string", "format": "date-time"}]}
    ),
]
_NAME = r"^[a-zA-Z0-9._-]{1,249}$"
_URL = r"^https?://"
_COUNTRY = r"^[A-Z]{2}$"
_REGION = r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$"

PATTERN_MEANINGS: Final = {
    _NAME: "must be a name of letters, digits, dot, dash and underscore, at most 249",
    _URL: "must be a URL that begins with http:// or https://",
    _COUNTRY: "must be an ISO 3166-1 country of two capital letters, for example DE",
    _REGION: "must be an ISO 3166-1 country or ISO 3166-2 region, for example US or US-CA",
}
"""Regular expression of a setting → what to write, for whoever does not read those."""

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Name = Annotated[Text, StringConstraints(pattern=_NAME)]
"""Name of a Kafka topic or group."""
Url = Annotated[Text, StringConstraints(pattern=_URL)]
Count = Annotated[int, Field(ge=1), BeforeValidator(_not_a_flag)]
BatchCount = Annotated[int, Field(ge=1, le=1000), BeforeValidator(_not_a_flag)]
Port = Annotated[int, Field(ge=0, le=65535), BeforeValidator(_not_a_flag)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_not_a_flag)]
Ratio = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), BeforeValidator(_not_a_flag)]
Flag = Annotated[bool, BeforeValidator(_flag_value)]
Country = Annotated[str, StringConstraints(pattern=_COUNTRY)]
Region = Annotated[str, StringConstraints(pattern=_REGION)]

OptionalText = Annotated[Text | None, BeforeValidator(_none_if_empty)]
OptionalName = Annotated[Name | None, BeforeValidator(_none_if_empty)]
OptionalPath = Annotated[Path | None, BeforeValidator(_none_if_empty)]
OptionalCountry = Annotated[Country | None, BeforeValidator(_none_if_empty)]

Topics = Annotated[tuple[Text, ...], Field(min_length=1)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_empty_if_none)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_empty_if_none)]
Regions = Annotated[tuple[Region, ...], BeforeValidator(_empty_if_none)]
Names = Annotated[Mapping[Text, Text], BeforeValidator(_no_keys_if_none)]
Properties = Annotated[
    Mapping[str, Annotated[str, BeforeValidator(_property_value)]],
    BeforeValidator(_no_keys_if_none),
]


def duration(text: str) -> Any:
    """A field whose default is this duration, shown as written in the JSON Schema."""
    return Field(default=parse_duration(text), json_schema_extra={"default": text})


def size(text: str) -> Any:
    """A field whose default is this size, shown as written in the JSON Schema."""
    return Field(default=parse_size(text), json_schema_extra={"default": text})
