"""Tells telemetry and status what the pipeline did, and sets the gauges once a second."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from consumer.hold_gate import GateState
from consumer.status import REBUILDING_PHASES, WAITING_FOR_GROUP, lag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from consumer.event import Attempt, Item, TopicPartition
    from consumer.instruments import Labels
    from consumer.offsets import Partition
    from consumer.status import Status
    from consumer.telemetry import Telemetry


logger = logging.getLogger(__name__)

TELL_SECONDS = 10.0
"""Between two log lines about the same rebuild; one that takes no longer has none."""


class Observer:
    """What the pipeline reports to."""

    def __init__(self, telemetry: Telemetry, status: Status) -> None:
        self._telemetry = telemetry
        self._status = status
        self._retry_topics: set[str] = set()
        self._rebuilds: dict[Labels, float] = {}

    def assigned(self) -> None:
        """The group has said which partitions are ours."""
        if self._status.not_ready == WAITING_FOR_GROUP:
            self._status.not_ready = None

    def consumed(self, topic: str, records: int) -> None:
        """Records were read. Those of a retry topic were consumed before: in the totals once."""
        if not self._is_retry(topic):
            self._status.totals.consumed += records
        self._telemetry.consumed(topic, records)

    def settled(self, items: Sequence[Item]) -> None:
        """These items have their outcome."""
        self._status.totals.count(items)
        self._telemetry.settled(items)

    def parked(self, items: Sequence[Item]) -> None:
        """These items are in the retry topic, and wait there for their destination."""
        counts = Counter(item.event_source_id or "" for item in items)
        for event_source_id, number in counts.items():
            self._telemetry.metrics.parked.add(number, (event_source_id,))

    def attempt_finished(self, attempt: Attempt) -> None:
        """A request is over."""
        self._telemetry.attempt_finished(attempt)

    def records_lost(self, tp: TopicPartition, lost: tuple[int, int]) -> None:
        """Retention deleted these offsets before this group read them."""
        self._telemetry.metrics.lost_range.add(lost[1] - lost[0], (tp.topic, str(tp.partition)))

    def paused(self, reason: str) -> None:
        """A partition was paused."""
        self._telemetry.metrics.pauses.add(1, (reason,))

    def sample(self) -> None:
        """Sets the gauges to what is so now."""
        metrics, engine = self._telemetry.metrics, self._status.engine
        metrics.in_flight.set(engine.in_flight.events)
        metrics.in_flight_bytes.set(engine.in_flight.bytes)
        sources, retries = _labelled(self._status.sources()), _labelled(self._status.retries())
        held = engine.lease.holds(self._status.now().mono)
        # Without partitions there is nothing to prove.
        metrics.lease_held.replace({(): float(held)} if sources else {})
        metrics.consumer_lag.replace(_known({key: lag(p) for key, p in sources.items()}))
        metrics.retry_lag.replace(_known({key: lag(p) for key, p in retries.items()}))
        metrics.unsettled_span.replace(
            {key: p.unsettled_span for key, p in (sources | retries).items()}
        )
        self._sample_memory(sources)
        self._sample_destinations()

    def _sample_memory(self, sources: Mapping[Labels, Partition]) -> None:
        metrics, stores = self._telemetry.metrics, self._status.stores
        metrics.dedup_entries.replace(
            _known({key: stores.entries(p.tp) for key, p in sources.items()})
        )
        progress = {
            key: p.state.progress
            for key, p in sources.items()
            if p.state.phase in REBUILDING_PHASES
        }
        metrics.dedup_rebuild_read.replace({key: read for key, (read, _) in progress.items()})
        metrics.dedup_rebuild_records.replace({key: of for key, (_, of) in progress.items()})
        self._tell_rebuilds(progress, self._status.now().mono)

    def _tell_rebuilds(self, progress: Mapping[Labels, tuple[int, int]], now: float) -> None:
        told = self._rebuilds
        self._rebuilds = {key: told.get(key, now) for key in progress}
        for key, (read, of) in progress.items():
            if now >= self._rebuilds[key] + TELL_SECONDS:
                self._rebuilds[key] = now
                topic, partition = key
                logger.info(
                    "rebuilding what was accepted: %d of %d records of the state topic",
                    read,
                    of,
                    extra={"topic": topic, "partition": int(partition)},
                )

    def _sample_destinations(self) -> None:
        metrics, delivery = self._telemetry.metrics, self._status.engine.delivery
        queues = {q.destination.event_source_id: q for q in delivery.queues.values()}
        metrics.requests_in_flight.replace({(d,): q.gates.in_flight for d, q in queues.items()})
        metrics.concurrency_limit.replace(
            {(d,): q.gates.concurrency.limit for d, q in queues.items()}
        )
        metrics.rate_limit.replace({(d,): q.gates.rate.current for d, q in queues.items()})
        metrics.destination_failures.replace({(d,): q.gates.failures for d, q in queues.items()})
        metrics.destination_state.replace(
            {
                (d, state.value): float(q.gates.hold.state is state)
                for d, q in queues.items()
                for state in GateState
            }
        )

    def _is_retry(self, topic: str) -> bool:
        if topic in self._retry_topics:
            return True
        known = any(p.tp.topic == topic for p in self._status.retries())
        if known:
            self._retry_topics.add(topic)
        return known


def _labelled(partitions: Iterable[Partition]) -> dict[Labels, Partition]:
    return {(p.tp.topic, str(p.tp.partition)): p for p in partitions}


def _known(values: Mapping[Labels, float | None]) -> dict[Labels, float]:
    return {key: value for key, value in values.items() if value is not None}
