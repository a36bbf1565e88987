"""What fails around the consumer makes it wait with a stated reason, and go on by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.event import Reason, TopicPartition
from consumer.sandbox.faults import Fault, FaultKind, Scenario
from consumer.sandbox.samples import PIXELS
from consumer.sandbox.tiktok import Access, EmulatorSettings
from consumer.state_records import UNBOUND
from consumer.store import Stores
from tests.support.pipeline_world import (
    SCHEMA_TEXT,
    TOKENS,
    TOPIC_SOON_MISSED,
    PipelineWorld,
    fresh_purchase,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import ExitStack
    from pathlib import Path

    from consumer.sandbox.samples import Sample
    from tests.support.sandbox_threads import Registry

EACH = 20
"""Events of each partition."""


def good(world: PipelineWorld, numbers: Iterable[int], pixel: str = PIXELS[0]) -> list[Sample]:
    return [world.sample(fresh_purchase(number, pixel)) for number in numbers]


def produce_to_all(world: PipelineWorld) -> int:
    """Good events to every partition; returns how many."""
    for partition in range(world.partitions):
        first = partition * EACH
        world.produce(good(world, range(first, first + EACH)), partition)
    return EACH * world.partitions


def test_a_registry_that_is_down_is_waited_for(
    world: PipelineWorld, sandbox_registry: Registry
) -> None:
    """The source stands still, says why, and nothing becomes a dead letter."""
    sandbox_registry.down()
    events = produce_to_all(world)

    with world.consumer() as consumer:
        consumer.until_status(
            lambda s: set(s.paused.values()) == {"registry_unavailable"} and len(s.paused) == 4,
            "paused for the registry",
        )
        assert consumer.status().settled == 0
        assert not consumer.status().document["ready"], "it does none of its work"
        sandbox_registry.up()
        status = consumer.until_settled(events)
        assert consumer.terminate().exit_code == 0

    assert status.totals["delivered"] == events
    assert status.paused == {}
    assert world.letters() == []
    assert world.committed() == world.ledger.ends


def test_an_offset_waits_for_its_dead_letter(world: PipelineWorld) -> None:
    """A dead-letter topic that refuses the record stops that partition; the others go on."""
    with world.consumer() as consumer:
        consumer.wait_until_ready()
        world.alter_topic(world.letters_topic, max_message_bytes="100")
        world.produce(good(world, range(EACH)), 0)
        event = fresh_purchase(900, page=None)
        world.produce([world.sample(event, Reason.INVALID)], 0)
        world.produce(good(world, range(EACH, 2 * EACH)), 1)
        consumer.until_status(
            lambda s: s.paused == {0: "dead_letter_too_large"} and s.settled == 2 * EACH,
            "paused for the dead letter",
        )
        consumer.until(lambda: world.committed().get(1) == EACH, "past the other partition")
        assert world.committed()[0] == EACH
        assert world.letters() == []

        world.alter_topic(world.letters_topic, max_message_bytes="1000000")
        status = consumer.until_settled(2 * EACH + 1)
        assert consumer.terminate().exit_code == 0

    assert status.totals["dead_lettered"] == 1
    assert world.ledger.letter_findings(world.letters()) == []
    assert world.committed() == world.ledger.ends


def test_a_dead_letter_topic_that_is_gone_is_waited_for(world: PipelineWorld) -> None:
    """The letters go out when somebody has made the topic again."""
    config = world.config(kafka={"properties": TOPIC_SOON_MISSED})
    with world.consumer(config) as consumer:
        consumer.wait_until_ready()
        world.kafka.delete_topic(world.letters_topic)
        event = fresh_purchase(900, page=None)
        world.produce([world.sample(event, Reason.INVALID), *good(world, range(EACH))], 0)
        consumer.until_status(lambda s: s.paused == {0: "dead_letter_refused"}, "paused", 60)
        assert world.committed().get(0, 0) == 0

        world.kafka.create_topic(world.letters_topic, world.partitions)
        consumer.until_settled(EACH + 1, seconds=60)
        assert consumer.terminate().exit_code == 0

    assert world.ledger.letter_findings(world.letters()) == []
    assert world.committed() == world.ledger.ends


def test_a_store_that_another_process_has_open_costs_a_directory_of_its_own(
    world: PipelineWorld, stack: ExitStack
) -> None:
    """Members that share a directory share no store: the partition goes on beside it."""
    events = produce_to_all(world)
    other = Stores(world.folder / "consumer" / "state", world.group, 48 * 3600.0)
    stack.callback(other.close_all)
    other.open(TopicPartition(world.topic, 2), UNBOUND)

    with world.consumer() as consumer:
        status = consumer.until_settled(events)
        assert consumer.terminate().exit_code == 0

    assert status.paused == {}
    assert world.delivery_findings() == []
    assert world.committed() == world.ledger.ends


def test_a_store_that_cannot_be_written_stops_its_partition_alone(world: PipelineWorld) -> None:
    """A file stands where the directory should be, until somebody takes it away."""
    directory = world.folder / "consumer" / "state" / world.group / world.topic / "1"
    directory.parent.mkdir(parents=True)
    directory.write_text("not a directory")
    events = produce_to_all(world)

    with world.consumer() as consumer:
        consumer.until_status(
            lambda s: s.paused == {1: "dedup_store_failed"} and s.settled == events - EACH,
            "done with the others",
        )
        directory.unlink()
        consumer.until_settled(events)
        assert consumer.terminate().exit_code == 0

    assert world.delivery_findings() == []
    assert world.committed() == world.ledger.ends


def test_a_refused_token_holds_its_destination_alone(
    new_world: Callable[..., PipelineWorld], sandbox_registry: Registry, tmp_path: Path
) -> None:
    """Its events stay, the other pixel's go, and a new token in its file is used at once."""
    held, other = PIXELS[0], PIXELS[2]
    tokens = {
        "the-new-token": Access("one", frozenset({held})),
        TOKENS["TOKEN_TWO"]: Access("two", frozenset({other})),
    }
    schema_id = sandbox_registry.register("conversions-value", SCHEMA_TEXT)
    world = new_world(sandbox_registry.url, schema_id, EmulatorSettings(tokens))
    file = tmp_path / "token"
    file.write_text("the-old-token")
    config = world.config(
        destinations=[
            {"event_source_id": held, "access_token": {"file": str(file)}},
            {"event_source_id": other, "access_token": {"env": "TOKEN_TWO"}},
        ]
    )
    for partition in range(world.partitions):
        first = partition * EACH
        world.produce(good(world, range(first, first + EACH), held), partition)
        world.produce(good(world, range(first, first + EACH), other), partition)
    events = world.partitions * EACH

    with world.consumer(config) as consumer:
        status = consumer.until_status(
            lambda s: s.destination(held)["state"] == "held" and s.settled == events,
            "done with the other pixel",
        )
        assert "40105" in status.destination(held)["reason"]
        assert status.destination(held)["until"] is not None
        assert status.destination(other)["state"] == "open"
        assert status.totals["dead_lettered"] == 0
        file.write_text("the-new-token")
        status = consumer.until_settled(2 * events)
        assert status.destination(held)["state"] == "open"
        assert consumer.terminate().exit_code == 0

    assert status.totals["delivered"] == 2 * events
    assert world.delivery_findings() == []
    assert world.letters() == []
    assert world.committed() == world.ledger.ends


