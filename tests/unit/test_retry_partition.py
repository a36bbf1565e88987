"""Probes stay in memory, and what stands before others in the retry topic makes place for them."""

from __future__ import annotations

import pytest

from consumer.event import Outcome
from consumer.parking import LOOK_SECONDS, SWEEP_SECONDS
from consumer.retry_partition import RetryPartition
from tests.support.parking_yard import A, B, C, Yard

# Probes


def test_probes_of_a_held_destination_are_kept_and_no_more_is_read() -> None:
    """64 of a partition; as soon as the destination opens, reading goes on."""
    yard = Yard(max_in_flight_events=2000)
    yard.shut(A)
    yard.source(A, 500)
    yard.advance(61.0)
    yard.run(chunk=1)
    assert len(list(yard.items())) == 64
    assert yard.waits()
    yard.open(A)
    yard.run(chunk=1)
    assert len(yard.outcomes) == 500
    assert not yard.retries[0].holds


def test_the_last_event_of_a_destination_stays_unless_it_is_read_again_at_once() -> None:
    """Without an event to probe with, nobody would notice that it is open again."""
    yard = Yard(3, max_in_flight_events=2000)
    yard.shut(A)
    yard.shut(B)
    yard.append(A, 100)
    yard.run(chunk=1)
    assert yard.waits()
    (last,) = yard.source(B, 1)
    yard.advance(3600.0)
    yard.run(chunk=1)
    assert last in yard.items()
    yard.open(A)
    yard.run(chunk=1)
    yard.advance(SWEEP_SECONDS)
    yard.run(chunk=1)
    assert last not in yard.items()
    (back,) = yard.items()
    assert back.origin is not None
    assert back.record.value == last.record.value


def test_the_last_event_stays_while_its_retry_partition_cannot_be_read() -> None:
    """Held for another reason, or the source is paused at the bounds."""
    yard = Yard(partitions=2, max_in_flight_events=200)
    yard.shut(A)
    yard.source(A)
    yard.retries[0].hold("dedup_store_failed", 1)
    yard.advance(61.0)
    assert not yard.poll()
    yard.retries[0].release("dedup_store_failed", 1)
    yard.source(B, 199)
    assert yard.load.full
    yard.advance(61.0)
    assert not yard.poll()
    yard.deliver()
    yard.advance(SWEEP_SECONDS)
    assert len(yard.poll()) == 1


def blocked_by_two() -> Yard:
    """One event of A and five of B stand before one of C, which is open; no more are read."""
    yard = Yard(3, max_in_flight_events=2000, probes=6)
    for destination, events in ((A, 1), (B, 5), (C, 1)):
        yard.append(destination, events)
    yard.shut(A)
    yard.shut(B)
    yard.fetch(6)
    return yard


def test_the_last_probe_stays_while_others_go_to_the_tail() -> None:
    """Others make place."""
    yard = blocked_by_two()
    probe, *_ = yard.items()
    assert [(produce.value or b"")[:2] for produce in yard.poll()] == [b"1:"] * 3
    assert probe in yard.items()


def test_what_waits_for_its_receipt_alone_makes_nobody_move() -> None:
    """It has its outcome, and goes without its destination."""
    yard = blocked_by_two()
    for item in yard.items():
        item.outcome = Outcome.DUPLICATE
    yard.poll()
    assert not yard.waits()
    assert [retry.stuck for retry in yard.parking._retries.values()] == [0]


def test_a_probe_of_the_retry_topic_stays_rather_than_one_of_the_source() -> None:
    """It holds up no source offset."""
    yard = blocked_by_two()
    probe, *_ = yard.items()
    (new,) = yard.source(A)
    yard.advance(61.0)
    yard.poll()
    assert probe in yard.items()
    assert new not in yard.items()


def test_a_destination_whose_probe_is_in_the_air_makes_nobody_move() -> None:
    """Its answer says what is to be known."""
    yard = Yard(max_in_flight_events=2000)
    yard.append(A, 500)
    yard.append(B, 1)
    yard.source(B, 1)
    yard.send(B)
    yard.shut(A)
    yard.shut(B)
    for _ in range(5):
        yard.run(chunk=1)
        yard.advance(60.0)
    assert yard.waits()
    assert not yard.produced


def test_a_destination_without_a_probe_makes_others_move() -> None:
    """Its only events stand behind those of another dead one; nobody else has to be open."""
    yard = Yard(2, max_in_flight_events=2000)
    yard.append(A, 500)
    yard.append(B, 1)
    yard.shut(A)
    yard.shut(B)
    for _ in range(20):
        yard.run(chunk=1)
        yard.advance(60.0)
    assert yard.in_memory(yard.queues[yard.destinations[B]])
    assert yard.in_memory(yard.queues[yard.destinations[A]])
    copied = len(yard.produced)
    assert copied <= 500
    yard.advance(3600.0)
    yard.run(chunk=1)
    assert len(yard.produced) == copied, "both have one now"


# The tail


def test_those_before_others_go_to_the_tail_while_their_destination_is_held() -> None:
    """Once a minute each at most; the others are delivered, and one event stays as a probe."""
    yard = Yard(3, max_in_flight_events=2000)
    yard.shut(A)
    yard.shut(B)
    yard.backlog(A, 1000, others=C)
    yard.source(B, 30)
    yard.advance(61.0)
    for _ in range(3):
        yard.run()
        yard.advance(1.0)
    assert yard.waits()
    before = len(yard.produced)
    parked_b = sum(name.startswith(b"1:") for name in (p.value or b"" for p in yard.produced))
    assert parked_b
    yard.open(B)
    for _ in range(20):
        yard.run()
        yard.advance(10.0)
    assert sum(name.startswith(b"1:") for name in yard.outcomes) == 30
    assert not any(name.startswith(b"0:") for name in yard.outcomes)
    moved = [produce.value for produce in yard.produced[before:]]
    assert len(moved) == len(set(moved))
    assert yard.in_memory(yard.queues[yard.destinations[A]])
    yard.open(A)
    yard.run(5000)
    assert set(yard.outcomes.values()) == {1}
    assert len(yard.outcomes) == len(yard.events)


