from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from consumer.event import Outcome, Reason, Record
from consumer.sandbox.evidence import Evidence, Run, due_after, findings, repeats_received
from consumer.sandbox.expectations import Totals, expected_totals
from consumer.sandbox.figures import Figures, quantile, together
from consumer.sandbox.ground_truth import AcceptedEvent, GroundTruth, RequestSeen, request_id
from consumer.sandbox.receipts import COUNTED
from consumer.sandbox.samples import POISONS, Sample, SampleSettings, generate
from consumer.sandbox.summary import show, summarise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NOW_MS = 1_790_000_000_000
BEGAN, KILLED, BACK, ENDED = 1000.0, 1010.0, 1015.0, 1030.0
SAMPLES = tuple(
    generate(
        300,
        7,
        SampleSettings(now_ms=NOW_MS, tombstones=0.01, poison=dict.fromkeys(POISONS, 0.01)),
    )
)
SOURCE = tuple(
    Record("conversions", n % 4, n // 4, -1, s.key, s.value, s.headers)
    for n, s in enumerate(SAMPLES)
)
COMMITTED = {0: 30, 1: 30, 2: 30, 3: 30}
METRICS = """\
# TYPE tiktok_events_end_to_end_seconds histogram
tiktok_events_end_to_end_seconds_bucket{le="1.0"} 50.0
tiktok_events_end_to_end_seconds_bucket{le="10.0"} 100.0
tiktok_events_end_to_end_seconds_bucket{le="+Inf"} 100.0
# TYPE tiktok_events_repeats_total counter
tiktok_events_repeats_total{cause="timeout"} 3.0
tiktok_events_repeats_total{cause="http_502"} 4.0
"""


def letter(record: Record, reason: str) -> Record:
    ours = (
        ("dlq.reason", reason.encode()),
        ("dlq.source.topic", record.topic.encode()),
        ("dlq.source.partition", str(record.partition).encode()),
        ("dlq.source.offset", str(record.offset).encode()),
    )
    return record._replace(topic="conversions.dlq", headers=record.headers + ours)


def as_told(sample: Sample) -> str:
    """What a receipt tells of a sample."""
    good = sample.outcome in {Outcome.DELIVERED, Outcome.DUPLICATE}
    return COUNTED if good else sample.outcome.value


def request(number: int, at: float, fault: str | None = None, code: int | None = 0) -> RequestSeen:
    return RequestSeen(request_id(number), at, "PIXEL", None, 1, 100, code, fault, 1, 0)


def totals(due: Totals) -> dict[str, int]:
    return {name: getattr(due, name) for name in Totals._fields[:5]}


def accepted_once(samples: Sequence[Sample]) -> list[AcceptedEvent]:
    identities = {
        s.identity: None
        for s in samples
        if s.identity is not None and s.outcome is Outcome.DELIVERED
    }
    return [AcceptedEvent(identity, 1, 0, (request_id(1),)) for identity in identities]


def as_promised() -> Evidence:
    """A demo in which everything went as it should."""
    truth = GroundTruth()
    for seen in (requests := [request(0, BEGAN), request(1, BEGAN + 1)]):
        truth.begin(seen.at)
        truth.note(seen)
    due = due_after(SOURCE, SAMPLES, COMMITTED)
    letters = [
        letter(record, sample.reason.value)
        for record, sample in zip(SOURCE, SAMPLES, strict=True)
        if sample.outcome is Outcome.DEAD_LETTERED and sample.reason is not None
    ]
    figures = Figures.from_metrics(METRICS)
    everything = expected_totals(SAMPLES)
    seen_before = dict.fromkeys(totals(due), 0) | {"consumed": 130}
    return Evidence(
        samples=SAMPLES,
        producing_from=BEGAN,
        runs=(
            Run(BEGAN, KILLED, True, -9, everything, seen_before, figures),
            Run(BACK, ENDED, False, 0, due, totals(due), figures),
        ),
        accepted=accepted_once(SAMPLES),
        requests=requests,
        truth=truth.summary(),
        letters=letters,
        receipts={
            (record.partition, record.offset): as_told(sample)
            for record, sample in zip(SOURCE, SAMPLES, strict=True)
        },
        ends=dict.fromkeys(range(4), 75),
        committed=dict.fromkeys(range(4), 75),
        throttled={"C9SHOPBETA0000000002": 7.25},
        timeout=2.0,
    )


def printed(evidence: Evidence, *, terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=terminal)
    show(console, summarise(evidence), findings(evidence))
    return out.getvalue()


def figure(text: str, label: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.strip().startswith(label))
    return line.strip().removeprefix(label).split()


def last_run(evidence: Evidence, **changes: Any) -> Evidence:
    first, last = evidence.runs
    return replace(evidence, runs=(first, replace(last, **changes)))


def again(evidence: Evidence, *request_numbers: int, excused: int = 0) -> Evidence:
    """The first event came in these requests, all but one dropped by TikTok."""
    event, *others = evidence.accepted
    ids = tuple(map(request_id, request_numbers))
    repeated = event._replace(deduplicated=len(ids) - 1, request_ids=ids)
    runs = tuple(
        replace(run, figures=Figures({}, {"timeout": excused} if excused else {}))
        for run in evidence.runs
    )
    return replace(evidence, accepted=[repeated, *others], runs=runs)


def test_there_is_nothing_to_find_when_all_went_as_promised() -> None:
    """Otherwise the findings below would prove nothing."""
    assert findings(as_promised()) == []


@given(st.integers(0, len(accepted_once(SAMPLES)) - 1))
@settings(max_examples=25)
def test_an_event_that_tiktok_does_not_have_is_named(place: int) -> None:
    """Whichever it is, the sentence carries its event_id."""
    evidence = as_promised()
    events = list(evidence.accepted)
    forgotten = events.pop(place)
    (found,) = findings(replace(evidence, accepted=events))
    assert forgotten.identity.event_id in found
    assert found.endswith("never reached TikTok")


def test_an_event_that_nobody_produced_is_named() -> None:
    """TikTok having more than it should is as wrong as having less."""
    evidence = as_promised()
    stranger = evidence.accepted[0].identity._replace(event_id="stranger-1")
    events = [*evidence.accepted, AcceptedEvent(stranger, 1, 0, (request_id(1),))]
    (found,) = findings(replace(evidence, accepted=events))
    assert "stranger-1" in found


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda letters: letters[1:], "is no dead letter"),
        (lambda letters: [letters[0]._replace(value=b"x"), *letters[1:]], "is no dead letter"),
        (lambda letters: [*letters, letter(SOURCE[0], "invalid")], "should not be"),
    ],
    ids=["missing", "changed", "surplus"],
)
def test_a_wrong_dead_letter_is_found(
    spoil: Callable[[Sequence[Record]], Sequence[Record]], words: str
) -> None:
    """Missing, not byte for byte, or of an event that was good."""
    evidence = as_promised()
    found = findings(replace(evidence, letters=spoil(evidence.letters)))
    assert any(words in sentence for sentence in found)


