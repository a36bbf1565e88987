"""The same events once more, after whatever may make a consumer forget: none is accepted again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.faults.evidence import IncidentKind
from tests.faults.scenario import Scenario

if TYPE_CHECKING:
    from tests.faults.round import Round


def again(played: Round) -> None:
    """Everything is produced again after a restart."""
    numbers = _deliver_half(played)
    played.produce_again(numbers)
    played.start(0)
    played.finish()


def wiped(played: Round) -> None:
    """Everything is produced again after a restart whose state directory is empty."""
    numbers = _deliver_half(played)
    played.member(0).wipe()
    played.produce_again(numbers)
    played.start(0)
    played.finish()


def fresh(played: Round) -> None:
    """Everything is produced again for a new member with a directory of its own."""
    numbers = _deliver_half(played)
    played.produce_again(numbers)
    played.start(1)
    played.finish()


def reset(played: Round) -> None:
    """The group's offsets are reset to the beginning; in half of the rounds, the state is wiped."""
    _deliver_half(played)
    played.cluster.kafka.commit(played.group, played.topic, dict.fromkeys(played.load.ends, 0))
    played.note(IncidentKind.RESET)
    if played.draw.random() < 0.5:
        played.member(0).wipe()
    played.start(0)
    played.finish()


def wiped_under_load(played: Round) -> None:
    """SIGKILL, the state directory is wiped, and the next process goes on: several times."""
    settings, draw = played.settings, played.draw
    played.produce(settings.events)
    members = played.start(0, 1)
    for moment in played.spread(1 if settings.brief else settings.events // 25_000):
        played.until_accepted(moment)
        victim = draw.choice(members)
        victim.kill()
        victim.wipe()
        victim.start()
    played.finish()


def _deliver_half(played: Round) -> range:
    """Produces half of the round's events and has them delivered; their numbers."""
    numbers = played.produce(played.settings.events // 2)
    played.start(0)
    played.finish()
    return numbers


SCENARIOS: Final = (
    Scenario("again", again, rounds=2, events=100_000, brief_events=10_000, strict=True),
    Scenario("again-wiped", wiped, rounds=2, events=100_000, brief_events=10_000, strict=True),
    Scenario("again-fresh", fresh, rounds=2, events=100_000, brief_events=10_000, strict=True),
    Scenario("again-reset", reset, rounds=4, events=100_000, brief_events=10_000),
    Scenario("wiped", wiped_under_load, rounds=4, events=150_000, brief_events=20_000),
)
