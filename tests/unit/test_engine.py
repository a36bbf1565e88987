"""The engine: hand-over, holds, flow and commits. Its schedules are in a file of their own."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from consumer.batch import BatchLimits
from consumer.engine import EngineSettings
from consumer.event import Destination, EventSource, TopicPartition
from consumer.messages import Acknowledged, Commit, Flow, Produce, Released, SchemaFound
from consumer.offsets import CommitOffset
from consumer.source_events import CommitResult, PositionChange
from tests.support.world import (
    OTHER_PIXEL,
    PIXEL,
    TIMEOUT,
    TOPIC,
    World,
    code,
    event,
    ok,
)

FIRST, SECOND = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)
PIXELS = (Destination(EventSource.WEB, PIXEL), Destination(EventSource.WEB, OTHER_PIXEL))
SMALL = BatchLimits(max_events=2, linger=60.0)


def unanswered(**fields: object) -> World:
    """A world with two partitions in which every request stays in the air."""
    world = World(answer=lambda _request: None, **fields)  # type: ignore[arg-type]  # its fields
    world.assign(0, 1)
    return world


def flows(world: World) -> list[bool]:
    """How the flow was opened and closed so far."""
    return [action.open for action in world.log if isinstance(action, Flow)]


# The end of a record


def test_an_idle_engine_asks_for_nothing() -> None:
    """No work, no timer: the process sleeps."""
    world = World()
    assert world.engine.wake_at(world.clock.now) == math.inf
    world.assign(0)
    world.run(5.0)
    assert world.engine.wake_at(world.clock.now) == math.inf
    world.produce(event())
    world.run(5.0)
    assert world.engine.wake_at(world.clock.now) == math.inf
    assert world.idle()


def test_records_of_partitions_that_are_not_ours_are_ignored() -> None:
    """Nothing of them is counted, sent or committed."""
    world = World()
    world.assign(0)
    world.produce(event(), partition=1)
    world.run(5.0)
    assert not world.requests
    assert world.engine.in_flight.events == 0
    assert all(SECOND not in offsets for offsets in world.commits)


def test_a_record_that_is_read_twice_is_taken_once() -> None:
    """A fetch that comes again changes nothing, whether its first reading has settled or not."""
    world = unanswered(batch=SMALL)
    world.produce(event("a"), event("b"), event("c"))
    again = world.topic[FIRST]
    world.give(again)
    assert world.engine.in_flight.events == 3
    world.reply(ok())
    world.give(again)
    world.run(61.0)
    world.reply(ok())
    assert len(world.settled) == 3
    assert world.engine.in_flight.events == 0


# Commits


def test_the_committed_offset_waits_for_the_first_unsettled_record() -> None:
    """Later ones are settled and stay uncommitted."""
    world = World(
        answer=lambda request: ok() if request.event_source_id == PIXEL else None,
        destinations=PIXELS,
    )
    world.assign(0)
    world.produce(
        event("a", event_source_id=PIXEL),
        event("b", event_source_id=OTHER_PIXEL),
        event("c", event_source_id=PIXEL),
    )
    world.run(5.0)
    assert sorted(world.outcomes()) == [0, 2]
    assert world.committed() == 1
    world.reply(ok())
    world.run(5.0)
    assert world.committed() == 3


def test_commits_are_made_once_an_interval_and_only_with_news() -> None:
    """Not for every record, and not over and over."""
    world = World(settings=EngineSettings(commit_interval=1.0), batch=BatchLimits(max_events=1))
    world.assign(0)
    for n in range(50):
        world.produce(event(str(n)))
        world.run(0.1)
    world.run(60.0)
    commits = [action for action in world.log if isinstance(action, Commit)]
    assert len(commits) in {6, 7}
    assert world.committed() == 50


def test_one_commit_is_in_the_air_at_a_time() -> None:
    """The next one has the latest offsets."""
    world = World(commits_wait=True, batch=BatchLimits(max_events=1))
    world.assign(0)
    for n in range(5):
        world.produce(event(str(n)))
        world.run(2.0)
    assert len(world.waiting_commits) == 1
    world.commit_done()
    world.run(2.0)
    assert [commit.offsets[FIRST].offset for commit in world.waiting_commits] == [5]


def test_a_commit_that_was_never_answered_is_made_again() -> None:
    """A minute without an answer: whatever became of it, the offset is committed once more."""
    world = World(commits_wait=True)
    world.assign(0)
    world.produce(event())
    world.run(0.5)
    world.commit_done()
    world.run(5.0)
    assert len(world.waiting_commits) == 1
    world.waiting_commits.clear()
    world.commits_wait = False
    world.clock.advance(60.0)
    world.tick()
    assert world.committed() == 1


def test_a_commit_that_failed_is_made_again() -> None:
    """An error of a rebalance is expected: the next commit has it."""
    world = World(commit_error="REBALANCE_IN_PROGRESS")
    world.assign(0)
    world.produce(event())
    world.run(10.0)
    assert world.committed() is None
    world.commit_error = None
    world.run(2.0)
    assert world.committed() == 1


def test_the_result_of_an_earlier_assignments_commit_changes_nothing() -> None:
    """It was about another time; this assignment still commits what is its own."""
    world = World(commits_wait=True)
    world.assign(0)
    world.produce(event("a"), event("b"))
    world.run(0.5)
    world.commit_done()
    world.run(1.0)
    (old,) = world.waiting_commits
    assert old.offsets[FIRST].offset == 2
    world.lose(0)
    world.take_over(0)
    world.commit_done()
    partition = world.partition()
    assert partition.position == 0
    assert (partition.committed or CommitOffset(-1)).offset == 0
    world.commits_wait = False
    world.read(0)
    world.run(2.0)
    assert (partition.committed or CommitOffset(-1)).offset == 2
    assert world.commits[-1][FIRST] == 2


def test_a_commit_that_the_engine_did_not_ask_for_says_nothing() -> None:
    """The source commits a start by itself: that answers nothing the engine has asked for."""
    world = World(commits_wait=True)
    world.assign(0)
    world.produce(event())
    world.run(0.5)
    world.commit_done()
    world.run(2.0)
    foreign = CommitResult(FIRST, 0, "REQUEST_TIMED_OUT", retriable=True)
    world.commit_result(foreign)
    world.run(30.0)
    assert len(world.waiting_commits) == 1, "its own is still in the air"
    world.commit_done()
    assert (world.partition().committed or CommitOffset(-1)).offset == 1
    world.run(5.0)
    assert not world.waiting_commits


# Revoked


def test_a_revoked_partition_takes_nothing_new_and_settles_what_it_has() -> None:
    """Open batches go at once, answers are waited for, then the last offset is handed over."""
    world = unanswered()
    world.produce(event("a"), event("b"))
    assert not world.in_air, "its batch is still open"
    world.revoke(0)
    assert len(world.in_air) == 1
    world.produce(event("c"))
    assert world.engine.in_flight.events == 2
    assert not world.released
    world.clock.advance(1.0)
    world.reply(ok())
    assert world.released == [{FIRST: 2}]
    assert world.outcomes() == {0: "delivered", 1: "delivered"}
    assert FIRST not in world.engine.partitions
    assert SECOND in world.engine.partitions


def test_a_partition_with_nothing_in_flight_is_handed_over_at_once() -> None:
    """There is nothing to wait for, and nothing new to commit."""
    world = World()
    world.assign(0)
    world.run(2.0)
    world.revoke(0)
    assert world.released == [{FIRST: None}]


def test_a_revoke_of_nothing_is_answered() -> None:
    """Somebody waits for it."""
    world = World()
    world.revoke(5)
    assert world.released == [{}]


def test_partitions_are_handed_over_together() -> None:
    """One answer for one rebalance."""
    world = unanswered(batch=BatchLimits(max_events=1))
    world.produce(event("a"), partition=0)
    world.produce(event("b"), partition=1)
    world.revoke(0, 1)
    world.reply(ok())
    assert not world.released
    world.reply(ok())
    assert world.released == [{FIRST: 1, SECOND: 1}]


def test_draining_ends_at_its_deadline() -> None:
    """What has no answer then is somebody else's to read again."""
    world = unanswered(batch=SMALL)
    world.produce(event("a"), event("b"), event("c"))
    world.reply(ok())
    world.revoke(0, seconds=10.0)
    world.run(9.9)
    assert not world.released
    world.run(0.2)
    assert world.released == [{FIRST: 2}]
    assert world.engine.in_flight.events == 0
    world.reply(ok())
    assert len(world.settled) == 2
    assert len(world.marks) == 1
    assert world.idle()


