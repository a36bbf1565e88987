"""Failures are paid for: a sick destination is left in peace, a healthy one hardly notices."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.batch import BatchLimits
from consumer.hold_gate import GateState
from consumer.limits import RetryPolicy
from consumer.retry_budget import LENT, RESERVE, SHARE, RetryBudget
from consumer.verdict import Answer
from tests.support.world import PIXEL, TIMEOUT, World, code, event, ok

RESET = Answer(None, b"", None, "connection")
PAGE = Answer(502, b"<html>")


@given(st.lists(st.sampled_from(["accepted", "failed", "opened"]), max_size=300))
def test_failures_are_at_most_a_share_and_the_reserve_and_what_was_lent(steps: list[str]) -> None:
    """Over any time: with each step counted while the budget is not spent."""
    budget, accepted, failed, lent = RetryBudget(), 0, 0, 0.0
    for step in steps:
        if step == "accepted":
            budget.accepted()
            accepted += 1
        elif step == "opened":
            budget.opened()
            lent += LENT
        elif not budget.spent:
            budget.failed()
            failed += 1
    assert failed <= RESERVE + accepted * SHARE + lent + 1e-6


def test_one_failure_in_ten_never_closes_a_gate() -> None:
    """The reserve and what acceptances earn outlast any day of ordinary trouble."""
    budget, rng = RetryBudget(), random.Random(7)
    for _ in range(100_000):
        budget.failed() if rng.random() < 0.1 else budget.accepted()
        assert not budget.spent


@pytest.mark.parametrize("failure", [TIMEOUT, RESET, PAGE, code(50000)])
def test_a_destination_that_only_fails_is_left_with_one_probe_at_a_time(failure: Answer) -> None:
    """In ten minutes it sees the reserve and some probes, not every batch again and again."""
    world = World(
        answer=lambda _request: failure, batch=BatchLimits(max_events=1), max_concurrency=32
    )
    world.assign(0)
    for number in range(200):
        world.produce(event(str(number)))
        world.run(3.0)
    hold = world.delivery.queues[world.destinations[0]].gates.hold
    assert hold.state is GateState.THROTTLED
    assert hold.reason is not None
    assert hold.reason.startswith(("timeout", "connection", "http_502", "50000"))
    assert RESERVE <= len(world.requests) < RESERVE + 60
    world.answer = lambda _request: ok()
    world.run(200.0)
    assert len(world.settled) == 200
    assert {item.outcome for item in world.settled} == {"delivered"}


def test_one_batch_that_always_fails_does_not_close_its_destination() -> None:
    """One bad thing stays one bad thing: the others are accepted meanwhile, and pay for it."""

    def answer(request: object) -> Answer:
        return code(50000) if b"poison" in b"".join(request.events) else ok()  # type: ignore[attr-defined]  # a Request

    world = World(answer=answer, batch=BatchLimits(max_events=1))
    world.assign(0)
    world.produce(event("poison"))
    for number in range(600):
        world.produce(event(str(number)))
        world.run(1.0)
        assert world.delivery.queues[world.destinations[0]].gates.hold.is_open
    assert len(world.settled) == 600


def test_what_backs_off_goes_on_with_an_opened_gate() -> None:
    """After an outage nobody waits for the rest of a minute that was drawn during it."""
    world = World(
        answer=lambda _request: TIMEOUT,
        batch=BatchLimits(max_events=1),
        retry=RetryPolicy(initial=0.5, maximum=600.0),
        max_concurrency=32,
    )
    world.assign(0)
    world.produce(*(event(str(number)) for number in range(30)))
    world.run(1800.0)
    world.answer = lambda _request: ok()
    while not world.settled:
        world.run(1.0)
    world.run(2.0)
    assert len(world.settled) == 30


@pytest.mark.parametrize("answer", [code(60001), Answer(503, b"", "90")])
def test_a_pause_that_is_asked_for_is_all_requests_pause(answer: Answer) -> None:
    """Maintenance, and `Retry-After` with any failure: not only that batch stays away."""
    answers = [answer]
    world = World(answer=lambda _request: answers.pop() if answers else ok())
    world.assign(0)
    world.produce(event("first"))
    world.run(1.0)
    world.produce(event("second", event_source_id=PIXEL))
    world.run(58.0)
    assert len(world.requests) == 1
    world.run(60.0)
    assert len(world.settled) == 2
