"""A partition is taken over, questioned, taken back: nothing is sent before its memory is whole."""

from __future__ import annotations

from collections import Counter

from consumer.batch import BatchLimits
from consumer.event import TopicPartition
from consumer.lease import lease_seconds, takeover_seconds
from consumer.limits import RetryPolicy
from consumer.messages import Acknowledged, Pause, Resume
from consumer.recall import STATE_UNREAD
from consumer.source_events import AssignedPartition
from consumer.state_phases import REBUILDING, SUPERSEDED, TAKEOVER
from consumer.state_records import Kind
from tests.support.state_world import MemoryStores
from tests.support.world import (
    RETRY,
    STATE,
    TIMEOUT,
    TOPIC,
    World,
    code,
    event,
    ok,
)

FIRST = TopicPartition(TOPIC, 0)
LOG = TopicPartition(STATE, 0)
ONE_BY_ONE = BatchLimits(max_events=1)
SLOW = RetryPolicy(initial=60.0, maximum=60.0)


def silent(**fields: object) -> World:
    """A world with one partition in which every request stays in the air."""
    world = World(answer=lambda _request: None, batch=ONE_BY_ONE, **fields)  # type: ignore[arg-type]  # its fields
    world.take_over()
    return world


# Nothing is read before the memory is complete


def test_nothing_is_read_before_the_memory_is_complete() -> None:
    """Opening, rebuilding and waiting each hold the partition with their reason."""
    before = silent()
    before.append(event("a"))
    before.read()
    world = before.successor(state_unread=True)
    world.take_over()
    assert world.holds() == {REBUILDING, STATE_UNREAD}
    world.run(30.0)
    world.state_unread = False
    while world.holds() != {TAKEOVER}:
        assert world.holds() == {REBUILDING, STATE_UNREAD}
        world.run(0.5)
    world.run(10.0)
    assert world.holds() == {TAKEOVER}
    assert world.paused == {FIRST}
    assert not any(isinstance(action, Resume | Pause) for action in world.log)
    world.run(1.0)
    assert world.holds() == set()
    assert [action for action in world.log if isinstance(action, Resume)] == [Resume(FIRST, 0)]


def test_records_that_come_all_the_same_wait_for_the_memory() -> None:
    """One read may be under way when a partition is taken over anew: none of it is sent unasked."""
    world = World()
    world.take_over()
    world.produce(event("a"))
    world.run(1.0)
    world.state_unread = True
    world.state_topic.skip(LOG)
    world.lose_store()
    world.produce(event("a"), event("b"))
    world.run(60.0)
    assert world.sent_ids() == ["a"]
    world.state_unread = False
    world.run(20.0)
    assert world.sent_ids() == ["a", "b"]
    assert world.outcomes() == {0: "delivered", 1: "duplicate", 2: "delivered"}


def test_a_request_that_ends_after_the_store_was_lost_and_found_is_looked_up_again() -> None:
    """Its batch goes on when the answer comes, though the memory has been complete for long."""
    world = silent()
    world.produce(event("a"), event("b"))
    world.lose_store()
    world.run(5.0)
    assert world.holds() == set()
    world.answer = lambda _request: ok()
    world.reply(TIMEOUT)
    world.reply(code(40100))
    world.run(20.0)
    assert world.outcomes() == {0: "delivered", 1: "delivered"}
    assert world.idle()


def test_what_waits_when_the_store_is_lost_is_looked_up_again_before_it_goes() -> None:
    """Open batches, retries, and what is being announced."""
    world = World(answer=lambda _request: TIMEOUT)
    world.take_over()
    world.produce(event("retry"))
    world.run(0.3)
    world.answer = lambda _request: ok()
    world.state_answer = lambda _produce: None
    world.produce(*(event(f"announced {n}") for n in range(10)))
    announced = world.appended[-1]
    world.state_answer = None
    world.produce(event("open"))
    world.lose_store()
    world.acknowledge(world.write(announced))
    world.run(30.0)
    assert set(world.outcomes().values()) == {"delivered"}
    assert len(world.outcomes()) == 12
    expected = {"retry": 2, "open": 1} | {f"announced {n}": 1 for n in range(10)}
    assert Counter(world.sent_ids()) == expected
    assert world.idle()