def test_a_drain_does_not_wait_for_what_cannot_move() -> None:
    """A destination held beyond the deadline holds no rebalance up."""
    world = World(
        answer=lambda request: None if request.event_source_id == PIXEL else code(40101),
        destinations=PIXELS,
    )
    world.assign(0)
    world.produce(event("held", event_source_id=OTHER_PIXEL))
    world.run(1.0)
    hold = world.delivery.queues[PIXELS[1]].gates.hold
    hold.until = world.clock.mono + 3600.0
    world.produce(
        event("moving", event_source_id=PIXEL), event("more", event_source_id=OTHER_PIXEL)
    )
    world.revoke(0, seconds=25.0)
    assert not world.released, "one event can still settle"
    world.run(5.0)
    assert not world.released
    world.reply(ok())
    world.run(0.1)
    assert world.released == [{FIRST: 0}], "with the metadata that the other one is settled"
    assert world.idle()


@pytest.mark.parametrize("seconds", [0.0, 30.0])
def test_a_drain_waits_for_a_retry_that_comes_in_time(seconds: float) -> None:
    """A pause that ends before the deadline is no reason to give up."""
    answers = [TIMEOUT, TIMEOUT]
    world = World(answer=lambda _request: answers.pop() if answers else ok())
    world.assign(0)
    world.produce(event())
    world.revoke(0, seconds=seconds)
    world.run(30.0)
    assert world.released == [{FIRST: 1 if seconds else None}]
    assert bool(world.settled) is bool(seconds)


