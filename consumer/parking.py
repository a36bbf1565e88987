"""Parking: which waiting events go to the retry topic, and when that is read, without any I/O.

An event is parked when its destination is shut (held or throttled) and it has waited there for
`park_after`, or when its destination has more than its share of the bounds in flight while these
are more than half taken. The latter goes for one that is not shut, but slow, as well (`slowness`).
Then its source offset may pass, and one dead pixel takes a bounded share of memory, never a
partition. Where no other destination can send, nothing is parked: the bound pauses the source, and
an outage copies nothing. Where all are slow, none of them is parked either.

A destination's share is a quarter of the bounds divided by the number of destinations, and all
that came by the retry topic may take another quarter. Both together stay below the half at which a
paused source flows again, so shut destinations never keep it paused. Less than a batch is no
harm: what goes out when a destination opens again is filled up from the retry topic.

Events that came by the retry topic and meet a shut destination stay in memory: they are its
probes. Past `probes` of them their retry partition is not read on. If it may hold events of a
destination that can send, those that stand before them go to the tail, each at most once per
`tail_after`. The last event of a destination in memory is kept, because without an event to probe
with a destination would be shut for ever.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from consumer.park_choice import Bounds, Choice, ParkingSettings, Situation, in_air, take_out
from consumer.retry_headers import retry_record
from consumer.retry_partition import CROWD, PROBES, RETRY_WAITING, RetryPartition
from consumer.slowness import Slowness

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from consumer import dedup, limits
    from consumer.event import Destination, Instant, Item
    from consumer.messages import Acknowledged, Produce
    from consumer.offsets import Partition
    from consumer.queues import Queue

RETRY_REFUSED = "retry_topic_refused"
"""Hold reason: the broker does not take the retry topic's records."""

MOST_AT_ONCE = 500
"""Records produced by one `poll`, but for those that wait for the last one's outcome."""

MORE_SECONDS = 0.01
"""When the next `poll` goes on with what this one left."""

LOOK_SECONDS = 0.05
"""How often what waits is looked at while the bounds are pressed or parked events come in."""

SWEEP_SECONDS = 1.0
"""How often what waits is looked at in any case, while a destination is shut."""


