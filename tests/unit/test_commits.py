"""When offsets are committed, and what an answer proves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from consumer.commits import Commits
from consumer.event import Instant, Item, Record, TopicPartition, TraceIds
from consumer.offsets import CommitOffset, Partition
from consumer.source_events import CommitResult
from tests.support.state_world import ready_partition

if TYPE_CHECKING:
    from consumer.messages import Commit

FIRST, SECOND = TopicPartition("conversions", 0), TopicPartition("conversions", 1)
NO_TRACE = TraceIds(0, 0, 0, False, "")
INTERVAL, ANSWER_WITHIN = 1.0, 15.0


def partition(tp: TopicPartition = FIRST) -> Partition:
    """A partition at its start, which is committed."""
    return ready_partition(tp, 0, CommitOffset(0))


def progress(*partitions: Partition) -> None:
    """One more record of each is settled."""
    for one in partitions:
        record = Record(*one.tp, one.position, -1, None, b"", ())
        one.take(Item(record, Instant(0.0, 0), NO_TRACE, one))
        one.settle(record.offset)


def asked(commit: Commit | None) -> dict[TopicPartition, int]:
    """The offsets of a commit."""
    return {} if commit is None else {tp: offset.offset for tp, offset in commit.offsets.items()}


def result(
    tp: TopicPartition, offset: int, error: str | None = None, number: int = 1
) -> CommitResult:
    """What the source says of one partition's commit, the first that was asked for."""
    return CommitResult(tp, offset, error, retriable=True, number=number)


# When


def test_only_what_has_progressed_is_committed_unless_a_proof_is_due() -> None:
    """A proof commits all that stands, as it stands."""
    commits, first, second = Commits(INTERVAL), partition(FIRST), partition(SECOND)
    both = (first, second)
    assert commits.due(both, 0.0) is None
    progress(first)
    assert asked(commits.due(both, 0.0)) == {FIRST: 1}
    assert commits.answered([result(FIRST, 1)]) == 0.0
    assert commits.due(both, 5.0) is None
    assert asked(commits.due(both, 5.0, prove=True)) == {FIRST: 1, SECOND: 0}


def test_a_partition_that_drains_is_committed_with_its_hand_over() -> None:
    """Its news waits for that; its membership is proven all the same."""
    commits, one = Commits(INTERVAL), partition()
    progress(one)
    one.draining = True
    assert commits.due([one], 0.0) is None
    assert commits.wake_at([one], math.inf) == math.inf
    assert asked(commits.due([one], 0.0, prove=True)) == {FIRST: 1}


def test_a_group_without_an_offset_commits_nothing_before_its_memory_is_complete() -> None:
    """Where it goes on may be further than its start."""
    commits = Commits(INTERVAL)
    fresh = ready_partition(FIRST, 7, None)
    fresh.state.ready = False
    assert commits.due([fresh], 0.0, prove=True) is None
    fresh.state.ready = True
    assert asked(commits.due([fresh], 0.0)) == {FIRST: 7}


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=60))
def test_commits_are_never_closer_than_the_interval_and_never_two_at_a_time(
    pauses: list[float],
) -> None:
    """However often it is asked, with news every time."""
    commits, one = Commits(INTERVAL, ANSWER_WITHIN), partition()
    now, last, in_air = 0.0, -math.inf, None
    for number, pause in enumerate(pauses):
        now += pause
        progress(one)
        commit = commits.due([one], now, prove=number % 2 == 0)
        if commit is not None:
            assert now >= last + INTERVAL
            assert in_air is None or now >= last + ANSWER_WITHIN
            last, in_air = now, commit
        if in_air is not None and number % 3 == 0:
            answer = result(FIRST, asked(in_air)[FIRST], number=in_air.number)
            assert commits.answered([answer]) is not None
            in_air = None


@given(st.lists(st.tuples(st.floats(0.0, 20.0), st.booleans(), st.booleans()), max_size=40))
def test_it_wakes_when_there_is_something_to_do_and_at_no_other_time(
    steps: list[tuple[float, bool, bool]],
) -> None:
    """What `wake_at` promises, `due` does: never a tight loop, never asleep with news."""
    commits, one = Commits(INTERVAL, ANSWER_WITHIN), partition()
    now, in_air = 0.0, None
    for pause, moves, answers in steps:
        now += pause
        if moves:
            progress(one)
        commit = commits.due([one], now)
        if commit is not None:
            in_air = commit
        at = commits.wake_at([one], math.inf)
        assert at > now
        assert (at == math.inf) is (in_air is None and not one.progressed)
        if answers and in_air is not None:
            commits.answered([result(FIRST, asked(in_air)[FIRST], number=in_air.number)])
            in_air = None


# What became of it


