"""The verdict on a round: what was lost, what was repeated and why, and whatever else is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from consumer.sandbox.receipts import COUNTED
from tests.faults.evidence import NEVER, told
from tests.faults.load import LETTERS, Fate
from tests.faults.repeats import excuse, was_marked
from tests.faults.waking import being_sent, unproven

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from consumer.event import Record
    from tests.faults.evidence import Evidence
    from tests.faults.load import Load

_RECEIPTS = {
    **dict.fromkeys(LETTERS, "dead_lettered"),
    **dict.fromkeys((Fate.DENIED, Fate.TOMBSTONE), "suppressed"),
    **dict.fromkeys((Fate.DELIVERED, Fate.REPEAT), COUNTED),
}
_OWN_HEADERS = ("dlq.", "__connect.errors.")


@dataclass
class Account:
    """What a round comes to.

    `lost` counts events that were neither delivered nor dead-lettered, and dead letters that are
    missing; `known` counts repeats of events that the consumer knew to be accepted; `excused`, the
    other repeats by why it could not know. `letter_copies` counts second letters of one record.
    `longest_pause` is the longest time in seconds in which nothing of some partition was accepted,
    between its first event and its last. `findings` says everything that is wrong.
    """

    records: int
    delivered: int
    lost: int = 0
    known: int = 0
    excused: Counter[str] = field(default_factory=Counter)
    letter_copies: int = 0
    longest_pause: float = 0.0
    findings: list[str] = field(default_factory=list)


def account(evidence: Evidence) -> Account:
    """Settles a round's accounts."""
    load = evidence.load
    produced = sum(map(len, load.log))
    result = Account(produced, load.delivered, findings=list(evidence.findings))
    _count_lost(evidence, result)
    _count_repeats(evidence, result)
    _count_letters(evidence, result)
    _check_receipts(evidence, result)
    result.findings += told(evidence.taken.strangers)
    result.findings += told(unproven(evidence))
    if evidence.committed != load.ends:
        result.findings.append(f"committed is {evidence.committed}, the log ends at {load.ends}")
    _measure_pauses(evidence, result)
    return result


def _count_lost(evidence: Evidence, result: Account) -> None:
    first = evidence.taken.first
    lost = [e for e in evidence.load.with_fate(Fate.DELIVERED) if first[e] == NEVER]
    result.lost += len(lost)
    result.findings += told([f"event {event} is lost: never accepted" for event in lost])


def _count_repeats(evidence: Evidence, result: Account) -> None:
    requests = evidence.answers.requests
    half_sent = being_sent(evidence)
    known: list[str] = []
    for event, numbers in evidence.taken.requests.items():
        for number, again in pairwise(numbers):
            why = excuse(evidence, number)
            earlier, repeat = requests[number], requests[again]
            if again in half_sent:
                why = "was being sent when the process was stopped"
            elif was_marked(evidence, event, repeat):
                why = None
            if why is not None:
                result.excused[why] += 1
                if not evidence.strict:
                    continue
            result.known += why is None
            known.append(
                f"event {event}, accepted by {earlier.app} at {earlier.at:.3f}, was sent again by"
                f" {repeat.app} {repeat.at - earlier.at:.3f} s later" + (f" ({why})" if why else "")
            )
    result.findings += told(known)


def _count_letters(evidence: Evidence, result: Account) -> None:
    load = evidence.load
    found: Counter[tuple[int, int]] = Counter()
    wrong: list[str] = []
    for letter in evidence.letters:
        place, problem = _letter(load, letter)
        found[place] += 1
        if problem is not None:
            wrong.append(f"the dead letter of {place} {problem}")
    missing = [
        (partition, offset)
        for partition, log in enumerate(load.log)
        for offset, number in enumerate(log)
        if Fate(load.fates[number]) in LETTERS and not found[partition, offset]
    ]
    result.lost += len(missing)
    result.letter_copies = sum(found.values()) - len(found)
    if evidence.strict and result.letter_copies:
        wrong.append(f"{result.letter_copies} dead letters were written twice")
    result.findings += told(wrong)
    result.findings += told([f"record {place} has no dead letter" for place in missing])


def _check_receipts(evidence: Evidence, result: Account) -> None:
    if evidence.receipts is None:
        return
    load, left = evidence.load, dict(evidence.receipts)
    wrong: list[str] = []
    for partition, log in enumerate(load.log):
        for offset, number in enumerate(log):
            outcome = left.pop((partition, offset), None)
            if outcome is None:
                wrong.append(f"record {(partition, offset)} has no receipt")
            elif outcome != _RECEIPTS[Fate(load.fates[number])]:
                wrong.append(f"record {(partition, offset)} is {outcome} by its receipt")
    wrong += [f"a receipt is about {place}, which was never produced" for place in left]
    result.findings += told(wrong)


def _letter(load: Load, letter: Record) -> tuple[tuple[int, int], str | None]:
    """Which record a dead letter belongs to, and what is wrong with it."""
    own = dict(letter.headers)
    place = (int(own["dlq.source.partition"] or -1), int(own["dlq.source.offset"] or -1))
    partition, offset = place
    if not (0 <= partition < load.partitions and 0 <= offset < len(load.log[partition])):
        return place, "names a record that was never produced"
    number = load.log[partition][offset]
    reason = LETTERS.get(Fate(load.fates[number]))
    if reason is None:
        return place, f"should not be: the event is good ({own['dlq.reason']!r})"
    original = load.record(number)
    copied = len(original.headers)
    was = (letter.key, letter.value, letter.timestamp, letter.headers[:copied])
    if was != (original.key, original.value, original.timestamp, original.headers):
        return place, "is not byte for byte what was produced"
    if not all(name.startswith(_OWN_HEADERS) for name, _ in letter.headers[copied:]):
        return place, "has foreign headers"
    if own["dlq.reason"] != reason.value.encode():
        return place, f"has the reason {own['dlq.reason']!r}, not {reason.value}"
    return place, None


def _measure_pauses(evidence: Evidence, result: Account) -> None:
    longest = max(pauses(evidence), default=(0.0, 0))
    result.longest_pause = longest[0]
    allowed = evidence.longest_pause
    if allowed is not None and longest[0] > allowed:
        result.findings.append(f"partition {longest[1]} stood still for {longest[0]:.1f} s")


def pauses(evidence: Evidence) -> Iterator[tuple[float, int]]:
    """The longest pause of each partition, with its number."""
    load, first = evidence.load, evidence.taken.first
    requests = evidence.answers.requests
    moments: list[set[int]] = [set() for _ in range(load.partitions)]
    for event, number in enumerate(first):
        if number != NEVER:
            moments[event % load.partitions].add(number)
    for partition, numbers in enumerate(moments):
        times = sorted(requests[number].at for number in numbers)
        yield max(_gaps(times), default=0.0), partition


def _gaps(times: Sequence[float]) -> Iterator[float]:
    return (later - earlier for earlier, later in pairwise(times))
