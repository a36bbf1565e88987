"""The engine: what it takes, when it sleeps, why it pauses."""

from __future__ import annotations

import math

import pytest

from consumer.batch import BatchLimits
from consumer.engine import EngineSettings
from consumer.event import TopicPartition
from consumer.messages import Commit, Flow
from consumer.settle import STORE_FAILED
from consumer.source_events import PositionChange
from tests.support.world import TOPIC, World, event, ok

FIRST, SECOND = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)
SMALL = BatchLimits(max_events=2, linger=60.0)


def unanswered(**fields: object) -> World:
    """A world with two partitions in which every request stays in the air."""
    world = World(answer=lambda _request: None, **fields)  # type: ignore[arg-type]  # its fields
    world.assign(0, 1)
    return world


def flows(world: World) -> list[bool]:
    """How the flow was opened and closed so far."""
    return [action.open for action in world.log if isinstance(action, Flow)]


# Rest


def test_an_engine_without_partitions_asks_for_nothing() -> None:
    """No work, nothing to prove, no timer: the process sleeps."""
    world = World()
    assert world.engine.wake_at(world.clock.now) == math.inf
    world.assign(0)
    world.produce(event())
    world.run(5.0)
    world.revoke(0)
    world.run(5.0)
    assert world.engine.wake_at(world.clock.now) == math.inf
    assert world.idle()


def test_an_idle_engine_wakes_to_prove_its_membership_and_for_nothing_else() -> None:
    """Every five seconds the same offset is committed again; no other action comes of it."""
    world = World()
    world.assign(0)
    world.produce(event())
    world.run(6.0)
    before = len(world.log)
    assert 0.0 < world.engine.wake_at(world.clock.now) - world.clock.mono <= 5.0
    world.run(60.0)
    commits = world.log[before:]
    assert all(isinstance(action, Commit) for action in commits)
    offsets = [action.offsets for action in commits if isinstance(action, Commit)]
    assert offsets == [{FIRST: world.group[FIRST]}] * 12
    assert world.committed() == 1
    assert world.idle()


# What is taken


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


# Holds and flow


@pytest.mark.parametrize("reason", ["truncated", "position_unknown"])
def test_a_partition_that_cannot_be_read_from_its_position_is_held_until_it_can(
    reason: str,
) -> None:
    """The source says when, and from where."""
    world = World()
    world.assign(0, position=100, hold=reason)
    assert world.holds() == {reason}
    assert world.paused == {FIRST}
    change = PositionChange(FIRST, 120, None, None)
    world.move(change)
    assert world.holds() == set()
    assert world.paused == set()
    assert world.partition().position == 120


def test_a_position_that_moves_ends_no_other_hold() -> None:
    """What the store holds goes on when the store does."""
    world = World()
    world.assign(0)
    world.store_fails = True
    world.produce(event())
    held = world.holds()
    assert held == {STORE_FAILED}
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
