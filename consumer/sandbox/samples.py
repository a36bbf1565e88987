"""Sample records whose outcome is known before anybody has consumed them.

A share of a shop's events is spoilt in every way that a dead letter has a reason for, repeated,
or left without consent. Which share is exact: fates are dealt like cards, so that totals are
known. The same seed, settings and time give the same bytes.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from consumer.event import Headers, Outcome, Reason
from consumer.sandbox.broker import NewRecord
from consumer.sandbox.ground_truth import EventIdentity
from consumer.sandbox.shop import Shop
from consumer.sandbox.spoil import Encoder, spoil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from consumer.sandbox.shop import ShopEvent

PIXELS = ("C9SHOPALPHA000000001", "C9SHOPBETA0000000002", "C9SHOPGAMMA000000003")
"""The pixels of the sample shop."""

POISONS = (
    Reason.UNDECODABLE,
    Reason.SCHEMA_UNKNOWN,
    Reason.INVALID,
    Reason.UNKNOWN_DESTINATION,
    Reason.TOO_OLD,
    Reason.IN_FUTURE,
    Reason.REJECTED,
    Reason.TOO_LARGE,
)
"""The dead-letter reasons that a record can earn by itself."""

_DAY_MS = 24 * 3600 * 1000
_NEAR, _FAR = 8, 5000


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """What the samples are made of. Shares are of all samples, between 0 and 1.

    `now_ms` is the present, in milliseconds since the epoch. `schema_id` is the id under which the
    registry has the conversion event's schema. `poison` is the share of each dead-letter reason.
    `max_age_ms`, `max_future_ms` and `max_event_bytes` are the consumer's limits, which
    `too_old`, `in_future` and `too_large` overstep (the last by its JSON, not by its Avro: JSON
    needs six bytes for what Avro writes in one). `stripped` is the share of events whose person
    refused the use of personal data, yet not marketing: they are delivered. `traced` is the share
    of records with a `traceparent` header.
    """

    now_ms: int
    schema_id: int = 1
    event_source_ids: tuple[str, ...] = PIXELS
    duplicates: float = 0.1
    consent_denied: float = 0.02
    stripped: float = 0.02
    tombstones: float = 0.0
    traced: float = 0.25
    poison: Mapping[Reason, float] = field(default_factory=dict)
    max_age_ms: int = 7 * _DAY_MS
    max_future_ms: int = 600_000
    max_event_bytes: int = 1024 * 1024


class Sample(NamedTuple):
    """A record to produce, and what must become of it.

    `identity` is the event as TikTok would know it, None where nothing tells it. A `duplicate`
    has the identity of a delivered one.
    """

    key: bytes
    value: bytes | None
    headers: Headers
    timestamp: int
    outcome: Outcome
    reason: Reason | None
    identity: EventIdentity | None

    def record(self) -> NewRecord:
        """The record to produce."""
        return NewRecord(self.key, self.value, self.headers, self.timestamp)


class _Fate(StrEnum):
    GOOD = "good"
    STRIPPED = "stripped"
    DUPLICATE = "duplicate"
    DENIED = "denied"
    TOMBSTONE = "tombstone"


def generate(count: int, seed: int, settings: SampleSettings) -> Iterator[Sample]:
    """`count` samples, one by one. Copies of an event keep its key, so its partition too.

    Raises:
        ValueError: the shares add up to more than everything, or a reason is none that a record
            can earn.
    """
    draw = random.Random(seed)  # noqa: S311  repeatable, not secret
    fates = _deal(count, settings, draw)
    shop = Shop(draw, settings.event_source_ids, settings.now_ms)
    maker = _Maker(settings, draw)
    for fate in fates:
        yield maker.sample(shop.event(), fate)


def _deal(count: int, settings: SampleSettings, draw: random.Random) -> list[_Fate | Reason]:
    """A fate for each sample, in the stated shares; a share above nothing is at least one."""
    if unknown := set(settings.poison) - set(POISONS):
        raise ValueError(f"no record earns the reasons {', '.join(sorted(unknown))} by itself")
    shares: list[tuple[_Fate | Reason, float]] = [
        (_Fate.DUPLICATE, settings.duplicates),
        (_Fate.DENIED, settings.consent_denied),
        (_Fate.STRIPPED, settings.stripped),
        (_Fate.TOMBSTONE, settings.tombstones),
        *settings.poison.items(),
    ]
    fates = [
        fate for fate, share in shares if share > 0 for _ in range(max(1, round(share * count)))
    ]
    good = count - len(fates)
    if good < (1 if count else 0):
        raise ValueError("the shares leave no good event")
    fates += [_Fate.GOOD] * good
    draw.shuffle(fates)
    if fates:
        # The first is good, so that there is something to repeat.
        first = fates.index(_Fate.GOOD)
        fates[0], fates[first] = fates[first], fates[0]
    return fates


class _Maker:
    """Turns an event of the shop into the sample that its fate demands."""

    def __init__(self, settings: SampleSettings, draw: random.Random) -> None:
        self._settings = settings
        self._draw = draw
        self._encoder = Encoder(settings.schema_id)
        self._latest: deque[Sample] = deque(maxlen=_NEAR)
        self._earlier: list[Sample] = []

    def sample(self, event: ShopEvent, fate: _Fate | Reason) -> Sample:
        if fate is _Fate.DUPLICATE:
            return self._repeat()
        if isinstance(fate, Reason):
            return self._poison(event, fate)
        if fate is _Fate.TOMBSTONE:
            return self._finish(event, None, Outcome.SUPPRESSED, Reason.TOMBSTONE)
        consent = event.fields["consent"]
        if fate is _Fate.DENIED:
            consent["marketing"] = "DENIED"
            value = self._encoder.encode(event.fields)
            return self._finish(event, value, Outcome.SUPPRESSED, Reason.CONSENT)
        if fate is _Fate.STRIPPED:
            consent["ad_user_data"] = consent["ad_personalization"] = "DENIED"
        value = self._encoder.encode(event.fields)
        made = self._finish(event, value, Outcome.DELIVERED, None)
        self._latest.append(made)
        if len(self._earlier) < _FAR:
            self._earlier.append(made)
        else:
            self._earlier[self._draw.randrange(_FAR)] = made
        return made

    def _repeat(self) -> Sample:
        """A copy of an event: often of one so recent that it may still be on its way."""
        original = self._draw.choice(self._latest if self._draw.getrandbits(1) else self._earlier)
        return original._replace(outcome=Outcome.DUPLICATE, headers=self._headers())

    def _poison(self, event: ShopEvent, reason: Reason) -> Sample:
        spoilt = spoil(event.fields, reason, self._settings, self._encoder, self._draw)
        return self._finish(event, spoilt, Outcome.DEAD_LETTERED, reason)

    def _finish(
        self, event: ShopEvent, value: bytes | None, outcome: Outcome, reason: Reason | None
    ) -> Sample:
        readable = value is not None and reason not in (Reason.UNDECODABLE, Reason.SCHEMA_UNKNOWN)
        fields = event.fields
        identity = EventIdentity(fields["event_source_id"], event.name_as_sent, fields["event_id"])
        return Sample(
            event.key,
            value,
            self._headers(),
            self._settings.now_ms,
            outcome,
            reason,
            identity if readable else None,
        )

    def _headers(self) -> Headers:
        if self._draw.random() >= self._settings.traced:
            return ()
        trace, span = self._draw.getrandbits(128) | 1, self._draw.getrandbits(64) | 1
        return (("traceparent", f"00-{trace:032x}-{span:016x}-01".encode()),)
