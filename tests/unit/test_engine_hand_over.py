"""Partitions that go, drained or lost at once, and what still comes back of them."""

from __future__ import annotations

import pytest

from consumer.batch import BatchLimits
from consumer.event import Destination, EventSource, TopicPartition
from consumer.messages import Acknowledged, Commit, Produce, Released, SchemaFound
from consumer.state_phases import TAKEOVER
from consumer.state_records import Kind
from tests.support.world import (
    OTHER_PIXEL,
    PIXEL,
    STATE,
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
ONE_BY_ONE = BatchLimits(max_events=1)


def unanswered(**fields: object) -> World:
    """A world with two partitions in which every request stays in the air."""
    world = World(answer=lambda _request: None, **fields)  # type: ignore[arg-type]  # its fields
    world.assign(0, 1)
    return world


def kinds(world: World, partition: int = 0) -> list[Kind]:
    """What the records of a state partition say."""
    return [value.kind for value in world.state_topic.values(TopicPartition(STATE, partition))]


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
    world = unanswered(batch=ONE_BY_ONE)
    world.produce(event("a"), partition=0)
    world.produce(event("b"), partition=1)
    world.revoke(0, 1)
    world.reply(ok())
    assert not world.released
    world.reply(ok())
    assert world.released == [{FIRST: 1, SECOND: 1}]


def test_draining_ends_at_its_deadline() -> None:
    """What has no answer then is somebody else's to read again; an acceptance is still told."""
    world = unanswered(batch=SMALL)
    world.produce(event("a"), event("b"), event("c"))
    world.reply(ok())
    world.revoke(0, seconds=10.0)
    world.run(9.9)
    assert not world.released
    world.run(0.2)
    assert len(world.released) == 1
    assert world.group_offset() == 2
    assert world.engine.in_flight.events == 0
    assert kinds(world)[-1] is not Kind.CLOSED, "a request is in the air"
    world.reply(ok())
    assert kinds(world)[-1] is Kind.ACCEPTED, "whoever comes next has to know"
    assert len(world.settled) == 2
    assert len(world.marks) == 1
    assert world.group_offset() == 2
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
    world = unanswered(batch=ONE_BY_ONE)
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
    world = unanswered(batch=ONE_BY_ONE)
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
    assert all(FIRST not in commit for commit in world.commits[commits:])
    assert world.sent_ids() == ["a", "b", "e"], "lost events are not repeated"
    world.reply(ok())
    assert world.outcomes(1) == {0: "delivered"}
    world.answer_schema(7, SchemaFound(("{}",)))
    assert world.idle()


@pytest.mark.parametrize("how", ["lose", "revoke"])
def test_results_after_the_hand_over_neither_settle_nor_mark_nor_commit(how: str) -> None:
    """Answers, acknowledgements and store results of an assignment that ended."""
    stuck: list[Produce] = []
    world = World(answer=lambda _request: None, letter_answer=stuck.append, batch=ONE_BY_ONE)
    world.assign(0)
    world.run(2.0)
    world.produce(event("a"), b"no event", event("b"))
    if how == "lose":
        world.lose(0)
    else:
        world.revoke(0, seconds=1.0)
        world.run(1.5)
        assert world.released == [{FIRST: None}]
    world.take_over(0)
    world.reply(ok())
    world.reply(code(40002, "Invalid value for data.0.x: y"))
    world.acknowledge(Acknowledged(stuck[0].handle), Acknowledged(stuck[0].handle, "retriable"))
    world.run(5.0)
    assert not world.settled
    assert not world.marks
    assert world.holds() == {TAKEOVER}
    assert world.group_offset() == 0
    assert world.partition().position == 0


@pytest.mark.parametrize("late", [0.0, 10.0])
def test_an_acceptance_after_the_hand_over_is_a_fact_for_the_next_owner(late: float) -> None:
    """It is in the state topic before the next owner begins, and the event is not sent again."""
    world = World(answer=lambda _request: None, batch=ONE_BY_ONE)
    world.take_over()
    world.produce(event("a"), event("b"))
    world.lose(0)
    world.take_over()
    world.read()
    world.run(late)
    world.reply(ok())
    world.answer = lambda _request: ok()
    world.run(12.0)
    assert world.outcomes() == {0: "duplicate", 1: "delivered"}
    assert world.sent_ids() == ["a", "b", "b"]


def test_a_hand_over_tells_the_next_owner_that_nothing_is_in_the_air() -> None:
    """The next one need not wait, and the one that asked gets its answer when that is written."""
    waiting: list[Produce] = []
    world = World()
    world.take_over()
    world.produce(event())
    world.run(1.0)
    world.state_answer = waiting.append
    world.revoke(0)
    assert not world.released
    world.acknowledge(world.write(waiting[0]))
    assert len(world.released) == 1
    assert kinds(world)[-1] is Kind.CLOSED
    world.state_answer = None
    world.take_over()
    assert world.holds() == set()


def test_a_hand_over_waits_for_the_state_topic_only_as_long_as_it_may() -> None:
    """A broker that does not answer costs the next owner a wait, and nobody the rebalance."""
    world = World()
    world.take_over()
    world.produce(event())
    world.run(1.0)
    world.state_answer = lambda _produce: None
    world.revoke(0, seconds=4.0)
    world.run(3.9)
    assert not world.released
    world.run(0.2)
    assert len(world.released) == 1


def test_a_hand_over_of_what_was_never_sent_says_nothing() -> None:
    """There is nothing to tell: no request can be in the air."""
    world = World()
    world.take_over()
    world.produce(None, b"no event")
    world.run(1.0)
    world.revoke(0)
    assert kinds(world) == [Kind.OPEN]


def test_a_duplicate_that_waited_for_a_lost_partitions_event_is_sent_itself() -> None:
    """It becomes the first of its key, and is looked up in its own store."""
    world = unanswered(batch=ONE_BY_ONE)
    world.produce(event("x"), partition=0)
    world.produce(event("x"), event("x"), partition=1)
    world.lose(0)
    world.run(1.0)
    assert world.sent_ids() == ["x", "x"]
    world.reply(ok())
    assert not world.settled
    world.reply(ok())
    assert world.outcomes(1) == {0: "delivered", 1: "duplicate"}
    assert world.idle()


def test_a_successor_of_a_lost_event_counts_from_the_attempt_that_was_in_the_air() -> None:
    """TikTok may have the key since then: a day later it is given up, not sent."""
    world = unanswered(batch=ONE_BY_ONE)
    world.produce(event("x"), partition=0)
    world.produce(event("x"), partition=1)
    world.lose(0)
    world.run(1.0)
    world.reply(code(40101), world.in_air[1])
    world.clock.advance(24 * 3600.0)
    world.run(60.0)
    assert world.outcomes(1) == {0: "dead_lettered:retries_exhausted"}
    assert len(world.requests) == 2
