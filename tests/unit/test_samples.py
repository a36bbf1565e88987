"""The sample events are what they claim: good ones pass every station, bad ones fail as said."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.consent import ConsentRules
from consumer.decode import Decoder, Encoding, Undecodable, UnknownSchema
from consumer.event import (
    Destination,
    EventSource,
    Mapped,
    Outcome,
    Reason,
    Record,
    Refused,
    Suppressed,
)
from consumer.identity import IdentityRules
from consumer.names import default_event_names
from consumer.payload import Mapper
from consumer.route import Routes
from consumer.sandbox.expectations import (
    compare,
    compare_dead_letters,
    compare_totals,
    expected_totals,
)
from consumer.sandbox.ground_truth import AcceptedEvent, EventIdentity
from consumer.sandbox.rules import REJECT_MARKER, check_request
from consumer.sandbox.samples import PIXELS, POISONS, Sample, SampleSettings, generate
from consumer.schemas import load_schema

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW_MS = 1_750_000_000_000
LIMIT = 20_000
EVERYTHING = SampleSettings(
    NOW_MS,
    schema_id=7,
    tombstones=0.02,
    poison=dict.fromkeys(POISONS, 0.03),
    max_event_bytes=LIMIT,
)
SCHEMA = load_schema("conversion_event")


class Path:
    """The consumer's deciding stations, one after the other, for one sample."""

    def __init__(self) -> None:
        names = default_event_names(EventSource.WEB)
        self._decoder = Decoder(Encoding.CONFLUENT, SCHEMA)
        self._decoder.learn(7, [json.dumps(SCHEMA)])
        self._routes = Routes(
            [Destination(EventSource.WEB, pixel, event_names=names) for pixel in PIXELS], None
        )
        self._mapper = Mapper(
            consent=ConsentRules(),
            identity=IdentityRules(),
            max_future_ms=600_000,
            max_body_bytes=LIMIT,
        )

    def outcome(self, sample: Sample) -> Mapped | Suppressed | Refused:
        """What becomes of a sample before any request is made."""
        if sample.value is None:
            return Suppressed(Reason.TOMBSTONE)
        try:
            event = self._decoder.decode(sample.value)
        except Undecodable:
            return Refused(Reason.UNDECODABLE, "")
        except UnknownSchema:
            return Refused(Reason.SCHEMA_UNKNOWN, "")
        destination = self._routes.route(event)
        if isinstance(destination, Refused):
            return destination
        return self._mapper.map(event, destination, NOW_MS)


def request(mapped: Mapped) -> dict[str, Any]:
    return {
        "event_source": "web",
        "event_source_id": mapped.destination.event_source_id,
        "data": [orjson.loads(mapped.body)],
    }


def test_every_sample_meets_its_fate_at_the_right_station() -> None:
    """What the samples promise, the consumer's own stations and TikTok's rules do."""
    path = Path()
    met: Counter[Reason | None] = Counter()
    for sample in generate(1500, 3, EVERYTHING):
        found = path.outcome(sample)
        met[sample.reason] += 1
        if sample.outcome in (Outcome.DELIVERED, Outcome.DUPLICATE):
            assert isinstance(found, Mapped), (sample.identity, found)
            assert check_request(request(found)) is None
            identity = EventIdentity(found.destination.event_source_id, found.event, found.event_id)
            assert identity == sample.identity
            assert not found.warnings
        elif sample.reason is Reason.REJECTED:
            assert isinstance(found, Mapped)
            complaint = check_request(request(found))
            assert complaint is not None
            assert complaint.path == f"properties.{REJECT_MARKER}"
        else:
            assert isinstance(found, Suppressed | Refused)
            assert found.reason is sample.reason
    assert met.keys() == {None, Reason.CONSENT, Reason.TOMBSTONE, *POISONS}


