"""What can go wrong on TikTok's side, on demand and repeatable.

A `Scenario` is a value: how slow the answers are, how refusals are worded, which tokens have
expired, and a list of faults. For each request the faults are tried in their order and the first
that strikes decides. A fault strikes for one destination or all, with a probability, a number of
times, or within a span of time; so a script of one-shot faults, a noisy day and a throttled
minute are all the same list. Chance comes from the scenario's seed alone.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from consumer.sandbox.rules import IndexWording

if TYPE_CHECKING:
    from collections.abc import Mapping


class FaultKind(StrEnum):
    """What happens to a request that a fault strikes.

    Only `close_after` and `late` let TikTok take the events: the client cannot know it. `page` is
    a gateway's HTML, with HTTP `status`; `code` an answer of TikTok's with that code and nothing
    taken.
    """

    CODE = "code"
    PAGE = "page"
    HANG = "hang"
    LATE = "late"
    CLOSE_BEFORE = "close_before"
    CLOSE_AFTER = "close_after"


class ScenarioError(ValueError):
    """A scenario that cannot be played; the text names the key and what it may be."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    `code`, `status`, `message` and `retry_after` shape the answer of `code` and `page`; `seconds`
    is how long `hang` and `late` last. `event_source_id` None strikes every destination. `times`
    None strikes without end. The fault is in force from `after` seconds after the scenario was
    set, for `lasting` seconds or, with None, until another scenario is set.
    """

    kind: FaultKind
    code: int = 50000
    status: int | None = None
    message: str | None = None
    retry_after: str | None = None
    seconds: float = 60.0
    event_source_id: str | None = None
    probability: float = 1.0
    times: int | None = None
    after: float = 0.0
    lasting: float | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """How TikTok behaves until another scenario is set.

    `latency_ms` is the time every answer takes, plus a random part of up to `latency_jitter_ms`.
    `retry_after` is sent with every throttled answer, as it is: seconds, an HTTP date or None.
    Rates are requests per second, of an app and of a pixel; None means no limit.
    """

    seed: int = 0
    latency_ms: float = 0.0
    latency_jitter_ms: float = 0.0
    wording: IndexWording = IndexWording.SPACED
    app_rate: float | None = None
    pixel_rate: float | None = None
    retry_after: str | None = None
    expired_tokens: frozenset[str] = frozenset()
    faults: tuple[Fault, ...] = ()

    def __repr__(self) -> str:
        """What is played, without the tokens."""
        return (
            f"<Scenario seed={self.seed} latency_ms={self.latency_ms} wording={self.wording}"
            f" expired_tokens={len(self.expired_tokens)} faults={self.faults}>"
        )


def scenario_from_json(document: object) -> Scenario:
    """A scenario from its JSON form: the same names, every one of them optional.

    Raises:
        ScenarioError: an unknown key, a wrong type or a number out of range.
    """
    values = _checked(document, Scenario, "scenario")
    faults = values.pop("faults", ())
    return Scenario(
        **_converted(values, "scenario"),
        faults=tuple(
            Fault(**_converted(_checked(fault, Fault, f"faults[{place}]"), f"faults[{place}]"))
            for place, fault in enumerate(faults)
        ),
    )


def scenario_to_json(scenario: Scenario) -> dict[str, Any]:
    """The JSON form that `scenario_from_json` reads."""
    return {**asdict(scenario), "expired_tokens": sorted(scenario.expired_tokens)}


_NUMBERS = (int, float)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "seed": (int,),
    "latency_ms": _NUMBERS,
    "latency_jitter_ms": _NUMBERS,
    "wording": (str,),
    "app_rate": (*_NUMBERS, type(None)),
    "pixel_rate": (*_NUMBERS, type(None)),
    "retry_after": (str, type(None)),
    "expired_tokens": (list,),
    "faults": (list,),
    "kind": (str,),
    "code": (int,),
    "status": (int, type(None)),
    "message": (str, type(None)),
    "seconds": _NUMBERS,
    "event_source_id": (str, type(None)),
    "probability": _NUMBERS,
    "times": (int, type(None)),
    "after": _NUMBERS,
    "lasting": (*_NUMBERS, type(None)),
}


def _checked(document: object, shape: type[Fault | Scenario], path: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ScenarioError(f"{path}: an object is expected")
    known = [field.name for field in fields(shape)]
    for name, value in document.items():
        if name not in known:
            raise ScenarioError(f"{path}.{name}: unknown key, known are {', '.join(known)}")
        if type(value) not in _TYPES[name]:
            allowed = " or ".join(kind.__name__ for kind in _TYPES[name])
            raise ScenarioError(f"{path}.{name}: {allowed} is expected")
        if type(value) in _NUMBERS and value < 0:
            raise ScenarioError(f"{path}.{name}: must not be negative")
    if shape is Fault and "kind" not in document:
        raise ScenarioError(f"{path}.kind: is required")
    return dict(document)


def _converted(values: dict[str, Any], path: str) -> dict[str, Any]:
    for name, choices in (("kind", FaultKind), ("wording", IndexWording)):
        if name not in values:
            continue
        try:
            values[name] = choices(values[name])
        except ValueError:
            listed = ", ".join(choices)
            raise ScenarioError(f"{path}.{name}: must be one of {listed}") from None
    if "expired_tokens" in values:
        if not all(isinstance(token, str) for token in values["expired_tokens"]):
            raise ScenarioError(f"{path}.expired_tokens: a list of strings is expected")
        values["expired_tokens"] = frozenset(values["expired_tokens"])
    return values


class Weather:
    """The scenario in force: draws what happens to each request.

    `now` is in seconds by any clock that does not jump; the same one for every call.
    """

    def __init__(self, scenario: Scenario, now: float) -> None:
        self.scenario = scenario
        self._began = now
        self._random = random.Random(scenario.seed)  # noqa: S311  repeatable, not secret
        self._faults = list(scenario.faults)

    def strike(self, event_source_id: str | None, now: float) -> Fault | None:
        """The fault that strikes a request for this destination, if one does."""
        elapsed = now - self._began
        for place, fault in enumerate(self._faults):
            if not _in_force(fault, event_source_id, elapsed):
                continue
            if fault.probability < 1.0 and self._random.random() >= fault.probability:
                continue
            if fault.times is not None:
                self._faults[place] = replace(fault, times=fault.times - 1)
            return fault
        return None

    def latency(self) -> float:
        """Seconds until the next answer."""
        jitter = self.scenario.latency_jitter_ms
        drawn = self._random.random() * jitter if jitter else 0.0
        return (self.scenario.latency_ms + drawn) / 1000


def _in_force(fault: Fault, event_source_id: str | None, elapsed: float) -> bool:
    return (
        fault.times != 0
        and fault.event_source_id in (None, event_source_id)
        and elapsed >= fault.after
        and (fault.lasting is None or elapsed < fault.after + fault.lasting)
    )
