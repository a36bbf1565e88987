"""What the process is doing, as `/status`, `/livez` and `/readyz` tell it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from consumer.event import Instant, Outcome
from consumer.hold_gate import GateState
from consumer.state_phases import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from consumer.engine import Engine
    from consumer.event import Item, TopicPartition
    from consumer.offsets import Partition
    from consumer.queues import Queue

IN_FLIGHT_LIMIT = "in_flight_limit"
"""Why every partition is paused while the process holds as much as it may."""

WAITING_FOR_GROUP = "waiting for the consumer group to assign partitions"
"""Why a process that has just started is not ready."""

MEMBERSHIP_UNPROVEN = "membership_unproven"
"""Why a process sends nothing: its last successful commit is too long ago, so that its partitions
may be somebody else's by now."""

REBUILDING_PHASES: Final = frozenset({Phase.LOADING, Phase.OPENING, Phase.REBUILDING})
"""Told as `rebuilding`: the partition's memory of what was accepted is being put together."""


class StoreEntries(Protocol):
    """Knows how many keys a partition's store holds."""

    def entries(self, tp: TopicPartition) -> int | None:
        """About how many; None while the store is not open."""


@dataclass
class Totals:
    """How many records had which outcome since the start.

    `consumed` counts records of source topics; those that come again by the retry topic were
    consumed before.
    """

    consumed: int = 0
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))

    def count(self, items: Sequence[Item]) -> None:
        """Counts settled items."""
        for item in items:
            if item.outcome is not None:
                self.outcomes[item.outcome] += 1

    def as_dict(self) -> dict[str, int]:
        """The totals by their names."""
        return {
            "consumed": self.consumed,
            **{outcome.value: number for outcome, number in self.outcomes.items()},
        }


@dataclass
class Status:
    """Tells what the engine is doing.

    `not_ready` says why the process as a whole does not work yet, or no more; None while it does.
    """

    version: str
    group: str
    engine: Engine
    stores: StoreEntries
    now: Callable[[], Instant]
    totals: Totals = field(default_factory=Totals)
    not_ready: str | None = "starting"

    def live(self) -> bool:
        """Whether the process works at all: it does, if it can answer."""
        return True

    def ready(self) -> tuple[bool, str]:
        """Whether the process does its work, and if not, why.

        It does not while every one of its partitions waits (for the registry, the store, what was
        accepted before, the dead-letter topic), nor while its membership of the group is unproven.
        Without partitions it does what the group asks of it.
        """
        if self.not_ready is not None:
            return False, self.not_ready
        partitions = self.sources()
        if partitions and all(partition.holds for partition in partitions):
            return False, ", ".join(sorted({reason for p in partitions for reason in p.holds}))
        if partitions and not self.engine.lease.holds(self.now().mono):
            return False, MEMBERSHIP_UNPROVEN
        return True, "ready"

    def sources(self) -> list[Partition]:
        """The partitions of source topics that this process owns."""
        return [p for p in list(self.engine.partitions.values()) if p.beside is None]

    def retries(self) -> list[Partition]:
        """The partitions of the retry topics that are read beside them."""
        return [p for p in list(self.engine.partitions.values()) if p.beside is not None]

    def status(self) -> dict[str, Any]:
        """The whole of it, as JSON."""
        now = self.now()
        return {
            "version": self.version,
            "group": self.group,
            "ready": self.ready()[0],
            "totals": self.totals.as_dict(),
            "in_flight": {
                "events": self.engine.in_flight.events,
                "bytes": self.engine.in_flight.bytes,
                "requests": self.engine.delivery.requests_in_air,
            },
            "lease": self._lease(now),
            "partitions": [self._source(p) for p in sorted(self.sources(), key=lambda p: p.tp)],
            "retry": [self._retry(p) for p in sorted(self.retries(), key=lambda p: p.tp)],
            "destinations": [
                self._destination(queue, now) for queue in self.engine.delivery.queues.values()
            ],
        }

    def _lease(self, now: Instant) -> dict[str, Any]:
        lease = self.engine.lease
        ago = None if lease.proved_at is None else round(max(0.0, now.mono - lease.proved_at), 3)
        return {
            "held": lease.holds(now.mono),
            "proved_seconds_ago": ago,
            "valid_seconds": round(lease.seconds, 3),
        }

    def _source(self, partition: Partition) -> dict[str, Any]:
        return {
            **_position(partition),
            "unsettled": len(partition.pending),
            "dedup": self._dedup(partition),
            "paused": self._paused(partition),
        }

    def _retry(self, partition: Partition) -> dict[str, Any]:
        return {
            **_position(partition),
            "waiting": len(partition.pending),
            "paused": self._paused(partition),
        }

    def _dedup(self, partition: Partition) -> dict[str, Any]:
        phase = partition.state.phase
        told: dict[str, Any] = {
            "state": phase.value,
            "entries": self.stores.entries(partition.tp) or 0,
        }
        if phase in REBUILDING_PHASES:
            read, of = partition.state.progress
            told |= {"state": Phase.REBUILDING.value, "progress": {"read": read, "of": of}}
        return told

    def _paused(self, partition: Partition) -> str | None:
        if partition.holds:
            return next(reversed(partition.holds))  # what came last says most
        if partition.draining:
            return "draining"
        return IN_FLIGHT_LIMIT if self.engine.in_flight.full else None

    def _destination(self, queue: Queue, now: Instant) -> dict[str, Any]:
        hold = queue.gates.hold
        until = None
        if hold.state is not GateState.OPEN:
            ahead = max(0.0, hold.until - now.mono)
            until = datetime.fromtimestamp(now.wall_ns / 1e9 + ahead, UTC).isoformat(
                timespec="milliseconds"
            )
        return {
            "event_source_id": queue.destination.event_source_id,
            "event_source": queue.destination.event_source.value,
            "state": hold.state.value,
            "reason": hold.reason or queue.gates.failing,
            "failures": queue.gates.failures,
            "until": until,
            "in_flight": queue.gates.in_flight,
            "waiting": sum(len(items) for items in queue.waiting()),
            "parked": self.engine.parking.counts[queue.destination],
            "concurrency_limit": queue.gates.concurrency.limit,
            "requests_per_second": round(queue.gates.rate.current, 3),
            "learned": queue.gates.rate.learned is not None,
        }


def _position(partition: Partition) -> dict[str, Any]:
    topic, number = partition.tp
    return {
        "topic": topic,
        "partition": number,
        "position": partition.position,
        "committed": None if partition.committed is None else partition.committed.offset,
        "lag": lag(partition),
    }


def lag(partition: Partition) -> int | None:
    """How many records of a partition are not settled; None where its end is not known yet."""
    return None if partition.high is None else max(0, partition.high - partition.watermark)
