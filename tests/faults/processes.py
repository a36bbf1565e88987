"""Processes that end without warning, and processes that stand still."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from consumer.sandbox.faults import Scenario as Weather
from tests.faults.round import SESSION
from tests.faults.scenario import Scenario

if TYPE_CHECKING:
    from tests.faults.round import Round

_LONG: Final = SESSION + 2.5
"""Seconds after which the broker has long given the partitions to another member."""


def kill(played: Round) -> None:
    """SIGKILL at random moments; the same directory and, in half of the rounds, a static name."""
    settings, draw = played.settings, played.draw
    played.produce(settings.events)
    numbers = range(2 if settings.brief else draw.randint(1, 3))
    static = draw.random() < 0.5
    # The consumer protocol lets nobody have the name of a dead member before its session is over.
    barred = SESSION + 1.0 if static and settings.protocol == "consumer" else 0.0
    for number in numbers:
        name = {"group.instance.id": f"static-{number}"} if static else {}
        played.member(number, {"kafka": {"properties": name}})
    played.start(*numbers)
    for moment in played.spread(2 if settings.brief else settings.events // 20_000):
        played.until_accepted(moment)
        victim = played.member(draw.choice(numbers))
        victim.kill()
        time.sleep(barred + draw.random() * draw.choice((0, 1)))
        victim.start()
    played.finish()


def stop(played: Round) -> None:
    """SIGSTOP, mostly for longer than the session lasts, then SIGCONT: one member or all."""
    settings, draw = played.settings, played.draw
    played.produce(settings.events)
    # Slow enough that there is work for the others while one stands still.
    played.emulator.play(Weather(settings.seed, latency_ms=150, latency_jitter_ms=150))
    members = played.start(0, 1, over={"batching": {"max_events": 100}})
    for moment in played.spread(1 if settings.brief else settings.events // 25_000, upto=0.7):
        played.until_accepted(moment)
        long = settings.brief or draw.random() < 0.75
        seconds = _LONG if long else draw.uniform(0.5, SESSION - 1)
        stopped = members if draw.random() < 0.2 else [draw.choice(members)]
        for member in stopped:
            member.stand_still()
        time.sleep(seconds)
        for member in stopped:
            member.go_on()
        for member in stopped:
            member.until_owning()
    played.finish()


SCENARIOS: Final = (
    Scenario("kill", kill, rounds=8, events=200_000, brief_events=30_000),
    Scenario("stop", stop, rounds=8, events=150_000, brief_events=40_000),
)
