"""Commits of the engine: what is settled, what proves the membership, and what went wrong."""

from __future__ import annotations

from collections import Counter

from consumer.batch import BatchLimits
from consumer.engine import EngineSettings
from consumer.event import Destination, EventSource, TopicPartition
from consumer.messages import Commit
from consumer.offsets import CommitOffset
from consumer.source_events import CommitResult
from tests.support.world import OTHER_PIXEL, PIXEL, TOPIC, World, event, ok

FIRST = TopicPartition(TOPIC, 0)
PIXELS = (Destination(EventSource.WEB, PIXEL), Destination(EventSource.WEB, OTHER_PIXEL))
ONE_BY_ONE = BatchLimits(max_events=1)


def stands_at(world: World) -> int:
    """What the engine knows to be committed for the first partition; -1 for nothing."""
    return (world.partition().committed or CommitOffset(-1)).offset


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


def test_commits_are_made_once_an_interval_and_without_news_only_as_a_proof() -> None:
    """Not for every record; with nothing new the offset that stands, every five seconds."""
    world = World(settings=EngineSettings(commit_interval=1.0), batch=ONE_BY_ONE)
    world.assign(0)
    for n in range(50):
        world.produce(event(str(n)))
        world.run(0.1)
    assert len(world.commits) in {5, 6}
    world.run(1.0)
    assert world.committed() == 50
    news = len(world.commits)
    world.run(60.0)
    assert world.commits[news:] == [{FIRST: 50}] * 12


def test_one_commit_is_in_the_air_at_a_time() -> None:
    """The next one has the latest offsets."""
    world = World(batch=ONE_BY_ONE)
    world.assign(0)
    world.run(2.0)
    world.commits_wait = True
    for n in range(5):
        world.produce(event(str(n)))
        world.run(2.0)
    assert len(world.outcomes()) == 5
    assert len(world.waiting_commits) == 1
    world.commit_done()
    world.run(2.0)
    assert [commit.offsets[FIRST].offset for commit in world.waiting_commits] == [5]


def test_a_commit_that_was_never_answered_is_made_again() -> None:
    """A third of the session time-out without an answer: whatever became of it, once more."""
    world = World()
    world.assign(0)
    world.commits_wait = True
    world.produce(event())
    world.run(1.0)
    assert stands_at(world) == 0
    assert len(world.waiting_commits) == 1
    world.waiting_commits.clear()
    world.run(14.9)
    assert not world.waiting_commits
    world.commits_wait = False
    world.run(0.2)
    assert world.committed() == stands_at(world) == 1


def test_a_commit_that_failed_is_made_again() -> None:
    """An error of a rebalance is expected: the next commit has it."""
    world = World()
    world.assign(0)
    world.commit_error = "REBALANCE_IN_PROGRESS"
    world.produce(event())
    world.run(10.0)
    assert world.outcomes() == {0: "delivered"}
    assert (world.committed(), stands_at(world)) == (0, 0)
    world.commit_error = None
    world.run(1.0)
    assert world.committed() == stands_at(world) == 1


def test_the_result_of_an_earlier_assignments_commit_changes_nothing() -> None:
    """It was about another time; this assignment still commits what is its own."""
    world = World()
    world.assign(0)
    world.run(1.0)
    world.commits_wait = True
    world.produce(event("a"), event("b"))
    world.run(1.0)
    (old,) = world.waiting_commits
    assert old.offsets[FIRST].offset == 2
    world.lose(0)
    world.group[FIRST] = CommitOffset(0)
    world.take_over(0)
    before = world.engine.lease.proved_at
    world.commit_done()
    assert stands_at(world) == 0
    assert world.partition().position == 0
    assert world.engine.lease.proved_at is before is None, "nor does it prove this membership"
    world.commits_wait = False
    world.group[FIRST] = CommitOffset(0)
    world.run(15.0)
    world.read(0)
    world.run(2.0)
    assert world.outcomes() == {0: "duplicate", 1: "duplicate"}
    assert world.committed() == stands_at(world) == 2


def test_a_commit_that_the_engine_did_not_ask_for_says_nothing() -> None:
    """The source commits a start by itself: that answers nothing the engine has asked for."""
    world = World()
    world.assign(0)
    world.commits_wait = True
    world.produce(event())
    world.run(2.0)
    foreign = CommitResult(FIRST, 0, "REQUEST_TIMED_OUT", retriable=True)
    world.commit_result(foreign)
    world.run(10.0)
    assert len(world.waiting_commits) == 1, "its own is still in the air"
    assert stands_at(world) == 0
    world.commit_done()
    assert stands_at(world) == 1
    world.run(1.0)
    (proof,) = world.waiting_commits
    assert proof.offsets[FIRST].offset == 1


def test_a_settled_record_is_told_before_its_offset_is_committed() -> None:
    """Whoever counts has counted when the group says that it is done."""
    world = World(settings=EngineSettings(commit_interval=0.0))
    world.assign(0)
    world.produce(None, None)
    names = [type(action).__name__ for action in world.log]
    assert names.index("Settled") < len(names) - names[::-1].index("Commit") - 1
    assert world.committed() == 2


def test_nothing_is_committed_before_it_is_known_where_a_group_without_offset_goes_on() -> None:
    """The state may tell that it had come further than the start: nothing is fixed before."""
    world = World(state_unread=True)
    world.state_topic.skip(TopicPartition("group.conversions.dedup", 0))
    world.take_over()
    world.run(60.0)
    assert not any(isinstance(action, Commit) for action in world.log)
    world.state_unread = False
    world.run(20.0)
    assert world.committed() == 0


def test_what_is_settled_above_the_committed_offset_is_not_done_again_after_a_restart() -> None:
    """A slow record holds the offset back; those behind it keep their outcomes through one."""
    world = World(answer=lambda request: None if len(request.events) > 1 else ok())
    world.take_over()
    world.append(event("slow-1"), event("slow-2"), None, b"no event", event("later"))
    world.read()
    world.run(5.0)
    assert (world.group_offset(), set(world.outcomes())) == (0, {2, 3})

    world.lose(0)
    world.answer = lambda _request: ok()
    world.take_over()
    world.read()
    world.run(20.0)
    outcomes = Counter(item.record.offset for item in world.settled)
    assert outcomes == dict.fromkeys(range(5), 1)
    assert world.group_offset() == 5


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
    world.run(20.0)
    assert Counter(item.record.offset for item in world.settled) == dict.fromkeys(range(12), 1)
    assert world.group_offset() == 12
