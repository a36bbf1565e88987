"""Scenarios and faults as JSON: what is set over HTTP or in a file, checked key by key."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from consumer.sandbox.faults import (
    FailedBy,
    Fault,
    FaultKind,
    Scenario,
    ScenarioError,
    ThrottleForm,
)
from consumer.sandbox.rules import IndexWording

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import StrEnum

_NUMBERS = (int, float)
_NOTHING = type(None)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "seed": (int,),
    "latency_ms": _NUMBERS,
    "latency_jitter_ms": _NUMBERS,
    "wording": (str,),
    "app_rate": (*_NUMBERS, _NOTHING),
    "pixel_rate": (*_NUMBERS, _NOTHING),
    "app_rates": (dict,),
    "pixel_rates": (dict,),
    "burst_seconds": _NUMBERS,
    "throttle_form": (str,),
    "retry_after": (str, _NOTHING),
    "retry_after_date": (bool,),
    "expired_tokens": (list,),
    "tokens_valid_from": (dict,),
    "tokens_valid_until": (dict,),
    "max_body_bytes": (int, _NOTHING),
    "faults": (list,),
    "kind": (str,),
    "code": (int,),
    "status": (int, _NOTHING),
    "message": (str, _NOTHING),
    "seconds": _NUMBERS,
    "event_source_id": (str, _NOTHING),
    "app": (str, _NOTHING),
    "probability": _NUMBERS,
    "times": (int, _NOTHING),
    "after": _NUMBERS,
    "lasting": (*_NUMBERS, _NOTHING),
    "taken": (bool,),
    "failed": (list,),
    "failed_by": (str,),
}
_CHOICES: Mapping[str, type[StrEnum]] = {
    "kind": FaultKind,
    "wording": IndexWording,
    "throttle_form": ThrottleForm,
    "failed_by": FailedBy,
}
_HTTP_STATUSES = range(200, 600)


def scenario_from_json(document: object) -> Scenario:
    """A scenario from its JSON form: the same names, every one of them optional.

    Raises:
        ScenarioError: an unknown key, a wrong type, a number out of range, or a contradiction.
    """
    return Scenario(**changes_from_json(document))


def changes_from_json(document: object) -> dict[str, Any]:
    """The fields of a scenario that a JSON object names, as `Scenario` takes them.

    Raises:
        ScenarioError: as for `scenario_from_json`.
    """
    values = _checked(document, Scenario, "scenario")
    if "faults" in values:
        values["faults"] = faults_from_json(values["faults"])
    return values


def faults_from_json(document: object) -> tuple[Fault, ...]:
    """Faults from a JSON list of them, or from a single one.

    Raises:
        ScenarioError: as for `scenario_from_json`.
    """
    listed = document if isinstance(document, list) else [document]
    return tuple(_fault(each, f"faults[{place}]") for place, each in enumerate(listed))


def scenario_to_json(scenario: Scenario) -> dict[str, Any]:
    """The JSON form that `scenario_from_json` reads."""
    return {**asdict(scenario), "expired_tokens": sorted(scenario.expired_tokens)}


def fault_to_json(fault: Fault) -> dict[str, Any]:
    """The JSON form that `faults_from_json` reads."""
    return asdict(fault)


def _fault(document: object, path: str) -> Fault:
    values = _checked(document, Fault, path)
    if "kind" not in values:
        raise ScenarioError(f"{path}.kind: is required")
    try:
        return Fault(**values)
    except ScenarioError as error:
        raise ScenarioError(f"{path}.{error}") from None


def _checked(document: object, shape: type[Fault | Scenario], path: str) -> dict[str, Any]:
    """A JSON object with the keys and types of a dataclass, converted to its values."""
    if not isinstance(document, dict):
        raise ScenarioError(f"{path}: an object is expected")
    known = [each.name for each in fields(shape)]
    for name, value in document.items():
        if name not in known:
            raise ScenarioError(f"{path}.{name}: unknown key, known are {', '.join(known)}")
        if type(value) not in _TYPES[name]:
            allowed = " or ".join(_JSON_NAMES[kind] for kind in _TYPES[name])
            raise ScenarioError(f"{path}.{name}: {allowed} is expected")
        _check_number(f"{path}.{name}", name, value)
    return {name: _converted(f"{path}.{name}", name, value) for name, value in document.items()}


def _check_number(path: str, name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    if name == "status" and value not in _HTTP_STATUSES:
        raise ScenarioError(f"{path}: must be an HTTP status of 200 to 599")
    if name == "probability" and value > 1:
        raise ScenarioError(f"{path}: must be between 0 and 1")
    if value < 0:
        raise ScenarioError(f"{path}: must not be negative")


def _converted(path: str, name: str, value: Any) -> Any:
    if (choices := _CHOICES.get(name)) is not None:
        if value not in list(choices):
            raise ScenarioError(f"{path}: must be one of {', '.join(choices)}")
        return choices(value)
    if name == "expired_tokens":
        if not all(isinstance(token, str) for token in value):
            raise ScenarioError(f"{path}: a list of strings is expected")
        return frozenset(value)
    if name == "failed":
        if not all(type(index) is int and index >= 0 for index in value):
            raise ScenarioError(f"{path}: a list of indices is expected")
        return tuple(value)
    if type(value) is dict and not all(
        type(number) in _NUMBERS and number >= 0 for number in value.values()
    ):
        raise ScenarioError(f"{path}: numbers by name are expected, none negative")
    return value


_JSON_NAMES: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    _NOTHING: "null",
}