def test_a_dead_letter_may_come_twice() -> None:
    """They are at-least-once: the consumer was killed before it could commit."""
    evidence = as_promised()
    copied = replace(evidence, letters=[*evidence.letters, evidence.letters[0]])
    assert findings(copied) == []
    expected = str(expected_totals(SAMPLES).dead_lettered)
    assert figure(printed(copied), "total") == [expected, expected]


@pytest.mark.parametrize(
    ("place", "told", "words"),
    [
        ((0, 0), None, "1 records have no receipt"),
        ((3, 75), COUNTED, "1 receipts are about no record"),
        ((0, 0), "suppressed", "records suppressed, due were"),
    ],
    ids=["missing", "surplus", "wrong"],
)
def test_a_wrong_receipt_is_found(place: tuple[int, int], told: str | None, words: str) -> None:
    """Missing, of a record that is none, or with another outcome."""
    evidence = as_promised()
    receipts = {**evidence.receipts, place: told}
    spoiled = {at: outcome for at, outcome in receipts.items() if outcome is not None}
    found = findings(replace(evidence, receipts=spoiled))
    assert any(words in sentence for sentence in found)


def test_an_offset_that_is_not_committed_is_found() -> None:
    """A partition without any committed offset counts from its beginning."""
    evidence = as_promised()
    assert findings(replace(evidence, committed={0: 75, 1: 74, 2: 75})) == [
        "partition 1 is committed up to 74, but ends at 75",
        "partition 3 is committed up to 0, but ends at 75",
    ]


