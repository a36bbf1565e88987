"""Members of a group come and go under load, by both of Kafka's group protocols."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from consumer.sandbox.faults import Scenario
from consumer.sandbox.samples import POISONS, SampleSettings, generate

if TYPE_CHECKING:
    from tests.support.consumer_process import ConsumerProcess
    from tests.support.pipeline_world import PipelineWorld

EVENTS = 12_000
MAX_BYTES = 64 * 1024


def produce(world: PipelineWorld, count: int) -> None:
    settings = SampleSettings(
        now_ms=time.time_ns() // 1_000_000,
        schema_id=world.schema_id,
        poison=dict.fromkeys(POISONS, 0.005),
        max_event_bytes=MAX_BYTES,
    )
    world.produce(generate(count, 8, settings))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_members_come_and_go_without_loss(world: PipelineWorld, protocol: str) -> None:
    """One, then two, then one again, by SIGTERM: everything is delivered and nothing twice."""
    produce(world, EVENTS)
    world.emulator.play(Scenario(latency_ms=100, latency_jitter_ms=100))
    config = world.config(
        kafka={"properties": {"group.protocol": protocol}},
        batching={"max_events": 50, "max_bytes": MAX_BYTES},
        limits={"max_concurrency": 3, "max_in_flight_events": 500},
        # Longer than a busy machine may take: each repeat below has to be the consumer's own.
        tiktok={"timeout": "4s"},
    )
    good = world.ledger.expected().delivered

    with ExitStack() as stack:
        first = stack.enter_context(world.consumer(config, name="first"))
        reach(world, first, good // 5)
        second = stack.enter_context(world.consumer(config, name="second"))
        second.until(
            lambda: (
                bool(first.status().owned)
                and first.status().owned.isdisjoint(second.status().owned)
                and len(first.status().owned | second.status().owned) == world.partitions
            ),
            "sharing the partitions",
        )
        reach(world, second, good * 2 // 5)
        assert world.emulator.events_accepted < good
        assert first.terminate().exit_code == 0
        second.until_status(lambda s: len(s.owned) == world.partitions, "alone")
        second.until(lambda: world.committed() == world.ledger.ends, "done with everything", 60)
        assert second.terminate().exit_code == 0

    assert world.delivery_findings() == []
    assert world.ledger.letter_findings(world.letters(), copies=True) == []
    assert world.committed() == world.ledger.ends


def reach(world: PipelineWorld, consumer: ConsumerProcess, accepted: int) -> None:
    """Waits until TikTok has taken so many events."""
    consumer.until(lambda: world.emulator.events_accepted >= accepted, f"past {accepted}")


def test_the_consumer_protocol_delivers_and_commits(world: PipelineWorld) -> None:
    """A run under KIP-848, where the broker assigns: the same totals as under the other one."""
    produce(world, 2_000)
    config = world.config(
        kafka={"properties": {"group.protocol": "consumer"}}, batching={"max_bytes": MAX_BYTES}
    )

    with world.consumer(config) as consumer:
        status = consumer.until_settled(2_000)
        assert consumer.terminate().exit_code == 0

    expected = world.ledger.expected()
    assert status.totals == dict(zip(status.totals, expected[:5], strict=True))
    assert world.delivery_findings() == []
    assert world.ledger.letter_findings(world.letters()) == []
    assert world.committed() == world.ledger.ends
