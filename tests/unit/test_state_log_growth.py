"""A source that got more partitions: what the others remember counts for one window."""

from __future__ import annotations

import pytest

from consumer.event import TopicPartition
from consumer.state_phases import Phase
from consumer.state_records import Kind
from tests.support.log_owner import RULES, STATE_TP, Kept, key


def grown(partitions: int) -> Kept:
    """A log that says that the source has so many partitions now; others have keys already."""
    kept = Kept()
    for number in range(1, partitions):
        owner = Kept()
        owner.topic = kept.topic
        offset = owner.put(Kind.ACCEPTED, key(f"p{number}"))
        log = kept.topic.logs.pop(STATE_TP)
        kept.topic.ends.pop(STATE_TP)
        tp = TopicPartition(STATE_TP.topic, number)
        for _ in range(7):
            kept.topic.append(tp, log[offset].value, kept.clock.wall_ms)
    kept.put(Kind.GROWN, partitions=partitions)
    return kept


def test_where_the_source_has_grown_the_other_partitions_keys_count_too() -> None:
    """A key's records may have been in another partition before; all of them are read first."""
    owner = grown(4).owner().take_over()
    assert owner.is_ready()
    assert owner.knows("p1", "p2", "p3")


def test_growth_is_of_interest_for_one_window() -> None:
    """After that every key of before has expired."""
    kept = grown(4)
    kept.clock.advance(RULES.window_ms / 1000)
    owner = kept.owner().take_over()
    assert owner.is_ready()
    assert not owner.knows("p1")


def test_an_owner_that_learns_of_growth_stops_until_it_has_read_the_others() -> None:
    """It may have been sending already."""
    kept = grown(3)
    values = kept.topic.logs.pop(STATE_TP)
    kept.topic.ends.pop(STATE_TP)
    owner = kept.owner().take_over()
    assert owner.is_ready()
    kept.topic.append(STATE_TP, values[0].value, kept.clock.wall_ms)
    owner.accept(key("a"))
    owner.write()
    owner.acknowledge()
    owner.answer()
    assert owner.is_in(Phase.REBUILDING)
    owner.settle()
    assert owner.is_ready()
    assert owner.knows("p1", "p2", "a")


@pytest.mark.parametrize("answers", range(1, 12))
def test_a_crash_or_a_lost_disk_while_the_others_are_read_skips_none_of_them(answers: int) -> None:
    """Whoever begins anew reads them from their start."""
    for loses in (False, True):
        kept = grown(4)
        owner = kept.owner().begin()
        for _ in range(answers):
            if not owner.actions:
                owner.settle_one()
            elif not owner.is_ready():
                owner.answer()
        if loses:
            owner.lose_store()
            owner.settle()
        else:
            owner = kept.owner().take_over()
        assert owner.is_ready()
        assert owner.knows("p1", "p2", "p3")