# Another owner


def test_an_owner_that_somebody_else_replaced_sends_nothing_more() -> None:
    """It finds the other's record before its own takes effect, and holds with a reason."""
    old = World()
    old.take_over()
    old.run(1.0)
    new = old.successor()
    new.take_over()
    old.commit_error = "UNKNOWN_MEMBER_ID"
    old.produce(event("a"))
    old.run(1.0)
    assert not old.requests
    assert old.holds() == {SUPERSEDED}
    assert old.paused == {FIRST}
    old.run(120.0)
    assert not old.requests


def test_an_owner_that_was_questioned_and_proves_itself_goes_on() -> None:
    """The other was a member of before: its record came late. What it did counts all the same."""
    world = silent()
    zombie = world.successor(stores=type(world.stores)())
    zombie.take_over()
    world.append(event("a"), event("b"))
    zombie.read(most=1)
    zombie.run(0.5)
    zombie.reply(ok())
    world.answer = lambda _request: ok()
    world.clock.advance(0.5)
    world.read()
    world.run(0.1)
    assert world.holds() == {SUPERSEDED}
    world.run(5.0)
    assert world.holds() == {TAKEOVER}
    world.run(12.0)
    assert world.holds() == set()
    assert world.outcomes() == {0: "duplicate", 1: "delivered"}
    assert world.sent_ids() == ["b"]


def test_an_owner_whose_group_lost_its_offsets_proves_itself_too() -> None:
    """It commits none for the source before it knows where to go on: the retry topic's will do."""
    before = World(answer=lambda _request: None, parks=True)
    before.take_over()
    before.produce(event("a"))
    before.run(1.0)
    world = before.successor(answer=lambda _request: ok(), group={})
    world.take_over()
    world.read()
    world.run(0.1)
    assert world.holds() == {TAKEOVER}
    late = world.successor(stores=MemoryStores(), group={})
    late.take_over()
    world.run(60.0)
    assert world.holds() == set()
    assert world.outcomes() == {0: "delivered"}


def test_an_acceptance_that_turns_up_in_the_log_stops_what_waits_to_be_sent_again() -> None:
    """It came late, of an owner before: the event backs off meanwhile, and is not sent again."""
    before = silent()
    before.produce(event("a"))
    before.state_answer = lambda _produce: None
    before.reply(ok())
    (late,) = before.appended[-1:]
    world = before.successor(answer=lambda _request: TIMEOUT, state_answer=None, retry=SLOW)
    world.take_over()
    world.read()
    world.run(12.0)
    sent = len(world.requests)
    assert sent >= 1
    before.write(late)
    world.answer = lambda _request: ok()
    world.produce(event("b"))
    world.run(120.0)
    assert world.sent_ids().count("a") == sent
    assert world.outcomes() == {0: "duplicate", 1: "delivered"}
    assert world.idle()


def test_a_late_acceptance_of_what_was_handed_over_does_not_say_that_the_rest_was_settled() -> None:
    """What was dropped with the partition is the next owner's to settle."""
    before = silent()
    before.produce(event("a"), event("b"), event("c"))
    before.revoke(0, seconds=1.0)
    before.run(1.5)
    before.reply(ok())
    assert before.state_topic.values(LOG)[-1].settled_through == 0
    world = before.successor(answer=lambda _request: ok(), group={})
    world.take_over()
    world.read()
    world.run(12.0)
    assert world.outcomes() == {0: "duplicate", 1: "delivered", 2: "delivered"}


# The source grows


def test_growth_is_told_in_every_partition_until_each_has_it() -> None:
    """Whoever owns one of them has to know; a broker that refuses is asked again."""
    world = World(state_answer=lambda produce: Acknowledged(produce.handle, "retriable"))
    world._do(world.engine.grown(TOPIC, 3, world.clock.now))
    world.run(5.0)
    assert len(world.appended) > 3
    world.state_answer = None
    world.run(20.0)
    for partition in range(3):
        (value,) = world.state_topic.values(TopicPartition(STATE, partition))
        assert (value.kind, value.partitions) == (Kind.GROWN, 3)
    produced = len(world.appended)
    world.run(60.0)
    assert len(world.appended) == produced


