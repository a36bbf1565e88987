"""Schedules drawn from a seed.

Most faults matter in company: a theme says which ones come together in a schedule.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import NamedTuple

from tests.simulation.plots import PLOTS, Plot
from tests.simulation.schedule import Append, Fault, Kind, Schedule, Setup, Trouble, Weather

EVENTS, FEWEST_FAULTS, MOST_FAULTS = 200, 5, 14
"""Of a schedule: at least so many events, and so many to so many faults, plots not counted."""

_SPARE = 1
"""Drawn on top of the fewest: one may find nobody whom it could happen to."""

LENGTHS = (1.0, 5.0, 20.0, 60.0, 150.0, 300.0)


class Theme(NamedTuple):
    """Which faults come together: how often each is drawn, and TikTok's weather."""

    share: float
    faults: dict[Fault, float]
    weather: tuple[Weather, ...] = tuple(Weather)
    lengths: tuple[float, ...] = LENGTHS
    plot: Plot | None = None


_UNKNOWN = (
    Weather.ACCEPT_HANG,
    Weather.HANG,
    Weather.ACCEPT_LATE,
    Weather.ACCEPT_BREAK,
    Weather.BREAK,
    Weather.ACCEPT_ERROR,
    Weather.PAGE,
    Weather.SLOW,
)
_CLOSED = (
    Weather.THROTTLE_APP,
    Weather.THROTTLE_PIXEL,
    Weather.HOLD_TOKEN,
    Weather.HOLD_PIXEL,
    Weather.HOLD_PIXEL,
    Weather.ACCEPT_BREAK,
    Weather.ACCEPT_HANG,
)

THEMES = (
    Theme(
        5,
        {
            Fault.CRASH: 3,
            Fault.MACHINE_CRASH: 1,
            Fault.SUSPEND: 3,
            Fault.CUT: 2,
            Fault.STOP: 1.5,
            Fault.JOIN: 2,
            Fault.REPLACE: 1,
            Fault.SHUFFLE: 3,
            Fault.COORDINATOR_GONE: 1,
            Fault.COMMITS_FAIL: 1,
            Fault.COMMITS_UNANSWERED: 1,
            Fault.RESET_OFFSETS: 0.5,
            Fault.FORGET_OFFSETS: 0.4,
            Fault.LEADER_CHANGE: 1,
            Fault.SLOW_REPLICAS: 1,
            Fault.PARTITION_DOWN: 1,
            Fault.PRODUCES_FAIL: 1.5,
            Fault.PRODUCES_TWICE: 1,
            Fault.LETTERS_FAIL: 1,
            Fault.MARKERS: 2,
            Fault.SOURCE_RETENTION: 0.5,
            Fault.SOURCE_TRUNCATED: 0.4,
            Fault.SOURCE_RECREATED: 0.4,
            Fault.STORE_FAILS: 1,
            Fault.STORE_WIPED: 1.5,
            Fault.REGISTRY_AWAY: 0.5,
            Fault.TIKTOK: 9,
        },
    ),
    # Members that others think are gone, and answers that nobody heard.
    Theme(
        2.5,
        {Fault.SUSPEND: 3, Fault.CUT: 4, Fault.REPLACE: 3, Fault.CRASH: 1, Fault.TIKTOK: 7},
        _UNKNOWN,
        (5.0, 20.0, 20.0, 60.0),
        Plot.RETURN,
    ),
    # Partitions that come and go, with answers that come late.
    Theme(
        1.5,
        {
            Fault.SHUFFLE: 5,
            Fault.JOIN: 1,
            Fault.STOP: 1,
            Fault.COMMITS_FAIL: 1,
            Fault.COORDINATOR_GONE: 1,
            Fault.TIKTOK: 4,
        },
        (Weather.SLOW, Weather.SLOW, Weather.ACCEPT_LATE, Weather.THROTTLE_PIXEL),
        (5.0, 20.0, 60.0),
        Plot.THERE_AND_BACK,
    ),
    # Destinations that take nothing for long, and members that go meanwhile.
    Theme(
        1.5,
        {Fault.TIKTOK: 8, Fault.CRASH: 2, Fault.SHUFFLE: 1, Fault.STOP: 1, Fault.STORE_WIPED: 1},
        _CLOSED,
        (20.0, 60.0, 150.0, 300.0),
    ),
    # Events that wait long enough to be parked, in a world that is well but for this.
    Theme(
        1,
        {
            Fault.MARKERS: 2,
            Fault.LEADER_CHANGE: 1,
            Fault.SLOW_REPLICAS: 1,
            Fault.COMMITS_FAIL: 1,
            Fault.TIKTOK: 2,
        },
        (Weather.SLOW, Weather.THROTTLE_PIXEL, Weather.PARTIAL),
        (1.0, 5.0, 20.0),
        Plot.PARKED,
    ),
    # A memory that is lost, damaged, slow, or full of gaps.
    Theme(
        1.5,
        {
            Fault.STORE_WIPED: 3,
            Fault.STORE_FAILS: 2,
            Fault.MACHINE_CRASH: 2,
            Fault.CRASH: 1,
            Fault.MARKERS: 2,
            Fault.PRODUCES_FAIL: 2,
            Fault.PARTITION_DOWN: 2,
            Fault.SLOW_REPLICAS: 2,
            Fault.RESET_OFFSETS: 1,
            Fault.FORGET_OFFSETS: 1,
            Fault.SOURCE_RECREATED: 1,
            Fault.TIKTOK: 3,
        },
        plot=Plot.REWOUND,
    ),
)


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(f"{seed}/schedule")
    theme = rng.choices(THEMES, [theme.share for theme in THEMES])[0]
    setup, small = _setup(rng)
    seconds = rng.choice((350.0, 400.0) if small else (60.0, 120.0, 200.0))
    appends = _appends(rng, setup, seconds)
    troubles = _troubles(rng, theme, seconds)
    if theme.plot is not None:
        for _ in range(rng.randint(1, 3)):
            scene = PLOTS[theme.plot](rng, setup, appends)
            times = [trouble.at for trouble in scene.troubles]
            if max(times + [append.at for append in scene.appends]) < seconds:
                troubles += scene.troubles
                appends += scene.appends
    # Who commits seldom reads more again after a crash.
    setup = replace(setup, commit_interval=rng.choice((1.0, 5.0)))
    setup = replace(setup, receipts=rng.random() < 0.3)
    troubles.sort(key=lambda trouble: trouble.at)
    return Schedule(seed, setup, tuple(sorted(appends)), tuple(troubles), seconds)


