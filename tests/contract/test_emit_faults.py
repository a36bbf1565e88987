"""What the emitter makes of a broker that refuses, answers late or goes away."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError

from consumer.messages import Acknowledged, Produce
from tests.support.emitting import Emitting, emitting
from tests.support.faulty_broker import FaultyBroker, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPIC = "own"
FOREVER = 500
"""More refusals than a producer meets in the seconds of a test."""


@pytest.fixture
def broker() -> Iterator[FaultyBroker]:
    with FaultyBroker() as running:
        running.create(TOPIC)
        yield running


def records(*handles: int, partition: int = 0) -> list[Produce]:
    return [Produce(n, TOPIC, None, b"%d" % n, (), -1, partition) for n in handles]


def outcomes(reports: list[Acknowledged]) -> list[tuple[int, str | None, int | None]]:
    return [(a.handle, a.error, a.offset) for a in reports]


async def warmed_up(running: Emitting) -> None:
    """The producer has its identity from the broker, and the topic's metadata."""
    assert outcomes(await running.produced(records(0))) == [(0, None, 0)]


async def test_a_record_that_timed_out_but_was_written_is_written_again(
    broker: FaultyBroker,
) -> None:
    """The client cannot know: it says so, and the next try tells the offset of its own copy."""
    async with emitting(broker.bootstrap_servers, **{"delivery.timeout.ms": "3000"}) as running:
        await warmed_up(running)
        broker.answer_late(Request.PRODUCE, 8000)
        (timed_out,) = await running.produced(records(1))
        assert outcomes([timed_out]) == [(1, "retriable", None)]
        assert "written or not" in (timed_out.detail or "")
        assert outcomes(await running.produced(records(1))) == [(1, None, 2)]
    assert broker.values(TOPIC, 0) == [b"0", b"1", b"1"]


async def test_a_fatal_producer_is_replaced_and_its_records_keep_their_order(
    broker: FaultyBroker,
) -> None:
    """A sequence that the broker does not know any more is nobody's loss and no report."""
    async with emitting(broker.bootstrap_servers) as running:
        await warmed_up(running)
        broker.refuse(Request.PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
        reports = await running.produced(records(*range(1, 6)))
        assert outcomes(reports) == [(n, None, n) for n in range(1, 6)]
    assert broker.values(TOPIC, 0) == [b"%d" % n for n in range(6)]


async def test_what_a_fatal_producer_had_in_the_air_may_be_written_twice_but_not_lost() -> None:
    """A record whose acknowledgement dies with its producer goes again; each is told once."""
    with FaultyBroker(2) as broker:
        broker.create(TOPIC)
        for partition in (0, 1, 2):
            broker.lead(TOPIC, partition, 2 if partition == 1 else 1)
        async with emitting(broker.bootstrap_servers) as running:
            await warmed_up(running)
            broker.answer_late(Request.PRODUCE, 5000, broker=2)
            running.emitter.produce(records(1, partition=1))
            await asyncio.sleep(0.3)
            broker.refuse(Request.PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
            running.emitter.produce(records(2, partition=2))
        assert sorted(outcomes(running.reports)) == [(0, None, 0), (1, None, 1), (2, None, 0)]
        assert broker.values(TOPIC, 1) == [b"1", b"1"]
        assert broker.values(TOPIC, 2) == [b"2"]


async def test_too_few_replicas_for_a_moment_are_waited_for(broker: FaultyBroker) -> None:
    """A broker that restarts costs time, and nothing is reported before it is written."""
    async with emitting(broker.bootstrap_servers) as running:
        await warmed_up(running)
        broker.refuse(
            Request.PRODUCE,
            KafkaError.NOT_ENOUGH_REPLICAS,
            KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        )
        assert outcomes(await running.produced(records(1, 2))) == [(1, None, 1), (2, None, 2)]


@pytest.mark.parametrize(
    "error", [KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.UNKNOWN_TOPIC_OR_PART]
)
async def test_what_the_broker_refuses_for_long_is_reported_and_can_be_tried_again(
    broker: FaultyBroker, error: int
) -> None:
    """The report says what may be the matter; the producer is as good as before."""
    async with emitting(broker.bootstrap_servers, **{"delivery.timeout.ms": "3000"}) as running:
        await warmed_up(running)
        broker.refuse(Request.PRODUCE, *[error] * FOREVER)
        (refused,) = await running.produced(records(1))
        assert outcomes([refused]) == [(1, "retriable", None)]
        assert "replicas" in (refused.detail or "")
        broker.relent(Request.PRODUCE)
        assert outcomes(await running.produced(records(1))) == [(1, None, 1)]


async def test_a_missing_right_to_write_is_reported_with_what_to_grant(
    broker: FaultyBroker,
) -> None:
    """An operator can mend it while the program runs."""
    async with emitting(broker.bootstrap_servers) as running:
        await warmed_up(running)
        broker.refuse(Request.PRODUCE, KafkaError.TOPIC_AUTHORIZATION_FAILED)
        (refused,) = await running.produced(records(1))
        assert outcomes([refused]) == [(1, "retriable", None)]
        assert "TOPIC_AUTHORIZATION_FAILED" in (refused.detail or "")
        assert "right to write" in (refused.detail or "")
        assert await running.produced_at_last(records(1)[0]) == 1


async def test_producers_that_all_turn_fatal_at_once_end_in_a_report(
    broker: FaultyBroker,
) -> None:
    """Replacing is no cure for a missing right: somebody has to be told, and it ends with it."""
    broker.refuse(Request.INIT_PRODUCER_ID, *[KafkaError.CLUSTER_AUTHORIZATION_FAILED] * FOREVER)
    async with emitting(broker.bootstrap_servers) as running:
        (refused,) = await running.produced(records(0))
        assert outcomes([refused]) == [(0, "retriable", None)]
        assert "IdempotentWrite" in (refused.detail or "")
        broker.relent(Request.INIT_PRODUCER_ID)
        for _ in range(5):  # the producer that was asked last may have been refused before
            again = outcomes(await running.produced(records(0)))
            if again == [(0, None, 0)]:
                break
        assert again == [(0, None, 0)]


async def test_a_broker_that_is_away_is_named_as_the_cause(broker: FaultyBroker) -> None:
    """A time-out alone would not tell a dead broker from a slow one."""
    async with emitting(broker.bootstrap_servers, **{"delivery.timeout.ms": "3000"}) as running:
        await warmed_up(running)
        broker.take_down()
        (timed_out,) = await running.produced(records(1))
        assert outcomes([timed_out]) == [(1, "retriable", None)]
        assert re.search(r"\((_TRANSPORT|_ALL_BROKERS_DOWN)\)$", timed_out.detail or "")


async def test_a_broker_that_comes_back_in_time_is_not_worth_a_report(
    broker: FaultyBroker,
) -> None:
    """Within the delivery time-out the client tries again by itself, in order."""
    async with emitting(broker.bootstrap_servers) as running:
        await warmed_up(running)
        broker.take_down()
        running.emitter.produce(records(1, 2))
        await asyncio.sleep(0.5)
        broker.bring_up()
        await running.produced(records(3))
    assert outcomes(running.reports) == [(n, None, n) for n in range(4)]