def test_a_drain_waits_for_dead_letters_and_marks() -> None:
    """They are part of settling: handed over only when acknowledged."""
    world = World(letter_answer=lambda _produce: None)
    world.assign(0)
    world.produce(b"no event", event())
    world.marks_fail = True
    world.revoke(0, seconds=60.0)
    world.run(5.0)
    assert not world.released
    world.acknowledge(Acknowledged(world.letters[0].handle))
    world.marks_fail = False
    world.run(15.0)
    assert world.released == [{FIRST: 2}]
    assert world.outcomes() == {0: "dead_lettered:undecodable", 1: "delivered"}


def test_no_revoked_partition_is_committed_beside_its_hand_over() -> None:
    """Its last offset goes once, with the hand-over."""
    world = unanswered(batch=BatchLimits(max_events=1))
    world.run(2.0)
    world.produce(event("a"), event("b"))
    world.reply(ok())
    world.revoke(0)
    world.run(5.0)
    world.reply(ok())
    at = next(i for i, action in enumerate(world.log) if isinstance(action, Released))
    commits = [action for action in world.log[:at] if isinstance(action, Commit)]
    assert all(
        FIRST not in commit.offsets or commit.offsets[FIRST].offset < 2 for commit in commits
    )
    assert world.released == [{FIRST: 2}]


def test_a_partition_that_is_lost_while_it_drains_commits_nothing() -> None:
    """The hand-over is answered, with nothing in it."""
    world = unanswered(batch=BatchLimits(max_events=1))
    world.produce(event("a"), event("b"))
    world.reply(ok())
    world.revoke(0)
    world.lose(0)
    assert world.released == [{}]
    assert world.idle() is False, "a request is in the air still"
    world.reply(ok())
    assert world.idle()


# Lost


def test_a_lost_partition_commits_nothing_and_leaves_nothing_queued() -> None:
    """Its batches, retries, waits and holds are gone; the other partition's are not."""
    world = unanswered(batch=SMALL)
    world.produce(event("a"), event("b"), event("c"), b"?007" + event("d"), partition=0)
    world.produce(event("e", test_event_code="T"), partition=1)
    commits = len(world.commits)
    world.lose(0)
    world.reply(TIMEOUT)
    world.run(120.0)
    assert len(world.commits) == commits
    assert world.sent_ids() == ["a", "b", "e"], "lost events are not repeated"
    world.reply(ok())
    assert world.outcomes(1) == {0: "delivered"}
    world.answer_schema(7, SchemaFound(("{}",)))
    assert world.idle()


@pytest.mark.parametrize("how", ["lose", "revoke"])
def test_results_after_the_hand_over_neither_settle_nor_mark_nor_commit(how: str) -> None:
    """Answers, acknowledgements and store results of an assignment that ended."""
    stuck: list[Produce] = []
    world = World(
        answer=lambda _request: None,
        letter_answer=stuck.append,
        batch=BatchLimits(max_events=1),
    )
    world.assign(0)
    world.run(2.0)
    world.produce(event("a"), b"no event", event("b"))
    if how == "lose":
        world.lose(0)
    else:
        world.revoke(0, seconds=1.0)
        world.run(1.5)
        assert world.released == [{FIRST: None}]
    commits = len(world.commits)
    world.take_over(0)
    world.reply(ok())
    world.reply(code(40002, "Invalid value for data.0.x: y"))
    world.acknowledge(Acknowledged(stuck[0].handle), Acknowledged(stuck[0].handle, "retriable"))
    world.run(5.0)
    assert not world.settled
    assert not world.marks
    assert world.holds() == set()
    assert len(world.commits) == commits
    assert world.partition().position == 0


def test_a_duplicate_that_waited_for_a_lost_partitions_event_is_sent_itself() -> None:
    """It becomes the first of its key, and is looked up in its own store."""
    world = unanswered(batch=BatchLimits(max_events=1))
    world.produce(event("x"), partition=0)
    world.produce(event("x"), event("x"), partition=1)
    world.lose(0)
    assert world.sent_ids() == ["x", "x"]
    world.reply(ok())
    assert not world.settled
    world.reply(ok())
    assert world.outcomes(1) == {0: "delivered", 1: "duplicate"}
    assert world.idle()


