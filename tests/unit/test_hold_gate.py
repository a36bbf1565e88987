"""A shut destination gets one probe at a time, and only a later success opens it."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from consumer.hold_gate import GateState, HoldGate


def test_an_answer_from_before_the_hold_does_not_open_it() -> None:
    """Requests that were in the air together count as one refusal, and prove nothing later."""
    gate = HoldGate()
    gate.close(GateState.HELD, "401", 10.0, now=100.0, started=99.0)
    gate.open(started=99.5)
    gate.open(started=100.0)
    assert gate.state is GateState.HELD
    gate.close(GateState.HELD, "401", 5.0, now=100.5, started=99.5)
    gate.close(GateState.HELD, "401", 5.0, now=100.6, started=100.0)
    assert (gate.failures, gate.until) == (1, 110.0)
    gate.close(GateState.HELD, "401", 30.0, now=101.0, started=99.5)
    assert gate.until == 131.0, "an older request may ask for a longer pause"
    assert gate.ready_at(130.0) == 131.0
    gate.starts(131.0)
    assert gate.ready_at(132.0) == math.inf
    gate.open(started=131.0)
    assert gate.ready_at(132.0) == 132.0
    assert (gate.failures, gate.reason) == (0, None)


def test_a_throttle_does_not_hide_that_a_destination_is_held() -> None:
    """The reason that needs somebody's hand stays visible."""
    gate = HoldGate()
    gate.close(GateState.HELD, "40101", 10.0, now=1.0, started=0.5)
    gate.close(GateState.THROTTLED, "40100", 10.0, now=20.0, started=15.0)
    assert (gate.state, gate.reason, gate.until) == (GateState.HELD, "40101", 30.0)
    throttled = HoldGate()
    throttled.close(GateState.THROTTLED, "40100", 10.0, now=1.0, started=0.5)
    throttled.close(GateState.HELD, "40101", 10.0, now=20.0, started=15.0)
    assert (throttled.state, throttled.reason) == (GateState.HELD, "40101")


def test_a_neighbours_refusal_lets_no_second_probe_go() -> None:
    """Two destinations share a token: what one hears must not free the place of the other's probe.

    The probe's own end does, whatever came of it.
    """
    gate = HoldGate()
    gate.close(GateState.HELD, "token", 1.0, now=10.0, started=9.0)
    gate.starts(11.0)
    gate.close(GateState.HELD, "token", 1.0, now=11.2, started=11.1)
    assert gate.ready_at(100.0) == math.inf
    gate.ended(11.1)
    assert gate.ready_at(100.0) == math.inf, "that was another's"
    gate.ended(11.0)
    assert gate.ready_at(100.0) == 100.0


def test_a_new_token_lets_a_probe_go_at_once() -> None:
    """One, not all: it may be as wrong as the old one. What the old one brings means nothing."""
    gate = HoldGate()
    gate.close(GateState.HELD, "token", 60.0, now=10.0, started=9.0)
    gate.starts(70.0)
    gate.renew(71.0)
    assert gate.state is GateState.HELD
    assert gate.ready_at(71.5) == 71.5
    gate.starts(71.5)
    assert gate.ready_at(80.0) == math.inf
    gate.ended(70.0)
    gate.close(GateState.HELD, "token", 60.0, now=72.0, started=70.0)
    assert (gate.failures, gate.until) == (0, 71.0), "refused with the token of before"
    gate.ended(71.5)
    gate.open(started=71.5)
    assert gate.state is GateState.OPEN


def test_a_new_token_means_nothing_to_an_open_gate() -> None:
    """There is nothing to try."""
    gate = HoldGate()
    gate.renew(5.0)
    gate.close(GateState.HELD, "token", 1.0, now=6.0, started=4.0)
    assert gate.state is GateState.HELD


def test_probes_in_vain_count_for_the_back_off() -> None:
    """Each one makes the next pause longer, whoever's events it took."""
    gate = HoldGate()
    gate.close(GateState.THROTTLED, "timeout", 1.0, now=10.0, started=9.0)
    for number in (2, 3, 4):
        assert gate.next_failure(20.0 * number) == number
        gate.starts(20.0 * number)
        gate.ended(20.0 * number)
        gate.probe_failed(1.0, now=20.0 * number + 5, started=20.0 * number)
        assert gate.failures == number
        assert gate.until == 20.0 * number + 6


class Destination:
    """A gate, and the requests that went through it."""

    def __init__(self) -> None:
        self.gate = HoldGate()
        self.air: list[float] = []
        self.probes: set[float] = set()

    def go(self, now: float) -> None:
        """A request, if one may go."""
        if self.gate.ready_at(now) > now:
            return
        if not self.gate.is_open:
            assert not self.probes.intersection(self.air), "a second probe"
            self.probes.add(now)
        self.gate.starts(now)
        self.air.append(now)

    def hear(self, step: str, now: float) -> None:
        """The oldest request ends."""
        if not self.air:
            return
        started = self.air.pop(0)
        self.gate.ended(started)
        if step == "refused":
            self.gate.close(GateState.HELD, "token", 1.0, now, started)
        elif step == "let in":
            self.gate.open(started)
        else:
            self.gate.probe_failed(1.0, now, started)

    def renew(self, now: float) -> None:
        """Another token is there: what was sent with the old one is no probe of it."""
        self.probes.clear()
        self.gate.renew(now)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["go", "refused", "let in", "failed", "neighbour", "renewed"]),
            st.floats(0.01, 5.0),
        ),
        max_size=60,
    )
)
def test_there_is_never_more_than_one_probe_of_a_token(steps: list[tuple[str, float]]) -> None:
    """Whatever comes in which order, and every gate lets something go again."""
    destination, now = Destination(), 0.0
    for step, seconds in steps:
        now += seconds
        if step == "go":
            destination.go(now)
        elif step == "neighbour":
            destination.gate.close(GateState.HELD, "token", 1.0, now, now - 0.005)
        elif step == "renewed":
            destination.renew(now)
        else:
            destination.hear(step, now)
    for started in destination.air:
        destination.gate.ended(started)
    assert destination.gate.ready_at(now + 100.0) < math.inf
