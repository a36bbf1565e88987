"""The alerts in `deploy/` speak of metrics, labels and values that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from consumer.event import Outcome
from consumer.hold_gate import GateState
from consumer.instruments import Histogram
from consumer.metrics import Metrics

FILE = Path(__file__).parents[2] / "deploy" / "alerts.yml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]
]
VALUES = {"state": set(GateState), "outcome": set(Outcome)}
SELECTOR = re.compile(r"(tiktok_events_\w+)(?:\{([^}]*)\})?")


def metric(name: str) -> Any:
    """As declared; a histogram has its series by other endings."""
    return Metrics().named(name)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_is_measured(rule: dict[str, Any]) -> None:
    """A metric or label that was renamed would leave the alert silent for ever."""
    selectors = SELECTOR.findall(rule["expr"])
    assert selectors
    labels: set[str] = {"instance"}  # Prometheus adds it
    for name, matchers in selectors:
        assert not isinstance(metric(name), Histogram)
        labels |= set(metric(name).labels)
        for label, value in re.findall(r'(\w+)="([^"]*)"', matchers):
            assert label in metric(name).labels
            assert value in VALUES[label]
    for by in re.findall(r"by \(([^)]*)\)", rule["expr"]):
        labels &= {*re.split(r",\s*", by), "instance"}
    assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= labels


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    """Whoever is woken by it has never seen this program."""
    assert rule["labels"]["severity"] in {"page", "warning"}
    assert rule["annotations"]["action"].endswith(".")
    for name in re.findall(r"tiktok_events_\w+", rule["annotations"]["action"]):
        assert metric(name)
