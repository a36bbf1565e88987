"""A hundred thousand events on a real broker, on a bad day: what comes out is what was foretold."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from consumer.event import Reason
from consumer.sandbox.faults import Fault, FaultKind, Scenario
from consumer.sandbox.rules import IndexWording
from consumer.sandbox.samples import POISONS, Sample, SampleSettings, generate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.consumer_process import ConsumerProcess
    from tests.support.pipeline_world import PipelineWorld

EVENTS = 100_000
MAX_BYTES = 128 * 1024
TIMEOUT = 5
"""Seconds: long enough that a busy machine is not taken for a TikTok that does not answer."""
MOST_MEMORY = 250 * 1024 * 1024

UNKNOWN = (
    Fault(FaultKind.CLOSE_AFTER, probability=0.005),
    Fault(FaultKind.LATE, seconds=TIMEOUT + 1, probability=0.005),
)
"""TikTok takes the events and the consumer cannot know it."""

BAD_DAY = (
    Fault(FaultKind.CODE, code=40100, probability=0.01),
    Fault(FaultKind.CODE, code=40132, probability=0.01),
    Fault(FaultKind.PAGE, status=429, probability=0.005),
    Fault(FaultKind.PAGE, status=503, probability=0.01),
    Fault(FaultKind.CODE, code=50000, probability=0.005),
    *UNKNOWN,
)
"""Every twentieth request is struck: throttled, failed, or answered when nobody listens."""


def samples(count: int, seed: int, schema_id: int) -> Sequence[Sample]:
    """A tenth duplicates, a hundredth poison of each kind, two hundredths without consent."""
    settings = SampleSettings(
        now_ms=time.time_ns() // 1_000_000,
        schema_id=schema_id,
        duplicates=0.1,
        consent_denied=0.02,
        tombstones=0.01,
        poison=dict.fromkeys(POISONS, 0.01),
        max_event_bytes=MAX_BYTES,
    )
    return list(generate(count, seed, settings))


def reasons(consumer: ConsumerProcess) -> Counter[str]:
    """What `/metrics` says of suppressed and dead-lettered records, by reason."""
    counted: Counter[str] = Counter()
    for (name, labels), value in consumer.metrics().items():
        named = dict(labels)
        if name == "tiktok_events_settled_total" and named["reason"]:
            counted[named["reason"]] += int(value)
    return counted


@pytest.mark.timeout(240)
def test_every_event_ends_as_the_samples_say(real_registry_world: PipelineWorld) -> None:
    """Good ones are accepted once, bad ones are dead letters byte for byte, and all are counted."""
    world = real_registry_world
    world.produce(samples(EVENTS, 1, world.schema_id))
    expected = world.ledger.expected()
    world.emulator.play(Scenario(seed=1, latency_ms=20, latency_jitter_ms=20, faults=BAD_DAY))

    config = world.config(
        kafka={"properties": {"session.timeout.ms": "12000"}},
        tiktok={"timeout": f"{TIMEOUT}s"},
        batching={"max_bytes": MAX_BYTES},
    )
    with world.consumer(config) as consumer:
        status = consumer.until_settled(EVENTS, seconds=90)
        told = reasons(consumer)
        peak_rss = consumer.peak_rss_bytes()
        exit_code = consumer.terminate().exit_code

    assert status.totals == dict(zip(status.totals, expected[:5], strict=True))
    assert told == expected.reasons
    assert world.delivery_findings() == []
    assert world.unexplained_repeats() == []
    assert world.ledger.letter_findings(world.letters()) == []
    assert world.committed() == world.ledger.ends
    assert exit_code == 0
    assert peak_rss < MOST_MEMORY
    struck = world.emulator.requests_by_fault
    assert struck.keys() == {fault.kind.value for fault in BAD_DAY}
    assert sum(struck.values()) > 0.03 * len(world.emulator.requests())
    assert [line for line in consumer.log_lines() if line["level"] in ("error", "critical")] == []


@pytest.mark.parametrize("wording", IndexWording)
def test_a_rejected_batch_loses_only_the_guilty(
    world: PipelineWorld, wording: IndexWording
) -> None:
    """Whether TikTok names the guilty event in one of its wordings or not at all."""
    settings = SampleSettings(
        now_ms=time.time_ns() // 1_000_000,
        schema_id=world.schema_id,
        duplicates=0.0,
        consent_denied=0.0,
        poison={Reason.REJECTED: 0.02},
    )
    world.produce(generate(500, 4, settings))
    world.emulator.play(Scenario(wording=wording))

    with world.consumer() as consumer:
        status = consumer.until_settled(500)

    assert status.totals["dead_lettered"] == 10
    assert world.delivery_findings() == []
    assert world.ledger.letter_findings(world.letters()) == []
