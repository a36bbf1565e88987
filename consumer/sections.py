"""The objects of an event beside `user` and `properties`: page, app, ad and lead.

Which of them a source takes, with which fields, is `consumer.source_rules`'. A field that is given
to a source that does not take it is left out with a warning; one that is required refuses the
event. Addresses of pages go without what gives a person away, texts with an e-mail address in them
do not go at all (`consumer.personal`), with or without consent. Ids stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from consumer.event import FieldWarning, Reason, Refused
from consumer.personal import holds_address, without_personal
from consumer.source_rules import RULES, SECTIONS, SectionRules

if TYPE_CHECKING:
    from consumer.event import EventSource

Warnings = list[FieldWarning]
Section = dict[str, Any]

_Reader = Callable[[Section, Warnings], Section | Refused | None]
"""The decoded object to what is sent of it, None for nothing; its warnings join the list."""

_REQUIRED = {
    "page": "the address of their page",
    "app": "the id of their app",
    "lead": "the id of their lead",
}
_IDS = frozenset({"app_id", "lead_id", "callback", "campaign_id", "ad_id", "creative_id"})
_PERSONAL_URL = FieldWarning("page.url", "personal data was taken out of it")
_PERSONAL_REFERRER = FieldWarning("page.referrer", "personal data was taken out of it")


def not_taken(source: EventSource, field: str) -> FieldWarning:
    """What is said of a field that the events of a source do not have."""
    return FieldWarning(field, f"left out: {source} events do not take it")


class Sections:
    """Maps the sections of one source's events; the plan is made once."""

    def __init__(self, source: EventSource) -> None:
        taken = RULES[source].sections
        self._taken = tuple(_reader(source, name, rules) for name, rules in taken.items())
        self._others = tuple(
            (name, not_taken(source, name)) for name in SECTIONS if name not in taken
        )

    def map(self, event: dict[str, Any], warnings: Warnings) -> dict[str, Section] | Refused:
        """The sections as they are sent, or why the event cannot be without one."""
        sent: dict[str, Section] = {}
        for name, read, refusal in self._taken:
            given = event[name]
            section = refusal if given is None else read(given, warnings)
            if section is None:
                continue
            if isinstance(section, Refused):
                return section
            sent[name] = section
        for name, warning in self._others:
            given = event[name]
            if given is not None and any(map(_is_said, given.values())):
                warnings.append(warning)
        return sent


def _reader(
    source: EventSource, name: str, rules: SectionRules
) -> tuple[str, _Reader, Refused | None]:
    """A section's name, what reads it, and what becomes of an event without it."""
    refusal = None
    if rules.required is not None:
        detail = f"{source} events need {_REQUIRED[name]}"
        refusal = Refused(Reason.INVALID, detail, f"{name}.{rules.required}")
    if name == "page" and refusal is not None:
        return name, _Page(refusal), refusal
    return name, _Plain(source, name, rules, refusal), refusal


class _Page:
    """Reads the page, whose addresses may have to be cleaned."""

    def __init__(self, refusal: Refused) -> None:
        self._refusal = refusal

    def __call__(self, given: Section, warnings: Warnings) -> Section | Refused:
        """The page; what is nobody's page but a person's e-mail address is no address of a page."""
        given_url, given_referrer = given["url"], given["referrer"]
        if not given_url or given_url.isspace():
            return self._refusal
        url = without_personal(given_url)
        if url is not given_url:
            if not url or url.isspace():
                return self._refusal
            warnings.append(_PERSONAL_URL)
        page = {"url": url}
        if given_referrer:
            referrer = without_personal(given_referrer)
            if referrer is not given_referrer:
                warnings.append(_PERSONAL_REFERRER)
            if referrer and not referrer.isspace():
                page["referrer"] = referrer
        return page


class _Plain:
    """Reads a section whose fields go as they are: texts, ids and booleans."""

    def __init__(
        self, source: EventSource, name: str, rules: SectionRules, refusal: Refused | None
    ) -> None:
        self._fields = tuple(
            (field, None if field in _IDS else _holds_address(f"{name}.{field}"))
            for field in rules.fields
        )
        self._others = tuple(
            (field, not_taken(source, f"{name}.{field}"))
            for field in _all_fields(name)
            if field not in rules.fields
        )
        self._required, self._refusal = rules.required, refusal

    def __call__(self, given: Section, warnings: Warnings) -> Section | Refused | None:
        """What there is of the fields; None for nothing, the refusal without the required one."""
        sent: Section = {}
        for field, address in self._fields:
            value = given[field]
            if not _is_said(value):
                continue
            if address is not None and value.__class__ is str and holds_address(value):
                warnings.append(address)
            else:
                sent[field] = value
        for field, warning in self._others:
            if _is_said(given[field]):
                warnings.append(warning)
        if self._refusal is not None and self._required not in sent:
            return self._refusal
        return sent or None


def _all_fields(section: str) -> tuple[str, ...]:
    """Every field of a section that any source takes."""
    rules = (source.sections.get(section) for source in RULES.values())
    return tuple(dict.fromkeys(field for one in rules if one is not None for field in one.fields))


def _holds_address(field: str) -> FieldWarning:
    return FieldWarning(field, "left out: an e-mail address stands in it")


def _is_said(value: Any) -> bool:
    """Whether a field says something: false does, a blank text does not."""
    return value is False or bool(value and (value is True or not value.isspace()))
