"""A decoded event as an element of TikTok's `data[]`, or the reason why it is not sent.

Formats are those of TikTok's Events API 2.0. A field that cannot be right but is not required is
left out with a warning; a missing required one refuses the event. What is absent stays absent:
no null, no empty string, no empty object is ever sent. Page addresses go without what gives a
person away (`consumer.personal`), with or without consent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from consumer.consent import ConsentRules, decide
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
from consumer.identity import MATCH_KEYS, Identity, IdentityRules
from consumer.personal import without_personal
from consumer.properties import Properties

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SUPPORTED_SOURCES = frozenset({EventSource.WEB})
"""The event sources that `Mapper` can map; a configuration with another is refused by it."""

_WEB = EventSource.WEB

_NO_NAME = Refused(Reason.INVALID, "event is empty", "event")
_NO_ID = Refused(Reason.INVALID, "event_id is empty", "event_id")
_NO_URL = Refused(Reason.INVALID, "a web event needs the address of its page", "page.url")
_NO_IP = Refused(Reason.INVALID, "limited data use needs the person's public address", "user.ip")
_FILTERED = Suppressed(Reason.FILTER)
_PERSONAL_URL = FieldWarning("page.url", "personal data was taken out of it")
_PERSONAL_REFERRER = FieldWarning("page.referrer", "personal data was taken out of it")


class UnsupportedSourceError(ValueError):
    """A destination's event source has no mapping: a mistake of the configuration."""


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
        self._rules = consent
        self._identity = Identity(identity)
        self._properties = Properties(forward_signals=consent.forward_signals)
        self._max_future_ms = max_future_ms
        self._max_body_bytes = max_body_bytes
        self._unasked = {
            flag: decide(None, consent, limited_data_use=flag) for flag in (None, True, False)
        }
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

        Raises:
            UnsupportedSourceError: the destination's source is not in `SUPPORTED_SOURCES`.
        """
        given = event["event"]
        name = destination.event_names.get(given, given)
        unfit = self._unfit(event, name, destination, wall_ms)
        if unfit is not None:
            return unfit
        if consent is None:
            consent = self._consent(event)
        if not consent.send:
            return Suppressed(Reason.CONSENT, consent)
        page, cleaned = _page(event["page"])
        if page is None:
            return _NO_URL
        # The click id is read from the address as it came.
        user, removed, unusable = self._identity.web(
            event["user"], event["page"]["url"], strip=consent.strip_user_data
        )
        warnings = [*unusable, *cleaned]
        limited = consent.limited_data_use
        if limited and "ip" not in user:
            return _NO_IP
        properties = self._properties.map(event["properties"], consent, warnings)
        body = orjson.dumps(
            _element(event, name, page, user=user, properties=properties, limited_data_use=limited)
        )
        if len(body) > self._max_body_bytes:
            return self._too_large(len(body))
        return Mapped(
            destination,
            name,
            event["event_id"],
            event["event_time"],
            _said(event["test_event_code"]) or _said(destination.test_event_code),
            body,
            self._keys_of(user),
            consent,
            removed,
            tuple(warnings),
        )

    def _unfit(
        self, event: dict[str, Any], name: str, destination: Destination, wall_ms: int
    ) -> Suppressed | Refused | None:
        """What speaks against the event before anything of it is mapped."""
        if destination.event_source is not _WEB:
            raise UnsupportedSourceError(f"{destination.event_source} events cannot be mapped yet")
        if not name or name.isspace():
            return _NO_NAME
        if destination.allow_events and name not in destination.allow_events:
            return _FILTERED
        event_id = event["event_id"]
        if not event_id or event_id.isspace():
            return _NO_ID
        age_ms = wall_ms - event["event_time"]
        if age_ms > destination.max_age_ms:
            detail = f"{age_ms // 1000} s old, {destination.max_age_ms // 1000} s are allowed"
            return Refused(Reason.TOO_OLD, detail, "event_time")
        if -age_ms > self._max_future_ms:
            detail = f"{-age_ms // 1000} s ahead, {self._max_future_ms // 1000} s are allowed"
            return Refused(Reason.IN_FUTURE, detail, "event_time")
        return None

    def _consent(self, event: dict[str, Any]) -> Consent:
        flag, record = event["limited_data_use"], event["consent"]
        if record is None:
            return self._unasked[flag]
        return decide(record, self._rules, limited_data_use=flag)

    def _keys_of(self, user: Iterable[str]) -> tuple[str, ...]:
        """The match keys in `user`; equal ones are one object, so that they are cheap to count."""
        present = tuple(user)
        keys = self._match_keys.get(present)
        if keys is None:
            keys = tuple(key for key in MATCH_KEYS if key in present)
            self._match_keys[present] = keys = self._match_keys.setdefault(keys, keys)
        return keys

    def _too_large(self, size: int) -> Refused:
        return Refused(
            Reason.TOO_LARGE, f"{size} bytes as JSON, {self._max_body_bytes} are allowed"
        )


def _element(
    event: dict[str, Any],
    name: str,
    page: dict[str, str],
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
        "page": page,
    }
    if user:
        element["user"] = user
    if properties:
        element["properties"] = properties
    if limited_data_use is not None:
        element["limited_data_use"] = limited_data_use
    ad = event["ad"]
    # Of `ad` only the share belongs to web events too.
    if ad is not None and (share := _said(ad["attribution_share"])):
        element["ad"] = {"attribution_share": share}
    return element


def _page(
    given: dict[str, Any] | None,
) -> tuple[dict[str, str] | None, tuple[FieldWarning, ...]]:
    """The page without what gives a person away, None where it has no address; and the warnings.

    What is nobody's page but a person's e-mail address is no address of a page.
    """
    if given is None or not (given_url := _said(given["url"])):
        return None, ()
    url = without_personal(given_url)
    warnings: tuple[FieldWarning, ...] = ()
    if url is not given_url:
        if not url or url.isspace():
            return None, ()
        warnings = (_PERSONAL_URL,)
    page = {"url": url}
    if given_referrer := _said(given["referrer"]):
        referrer = without_personal(given_referrer)
        if referrer is not given_referrer:
            warnings = (*warnings, _PERSONAL_REFERRER)
        if referrer and not referrer.isspace():
            page["referrer"] = referrer
    return page, warnings


def _said(text: str | None) -> str | None:
    """The text as it is; None where it is blank, which counts as absent."""
    return text if text and not text.isspace() else None