@given(count=st.integers(80, 400), seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_shares_are_exact_and_every_named_fate_occurs(count: int, seed: int) -> None:
    """Totals follow from the settings alone, whatever the seed."""
    totals = expected_totals(generate(count, seed, EVERYTHING))
    assert totals.consumed == count
    assert totals.duplicate == round(0.1 * count)
    assert totals.reasons["consent"] == max(1, round(0.02 * count))
    assert totals.dead_lettered == len(POISONS) * max(1, round(0.03 * count))
    assert sum(totals[1:5]) == count


@given(seed=st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_a_duplicate_follows_its_original_under_the_same_key(seed: int) -> None:
    """Copies are byte for byte, later, and in the same partition by their key."""
    delivered: dict[EventIdentity | None, Sample] = {}
    for sample in generate(300, seed, EVERYTHING):
        if sample.outcome is Outcome.DELIVERED:
            assert sample.identity not in delivered
            delivered[sample.identity] = sample
        if sample.outcome is Outcome.DUPLICATE:
            original = delivered[sample.identity]
            assert (sample.key, sample.value) == (original.key, original.value)


def test_the_same_seed_gives_the_same_bytes() -> None:
    """A failing run can be repeated; another seed is another run."""
    first, again, other = (list(generate(200, seed, EVERYTHING)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_values_are_of_the_usual_size() -> None:
    """The bench's measure: about 590 bytes a value, none of them extreme."""
    plain = SampleSettings(NOW_MS, duplicates=0.05, consent_denied=0, stripped=0)
    sizes = [len(sample.value or b"") for sample in generate(3000, 1, plain)]
    assert 560 < sum(sizes) / len(sizes) < 620
    assert max(sizes) < 1000


def test_all_persons_are_invented() -> None:
    """Mail goes to example.com and numbers are from the ranges kept for fiction."""
    decoder = Decoder(Encoding.CONFLUENT, SCHEMA)
    decoder.learn(1, [json.dumps(SCHEMA)])
    fiction = ("+121255501", "+131055501", "+4477009001", "+3363998", "+4917139200")
    reached = 0
    for sample in generate(300, 5, SampleSettings(NOW_MS)):
        assert sample.value is not None
        event = decoder.decode(sample.value)
        assert event["page"]["url"].startswith("https://shop.example.com/")
        if (email := event["user"]["email"]) is not None:
            assert email.strip().lower().endswith("@example.com")
            digits = event["user"]["phone"].translate({ord(mark): None for mark in " ()-"})
            assert digits.startswith(fiction)
            reached += 1
    assert reached > 100


def test_impossible_settings_are_refused() -> None:
    """Shares beyond the whole and reasons no record can earn are mistakes, said at once."""
    with pytest.raises(ValueError, match="no good event"):
        list(generate(100, 1, SampleSettings(NOW_MS, duplicates=1.0)))
    with pytest.raises(ValueError, match="retries_exhausted"):
        list(generate(9, 1, SampleSettings(NOW_MS, poison={Reason.RETRIES_EXHAUSTED: 0.1})))


def accepted(samples: Iterable[Sample], count: int = 1, repeats: int = 0) -> list[AcceptedEvent]:
    good = {s.identity for s in samples if s.outcome is Outcome.DELIVERED}
    return [AcceptedEvent(i, count, repeats, ("r",)) for i in good if i is not None]


SAMPLES = list(generate(300, 4, EVERYTHING))


def test_each_good_event_counted_once_is_no_finding() -> None:
    """The truth that the promises ask for has nothing to complain about."""
    assert compare(accepted(SAMPLES), SAMPLES, repeats_allowed=False) == []


def test_a_missing_event_is_found() -> None:
    """Loss shows, event by event."""
    truth = accepted(SAMPLES)
    lost = truth.pop()
    (finding,) = compare(truth, SAMPLES)
    assert lost.identity.event_id in finding
    assert "never reached" in finding


def test_an_event_that_should_not_be_there_is_found_with_its_fate() -> None:
    """An accepted event without consent, or of no sample, is a broken promise."""
    denied = next(s for s in SAMPLES if s.reason is Reason.CONSENT)
    assert denied.identity is not None
    stranger = EventIdentity(PIXELS[0], "Purchase", "nobody's")
    extra = [AcceptedEvent(i, 1, 0, ("r",)) for i in (denied.identity, stranger)]
    first, second = compare([*accepted(SAMPLES), *extra], SAMPLES)
    assert "suppressed (consent)" in first
    assert "in no sample" in second


def test_counting_twice_is_found_and_a_dropped_repeat_only_on_demand() -> None:
    """Twice counted is always wrong; sent twice is wrong only where no answer was lost."""
    twice = accepted(SAMPLES[:1], count=2)
    assert any("counted 2 times" in finding for finding in compare(twice, SAMPLES[:1]))
    repeated = accepted(SAMPLES[:1], repeats=1)
    assert compare(repeated, SAMPLES[:1]) == []
    assert compare(repeated, SAMPLES[:1], repeats_allowed=False) != []


def test_a_flood_of_findings_is_told_in_short() -> None:
    """When everything is lost, the report stays readable and keeps the number."""
    findings = compare([], SAMPLES)
    good = {s.identity for s in SAMPLES if s.outcome is Outcome.DELIVERED}
    assert len(findings) == 21
    assert str(len(good) - 20) in findings[-1]


def letters(samples: Iterable[Sample]) -> list[Record]:
    bad = [s for s in samples if s.outcome is Outcome.DEAD_LETTERED and s.reason is not None]
    return [
        Record(
            "conversions.dlq",
            0,
            number,
            NOW_MS,
            sample.key,
            sample.value,
            (
                *sample.headers,
                ("dlq.version", b"1"),
                ("dlq.reason", str(sample.reason).encode()),
                ("dlq.source.topic", b"conversions"),
                ("dlq.source.partition", b"0"),
                ("dlq.source.offset", str(number).encode()),
                ("__connect.errors.topic", b"conversions"),
            ),
        )
        for number, sample in enumerate(bad)
    ]


def test_the_right_dead_letters_are_no_finding() -> None:
    """Byte for byte with the right reasons; a second copy of a letter is allowed."""
    right = letters(SAMPLES)
    assert compare_dead_letters([*right, right[0]], SAMPLES) == []


@pytest.mark.parametrize(
    "change",
    [
        {"key": b"other"},
        {"value": b"other"},
        {"headers": (("dlq.reason", b"invalid"),)},
    ],
)
def test_a_changed_dead_letter_is_missing_and_surplus(change: dict[str, Any]) -> None:
    """A key, a value, a header or a reason that differs is found."""
    first, *others = letters(SAMPLES)
    assert first.headers[-5][1] != b"invalid"
    findings = compare_dead_letters([first._replace(**change), *others], SAMPLES)
    assert len(findings) == 2


def test_a_missing_dead_letter_is_found() -> None:
    """A bad record that vanished is a loss."""
    assert len(compare_dead_letters(letters(SAMPLES)[1:], SAMPLES)) == 1


def test_reported_totals_are_compared_name_by_name() -> None:
    """The consumer's own totals must be the expected ones; each difference is named."""
    totals = expected_totals(SAMPLES)
    reported = dict(zip(totals._fields[:5], totals[:5], strict=True))
    assert compare_totals(reported, totals) == []
    assert compare_totals({**reported, "delivered": 0}, totals) == [
        f"delivered: 0 reported, {totals.delivered} expected"
    ]
