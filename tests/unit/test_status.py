"""What `/status` and `/readyz` tell of an engine, and what the gauges are set to."""

from __future__ import annotations

import itertools
import logging
import re
from importlib.resources import files
from typing import Any

import pytest
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from consumer.event import TopicPartition
from consumer.messages import StateChunk
from consumer.metrics import Metrics
from consumer.observer import Observer
from consumer.source_events import AssignedPartition
from consumer.span_writer import SpanWriter
from consumer.spans import endpoint
from consumer.state_log import StateLog
from consumer.state_phases import Phase, StateRules
from consumer.status import MEMBERSHIP_UNPROVEN, Status
from consumer.telemetry import Telemetry
from consumer.tracing import Tracer
from tests.support.world import OWN_TOPICS, PIXEL, TIMEOUT, TOPIC, World, code, event, ok

RETRY = OWN_TOPICS.retry_of(TOPIC)


class Entries:
    """The stores, of which one partition's is open."""

    def entries(self, tp: TopicPartition) -> int | None:
        """As many as the partition's number says; the last one's is closed."""
        return None if tp.partition == 3 else tp.partition


def status_of(world: World) -> Status:
    status = Status("1.0", "group", world.engine, Entries(), lambda: world.clock.now)
    status.not_ready = None
    return status


def observer_of(status: Status) -> tuple[Observer, Metrics]:
    tracer = Tracer(ALWAYS_OFF, RandomIdGenerator(), CompositePropagator([]), enabled=False)
    writer = SpanWriter("group", endpoint("https://tiktok.example/track/"), None, [])
    metrics = Metrics()
    return Observer(Telemetry(tracer, metrics, writer), status), metrics


def assign_with_retry(world: World, partition: int = 0) -> None:
    source = TopicPartition(TOPIC, partition)
    retry = TopicPartition(RETRY, partition)
    assigned = [AssignedPartition(source, 0, 0), AssignedPartition(retry, 40, 40, beside=source)]
    world._do(world.engine.assigned(assigned, world.clock.now))


def rebuilding(world: World, partition: int, read: int, of: int) -> None:
    """Puts a memory in place of a partition's, of which so much has been read."""
    now = world.clock.now
    log = StateLog(
        TopicPartition(TOPIC, partition),
        "state",
        bytes(16),
        None,
        None,
        StateRules(),
        itertools.count(1),
    )
    [opening] = log.begin()
    [opened] = log.store_opened(opening.handle, None)  # type: ignore[union-attr]  # it opens the store
    [reading] = log.acknowledged(opened.handle, of, now)  # type: ignore[union-attr]  # it appends
    log.read(reading.handle, StateChunk((), read, 0, of + 1), now)  # type: ignore[union-attr]  # it reads
    world.partition(partition).state = log


def test_a_source_partition_has_its_row_and_its_retry_partition_another() -> None:
    """The contract's keys stand in the source's row; the retry topic's have a list of their own."""
    world = World()
    assign_with_retry(world)
    world.produce(event("e1"))
    world.engine.high_watermarks({(TOPIC, 0): 5, (RETRY, 0): 47})
    told = status_of(world).status()
    [source] = told["partitions"]
    assert source == {
        "topic": TOPIC,
        "partition": 0,
        "position": 1,
        "committed": 0,
        "lag": 5,
        "unsettled": 1,
        "dedup": {"state": "ready", "entries": 0},
        "paused": None,
    }
    [retry] = told["retry"]
    assert retry == {
        "topic": RETRY,
        "partition": 0,
        "position": 40,
        "committed": 40,
        "lag": 7,
        "waiting": 0,
        "paused": None,
    }


