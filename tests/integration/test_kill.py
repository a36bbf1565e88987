"""`kill -9` in the middle of the work: the next process goes on, and nothing is missing."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from consumer.sandbox.faults import Fault, FaultKind, Scenario
from consumer.sandbox.samples import POISONS, SampleSettings, generate

if TYPE_CHECKING:
    from consumer.sandbox.ground_truth import RequestSeen
    from tests.support.pipeline_world import PipelineWorld

EVENTS = 40_000
KILLS = 5
MAX_BYTES = 128 * 1024
TIMEOUT = 5
"""Seconds: long enough that a busy machine is not taken for a TikTok that does not answer."""
LATENCY_MS = 60
UNSEEN_SECONDS = 2.0
"""Before a kill: a request from then on may have been answered and not yet been marked."""

FAULTS = (
    Fault(FaultKind.CODE, code=40100, probability=0.01),
    Fault(FaultKind.PAGE, status=503, probability=0.02),
    Fault(FaultKind.CLOSE_AFTER, probability=0.01),
    Fault(FaultKind.LATE, seconds=TIMEOUT + 1, probability=0.01),
)


@pytest.mark.timeout(240)
def test_nothing_is_lost_by_five_kills(real_registry_world: PipelineWorld) -> None:
    """Everything produced ends as foretold; what was accepted and marked is not sent again."""
    world = real_registry_world
    settings = SampleSettings(
        now_ms=time.time_ns() // 1_000_000,
        schema_id=world.schema_id,
        tombstones=0.01,
        poison=dict.fromkeys(POISONS, 0.01),
        max_event_bytes=MAX_BYTES,
    )
    world.produce(generate(EVENTS, 2, settings))
    good = world.ledger.expected().delivered
    world.emulator.play(
        Scenario(seed=2, latency_ms=LATENCY_MS, latency_jitter_ms=LATENCY_MS, faults=FAULTS)
    )
    config = world.config(
        # A member with a name of its own comes back at once; others wait for the session's end.
        kafka={"properties": {"group.instance.id": "the-one", "session.timeout.ms": "12000"}},
        tiktok={"timeout": f"{TIMEOUT}s"},
        batching={"max_bytes": MAX_BYTES},
        limits={"max_concurrency": 4},
        receipts={"topic": world.receipts_topic},
    )
    draw = random.Random(2)
    killed: list[float] = []

    for _ in range(KILLS):
        enough = world.emulator.events_accepted + draw.randrange(500, good // (KILLS + 1))
        with world.consumer(config) as consumer:
            while world.emulator.events_accepted < enough:
                assert consumer.poll() is None, consumer
                time.sleep(0.002)
            consumer.kill()
            killed.append(time.time())
    with world.consumer(config) as consumer:
        consumer.until_status(
            lambda status: (
                {p["partition"]: p["committed"] for p in status.document["partitions"]}
                == world.ledger.ends
            ),
            "done with everything",
            seconds=60,
        )
        # What a destination could not take fast enough stands in the retry topic, and comes back.
        consumer.until(lambda: not world.delivery_findings(), "done with what was parked", 60.0)
        assert consumer.terminate().exit_code == 0

    def in_the_air_at_a_kill(seen: RequestSeen) -> bool:
        return any(kill - UNSEEN_SECONDS <= seen.at <= kill for kill in killed)

    assert world.delivery_findings() == []
    assert world.unexplained_repeats(in_the_air_at_a_kill) == []
    assert world.ledger.letter_findings(world.letters(), copies=True) == []
    assert world.ledger.receipt_findings(world.receipts(), copies=True) == []
    assert world.committed() == world.ledger.ends
