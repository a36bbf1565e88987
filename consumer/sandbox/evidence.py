"""What is known when the demo is over, and whether the promises held: judged from outside.

The judges are TikTok's emulator, which knows what it took and how often, the dead-letter topic, the
receipts, and the offsets the broker holds. The consumer's own totals are only compared with them.
Everything is pure; a finding is a sentence, and no finding means that all held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from consumer.sandbox import receipts
from consumer.sandbox.expectations import Totals, compare, compare_dead_letters, expected_totals
from consumer.sandbox.faults import FaultKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from consumer.event import Record
    from consumer.sandbox.figures import Figures
    from consumer.sandbox.ground_truth import AcceptedEvent, RequestSeen
    from consumer.sandbox.receipts import Position
    from consumer.sandbox.samples import Sample

BROKEN = "the connection broke"
TIMED_OUT = "the answer came too late"
KILLED = "the consumer was killed"
OTHERWISE = "the answer was missed"

_ANSWER_LOST = {
    FaultKind.LATE.value: TIMED_OUT,
    FaultKind.CLOSE_AFTER.value: BROKEN,
}


@dataclass(frozen=True, slots=True)
class Run:
    """One life of the consumer's process.

    `due` is what it had to settle: all records that were not committed when it began. Of a killed
    one, `totals` and `figures` are as they were last seen; times are seconds since the epoch.
    """

    began_at: float
    ended_at: float
    killed: bool
    exit_code: int
    due: Totals
    totals: Mapping[str, int]
    figures: Figures


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the verdict and the summary are made of.

    `producing_from` is when the first record was produced, in seconds since the epoch. `truth` is
    the emulator's `GroundTruth.summary()`. `receipts` is what they tell of each record. `ends` and
    `committed` are the ends of the source's partitions and the group's offsets there. `throttled`
    is for how many seconds the consumer said of a destination that it is throttled. `timeout` is
    the consumer's patience with TikTok, in seconds.
    """

    samples: Sequence[Sample]
    producing_from: float
    runs: Sequence[Run]
    accepted: Sequence[AcceptedEvent]
    requests: Sequence[RequestSeen]
    truth: Mapping[str, Any]
    letters: Sequence[Record]
    receipts: Mapping[Position, str]
    ends: Mapping[int, int]
    committed: Mapping[int, int]
    throttled: Mapping[str, float]
    timeout: float


def due_after(
    records: Iterable[Record], samples: Iterable[Sample], committed: Mapping[int, int]
) -> Totals:
    """The totals of a consumer that begins at these committed offsets and settles the rest.

    `records` is the source topic as it stands, `samples` what was produced there. A copy without
    headers may be told for its original; which of the two is the duplicate, only the order says.
    """
    known = {(s.key, s.value, s.headers): s for s in samples}
    return expected_totals(
        known[record.key or b"", record.value, record.headers]
        for record in records
        if record.offset >= committed.get(record.partition, 0)
    )


def findings(evidence: Evidence) -> list[str]:
    """Everything that is not as promised, as sentences."""
    return [
        *compare(evidence.accepted, evidence.samples),
        *_needless_repeats(evidence),
        *compare_dead_letters(evidence.letters, evidence.samples),
        *receipts.compare(evidence.receipts, evidence.ends, expected_totals(evidence.samples)),
        *_uncommitted(evidence),
        *_last_run(evidence.runs[-1]),
    ]


def repeats_received(evidence: Evidence) -> dict[str, list[AcceptedEvent]]:
    """The events that TikTok got again and dropped, by why the consumer sent them again."""
    seen = {request.request_id: request for request in evidence.requests}
    repeated: dict[str, list[AcceptedEvent]] = {}
    for event in evidence.accepted:
        if event.deduplicated:
            sent = [seen[name] for name in event.request_ids if name in seen]
            repeated.setdefault(_cause(sent, evidence), []).append(event)
    return repeated


def _cause(sent: Sequence[RequestSeen], evidence: Evidence) -> str:
    for request in sent[:-1]:
        if request.fault in _ANSWER_LOST:
            return _ANSWER_LOST[request.fault]
    if any(_was_in_the_air(request, evidence) for request in sent):
        return KILLED
    return OTHERWISE


def _was_in_the_air(request: RequestSeen, evidence: Evidence) -> bool:
    """Whether a consumer was killed before it can have dealt with this request's answer."""
    return any(
        run.killed
        and run.ended_at - evidence.timeout <= request.at
        and not any(run.ended_at < other.began_at < request.at for other in evidence.runs)
        for run in evidence.runs
    )


def _needless_repeats(evidence: Evidence) -> Iterator[str]:
    """A repeat is needless unless an answer was lost, by the emulator's doing or on the way.

    The consumer's own count of such attempts bounds the latter: a slow machine may miss an answer
    that the emulator has sent.
    """
    repeated = repeats_received(evidence)
    received = sum(
        event.deduplicated
        for cause, events in repeated.items()
        if cause != KILLED
        for event in events
    )
    excused = sum(sum(run.figures.repeats.values()) for run in evidence.runs)
    if received > excused:
        example = repeated.get(OTHERWISE, [None])[0]
        named = "" if example is None else f", such as {example.identity.event_id}"
        yield (
            f"{received:,} events reached TikTok again{named}, but the consumer knows of only"
            f" {excused:,} whose answer was lost"
        )


def _uncommitted(evidence: Evidence) -> Iterator[str]:
    for partition, end in sorted(evidence.ends.items()):
        offset = evidence.committed.get(partition, 0)
        if offset != end:
            yield f"partition {partition} is committed up to {offset:,}, but ends at {end:,}"


def _last_run(run: Run) -> Iterator[str]:
    """The run that ended well: it settled each record once and stopped in order."""
    if run.exit_code != 0:
        yield f"the consumer ended with exit code {run.exit_code} after SIGTERM"
    due, totals = run.due, run.totals
    # Which copy of an event counts as the duplicate depends on what was accepted before.
    for name, reported, wanted in (
        ("consumed", totals["consumed"], due.consumed),
        (
            "delivered and duplicates",
            totals["delivered"] + totals["duplicate"],
            due.delivered + due.duplicate,
        ),
        ("suppressed", totals["suppressed"], due.suppressed),
        ("dead-lettered", totals["dead_lettered"], due.dead_lettered),
    ):
        if reported != wanted:
            yield f"the consumer reports {reported:,} {name}, due were {wanted:,}"
