"""Whether the outcome is what the samples said: in totals, at TikTok, and in the dead letters.

Everything is a pure comparison that returns its findings as sentences; no finding means that the
promises held. Of each kind of finding the first twenty are told, then their number.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from consumer.event import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from consumer.event import Headers, Record
    from consumer.sandbox.ground_truth import AcceptedEvent, EventIdentity
    from consumer.sandbox.samples import Sample

    _Letter = tuple[bytes | None, bytes | None, Headers, str]

_TOLD = 20
_OWN_HEADERS = ("dlq.", "__connect.")


class Totals(NamedTuple):
    """How many samples end how; `reasons` counts the suppressed and the dead-lettered by reason."""

    consumed: int
    delivered: int
    duplicate: int
    suppressed: int
    dead_lettered: int
    reasons: Mapping[str, int]


def expected_totals(samples: Iterable[Sample]) -> Totals:
    """The totals that a consumer must report once it has settled all these samples."""
    outcomes: Counter[Outcome] = Counter()
    reasons: Counter[str] = Counter()
    for sample in samples:
        outcomes[sample.outcome] += 1
        if sample.reason is not None:
            reasons[sample.reason.value] += 1
    return Totals(
        outcomes.total(),
        outcomes[Outcome.DELIVERED],
        outcomes[Outcome.DUPLICATE],
        outcomes[Outcome.SUPPRESSED],
        outcomes[Outcome.DEAD_LETTERED],
        dict(reasons),
    )


def compare(
    accepted: Iterable[AcceptedEvent], samples: Iterable[Sample], *, repeats_allowed: bool = True
) -> list[str]:
    """Differences between what TikTok has accepted and what the samples said.

    Each good event must have counted exactly once, and nothing else may have been accepted. A
    repeat that TikTok dropped is no fault where an attempt's outcome was unknown; without
    `repeats_allowed` it is one.
    """
    good: set[EventIdentity] = set()
    bad: dict[EventIdentity, Sample] = {}
    for sample in samples:
        if sample.identity is None:
            continue
        if sample.outcome in (Outcome.DELIVERED, Outcome.DUPLICATE):
            good.add(sample.identity)
        else:
            bad[sample.identity] = sample
    seen: set[EventIdentity] = set()
    unexpected: list[str] = []
    counted: list[str] = []
    repeated: list[str] = []
    for event in accepted:
        seen.add(event.identity)
        name = _name(event.identity)
        if event.identity not in good:
            unexpected.append(f"{name} was accepted although it {_fate(bad.get(event.identity))}")
        if event.accepted != 1:
            counted.append(f"{name} counted {event.accepted} times")
        if event.deduplicated and not repeats_allowed:
            repeated.append(f"{name} was sent {event.deduplicated + 1} times")
    missing = [
        f"{_name(identity)} never reached TikTok" for identity in sorted(good - seen, key=str)
    ]
    return [*_tell(missing), *_tell(unexpected), *_tell(counted), *_tell(repeated)]


def compare_dead_letters(letters: Iterable[Record], samples: Iterable[Sample]) -> list[str]:
    """Differences between a dead-letter topic and what the samples said.

    Each bad sample must be there byte for byte (key, value, headers), with its reason, and nothing
    else. Dead letters are at-least-once: a copy with the same source position is no fault.
    """
    by_position: dict[object, _Letter] = {}
    for number, letter in enumerate(letters):
        own = {name: value for name, value in letter.headers if name.startswith(_OWN_HEADERS)}
        original = tuple(h for h in letter.headers if not h[0].startswith(_OWN_HEADERS))
        position = tuple(own.get(f"dlq.source.{n}") for n in ("topic", "partition", "offset"))
        reason = (own.get("dlq.reason") or b"none").decode()
        whole = None not in position
        by_position[position if whole else number] = (letter.key, letter.value, original, reason)
    found = Counter(by_position.values())
    expected: Counter[_Letter] = Counter(
        (sample.key, sample.value, sample.headers, sample.reason.value)
        for sample in samples
        if sample.outcome is Outcome.DEAD_LETTERED and sample.reason is not None
    )
    missing = [
        f"a record of key {key!r} is no dead letter for {reason}"
        for key, _, _, reason in (expected - found).elements()
    ]
    surplus = [
        f"a record of key {key!r} is a dead letter for {reason} that it should not be"
        for key, _, _, reason in (found - expected).elements()
    ]
    return [*_tell(missing), *_tell(surplus)]


def compare_totals(reported: Mapping[str, int], expected: Totals) -> list[str]:
    """Differences between the totals a consumer reports (`/status`, `totals`) and the expected."""
    return [
        f"{name}: {reported.get(name, 0)} reported, {wanted} expected"
        for name, wanted in zip(expected._fields[:5], expected[:5], strict=True)
        if reported.get(name, 0) != wanted
    ]


def _tell(findings: list[str]) -> Iterator[str]:
    yield from islice(findings, _TOLD)
    if len(findings) > _TOLD:
        yield f"and {len(findings) - _TOLD} more like the last"


def _name(identity: EventIdentity) -> str:
    return f"{identity.event} {identity.event_id or '(no event_id)'} of {identity.event_source_id}"


def _fate(sample: Sample | None) -> str:
    if sample is None:
        return "was in no sample"
    return f"must be {sample.outcome.value} ({sample.reason})"
