"""What TikTok demands of a request of the Events API 2.0: a request in, the first complaint out.

The rules are TikTok's documented ones for all four event sources. Where nobody documents a rule
(how old an event may be, how long an event_id) there is none here. The first bad event refuses
its whole batch; how the message names it varies, so the wording is a choice.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from consumer.sandbox import fields
from consumer.sandbox.sections import (
    CONTENT,
    ENVELOPE,
    LIMITABLE,
    PROPERTIES,
    REQUIRED,
    SECTIONS,
    Section,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumer.sandbox.fields import Check

MAX_EVENTS = 1000
"""Events a request may hold; one more and the whole request is refused."""

REJECT_MARKER = "emulator_reject"
"""A custom property; true makes TikTok's emulator refuse an event that has no other fault."""

_MISSING = "missing data for required field."
_UNKNOWN = "unknown field."
_NOT_AN_OBJECT = "not a valid object."


class IndexWording(StrEnum):
    """How a refusal names the guilty event: all four are seen in the wild."""

    SPACED = "spaced"
    DOTTED = "dotted"
    BATCH = "batch"
    NONE = "none"


class Complaint(NamedTuple):
    """What is wrong with a request: the path of the field and why.

    `event_index` is the event's place in `data`, or None where the envelope itself is wrong.
    """

    path: str
    why: str
    event_index: int | None = None

    def message(self, wording: IndexWording) -> str:
        """TikTok's message for it. A fault of the envelope reads the same in every wording."""
        if self.event_index is None or wording is IndexWording.NONE:
            return f"Invalid value for {self.path}: {self.why}"
        match wording:
            case IndexWording.SPACED:
                return f"Invalid value for data. {self.event_index} .{self.path}: {self.why}"
            case IndexWording.DOTTED:
                return f"Invalid value for data.{self.event_index}.{self.path}: {self.why}"
            case IndexWording.BATCH:
                why = self.why[:1].upper() + self.why[1:].removesuffix(".")
                return f"Batch.{self.event_index}.{self.path}: {why}"


def check_request(body: object) -> Complaint | None:
    """The first complaint about a parsed request body, envelope before events."""
    return check_envelope(body) or check_events(body)


def check_envelope(body: object) -> Complaint | None:
    """The first complaint about what stands around the events."""
    if not isinstance(body, dict):
        return Complaint("data", _NOT_AN_OBJECT)
    for name in ("event_source", "event_source_id", "data"):
        if name not in body:
            return Complaint(name, _MISSING)
    for name, value in body.items():
        if name == "data":
            continue
        check = ENVELOPE.get(name)
        why = check(value) if check is not None else _UNKNOWN
        if why is not None:
            return Complaint(name, why)
    return _check_count(body["data"])


def check_events(body: object) -> Complaint | None:
    """The complaint about the first bad event of a request whose envelope is right."""
    if not isinstance(body, dict):
        return Complaint("data", _NOT_AN_OBJECT)
    source = body["event_source"]
    for index, event in enumerate(body["data"]):
        complaint = _check_event(event, source)
        if complaint is not None:
            return complaint._replace(event_index=index)
    return None


def check_identities(body: object) -> Complaint | None:
    """The quick check in place of `check_events`: only what tells one event from another."""
    if not isinstance(body, dict):
        return Complaint("data", _NOT_AN_OBJECT)
    for index, event in enumerate(body["data"]):
        if not isinstance(event, dict):
            return Complaint("event", _NOT_AN_OBJECT, index)
        for name in ("event", "event_id"):
            if type(event.get(name)) is not str:
                return Complaint(name, "not a valid string.", index)
    return None


def _check_count(data: object) -> Complaint | None:
    if not isinstance(data, list):
        return Complaint("data", "not a valid list.")
    if not data:
        return Complaint("data", "shorter than minimum length 1.")
    if len(data) > MAX_EVENTS:
        return Complaint("data", f"longer than maximum length {MAX_EVENTS}.")
    return None


def _check_event(event: object, source: str) -> Complaint | None:
    if not isinstance(event, dict):
        return Complaint("event", _NOT_AN_OBJECT)
    sections = SECTIONS[source]
    complaint = _check_required(event, source, sections)
    if complaint is not None:
        return complaint
    for name, value in event.items():
        if name in REQUIRED:
            continue
        if (complaint := _check_part(name, value, sections, source)) is not None:
            return complaint
    return _check_limited_data_use(event)


def _check_required(
    event: dict[str, object], source: str, sections: Mapping[str, Section]
) -> Complaint | None:
    for name, check in REQUIRED.items():
        why = check(event[name]) if name in event else _MISSING
        if why is not None:
            return Complaint(name, why)
    if source == "offline" and event["event"] not in fields.OFFLINE_EVENTS:
        return Complaint("event", f"'{event['event']}' is not a standard event.")
    for name, section in sections.items():
        if section.required and name not in event:
            return Complaint(name, _MISSING)
    return None


def _check_part(
    name: str, value: object, sections: Mapping[str, Section], source: str
) -> Complaint | None:
    if name == "properties":
        return _check_properties(value)
    if name == "limited_data_use" and source in LIMITABLE:
        why = fields.boolean(value)
        return None if why is None else Complaint(name, why)
    if (section := sections.get(name)) is None:
        return Complaint(name, _UNKNOWN)
    return _check_object(name, value, section.fields, section.required_fields)


def _check_object(
    path: str, value: object, table: Mapping[str, Check], required: Sequence[str] = ()
) -> Complaint | None:
    if not isinstance(value, dict):
        return Complaint(path, _NOT_AN_OBJECT)
    for name in required:
        if name not in value:
            return Complaint(f"{path}.{name}", _MISSING)
    for name, held in value.items():
        check = table.get(name)
        why = check(held) if check is not None else _UNKNOWN
        if why is not None:
            return Complaint(f"{path}.{name}", why)
    return None


def _check_properties(value: object) -> Complaint | None:
    if not isinstance(value, dict):
        return Complaint("properties", _NOT_AN_OBJECT)
    for name, held in value.items():
        if name == "contents":
            if (complaint := _check_contents(held)) is not None:
                return complaint
        elif (check := PROPERTIES.get(name)) is not None:
            if (why := check(held)) is not None:
                return Complaint(f"properties.{name}", why)
        elif name == REJECT_MARKER and held is True:
            return Complaint(f"properties.{name}", "'true' is refused on request.")
    if ("value" in value) is not ("currency" in value):
        absent = "currency" if "value" in value else "value"
        return Complaint(f"properties.{absent}", _MISSING)
    return None


def _check_contents(value: object) -> Complaint | None:
    if not isinstance(value, list):
        return Complaint("properties.contents", "not a valid list.")
    for place, content in enumerate(value):
        complaint = _check_object(f"properties.contents.{place}", content, CONTENT)
        if complaint is not None:
            return complaint
    return None


def _check_limited_data_use(event: dict[str, object]) -> Complaint | None:
    if event.get("limited_data_use") is not True:
        return None
    user = event.get("user")
    if not isinstance(user, dict) or "ip" not in user:
        return Complaint("user.ip", _MISSING)
    return None
