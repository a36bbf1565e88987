"""Members that join and leave while there is work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from tests.faults.pace import steady
from tests.faults.scenario import Scenario

if TYPE_CHECKING:
    from tests.faults.member import Member
    from tests.faults.round import Round

_MOST_MEMBERS: Final = 4
_SCALE_RATE: Final = 1_500
"""Events a second while the group grows and shrinks: little enough for one member."""

_MOST_SCALE_EVENTS: Final = 3_000_000
"""The load ends with the growing and shrinking, however long that takes; or here."""


def rebalance(played: Round) -> None:
    """Members join and leave at random moments, some of them in the middle of a rebalance."""
    settings, draw = played.settings, played.draw
    played.produce(settings.events)
    present = played.start(0)
    absent = [played.member(number) for number in range(1, _MOST_MEMBERS)]
    for moment in played.spread(3 if settings.brief else settings.events // 15_000):
        played.until_accepted(moment)
        leaves = len(present) > 1 and (not absent or draw.random() < 0.5)
        here, there = (present, absent) if leaves else (absent, present)
        there.append(one := here.pop(draw.randrange(len(here))))
        if leaves:
            one.leave()
        else:
            one.start()
            if draw.random() < 0.5:
                one.until_owning()
    played.finish()


def scale(played: Round) -> None:
    """From one member to four and back to one, under a steady load: nobody waits for long."""
    settings = played.settings
    times = 1 if settings.brief else 5
    with steady(played, _SCALE_RATE, _MOST_SCALE_EVENTS) as pace:
        members = played.start(0)
        played.until_accepted(_SCALE_RATE)
        for _ in range(times):
            for number in range(1, _MOST_MEMBERS):
                members += played.start(number)
                _settle(played, members)
            while len(members) > 1:
                members.pop().leave()
                _settle(played, members)
        pace.stop()
    played.finish()


def _settle(played: Round, members: list[Member]) -> None:
    """Waits until the partitions are shared, and a moment longer."""
    share = played.settings.partitions // len(members)
    for member in members:
        member.until_owning(share)
    time.sleep(1.0)


SCENARIOS: Final = (
    Scenario("rebalance", rebalance, rounds=6, events=180_000, brief_events=30_000, partitions=8),
    Scenario(
        "scale",
        scale,
        rounds=2,
        events=140_000,  # about so many, as measured
        brief_events=25_000,
        brief_rounds=2,
        partitions=8,
        strict=True,
        longest_pause=5.0,
    ),
)