def test_a_successor_of_a_lost_event_counts_from_the_attempt_that_was_in_the_air() -> None:
    """TikTok may have the key since then: a day later it is given up, not sent."""
    world = unanswered(batch=BatchLimits(max_events=1))
    world.produce(event("x"), partition=0)
    world.produce(event("x"), partition=1)
    world.lose(0)
    world.reply(code(40101), world.in_air[1])
    world.clock.advance(24 * 3600.0)
    world.run(60.0)
    assert world.outcomes(1) == {0: "dead_lettered:retries_exhausted"}


# Holds and flow


@pytest.mark.parametrize("reason", ["truncated", "position_unknown"])
def test_a_partition_that_cannot_be_read_from_its_position_is_held_until_it_can(
    reason: str,
) -> None:
    """The source says when, and from where."""
    world = World()
    world.assign(0, position=100, hold=reason)
    assert world.holds() == {reason}
    change = PositionChange(FIRST, 120, None, None)
    world.move(change)
    assert world.holds() == set()
    assert world.partition().position == 120


def test_a_position_that_moves_ends_no_other_hold() -> None:
    """What the store holds goes on when the store does."""
    world = World(store_fails=True)
    world.assign(0)
    world.produce(event())
    held = world.holds()
    world.move(PositionChange(FIRST, 5, "truncated", (1, 5)))
    assert world.holds() == held | {"truncated"}
    world.move(PositionChange(FIRST, 5, None, None))
    assert world.holds() == held


def test_the_flow_closes_at_the_bound_and_opens_at_half_of_it() -> None:
    """Seldom and for long: a pause throws the source's prefetch away."""
    world = unanswered(
        settings=EngineSettings(max_in_flight_events=10),
        batch=BatchLimits(max_events=1),
        max_concurrency=100,
    )
    world.produce(*(event(str(n)) for n in range(9)))
    assert flows(world) == []
    world.produce(event("9"))
    assert flows(world) == [False]
    world.produce(event("10"), event("11"))
    for left in range(11, 5, -1):
        world.reply(ok())
        assert world.engine.in_flight.events == left
        assert flows(world) == [False]
    world.reply(ok())
    assert flows(world) == [False, True]


def test_losing_what_fills_the_process_opens_the_flow() -> None:
    """Bounds count what is ours."""
    world = unanswered(settings=EngineSettings(max_in_flight_events=4))
    world.produce(*(event(str(n)) for n in range(6)))
    world.lose(0)
    assert flows(world) == [False, True]
    assert (world.engine.in_flight.events, world.engine.in_flight.bytes) == (0, 0)


def test_a_settled_record_is_told_before_its_offset_is_committed() -> None:
    """Whoever counts has counted when the group says that it is done."""
    world = World(settings=EngineSettings(commit_interval=0.0))
    world.assign(0)
    world.produce(None, None)
    names = [type(action).__name__ for action in world.log]
    assert names.index("Settled") < len(names) - names[::-1].index("Commit") - 1
    assert world.committed() == 2


def test_what_is_settled_above_the_committed_offset_is_not_done_again_after_a_restart() -> None:
    """A slow record holds the offset back; those behind it keep their outcomes through one."""
    before = World(answer=lambda request: None if len(request.events) > 1 else ok())
    before.take_over()
    before.append(event("slow-1"), event("slow-2"), None, b"no event", event("later"))
    before.read()
    before.run(5.0)
    assert (before.group_offset(), set(before.outcomes())) == (0, {2, 3})

    before.lose(0)
    before.answer = lambda _request: ok()
    before.take_over()
    before.read()
    before.run(5.0)
    outcomes = Counter(item.record.offset for item in before.settled)
    assert outcomes == dict.fromkeys(range(5), 1)
    assert before.group_offset() == 5


def test_settled_spans_survive_a_second_restart_before_they_are_reached() -> None:
    """What the metadata told, and was not read yet, is told again by the next commit."""
    world = World(answer=lambda _request: None)
    world.take_over()
    world.append(event("slow"), *[None] * 5, event("slow, too"), *[None] * 5)
    world.read()
    world.run(5.0)
    world.lose(0)
    world.take_over()
    world.read(most=3)
    world.run(5.0)
    world.lose(0)
    world.answer = lambda _request: ok()
    world.take_over()
    world.read()
    world.run(5.0)
    assert Counter(item.record.offset for item in world.settled) == dict.fromkeys(range(12), 1)
    assert world.group_offset() == 12
