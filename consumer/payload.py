"""A decoded event as an element of TikTok's `data[]`, or the reason why it is not sent.

Formats are those of TikTok's Events API 2.0. A field that cannot be right, or that the events of
this source do not have, is left out with a warning; a missing required one refuses the event. What
is absent stays absent: no null, no empty string, no empty object is ever sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from consumer.consent import ConsentRules, Decisions
from consumer.event import (
    Consent,
    Destination,
    EventSource,
    FieldWarning,
    Mapped,
    Reason,
    Refused,
    Suppressed,
)
from consumer.identity import MATCH_KEYS, Identity, IdentityRules, UserPlan, with_click_id
from consumer.properties import Properties
from consumer.sections import Sections, not_taken
from consumer.source_rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NO_NAME = Refused(Reason.INVALID, "event is empty", "event")
_NO_ID = Refused(Reason.INVALID, "event_id is empty", "event_id")
_NO_IP = Refused(Reason.INVALID, "limited data use needs the person's public address", "user.ip")
_FILTERED = Suppressed(Reason.FILTER)


class _Plan(NamedTuple):
    """How the events of one source are mapped.

    `names` are the only names they may have, None for any; `unlimited` is what is said where data
    use should be limited and the source has no flag for that, None where it has.
    """

    names: frozenset[str] | None
    no_such_name: Refused
    sections: Sections
    user: UserPlan
    has_page: bool
    unlimited: FieldWarning | None


class Mapper:
    """Maps decoded events to TikTok's form.

    `max_future_ms` is how far an event's time may lie ahead of the clock; how old an event may be
    is the destination's to say. `max_body_bytes` bounds one event's JSON.
    """

    def __init__(
        self,
        *,
        consent: ConsentRules,
        identity: IdentityRules,
        max_future_ms: int,
        max_body_bytes: int,
    ) -> None:
        self._decisions = Decisions(consent)
        self._identity = Identity(identity)
        self._properties = Properties(forward_signals=consent.forward_signals)
        self._max_future_ms = max_future_ms
        self._max_body_bytes = max_body_bytes
        self._plans = {source: _plan(source, self._identity) for source in EventSource}
        self._match_keys: dict[tuple[str, ...], tuple[str, ...]] = {}

    def map(
        self,
        event: dict[str, Any],
        destination: Destination,
        wall_ms: int,
        consent: Consent | None = None,
    ) -> Mapped | Suppressed | Refused:
        """Map one event as of `wall_ms` (wall clock, milliseconds since the epoch).

        `consent` takes the place of the event's own: the strictest of several records' that one
        attempt stands for.
        """
        given = event["event"]
        name = destination.event_names.get(given, given)
        plan = self._plans[destination.event_source]
        unfit = self._unfit(event, name, destination, plan, wall_ms)
        if unfit is not None:
            return unfit
        if consent is None:
            consent = self._decisions.of(event)
        warnings: list[FieldWarning] = []
        if plan.unlimited is not None:
            consent = _without_limit(event, consent, plan.unlimited, warnings)
        if not consent.send:
            return Suppressed(Reason.CONSENT, consent)
        sections = plan.sections.map(event, warnings)
        if isinstance(sections, Refused):
            return sections._replace(consent=consent)
        found = self._identity.identify(plan.user, event["user"], strip=consent.strip_user_data)
        if plan.has_page:
            # The click id is read from the address as it came.
            found = with_click_id(found, event["page"]["url"])
        user = found.user
        if found.warnings:
            warnings.extend(found.warnings)
        limited = consent.limited_data_use
        if limited and "ip" not in user:
            return _NO_IP._replace(consent=consent)
        properties = self._properties.map(event["properties"], consent, warnings)
        element = _element(
            event, name, sections, user=user, properties=properties, limited_data_use=limited
        )
        # orjson leaves its whole buffer to its result, 8 KiB at least: what waits is a copy.
        body = bytes(memoryview(orjson.dumps(element)))
        if len(body) > self._max_body_bytes:
            return self._too_large(len(body), consent)
        return Mapped(
            destination,
            name,
            event["event_id"],
            event["event_time"],
            _said(event["test_event_code"]) or _said(destination.test_event_code),
            body,
            self._keys_of(user),
            consent,
            found.removed,
            tuple(warnings),
        )

    def _unfit(
        self,
        event: dict[str, Any],
        name: str,
        destination: Destination,
        plan: _Plan,
        wall_ms: int,
    ) -> Suppressed | Refused | None:
        """What speaks against the event before anything of it is mapped."""
        if not name or name.isspace():
            return _NO_NAME
        if destination.allow_events and name not in destination.allow_events:
            return _FILTERED
        if plan.names is not None and name not in plan.names:
            return plan.no_such_name
        event_id = event["event_id"]
        if not event_id or event_id.isspace():
            return _NO_ID
        age_ms = wall_ms - event["event_time"]
        if -self._max_future_ms <= age_ms <= destination.max_age_ms:
            return None
        return self._untimely(age_ms, destination)

    def _untimely(self, age_ms: int, destination: Destination) -> Refused:
        if age_ms > 0:
            detail = f"{age_ms // 1000} s old, {destination.max_age_ms // 1000} s are allowed"
            return Refused(Reason.TOO_OLD, detail, "event_time")
        detail = f"{-age_ms // 1000} s ahead, {self._max_future_ms // 1000} s are allowed"
        return Refused(Reason.IN_FUTURE, detail, "event_time")

    def _keys_of(self, user: Iterable[str]) -> tuple[str, ...]:
        """The match keys in `user`; equal ones are one object, so that they are cheap to count."""
        present = tuple(user)
        keys = self._match_keys.get(present)
        if keys is None:
            keys = tuple(key for key in MATCH_KEYS if key in present)
            self._match_keys[present] = keys = self._match_keys.setdefault(keys, keys)
        return keys

    def _too_large(self, size: int, consent: Consent) -> Refused:
        detail = f"{size} bytes as JSON, {self._max_body_bytes} are allowed"
        return Refused(Reason.TOO_LARGE, detail, consent=consent)


def _element(
    event: dict[str, Any],
    name: str,
    sections: dict[str, dict[str, Any]],
    *,
    user: Mapping[str, Any],
    properties: dict[str, Any],
    limited_data_use: bool | None,
) -> dict[str, Any]:
    """The element of `data[]`, without what is absent. TikTok's time is in whole seconds."""
    element: dict[str, Any] = {
        "event": name,
        "event_time": event["event_time"] // 1000,
        "event_id": event["event_id"],
        **sections,
    }
    if user:
        element["user"] = user
    if properties:
        element["properties"] = properties
    if limited_data_use is not None:
        element["limited_data_use"] = limited_data_use
    return element


def _plan(source: EventSource, identity: Identity) -> _Plan:
    rules = RULES[source]
    return _Plan(
        rules.names,
        Refused(
            Reason.INVALID,
            f"{source} events have TikTok's standard names only: send one of them, or map this name"
            " to one under event_names of the destination",
            "event",
        ),
        Sections(source),
        identity.plan(source),
        "page" in rules.sections,
        None if rules.limited_data_use else not_taken(source, "limited_data_use"),
    )


def _without_limit(
    event: dict[str, Any], consent: Consent, warning: FieldWarning, warnings: list[FieldWarning]
) -> Consent:
    """The consent without a flag that the source does not have, asked for by event or region."""
    if event["limited_data_use"] is not None or consent.limited_data_use is not None:
        warnings.append(warning)
    return consent if consent.limited_data_use is None else consent._replace(limited_data_use=None)


def _said(text: str | None) -> str | None:
    """The text as it is; None where it is blank, which counts as absent."""
    return text if text and not text.isspace() else None
