"""Where a group goes on that has no offset, or was reset: the state knows how far it had come."""

from __future__ import annotations

import pytest

from consumer.engine import EngineSettings
from consumer.event import TopicPartition
from consumer.messages import Resume
from consumer.offsets import CommitOffset
from consumer.source_events import AssignedPartition, PositionChange
from consumer.state_phases import StateRules
from tests.support.world import (
    BOUND_TO,
    START_MS,
    STATE_BOUND_TO,
    TOPIC,
    World,
    code,
    event,
    ok,
)

FIRST = TopicPartition(TOPIC, 0)
HOUR = 3600.0


def test_a_group_without_offset_goes_on_where_the_state_says_it_had_come_to() -> None:
    """Also one that would start at the log's end: what lies between is not skipped."""
    before = World()
    before.take_over()
    before.produce(event("a"), event("b"))
    before.run(1.0)
    before.revoke(0)
    world = before.successor(group={})
    world.append(event("c"))
    latest = AssignedPartition(FIRST, 3, None, bound_to=BOUND_TO, state_bound_to=STATE_BOUND_TO)
    world.own(latest)
    assert Resume(FIRST, 2) in world.log
    world.read()
    world.run(1.0)
    assert world.sent_ids() == ["c"]
    assert world.group_offset() == 3


def test_the_state_of_a_topic_that_was_made_again_says_nothing_of_its_offsets() -> None:
    """The new topic begins at its start; what was accepted stays accepted."""
    before = World()
    before.take_over()
    before.produce(event("a"), event("b"))
    before.run(1.0)
    before.revoke(0)
    world = before.successor(group={}, topic={})
    world.append(event("a"), event("c"))
    world.assign(0, bound_to=b"n" * 16)
    world.read()
    world.run(1.0)
    assert world.outcomes() == {0: "duplicate", 1: "delivered"}


def test_a_group_that_was_reset_within_the_window_finds_duplicates() -> None:
    """Somebody set its offsets to 0: nothing is sent again."""
    world = World()
    world.take_over()
    world.produce(event("a"), event("b"))
    world.run(1.0)
    world.revoke(0)
    world.group[FIRST] = CommitOffset(0)
    world.take_over()
    world.read()
    world.run(1.0)
    assert len(world.requests) == 1
    assert [world.settled[n].outcome for n in (2, 3)] == ["duplicate", "duplicate"]


def rewound(*, resend: bool, age: float, timestamp: int = START_MS) -> World:
    """A group that is reset so many seconds after its two events were settled; a third is new."""
    window = StateRules(window_ms=int(HOUR * 1000))
    settings = EngineSettings(window=HOUR, resend_rewound=resend)
    world = World(rules=window, settings=settings)
    world.take_over()
    world.append(event("a"), event("b"), timestamp=timestamp)
    world.read()
    world.run(1.0)
    world.revoke(0)
    world.clock.advance(age)
    world.group[FIRST] = CommitOffset(0)
    world.append(event("c"), timestamp=timestamp)
    world.take_over()
    world.read()
    world.run(1.0)
    return world


@pytest.mark.parametrize("timestamp", [START_MS, -1])
def test_a_group_that_was_reset_beyond_the_window_sends_nothing_again(timestamp: int) -> None:
    """Its marks have expired: what was settled before and is older than the window is rewound.

    By the record's time, or the event's where the record has none.
    """
    world = rewound(resend=False, age=HOUR, timestamp=timestamp)
    assert world.outcomes() == {0: "suppressed:rewound", 1: "suppressed:rewound", 2: "delivered"}
    assert world.sent_ids() == ["a", "b", "c"]


def test_a_group_may_be_reset_to_send_again() -> None:
    """Where the configuration says so."""
    world = rewound(resend=True, age=HOUR)
    assert world.sent_ids() == ["a", "b", "a", "b", "c"]


def test_what_was_settled_before_and_is_younger_than_the_window_is_no_rewind() -> None:
    """Its mark would be there if it had been accepted: it was refused, and may be corrected now."""
    world = World(answer=lambda _request: code(40002, "Invalid value for data.0.x: y"))
    world.take_over()
    world.produce(event("a"))
    world.run(1.0)
    world.revoke(0)
    world.group[FIRST] = CommitOffset(0)
    world.answer = lambda _request: ok()
    world.take_over()
    world.read()
    world.run(1.0)
    assert world.sent_ids() == ["a", "a"]


def test_a_partition_whose_position_is_not_known_yet_waits_for_it() -> None:
    """The memory may be complete before: it is read from where the source says."""
    world = World()
    world.assign(0, hold="position_unknown")
    assert world.holds() == {"position_unknown"}
    world.move(PositionChange(FIRST, 7, None, None))
    assert Resume(FIRST, 7) in world.log
