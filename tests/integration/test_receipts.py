"""Receipts on a real broker: one for each record, and none is passed without."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import TYPE_CHECKING, Any

from consumer.event import Reason
from consumer.sandbox.samples import POISONS, SampleSettings, generate
from consumer.schemas import load_schema
from tests.support.pipeline_world import TOPIC_SOON_MISSED, fresh_purchase, read_receipt

if TYPE_CHECKING:
    from tests.support.consumer_process import ConsumerProcess
    from tests.support.pipeline_world import PipelineWorld
    from tests.support.sandbox_threads import Registry

EVENTS = 3_000
EACH = 20


def with_receipts(world: PipelineWorld, **over: Any) -> dict[str, Any]:
    """The configuration of a consumer that writes them."""
    return world.config(receipts={"topic": world.receipts_topic}, **over)


def assert_all_told_and_sent_once(world: PipelineWorld) -> None:
    """Every record has its receipt and is passed; every good event was sent once."""
    assert world.ledger.receipt_findings(world.receipts(), copies=True) == []
    assert world.committed() == world.ledger.ends
    assert world.delivery_findings() == []
    assert world.unexplained_repeats() == []


def until_it_waits_for_the_schema(consumer: ConsumerProcess) -> None:
    """Returns when the log says that receipts have no schema yet."""
    consumer.until(
        lambda: any("the schema of receipts" in line["message"] for line in consumer.log_lines()),
        "waiting for the schema of receipts",
    )


def test_every_record_has_its_receipt_by_a_registered_schema(
    real_registry_world: PipelineWorld,
) -> None:
    """Whoever knows the registry can read them: outcome, reason, request, consent, place."""
    world = real_registry_world
    settings = SampleSettings(
        now_ms=time.time_ns() // 1_000_000,
        schema_id=world.schema_id,
        duplicates=0.1,
        consent_denied=0.05,
        tombstones=0.02,
        poison={reason: 0.01 for reason in POISONS if reason is not Reason.TOO_LARGE},
    )
    world.produce(generate(EVENTS, 11, settings))

    with world.consumer(with_receipts(world)) as consumer:
        consumer.until_settled(EVENTS)
        assert consumer.terminate().exit_code == 0

    records = world.receipt_records()
    receipts = [read_receipt(record.value) for record in records]
    assert world.ledger.receipt_findings(receipts) == []
    assert world.committed() == world.ledger.ends
    ids = {(record.value or b"")[:5] for record in records}
    assert len(ids) == 1
    schema_id = int.from_bytes(ids.pop()[1:], "big")
    with urllib.request.urlopen(f"{world.registry_url}/schemas/ids/{schema_id}") as answer:  # noqa: S310  a registry of the tests
        assert json.loads(json.load(answer)["schema"]) == load_schema("delivery_receipt")

    asked = {seen.request_id for seen in world.emulator.requests()}
    for record, receipt in zip(records, receipts, strict=True):
        event_id = receipt["event_id"]
        assert record.key == (None if event_id is None else event_id.encode())
        if receipt["outcome"] == "delivered":
            assert receipt["request_id"] in asked
            assert receipt["tiktok_code"] == 0
            assert receipt["match_keys"]
            assert receipt["consumed_at"] <= receipt["accepted_at"] <= receipt["settled_at"]
        if receipt["outcome"] == "duplicate":
            assert receipt["accepted_at"] <= receipt["settled_at"]
        if receipt["reason"] == "consent":
            assert receipt["consent"]["marketing"] == "DENIED"


def test_a_receipts_topic_that_is_gone_is_waited_for(world: PipelineWorld) -> None:
    """Nothing is committed past a record without its receipt, and nothing is sent again."""
    config = with_receipts(
        world,
        kafka={"properties": TOPIC_SOON_MISSED},
    )
    with world.consumer(config) as consumer:
        consumer.wait_until_ready()
        world.kafka.delete_topic(world.receipts_topic)
        world.produce([world.sample(fresh_purchase(n)) for n in range(EACH)], 0)
        consumer.until_status(lambda s: s.paused == {0: "receipt_refused"}, "paused", 60)
        assert world.committed().get(0, 0) == 0

        world.kafka.create_topic(world.receipts_topic, 1)
        consumer.until_settled(EACH, seconds=60)
        assert consumer.terminate().exit_code == 0

    assert_all_told_and_sent_once(world)


def test_a_stop_does_not_wait_for_a_receipts_topic_that_is_gone(world: PipelineWorld) -> None:
    """It exits 0 in its time; who comes next reads again what has no receipt, and sends nothing."""
    config = with_receipts(world, shutdown_timeout="5s")
    with world.consumer(config) as consumer:
        consumer.wait_until_ready()
        world.kafka.delete_topic(world.receipts_topic)
        world.produce([world.sample(fresh_purchase(n)) for n in range(EACH)], 0)
        consumer.until(lambda: len(world.emulator.accepted()) == EACH, "accepted", 60)
        assert consumer.terminate().exit_code == 0
    assert world.committed().get(0, 0) == 0

    with world.consumer(config) as consumer:
        consumer.until_settled(EACH, seconds=60)
        assert consumer.terminate().exit_code == 0
    assert_all_told_and_sent_once(world)


def test_a_registry_that_is_down_at_the_start_is_waited_for(
    world: PipelineWorld, sandbox_registry: Registry
) -> None:
    """Without their schema no receipts can be read: the process says so and is not ready."""
    sandbox_registry.down()
    world.produce([world.sample(fresh_purchase(n)) for n in range(EACH)], 0)
    with world.consumer(with_receipts(world)) as consumer:
        until_it_waits_for_the_schema(consumer)
        assert not consumer.status().document["ready"]
        sandbox_registry.up()
        consumer.until_settled(EACH, seconds=60)
        assert consumer.terminate().exit_code == 0
    assert world.ledger.receipt_findings(world.receipts()) == []


def test_a_stop_does_not_wait_for_a_registry_that_is_down_at_the_start(
    world: PipelineWorld, sandbox_registry: Registry
) -> None:
    """Nothing was read yet: nothing is left to do."""
    sandbox_registry.down()
    with world.consumer(with_receipts(world)) as consumer:
        until_it_waits_for_the_schema(consumer)
        assert consumer.terminate(5.0).exit_code == 0


def test_receipts_of_raw_events_are_raw_and_need_no_registry(world: PipelineWorld) -> None:
    """They come in the source's own encoding."""
    samples = [world.sample(fresh_purchase(n)) for n in range(EACH)]
    raw = [sample._replace(value=(sample.value or b"")[5:]) for sample in samples]
    world.produce(raw, 0)
    config = with_receipts(world, schema={"encoding": "raw"})
    with world.consumer(config) as consumer:
        consumer.until_settled(EACH)
        assert consumer.terminate().exit_code == 0
    receipts = [read_receipt(b"\x00" * 5 + (r.value or b"")) for r in world.receipt_records()]
    assert world.ledger.receipt_findings(receipts) == []