def _setup(rng: random.Random) -> tuple[Setup, bool]:
    """A configuration, and whether its windows are so small that a run crosses them."""
    small = rng.random() < 0.4
    quick = rng.random() < (0.2 if small else 0.6)  # short sessions are proven often
    setup = Setup(
        processes=rng.randint(1, 3),
        partitions=rng.randint(1, 4),
        pixels=rng.randint(1, 3),
        shared_token=rng.random() < 0.3,
        session_timeout=12.0 if quick else 45.0,
        request_timeout=2.0 if quick else 10.0,
        drain_seconds=rng.choice((2.0, 10.0)),
        window=300.0 if small else 48 * 3600.0,
        give_up_after=120.0 if small else 24 * 3600.0,
        retry_max=rng.choice((10.0, 60.0)),
        park_after=rng.choice((5.0, 60.0)),
        max_in_flight_events=rng.choice((24, 60, 200)),
        batch_events=rng.choice((1, 4, 10, 10, 10, 20, 50)),
        concurrency=rng.choice((1, 2, 8)),
        chunk=rng.choice((4, 16)),
        names_guilty=rng.random() < 0.7,
        static_members=rng.random() < 0.25,
        commits_renew_session=rng.random() < 0.6,
        wall_skew=rng.choice((0.0, 2.0)),
    )
    return setup, small


def _appends(rng: random.Random, setup: Setup, seconds: float) -> list[Append]:
    """Records in bursts, a third of them of events that were there before."""
    appends: list[Append] = []
    kinds: dict[tuple[int, int], Kind] = {}
    numbers = [0] * setup.partitions
    bursts = rng.randint(4, 20)
    total = rng.randint(EVENTS, EVENTS + 30)
    for burst in range(bursts):
        at = seconds * 0.97 * burst / bursts * (0.6 + 0.4 * rng.random())
        for _ in range(-(-total // bursts)):
            partition = rng.randrange(setup.partitions)
            at += rng.random() * 0.1
            drawn = rng.random()
            if drawn < 0.3 and numbers[partition]:
                newest = numbers[partition]
                number = rng.randint(max(1, newest - (30 if drawn < 0.2 else 400)), newest)
                kind = _again(rng, kinds[partition, number])
            else:
                numbers[partition] += 1
                number = numbers[partition]
                kind = kinds[partition, number] = rng.choices(*_KINDS)[0]
            appends.append(Append(at, partition, number, kind))
    return appends


_KINDS = (
    (
        Kind.GOOD,
        Kind.BAD,
        Kind.TOMBSTONE,
        Kind.GARBAGE,
        Kind.DENIED,
        Kind.STRIPPED,
        Kind.SCHEMA,
    ),
    (84, 6, 2, 2, 2, 3, 1),
)


def _again(rng: random.Random, kind: Kind) -> Kind:
    """What a later record of the same event is: the same, corrected, or with less consent."""
    drawn = rng.random()
    if kind is Kind.BAD:
        return Kind.GOOD if drawn < 0.5 else kind
    return Kind.STRIPPED if kind is Kind.GOOD and drawn < 0.15 else kind


def _troubles(rng: random.Random, theme: Theme, seconds: float) -> list[Trouble]:
    faults, weights = list(theme.faults), list(theme.faults.values())
    troubles = []
    for _ in range(rng.randint(FEWEST_FAULTS + _SPARE, MOST_FAULTS)):
        fault = rng.choices(faults, weights)[0]
        length = rng.choice(theme.lengths) * (0.5 + rng.random())
        troubles.append(
            Trouble(
                rng.random() * seconds * 0.95,
                fault,
                min(length, seconds / 3),
                rng.randrange(12),
                rng.choice((0.3, 0.8, 1.0)),
                rng.choice(theme.weather) if fault is Fault.TIKTOK else None,
            )
        )
    return troubles