def test_a_successful_commit_is_known_and_a_failed_one_is_made_again() -> None:
    """Each partition by itself: one of two may fail."""
    commits, first, second = Commits(INTERVAL), partition(FIRST), partition(SECOND)
    progress(first, second)
    assert asked(commits.due((first, second), 0.0)) == {FIRST: 1, SECOND: 1}
    results = [result(FIRST, 1), result(SECOND, 1, "NOT_COORDINATOR")]
    assert commits.answered(results) == 0.0
    assert first.committed is not None
    assert first.committed.offset == 1
    assert second.committed == CommitOffset(0)
    assert asked(commits.due((first, second), 1.0)) == {SECOND: 1}


def test_a_commit_without_an_answer_is_made_again_and_both_answers_may_come() -> None:
    """The later one finds its partition committed; nothing is committed twice for it."""
    commits, one = Commits(INTERVAL, ANSWER_WITHIN), partition()
    progress(one)
    commits.due([one], 0.0)
    assert commits.due([one], ANSWER_WITHIN - 0.1) is None
    assert asked(commits.due([one], ANSWER_WITHIN)) == {FIRST: 1}
    assert commits.answered([result(FIRST, 1)]) == 0.0, "the first answer says when it was asked"
    assert commits.answered([result(FIRST, 1, number=2)]) == ANSWER_WITHIN
    assert one.committed is not None
    assert one.committed.offset == 1
    assert commits.due([one], 60.0) is None


def test_what_is_said_of_a_partition_that_is_gone_concerns_nobody() -> None:
    """Neither its offset nor its answer is waited for; the others' are."""
    commits, first, second = Commits(INTERVAL), partition(FIRST), partition(SECOND)
    progress(first, second)
    commits.due((first, second), 0.0)
    commits.forget(FIRST)
    assert commits.answered([result(FIRST, 1)]) == 0.0, "it was a member then"
    assert first.committed == CommitOffset(0)
    progress(second)
    assert commits.due([second], 1.0) is None, "the other's is in the air"
    assert commits.answered([result(SECOND, 1)]) == 0.0
    assert asked(commits.due([second], 1.0)) == {SECOND: 2}


# What it proves


def test_a_proof_has_the_time_of_its_request() -> None:
    """However late the answer comes."""
    commits, one = Commits(INTERVAL, ANSWER_WITHIN), partition()
    progress(one)
    commits.due([one], 3.0)
    assert commits.answered([result(FIRST, 1)]) == 3.0


def test_an_error_proves_nothing() -> None:
    """A member that was fenced gets one."""
    commits, one = Commits(INTERVAL), partition()
    commits.due([one], 3.0, prove=True)
    assert commits.answered([result(FIRST, 0, "ILLEGAL_GENERATION")]) is None


def test_an_answer_that_nobody_asked_for_proves_nothing() -> None:
    """The source commits by itself, too: where a group begins, and what it hands over."""
    commits, one = Commits(INTERVAL), partition()
    assert commits.answered([result(FIRST, 0)]) is None
    commits.due([one], 3.0, prove=True)
    assert commits.answered([result(FIRST, 0)._replace(number=None)]) is None
    assert commits.answered([]) is None


@given(st.lists(st.tuples(st.sampled_from(["ok", "error", "late", "lost"]), st.booleans())))
def test_a_proof_is_never_younger_than_the_request_that_was_answered(
    fates: list[tuple[str, bool]],
) -> None:
    """Some answers are late, some never come: each proves the time of its own request."""
    commits, one = Commits(INTERVAL, ANSWER_WITHIN), partition()
    now, late = 0.0, list[tuple[float, CommitResult]]()
    for fate, moves in fates:
        now += ANSWER_WITHIN
        if moves:
            progress(one)
        commit = commits.due([one], now, prove=True)
        assert commit is not None
        offset, number = asked(commit)[FIRST], commit.number
        if fate in {"ok", "error"}:
            for requested_at, answer in late:
                assert commits.answered([answer]) == requested_at
            late.clear()
            error = None if fate == "ok" else "REBALANCE_IN_PROGRESS"
            proved = commits.answered([result(FIRST, offset, error, number)])
            assert proved == (now if error is None else None)
        elif fate == "late":
            late.append((now, result(FIRST, offset, number=number)))


def test_an_answer_of_before_a_suspension_is_as_old_as_its_request() -> None:
    """The process wakes, asks again, and only then sees the answer of an hour ago."""
    commits, one = Commits(INTERVAL, ANSWER_WITHIN), partition()
    commits.due([one], 0.0, prove=True)
    assert asked(commits.due([one], 3600.0, prove=True)) == {FIRST: 0}
    assert commits.answered([result(FIRST, 0)]) == 0.0
    assert commits.answered([result(FIRST, 0, "UNKNOWN_MEMBER_ID", 2)]) is None
