"""TikTok's `user` object: which identifiers go, which consent takes out, which are unusable.

What cannot be right is left out with a warning; `consumer.normalise` says what that is. So is what
the event's source does not take; `consumer.source_rules` says that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import phonenumbers

from consumer import normalise
from consumer.event import FieldWarning
from consumer.personal import holds_address
from consumer.source_rules import RULES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.event import EventSource

Key = TypeVar("Key")
Value = TypeVar("Value")

PERSONAL_FIELDS = frozenset(
    {"email", "phone", "external_id", "first_name", "last_name", "zip_code"}
)
"""The fields of `user` that leave an event whose consent does not cover data about the person."""

MATCH_KEYS = (
    "email",
    "phone",
    "external_id",
    "ttclid",
    "ttp",
    "ip",
    "user_agent",
    "first_name",
    "last_name",
    "city",
    "state",
    "country",
    "zip_code",
    "idfa",
    "gaid",
    "idfv",
)
"""What TikTok matches a person by, in the order it is reported."""

CACHED_DIGESTS = 32_768
"""Phone numbers remembered with their digests: parsing one costs more than all else of an event."""

CACHED_PERSONS = 8_192
"""User records remembered with what is sent for them: the events of one visit carry the same."""

_CACHED_KEY_CHARS = 64
_CACHED_PERSON_CHARS = 1_024
"""Longer inputs are not usual and not remembered, so that memory is bounded in bytes, too."""

Form = Callable[[str, dict[str, Any]], str | None]
"""A field's value (never blank) and the whole user record to what is sent, None if unusable."""


@dataclass(frozen=True, slots=True)
class IdentityRules:
    """The settings under `identity`.

    `default_phone_region` (ISO 3166-1 alpha-2) is where a number without `+` is taken to be from;
    without it such numbers are left out. `lowercase_external_id` must be what the pixel does.

    Raises:
        ValueError: the region is none that libphonenumber knows.
    """

    default_phone_region: str | None = None
    lowercase_external_id: bool = False

    def __post_init__(self) -> None:
        region = self.default_phone_region
        if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
            raise ValueError("default_phone_region is no region with telephone numbers, such as US")


class Identified(NamedTuple):
    """`user` as it is sent, the paths that consent took out, and what could not be right."""

    user: Mapping[str, str | list[str]]
    removed: tuple[str, ...]
    warnings: tuple[FieldWarning, ...]


class Recent(Generic[Key, Value]):
    """A bounded memory of results by their plain input, for what is costly to work out.

    Two generations of half the bound each: when the newer is full the older is forgotten, so the
    cost is even and what is used often stays. Its `repr` tells sizes only.
    """

    __slots__ = ("_half", "_newer", "_older")

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._newer: dict[Key, Value] = {}
        self._older: dict[Key, Value] = {}

    def get(self, key: Key) -> Value | None:
        """What is remembered for an input, None where there is nothing."""
        value = self._newer.get(key)
        if value is None:
            value = self._older.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: Key, value: Value) -> None:
        """Remembers a result."""
        if len(self._newer) >= self._half:
            self._older, self._newer = self._newer, {}
        self._newer[key] = value

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def __repr__(self) -> str:
        return f"<Recent {len(self)} of at most {2 * self._half}>"


_NOBODY = Identified({}, (), ())


class _Field(NamedTuple):
    name: str
    path: str
    personal: bool
    form: Form
    warning: FieldWarning


class UserPlan(NamedTuple):
    """What becomes of each field of `user` in the events of one source.

    `fields` are those it takes; `others`, by name, what is said where one of the rest is given.
    """

    source: EventSource
    fields: tuple[_Field, ...]
    others: tuple[tuple[str, FieldWarning], ...]


