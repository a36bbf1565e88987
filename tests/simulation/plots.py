"""Plots: faults that follow one another in a way that chance seldom has them."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.schedule import Append, Fault, Kind, Setup, Trouble, Weather

if TYPE_CHECKING:
    import random


class Plot(Enum):
    """Faults that follow one another in a way that chance seldom has them."""

    RETURN = "somebody is cut off with answers in hand, and comes back while TikTok is down"
    THERE_AND_BACK = "a partition goes to another member and comes back while answers are awaited"
    PARKED = "events of which nobody knows are parked, everybody crashes, and they come once more"
    REWOUND = "the group is set back to records whose marks have expired"


class Scene(NamedTuple):
    """What a plot adds to a schedule."""

    troubles: list[Trouble]
    appends: list[Append]


def _return(rng: random.Random, setup: Setup, appends: list[Append]) -> Scene:
    """See `Plot`. The one that is cut off may have been replaced by another of its name."""
    at = rng.choice(appends).at + rng.random()
    away = setup.session_timeout * (1.0 + rng.random()) + setup.takeover_wait
    fault = rng.choice((Fault.CUT, Fault.CUT, Fault.REPLACE))
    one = rng.randrange(12)
    weather = rng.choice((Weather.PAGE, Weather.ERROR, Weather.UNREACHABLE, Weather.HANG))
    down = [
        Trouble(at + 1.0, Fault.TIKTOK, away + 30.0, pixel, 1.0, weather)
        for pixel in range(setup.pixels)
    ]
    slow = Trouble(at - 2.0, Fault.TIKTOK, 3.0, one, 1.0, Weather.SLOW)
    return Scene([slow, Trouble(at, fault, away, one), *down], [])


def _there_and_back(rng: random.Random, setup: Setup, appends: list[Append]) -> Scene:
    """See `Plot`."""
    at = rng.choice(appends).at + rng.random()
    slow = [
        Trouble(at - 1.0, Fault.TIKTOK, 20.0, pixel, 1.0, Weather.SLOW)
        for pixel in range(setup.pixels)
    ]
    back = at + 2.0 + 4.0 * rng.random()
    return Scene([*slow, Trouble(at, Fault.SHUFFLE), Trouble(back, Fault.SHUFFLE)], [])


def _parked(rng: random.Random, setup: Setup, appends: list[Append]) -> Scene:
    """See `Plot`. The events of that time come once more while nobody is there.

    Before that others are accepted in their partitions, and the stores' positions move on.
    """
    at = rng.choice(appends).at + rng.random()
    pixel = rng.randrange(setup.pixels)
    crash = at + setup.park_after + 8.0  # what waited from that time on was parked by then
    weather = rng.choice((Weather.ACCEPT_BREAK, Weather.ACCEPT_ERROR))
    troubles = [
        Trouble(at - 1.0, Fault.TIKTOK, 2.5, pixel, 1.0, weather),
        Trouble(at + 1.5, Fault.TIKTOK, crash - at + 40.0, pixel, 1.0, Weather.HOLD_PIXEL),
        *(Trouble(crash, Fault.CRASH) for _ in range(setup.processes)),
    ]
    others = [
        Append(crash - 2.5, partition, _OTHERS + number, Kind.GOOD)
        for partition in range(setup.partitions)
        for number in range(setup.pixels)
    ]
    once_more = [one._replace(at=crash + 1.0) for one in appends if at - 1.0 <= one.at <= at + 1.5]
    return Scene(troubles, others + once_more)


_OTHERS = 1000
"""Numbers of events that no other part of a schedule has begin here."""


def _rewound(rng: random.Random, setup: Setup, appends: list[Append]) -> Scene:
    """See `Plot`."""
    at = appends[0].at + setup.window + 10.0 + 30.0 * rng.random()
    return Scene([Trouble(at, Fault.RESET_OFFSETS, 1.0)], [])


PLOTS = {
    Plot.RETURN: _return,
    Plot.THERE_AND_BACK: _there_and_back,
    Plot.PARKED: _parked,
    Plot.REWOUND: _rewound,
}
"""How each plot is staged: with the generator, the configuration and the records so far."""
