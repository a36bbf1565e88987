"""TikTok takes events and does not say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from consumer.sandbox.faults import Fault, FaultKind
from consumer.sandbox.faults import Scenario as Weather
from tests.faults.round import TIMEOUT
from tests.faults.scenario import Scenario

if TYPE_CHECKING:
    from tests.faults.round import Round

_FAULTS: Final = (
    Fault(FaultKind.CLOSE_AFTER, probability=0.02),
    Fault(FaultKind.LATE, seconds=TIMEOUT + 1, probability=0.01),
    Fault(FaultKind.LATE, seconds=120, probability=0.01),
    Fault(FaultKind.HANG, seconds=TIMEOUT + 1, probability=0.01),
    Fault(FaultKind.CLOSE_BEFORE, probability=0.01),
    Fault(FaultKind.PAGE, status=503, probability=0.02),
    Fault(FaultKind.CODE, code=50000, probability=0.02),
    Fault(FaultKind.CODE, code=40100, probability=0.01),
)


def withheld(played: Round) -> None:
    """Answers are lost, late, broken off or a gateway's page; some members die meanwhile."""
    settings, draw = played.settings, played.draw
    played.produce(settings.events)
    played.emulator.play(
        Weather(settings.seed, latency_ms=30, latency_jitter_ms=30, faults=_FAULTS)
    )
    members = played.start(0, 1, over={"batching": {"max_events": 100}})
    for moment in played.spread(1 if settings.brief else settings.events // 50_000):
        played.until_accepted(moment)
        victim = draw.choice(members)
        victim.kill()
        victim.start()
    played.finish()


SCENARIOS: Final = (Scenario("withheld", withheld, rounds=6, events=150_000, brief_events=20_000),)
