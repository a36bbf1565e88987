"""What a run of faults comes to: its exit code, and the table that is printed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from consumer.sandbox.faults import FaultKind
from tests.faults.account import account
from tests.faults.results import Result, ResultsFile, RoundId, Totals, table
from tests.faults.umpire import exit_code, play_all
from tests.support.forged_round import ForgedRound

if TYPE_CHECKING:
    from collections.abc import Callable

LONG_AFTER = 60.0


@pytest.fixture
def forged() -> ForgedRound:
    """A round in which everything was as promised."""
    return ForgedRound()


def result_of(forged: ForgedRound, number: int = 0) -> Result:
    """Its result, as a run keeps it."""
    round_id = RoundId("forged", number, 400, 1, "classic", brief=True, version="abc")
    return Result.of(round_id, 1.0, account(forged.evidence), forged.evidence.incidents)


class Watched:
    """Who is told how a run goes."""

    def __init__(self) -> None:
        self.began: list[RoundId] = []

    def begins(self, round_id: RoundId) -> None:
        """Remembers what was played."""
        self.began.append(round_id)

    def ended(self, result: Result) -> None:
        """Nothing more to note."""


def lose_one(forged: ForgedRound) -> None:
    """An event is lost."""
    forged.lose(forged.an_event)


def repeat_one(forged: ForgedRound) -> None:
    """A known acceptance is repeated."""
    forged.send_again(forged.an_event, "first", LONG_AFTER)


@pytest.mark.parametrize(
    ("forge", "code"), [(None, 0), (lose_one, 1), (repeat_one, 1)], ids=["honest", "lost", "known"]
)
def test_a_run_ends_with_exit_code_1_on_any_violation(
    forged: ForgedRound, forge: Callable[[ForgedRound], None] | None, code: int
) -> None:
    """A run of an honest round ends with 0; one lost event or known repeat makes it 1."""
    if forge is not None:
        forge(forged)
    results = play_all(
        [result_of(forged).id], ResultsFile(None), lambda _: result_of(forged), Watched()
    )
    assert exit_code(results) == code


def test_a_run_without_a_round_is_no_proof() -> None:
    """Nothing played, nothing shown."""
    assert exit_code([]) == 1


def test_the_table_adds_up(forged: ForgedRound) -> None:
    """Each scenario has a line, the sum follows, and every excuse is counted below."""
    forged.unanswer(forged.an_event, FaultKind.CLOSE_AFTER)
    forged.send_again(forged.an_event, "second", LONG_AFTER)
    result = result_of(forged)
    other = replace(result, id=replace(result.id, scenario="other"))
    lines = list(table([result, other, other]))
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["forged", "1", "400"],
        ["other", "2", "800"],
        ["all", "3", "1,200"],
    ]
    assert Totals.of("all", [result, other]).to_json()["excused"] == {
        "answer withheld: connection broken": 2
    }
    assert lines[-1].split(maxsplit=1) == ["3", "answer withheld: connection broken"]