class Parking:
    """All decisions about the retry topic of one process. `poll` is to be called with every input.

    `destinations` is how many share the bounds; `handles` numbers the records produced.
    """

    def __init__(
        self, settings: ParkingSettings, destinations: int, handles: Iterator[int]
    ) -> None:
        self._settings = settings
        self._bounds = Bounds(settings, destinations)
        self._handles = handles
        self._retries: dict[Partition, RetryPartition] = {}
        self._unacknowledged: dict[int, tuple[Item, RetryPartition, Produce]] = {}
        self._too_large: set[Item] = set()
        self._crowded = False
        self._shut: AbstractSet[Destination] = frozenset()
        self._slowness = Slowness(self._bounds.share_events, self._bounds.share_bytes)
        self._look_at = self._sweep_at = -math.inf
        self._wake_at = math.inf
        self.parked: list[Item] = []
        """Items that are safely in the retry topic, until the engine has let their offsets pass."""
        self.returned: list[Item] = []
        """Items too large for the retry topic, until the engine has entered them by key again."""
        self.counts: Counter[Destination] = Counter()
        """How many events were parked so far."""

    # Partitions

    def taken_over(self, partition: Partition) -> None:
        """A partition of the retry topic is ours; nothing is known of what it holds."""
        self._retries[partition] = RetryPartition(partition)

    def let_go(self, partitions: Iterable[Partition]) -> None:
        """Partitions, of the source or of the retry topic, are no longer ours."""
        gone = set(partitions)
        for partition in gone:
            self._retries.pop(partition, None)
        self._unacknowledged = {
            handle: entry
            for handle, entry in self._unacknowledged.items()
            if entry[0].owner not in gone
        }
        self._too_large = {item for item in self._too_large if item.owner not in gone}
        self.parked = [item for item in self.parked if item.owner not in gone]
        self.returned = [item for item in self.returned if item.owner not in gone]

    # What goes out

    def poll(
        self,
        now: Instant,
        queues: Mapping[Destination, Queue],
        keys: dedup.InFlight,
        load: limits.InFlight,
    ) -> list[Produce]:
        """Parks what is to be parked now: it is out of its queue, and its key is free.

        Also holds the retry partitions that are not to be read on, and releases them. While every
        destination is open it costs next to nothing.
        """
        self.watch_crowd()
        self._slowness.watch(now, queues, load)
        shut = [queue for queue in queues.values() if self._is_shut(queue)]
        if not shut:
            self._end_waits()
            return []
        shut_ones = {queue.destination for queue in shut}
        if not self._is_time(now.mono, shut_ones, load):
            return []
        self._count_stuck(shut_ones)
        produces = list(self._parks(now, queues, shut, keys, load))
        for retry in self._retries.values():
            retry.hold_or_release(self._probes)
        return produces

    def wake_at(self) -> float:
        """When `poll` has something to do without an input: seconds, infinity for never."""
        return self._wake_at

    # What became of it

    def acknowledged(self, answer: Acknowledged) -> Produce | None:
        """What became of a record that parks an item; it comes back if it is to be tried again.

        Meanwhile its partition is held: what is behind it would only pile up in memory. One that
        the broker refuses as too large stays in memory until its destination opens.
        """
        found = self._unacknowledged.get(answer.handle)
        if found is None:
            return None
        item, retry, produce = found
        if answer.error == "retriable":
            item.owner.hold(RETRY_REFUSED, answer.handle)
            return produce
        del self._unacknowledged[answer.handle]
        item.owner.release(RETRY_REFUSED, answer.handle)
        if item.origin is not None:
            retry.leaving -= 1
        if answer.error is not None:
            self._too_large.add(item)
            self.returned.append(item)
            return None
        self.parked.append(item)
        if item.mapped is not None:
            self.counts[item.mapped.destination] += 1
            if answer.offset is not None:
                retry.put(answer.offset, item.mapped.destination)
        return None

    def wants(self, handle: int) -> bool:
        """Whether a record with this handle is still waited for."""
        return handle in self._unacknowledged

    def item_of(self, handle: int) -> Iterator[Item]:
        """The item whose record has this handle and is not acknowledged."""
        if (found := self._unacknowledged.get(handle)) is not None:
            yield found[0]

    @property
    def unacknowledged(self) -> int:
        """How many records are produced and not acknowledged."""
        return len(self._unacknowledged)

    # Steps of a poll

    def _parks(
        self,
        now: Instant,
        queues: Mapping[Destination, Queue],
        shut: Sequence[Queue],
        keys: dedup.InFlight,
        load: limits.InFlight,
    ) -> Iterator[Produce]:
        room = self._bounds.most_unacknowledged - len(self._unacknowledged)
        if room <= 0:
            self._sweep_at = self._wake_at = self._look_at
            return
        able = self._able(queues, shut, load)
        if not able:
            return
        choice = self._choice(now, able, load, min(MOST_AT_ONCE, room))
        slow = self._slowness.destinations
        for queue in shut:
            if able <= slow and queue.gates.hold.is_open:
                continue  # it would make place for nobody
            if chosen := choice.of(queue):
                take_out(queue, set(chosen), now.mono)
                _leave(chosen, keys)
                for item in chosen:
                    yield self._park(item, now)
        if choice.room <= 0:
            self._sweep_at = self._wake_at = self._look_at = now.mono + MORE_SECONDS

    def watch_crowd(self) -> None:
        """At a quarter of the bound no retry partition is read on, until half of that is left."""
        most = self._bounds.most_read
        read = sum([len(partition.pending) for partition in self._retries])
        crowded = read >= most or (self._crowded and read * 2 > most)
        for partition in self._retries if crowded or self._crowded else ():
            if crowded:
                partition.hold(RETRY_WAITING, CROWD)
            else:
                partition.release(RETRY_WAITING, CROWD)
        self._crowded = crowded

    def _is_shut(self, queue: Queue) -> bool:
        return not queue.gates.hold.is_open or queue.destination in self._slowness.destinations

    def _end_waits(self) -> None:
        """Every destination is open: no retry partition waits for one."""
        if self._wake_at < math.inf:
            self._wake_at = math.inf
            for partition in self._retries:
                partition.release(RETRY_WAITING, PROBES)

    def _is_time(self, now: float, shut: AbstractSet[Destination], load: limits.InFlight) -> bool:
        """Whether to look at what waits (`now` in seconds)."""
        at = self._sweep_at
        if shut != self._shut or load.pressed or self._has_read():
            at = min(at, self._look_at)
        if now < at:
            self._wake_at = at
            return False
        self._shut = shut
        self._look_at = now + LOOK_SECONDS
        self._sweep_at = self._wake_at = now + SWEEP_SECONDS
        return True

    def _has_read(self) -> bool:
        return any(retry.seen != p.position for p, retry in self._retries.items())

    def _count_stuck(self, shut: AbstractSet[Destination]) -> None:
        writing = {retry for _, retry, _ in self._unacknowledged.values()}
        kept = self._too_large
        for partition, retry in self._retries.items():
            retry.seen = partition.position
            if partition.high is not None:
                retry.reaches(partition.high, writing=retry in writing)
            pending = partition.pending.values()
            # One that has its outcome is here for its receipt alone.
            mapped = [i.mapped for i in pending if i.outcome is None and i not in kept]
            stuck = sum([m is not None and m.destination in shut for m in mapped])
            retry.stuck = stuck - retry.leaving

    def _able(
        self, queues: Mapping[Destination, Queue], shut: Sequence[Queue], load: limits.InFlight
    ) -> set[Destination]:
        """The destinations for which others make place: those that can send.

        So may one that is shut, but has no event in memory to find out with, if one of its events
        may stand in a retry partition that is not read for lack of place.
        """
        able = {destination for destination, queue in queues.items() if queue.gates.hold.is_open}
        blocked = [
            retry for retry in self._retries.values() if load.full or retry.blocks(self._probes)
        ]
        for queue in shut:
            if not in_air(queue) and not any(queue.waiting()):
                alone = {queue.destination}
                if any(retry.may_hold(alone) for retry in blocked):
                    able |= alone
        return able

    def _choice(
        self, now: Instant, able: AbstractSet[Destination], load: limits.InFlight, room: int
    ) -> Choice:
        if self._too_large:
            self._too_large = {item for item in self._too_large if item.outcome is None}
        read = sum([len(p.pending) - retry.leaving for p, retry in self._retries.items()])
        situation = Situation(
            now,
            able,
            pressed=load.pressed,
            full=load.full,
            crowded=self._crowded,
            beyond=read - self._bounds.most_read // 2,
            probes=self._probes,
            kept=self._too_large,
            slow=self._slowness.destinations,
        )
        return Choice(self._settings, self._bounds, self._retries, situation, room)

    @property
    def _probes(self) -> int:
        return self._bounds.probes_of(len(self._retries))

    def _park(self, item: Item, now: Instant) -> Produce:
        owner = item.owner
        retry = self._retries[owner if owner.retry is None else owner.retry]
        produce = retry_record(item, next(self._handles), retry.partition.tp.topic, now)
        self._unacknowledged[produce.handle] = item, retry, produce
        if item.first_unknown_ms is not None:
            owner.state.left(item.key, item.first_unknown_ms, now)  # its key is free from now on
        return produce


def _leave(chosen: Sequence[Item], keys: dedup.InFlight) -> None:
    """Frees the keys of items that are parked, and forgets that they wait for others."""
    gone = set(chosen)
    for item in chosen:
        first = keys.first(item.key)
        if first is item:
            keys.leave(item)
        elif first is not None and first not in gone and first.waiters is not None:
            first.waiters = [waiter for waiter in first.waiters if waiter not in gone] or None
