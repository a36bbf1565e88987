"""Plays a round and settles its accounts, whatever happens in it."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Protocol

from tests.faults.account import account
from tests.faults.gather import gather
from tests.faults.results import Result
from tests.faults.round import Round, RoundSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.faults.arena import Arena
    from tests.faults.results import ResultsFile, RoundId
    from tests.faults.scenario import Scenario


class Watcher(Protocol):
    """Who is told how a run goes."""

    def begins(self, round_id: RoundId) -> None:
        """A round begins."""

    def ended(self, result: Result) -> None:
        """A round is over, or was played before."""


def play_all(
    rounds: Iterable[RoundId],
    kept: ResultsFile,
    player: Callable[[RoundId], Result],
    watcher: Watcher,
    seconds: float = float("inf"),
) -> list[Result]:
    """The results of a run's rounds; those that are kept already are not played again.

    No round begins when so many seconds have passed.
    """
    until = time.monotonic() + seconds
    results = []
    for round_id in rounds:
        result = kept.find(round_id)
        if result is None:
            if time.monotonic() > until:
                continue
            watcher.begins(round_id)
            result = player(round_id)
            kept.add(result)
        watcher.ended(result)
        results.append(result)
    return results


def exit_code(results: Iterable[Result]) -> int:
    """1 where any promise was broken, or nothing was played; else 0."""
    played = list(results)
    return int(not played or any(result.broken for result in played))


def play(
    arena: Arena, scenario: Scenario, round_id: RoundId, progress: Callable[[int, int], object]
) -> Result:
    """One round of a scenario.

    A round that fails is a broken promise too, and its files are kept; what it has come to by
    then is accounted for like any other.
    """
    settings = RoundSettings(
        scenario.name,
        round_id.events,
        round_id.seed,
        round_id.brief,
        round_id.protocol,
        scenario.partitions,
        scenario.nodes,
    )
    began = time.monotonic()
    with Round(arena, settings, progress) as played:
        try:
            scenario.play(played)
        except (AssertionError, RuntimeError, OSError) as failure:
            played.find(f"the round failed, see {played.folder}: {failure}")
            played.end_members()
            played.restore()
        evidence = gather(played)
        evidence.strict = scenario.strict
        evidence.longest_pause = scenario.longest_pause
        settled = account(evidence)
        result = Result.of(
            round_id, time.monotonic() - began, settled, played.incidents, played.remarks
        )
    if not result.broken:
        shutil.rmtree(played.folder)
    return result
