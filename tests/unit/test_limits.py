"""Limits hold over every window, and every one of them ends."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.batch import BatchLimits
from consumer.engine import EngineSettings
from consumer.event import Destination, EventSource, Instant
from consumer.hold_gate import GateState
from consumer.limits import Gates, InFlight, RetryPolicy, retry_after_seconds
from consumer.token_bucket import BURST_SECONDS
from consumer.verdict import Answer
from tests.support.world import OTHER_PIXEL, PIXEL, TIMEOUT, World, code, event, ok

if TYPE_CHECKING:
    from consumer.requests import Request

THIRD_PIXEL = "C9THIRD4567890DEFGHIJ"
PIXELS = tuple(Destination(EventSource.WEB, i) for i in (PIXEL, OTHER_PIXEL, THIRD_PIXEL))
EPOCH = Instant(0.0, 0)


# Rate


def test_the_ceiling_holds_for_requests_with_their_retries() -> None:
    """Ten requests a second: a destination whose every answer is an error sees no more."""
    times: list[float] = []

    def answer(_request: Request) -> Answer:
        times.append(world.clock.mono)
        return TIMEOUT

    world = World(
        answer=answer,
        requests_per_second=10.0,
        batch=BatchLimits(max_events=1),
        retry=RetryPolicy(initial=0.01, maximum=0.02),
        max_concurrency=1000,
    )
    world.assign(0)
    world.produce(*(event(str(n)) for n in range(50)))
    world.run(20.0)
    assert len(times) > 100
    assert all(times[n + 10] - times[n] >= 0.98 for n in range(len(times) - 10))


# Concurrency


@given(st.integers(1, 6), st.lists(st.booleans(), max_size=60))
def test_concurrency_is_never_exceeded(most: int, answers: list[bool]) -> None:
    """Retries wait for a place like everybody else."""
    world = World(
        answer=lambda _request: None,
        batch=BatchLimits(max_events=1),
        max_concurrency=most,
        retry=RetryPolicy(initial=0.001, maximum=0.001),
    )
    world.assign(0)
    world.produce(*(event(str(n)) for n in range(12)))
    gates = world.delivery.queues[world.destinations[0]].gates
    for good in answers:
        assert len(world.in_air) <= most
        assert gates.in_flight == len(world.in_air)
        if world.in_air:
            world.reply(ok() if good else TIMEOUT)
        world.run(0.01)
    for _ in range(60):
        assert len(world.in_air) <= most
        if world.in_air:
            world.reply(ok())
        world.run(0.1)
    assert len(world.settled) == 12


# Hold


def test_a_held_destination_gets_one_probe_at_a_time() -> None:
    """After a refusal everything waits; then one request goes, and its success opens the gate."""
    world = World(answer=lambda _request: None, batch=BatchLimits(max_events=1))
    world.assign(0)
    world.produce(*(event(str(n)) for n in range(20)))
    assert len(world.in_air) == 4
    while world.in_air:
        world.reply(code(40101, "token"))
    hold = world.delivery.queues[world.destinations[0]].gates.hold
    assert (hold.state, hold.failures) == (GateState.HELD, 1)
    for failures in (2, 3):
        world.run(120.0)
        assert len(world.in_air) == 1, "one probe, however long it takes"
        world.reply(code(40101, "token"))
        assert hold.failures == failures
    world.run(120.0)
    world.reply(ok())
    assert hold.state is GateState.OPEN
    assert len(world.in_air) == 4
    while world.in_air:
        world.reply(ok())
        world.run(0.01)
    assert len(world.settled) == 20


def test_a_probe_that_times_out_is_followed_by_another() -> None:
    """No answer is no permission, and no end either."""
    world = World(answer=lambda _request: None, batch=BatchLimits(max_events=1))
    world.assign(0)
    world.produce(event("a"), event("b"))
    world.reply(code(40100))
    world.reply(code(40100))
    world.run(61.0)
    world.reply(TIMEOUT)
    world.run(61.0)
    assert len(world.in_air) == 1
    world.reply(ok())
    world.run(61.0)
    world.reply(ok())
    assert len(world.settled) == 2


def test_every_gate_has_to_be_open() -> None:
    """Concurrency, hold and rate: the latest of them decides."""
    gates = Gates(1.0, 2)
    assert gates.ready_at(0.0) == 0.0
    gates.start(0.0)
    assert gates.ready_at(0.0) == pytest.approx(0.99)
    gates.hold.close(GateState.THROTTLED, "x", 5.0, now=0.0, started=-1.0)
    assert gates.ready_at(0.0) == 5.0
    gates.hold.open(started=1.0)
    assert gates.ready_at(50.0) == 50.0
    gates.start(50.0)
    assert gates.ready_at(100.0) == math.inf
    gates.finish(0.0)
    assert gates.ready_at(102.0) == 102.0


# Who is slowed by whom


def one_event_for_each(world: World, name: str) -> None:
    """An event for every pixel."""
    world.produce(*(event(name, event_source_id=p.event_source_id) for p in PIXELS))


@pytest.mark.parametrize(
    ("refusal", "slowed"),
    [
        pytest.param(code(40100), {PIXEL, OTHER_PIXEL}, id="app throttle"),
        pytest.param(Answer(429, b"busy"), {PIXEL, OTHER_PIXEL}, id="HTTP 429"),
        pytest.param(code(40132), {PIXEL}, id="pixel throttle"),
        pytest.param(code(40101), {PIXEL, OTHER_PIXEL}, id="token"),
        pytest.param(code(40001), {PIXEL}, id="no permission for the pixel"),
    ],
)
def test_a_refusal_slows_those_it_concerns_and_no_others(refusal: Answer, slowed: set[str]) -> None:
    """What is about the app or token slows all that share the token; a pixel's own, that pixel."""
    told: list[str] = []

    def answer(request: Request) -> Answer:
        told.append(request.event_source_id)
        return refusal if request.event_source_id == PIXEL and len(told) == 1 else ok()

    world = World(
        answer=answer,
        destinations=PIXELS,
        token_groups={PIXEL: 1, OTHER_PIXEL: 1, THIRD_PIXEL: 2},
        retry=RetryPolicy(initial=40.0, maximum=40.0),
    )
    world.assign(0)
    world.produce(event("first", event_source_id=PIXEL))
    world.run(0.25)
    one_event_for_each(world, "second")
    world.run(0.3)
    states = {d.event_source_id: q.gates.hold.state for d, q in world.delivery.queues.items()}
    assert {pixel for pixel, state in states.items() if state is not GateState.OPEN} == slowed
    assert set(told[1:]) == {p.event_source_id for p in PIXELS} - slowed
    world.run(120.0)
    assert len(world.settled) == 4
    assert all(q.gates.hold.state is GateState.OPEN for q in world.delivery.queues.values())


