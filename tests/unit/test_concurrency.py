"""How many requests are at once follows how the answers come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.concurrency import LEAST_SHARE, USUAL_SECONDS, Concurrency


def play(limit: Concurrency, seconds: float, latency: float, *, now: float = 0.0) -> float:
    """A destination under load: all places are taken, and every answer takes so long."""
    ends = now + seconds
    while now < ends:
        for _ in range(limit.limit):
            limit.started(limit.limit)
        now += latency
        for _ in range(limit.limit):
            limit.answered(latency, now)
    return now


def test_it_begins_at_what_is_configured_and_stays_there() -> None:
    """A destination that answers as ever has all of its places."""
    limit = Concurrency(32)
    play(limit, 60.0, 0.17)
    assert limit.limit == 32


def test_a_throttle_takes_places_and_use_gives_them_back() -> None:
    """Those in the air together are one throttle; then one more with each round."""
    limit = Concurrency(32)
    now = play(limit, 5.0, 0.17)
    for _ in range(20):
        limit.refused(now, now - 0.1)
    assert limit.limit == 22
    limit.refused(now + 1.0, now + 0.5)
    assert limit.limit == 15
    play(limit, 10.0, 0.17, now=now + 1.0)
    assert limit.limit == 32


def test_places_that_nobody_needs_are_not_added() -> None:
    """Additive increase only where the limit was reached."""
    limit = Concurrency(32)
    limit.refused(1.0, 0.0)
    for number in range(1000):
        limit.started(3)
        limit.answered(0.17, 1.0 + number)
    assert limit.limit == 22


def test_slow_answers_take_places_and_fast_ones_give_them_back() -> None:
    """Ten times as slow: an eighth of the places is left; all of them are back soon after."""
    limit = Concurrency(32)
    now = play(limit, 30.0, 0.17)
    now = play(limit, 20.0, 1.7, now=now)
    assert limit.limit == 32 * LEAST_SHARE
    play(limit, 30.0, 0.17, now=now)
    assert limit.limit == 32


def test_what_is_slow_for_minutes_is_usual() -> None:
    """A destination that has become slower for good gets its places back."""
    limit = Concurrency(32)
    now = play(limit, 30.0, 0.17)
    now = play(limit, 20.0, 1.7, now=now)
    assert limit.limit < 32
    play(limit, 5 * USUAL_SECONDS, 1.7, now=now)
    assert limit.limit == 32


def test_what_stays_slow_with_few_in_the_air_is_usual_at_once() -> None:
    """Then it is not our doing: the places are back within seconds, not minutes."""
    limit = Concurrency(32)
    now = play(limit, 30.0, 0.1)
    now = play(limit, 3.0, 0.4, now=now)
    assert limit.limit <= 32 * LEAST_SHARE + 1
    play(limit, 20.0, 0.4, now=now)
    assert limit.limit == 32


def test_answers_that_vary_as_usual_take_nothing() -> None:
    """120 to 230 ms is what TikTok takes."""
    limit = Concurrency(8)
    for number in range(5000):
        limit.started(8)
        limit.answered((0.12, 0.23, 0.15)[number % 3], number * 0.02)
        assert limit.limit == 8


@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.sampled_from(["slow", "fast", "refused"]), st.floats(0.0, 9.0))),
)
def test_there_is_always_a_place_and_never_more_than_configured(
    most: int, steps: list[tuple[str, float]]
) -> None:
    """Whatever comes."""
    limit, now = Concurrency(most), 0.0
    for step, seconds in steps:
        now += seconds
        if step == "refused":
            limit.refused(now, now)
        else:
            limit.started(limit.limit)
            limit.answered(10.0 if step == "slow" else 0.1, now)
        assert 1 <= limit.limit <= most
