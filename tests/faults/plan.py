"""Which rounds a run plays, in which order, under which numbers."""

from __future__ import annotations

import subprocess
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.faults import again, answers, disks, groups, outages, parking, processes, topics
from tests.faults.results import RoundId

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.faults.scenario import Scenario

SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.name: scenario
    for family in (processes, groups, outages, answers, again, disks, topics, parking)
    for scenario in family.SCENARIOS
}
"""All of them, by name."""


def plan(
    scenarios: Sequence[Scenario], *, seed: int, brief: bool, events: int | None = None
) -> Iterator[RoundId]:
    """The rounds of a run.

    The first round of every scenario comes first, then the second ones, so that a run that ends
    early has touched everything; but those on another cluster come last, since it has to be
    started for them. `events` makes the number of rounds such that about so many records are
    produced.
    """
    version = code_version()
    whole = sum(s.rounds * s.events for s in scenarios)
    factor = 1.0 if events is None else events / whole
    counts = {
        s.name: s.brief_rounds if brief else max(1, round(s.rounds * factor)) for s in scenarios
    }
    for nodes in sorted({scenario.nodes for scenario in scenarios}):
        there = [scenario for scenario in scenarios if scenario.nodes == nodes]
        for number in range(max(counts[s.name] for s in there)):
            for place, scenario in enumerate(there):
                if number < counts[scenario.name]:
                    yield RoundId(
                        scenario.name,
                        number,
                        scenario.brief_events if brief else scenario.events,
                        # Not the next number: rounds of different scenarios differ as well.
                        zlib.crc32(f"{seed} {scenario.name} {number}".encode()),
                        # Neither the slice nor a short run knows one protocol only.
                        scenario.protocols[(number + place) % len(scenario.protocols)],
                        brief,
                        version,
                    )


def code_version() -> str:
    """The commit of this checkout, with a mark where files differ from it; empty without git."""
    folder = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "consumer", "tests")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