def test_where_the_source_has_grown_what_another_partition_had_is_not_sent_again() -> None:
    """The producers send the key to another partition now: its owner reads all of them first."""
    world = World()
    world.take_over(0, 1)
    world.produce(event("a"), partition=0)
    world.run(1.0)
    world._do(world.engine.grown(TOPIC, 2, world.clock.now))
    world.produce(event("first"), partition=1)
    world.run(5.0)
    world.produce(event("a"), event("b"), partition=1)
    world.run(5.0)
    assert world.outcomes(1) == {0: "delivered", 1: "duplicate", 2: "delivered"}
    assert world.sent_ids().count("a") == 1


# The retry topic beside


def test_a_retry_partition_shares_the_memory_of_its_source_partition() -> None:
    """It is held as long, and an event of the one is a duplicate in the other."""
    before = silent(parks=True)
    before.produce(event("a"))
    world = before.successor(answer=lambda _request: ok())
    world.take_over()
    retry = TopicPartition(RETRY, 0)
    assert world.engine.partitions[retry].state is world.partition().state
    assert set(world.engine.partitions[retry].holds) == {TAKEOVER}
    assert world.paused == {FIRST, retry}
    world.run(11.0)
    assert world.paused == set()
    parked = world.topic[FIRST][0]._replace(topic=RETRY, offset=0)
    world.topic[retry] = [parked]
    world.read()
    world.run(1.0)
    world.read(topic=RETRY)
    world.run(1.0)
    assert world.outcomes() == {0: "delivered"}
    assert world.outcomes(topic=RETRY) == {0: "duplicate"}
    assert world.group_offset(topic=RETRY) == 1


def test_an_attempt_on_a_parked_event_is_known_by_its_source_partitions_log() -> None:
    """A crash in the middle of it is counted as any other."""
    before = silent(parks=True)
    retry = TopicPartition(RETRY, 0)
    before.topic[retry] = [before.append(event("a"))[0]._replace(topic=RETRY, offset=0)]
    before.read(topic=RETRY)
    before.run(0.5)
    assert before.sent_ids() == ["a"]
    world = before.successor(answer=lambda _request: ok())
    world.take_over()
    world.run(12.0)
    world.read(topic=RETRY)
    world.run(1.0)
    assert world.repeats() == [{"unfinished": 1}]
    assert world.outcomes(topic=RETRY) == {0: "delivered"}


def test_a_retry_partition_without_its_source_partition_is_not_taken() -> None:
    """The source partition went before it came: there is no memory to share."""
    world = World()
    retry = TopicPartition(RETRY, 3)
    world.own(AssignedPartition(retry, 0, None, beside=TopicPartition(TOPIC, 3)))
    assert retry not in world.engine.partitions
    assert not world.appended


def test_after_a_lapse_what_was_announced_is_announced_again_and_meets_the_new_owner() -> None:
    """A process that slept may prove a new membership: what it was about to send is another's."""
    world = World(answer=lambda _request: None, max_concurrency=1, batch=BatchLimits(max_events=1))
    world.assign(0)
    world.produce(event("a"))
    world.reply(TIMEOUT)
    world.commits_wait = True
    world.clock.advance(3600.0)
    successor = world.successor()
    successor.take_over(0)
    world.commits_wait = False
    world.waiting_commits.clear()
    before = len(world.log)
    world.run(60.0)
    since = [type(action).__name__ for action in world.log[before:]]
    read = since.index("ReadState")
    assert "Send" not in since[:read], "it has read the other's open record before it sends"


def test_the_wait_of_a_takeover_follows_the_groups_own_session_time_out() -> None:
    """Where the broker owns it, it is told before the first assignment."""
    world = World()
    world.engine.session_timeout(6.0)
    world.assign(0)
    assert world.engine.lease.seconds == lease_seconds(6.0, 10.0)
    assert world.partition().state._rules.takeover_wait == takeover_seconds(6.0, 10.0, static=False)
