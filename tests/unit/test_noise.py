"""Throttles that come at any rate cost their pauses, and next to nothing beside."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.hold_gate import GateState
from consumer.limits import Gates
from consumer.noise import DENSE, MOST, PROOF_SECONDS, Noise
from tests.support.limited_server import LIMITERS, Bucket, Client, unlearning

if TYPE_CHECKING:
    from collections.abc import Iterable

CONFIGURED = 200.0
SEEDS = (1, 2, 3)
NOISES = (0.01, 0.025, 0.05)


def clients(gates: Iterable[Gates], noise: float, retry_after: float | None) -> list[Client]:
    """Clients of a server without a limit to speak of, one for each seed."""
    made = [
        Client(one, Bucket(1000.0, 1.0), seed=seed) for one, seed in zip(gates, SEEDS, strict=True)
    ]
    for client in made:
        client.noise, client.retry_after = noise, retry_after
    return made


def pair(
    ceiling: float, noise: float, retry_after: float | None = None
) -> tuple[list[Client], list[Client]]:
    """Clients that learn, and the same that do not."""
    return (
        clients((Gates(ceiling, 32) for _ in SEEDS), noise, retry_after),
        clients((unlearning(ceiling, 32) for _ in SEEDS), noise, retry_after),
    )


def ratio(learning: list[Client], fixed: list[Client], since: float, until: float) -> float:
    """What those who learn get through, of what the others do."""
    for client in (*learning, *fixed):
        client.run(until)
    accepted = sum(client.accepted(since) for client in learning)
    return accepted / sum(client.accepted(since) for client in fixed)


@pytest.mark.parametrize("ceiling", [5.0, 50.0, 200.0])
@pytest.mark.parametrize("noise", NOISES)
def test_noise_from_the_first_second_costs_little_beside_its_pauses(
    ceiling: float, noise: float
) -> None:
    """Two minutes from the start, learning included."""
    assert ratio(*pair(ceiling, noise), 0.0, 120.0) >= 0.85


@pytest.mark.parametrize("ceiling", [5.0, 50.0, 200.0])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("retry_after", [1.0, 2.0])
def test_noise_that_asks_for_long_pauses_is_learned_in_a_minute(
    ceiling: float, noise: float, retry_after: float
) -> None:
    """It takes about ten throttles to learn, which is longer where each costs a second or two."""
    assert ratio(*pair(ceiling, noise, retry_after), 60.0, 240.0) >= 0.85


@pytest.mark.parametrize("noise", [0.0005, 0.002, 0.025])
def test_noise_costs_little_in_the_long_run(noise: float) -> None:
    """Ten minutes, also where it is so seldom that it is hardly known."""
    assert ratio(*pair(CONFIGURED, noise), 0.0, 600.0) >= 0.95


def test_much_noise_at_a_high_rate_costs_little_in_the_long_run() -> None:
    """Where one in twenty is throttled, chance alone asks for a cut now and then; it recovers."""
    learning, fixed = pair(CONFIGURED, 0.05)
    assert ratio(learning, fixed, 0.0, 600.0) >= 0.85
    for one, other in zip(learning, fixed, strict=True):
        assert one.accepted(0.0) >= 0.75 * other.accepted(0.0)


@pytest.mark.parametrize("noise", NOISES)
def test_noise_that_comes_while_there_is_little_to_send_costs_little_later(noise: float) -> None:
    """A quiet minute with some throttles, then a busy one and another."""
    learning, fixed = pair(CONFIGURED, noise)
    for client in (*learning, *fixed):
        client.demand = 5.0
        client.run(60.0)
        client.demand = math.inf
    assert ratio(learning, fixed, 60.0, 180.0) >= 0.85


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("slower", [0.4, 1.0])
def test_places_are_not_lost_to_noise(noise: float, slower: float) -> None:
    """With a rate that never decides, it is the places that do: they are there, too."""
    learning, fixed = pair(2000.0, noise)
    for client in (*learning, *fixed):
        client.limiter, client.slower = Bucket(1e6, 1.0), slower
    assert ratio(learning, fixed, 0.0, 120.0) >= 0.85


@pytest.mark.parametrize("limiter", LIMITERS)
@pytest.mark.parametrize(
    ("rate", "noise", "more"),
    [(20.0, 0.01, 0.05), (20.0, 0.025, 0.06), (60.0, 0.01, 0.03), (60.0, 0.025, 0.03)],
)
def test_a_hidden_limit_is_found_in_noise(
    limiter: str, rate: float, noise: float, more: float
) -> None:
    """Four fifths of what one uses who knows the limit, and pauses as often; few more throttles.

    No more than that is there to be used: at sixty a second and a throttle in forty, a third of
    the time goes by in pauses. At twenty a second, it takes longer to tell the two from each other.
    """
    accepted = known = throttled = heard = 0.0
    for seed in SEEDS:
        client = Client(Gates(CONFIGURED, 32), LIMITERS[limiter](rate), seed=seed)
        knowing = Client(unlearning(rate * 0.95, 32), LIMITERS[limiter](rate), seed=seed)
        for one in (client, knowing):
            one.noise = noise
            one.run(240.0)
        accepted += client.accepted(40.0)
        known += knowing.accepted(40.0)
        answers = [answer.throttled for answer in client.heard if answer.at >= 40.0]
        throttled, heard = throttled + sum(answers), heard + len(answers)
    assert accepted >= 0.8 * known
    assert throttled / heard <= noise + more


def test_a_limit_that_comes_into_noise_is_found() -> None:
    """Within forty seconds, though throttles are nothing new."""
    client = Client(Gates(CONFIGURED, 32), Bucket(1000.0, 1.0))
    client.noise = 0.025
    client.run(120.0)
    client.limiter = Bucket(30.0, 1.0)
    client.run(300.0)
    assert client.used(160.0, 30.0) >= 0.8
    assert client.throttled(160.0) <= 0.055


def test_noise_that_ends_is_forgotten() -> None:
    """At the ceiling after a minute without a throttle, with all that was learned."""
    client = Client(Gates(CONFIGURED, 32), Bucket(1000.0, 1.0))
    client.noise = 0.025
    client.run(120.0)
    client.noise = 0.0
    client.run(260.0)
    assert client.gates.rate.learned is None
    assert client.gates.concurrency.limit == 32


@pytest.mark.parametrize("limit", [1.0, 5.0])
def test_a_limit_far_below_is_learned_and_its_end_found_within_two_minutes(limit: float) -> None:
    """One request a second behind two hundred; then there is no limit any more."""
    client = Client(Gates(CONFIGURED, 32), Bucket(limit, 1.0))
    client.run(400.0)
    assert client.used(60.0, limit) >= 0.85
    client.limiter = Bucket(1000.0, 1.0)
    client.run(520.0)
    assert client.gates.rate.current == CONFIGURED


def test_stray_throttles_leave_the_retry_budget_alone() -> None:
    """They are no failures: ten minutes of one in twenty, and none of the reserve is spent."""
    client = Client(Gates(CONFIGURED, 32), Bucket(1000.0, 1.0))
    client.noise = 0.05
    client.run(600.0)
    budget = client.gates.budget
    for _ in range(9):
        budget.failed()
    assert not budget.spent


def test_anothers_throttle_shuts_the_gate_and_leaves_the_rate() -> None:
    """With the same token, a limit of the app is met by whoever takes most of it."""
    gates = Gates(CONFIGURED, 32)
    for number in range(200):
        now = number * 1.0
        gates.refused(GateState.THROTTLED, "app", 0.5, now, now - 0.1, own=False)
        assert gates.ready_at(now) > now
        gates.accepted(now + 0.9, now + 0.7)
    assert gates.rate.learned is None
    assert gates.concurrency.limit == 32


# What is noise


def test_the_first_throttle_is_believed_while_nothing_is_proved() -> None:
    """It may be the limit."""
    assert Noise().struck(50.0, dip=False)


def test_a_throttle_below_what_was_taken_is_not_believed() -> None:
    """Forty requests in four seconds prove a limit of eight a second at least."""
    noise = Noise()
    for number in range(41):
        noise.passed(number * 0.1, 10.0, dip=False)
    assert noise.proved == pytest.approx(41 / 5)
    assert not noise.struck(8.0, dip=False)
    assert noise.struck(8.5, dip=False), "that was never shown"


def test_many_throttles_below_what_was_taken_are_believed() -> None:
    """The limit was lowered, and nothing is proved any more."""
    noise = Noise()
    for number in range(200):
        noise.passed(number * 0.1, 10.0, dip=False)
    believed = [noise.struck(5.0, dip=False) for _ in range(int(MOST) + 1)]
    assert believed == [False] * int(MOST) + [True]
    assert noise.proved == 0.0


def test_what_was_proved_fades() -> None:
    """Limits change: what was taken an hour ago proves little."""
    noise = Noise()
    for number in range(600):
        noise.passed(number * 0.1, 10.0, dip=False)
    for number in range(60):
        noise.passed(60.0 + (number + 1) * (PROOF_SECONDS + 1), 1.0, dip=False)
    assert noise.proved < 1.5


@given(
    st.lists(
        st.tuples(st.booleans(), st.floats(0.0, 40.0), st.floats(0.01, 300.0), st.booleans()),
        max_size=100,
    )
)
def test_a_limit_is_always_believed_in_the_end(
    steps: list[tuple[bool, float, float, bool]],
) -> None:
    """Whatever came before: no noise explains nothing but throttles, nor twice what is dense."""
    noise, now = Noise(), 0.0
    for accepted, seconds, rate, dip in steps:
        now += seconds
        if accepted:
            noise.passed(now, rate, dip=dip)
        else:
            noise.struck(rate, dip=dip)
    assert [noise.struck(10.0, dip=True) for _ in range(int(MOST) + 1)][-1]
    believed = 0
    for number in range(200):
        now += 1.0
        if number % round(0.5 / DENSE) == 0:
            believed += noise.struck(10.0, dip=True)
        else:
            noise.passed(now, 10.0, dip=True)
    assert believed
