"""Taking events out of a queue leaves the rest as it was; and no order of things loses an event."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.hold_gate import GateState
from consumer.park_choice import Bounds, ParkingSettings, take_out
from consumer.retry_partition import RETRY_WAITING
from tests.support.parking_yard import Yard

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.event import Item

A = 0


def contents(yard: Yard) -> list[list[Item]]:
    """What waits for the first destination: batches, and the open one last."""
    queue = yard.queues[yard.destinations[A]]
    batches = [*queue.ready, *(batch for _, _, batch in sorted(queue.retrying))]
    return [list(batch.items) for batch in batches] + [list(queue.lane(None).items)]


@given(st.lists(st.sampled_from(["source", "send", "back", "later"]), max_size=12), st.data())
def test_the_rest_of_a_queue_keeps_its_order_and_its_time(
    steps: list[str], data: st.DataObject
) -> None:
    """Open batch, ready ones and those that back off; batches that are empty then are gone."""
    yard = Yard(batch=4)
    queue = yard.queues[yard.destinations[A]]
    for step in steps:
        yard.advance(0.1)
        if step == "source":
            yard.source(A, 3)
        elif step == "send":
            yard.send(A)
        else:
            yard.come_back(A, later=step == "later")
    before = contents(yard)
    lane = queue.lane(None)
    due_at = lane.due_at
    waiting = [item for items in before for item in items]
    gone = set(data.draw(st.lists(st.sampled_from(waiting), unique=True)) if waiting else [])
    take_out(queue, gone, yard.mono + 5.0)
    left = [[item for item in items if item not in gone] for items in before]
    assert [items for items in contents(yard) if items] == [items for items in left if items]
    assert all(batch.items for batch in queue.ready)
    assert all(batch.items for _, _, batch in queue.retrying)
    assert lane.due_at == (due_at if lane.items else None)


@given(st.sets(st.integers(0, 19)))
def test_batches_that_back_off_come_in_the_order_of_their_times_still(gone: set[int]) -> None:
    """Whichever of them are taken out."""
    yard = Yard(batch=1)
    queue = yard.queues[yard.destinations[A]]
    items = yard.source(A, 20)
    yard.send(A)
    yard.come_back(A, later=True)
    take_out(queue, {items[number] for number in gone}, yard.mono)
    in_order = sorted(queue.retrying)
    assert len(in_order) == 20 - len(gone)
    assert [heapq.heappop(queue.retrying) for _ in in_order] == in_order


def test_an_open_batch_closes_by_what_is_left_in_it() -> None:
    """Number and size are counted anew."""
    yard = Yard(batch=4)
    queue = yard.queues[yard.destinations[A]]
    first, *_ = yard.source(A, 3)
    take_out(queue, {first}, yard.mono)
    yard.source(A, 1)
    assert not queue.ready
    yard.source(A, 1)
    assert [len(batch.items) for batch in queue.ready] == [4]


@given(st.integers(1, 1000), st.integers(1, 1 << 40), st.integers(1, 200), st.integers(0, 1000))
def test_shares_leave_half_of_the_bounds_free(
    events: int, size: int, destinations: int, partitions: int
) -> None:
    """One destination is open at least; what the others keep, and what was read, fits in a half."""
    bounds = Bounds(ParkingSettings(events * 100, size), destinations)
    shut = destinations - 1
    if events * 100 >= 8 * destinations:
        assert shut * bounds.share_events + bounds.most_read <= events * 50
    if size >= 4 * destinations:
        assert shut * bounds.share_bytes <= size // 4
    assert bounds.most_read >= 2 * destinations
    probes = bounds.probes_of(partitions)
    assert 2 * destinations <= probes <= max(64, 2 * destinations)


STEPS = st.one_of(
    st.tuples(st.just("source"), st.integers(0, 2), st.integers(1, 30)),
    st.tuples(st.just("same"), st.integers(0, 2), st.integers(1, 3)),
    st.tuples(st.just("append"), st.integers(0, 2), st.integers(1, 30)),
    st.tuples(st.just("shut"), st.integers(0, 2), st.integers(0, 1)),
    st.tuples(st.just("open"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("send"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("back"), st.integers(0, 2), st.integers(0, 1)),
    st.tuples(st.just("wait"), st.just(0), st.sampled_from([0, 1, 30, 61, 600])),
    st.tuples(st.just("poll"), st.just(0), st.just(0)),
    st.tuples(st.just("refuse"), st.just(0), st.integers(0, 1)),
    st.tuples(st.just("read"), st.just(0), st.integers(1, 20)),
    st.tuples(st.just("run"), st.just(0), st.integers(1, 20)),
)


def carry_out(yard: Yard, step: tuple[str, int, int], partition: int) -> None:
    """One step of a schedule; the yard checks each poll."""
    name, destination, number = step
    steps: dict[str, Callable[[], object]] = {
        "source": lambda: yard.source(destination, number, partition=partition),
        "same": lambda: yard.source(destination, number, partition=partition, same="key"),
        "append": lambda: yard.append(destination, number, partition=partition),
        "shut": lambda: yard.shut(destination, [GateState.HELD, GateState.THROTTLED][number]),
        "open": lambda: yard.open(destination),
        "send": lambda: yard.send(destination),
        "back": lambda: yard.come_back(destination, later=bool(number)),
        "wait": lambda: yard.advance(float(number)),
        "poll": yard.poll,
        "refuse": lambda: yard.acknowledge("too_large" if number else "retriable"),
        "read": lambda: yard.fetch(number),
        "run": lambda: yard.run(5000, chunk=number),
    }
    if not yard.load.full or name not in {"source", "same"}:
        steps[name]()


def noticeable(yard: Yard) -> bool:
    """Whether every shut destination with an event anywhere has one in memory."""
    return all(yard.in_memory(q) or not yard.unread(d) for d, q in yard.queues.items())


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(STEPS, st.integers(0, 1)), max_size=25),
    st.integers(40, 160),
    st.integers(1, 8),
)
def test_no_order_of_things_loses_an_event_or_holds_a_partition_for_ever(
    steps: list[tuple[tuple[str, int, int], int]], most: int, probes: int
) -> None:
    """Destinations shut and open, a retry topic that refuses, others that write into it.

    While any are shut, each of them gets an event to probe with, and those that are open get all
    of theirs; at the end everything has its one outcome and nothing is held.
    """
    yard = Yard(3, 2, max_in_flight_events=most, probes=probes)
    for step, partition in steps:
        carry_out(yard, step, partition)
    for destination in range(3):
        yard.come_back(destination)
    for _ in range(40):
        yard.advance(61.0)
        yard.run(5000)
    assert noticeable(yard)
    open_ones = [d for d in yard.destinations if yard.state(d) is GateState.OPEN]
    assert not any(yard.unread(destination) for destination in open_ones)
    for destination in range(3):
        yard.open(destination)
    yard.run(5000)
    assert set(yard.outcomes) == set(yard.events)
    assert set(yard.outcomes.values()) <= {1}
    assert not any(RETRY_WAITING in retry.holds for retry in yard.retries)
    assert not any(partition.pending for partition in (*yard.sources, *yard.retries))
    assert (yard.load.events, yard.load.bytes, len(yard.keys)) == (0, 0, 0)