def test_a_held_destination_does_not_slow_others() -> None:
    """While one pixel is held for an hour, the other's events settle at once."""

    def answer(request: Request) -> Answer:
        return code(40001) if request.event_source_id == PIXEL else ok()

    world = World(answer=answer, destinations=PIXELS)
    world.assign(0)
    for n in range(60):
        one_event_for_each(world, str(n))
        world.run(1.0)
    delivered = [item.event_source_id for item in world.settled]
    assert delivered.count(OTHER_PIXEL) == delivered.count(THIRD_PIXEL) == 60
    assert PIXEL not in delivered


# Retry-After and back-off


@pytest.mark.parametrize("asked", ["30", "date"])
def test_retry_after_is_honoured_in_both_forms(asked: str) -> None:
    """Seconds or an HTTP date, as RFC 9110 has them."""
    world = World(answer=lambda _request: None)
    world.assign(0)
    world.produce(event())
    world.run(1.0)
    if asked == "date":
        then = datetime.fromtimestamp(world.clock.wall_ms / 1000 + 30, UTC)
        asked = format_datetime(then, usegmt=True)
    world.reply(Answer(429, b"", asked))
    world.run(28.9)
    assert not world.in_air
    world.run(1.2)
    assert len(world.in_air) == 1


@given(
    st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{1,4} .{0,20}")
)
def test_no_retry_after_header_does_harm(header: str) -> None:
    """Whatever stands there: nothing usable, or a pause within an hour."""
    seconds = retry_after_seconds(header, EPOCH)
    assert seconds is None or 0.0 <= seconds <= 3600.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("9" * 400, 3600.0),
        ("Thu, 01 Jan 1970 00:00:07 GMT", 7.0),
        ("Wed, 31 Dec 1969 23:59:00 GMT", 0.0),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_rfc_9110_says(header: str | None, seconds: float | None) -> None:
    """Whole seconds or a date; the past is now, and more than an hour is an hour."""
    assert retry_after_seconds(header, EPOCH) == seconds


