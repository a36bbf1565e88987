"""The outcome of rounds: kept in a file as they end, so that a run can go on; and as a table."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from tests.faults.evidence import IncidentKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.faults.account import Account
    from tests.faults.evidence import Incident

_KILLS: Final = (IncidentKind.KILL, IncidentKind.BROKER)
_STOPS: Final = (IncidentKind.STOP,)
_REBALANCES: Final = (IncidentKind.JOIN, IncidentKind.LEAVE)


@dataclass(frozen=True)
class RoundId:
    """Which round it is, and of what: a result counts for the same one only.

    `version` names the code under test.
    """

    scenario: str
    number: int
    events: int
    seed: int
    protocol: str
    brief: bool
    version: str


@dataclass(frozen=True)
class Result:
    """What a round came to, as it is kept."""

    id: RoundId
    seconds: float
    records: int
    delivered: int
    lost: int
    known: int
    excused: Mapping[str, int]
    letter_copies: int
    longest_pause: float
    incidents: Mapping[str, int]
    findings: Sequence[str] = ()
    remarks: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        round_id: RoundId,
        seconds: float,
        settled: Account,
        incidents: Iterable[Incident],
        remarks: Sequence[str] = (),
    ) -> Result:
        """The result of a round whose accounts are settled."""
        return cls(
            round_id,
            seconds,
            settled.records,
            settled.delivered,
            settled.lost,
            settled.known,
            dict(settled.excused),
            settled.letter_copies,
            settled.longest_pause,
            dict(Counter(incident.kind.value for incident in incidents)),
            tuple(settled.findings),
            tuple(remarks),
        )

    @property
    def broken(self) -> bool:
        """Whether a promise was broken."""
        return bool(self.lost or self.known or self.findings)

    def count(self, kinds: Iterable[IncidentKind]) -> int:
        """How many incidents there were of these kinds."""
        return sum(self.incidents.get(kind.value, 0) for kind in kinds)


class ResultsFile:
    """Results as lines of JSON; None keeps them in memory only."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[RoundId, Result] = {}
        if path is not None and path.exists():
            for line in path.read_text("utf-8").splitlines():
                result = _from_json(json.loads(line))
                self._known[result.id] = result

    def find(self, round_id: RoundId) -> Result | None:
        """The result of a round that was played before and broke no promise."""
        found = self._known.get(round_id)
        return None if found is None or found.broken else found

    def add(self, result: Result) -> None:
        """Keeps a result."""
        self._known[result.id] = result
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(result)) + "\n")


def _from_json(document: dict[str, Any]) -> Result:
    told = {name: tuple(document[name]) for name in ("findings", "remarks")}
    return Result(**{**document, **told, "id": RoundId(**document["id"])})


@dataclass
class Totals:
    """The sum of some results; a line of the table."""

    name: str
    rounds: int = 0
    records: int = 0
    kills: int = 0
    stops: int = 0
    rebalances: int = 0
    others: int = 0
    lost: int = 0
    known: int = 0
    excused: Counter[str] = field(default_factory=Counter)
    letter_copies: int = 0
    longest_pause: float = 0.0
    seconds: float = 0.0
    findings: int = 0

    @classmethod
    def of(cls, name: str, results: Iterable[Result]) -> Totals:
        """Adds results up."""
        total = cls(name)
        for result in results:
            total.rounds += 1
            total.records += result.records
            kills, stops = result.count(_KILLS), result.count(_STOPS)
            rebalances = result.count(_REBALANCES)
            total.kills += kills
            total.stops += stops
            total.rebalances += rebalances
            total.others += sum(result.incidents.values()) - kills - stops - rebalances
            total.lost += result.lost
            total.known += result.known
            total.excused.update(result.excused)
            total.letter_copies += result.letter_copies
            total.longest_pause = max(total.longest_pause, result.longest_pause)
            total.seconds += result.seconds
            total.findings += len(result.findings)
        return total

    def to_json(self) -> dict[str, Any]:
        """The same as JSON."""
        # A Counter would come out as pairs.
        return {**asdict(replace(self, excused=Counter())), "excused": dict(self.excused)}


_HEADINGS: Final = (
    "scenario", "rounds", "events", "kills", "stops", "rebalances", "others", "lost",
    "repeats: known", "unknown", "2nd letters", "pause s", "minutes",
)  # fmt: skip


def table(results: Sequence[Result]) -> Iterator[str]:
    """The summary, line by line: scenarios, their sum, and every excuse with its number."""
    names = dict.fromkeys(result.id.scenario for result in results)
    lines = [Totals.of(name, (r for r in results if r.id.scenario == name)) for name in names]
    whole = Totals.of("all", results)
    rows = [_HEADINGS, *(_row(line) for line in [*lines, whole])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        first, *rest = (
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join([first, *rest])
    yield ""
    yield "Sent again because the consumer could not know that TikTok had taken it:"
    for why, number in whole.excused.most_common():
        yield f"{number:>9,}  {why}"
    if not whole.excused:
        yield "        0"


def _row(line: Totals) -> tuple[str, ...]:
    numbers = (
        line.rounds, line.records, line.kills, line.stops, line.rebalances, line.others, line.lost,
        line.known, line.excused.total(), line.letter_copies,
    )  # fmt: skip
    return (
        line.name,
        *(f"{number:,}" for number in numbers),
        f"{line.longest_pause:.1f}",
        f"{line.seconds / 60:.1f}",
    )
