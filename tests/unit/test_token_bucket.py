"""A rate holds over every window, and whoever waits for it is woken in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.token_bucket import BURST_SECONDS, TokenBucket


@given(
    rate=st.floats(0.1, 2000.0),
    start=st.floats(0.0, 1e7),
    idle=st.lists(st.floats(0.0, 5.0), max_size=40),
)
def test_the_rate_is_never_exceeded_over_any_window(
    rate: float, start: float, idle: list[float]
) -> None:
    """In any window, at most the rate's worth and one burst go."""
    bucket, now = TokenBucket(rate), start
    gone: list[float] = []
    for pause in idle:
        now += pause
        while bucket.ready_at(now) <= now and len(gone) < 400:
            bucket.take()
            gone.append(now)
        now = max(now, bucket.ready_at(now))
    burst = 1.0 + rate * BURST_SECONDS
    for first, begin in enumerate(gone):
        for last in range(first, len(gone)):
            # 1e-6: clocks far from zero are that coarse.
            assert last - first + 1 <= burst + rate * (gone[last] - begin + 1e-6) + 1e-6


@given(rate=st.floats(0.1, 2000.0), start=st.floats(0.0, 1e7))
def test_waking_when_the_bucket_said_finds_a_place_soon(rate: float, start: float) -> None:
    """`ready_at` is a time at which to come again: three wake-ups at most, never a spin."""
    bucket, now = TokenBucket(rate), start
    while bucket.ready_at(now) <= now:
        bucket.take()
    for _ in range(3):
        now = bucket.ready_at(now)
        if bucket.ready_at(now) <= now:
            break
    else:
        pytest.fail("woken again and again")


@given(
    rates=st.lists(st.floats(0.1, 500.0), min_size=1, max_size=20),
    start=st.floats(0.0, 1e7),
)
def test_a_rate_that_changes_is_in_force_from_then_on(rates: list[float], start: float) -> None:
    """What was saved up at a higher rate is not spent at a lower one."""
    bucket, now = TokenBucket(1000.0), start
    for rate in rates:
        bucket.change(rate, now)
        gone, ends = 0, now + 1.0
        while (at := bucket.ready_at(now)) <= ends:
            now = max(now, at)
            if bucket.ready_at(now) <= now:
                bucket.take()
                gone += 1
        now = ends
        assert gone <= 1.0 + rate * (BURST_SECONDS + 1.0) + 1e-3


def test_a_wake_up_that_comes_late_costs_no_place() -> None:
    """A loop that is ten milliseconds late each time still reaches its rate."""
    bucket, now, gone = TokenBucket(20.0), 0.0, 0
    while now < 60.0:
        while bucket.ready_at(now) <= now:
            bucket.take()
            gone += 1
        now = bucket.ready_at(now) + 0.009
    assert gone >= 0.99 * 20 * 60
