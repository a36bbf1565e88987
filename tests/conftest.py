"""The real broker and the real registry, each started once a run, by the first test that asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests.support import kafka as kafka_support

if TYPE_CHECKING:
    from collections.abc import Iterator

# Time is never what a property is about, and machines are busy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_USED: list[str] = []


def pytest_report_header() -> list[str]:
    return [f"broker, where a test needs one: {kafka_support.choice()}"]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for description in _USED:
        terminalreporter.write_line(f"used: {description}")


@pytest.fixture(scope="session")
def kafka() -> Iterator[kafka_support.RealKafka]:
    """A real Kafka broker."""
    broker = kafka_support.start()
    _USED.append(broker.description)
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def registry() -> Iterator[Any]:
    """A real schema registry (`tests.support.registry`)."""
    # Not imported before a test asks for it, so that unit tests need none of it.
    from tests.support import registry as registry_support  # noqa: PLC0415  the registry is started only where it is needed

    running = registry_support.start()
    _USED.append(running.description)
    yield running
    running.stop()