def test_a_consumer_that_does_not_stop_in_order_is_found() -> None:
    """SIGTERM ends with exit code 0."""
    assert findings(last_run(as_promised(), exit_code=1)) == [
        "the consumer ended with exit code 1 after SIGTERM"
    ]


@pytest.mark.parametrize("name", Totals._fields[:5])
def test_a_total_that_is_off_by_one_is_found(name: str) -> None:
    """What the consumer says of itself must be what was due when it began."""
    evidence = as_promised()
    reported = dict(evidence.runs[-1].totals)
    reported[name] += 1
    (found,) = findings(last_run(evidence, totals=reported))
    assert found.startswith("the consumer reports ")


@given(st.dictionaries(st.integers(0, 3), st.integers(0, 75)))
@settings(max_examples=25)
def test_what_is_due_is_what_lies_behind_the_committed_offsets(committed: dict[int, int]) -> None:
    """Each record counts once, with the outcome of its sample."""
    due = due_after(SOURCE, SAMPLES, committed)
    left = [
        sample
        for record, sample in zip(SOURCE, SAMPLES, strict=True)
        if record.offset >= committed.get(record.partition, 0)
    ]
    outcomes = Counter(sample.outcome for sample in left)
    assert due.consumed == len(left) == 300 - sum(committed.values())
    # A copy without headers is the same bytes as its original, whichever of the two came first.
    good = outcomes[Outcome.DELIVERED] + outcomes[Outcome.DUPLICATE]
    assert due.delivered + due.duplicate == good
    assert due.suppressed == outcomes[Outcome.SUPPRESSED]
    assert due.dead_lettered == outcomes[Outcome.DEAD_LETTERED]


@pytest.mark.parametrize(
    ("fault", "cause"),
    [("late", "the answer came too late"), ("close_after", "the connection broke")],
)
def test_a_repeat_is_explained_by_the_answer_that_was_lost(fault: str, cause: str) -> None:
    """TikTok had taken the event and could not say so: no difference, but told in the summary."""
    requests = [request(1, BEGAN + 1, fault), request(2, BEGAN + 4)]
    evidence = again(replace(as_promised(), requests=requests), 1, 2, excused=1)
    assert findings(evidence) == []
    assert figure(printed(evidence), cause) == ["1"]


@pytest.mark.parametrize("at", [KILLED - 1.9, KILLED, BACK - 0.1])
def test_a_repeat_is_explained_by_the_kill(at: float) -> None:
    """A request that was in the air when the consumer died could not be noted."""
    requests = [request(1, at), request(2, BACK + 4)]
    evidence = again(replace(as_promised(), requests=requests), 1, 2)
    assert findings(evidence) == []
    assert list(repeats_received(evidence)) == ["the consumer was killed"]


def test_a_repeat_without_any_reason_is_found_and_named() -> None:
    """An event whose acceptance was known is never sent again."""
    requests = [request(1, BEGAN + 1), request(2, BACK + 1)]
    evidence = again(replace(as_promised(), requests=requests), 1, 2)
    (found,) = findings(evidence)
    assert evidence.accepted[0].identity.event_id in found


