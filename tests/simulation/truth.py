"""What is really so, which only the simulation knows: records, acceptances, what is safe where."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.broker import TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.event import Item, TopicPartition
    from tests.simulation.broker import Broker
    from tests.simulation.schedule import Kind


class Source(NamedTuple):
    """A record of the source: the number that is its key, what it is, where it stands."""

    serial: int
    kind: Kind
    event_id: str
    partition: int
    offset: int


class Known(NamedTuple):
    """An acceptance that the state topic tells: where, and since when it counts (milliseconds).

    `told_at`: since when it can be read (seconds).
    """

    partition: int
    offset: int
    accepted_ms: int
    told_at: float


class Truth:
    """The facts of one run. Records are known by their keys, wherever they are copied to."""

    def __init__(self) -> None:
        self.sources: dict[int, Source] = {}
        self.outcomes: dict[int, str] = {}
        """The last outcome of each record."""
        self.excused: set[int] = set()
        """Records that the broker deleted before they had an outcome."""
        self.accepted: dict[str, list[float]] = {}
        """When TikTok took an event, whoever learned of it (seconds)."""
        self.known: dict[str, list[Known]] = {}
        self.given_up: dict[str, float] = {}
        """When an event was last dead-lettered because no attempt had a known outcome."""
        self.announced_at: dict[bytes, float] = {}
        """When a key was first announced."""
        self.announced_by: dict[bytes, bytes] = {}
        """The member that announced a key last, in the order of the log."""
        self.event_of: dict[bytes, str] = {}
        self.letters: dict[int, set[str]] = {}
        self.receipts: dict[int, set[str]] = {}
        """The outcomes that the receipts of each record tell."""
        self.parked: set[int] = set()
        self.opens: dict[int, list[tuple[int, bytes]]] = {}
        """Offsets and members of the `open` records, by partition."""
        self.told: dict[int, list[tuple[int, int, float]]] = {}
        """Up to where a partition of today's source is settled by its state records: the offset of
        each, what it says, and when it was written (seconds)."""
        self.done: dict[TopicPartition, set[int]] = {}
        self._through: dict[TopicPartition, int] = {}
        self._lost_end: dict[TopicPartition, int] = {}
        self._vanished: set[int] = set()

    def source_of(self, item: Item) -> Source:
        """The source record of an item."""
        return self.sources[int(item.record.key or b"-1")]

    def last_acceptance(self, event_id: str) -> float:
        """When TikTok last took an event for which nobody has given up since (seconds)."""
        accepted = self.accepted.get(event_id)
        if accepted is None or accepted[-1] <= self.given_up.get(event_id, -math.inf):
            return -math.inf
        return accepted[-1]

    def unknown_acceptances(self, event_id: str) -> list[float]:
        """When TikTok took an event, since somebody has last given up."""
        ended_at = self.given_up.get(event_id, -math.inf)
        return [at for at in self.accepted.get(event_id, ()) if at > ended_at]

    # Offsets

    def mark_done(self, item: Item) -> None:
        """A record, of the source or the retry topic, has its outcome, or was parked."""
        tp = item.owner.tp
        if tp.topic != TOPIC or int(item.record.key or b"-1") not in self._vanished:
            self.done.setdefault(tp, set()).add(item.record.offset)

    def through(self, tp: TopicPartition, broker: Broker) -> int:
        """The offset below which every record of a partition is done, or was deleted."""
        at, done = self._through.get(tp, 0), self.done.get(tp, ())
        log = broker.log(tp)
        while at < log.high and (at in done or at not in log.entries):
            at += 1
        self._through[tp] = at
        return at

    def settled_limit(self, tp: TopicPartition, broker: Broker) -> int:
        """What `settled_through` may say: also the end of a tail that the log has lost since."""
        return max(self.through(tp, broker), self._lost_end.get(tp, 0))

    def truncated(self, tp: TopicPartition, before: int, end: int) -> None:
        """A log has lost its tail: what is written there from now on is something else."""
        self._lost_end[tp] = max(self._lost_end.get(tp, 0), before)
        self._through[tp] = min(self._through.get(tp, 0), end)
        self.done[tp] = {offset for offset in self.done.get(tp, ()) if offset < end}
        self.excuse(tp.partition, lambda offset: offset >= end)
        self._vanish(tp.partition, end)

    def recreated(self, tp: TopicPartition) -> None:
        """A log begins anew, as another topic's."""
        self.told.pop(tp.partition, None)
        for known in (self._through, self._lost_end, self.done):
            known.pop(tp, None)
        self.excuse(tp.partition, lambda _offset: True)
        self._vanish(tp.partition, 0)

    def _vanish(self, partition: int, end: int) -> None:
        """What had these offsets is no more: its outcome says nothing of what has them next."""
        for serial, source in self.sources.items():
            if source.partition == partition and source.offset >= end:
                self._vanished.add(serial)

    def excuse(self, partition: int, gone: Callable[[int], bool]) -> None:
        """Records were deleted: those without an outcome need none any more."""
        for serial, source in self.sources.items():
            if source.partition == partition and gone(source.offset):
                self.excused.add(serial)
