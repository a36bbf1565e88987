"""A run as a story that a person can read, and a failing one made as short as it can be."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.run import run
from tests.simulation.shrink import shrink

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.simulation.schedule import Schedule
    from tests.simulation.world import Told


class Explained(NamedTuple):
    """A failing schedule: what to say of it, and the shrunk one that the story is about."""

    lines: list[str]
    schedule: Schedule


def command(seed: int, bug: str | None = None) -> str:
    """What to type to see a schedule again."""
    return f"python -m tests.simulation --seed {seed}" + (f" --bug {bug}" if bug else "")


def tell(schedule: Schedule, bug: str | None = None) -> Iterator[str]:
    """The configuration, and all that happens, a line each."""
    yield from _configuration(schedule)
    told: list[Told] = []
    run(schedule, told.append, bug=bug)
    yield from map(_line, told)


def explain(schedule: Schedule, bug: str | None = None) -> Explained:
    """The story of a failing schedule: what it takes, and what comes of it."""
    violation = run(schedule, bug=bug).violation
    if violation is None:
        return Explained([f"seed {schedule.seed}: every promise holds"], schedule)
    shrunk, runs = shrink(schedule, violation.invariant, bug)
    told: list[Told] = []
    run(shrunk, told.append, bug=bug)
    about_offsets = violation.invariant in _ABOUT_OFFSETS
    lines = [
        f"seed {schedule.seed} breaks a promise: {violation}",
        f"again: {command(schedule.seed, bug)}  (all of it: --whole)",
        f"shrunk in {runs} runs from {_size(schedule)}; * is what was done to it",
        *_configuration(shrunk),
        *_shortened([one for one in told if about_offsets or not one.is_routine]),
    ]
    return Explained(lines, shrunk)


_ABOUT_OFFSETS = frozenset({"committed", "committed back", "metadata", "liveness", "lost"})
"""Invariants in whose stories the commits matter."""


def _configuration(schedule: Schedule) -> Iterator[str]:
    setup = schedule.setup
    yield (
        f"{_count(setup.processes, 'process')}, {_count(setup.partitions, 'partition')}, "
        f"{_count(setup.pixels, 'pixel')}, {_size(schedule)}"
    )
    yield (
        f"session time-out {setup.session_timeout:g} s, request time-out "
        f"{setup.request_timeout:g} s, window {setup.window:g} s, give up after "
        f"{setup.give_up_after:g} s" + (", static members" if setup.static_members else "")
    )


def _line(told: Told) -> str:
    return f"{told.at:9.3f} s {'*' if told.is_cause else ' '} {told.sentence}"


# Made shorter


def _shortened(story: Sequence[Told]) -> Iterator[str]:
    """Records that come together in one line, and what repeats itself told once."""
    story = list(_gathered(story))
    patterns = [_CHANGING.sub("#", told.sentence) for told in story]
    at = 0
    while at < len(story):
        length, times = _repeated(patterns, at)
        yield from map(_line, story[at : at + length])
        if times > 1:
            last = story[at + length * times - 1]
            yield f"{'':14}... and so on, {times} times in all, until {last.at:.3f} s"
        at += length * times


_CHANGING = re.compile(r"\d+@\d+|request \d+|\"r\d+\"")
"""What differs between two times that the same thing happens."""

_LONGEST = 8
_FEWEST_TIMES = 3


def _repeated(patterns: Sequence[str], at: int) -> tuple[int, int]:
    """How many lines from here on repeat themselves, and how often: at least 1 and 1."""
    for length in range(1, _LONGEST + 1):
        block, times = patterns[at : at + length], 1
        while patterns[at + times * length : at + (times + 1) * length] == block:
            times += 1
        if times >= _FEWEST_TIMES:
            return length, times
    return 1, 1


def _gathered(story: Sequence[Told]) -> Iterator[Told]:
    for produced, together in groupby(story, lambda told: told.sentence.endswith(_PRODUCED)):
        lines = list(together)
        if produced and len(lines) > 1:
            names = ", ".join(told.sentence.removesuffix(_PRODUCED) for told in lines)
            yield lines[0]._replace(sentence=f"{names} are produced")
        else:
            yield from lines


_PRODUCED = " is produced"


def _size(schedule: Schedule) -> str:
    return f"{_count(len(schedule.appends), 'record')}, {_count(len(schedule.troubles), 'fault')}"


def _count(number: int, what: str) -> str:
    if number == 1:
        return f"1 {what}"
    return f"{number:,} {what}es" if what.endswith("s") else f"{number:,} {what}s"