def test_nothing_goes_to_the_tail_where_all_behind_it_waits_as_well() -> None:
    """Moving would only copy; a minute later, an hour later."""
    yard = Yard(max_in_flight_events=2000)
    yard.shut(A)
    yard.backlog(A, 1500, others=B)
    yard.advance(61.0)
    yard.run()
    before = len(yard.produced)
    for _ in range(10):
        yard.advance(360.0)
        yard.run()
    assert len(yard.produced) == before


@pytest.mark.parametrize("after", [0, 61])
def test_what_somebody_else_puts_behind_the_probes_is_reached(after: int) -> None:
    """A replay of dead letters, or an earlier owner's events: anything may be for anybody."""
    yard = Yard(max_in_flight_events=2000)
    yard.shut(A)
    yard.backlog(A, 1500, others=B)
    yard.advance(61.0)
    yard.run()
    yard.append(B, 3)
    delivered = len(yard.outcomes)
    yard.advance(after)
    for _ in range(20):
        yard.run()
        yard.advance(10.0)
    assert len(yard.outcomes) == delivered + 3


def test_what_a_retry_partition_may_hold_is_known_by_offset() -> None:
    """Of ours we know the destination; a gap, or an end beyond ours, may be anybody's."""
    yard = Yard(3)
    a, b, c = yard.destinations
    partition = yard.retries[0]
    retry = RetryPartition(partition)
    assert not retry.may_hold({a, b, c})
    retry.reaches(10, writing=False)
    assert not retry.may_hold(set())
    partition.position = 9
    assert retry.may_hold({c})
    partition.position = 10
    assert not retry.may_hold({a, b, c})
    retry.put(10, a)
    retry.put(11, b)
    assert [retry.may_hold({d}) for d in (a, b, c)] == [True, True, False]
    partition.position = 11
    assert [retry.may_hold({d}) for d in (a, b, c)] == [False, True, False]
    retry.reaches(13, writing=True)
    assert not retry.may_hold({c})
    retry.reaches(13, writing=False)
    assert retry.may_hold({c})
    partition.position = 13
    retry.put(15, a)
    retry.put(14, a)
    retry.reaches(16, writing=False)
    assert retry.may_hold({c}), "somebody may have written between 13 and 15"
    partition.position = 15
    assert not retry.may_hold({c})


def test_events_of_one_partition_make_place_for_those_of_another() -> None:
    """So many wait that no retry partition at all is read on, also where all are for others."""
    yard = Yard(partitions=2, max_in_flight_events=80)
    yard.append(A, 20, partition=1)
    yard.fetch(20)
    yard.shut(A)
    yard.append(B, 3, partition=0)
    yard.poll()
    assert yard.waits(0)
    yard.fetch()
    yard.advance(SWEEP_SECONDS)
    yard.run()
    assert len(yard.outcomes) == 3


def test_no_more_go_to_the_tail_than_it_takes_to_read_on() -> None:
    """Half of those that wait; on their way they do not hold the partition any more."""
    yard = Yard(max_in_flight_events=2000)
    yard.shut(A)
    yard.append(A, 64)
    yard.append(B, 1)
    while yard.fetch(1):
        yard.poll()
        yard.advance(LOOK_SECONDS)
        if yard.produced:
            break
    yard.advance(SWEEP_SECONDS)
    yard.poll()
    assert len(yard.produced) == 32
    assert len(yard.retries[0].pending) == 64
    assert not yard.waits()
    yard.advance(SWEEP_SECONDS)
    yard.poll()
    assert len(yard.produced) == 32
    assert not yard.waits()


def test_what_was_read_while_a_destination_was_open_does_not_fill_the_memory_after() -> None:
    """Beyond an eighth of the bound it goes back, where the bounds are pressed."""
    yard = Yard(max_in_flight_events=400)
    yard.append(A, 99)
    yard.fetch(99)
    yard.shut(A)
    yard.source(B, 101)
    for _ in range(10):
        yard.advance(SWEEP_SECONDS)
        yard.poll()
        yard.acknowledge()
    assert not yard.produced
    yard.source(B, 60)
    for _ in range(10):
        yard.advance(SWEEP_SECONDS)
        yard.poll()
        yard.acknowledge()
    assert len(yard.produced) == 49
    assert len(yard.retries[0].pending) == 50


def test_events_too_large_to_go_to_the_tail_do_not_hold_the_partition() -> None:
    """They stay in memory, and what is behind them is read."""
    yard = Yard(max_in_flight_events=2000, probes=4)
    yard.shut(A)
    yard.append(A, 10)
    yard.append(B, 3)
    for _ in range(20):
        yard.advance(SWEEP_SECONDS)
        yard.poll()
        yard.acknowledge("too_large")
        yard.fetch(1)
        yard.deliver()
    assert len(yard.outcomes) == 3
    assert len(yard.retries[0].pending) == 10


def test_a_destination_that_opens_is_noticed_at_once_while_another_is_shut() -> None:
    """Its parked events are read again without waiting for the next second."""
    yard = Yard(3, max_in_flight_events=2000)
    yard.shut(A)
    yard.shut(B)
    yard.append(A, 100)
    yard.run(chunk=1)
    assert yard.waits()
    yard.open(A)
    yard.deliver()
    yard.advance(LOOK_SECONDS)
    yard.poll()
    assert not yard.waits()
