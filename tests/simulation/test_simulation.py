"""The simulation itself: it repeats, it covers what it says, it holds, and it catches bugs."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from click.testing import CliRunner

from tests.simulation import caught
from tests.simulation.__main__ import main
from tests.simulation.campaign import is_caught, play
from tests.simulation.drawing import EVENTS, FEWEST_FAULTS, draw
from tests.simulation.mutations import PLANTED, planted
from tests.simulation.run import run
from tests.simulation.schedule import Fault, Kind, Schedule, Weather
from tests.simulation.story import command, explain, tell

SEEDS = range(40)
TRACES = "from tests.simulation.run import run; from tests.simulation.drawing import draw; "
ASKED_FOR = {
    "mark_before_acceptance",
    "letter_unacknowledged",
    "forget_a_waiter",
    "ignore_the_lease",
    "skip_the_wait",
    "metadata_off_by_one",
    "late_result_commits",
}
"""The planted bugs that there must be by name; ten more at least besides."""


def known(bug: str) -> caught.Caught:
    """What is kept of a planted bug."""
    return next(one for one in caught.read() if one.bug == bug)


def times(schedule: Schedule) -> list[float]:
    """When something is done to the consumers."""
    appended = [append.at for append in schedule.appends]
    return appended + [trouble.at for trouble in schedule.troubles]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_holds_under_the_schedule_of_a_seed(seed: int) -> None:
    """Whatever happens to Kafka, TikTok, disks and processes: nothing lost, counted once."""
    violation = run(draw(seed)).violation
    assert violation is None, "\n".join(explain(draw(seed)).lines)


@pytest.mark.parametrize("kept", caught.read(), ids=lambda kept: kept.bug)
def test_a_planted_bug_is_caught(kept: caught.Caught) -> None:
    """The schedule that once caught it still does, and holds without it."""
    _, again = is_caught(kept)
    assert again, f"{PLANTED[kept.bug].sentence}: find another seed by --hunt"


def test_for_every_planted_bug_there_is_a_seed_that_catches_it() -> None:
    """The list of bugs and that of the seeds are about the same bugs."""
    assert [one.bug for one in caught.read()] == list(PLANTED)
    assert set(PLANTED) >= ASKED_FOR
    assert len(PLANTED) >= len(ASKED_FOR) + 10


def test_a_bug_is_gone_when_its_run_is_over() -> None:
    """What was planted for one run does not fail the next one."""
    schedule = draw(known("letter_unacknowledged").seed)
    before = run(schedule).trace
    assert run(schedule, bug="letter_unacknowledged").violation is not None
    assert run(schedule).trace == before


def test_the_same_seed_is_the_same_run_in_every_process() -> None:
    """Neither hashes of strings nor what ran before change what happens."""
    traces = [str(run(draw(seed)).trace) for seed in SEEDS[:12]]
    again = [str(run(draw(seed)).trace) for seed in reversed(SEEDS[:12])]
    assert again == traces[::-1]
    for hash_seed in ("1", "2"):
        code = f"{TRACES}print(*[run(draw(seed)).trace for seed in range(12)])"
        said = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        )
        assert said.stdout.split() == traces


def test_a_run_that_is_told_is_the_run_that_is_not() -> None:
    """Telling a story changes nothing of it, with a bug planted or without."""
    for bug in (None, "skip_the_wait"):
        schedule = draw(known("skip_the_wait").seed)
        quiet = run(schedule, bug=bug)
        told: list[object] = []
        loud = run(schedule, told.append, bug=bug)
        assert (loud.trace, str(loud.violation)) == (quiet.trace, str(quiet.violation))
        assert told


def test_different_seeds_and_different_luck_are_different_runs() -> None:
    """The trace tells runs apart."""
    schedules = [draw(seed) for seed in SEEDS[:8]]
    lucky = [replace(schedule, luck=1) for schedule in schedules]
    assert len({run(schedule).trace for schedule in schedules + lucky}) == 16


def test_every_schedule_has_its_fill_of_events_and_faults() -> None:
    """Hundreds of schedules together have every fault, weather and kind of record there is."""
    faults, weather, kinds = Counter[Fault](), Counter[Weather | None](), Counter[Kind]()
    for seed in range(400):
        schedule = draw(seed)
        assert len(schedule.appends) >= EVENTS == 200
        assert len(schedule.troubles) >= FEWEST_FAULTS == 5
        assert max(times(schedule)) < schedule.seconds
        faults.update(trouble.fault for trouble in schedule.troubles)
        weather.update(trouble.weather for trouble in schedule.troubles)
        kinds.update(append.kind for append in schedule.appends)
    assert set(faults) == set(Fault)
    assert set(weather) == {*Weather, None}
    assert set(kinds) == set(Kind)


def test_what_is_counted_has_happened_and_not_only_been_drawn() -> None:
    """Records count when they are in the log, faults when they found somebody."""
    figures = play(SEEDS)
    assert figures.fewest_events >= EVENTS
    assert figures.fewest_faults >= FEWEST_FAULTS
    nothing = replace(draw(0), appends=(), troubles=())
    assert (run(nothing).events, run(nothing).faults) == (0, 0)


@pytest.mark.parametrize(
    "bug", ["ignore_the_lease", "closed_in_the_air", "correction_refused", "attempts_forgotten"]
)
def test_a_failing_schedule_is_shrunk_to_a_short_story_of_the_same_failure(bug: str) -> None:
    """A few records and faults are left, and they break the same promise."""
    explained = explain(draw(known(bug).seed), bug)
    causes = [line for line in explained.lines if " s * " in line]
    assert len(causes) <= 15
    assert len(explained.lines) <= 60
    violation = run(explained.schedule, bug=bug).violation
    assert violation is not None
    assert violation.invariant == known(bug).invariant
    assert command(known(bug).seed, bug) in explained.lines[1]
    assert f"PROMISE BROKEN: {known(bug).invariant}" in explained.lines[-1]


def test_a_story_tells_what_happens_in_sentences() -> None:
    """Who starts, what is produced and sent, what goes wrong, which promise is broken."""
    kept = known("ignore_the_lease")
    story = "\n".join(tell(draw(kept.seed), kept.bug))
    for words in (
        "A starts",
        "is given partition",
        "is produced",
        "sends p",
        "TikTok takes p",
        "hears of request",
        "PROMISE BROKEN: lease",
    ):
        assert words in story


def test_a_campaign_prints_its_figures() -> None:
    """What was done, how much every schedule had at least, and that nothing was broken."""
    said = CliRunner().invoke(main, ["--schedules", "20", "--seed-base", "7", "--workers", "1"])
    assert said.exit_code == 0, said.output
    assert "20 schedules" in said.output
    assert "every schedule had at least" in said.output
    assert "0 broken" in said.output


def test_a_campaign_that_breaks_a_promise_says_at_once_how_to_see_it_again() -> None:
    """The seed, the command and the short story, and it fails."""
    with planted("letter_unacknowledged"):
        said = CliRunner().invoke(main, ["--schedules", "4", "--seed-base", "0", "--workers", "1"])
    assert said.exit_code == 1
    assert "PROMISE BROKEN, seed 0: dead letter" in said.output
    assert "again: python -m tests.simulation --seed 0" in said.output
    assert "* is what was done to it" in said.output
