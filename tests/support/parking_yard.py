"""Events that wait for destinations, a retry topic, and the parking between them: in memory.

Stands in for the engine around `Parking`: what is parked is acknowledged, appended and read again,
what is open is delivered, and every step is checked for what parking must never do.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from typing import TYPE_CHECKING

from consumer import dedup, limits
from consumer.batch import Batch, BatchLimits
from consumer.event import (
    Consent,
    ConsentState,
    Destination,
    EventSource,
    Instant,
    Item,
    Mapped,
    Record,
    TopicPartition,
    TraceIds,
)
from consumer.hold_gate import GateState
from consumer.messages import Acknowledged
from consumer.offsets import CommitOffset, Partition
from consumer.park_choice import ParkingSettings, in_air
from consumer.parking import LOOK_SECONDS, Parking
from consumer.queues import DeliverySettings, Queue
from consumer.retry_headers import restore
from consumer.retry_partition import RETRY_WAITING
from tests.support.state_world import ready_partition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumer.messages import Produce, ProduceError

A, B, C = 0, 1, 2
TOPIC, RETRY_TOPIC = "conversions", "group-1.conversions.retry"
START_MS = 1_790_000_000_000
GRANTED = ConsentState.GRANTED
CONSENT = Consent(GRANTED, GRANTED, GRANTED, None, None, True, False, None)
NO_TRACE = TraceIds(0, 0, 0, False, "")


class Yard:
    """A process with `partitions` source partitions, each with its retry partition beside it."""

    def __init__(
        self, destinations: int = 2, partitions: int = 1, *, batch: int = 10, **settings: float
    ) -> None:
        self.settings = ParkingSettings(**settings)  # type: ignore[arg-type]  # as named there
        self.mono, self.wall_ms = 1000.0, START_MS
        self.destinations = [
            Destination(EventSource.WEB, f"PIXEL{number}") for number in range(destinations)
        ]
        delivery = DeliverySettings(BatchLimits(batch, linger=0.25))
        self.queues = {d: Queue(d, delivery) for d in self.destinations}
        self.keys = dedup.InFlight()
        self.load = limits.InFlight(
            self.settings.max_in_flight_events, self.settings.max_in_flight_bytes
        )
        self.parking = Parking(self.settings, destinations, itertools.count(1))
        self.sources: list[Partition] = []
        self.retries: list[Partition] = []
        self.logs: dict[Partition, list[Record]] = {}
        for number in range(partitions):
            source = ready_partition(TopicPartition(TOPIC, number), 0, CommitOffset(0))
            retry = ready_partition(
                TopicPartition(RETRY_TOPIC, number), 0, CommitOffset(0), beside=source
            )
            source.retry = retry
            self.sources.append(source)
            self.retries.append(retry)
            self.logs[retry] = []
            self.parking.taken_over(retry)
        self.offsets: Counter[Partition] = Counter()
        self.numbers = itertools.count()
        self.events: dict[bytes, Destination] = {}
        self.foreign: set[bytes] = set()
        self.produced: list[Produce] = []
        self.unanswered: list[Produce] = []
        self.air: dict[Destination, list[Batch]] = {d: [] for d in self.destinations}
        self.outcomes: Counter[bytes] = Counter()

    @property
    def now(self) -> Instant:
        """The time by both clocks."""
        return Instant(self.mono, self.wall_ms * 1_000_000)

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self.mono += seconds
        self.wall_ms += round(seconds * 1000)

    # Events

    def source(
        self, destination: int, number: int = 1, *, partition: int = 0, same: str | None = None
    ) -> list[Item]:
        """So many events are read from the source; `same` gives all of them one key."""
        items = []
        for _ in range(number):
            name = f"{destination}:{same or ''}:{next(self.numbers)}".encode()
            self.events[name] = self.destinations[destination]
            owner = self.sources[partition]
            record = Record(*owner.tp, self.offsets[owner], -1, None, name, ())
            self.offsets[owner] += 1
            items.append(self._take(record, owner))
        return items

    def append(self, destination: int, number: int = 1, *, partition: int = 0) -> None:
        """Somebody else puts events into the retry topic."""
        retry = self.retries[partition]
        for _ in range(number):
            name = f"{destination}::{next(self.numbers)}".encode()
            self.events[name] = self.destinations[destination]
            self.foreign.add(name)
            self.logs[retry].append(Record(*retry.tp, len(self.logs[retry]), -1, None, name, ()))

    def _take(self, record: Record, owner: Partition) -> Item:
        item = Item(record, self.now, NO_TRACE, owner)
        assert owner.take(item)
        if owner.beside is not None:
            restore(item, self.wall_ms)
        value = record.value or b""
        number, same, unique = value.decode().split(":")
        item.key = f"{number}:{same or unique}".encode()
        item.mapped = Mapped(
            self.events[value], "Purchase", unique, 0, None, b"{}", (), CONSENT, (), ()
        )
        self.load.add(1, len(value))
        if self.keys.enter(item) is None:
            self._queue(item)
        return item

    def _queue(self, item: Item) -> None:
        mapped = item.mapped
        assert mapped is not None
        item.batched = self.now
        queue = self.queues[mapped.destination]
        batch = queue.lane(None).add(item, len(mapped.body), self.mono)
        if batch is not None:
            queue.ready.append(batch)

    # Destinations

    def shut(self, destination: int, state: GateState = GateState.HELD) -> None:
        """A destination refuses its token, or throttles."""
        gate = self.queues[self.destinations[destination]].gates.hold
        gate.close(state, "a test", 5.0, self.mono, self.mono)

    def open(self, destination: int) -> None:
        """A destination lets requests in again."""
        gate = self.queues[self.destinations[destination]].gates.hold
        gate.open(self.mono + 1.0)

    def state(self, destination: Destination) -> GateState:
        """What a destination is."""
        return self.queues[destination].gates.hold.state

    def send(self, destination: int) -> None:
        """All that waits for a destination goes into the air."""
        queue = self.queues[self.destinations[destination]]
        queue.close_all()
        for batch in queue.ready:
            self.air[queue.destination].append(batch)
            queue.gates.start(self.mono)
        queue.ready.clear()

    def come_back(self, destination: int, *, later: bool = False) -> None:
        """What is in the air is refused, and waits again: for its turn, or until `later`."""
        queue = self.queues[self.destinations[destination]]
        batches, self.air[queue.destination] = self.air[queue.destination], []
        for batch in batches:
            queue.gates.finish(self.mono)
            if later:
                number = next(self.numbers)
                heapq.heappush(queue.retrying, (self.mono + number * 7 % 11, number, batch))
            else:
                queue.ready.append(batch)

    def deliver(self) -> None:
        """All that waits for open destinations has its outcome."""
        for destination, queue in self.queues.items():
            if self.state(destination) is not GateState.OPEN:
                continue
            items = [item for waiting in queue.waiting() for item in waiting]
            queue.lanes.clear()
            queue.ready.clear()
            queue.retrying.clear()
            for item in items:
                for one in (item, *self.keys.leave(item)):
                    self.outcomes[one.record.value or b""] += 1
                    self._gone(one)

    def _gone(self, item: Item) -> None:
        assert item.owner.settle(item.record.offset)
        self.load.remove(1, len(item.record.value or b""))

    # Parking

    def poll(self) -> list[Produce]:
        """What is parked now, checked."""
        in_the_air = {i for batches in self.air.values() for b in batches for i in b.items}
        waited = set(self.items())
        may = any(self.state(d) is GateState.OPEN for d in self.destinations) or self.blind()
        produces = self.parking.poll(self.now, self.queues, self.keys, self.load)
        parked = waited - set(self.items())
        assert len(parked) == len(produces)
        assert not parked & in_the_air, "nothing in the air is parked"
        assert may or not produces, "nothing is parked when none can send"
        for item in parked:
            assert item.mapped is not None
            assert item.owner.active
            assert not item.owner.draining
            slow = item.mapped.destination in self.parking._slowness.destinations
            assert slow or self.state(item.mapped.destination) is not GateState.OPEN
            if item.origin is not None:
                stayed = self.wall_ms - item.origin.parked_ms
                assert stayed >= self.settings.tail_after * 1000, "at most once a while"
        self._check_probes(produces)
        self.unanswered += produces
        self.produced += produces
        return produces

    def _check_probes(self, produces: list[Produce]) -> None:
        """Only an event of the source may leave its destination without any in memory."""
        last = {self.events[produce.value or b""]: produce for produce in produces}
        for destination, produce in last.items():
            (item,) = self.parking.item_of(produce.handle)
            assert self.in_memory(self.queues[destination]) or item.origin is None

    def items(self) -> Iterable[Item]:
        """All that waits, in the air or not, with what waits for its outcome."""
        batches = (batch.items for batches in self.air.values() for batch in batches)
        waiting = (items for queue in self.queues.values() for items in queue.waiting())
        for item in itertools.chain.from_iterable(itertools.chain(batches, waiting)):
            yield item
            yield from item.waiters or ()

    def blind(self) -> bool:
        """Whether a destination has no event in memory, but may have one in the retry topic.

        What others put there may be anybody's.
        """
        foreign = any(
            record.value in self.foreign
            for retry, log in self.logs.items()
            for record in log[retry.position :]
        )
        return any(
            foreign or self.unread(destination)
            for destination, queue in self.queues.items()
            if not self.in_memory(queue)
        )

    def in_memory(self, queue: Queue) -> bool:
        """Whether a destination has an event in memory to probe with."""
        return bool(in_air(queue)) or any(queue.waiting())

    def unread(self, destination: Destination) -> list[Record]:
        """The events of a destination in the retry topic that were not read yet."""
        return [
            record
            for retry, log in self.logs.items()
            for record in log[retry.position :]
            if self.events[record.value or b""] is destination
        ]

    def acknowledge(self, error: ProduceError | None = None) -> None:
        """The broker answers all that was produced; what is put up for another try is answered."""
        answered, self.unanswered = self.unanswered, []
        for produce in answered:
            assert produce.partition is not None
            retry = self.retries[produce.partition]
            offset = None if error else len(self.logs[retry])
            if offset is not None:
                record = Record(*retry.tp, offset, -1, None, produce.value, produce.headers)
                self.logs[retry].append(record)
            again = self.parking.acknowledged(Acknowledged(produce.handle, error, None, offset))
            if again is not None:
                self.unanswered.append(again)
        parked, self.parking.parked = self.parking.parked, []
        for item in parked:
            self._gone(item)
        returned, self.parking.returned = self.parking.returned, []
        for item in returned:
            if self.keys.enter(item) is None:
                self._queue(item)

    def fetch(self, chunk: int = 5) -> bool:
        """Reads of the retry partitions that may be read; whether anything came."""
        came = False
        for retry, log in self.logs.items():
            retry.high = len(log)
            if retry.holds or self.load.full:
                continue
            for record in log[retry.position : retry.position + chunk]:
                self._take(record, retry)
                came = True
        return came

    def run(self, rounds: int = 1000, *, chunk: int = 5) -> None:
        """Everything goes on until nothing moves any more, looked at as often as it may be."""
        for _ in range(rounds):
            self.advance(LOOK_SECONDS)
            self.deliver()
            produces = self.poll()
            self.acknowledge()
            came = self.fetch(chunk)
            if not came and not produces and self.parking.wake_at() > self.mono + LOOK_SECONDS:
                return
        raise AssertionError("it never came to rest")

    # What tests ask for

    def backlog(self, destination: int, events: int, *, others: int) -> None:
        """Reads so many events of a shut destination, and as many of another, as may be read."""
        read = 0
        while read < events:
            self.advance(LOOK_SECONDS)
            if not self.load.full:
                self.source(destination, 5)
                self.source(others, 5)
                read += 5
            self.deliver()
            self.poll()
            self.acknowledge()
            self.fetch()

    def waits(self, partition: int = 0) -> bool:
        """Whether a retry partition is held because enough of it waits."""
        return RETRY_WAITING in self.retries[partition].holds