@pytest.mark.parametrize("phase", Phase)
def test_the_state_of_a_memory_is_told_by_its_phase(phase: Phase) -> None:
    """The steps before the first record is read are one to an operator: rebuilding."""
    world = World()
    world.assign(2)
    world.partition(2).state.phase = phase
    [row] = status_of(world).status()["partitions"]
    first = {Phase.LOADING, Phase.OPENING}
    assert row["dedup"]["state"] == ("rebuilding" if phase in first else phase.value)
    assert row["dedup"]["entries"] == 2
    assert ("progress" in row["dedup"]) == (row["dedup"]["state"] == "rebuilding")


def test_a_rebuild_tells_how_far_it_is() -> None:
    """In the status and as metrics, which end with it."""
    world = World()
    world.assign(0)
    rebuilding(world, 0, read=40, of=100)
    status = status_of(world)
    [row] = status.status()["partitions"]
    assert row["dedup"]["progress"] == {"read": 40, "of": 100}
    observer, metrics = observer_of(status)
    observer.sample()
    assert metrics.dedup_rebuild_read.values() == {(TOPIC, "0"): 40}
    assert metrics.dedup_rebuild_records.values() == {(TOPIC, "0"): 100}
    world.partition(0).state.phase = Phase.READY
    observer.sample()
    assert metrics.dedup_rebuild_read.values() == metrics.dedup_rebuild_records.values() == {}


def test_a_rebuild_that_takes_long_shows_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A line every ten seconds, however often the gauges are set, and none of a quick one."""
    caplog.set_level(logging.INFO, logger="consumer.observer")
    world = World()
    world.assign(0)
    rebuilding(world, 0, read=40, of=100)
    observer, _ = observer_of(status_of(world))
    for _ in range(25):
        observer.sample()
        world.clock.advance(1.0)
    assert [record.getMessage() for record in caplog.records] == [
        "rebuilding what was accepted: 40 of 100 records of the state topic"
    ] * 2
    assert caplog.records[0].partition == 0  # type: ignore[attr-defined]  # given as extra
    world.partition(0).state.phase = Phase.READY
    observer.sample()
    assert len(caplog.records) == 2


def test_a_member_whose_membership_is_unproven_is_not_ready() -> None:
    """It sends nothing: the last commit that succeeded is too long ago."""
    world = World()
    world.assign(0)
    status = status_of(world)
    world.tick()
    assert status.ready() == (True, "ready")
    lease = status.status()["lease"]
    assert (lease["held"], lease["valid_seconds"]) == (True, 30.5)
    assert lease["proved_seconds_ago"] >= 0
    world.clock.advance(31)
    assert status.ready() == (False, MEMBERSHIP_UNPROVEN)
    assert status.status()["lease"]["held"] is False
    observer, metrics = observer_of(status)
    observer.sample()
    assert metrics.lease_held.values() == {(): 0}


def test_a_member_without_partitions_has_nothing_to_prove() -> None:
    """It is a spare: ready, and no alarm about its lease."""
    status = status_of(World())
    assert status.ready() == (True, "ready")
    assert status.status()["lease"] == {
        "held": False,
        "proved_seconds_ago": None,
        "valid_seconds": 30.5,
    }
    observer, metrics = observer_of(status)
    observer.sample()
    assert metrics.lease_held.values() == {}


def test_a_process_whose_partitions_all_wait_is_not_ready_and_says_why() -> None:
    """One that waits is no reason while another works; a retry partition never is one."""
    world = World()
    assign_with_retry(world, 0)
    world.assign(1)
    world.tick()
    status = status_of(world)
    world.engine.partitions[RETRY, 0].hold("retry_waiting", 7)
    world.partition(0).hold("takeover", 7)
    assert status.ready() == (True, "ready")
    world.partition(1).hold("dedup_rebuilding", 7)
    assert status.ready() == (False, "dedup_rebuilding, takeover")
    assert [row["paused"] for row in status.status()["partitions"]] == [
        "takeover",
        "dedup_rebuilding",
    ]
    assert [row["paused"] for row in status.status()["retry"]] == ["retry_waiting"]


def test_a_destination_tells_what_waits_in_memory_and_what_was_parked() -> None:
    """An operator sees where a held pixel's events are."""
    world = World(answer=lambda _request: code(40105, "Access token is invalid"))
    world.assign(0)
    world.produce(*(event(f"e{n}") for n in range(3)))
    world.run(1.0)
    world.engine.parking.counts[world.destinations[0]] = 41
    [row] = status_of(world).status()["destinations"]
    told: dict[str, Any] = {
        name: row[name] for name in ("event_source_id", "state", "waiting", "parked")
    }
    assert told == {"event_source_id": PIXEL, "state": "held", "waiting": 3, "parked": 41}


