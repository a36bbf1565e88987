"""Which partitions one client reads for this member, and which of them it fetches just now.

A partition that is not to be read, be it paused, held or not begun yet, is not in the client's
assignment at all. That costs what the client's own pause costs (both throw away what was fetched
ahead), takes effect at once, and leaves one state instead of two: librdkafka may forget the start
offset of a partition that is paused right after its assignment (librdkafka#2190), and keeps one
paused through hand-over and return. The group does not notice: ownership is not touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import TopicPartition as KafkaPartition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka import Consumer

    from consumer.event import TopicPartition


class Stamped(NamedTuple):
    """A partition in one of its assignments: orders and reports of another one are void."""

    tp: TopicPartition
    epoch: int


@dataclass(slots=True)
class Owned:
    """A partition of this member, as the thread knows it that reads it.

    `epoch` numbers the assignment. `position` is where reading begins when it begins next, `high`
    the log end as last seen. `hold` is why it cannot be read; `start_unknown` stands while not
    even the committed offset is known. `bound_to` ties it to the topic as it was then. `beside` is
    the source partition that a partition of the retry topic is read beside. `begun` tells whether
    the listener has said where to begin, `wanted` whether it wants records, `fetched` whether the
    client has the partition.
    """

    epoch: int
    position: int
    hold: str | None = None
    high: int = 0
    start_unknown: bool = False
    bound_to: bytes | None = None
    beside: TopicPartition | None = None
    begun: bool = False
    wanted: bool = False
    fetched: bool = False


class Fetching:
    """The owned partitions, and the client's assignment, kept in step with what is wanted."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._suspended = False
        self.owned: dict[TopicPartition, Owned] = {}

    def current(self, order: Stamped) -> Owned | None:
        """The partition of an order, unless it was handed over or lost since."""
        owned = self.owned.get(order.tp)
        return owned if owned is not None and owned.epoch == order.epoch else None

    def own(self, assigned: Mapping[TopicPartition, Owned]) -> None:
        """Own these; none is fetched before its first `resume`."""
        self.owned.update(assigned)

    def give_up(self, tps: Iterable[TopicPartition]) -> list[KafkaPartition]:
        """Own these no longer; returns those that the client has to give back."""
        given_up = [(tp, self.owned.pop(tp)) for tp in tps if tp in self.owned]
        return [KafkaPartition(*tp) for tp, owned in given_up if owned.fetched]

    def pause(self, orders: Iterable[Stamped]) -> None:
        """Stop reading these partitions."""
        for order in orders:
            owned = self.current(order)
            if owned is not None:
                owned.wanted = False
        self._adjust()

    def resume(self, order: Stamped, position: int) -> None:
        """Read this partition: the first time from `position`, later from where it was left.

        One that is held is read as soon as the hold ends, from the position that ends it.
        """
        owned = self.current(order)
        if owned is None:
            return
        if not owned.begun:
            owned.begun = True
            if owned.hold is None:
                owned.position = position
        owned.wanted = True
        self._adjust()

    def suspend(self, *, suspended: bool) -> None:
        """Stop or go on reading everything, so that polling can go on without records."""
        if suspended != self._suspended:
            self._suspended = suspended
            self._adjust()

    def move(self, tp: TopicPartition, position: int, hold: str | None) -> None:
        """Go on at this position, or hold the partition there.

        One that is fetched leaves the client's assignment and returns, because a fetcher that has
        lost its offset cannot `seek`.
        """
        owned = self.owned[tp]
        if owned.fetched:
            self._consumer.incremental_unassign([KafkaPartition(*tp)])
            owned.fetched = False
        owned.position, owned.hold = position, hold
        self._adjust()

    def next_offset(self, tp: TopicPartition) -> int:
        """The next record that reading will bring, control records in between left out."""
        (reached,) = self._consumer.position([KafkaPartition(*tp)])
        return reached.offset if reached.offset >= 0 else self.owned[tp].position

    def _adjust(self) -> None:
        begin: list[TopicPartition] = []
        end: list[TopicPartition] = []
        for tp, owned in self.owned.items():
            wanted = owned.wanted and owned.hold is None and not self._suspended
            if wanted != owned.fetched:
                (begin if wanted else end).append(tp)
        if end:
            for tp in end:
                self.owned[tp].position = self.next_offset(tp)
                self.owned[tp].fetched = False
            self._consumer.incremental_unassign([KafkaPartition(*tp) for tp in end])
        if begin:
            self._consumer.incremental_assign(
                [KafkaPartition(*tp, self.owned[tp].position) for tp in begin]
            )
            for tp in begin:
                self.owned[tp].fetched = True