class Identity:
    """Turns a decoded `user` record into TikTok's `user` object, by a table of fields."""

    def __init__(self, rules: IdentityRules) -> None:
        self._region = rules.default_phone_region
        # An empty string stands for a number that is unusable.
        self._phones: Recent[str, str] = Recent(CACHED_DIGESTS)
        self._persons: Recent[tuple[Any, ...], Identified] = Recent(CACHED_PERSONS)
        lower = rules.lowercase_external_id
        external_id = normalise.lower_external_id if lower else normalise.external_id
        self._fields = (
            _field("email", normalise.email, "is no e-mail address"),
            _field("phone", self._phone, "cannot be made an international number (E.164)"),
            _field("external_id", external_id, "is empty"),
            _field("ttclid", _literal, "holds an e-mail address"),
            _field("ttp", _literal, "holds an e-mail address"),
            _field("ip", normalise.public_ip, "is no public IP address"),
            _field("user_agent", _literal, "holds an e-mail address"),
            _field("locale", normalise.locale, "is no language tag (BCP 47), such as en-US"),
            _field("first_name", normalise.name, "holds no letters or digits"),
            _field("last_name", normalise.name, "holds no letters or digits"),
            _field("city", normalise.place, "holds no letters or digits"),
            _field("state", normalise.place, "holds no letters or digits"),
            _field("country", normalise.place, "holds no letters or digits"),
            _field("zip_code", normalise.zip_code, "is no postal code"),
            _field("idfa", normalise.idfa, "stands for no device: tracking is refused"),
            _field("gaid", normalise.gaid, "stands for no device: tracking is refused"),
            _field("idfv", _literal, "holds an e-mail address"),
            _field("att_status", normalise.att_status, "is no status TikTok knows: AUTHORIZED ..."),
        )

    def plan(self, source: EventSource) -> UserPlan:
        """The plan for the events of a source, to be made once."""
        taken = RULES[source].user
        why = f"left out: {source} events {_only(taken)}"
        return UserPlan(
            source,
            tuple(field for field in self._fields if field.name in taken),
            tuple(
                (field.name, FieldWarning(field.path, why))
                for field in self._fields
                if field.name not in taken
            ),
        )

    def identify(self, plan: UserPlan, user: dict[str, Any] | None, *, strip: bool) -> Identified:
        """The identifiers of an event; `strip` takes `PERSONAL_FIELDS` out.

        Events of one visit come with the same record, so results are remembered.
        """
        if user is None:
            return _NOBODY
        key = (plan.source, strip, *user.values())
        try:
            known = self._persons.get(key)
        except TypeError:  # several values for one field: a list has no hash
            return _identify(plan, user, strip=strip)
        if known is None:
            known = _identify(plan, user, strip=strip)
            if sum(map(len, filter(None, user.values()))) <= _CACHED_PERSON_CHARS:
                self._persons.put(key, known)
        return known

    def _phone(self, value: str, _user: dict[str, Any]) -> str | None:
        digest = self._phones.get(value)
        if digest is None:
            digest = normalise.phone(value, self._region)
            if len(value) <= _CACHED_KEY_CHARS:
                self._phones.put(value, digest)
        return digest or None


def with_click_id(found: Identified, page_url: str) -> Identified:
    """The click id of a page's address, as it came, where the event brings none of its own."""
    if "ttclid=" in page_url and "ttclid" not in found.user:
        ttclid = normalise.click_id(page_url)
        if ttclid and not holds_address(ttclid):
            return found._replace(user={**found.user, "ttclid": ttclid})
    return found


def _literal(value: str, _user: dict[str, Any]) -> str | None:
    """A click id, cookie or agent: as it is, since TikTok compares it literally.

    Whoever fills one with an e-mail address would have it leave in plain text.
    """
    return None if holds_address(value) else value


def _field(name: str, form: Form, problem: str) -> _Field:
    path = f"user.{name}"
    warning = FieldWarning(path, f"left out: it {problem}")
    return _Field(name, path, name in PERSONAL_FIELDS, form, warning)


_FEW = 3


def _only(taken: tuple[str, ...]) -> str:
    """What the events of a source take of `user`, where that is said in a few words."""
    if len(taken) > _FEW:
        return "do not take it"
    return f"take {', '.join(taken[:-1])} and {taken[-1]} only"


def _identify(plan: UserPlan, user: dict[str, Any], *, strip: bool) -> Identified:
    sent: dict[str, str | list[str]] = {}
    removed: tuple[str, ...] = ()
    warnings: list[FieldWarning] = []
    for name, path, personal, form, warning in plan.fields:
        value = user[name]
        if not value:
            continue
        if strip and personal:
            removed = (*removed, path) if _is_given(value) else removed
        elif value.__class__ is list:
            several, failed = _several(value, form, user)
            if several is not None:
                sent[name] = several
            if failed:
                warnings.append(warning)
        elif value.isspace():
            continue
        else:
            usable = form(value, user)
            if usable is None:
                warnings.append(warning)
            else:
                sent[name] = usable
    return Identified(sent, removed, (*warnings, *_not_taken(plan, user)))


def _not_taken(plan: UserPlan, user: dict[str, Any]) -> list[FieldWarning]:
    warnings: list[FieldWarning] = []
    for name, warning in plan.others:
        value = user[name]
        if value and _is_given(value):
            warnings.append(warning)
    return warnings


def _is_given(value: str | list[str]) -> bool:
    texts = value if isinstance(value, list) else (value,)
    return any(text and not text.isspace() for text in texts)


def _several(
    values: list[str], form: Form, user: dict[str, Any]
) -> tuple[str | list[str] | None, bool]:
    """Each distinct usable value once, and whether any was unusable.

    A single value goes as a string, as TikTok's examples do.
    """
    usable: dict[str, None] = {}
    failed = False
    for value in values:
        if not value or value.isspace():
            continue
        one = form(value, user)
        if one is None:
            failed = True
        else:
            usable[one] = None
    distinct = list(usable)
    return (distinct if len(distinct) > 1 else distinct[0] if distinct else None), failed
