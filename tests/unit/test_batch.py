"""Batches close at a number, a size or an age, and keep what cannot share a request apart."""

from __future__ import annotations

import math

import orjson
from hypothesis import given
from hypothesis import strategies as st

from consumer.batch import ENVELOPE_BYTES, Batch, BatchLimits, Lane
from consumer.event import Destination, EventSource, Instant, Item, Record, TopicPartition, TraceIds
from consumer.offsets import CommitOffset
from consumer.queues import DeliverySettings, Queue
from tests.support.state_world import ready_partition
from tests.support.world import OTHER_PIXEL, PIXEL, World, event

PIXELS = (Destination(EventSource.WEB, PIXEL), Destination(EventSource.WEB, OTHER_PIXEL))
TP = TopicPartition("conversions", 0)


def item(number: int) -> Item:
    """An item that a lane can hold; the lane looks at nothing in it."""
    record = Record(*TP, number, -1, None, b"", ())
    trace = TraceIds(0, 0, 0, False, "")
    return Item(record, Instant(0.0, 0), trace, ready_partition(TP, 0, CommitOffset(0)))


@given(
    sizes=st.lists(st.integers(1, 400), max_size=60),
    max_events=st.integers(1, 8),
    max_bytes=st.integers(50, 1000),
)
def test_a_batch_is_never_over_its_limits_and_keeps_the_order(
    sizes: list[int], max_events: int, max_bytes: int
) -> None:
    """Every event comes out once, in order; only an event too big by itself bursts the size."""
    limits = BatchLimits(max_events, max_bytes + ENVELOPE_BYTES, linger=1.0)
    lane = Lane(PIXELS[0], None, limits)
    items = [item(number) for number in range(len(sizes))]
    batches: list[Batch | None] = []
    for one, size in zip(items, sizes, strict=True):
        batches.append(lane.add(one, size, now=0.0))
        batches.append(lane.due(now=0.0))
    batches.append(lane.close())
    closed = [batch for batch in batches if batch is not None]
    assert [one for batch in closed for one in batch.items] == items
    for batch in closed:
        bodies = [sizes[one.record.offset] + 1 for one in batch.items]
        assert len(bodies) <= max_events
        assert sum(bodies) <= max_bytes or len(bodies) == 1


@given(st.floats(0.0, 10.0), st.lists(st.floats(0.0, 3.0), min_size=1, max_size=10))
def test_a_batch_is_due_a_linger_after_its_first_event(linger: float, pauses: list[float]) -> None:
    """Later events do not put it off, and it is due at the stated time, not before."""
    lane = Lane(PIXELS[0], None, BatchLimits(linger=linger))
    now = 0.0
    for number, pause in enumerate(pauses):
        lane.add(item(number), 10, now)
        now += pause
    due_at = lane.due_at
    assert due_at == linger
    assert lane.due(math.nextafter(linger, -1.0)) is None
    batch = lane.due(linger)
    assert batch is not None
    assert len(batch.items) == len(pauses)
    assert lane.due_at is None
    assert lane.due(math.inf) is None


def test_a_full_batch_goes_at_once() -> None:
    """The number closes a batch without waiting for its linger."""
    world = World(batch=BatchLimits(max_events=3, linger=60.0))
    world.assign(0)
    world.produce(*(event(str(n)) for n in range(7)))
    assert [len(request.events) for request in world.requests] == [3, 3]
    world.run(60.0)
    assert [len(request.events) for request in world.requests] == [3, 3, 1]
    assert world.sent_ids() == [str(n) for n in range(7)]


def test_a_batch_full_by_bytes_goes_at_once() -> None:
    """The size counts the events as they are sent, with room for what surrounds them."""
    world = World(batch=BatchLimits(max_bytes=2000, linger=60.0))
    world.assign(0)
    world.produce(
        *(event(str(n), page={"url": "https://s.example/" + "x" * 400}) for n in range(8))
    )
    world.run(60.0)
    for request in world.requests:
        assert sum(map(len, request.events)) + len(request.events) + ENVELOPE_BYTES <= 2000
    assert [len(request.events) for request in world.requests] == [3, 3, 2]
    assert world.sent_ids() == [str(n) for n in range(8)]


def test_an_open_batch_goes_after_its_linger() -> None:
    """Nothing else has to happen: the engine asks to be woken."""
    world = World(batch=BatchLimits(linger=0.25))
    world.assign(0)
    world.produce(event())
    assert world.engine.wake_at(world.clock.now) == world.clock.mono + 0.25
    world.run(0.24)
    assert not world.requests
    world.run(0.02)
    assert len(world.requests) == 1


def test_a_batch_that_is_due_at_zero_is_due() -> None:
    """Zero is a time like any other: a monotonic clock may begin there."""
    queue = Queue(PIXELS[0], DeliverySettings(BatchLimits(linger=1.0)))
    queue.lane(None).add(item(0), 10, -1.0)
    assert queue.wake_at(-1.0) == 0.0


def test_a_request_holds_one_destination_and_one_test_code() -> None:
    """Source, id and test code belong to the request, so a batch has events that agree in them."""
    world = World(destinations=PIXELS)
    world.assign(0)
    wanted = [
        (pixel, test_code, f"{pixel}{test_code}{n}")
        for n in range(3)
        for pixel in (PIXEL, OTHER_PIXEL)
        for test_code in (None, "TEST1", "TEST2")
    ]
    world.produce(*(event(i, event_source_id=pixel, test_event_code=c) for pixel, c, i in wanted))
    world.run(1.0)
    sent = [
        (r.event_source_id, r.test_event_code, orjson.loads(body)["event_id"])
        for r in world.requests
        for body in r.events
    ]
    assert len(world.requests) == 6
    assert sorted(sent, key=str) == sorted(wanted, key=str)


def test_the_destinations_own_test_code_counts_where_the_event_has_none() -> None:
    """The event's code is over the destination's."""
    world = World(destinations=(Destination(EventSource.WEB, PIXEL, test_event_code="OWN"),))
    world.assign(0)
    world.produce(event("a"), event("b", test_event_code="EVENTS"))
    world.run(1.0)
    assert {r.test_event_code: len(r.events) for r in world.requests} == {"OWN": 1, "EVENTS": 1}


def test_passing_test_codes_leave_nothing_behind() -> None:
    """Codes come with the events, any number of them, however their batches are closed."""
    for limits in (BatchLimits(max_events=1), BatchLimits(max_events=2, linger=0.1)):
        world = World(batch=limits)
        world.assign(0)
        world.produce(*(event(str(n), test_event_code=f"T{n}") for n in range(50)))
        world.run(1.0)
        world.produce(event("last", test_event_code="T"))
        world.revoke(0)
        world.run(1.0)
        assert len(world.settled) == 51
        assert not world.delivery.queues[world.destinations[0]].lanes


def test_halves_hold_every_event_once_and_in_order() -> None:
    """Bisection loses nobody, and a part is a new request with no failures yet."""
    items = [item(n) for n in range(5)]
    left, right = Batch(PIXELS[0], "T", items, failures=3).halves()
    assert left.items + right.items == items
    assert (len(left.items), len(right.items)) == (2, 3)
    assert (left.failures, right.test_event_code) == (0, "T")