@given(st.integers(1, 10_000), st.integers(0, 2**32))
def test_back_off_has_full_jitter_and_a_cap(failures: int, seed: int) -> None:
    """Any pause up to the exponential ceiling; never an overflow."""
    policy = RetryPolicy(initial=0.5, maximum=60.0)
    pause = policy.pause(failures, random.Random(seed))
    assert 0.0 <= pause <= min(60.0, 0.5 * 2 ** min(failures - 1, 20))


# In flight


@given(
    st.integers(1, 50),
    st.integers(1, 500),
    st.lists(st.tuples(st.integers(1, 10), st.integers(0, 100)), max_size=40),
)
def test_full_at_the_bounds_and_open_again_at_half(
    max_events: int, max_bytes: int, chunks: list[tuple[int, int]]
) -> None:
    """Taken up to the bounds and one chunk, given back one by one."""
    flight = InFlight(max_events, max_bytes)
    inside: list[tuple[int, int]] = []
    for chunk in chunks:
        if flight.full:
            flight.remove(*inside.pop())
            half = flight.events * 2 <= max_events and flight.bytes * 2 <= max_bytes
            assert flight.full is not half
        else:
            flight.add(*chunk)
            inside.append(chunk)
            assert flight.full is (flight.events >= max_events or flight.bytes >= max_bytes)
    while inside:
        flight.remove(*inside.pop())
    assert (flight.events, flight.bytes, flight.full) == (0, 0, False)


def test_bytes_close_the_flow_as_numbers_do() -> None:
    """A few large records fill the process as well as many small ones."""
    world = World(
        answer=lambda _request: None,
        settings=EngineSettings(max_in_flight_bytes=1000),
        batch=BatchLimits(max_events=1),
    )
    world.assign(0)
    large = event("a", page={"url": "https://s.example/" + "x" * 900})
    world.produce(large)
    world.produce(event("b"))
    assert not world.flowing
    world.reply(ok())
    assert world.flowing


# All at once


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.sampled_from([5.0, 20.0, 100.0]))
def test_no_retry_escapes_a_gate(seed: int, most: int, rate: float) -> None:
    """Whatever is answered in whichever order: every request keeps to rate, concurrency and hold.

    Those that are sent again, those that a split made, and those that back off.
    """
    rng = random.Random(seed)
    world = World(
        answer=lambda _request: None,
        batch=BatchLimits(max_events=rng.randint(1, 5), linger=0.05),
        max_concurrency=most,
        requests_per_second=rate,
        retry=RetryPolicy(initial=0.1, maximum=2.0),
    )
    world.assign(0)
    gates = world.delivery.queues[world.destinations[0]].gates
    answers = (ok(), TIMEOUT, code(50000), code(40100), code(40132), code(40101), code(40002, "?"))
    sent: list[float] = []
    probes = 0
    for number in range(200):
        world.produce(event(str(number)))
        before, shut, until = len(world.requests), not gates.hold.is_open, gates.hold.until
        world.run(rng.choice((0.0, 0.02, 0.3)))
        new = len(world.requests) - before
        sent += [world.clock.mono] * new
        if shut and new:
            probes += new
            assert world.clock.mono >= until
            assert new == 1 or gates.hold.is_open, "one probe at a time"
        assert len(world.in_air) <= most
        while world.in_air and rng.random() < 0.6:
            world.reply(rng.choice(answers), rng.choice(world.in_air))
    burst = 1.0 + rate * BURST_SECONDS
    assert len(sent) <= burst + rate * (sent[-1] - 1000.0) + 1e-6
    assert probes > 0


@pytest.mark.parametrize("header", ["0", "Wed, 21 Oct 2015 07:28:00 GMT", "-5"])
@pytest.mark.parametrize("status", [429, 401])
def test_a_retry_after_that_asks_for_no_pause_leaves_the_back_off(header: str, status: int) -> None:
    """Nothing, or a time that is over by our clock: a sick destination is not hammered by it."""
    world = World(answer=lambda _request: Answer(status, b"", header))
    world.assign(0)
    world.produce(event("first"))
    world.run(600.0)
    assert 10 <= len(world.requests) <= 60
