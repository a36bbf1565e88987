"""Events that wait for one dead destination make place for all others, and are not forgotten."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.hold_gate import GateState
from consumer.messages import Acknowledged
from consumer.parking import LOOK_SECONDS, RETRY_REFUSED, SWEEP_SECONDS
from tests.support.parking_yard import A, B, Yard

# Which events are parked


@pytest.mark.parametrize("state", [GateState.HELD, GateState.THROTTLED])
def test_an_event_that_waits_for_more_than_a_minute_is_parked(state: GateState) -> None:
    """Then the source offset passes it, and it is read again from the retry topic, as a probe."""
    yard = Yard()
    yard.shut(A, state)
    yard.source(A, 5)
    yard.advance(60.0)
    assert not yard.poll()
    yard.advance(SWEEP_SECONDS)
    assert len(yard.poll()) == 5
    yard.acknowledge()
    assert yard.sources[0].watermark == 5
    assert yard.parking.counts[yard.destinations[A]] == 5
    yard.run()
    assert [item.origin and item.origin.offset for item in yard.items()] == [0, 1, 2, 3, 4]


def test_nothing_is_parked_where_no_destination_can_send() -> None:
    """An outage copies nothing; the bound pauses the source instead."""
    yard = Yard(max_in_flight_events=100)
    for destination in (A, B):
        yard.shut(destination)
        yard.source(destination, 50)
    for _ in range(100):
        yard.advance(60.0)
        assert not yard.poll()
    assert yard.load.full


def test_the_only_destination_never_parks() -> None:
    """Nobody would have anything of it."""
    yard = Yard(1, max_in_flight_events=10)
    yard.shut(A)
    yard.source(A, 10)
    yard.advance(3600.0)
    assert not yard.poll()


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_is_set_says_nothing_of_how_long_an_event_waits(hours: int) -> None:
    """Nothing is parked before its minute is over, and nothing later."""
    yard = Yard()
    yard.shut(A)
    yard.source(A, 1)
    yard.source(B, 1)
    yard.wall_ms += hours * 3_600_000
    yard.advance(30.0)
    assert not yard.poll()
    yard.advance(31.0)
    assert len(yard.poll()) == 1


def test_events_of_an_open_destination_are_not_parked_however_long_they_wait() -> None:
    """It sends: slowly, perhaps."""
    yard = Yard(max_in_flight_events=100)
    yard.shut(A)
    yard.source(B, 100)
    yard.advance(3600.0)
    assert not yard.poll()


def test_what_is_beyond_a_share_is_parked_once_the_bounds_are_pressed() -> None:
    """The oldest first, so that offsets can pass; a moment's throttle copies nothing."""
    yard = Yard(max_in_flight_events=200)  # a share is 200 / (4 * 2) = 25
    yard.shut(A, GateState.THROTTLED)
    yard.source(A, 60)
    yard.source(B, 40)
    assert not yard.poll()
    yard.source(B, 40)
    for _ in range(5):
        yard.advance(LOOK_SECONDS)
        yard.poll()
        yard.acknowledge()
    assert [produce.value for produce in yard.produced] == [b"0::%d" % n for n in range(35)]
    assert yard.sources[0].watermark == 35


def test_what_is_beyond_a_share_of_bytes_is_parked_too() -> None:
    """A few large events are as much as many small ones."""
    yard = Yard(max_in_flight_bytes=400)  # a share is 50 bytes
    yard.shut(A)
    yard.source(A, 25)  # the first ten of 4 bytes, the others of 5
    assert not yard.poll()
    yard.source(A, 25)
    yard.advance(LOOK_SECONDS)
    yard.poll()
    waiting = sum(len(item.record.value or b"") for item in yard.items())
    assert waiting == 50


def test_nothing_in_the_air_is_parked_until_it_comes_back() -> None:
    """Its answer may be an acceptance; what backs off from a refusal is parked like the rest."""
    yard = Yard()
    yard.source(A, 3)
    yard.send(A)
    yard.shut(A)
    yard.source(A, 2)
    yard.advance(61.0)
    assert len(yard.poll()) == 2
    yard.come_back(A, later=True)
    yard.advance(61.0)
    assert len(yard.poll()) == 3
    assert not yard.queues[yard.destinations[A]].retrying


