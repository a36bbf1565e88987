"""The fault harness finds what it is there to find: each promise, broken in forged evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.sandbox.faults import FaultKind
from consumer.sandbox.receipts import COUNTED
from tests.faults.account import account
from tests.faults.evidence import IncidentKind
from tests.faults.load import Fate
from tests.support.forged_round import NOW, ForgedRound

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.account import Account

LONG_AFTER = 60.0


@pytest.fixture
def forged() -> ForgedRound:
    """A round in which everything was as promised."""
    return ForgedRound()


def settle(forged: ForgedRound) -> Account:
    """Its accounts."""
    return account(forged.evidence)


def test_an_honest_round_has_nothing_against_it(forged: ForgedRound) -> None:
    """What was produced arrived once, and the accounts say so."""
    settled = settle(forged)
    assert (settled.records, settled.lost, settled.known) == (400, 0, 0)
    assert (settled.excused, settled.letter_copies, settled.findings) == ({}, 0, [])


@given(st.data())
def test_every_lost_event_is_counted(data: st.DataObject) -> None:
    """Whichever events were never accepted, that many are lost."""
    forged = ForgedRound()
    events = list(forged.evidence.load.with_fate(Fate.DELIVERED))
    lost = data.draw(st.sets(st.sampled_from(events), min_size=1))
    for event in lost:
        forged.lose(event)
    settled = settle(forged)
    assert settled.lost == len(lost)
    assert settled.findings


def test_an_undisturbed_process_knew_what_was_accepted(forged: ForgedRound) -> None:
    """An answer that came, and nothing that happened: the repeat is a known one."""
    event = forged.an_event
    forged.unmark(event)
    forged.send_again(event, "first", LONG_AFTER)
    assert settle(forged).known == 1


def kill_after(forged: ForgedRound, event: int, seconds: float) -> None:
    """Its sender is killed so many seconds after the event was accepted, another takes over."""
    at = forged.at(event) + seconds
    forged.happened(IncidentKind.KILL, "first", at, at)
    forged.take_over(b"second", 1000, at + 10)


def withhold(forged: ForgedRound, event: int) -> None:
    """The answer was withheld."""
    forged.unanswer(event, FaultKind.CLOSE_AFTER)


def come_too_late(forged: ForgedRound, event: int) -> None:
    """The answer came after the consumer's patience."""
    forged.unanswer(event, FaultKind.LATE)


def hang_up(forged: ForgedRound, event: int) -> None:
    """Nobody was there to take the answer."""
    forged.unanswer(event)


def kill_before_the_mark(forged: ForgedRound, event: int) -> None:
    """The process died right after the answer."""
    forged.unmark(event)
    kill_after(forged, event, 0.2)


def stop_before_the_mark(forged: ForgedRound, event: int) -> None:
    """The process stood still right after the answer."""
    forged.unmark(event)
    at = forged.at(event)
    forged.happened(IncidentKind.STOP, "first", at - 1, at + 3)


def cut_before_the_mark(forged: ForgedRound, event: int) -> None:
    """The broker could not be reached."""
    forged.unmark(event)
    at = forged.at(event)
    forged.happened(IncidentKind.CUT, None, at - 1, at + 8)


@pytest.mark.parametrize(
    "excuse",
    [
        withhold,
        come_too_late,
        hang_up,
        kill_before_the_mark,
        stop_before_the_mark,
        cut_before_the_mark,
    ],
)
def test_an_unknown_outcome_excuses_a_repeat(
    forged: ForgedRound, excuse: Callable[[ForgedRound, int], None]
) -> None:
    """Where the consumer could not know, a repeat is counted by its cause and nothing more."""
    event = forged.an_event
    excuse(forged, event)
    forged.send_again(event, "second", LONG_AFTER)
    settled = settle(forged)
    assert (settled.known, settled.excused.total(), settled.findings) == (0, 1, [])


def test_in_a_quiet_round_no_repeat_is_excused(forged: ForgedRound) -> None:
    """Where nothing may be repeated, an excused repeat is a finding too."""
    forged.evidence.strict = True
    hang_up(forged, forged.an_event)
    forged.send_again(forged.an_event, "first", LONG_AFTER)
    settled = settle(forged)
    assert (settled.known, len(settled.findings)) == (0, 1)


def test_a_kill_long_after_the_answer_excuses_nothing(forged: ForgedRound) -> None:
    """There was time enough to mark the event."""
    forged.unmark(forged.an_event)
    kill_after(forged, forged.an_event, 20)
    forged.send_again(forged.an_event, "second", LONG_AFTER)
    assert settle(forged).known == 1


