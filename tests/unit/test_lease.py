"""The lease: attempts start only while a commit proves that the partitions are still ours."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from consumer.batch import BatchLimits
from consumer.engine import EngineSettings
from consumer.event import TopicPartition
from consumer.lease import Lease, lease_seconds, margin_seconds, takeover_seconds
from consumer.limits import RetryPolicy
from tests.support.world import TIMEOUT, TOPIC, World, event, ok

FIRST = TopicPartition(TOPIC, 0)
LEASE = lease_seconds(45.0, 10.0)
"""Of a world's engine."""

ONE_BY_ONE = BatchLimits(max_events=1)

seconds = st.floats(0.0, 1e9)


def lapsed() -> World:
    """A world whose proof has just become too old, with an event that is taken and not sent."""
    world = World()
    world.assign(0)
    world.commits_wait = True
    world.run(LEASE + 1.0)
    world.produce(event("a"))
    world.run(5.0)
    assert not world.requests
    return world


# The value


@given(st.floats(1.0, 3600.0), st.floats(0.1, 60.0))
def test_a_lease_ends_so_early_that_its_last_request_ends_before_the_session_does(
    session: float, request: float
) -> None:
    """Session time-out less the request's and a margin: a tenth of it, at least a second."""
    margin = margin_seconds(session)
    assert margin == max(1.0, session / 10)
    assert math.isclose(lease_seconds(session, request) + request + margin, session)


@given(st.floats(12.0, 3600.0), st.floats(0.1, 60.0))
def test_an_owner_that_vanished_is_waited_for_until_its_last_request_has_ended(
    session: float, request: float
) -> None:
    """Its lease is over by then; a static member's place is taken before, so its session counts."""
    wait = takeover_seconds(session, request, static=False)
    assert wait == request + margin_seconds(session)
    static = takeover_seconds(session, request, static=True)
    assert static >= max(session, wait)
    assert static >= lease_seconds(session, request) + request


@given(st.lists(seconds, min_size=1), seconds)
def test_a_proof_holds_from_its_request_for_the_lease_and_never_gets_older(
    asked: list[float], later: float
) -> None:
    """Answers in any order: the latest request that succeeded counts."""
    lease = Lease(LEASE)
    assert not lease.holds(asked[0])
    for at in asked:
        lease.prove(at)
    assert lease.proved_at == max(asked)
    assert lease.holds(later) is (later < max(asked) + LEASE)
    lease.end(later)
    lease.prove(later - 0.001)
    assert not lease.holds(max(asked))


@given(st.floats(0.1, 60.0), seconds)
def test_a_proof_is_renewed_several_times_in_a_lease(length: float, at: float) -> None:
    """One lost answer, or two, do not stop the sending; without a proof the next is due at once."""
    lease = Lease(length)
    assert lease.renew_at() == -math.inf
    lease.prove(at)
    assert at <= lease.renew_at() <= at + min(5.0, length / 4)
    assert lease.renew_at() > at or at + length / 4 == at


# What it allows


def test_nothing_is_sent_before_the_membership_is_proven() -> None:
    """A new owner proves it first, also where it has nothing to commit."""
    world = World(commits_wait=True)
    world.take_over()
    world.produce(event())
    world.run(10.0)
    assert not world.requests
    world.commit_done()
    world.run(1.0)
    assert world.outcomes() == {0: "delivered"}


def test_no_attempt_starts_without_a_lease_and_sending_goes_on_with_the_next_proof() -> None:
    """Events wait; nothing of them is lost, and none is refused for it."""
    world = lapsed()
    world.run(600.0)
    assert not world.requests
    assert world.outcomes() == {}
    assert world.holds() == set(), "events are still taken, within the bounds"
    world.commits_wait = False
    while world.waiting_commits:  # all of them end, as the coordinator comes back
        world.commit_done("REQUEST_TIMED_OUT")
    world.run(2.0)
    assert world.outcomes() == {0: "delivered"}


def test_an_attempt_starts_until_the_end_of_the_lease_and_not_after_it() -> None:
    """To the moment: what is due just before goes, what is due just after does not."""
    world = World(batch=ONE_BY_ONE)
    world.assign(0)
    world.run(0.5)
    proved_at = world.engine.lease.proved_at
    assert proved_at is not None
    world.commits_wait = True
    world.run(proved_at + LEASE - 0.001 - world.clock.mono)
    world.produce(event("in time"))
    world.clock.advance(0.001)
    world.produce(event("late"))
    assert world.sent_ids() == ["in time"]


def test_a_retry_waits_for_the_lease_as_a_first_attempt_does() -> None:
    """Repeats pass the same gate."""
    world = World(answer=lambda _request: TIMEOUT, retry=RetryPolicy(0.1, 0.1))
    world.assign(0)
    world.commits_wait = True
    world.produce(event())
    world.run(LEASE + 5.0)
    last = world.attempts[-1].started.mono
    proved_at = world.engine.lease.proved_at
    assert proved_at is not None
    assert proved_at + LEASE - 1.0 < last < proved_at + LEASE
    world.run(60.0)
    assert world.attempts[-1].started.mono == last


