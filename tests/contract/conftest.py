"""Brokers of both kinds, and a fresh topic on one."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from consumer.sandbox.broker import EmbeddedBroker
from tests.support.clusters import Cluster, Embedded, Real

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.kafka import RealKafka

_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(params=["embedded", "real"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Either broker."""
    if request.param == "embedded":
        return Embedded(request.getfixturevalue("embedded"))
    return Real(request.getfixturevalue("kafka"))


@pytest.fixture
def real(kafka: RealKafka) -> Real:
    """The real broker, for what a mock cluster cannot do."""
    return Real(kafka)


@pytest.fixture(params=["embedded-consumer", "real-classic", "real-consumer"])
def hand_over(request: pytest.FixtureRequest) -> tuple[Cluster, str]:
    """A broker and a protocol whose rebalances take no more than a few seconds."""
    name, protocol = request.param.split("-")
    if name == "embedded":
        return Embedded(request.getfixturevalue("embedded")), protocol
    return Real(request.getfixturevalue("kafka")), protocol


@pytest.fixture(params=["classic", "consumer"])
def protocol(request: pytest.FixtureRequest) -> str:
    """Either group protocol."""
    name: str = request.param
    return name


@pytest.fixture
def name() -> str:
    """A topic's name that no other test uses."""
    return f"source-{next(_NUMBERS)}"


@pytest.fixture
def topic(cluster: Cluster, name: str) -> str:
    """A topic of four partitions on the `cluster`."""
    cluster.create(name)
    return name
