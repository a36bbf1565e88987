"""Which of the events that wait for a shut destination are parked.

One that has waited for long goes, and one beyond its destination's share of the bounds while these
are pressed. One that came by the retry topic is a probe and stays, unless it stands before events
of a destination that can send, or there are too many of its kind. Where an event goes, those that
wait for its outcome go with it; where it stays, they may go alone.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from collections.abc import Set as AbstractSet

    from consumer.event import Destination, Instant, Item
    from consumer.offsets import Partition
    from consumer.queues import Queue
    from consumer.retry_partition import RetryPartition


@dataclass(frozen=True, slots=True)
class ParkingSettings:
    """Bounds of the whole process, and times in seconds.

    `park_after`: how long an event waits for a shut destination before it is parked. `tail_after`:
    how long one that was parked stays at its place at least (`retry.max`). `probes`: how many of a
    retry partition may wait in memory. `oldest`: a record with an older time is not parked (the
    largest age at which an event may go): retention goes by that time, and would delete it unread.
    """

    max_in_flight_events: int = 20_000
    max_in_flight_bytes: int = 64 << 20
    park_after: float = 60.0
    tail_after: float = 60.0
    probes: int = 64
    oldest: float = 7 * 24 * 3600.0


class Bounds:
    """What follows from the settings where so many destinations share the bounds.

    `share_events` and `share_bytes` of a destination may wait while it is shut and the bounds are
    pressed. `most_read` parked events may be in memory, a quarter of the bound. But at least twice
    the number of destinations: the last event of each stays, and with half of the others gone the
    retry topic must be read on. `most_unacknowledged` records may be on their way there.
    """

    def __init__(self, settings: ParkingSettings, destinations: int) -> None:
        events, size = settings.max_in_flight_events, settings.max_in_flight_bytes
        self.share_events = max(1, events // (4 * destinations))
        self.share_bytes = max(1, size // (4 * destinations))
        self.most_read = max(2 * destinations, events // 4)
        self.most_unacknowledged = max(1, events // 16)
        self._fewest_probes, self._most_probes = 2 * destinations, settings.probes

    def probes_of(self, partitions: int) -> int:
        """How many of one of so many retry partitions may wait: all fill half of `most_read`."""
        fair = self.most_read // (2 * max(1, partitions))
        return max(self._fewest_probes, min(self._most_probes, fair))


class Situation(NamedTuple):
    """What a choice rests on, apart from the events.

    `able`: destinations for which others make place. `pressed`: more than half of the bounds is
    taken; `full`: the source is paused at them. `crowded`: no parked event is read on, `beyond` is
    how many of them are in memory over the number at which they are. `probes`: how many of a retry
    partition may wait. `kept`: items that cannot be parked. `slow`: destinations that are not shut,
    but too slow: what is within their share goes in its turn.
    """

    now: Instant
    able: AbstractSet[Destination]
    pressed: bool
    full: bool
    crowded: bool
    beyond: int
    probes: int
    kept: Collection[Item]
    slow: AbstractSet[Destination] = frozenset()


class Choice:
    """What one look at the queues parks: about `room` records, in order of age where it can be.

    `retries` are the retry partitions of ours; their counts follow the choice.
    """

    def __init__(
        self,
        settings: ParkingSettings,
        bounds: Bounds,
        retries: Mapping[Partition, RetryPartition],
        situation: Situation,
        room: int,
    ) -> None:
        self._bounds = bounds
        self._retries = retries
        self._situation = situation
        self.room = room
        self._beyond = situation.beyond
        self._over_events = self._over_bytes = 0
        self._is_slow = False
        self._waited_since = situation.now.mono - settings.park_after
        self._oldest_ms = situation.now.wall_ms - int(settings.oldest * 1000)
        self._parked_since_ms = situation.now.wall_ms - int(settings.tail_after * 1000)
        before = {retry for retry in retries.values() if retry.may_hold(situation.able)}
        if not situation.crowded:
            before = {retry for retry in before if retry.blocks(situation.probes)}
        elif before:
            # The events of one partition keep all the others from being read.
            before = set(retries.values())
        self._before_others = before

    def of(self, queue: Queue) -> list[Item]:
        """The items to park of a destination that is shut; nothing in the air is among them."""
        firsts = _oldest_first(queue)
        self._is_slow = queue.destination in self._situation.slow
        self._measure(firsts)
        left = len(firsts) + in_air(queue)
        chosen: list[Item] = []
        # Those of the retry topic come last: one of them is the best to stay as the last probe.
        for item in sorted(firsts, key=_is_parked_before):
            if self.room <= 0:
                break
            waiters = item.waiters or []
            if self._goes(item, left) and all(map(self._may_go, waiters)):
                left -= 1
                group = [item, *waiters]
            elif waiters:
                group = [waiter for waiter in waiters if self._goes(waiter, left + 1)]
            else:
                continue
            for one in group:
                # TikTok may have the key since the first attempt, whoever is sent next.
                one.first_unknown_ms = _earlier(one.first_unknown_ms, item.first_unknown_ms)
                self._count(one)
            chosen += group
        return chosen

    def retry_of(self, item: Item) -> RetryPartition | None:
        """The retry partition where an item would go; None where it is not ours."""
        partition = item.owner if item.owner.beside is not None else item.owner.retry
        return None if partition is None else self._retries.get(partition)

    def _measure(self, firsts: list[Item]) -> None:
        """How far a destination is over its share, waiters included."""
        self._over_events = self._over_bytes = 0
        if self._situation.pressed:
            waiters = [waiter for item in firsts if item.waiters for waiter in item.waiters]
            self._over_events = len(firsts) + len(waiters) - self._bounds.share_events
            size = sum(len(item.record.value or b"") for item in chain(firsts, waiters))
            self._over_bytes = size - self._bounds.share_bytes

    def _goes(self, item: Item, left: int) -> bool:
        """Whether an item is to be parked, with so many left to probe with, itself included."""
        if item.origin is not None:
            wanted = left > 1 and self._goes_to_the_tail(item)
        else:
            wanted = self._over_events > 0 or self._over_bytes > 0 or self._has_waited(item)
            if wanted and left <= 1:
                wanted = self._comes_back(item)
        return wanted and self._may_go(item)

    def _has_waited(self, item: Item) -> bool:
        since = item.batched or item.received
        return since.mono < self._waited_since and not self._is_slow

    def _goes_to_the_tail(self, item: Item) -> bool:
        if self._beyond > 0 and self._situation.pressed:
            return True
        retry = self.retry_of(item)
        if retry not in self._before_others:
            return False
        return self._beyond > 0 or retry.stuck * 2 > self._situation.probes

    def _comes_back(self, item: Item) -> bool:
        """Whether an item would be read again at once: a probe that holds up no source offset."""
        retry = self.retry_of(item)
        if retry is None or self._situation.full or retry.partition.holds:
            return False
        return retry.stuck < self._situation.probes

    def _may_go(self, item: Item) -> bool:
        """Whether an item can be parked at all: now, and in a retry partition of ours."""
        owner, retry = item.owner, self.retry_of(item)
        if retry is None or not owner.active or owner.draining or retry.partition.draining:
            return False
        if item in self._situation.kept or 0 <= item.record.timestamp < self._oldest_ms:
            return False
        return item.origin is None or item.origin.parked_ms <= self._parked_since_ms

    def _count(self, item: Item) -> None:
        self.room -= 1
        self._over_events -= 1
        self._over_bytes -= len(item.record.value or b"")
        if item.origin is not None and (retry := self.retry_of(item)) is not None:
            self._beyond -= 1
            retry.stuck -= 1
            retry.leaving += 1


def in_air(queue: Queue) -> int:
    """Requests of a destination that are in the air, or about to be."""
    return queue.gates.in_flight + queue.announcing


def take_out(queue: Queue, gone: AbstractSet[Item], now: float) -> None:
    """Takes items out of a queue (`now` in seconds); what else waits there keeps its order."""
    for batch in chain(queue.ready, (batch for _, _, batch in queue.retrying)):
        if not gone.isdisjoint(batch.items):
            batch.items = [item for item in batch.items if item not in gone]
    queue.ready = deque(batch for batch in queue.ready if batch.items)
    queue.retrying = [entry for entry in queue.retrying if entry[2].items]
    heapq.heapify(queue.retrying)
    for lane in queue.lanes.values():
        if gone.isdisjoint(lane.items):
            continue
        due_at, open_batch = lane.due_at, lane.close()
        for item in open_batch.items if open_batch is not None else ():
            if item in gone or item.mapped is None:
                continue
            closed = lane.add(item, len(item.mapped.body), now)
            if closed is not None:
                queue.ready.append(closed)
        if lane.items:
            lane.due_at = due_at


def _oldest_first(queue: Queue) -> list[Item]:
    """What waits in a queue, as near to the order of its coming as it costs nothing."""
    batches = chain(queue.ready, (batch for _, _, batch in queue.retrying))
    items = [item for batch in batches for item in batch.items]
    return items + [item for lane in queue.lanes.values() for item in lane.items]


def _is_parked_before(item: Item) -> bool:
    return item.origin is not None


def _earlier(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)