def test_more_repeats_than_lost_answers_are_found() -> None:
    """One lost answer does not excuse two repeats."""
    requests = [request(1, BEGAN + 1, "late"), request(2, BEGAN + 4), request(3, BEGAN + 5)]
    evidence = again(replace(as_promised(), requests=requests), 1, 2, 3)
    first, last = evidence.runs
    once = replace(last, figures=Figures({}, {"timeout": 1}))
    assert findings(replace(evidence, runs=(first, once))) == [
        "2 events reached TikTok again, but the consumer knows of only 1 whose answer was lost"
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_the_summary_says_everything(*, terminal: bool) -> None:
    """A person finds every figure, on a terminal or in a file."""
    text = printed(as_promised(), terminal=terminal)
    everything = expected_totals(SAMPLES)
    for words in (
        f"{everything.delivered}",
        "duplicates",
        "suppressed",
        "median; largest 1",
        "7.2 s",
        "no answer in time",
        "Every promise held.",
        "Where to look next",
        *POISONS,
    ):
        assert words in text
    assert ("\x1b[" in text) is terminal


def test_the_summary_counts_what_it_says() -> None:
    """The figures stand where their labels are."""
    text = printed(as_promised())
    everything = expected_totals(SAMPLES)
    assert figure(text, "produced") == ["300"]
    assert figure(text, "delivered")[0] == str(everything.delivered)
    assert figure(text, "counted once") == [str(everything.delivered)]
    assert figure(text, Reason.TOO_OLD) == ["3", "3"]
    assert figure(text, "sent again")[0] == "14"
    assert figure(text, "half of the records (p50)") == ["~1.0", "s", "~1.0", "s"]
    assert "† killed (SIGKILL); 10 records, not committed yet, were read again" in text


def test_the_summary_fits_80_columns() -> None:
    """Also with numbers in the millions."""
    evidence = as_promised()
    runs = tuple(
        replace(
            run,
            totals=dict.fromkeys(run.totals, 9_999_999),
            figures=Figures({}, {"timeout": 9_999_999, "50000": 1, "http_502": 1}),
        )
        for run in evidence.runs
    )
    codes = dict.fromkeys(("0", "40002", "40132", "50000", "none", "40100"), 9_999_999)
    truth = {**evidence.truth, "requests": 9_999_999, "requests_by_code": codes}
    large = replace(evidence, runs=runs, truth=truth)
    out = io.StringIO()
    show(Console(file=out, width=80), summarise(large), [])
    assert max(map(len, out.getvalue().splitlines())) <= 80


def test_differences_are_told_as_they_are() -> None:
    """The verdict is not softened, and nothing says that all held."""
    text = printed(last_run(as_promised(), exit_code=3))
    assert "Not as promised:" in text
    assert "  - the consumer ended with exit code 3 after SIGTERM" in text
    assert "Every promise held." not in text


def test_figures_are_read_from_prometheus_text() -> None:
    """Names are those that the consumer's `/metrics` fixes."""
    read = Figures.from_metrics(METRICS)
    assert read == Figures({1.0: 50, 10.0: 100, float("inf"): 100}, {"timeout": 3, "http_502": 4})
    assert Figures.from_metrics("") == Figures({}, {})


def test_the_figures_of_two_runs_add_up() -> None:
    """As if there had been one process."""
    read = Figures.from_metrics(METRICS)
    both = together([read, read])
    assert both == Figures({1.0: 100, 10.0: 200, float("inf"): 200}, {"timeout": 6, "http_502": 8})


@given(
    st.lists(st.integers(0, 50), min_size=3, max_size=6),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.1, 100),
)
@example(counts=[0, 0, 25], one=0.0, other=1.0, most=84.1281601541731)
@settings(max_examples=60)
def test_quantiles_rise_and_stay_below_what_is_possible(
    counts: list[int], one: float, other: float, most: float
) -> None:
    """A guess inside a wide bucket never exceeds what can have been observed."""
    bounds = [*map(float, range(1, len(counts))), float("inf")]
    buckets = {bound: float(sum(counts[: n + 1])) for n, bound in enumerate(bounds)}
    low, high = (quantile(buckets, share, most) for share in sorted((one, other)))
    if not sum(counts):
        assert low is high is None
    else:
        assert low is not None
        assert high is not None
        filled = [0.0, *(b for b in bounds if b != float("inf"))]
        assert 0 <= low <= high <= max(most, *filled)