def test_a_stop_while_a_destination_is_held_leaves_its_events_in_kafka(
    world: PipelineWorld,
) -> None:
    """SIGTERM exits 0 in time; the next process delivers what was not committed."""
    held = Fault(FaultKind.CODE, code=40001)
    world.emulator.play(Scenario(faults=(held,)))
    events = produce_to_all(world)

    with world.consumer(world.config(shutdown_timeout="3s")) as consumer:
        consumer.until_status(lambda s: s.destination(PIXELS[0])["state"] == "held", "held")
        assert consumer.terminate().exit_code == 0
    assert all(offset == 0 for offset in world.committed().values())
    world.emulator.play(Scenario())
    with world.consumer() as consumer:
        consumer.until_settled(events)
        assert consumer.terminate().exit_code == 0

    assert world.delivery_findings() == []
    assert world.committed() == world.ledger.ends


@pytest.mark.parametrize("fault", [FaultKind.PAGE, FaultKind.HANG])
def test_an_unknown_outcome_ends_as_retries_exhausted(
    world: PipelineWorld, fault: FaultKind
) -> None:
    """After `give_up_after` from the first unknown attempt, and not before."""
    world.emulator.play(Scenario(faults=(Fault(fault, status=503, event_source_id=PIXELS[1]),)))
    lost = [
        world.sample(fresh_purchase(number, PIXELS[1]), Reason.RETRIES_EXHAUSTED)
        for number in range(EACH)
    ]
    world.produce([*lost, *good(world, range(EACH))])

    config = world.config(
        retry={"give_up_after": "3s", "max": "500ms"}, tiktok={"timeout": "500ms"}
    )
    with world.consumer(config) as consumer:
        status = consumer.until_settled(2 * EACH)
        assert consumer.terminate().exit_code == 0

    assert status.totals["dead_lettered"] == EACH
    letters = world.letters()
    assert world.ledger.letter_findings(letters) == []
    for letter in letters:
        assert int(dict(letter.headers)["dlq.attempts"] or b"") > 1
    assert world.delivery_findings() == []