def test_a_batch_whose_announcement_outlasts_the_lease_is_not_sent() -> None:
    """The state topic answers late: whose the partition is by then has to be proven first."""
    world = World(batch=ONE_BY_ONE)
    world.assign(0)
    world.run(1.0)
    world.state_answer = lambda _produce: None
    world.commits_wait = True
    world.produce(event())
    world.run(LEASE + 5.0)
    world.state_answer = None
    world.acknowledge(world.write(world.appended[-1]))
    assert not world.requests
    world.commits_wait = False
    world.run(16.0)
    assert world.outcomes() == {0: "delivered"}


def test_a_process_that_was_suspended_sends_nothing_before_it_has_proved_itself() -> None:
    """It wakes an hour later in the belief that nothing happened: an old answer is no proof."""
    world = World(answer=lambda _request: None, retry=RetryPolicy(0.1, 0.1))
    world.assign(0)
    world.run(4.0)
    world.commits_wait = True
    world.produce(event("a"))
    world.run(2.0)
    assert len(world.waiting_commits) == 1
    world.clock.advance(3600.0)
    world.reply(TIMEOUT)
    world.produce(event("b"))
    world.commit_done()  # the broker had answered an hour ago
    world.run(2.0)
    assert world.sent_ids() == ["a"]
    assert not world.engine.lease.holds(world.clock.mono)
    while world.waiting_commits:
        world.commit_done("UNKNOWN_MEMBER_ID")
    world.run(60.0)
    assert world.sent_ids() == ["a"]
    world.lose(0)
    world.run(60.0)
    assert world.sent_ids() == ["a"]


def test_a_process_that_was_suspended_goes_on_if_it_is_still_a_member() -> None:
    """Its next commit succeeds: nothing has to be taken over, nothing is lost."""
    world = World()
    world.assign(0)
    world.run(1.0)
    world.commits_wait = True
    world.clock.advance(300.0)
    world.produce(event("a", event_time=world.clock.wall_ms))
    world.run(1.0)
    assert not world.requests
    world.commits_wait = False
    world.commit_done()
    world.run(5.0)
    assert world.outcomes() == {0: "delivered"}


def test_a_membership_that_was_lost_has_to_be_proven_anew() -> None:
    """The proof of before says nothing for partitions that come after a loss."""
    world = World(batch=ONE_BY_ONE)
    world.assign(0)
    world.run(1.0)
    world.commits_wait = True
    world.lose(0)
    world.assign(1)
    world.produce(event(), partition=1)
    assert not world.requests
    world.run(1.0)
    world.commit_done()
    assert world.sent_ids() == ["e1"]


def test_an_answer_to_a_commit_of_before_a_loss_proves_nothing_after_it() -> None:
    """It was a member when it was asked: of the membership that is over."""
    world = World(batch=ONE_BY_ONE)
    world.assign(0, 1)
    world.run(1.0)
    world.commits_wait = True
    world.run(6.0)
    assert len(world.waiting_commits) == 1
    world.clock.advance(1.0)
    world.lose(0)
    world.produce(event(), partition=1)
    world.commit_done()
    assert world.engine.lease.proved_at is None
    assert not world.requests
    world.run(2.0)
    world.commit_done()
    assert world.sent_ids() == ["e1"]


def test_a_commit_that_fails_proves_nothing() -> None:
    """A member that was fenced gets errors: its lease runs out."""
    world = World()
    world.assign(0)
    world.commit_error = "ILLEGAL_GENERATION"
    world.run(LEASE + 1.0)
    assert not world.engine.lease.holds(world.clock.mono)
    world.commit_error = None
    world.run(1.0)
    assert world.engine.lease.holds(world.clock.mono)


def test_the_lease_follows_the_groups_own_session_timeout() -> None:
    """Where the broker owns it, it is told: the next attempt goes by it."""
    world = World(batch=ONE_BY_ONE)
    world.assign(0)
    world.run(1.0)
    world.commits_wait = True
    world.clock.advance(6.0)
    world.engine.session_timeout(17.0)
    assert world.engine.lease.seconds == lease_seconds(17.0, 10.0)
    world.produce(event())
    assert not world.requests
    world.engine.session_timeout(120.0)
    world.tick()
    assert len(world.requests) == 1


@given(st.floats(12.0, 120.0), st.floats(0.5, 30.0))
def test_a_member_that_is_answered_never_runs_out_of_its_lease(
    session: float, interval: float
) -> None:
    """Whatever the session time-out: proofs are asked for in time, one after the other."""
    length = lease_seconds(session, 10.0)
    if length <= interval:
        return  # refused by the configuration
    world = World(settings=EngineSettings(session_timeout=session, commit_interval=interval))
    world.assign(0)
    for _ in range(20):
        world.run(length / 7)
        assert world.engine.lease.holds(world.clock.mono)


def test_what_a_zombie_has_in_the_air_is_told_and_commits_nothing() -> None:
    """An answer that comes without a lease is a fact all the same."""
    world = World(answer=lambda _request: None, batch=ONE_BY_ONE)
    world.assign(0)
    world.produce(event())
    world.commits_wait = True
    world.clock.advance(3600.0)
    world.reply(ok())
    assert world.outcomes() == {0: "delivered"}
    assert world.group_offset() == 0