def test_those_that_wait_for_an_events_outcome_are_parked_with_it() -> None:
    """Each as a record of its own, and each knows since when TikTok may have the key."""
    yard = Yard(partitions=2)
    yard.shut(A)
    first, *_ = yard.source(A, 3, same="key")
    yard.source(A, 1, partition=1, same="key")
    first.first_unknown_ms = yard.wall_ms
    yard.advance(61.0)
    produces = yard.poll()
    assert [produce.partition for produce in produces] == [0, 0, 0, 1]
    assert all("retry.first_unknown_at" in dict(produce.headers) for produce in produces)
    assert len(yard.keys) == 0
    yard.acknowledge()
    assert (yard.load.events, yard.load.bytes) == (0, 0)
    yard.run()
    assert len(yard.keys) == 1
    yard.open(A)
    yard.run()
    assert sorted(yard.outcomes.values()) == [1, 1, 1, 1]


def test_duplicates_of_a_probe_are_parked_alone() -> None:
    """The probe stays, and what waits for it takes no more than its share."""
    yard = Yard(max_in_flight_events=80)
    yard.shut(A)
    yard.source(A, same="key")
    yard.advance(61.0)
    yard.run()
    (probe,) = yard.items()
    yard.source(A, 50, same="key")
    yard.run()
    yard.run()
    assert probe in yard.items()
    assert probe.waiters is not None
    assert yard.load.events < 40
    yard.open(A)
    yard.run()
    assert len(yard.outcomes) == 51


def test_events_of_partitions_on_their_way_to_another_member_are_not_parked() -> None:
    """The next owner reads them again from the source."""
    yard = Yard(partitions=2)
    yard.shut(A)
    yard.source(A, 2, partition=0)
    yard.source(A, 2, partition=1)
    yard.sources[0].draining = True
    yard.advance(61.0)
    assert [produce.partition for produce in yard.poll()] == [1, 1]


# Shares and bounds


