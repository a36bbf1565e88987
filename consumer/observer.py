"""Tells telemetry and status what the pipeline did, and sets the gauges once a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.limits import GateState
from consumer.status import WAITING_FOR_GROUP, lag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.event import Attempt, Item, TopicPartition
    from consumer.status import Status
    from consumer.telemetry import Telemetry


class Observer:
    """What the pipeline reports to."""

    def __init__(self, telemetry: Telemetry, status: Status) -> None:
        self._telemetry = telemetry
        self._status = status

    def assigned(self) -> None:
        """The group has said which partitions are ours."""
        if self._status.not_ready == WAITING_FOR_GROUP:
            self._status.not_ready = None

    def consumed(self, topic: str, records: int) -> None:
        """Records were read."""
        self._status.totals.consumed += records
        self._telemetry.consumed(topic, records)

    def settled(self, items: Sequence[Item]) -> None:
        """These items have their outcome."""
        self._status.totals.count(items)
        self._telemetry.settled(items)

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
        partitions = {
            (p.tp.topic, str(p.tp.partition)): p for p in list(engine.partitions.values())
        }
        metrics.consumer_lag.replace(
            {key: behind for key, p in partitions.items() if (behind := lag(p)) is not None}
        )
        metrics.unsettled_span.replace({key: p.unsettled_span for key, p in partitions.items()})
        metrics.dedup_entries.replace(
            {
                key: entries
                for key, p in partitions.items()
                if (entries := self._status.stores.entries(p.tp)) is not None
            }
        )
        queues = {q.destination.event_source_id: q for q in engine.delivery.queues.values()}
        metrics.requests_in_flight.replace({(d,): q.gates.in_flight for d, q in queues.items()})
        metrics.concurrency_limit.replace({(d,): q.gates.concurrency for d, q in queues.items()})
        metrics.destination_state.replace(
            {
                (d, state.value): float(q.gates.hold.state is state)
                for d, q in queues.items()
                for state in GateState
            }
        )
