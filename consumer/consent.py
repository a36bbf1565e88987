"""What a person's answers allow: whether an event goes, without what, and with which flags.

The rules are the settings under `consent`; the answers come with the event.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from consumer.event import Consent, ConsentState

_UNKNOWN, _GRANTED, _DENIED = ConsentState.UNKNOWN, ConsentState.GRANTED, ConsentState.DENIED
_STATES: dict[str | None, ConsentState] = {None: _UNKNOWN, **{s.value: s for s in ConsentState}}
_REMEMBERED = 1024
_STRICTNESS = {_GRANTED: 0, _UNKNOWN: 1, _DENIED: 2}


class OnDenied(StrEnum):
    """What a denial does. Sending identifiers against a denial is not on offer.

    `SUPPRESS`: the event is not sent. `STRIP`: it is sent without the person's identifiers
    (`consumer.identity.PERSONAL_FIELDS`).
    """

    SUPPRESS = "suppress"
    STRIP = "strip"


_SUPPRESS, _STRIP = OnDenied.SUPPRESS, OnDenied.STRIP


@dataclass(frozen=True, slots=True)
class ConsentRules:
    """The settings under `consent`.

    `missing` is how an answer is read that is not there or `UNKNOWN`. `on_marketing_denied` and
    `on_ad_user_data_denied` say what a denial does. `forward_signals` sends the known states of
    `ad_user_data` and `ad_personalization` as custom properties. `limited_data_use_regions` are
    ISO 3166-1 or -2 codes where a denied `ad_personalization` sets TikTok's `limited_data_use`;
    a country covers its subdivisions (`US` covers `US-CA`, not the other way round).

    Raises:
        ValueError: `missing` is `UNKNOWN`, which would decide nothing.
    """

    missing: ConsentState = ConsentState.DENIED
    on_marketing_denied: OnDenied = OnDenied.SUPPRESS
    on_ad_user_data_denied: OnDenied = OnDenied.STRIP
    forward_signals: bool = True
    limited_data_use_regions: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.missing is _UNKNOWN:
            raise ValueError("consent.missing is granted or denied")

    def covers(self, region: str | None) -> bool:
        """Whether a denial in this region asks for limited data use."""
        if region is None or not self.limited_data_use_regions:
            return False
        code = region.strip().upper().replace("_", "-")
        listed = self.limited_data_use_regions
        return code in listed or code.partition("-")[0] in listed


def decide(
    consent: dict[str, Any] | None, rules: ConsentRules, *, limited_data_use: bool | None = None
) -> Consent:
    """Apply the rules to an event's consent record (null: none came) and its own flag.

    The event's `limited_data_use` is kept; where the region asks for it, a false one becomes
    true, never the other way round.
    """
    if consent is None:
        marketing = user_data = personalization = _UNKNOWN
        region = version = None
    else:
        marketing = _STATES[consent["marketing"]]
        user_data = _STATES[consent["ad_user_data"]]
        personalization = _STATES[consent["ad_personalization"]]
        region = consent["region"]
        version = consent["cmp_version"]
    on_marketing = rules.on_marketing_denied if _denied(marketing, rules) else None
    on_user_data = rules.on_ad_user_data_denied if _denied(user_data, rules) else None
    limited = limited_data_use
    if _denied(personalization, rules) and rules.covers(region):
        limited = True
    return Consent(
        marketing=marketing,
        ad_user_data=user_data,
        ad_personalization=personalization,
        region=region,
        cmp_version=version,
        send=on_marketing is not _SUPPRESS and on_user_data is not _SUPPRESS,
        strip_user_data=on_marketing is _STRIP or on_user_data is _STRIP,
        limited_data_use=limited,
    )


class Decisions:
    """`decide` by one set of rules, remembered: most events share few consents.

    Bounded, because regions and CMP versions come with the events.
    """

    def __init__(self, rules: ConsentRules) -> None:
        self._rules = rules
        self._known: dict[tuple[Any, ...], Consent] = {}

    def of(self, event: dict[str, Any]) -> Consent:
        """The decision about a decoded event."""
        consent, flag = event["consent"], event["limited_data_use"]
        if consent is None:
            key: tuple[Any, ...] = (flag,)
        else:
            key = (
                flag,
                consent["marketing"],
                consent["ad_user_data"],
                consent["ad_personalization"],
                consent["region"],
                consent["cmp_version"],
            )
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[key] = decide(consent, self._rules, limited_data_use=flag)
        return known


def strictest(a: Consent, b: Consent) -> Consent:
    """What both allow, for an attempt that stands for several records of one event.

    Of two states the stricter counts: denied, then unknown, then granted. Region and CMP version
    are `a`'s unless `b` made the result stricter than `a` alone.
    """
    limited = {a.limited_data_use, b.limited_data_use}
    merged = Consent(
        marketing=_stricter(a.marketing, b.marketing),
        ad_user_data=_stricter(a.ad_user_data, b.ad_user_data),
        ad_personalization=_stricter(a.ad_personalization, b.ad_personalization),
        region=a.region,
        cmp_version=a.cmp_version,
        send=a.send and b.send,
        strip_user_data=a.strip_user_data or b.strip_user_data,
        limited_data_use=True if True in limited else False if False in limited else None,
    )
    if merged == a:
        return a
    return merged._replace(region=b.region, cmp_version=b.cmp_version)


def _denied(state: ConsentState, rules: ConsentRules) -> bool:
    return state is _DENIED or (state is _UNKNOWN and rules.missing is _DENIED)


def _stricter(a: ConsentState, b: ConsentState) -> ConsentState:
    return a if _STRICTNESS[a] >= _STRICTNESS[b] else b