def test_a_backlog_of_twenty_times_the_bound_does_not_stop_the_others() -> None:
    """The bounds never fill up, the committed offset goes on, and in the end all is delivered."""
    yard = Yard(max_in_flight_events=200)
    yard.shut(A)
    yard.backlog(A, 4000, others=B)
    assert sum(b.startswith(b"1:") for b in yard.outcomes) == 4000
    assert not yard.load.full
    assert yard.load.events <= 100
    assert yard.sources[0].unsettled_span <= 200
    copied = len(yard.produced)
    assert copied <= 4000, "each event is parked once"
    yard.open(A)
    yard.run(5000)
    assert len(yard.outcomes) == 8000
    assert set(yard.outcomes.values()) == {1}
    assert len(yard.produced) == copied
    assert (yard.load.events, yard.load.bytes) == (0, 0)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_shut_destinations_never_keep_the_source_paused(data: st.DataObject) -> None:
    """Whatever waits for them, at rest at least half of the bounds is free for one that is open."""
    destinations = data.draw(st.integers(2, 5))
    partitions = data.draw(st.integers(1, 4))
    most = data.draw(st.integers(16 * destinations, 400))
    yard = Yard(destinations, partitions, max_in_flight_events=most)
    shut = data.draw(st.sets(st.integers(0, destinations - 2), min_size=1))
    for destination in shut:
        yard.shut(destination)
    for _ in range(data.draw(st.integers(1, 12))):
        where = data.draw(st.integers(0, partitions - 1))
        yard.source(data.draw(st.sampled_from(sorted(shut))), most // 4, partition=where)
        yard.source(destinations - 1, 1, partition=where)
        yard.run(chunk=1)
        assert yard.load.events * 2 <= most + 1
        assert not yard.load.full


def test_the_retry_topic_is_not_read_beyond_a_quarter_of_the_bound() -> None:
    """Not even while all is open: a destination may be shut again at any moment."""
    yard = Yard(partitions=2, max_in_flight_events=400)
    yard.append(A, 1000, partition=0)
    yard.append(A, 1000, partition=1)
    while yard.fetch():
        yard.poll()
    assert yard.load.events == 100
    assert yard.waits(0)
    assert yard.waits(1)
    yard.run(5000)
    assert len(yard.outcomes) == 2000
    assert not yard.retries[0].holds
    assert not yard.retries[1].holds


def test_what_is_on_its_way_to_the_retry_topic_is_bounded() -> None:
    """A sixteenth of the bound; what the broker has not taken stays in memory and counts."""
    yard = Yard(max_in_flight_events=160)
    yard.shut(A)
    yard.source(A, 100)
    for _ in range(5):
        yard.advance(61.0)
        yard.poll()
    assert yard.parking.unacknowledged == 10
    yard.acknowledge()
    assert yard.parking.unacknowledged == 0
    yard.advance(SWEEP_SECONDS)
    assert len(yard.poll()) == 10


def test_an_event_stays_while_one_that_waits_for_it_may_not_go() -> None:
    """A record that was parked a moment ago waits for a new one of the same key."""
    yard = Yard()
    yard.shut(A)
    yard.source(A, same="key")
    yard.source(A, 1)
    yard.advance(61.0)
    assert len(yard.poll()) == 2
    yard.acknowledge()
    (first,) = yard.source(A, same="key")
    yard.fetch()
    assert first.waiters is not None
    assert [waiter.origin is None for waiter in first.waiters] == [False]
    assert first.batched is not None
    first.batched = first.batched._replace(mono=first.batched.mono - 61.0)
    yard.advance(SWEEP_SECONDS)
    assert not yard.poll()
    yard.advance(60.0)
    assert len(yard.poll()) == 2


# Failures of the retry topic


def test_a_retry_topic_that_refuses_holds_the_partition_until_it_takes_the_record() -> None:
    """The offset does not pass before; other partitions go on."""
    yard = Yard(partitions=2)
    yard.shut(A)
    yard.source(A, 2)
    yard.source(A, 1, partition=1)
    yard.advance(61.0)
    produces = yard.poll()
    yard.acknowledge("retriable")
    assert [RETRY_REFUSED in source.holds for source in yard.sources] == [True, True]
    assert yard.unanswered == produces
    assert [len(source.pending) for source in yard.sources] == [2, 1]
    yard.acknowledge()
    assert not any(source.holds for source in yard.sources)
    assert not any(source.pending for source in yard.sources)


def test_an_event_too_large_for_the_retry_topic_stays_in_memory() -> None:
    """It is entered again, waits for its destination, and is not tried a second time."""
    yard = Yard()
    yard.shut(A)
    yard.source(A, 3, same="key")
    yard.advance(61.0)
    assert len(yard.poll()) == 3
    yard.acknowledge("too_large")
    assert not yard.sources[0].holds
    assert len(yard.keys) == 1
    yard.advance(3600.0)
    assert not yard.poll()
    yard.open(A)
    yard.run()
    assert sorted(yard.outcomes.values()) == [1, 1, 1]


def test_what_is_unknown_or_of_a_partition_that_went_away_is_ignored() -> None:
    """A late acknowledgement of an earlier assignment settles nothing."""
    yard = Yard()
    yard.shut(A)
    yard.source(A, 2)
    yard.advance(61.0)
    produce, other = yard.poll()
    assert yard.parking.wants(produce.handle)
    assert [item.record.offset for item in yard.parking.item_of(other.handle)] == [1]
    assert yard.parking.acknowledged(Acknowledged(10_000)) is None
    yard.parking.acknowledged(Acknowledged(produce.handle, offset=0))
    yard.parking.let_go([yard.sources[0], yard.retries[0]])
    assert not yard.parking.wants(other.handle)
    assert not list(yard.parking.item_of(other.handle))
    assert yard.parking.acknowledged(Acknowledged(other.handle, offset=1)) is None
    assert not yard.parking.parked
    yard.source(A, 2)
    yard.advance(61.0)
    assert not yard.poll(), "its retry partition is not ours"


# Time


def test_nothing_is_looked_at_while_all_is_open_and_seldom_otherwise() -> None:
    """Every second while a destination is shut, at most every 50 ms while the bounds press."""
    yard = Yard(max_in_flight_events=100)
    yard.source(A, 30)
    yard.poll()
    assert yard.parking.wake_at() == math.inf
    yard.shut(A)
    yard.poll()
    assert yard.parking.wake_at() == yard.mono + SWEEP_SECONDS
    looked = yard.mono
    yard.advance(LOOK_SECONDS / 2)
    yard.source(A, 40)
    yard.poll()
    assert yard.parking.wake_at() == looked + LOOK_SECONDS
    assert not yard.produced
    yard.advance(LOOK_SECONDS / 2)
    assert yard.poll()
    yard.open(A)
    yard.poll()
    assert yard.parking.wake_at() == math.inf
    yard.shut(A)
    yard.poll()
    assert yard.parking.wake_at() <= yard.mono + SWEEP_SECONDS
