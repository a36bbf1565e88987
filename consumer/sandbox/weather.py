"""The scenario in force: what strikes a request, which tokens are good, how long an answer takes.

Nothing here reads a clock: `now` is in seconds by any clock that does not jump, the same one for
every call.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from consumer.sandbox.answers import TOKEN_EXPIRED, TOKEN_WRONG
from consumer.sandbox.scenario_json import fault_to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumer.sandbox.faults import Fault, Scenario

_TOKEN_TIMES = frozenset({"tokens_valid_from", "tokens_valid_until"})


class _Pending:
    """A fault that waits for requests to strike."""

    __slots__ = ("fault", "left", "since", "struck")

    def __init__(self, fault: Fault, now: float) -> None:
        self.fault = fault
        self.since = now
        self.left = fault.times
        self.struck = 0

    def in_force(self, event_source_id: str | None, app: str | None, now: float) -> bool:
        fault = self.fault
        elapsed = now - self.since
        return (
            self.left != 0
            and fault.event_source_id in (None, event_source_id)
            and fault.app in (None, app)
            and elapsed >= fault.after
            and (fault.lasting is None or elapsed < fault.after + fault.lasting)
        )


class Weather:
    """The scenario in force, and what is left of it."""

    def __init__(self, scenario: Scenario, now: float) -> None:
        self.scenario = scenario
        self._tokens_since = now
        self._random = random.Random(scenario.seed)  # noqa: S311  repeatable, not secret
        self._faults = [_Pending(fault, now) for fault in scenario.faults]

    def amend(self, changes: Mapping[str, Any], now: float) -> None:
        """Changes fields of the scenario. What is not named goes on as it was, clocks included.

        Raises:
            ScenarioError: the changes contradict each other or what stays.
        """
        self.scenario = replace(self.scenario, **changes)
        if "faults" in changes:
            self._faults = [_Pending(fault, now) for fault in self.scenario.faults]
        if "seed" in changes:
            self._random.seed(self.scenario.seed)
        if not _TOKEN_TIMES.isdisjoint(changes):
            self._tokens_since = now

    def add(self, faults: Sequence[Fault], now: float) -> None:
        """Adds faults behind those in force; their times count from now."""
        self.scenario = replace(self.scenario, faults=(*self.scenario.faults, *faults))
        self._faults += [_Pending(fault, now) for fault in faults]

    def pending(self) -> list[dict[str, Any]]:
        """Every fault as JSON, with how often it has struck and how often it still may."""
        return [
            {**fault_to_json(each.fault), "struck": each.struck, "left": each.left}
            for each in self._faults
        ]

    def strike(self, event_source_id: str | None, app: str | None, now: float) -> Fault | None:
        """The fault that strikes a request for this destination by this app, if one does."""
        for each in self._faults:
            if not each.in_force(event_source_id, app, now):
                continue
            probability = each.fault.probability
            if probability < 1.0 and self._random.random() >= probability:
                continue
            each.struck += 1
            if each.left is not None:
                each.left -= 1
            return each.fault
        return None

    def token_refusal(self, token: str, now: float) -> int | None:
        """The code that refuses this token at this time, None where the scenario allows it."""
        scenario = self.scenario
        if token in scenario.expired_tokens:
            return TOKEN_EXPIRED
        elapsed = now - self._tokens_since
        if elapsed < scenario.tokens_valid_from.get(token, 0.0):
            return TOKEN_WRONG
        until = scenario.tokens_valid_until.get(token)
        return TOKEN_EXPIRED if until is not None and elapsed >= until else None

    def latency(self) -> float:
        """Seconds until the next answer."""
        jitter = self.scenario.latency_jitter_ms
        drawn = self._random.random() * jitter if jitter else 0.0
        return (self.scenario.latency_ms + drawn) / 1000