def test_a_destination_that_only_fails_says_so_while_it_is_open() -> None:
    """With a request a minute the failures that close it take minutes; it tells them at once."""
    answers = [TIMEOUT]
    world = World(answer=lambda _request: answers[-1])
    world.assign(0)
    world.produce(event("e"))
    world.run(2.0)
    status = status_of(world)
    observer, metrics = observer_of(status)
    observer.sample()
    [row] = status.status()["destinations"]
    assert (row["state"], row["reason"]) == ("open", "timeout: no answer in time")
    assert row["failures"] >= 2
    assert metrics.destination_failures.values() == {(PIXEL,): float(row["failures"])}
    answers.append(ok())
    world.run(60.0)
    [row] = status.status()["destinations"]
    assert (row["state"], row["reason"], row["failures"]) == ("open", None, 0)


def test_records_of_the_retry_topic_are_consumed_once() -> None:
    """The totals count source records; the metric counts each topic's own."""
    world = World()
    assign_with_retry(world)
    status = status_of(world)
    observer, metrics = observer_of(status)
    observer.consumed(TOPIC, 5)
    observer.consumed(RETRY, 3)
    world.lose(0)
    observer.consumed(RETRY, 2)
    assert status.totals.consumed == 5
    assert metrics.consumed.values() == {(TOPIC,): 5, (RETRY,): 5}


def test_lag_is_told_apart_for_sources_and_retry_topics() -> None:
    """What waits on purpose must not raise the alarm for what comes in too slowly."""
    world = World()
    assign_with_retry(world)
    world.assign(3)
    world.engine.high_watermarks({(TOPIC, 0): 5, (RETRY, 0): 47})
    observer, metrics = observer_of(status_of(world))
    observer.sample()
    assert metrics.consumer_lag.values() == {(TOPIC, "0"): 5}
    assert metrics.retry_lag.values() == {(RETRY, "0"): 7}
    assert set(metrics.unsettled_span.values()) == {(TOPIC, "0"), (TOPIC, "3"), (RETRY, "0")}
    assert metrics.dedup_entries.values() == {(TOPIC, "0"): 0}
    world.lose(0, 3)
    observer.sample()
    assert metrics.consumer_lag.values() == metrics.retry_lag.values() == {}


def test_parked_events_are_counted_by_their_destination() -> None:
    """Whatever the chunk, the sums are the events."""
    world = World(answer=lambda _request: None)
    world.assign(0)
    world.produce(*(event(f"e{n}") for n in range(4)))
    items = list(world.partition(0).pending.values())
    observer, metrics = observer_of(status_of(world))
    observer.parked(items[:1])
    observer.parked(items[1:])
    assert metrics.parked.values() == {(PIXEL,): 4}


def test_the_page_reads_only_what_the_status_tells() -> None:
    """A field that was renamed would show as a dash for ever."""
    world = World()
    assign_with_retry(world)
    told = status_of(world).status()
    page = (files("consumer") / "page.html").read_text(encoding="utf-8")
    rows = {"d": told["destinations"][0], "p": told["partitions"][0] | told["retry"][0]}
    rows |= {"status": told, "lease": told["lease"], "dedup": {"progress": 0, **rows["p"]["dedup"]}}
    for name, row in rows.items():
        read = set(re.findall(rf"\b{name}\.([a-z_]+)\b(?!\()", page))
        assert read
        assert read <= row.keys()