def test_what_happened_to_another_member_excuses_nothing(forged: ForgedRound) -> None:
    """The sender itself was undisturbed."""
    at = forged.at(forged.an_event)
    forged.unmark(forged.an_event)
    forged.happened(IncidentKind.KILL, "second", at, at)
    forged.send_again(forged.an_event, "first", LONG_AFTER)
    assert settle(forged).known == 1


def test_a_mark_before_the_take_over_is_known_whatever_happened(forged: ForgedRound) -> None:
    """The process died, but its mark stood where the next owner has read it."""
    kill_after(forged, forged.an_event, 0.2)
    forged.send_again(forged.an_event, "second", LONG_AFTER)
    assert settle(forged).known == 1


def test_a_mark_after_the_take_over_need_not_be_known(forged: ForgedRound) -> None:
    """An earlier owner woke up and marked what it had sent, when the next one was at work."""
    event = forged.an_event
    stop_before_the_mark(forged, event)
    forged.take_over(b"second", 1000, forged.at(event) + 10)
    forged.mark(event, 1001, forged.at(event) + 20, b"first")
    forged.send_again(event, "second", LONG_AFTER)
    settled = settle(forged)
    assert (settled.known, settled.excused.total()) == (0, 1)


def test_an_owner_knows_its_own_marks(forged: ForgedRound) -> None:
    """A repeat by the one who wrote the mark has no excuse, be it behind the take-over."""
    event = forged.an_event
    withhold(forged, event)
    forged.mark(event, 1, forged.at(event) + 1, b"first")
    forged.send_again(event, "first", LONG_AFTER)
    assert settle(forged).known == 1


def test_a_process_that_wakes_up_may_not_send_before_it_owns_something(
    forged: ForgedRound,
) -> None:
    """A request between waking up and the next take-over is found."""
    forged.happened(IncidentKind.STOP, "first", NOW + 100, NOW + 110)
    forged.evidence.app_of_key = {forged.evidence.keys[forged.an_event]: "first"}
    forged.take_over(b"second", 1500, NOW + 107)
    forged.take_over(b"first", 2000, NOW + 112)
    assert settle(forged).findings == []
    forged.request("first", NOW + 113)
    assert settle(forged).findings == []
    forged.request("first", NOW + 111)
    assert len(settle(forged).findings) == 1


def test_a_mark_for_what_another_had_sent_does_not_make_a_process_another_member(
    forged: ForgedRound,
) -> None:
    """The next owner sends again, and marks, what the stopped one had sent and not marked."""
    forged.happened(IncidentKind.STOP, "first", NOW + 100, NOW + 110)
    *others, shared = [*forged.evidence.load.with_fate(Fate.DELIVERED)][:4]
    keys = forged.evidence.keys
    forged.evidence.app_of_key = {
        **{keys[event]: "second" for event in others[1:]},
        **{keys[event]: "first" for event in (others[0], shared)},
    }
    for offset, event in enumerate((*others[1:], shared), 3000):
        forged.mark(event, offset, NOW + 99, b"second")
    forged.mark(others[0], 3010, NOW + 98, b"first")
    forged.take_over(b"second", 1500, NOW + 107)
    forged.take_over(b"first", 2000, NOW + 112)
    forged.request("first", NOW + 113)
    assert settle(forged).findings == []
    forged.request("first", NOW + 111)
    assert len(settle(forged).findings) == 1


def test_a_process_that_nobody_has_replaced_meanwhile_may_go_on(forged: ForgedRound) -> None:
    """A broker that stood still, too, has not ended its session: it proves itself, and sends."""
    forged.happened(IncidentKind.STOP, "first", NOW + 100, NOW + 110)
    forged.evidence.app_of_key = {forged.evidence.keys[forged.an_event]: "first"}
    forged.request("first", NOW + 111)
    forged.take_over(b"second", 1500, NOW + 130)
    forged.request("first", NOW + 131)
    assert settle(forged).findings == []


def test_one_request_can_be_in_the_act_of_being_sent_when_a_process_is_stopped(
    forged: ForgedRound,
) -> None:
    """It goes out with the first breath, and what it repeats has an excuse; a second has none."""
    event = forged.an_event
    forged.happened(IncidentKind.STOP, "first", NOW + 100, NOW + 110)
    forged.evidence.app_of_key = {forged.evidence.keys[event]: "first"}
    forged.take_over(b"second", 2000, NOW + 107)
    forged.send_again(event, "first", NOW + 110.01 - forged.at(event))
    settled = settle(forged)
    assert (settled.known, settled.excused.total(), settled.findings) == (0, 1, [])
    forged.request("first", NOW + 110.02)
    assert len(settle(forged).findings) == 1


