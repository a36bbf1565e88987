"""A hidden limit is found and used, and a throttle that means nothing costs next to nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.learned_rate import FORGET_SECONDS, LearnedRate
from consumer.limits import Gates
from tests.support.limited_server import LIMITERS, Bucket, Client

CONFIGURED = 200.0


@pytest.mark.parametrize("limiter", LIMITERS)
@pytest.mark.parametrize("retry_after", [None, 1.0, 2.0])
@pytest.mark.parametrize("rate", [5.0, 20.0, 100.0])
def test_a_hidden_limit_is_used_and_hardly_ever_exceeded(
    limiter: str, retry_after: float | None, rate: float
) -> None:
    """After twenty seconds nine tenths of it are used, and two answers of a hundred are throttles.

    However the other side counts, and whatever may come at once.
    """
    client = Client(Gates(CONFIGURED, 32), LIMITERS[limiter](rate))
    client.retry_after = retry_after
    client.run(110.0)
    assert client.used(20.0, rate) >= 0.9
    assert client.throttled(20.0) <= 0.02


@pytest.mark.parametrize("retry_after", [None, 2.0])
@pytest.mark.parametrize("part", [0.85, 0.93, 0.97])
@pytest.mark.parametrize("limiter", LIMITERS)
def test_a_limit_just_below_the_ceiling_is_found(
    limiter: str, part: float, retry_after: float | None
) -> None:
    """It throttles few, but each costs a pause: unlearned, a third of it would be used."""
    client = Client(Gates(50.0, 32), LIMITERS[limiter](50.0 * part))
    client.retry_after = retry_after
    client.run(240.0)
    assert client.used(60.0, 50.0 * part) >= 0.85
    assert client.throttled(60.0) <= 0.02


@pytest.mark.parametrize("retry_after", [None, 1.0, 2.0])
def test_a_limit_that_lets_no_two_come_together_is_used_for_the_most_part(
    retry_after: float | None,
) -> None:
    """The strictest there is: a request that comes a few milliseconds early is a throttle."""
    client = Client(Gates(CONFIGURED, 32), Bucket(10.0, 0.1))
    client.retry_after = retry_after
    client.run(110.0)
    assert client.used(20.0, 10.0) >= 0.8
    assert client.throttled(20.0) <= 0.02


@pytest.mark.parametrize("limiter", LIMITERS)
def test_two_limits_at_once_are_each_found(limiter: str) -> None:
    """Each destination learns its own."""
    clients = [Client(Gates(CONFIGURED, 32), LIMITERS[limiter](rate)) for rate in (20.0, 60.0)]
    for step in range(1, 81):
        for client in clients:
            client.run(float(step))
    for client, rate in zip(clients, (20.0, 60.0), strict=True):
        assert client.used(20.0, rate) >= 0.9
        assert client.throttled(20.0) <= 0.02


def test_a_destination_that_is_never_throttled_has_what_is_configured() -> None:
    """Nothing is learned, nothing is slowed."""
    client = Client(Gates(50.0, 32), Bucket(1000.0, 1.0))
    client.run(30.0)
    assert client.gates.rate.learned is None
    assert client.used(0.0, 50.0) >= 0.98


@pytest.mark.parametrize("demand", [5.0, 40.0, math.inf])
def test_a_stray_throttle_costs_next_to_nothing(demand: float) -> None:
    """One 429 out of the blue: within the next half minute nine tenths of the usual went out."""
    client = Client(Gates(50.0, 32), Bucket(1000.0, 1.0))
    client.demand = demand
    client.run(30.0)
    client.throttle()
    client.run(60.0)
    assert client.used(30.0, min(demand, 50.0)) >= 0.9
    client.run(30.0 + 3 * FORGET_SECONDS)
    assert client.gates.rate.current == 50.0


def test_a_limit_that_was_raised_is_found() -> None:
    """In two minutes, without being told."""
    client = Client(Gates(CONFIGURED, 32), Bucket(20.0, 1.0))
    client.run(100.0)
    client.limiter = Bucket(80.0, 1.0)
    client.run(220.0)
    since = client.now
    client.run(280.0)
    assert client.used(since, 80.0) >= 0.85


def test_a_limit_that_was_lowered_is_found() -> None:
    """In half a minute."""
    client = Client(Gates(CONFIGURED, 32), Bucket(80.0, 1.0))
    client.run(100.0)
    client.limiter = Bucket(10.0, 1.0)
    client.run(130.0)
    client.run(200.0)
    assert client.used(130.0, 10.0) >= 0.9
    assert client.throttled(130.0) <= 0.02


def test_a_long_pause_is_risked_seldom() -> None:
    """A throttle that costs five seconds: in the long run nine tenths are used all the same."""
    client = Client(Gates(CONFIGURED, 32), Bucket(20.0, 0.1))
    client.retry_after = 5.0
    client.run(600.0)
    assert client.used(120.0, 20.0) >= 0.9


def test_an_hours_pause_does_not_keep_the_rate_down_for_days() -> None:
    """`Retry-After: 3600` on some throttles; once the limit is lifted, all is back in two hours."""
    client = Client(Gates(CONFIGURED, 32), Bucket(10.0, 1.0))
    client.retry_after = 3600.0
    client.run(3 * 3600.0)
    assert client.gates.rate.current < CONFIGURED
    client.limiter = Bucket(1000.0, 1.0)
    client.run(5 * 3600.0)
    assert client.gates.rate.current == CONFIGURED


def test_a_share_that_changes_takes_what_was_learned_along() -> None:
    """Half of the partitions is half of the limit, known or configured."""
    rate = LearnedRate(100.0)
    rate.scale(50.0)
    assert rate.current == 50.0
    rate.throttled(10.0, 9.0, 1.0)
    learned = rate.current
    rate.scale(100.0)
    assert rate.current == pytest.approx(2 * learned)


@settings(max_examples=200)
@given(
    ceiling=st.floats(0.1, 1000.0),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["accepted", "throttled"]), st.floats(0.0, 90.0), st.floats(0.0, 60.0)
        ),
        max_size=80,
    ),
)
def test_the_rate_is_always_above_nothing_and_never_above_the_ceiling(
    ceiling: float, steps: list[tuple[str, float, float]]
) -> None:
    """Whatever comes: a rate of nothing would never learn that it is wrong."""
    rate, now = LearnedRate(ceiling), 0.0
    for step, seconds, pause in steps:
        now += seconds
        if step == "accepted":
            rate.accepted(now, now - 0.1)
        else:
            rate.throttled(now, now - 0.1, pause)
        assert 0.0 < rate.current <= ceiling
        assert rate.current >= min(ceiling, 0.04)
