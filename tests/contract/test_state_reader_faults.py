"""What the reader of the state topic makes of brokers that refuse, move or go away."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, Producer

from consumer.event import TopicPartition
from tests.support.faulty_broker import FaultyBroker, Request
from tests.support.state_reads import ReadFailedError, Reads, state_reads

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPIC = "state"
FIRST, SECOND = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)
RECORDS = 2500
FOREVER = 500
"""More refusals than a consumer meets in the seconds of a test."""


@pytest.fixture
def broker() -> Iterator[FaultyBroker]:
    """Two brokers: the first leads partition 0, the second partition 1."""
    with FaultyBroker(2) as running:
        running.create(TOPIC, 2)
        running.lead(*FIRST, 1)
        running.lead(*SECOND, 2)
        producer = Producer({"bootstrap.servers": running.bootstrap_servers, "log_level": 0})
        for n in range(RECORDS):
            for partition in (0, 1):
                producer.produce(TOPIC, bytes(1000), b"%d" % n, partition=partition)
        assert not producer.flush(15)
        yield running


async def the_rest(reads: Reads, tp: TopicPartition, start: int | None = None) -> list[int]:
    return [record.offset for record in await reads.records(tp, start, RECORDS)]


async def test_a_leader_that_moves_in_the_middle_costs_time_only(broker: FaultyBroker) -> None:
    """The log is the same wherever it is read; nothing is left out or doubled."""
    async with state_reads(broker.bootstrap_servers) as reads:
        chunk = await reads.chunk(FIRST, None, RECORDS)
        broker.lead(*FIRST, 2)
        rest = await the_rest(reads, FIRST, chunk.next_offset)
    assert [*(r.offset for r in chunk.records), *rest] == list(range(RECORDS))


async def test_a_partition_without_a_leader_fails_its_own_reads_and_no_others(
    broker: FaultyBroker,
) -> None:
    """Its neighbours are read at speed meanwhile, and it is read when it has a leader again."""
    broker.lead(*FIRST, -1)
    async with state_reads(broker.bootstrap_servers, patience=3.0) as reads:
        leaderless = reads.ask(FIRST, None, RECORDS)
        for _ in range(3):
            async with asyncio.timeout(2.5):
                assert await the_rest(reads, SECOND) == list(range(RECORDS))
        with pytest.raises(ReadFailedError, match=r"state/0: .* not answered in 3 s \(.+\)"):
            await leaderless
        broker.lead(*FIRST, 1)
        assert await the_rest(reads, FIRST) == list(range(RECORDS))


@pytest.mark.parametrize(
    "error",
    [
        KafkaError.OFFSET_OUT_OF_RANGE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError._TRANSPORT,
    ],
)
@pytest.mark.parametrize("request_kind", [Request.FETCH, Request.LIST_OFFSETS])
async def test_an_error_that_passes_costs_time_only(
    broker: FaultyBroker, error: int, request_kind: Request
) -> None:
    """Right after an election brokers say many things; the log is read as it is, once."""
    async with state_reads(broker.bootstrap_servers) as reads:
        chunk = await reads.chunk(FIRST, None, RECORDS)
        broker.refuse(request_kind, error)
        rest = await the_rest(reads, FIRST, chunk.next_offset)
        assert [*(r.offset for r in chunk.records), *rest] == list(range(RECORDS))
        assert await the_rest(reads, FIRST) == list(range(RECORDS))


async def test_a_missing_right_is_a_failure_that_says_what_to_grant(broker: FaultyBroker) -> None:
    """At once: waiting for it is no cure; granted, the next read works."""
    async with state_reads(broker.bootstrap_servers) as reads:
        broker.refuse(Request.LIST_OFFSETS, *[KafkaError.TOPIC_AUTHORIZATION_FAILED] * FOREVER)
        with pytest.raises(ReadFailedError, match=r"state/0: TOPIC_AUTHORIZATION_FAILED: grant"):
            await reads.chunk(FIRST, None, RECORDS)
        broker.relent(Request.LIST_OFFSETS)
        assert await the_rest(reads, FIRST) == list(range(RECORDS))


async def test_brokers_that_are_all_away_fail_each_read_once(broker: FaultyBroker) -> None:
    """The detail says why; every read has one answer, and reading goes on when they are back."""
    async with state_reads(broker.bootstrap_servers, patience=1.0) as reads:
        chunk = await reads.chunk(FIRST, None, RECORDS)
        broker.take_down()
        with pytest.raises(ReadFailedError, match=r"not answered in 1 s \(_"):
            await reads.chunks(FIRST, chunk.next_offset, RECORDS + 1)
        with pytest.raises(ReadFailedError, match=r"not answered in 1 s \(_"):
            await reads.chunk(FIRST, None, RECORDS)
        broker.bring_up()
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(ReadFailedError):
                    assert await the_rest(reads, FIRST) == list(range(RECORDS))
                    break
    assert set(reads.answered.values()) == {1}


async def test_a_defect_of_the_thread_fails_what_is_asked_for_and_all_that_follows(
    broker: FaultyBroker,
) -> None:
    """No read waits for ever, whatever has gone wrong, and a stop still works."""
    broker.lead(*FIRST, -1)
    async with state_reads(broker.bootstrap_servers) as reads:
        before = reads.ask(FIRST, None, RECORDS)
        defect = reads.ask(TopicPartition(TOPIC, "1"), None, 5)  # type: ignore[arg-type]  # a bug
        for asked in (before, defect):
            with pytest.raises(ReadFailedError, match="restart"):
                await asked
        with pytest.raises(ReadFailedError, match="restart"):
            await reads.chunk(SECOND, None, RECORDS)