def test_a_request_that_was_half_sent_when_the_process_was_stopped_is_no_proof(
    forged: ForgedRound,
) -> None:
    """Its rest goes out by the kernel or with the first breath; it had begun in time."""
    forged.happened(IncidentKind.STOP, "first", NOW + 100, NOW + 110)
    forged.evidence.app_of_key = {forged.evidence.keys[forged.an_event]: "first"}
    number = forged.request("first", NOW + 110.5)
    forged.requests[number] = forged.requests[number]._replace(upload_seconds=10.6)
    assert settle(forged).findings == []


def test_a_missing_dead_letter_is_a_loss(forged: ForgedRound) -> None:
    """Dead letters are outcomes like any other."""
    forged.evidence.letters = forged.evidence.letters[1:]
    assert settle(forged).lost == 1


def test_a_second_letter_is_counted_and_in_a_quiet_round_found(forged: ForgedRound) -> None:
    """Dead letters are at-least-once; without a fault there is no reason for a second one."""
    forged.evidence.letters = [*forged.evidence.letters, forged.evidence.letters[0]]
    assert (settle(forged).letter_copies, settle(forged).findings) == (1, [])
    forged.evidence.strict = True
    assert len(settle(forged).findings) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"key": b"another"},
        {"value": b"another"},
        {"timestamp": 1},
        {"headers": (("dlq.reason", b"rejected"),)},
    ],
)
def test_a_letter_must_be_the_original_byte_for_byte(
    forged: ForgedRound, change: dict[str, object]
) -> None:
    """A changed key, value, time or reason is found."""
    first, *others = forged.evidence.letters
    own = first.headers[-4:]
    if "headers" in change:
        change = {"headers": (*first.headers[:-4], *change["headers"], *own[1:])}  # type: ignore[misc]  # a tuple, one line above
    forged.evidence.letters = [first._replace(**change), *others]  # type: ignore[arg-type]  # fields by name
    assert len(settle(forged).findings) == 1


def test_a_good_event_may_not_be_a_dead_letter(forged: ForgedRound) -> None:
    """A letter about a delivered event is found."""
    load = forged.evidence.load
    event = forged.an_event
    partition = event % load.partitions
    place = {
        "dlq.source.partition": b"%d" % partition,
        "dlq.source.offset": b"%d" % load.log[partition].index(event),
        "dlq.reason": b"rejected",
    }
    letter = load.record(event)._replace(headers=tuple(place.items()))
    forged.evidence.letters = [*forged.evidence.letters, letter]
    assert len(settle(forged).findings) == 1


@pytest.mark.parametrize(
    ("place", "outcome", "words"),
    [
        ((0, 0), None, "has no receipt"),
        ((0, 0), "nonsense", "is nonsense by its receipt"),
        ((1, 999_999), COUNTED, "was never produced"),
    ],
    ids=["missing", "wrong", "surplus"],
)
def test_a_receipt_that_is_missing_or_wrong_is_found(
    forged: ForgedRound, place: tuple[int, int], outcome: str | None, words: str
) -> None:
    """Every record has one that tells its outcome, and nothing else has one."""
    receipts = {**(forged.evidence.receipts or {}), place: outcome}
    told = {at: outcome for at, outcome in receipts.items() if outcome is not None}
    (found,) = account(replace(forged.evidence, receipts=told)).findings
    assert words in found


def test_an_offset_short_of_the_end_is_found(forged: ForgedRound) -> None:
    """Everything settled is committed in the end."""
    ends = forged.evidence.load.ends
    forged.evidence.committed = {**ends, 0: ends[0] - 1}
    assert len(settle(forged).findings) == 1


def test_a_pause_is_measured_for_each_partition(forged: ForgedRound) -> None:
    """The longest time between two acceptances; found where a bound is promised."""
    assert settle(forged).longest_pause == pytest.approx(1.0)
    last = max((e for e in forged.evidence.load.with_fate(Fate.DELIVERED) if e % 2), default=0)
    forged.evidence.taken.first[last] = forged.request("first", NOW + 500)
    forged.evidence.longest_pause = 5.0
    settled = settle(forged)
    assert settled.longest_pause > LONG_AFTER
    assert len(settled.findings) == 1
