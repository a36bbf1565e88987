"""Which partitions this member owns, and which of them librdkafka fetches just now."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from confluent_kafka import TopicPartition as KafkaPartition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Consumer

    from consumer.event import TopicPartition

_PAUSE_AFTER: Final = 0.5
"""Seconds between an assignment and its first pause: librdkafka forgets the start offset of a
partition that is paused before its fetcher has started (librdkafka#2190)."""


class Stamped(NamedTuple):
    """An order for one partition, bound to the assignment it was given under."""

    tp: TopicPartition
    epoch: int


@dataclass(slots=True)
class Owned:
    """A partition of this member, as the consumer's thread knows it.

    `epoch` numbers the assignment. `position` is where reading began or is held. `fetched` tells
    whether librdkafka has it, `since` when it got it: a partition held from the start is not given
    to it before it can be read. `asked_for_start` stands while not even the committed offset is
    known. `uncommitted_start` is the position of a group that has no offset, until it is
    committed. `bound_to` ties it to the topic as it was then. `paused` is librdkafka's state,
    `wanted_paused` the listener's order.
    """

    epoch: int
    since: float
    position: int
    hold: str | None
    high: int
    fetched: bool
    asked_for_start: bool
    uncommitted_start: int | None
    bound_to: bytes | None
    wanted_paused: bool = False
    paused: bool = False


class Fetching:
    """The owned partitions, and librdkafka's assignment and pauses kept in step with them."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._suspended = False
        self.owned: dict[TopicPartition, Owned] = {}

    @property
    def quiet(self) -> bool:
        """Whether polling brings no records, because everything is paused."""
        return self._suspended and all(o.paused or not o.fetched for o in self.owned.values())

    def current(self, order: Stamped) -> Owned | None:
        """The partition of an order, unless it was handed over or lost since."""
        owned = self.owned.get(order.tp)
        return owned if owned is not None and owned.epoch == order.epoch else None

    def pause(self, orders: Iterable[Stamped], *, paused: bool) -> None:
        """Stop or go on reading these partitions; those no longer owned are left out."""
        for order in orders:
            owned = self.current(order)
            if owned is not None:
                owned.wanted_paused = paused
        self.apply_pauses(time.monotonic())

    def suspend(self, *, suspended: bool) -> None:
        """Stop or go on reading everything, so that polling can go on without records."""
        if suspended != self._suspended:
            self._suspended = suspended
            self.apply_pauses(time.monotonic())

    def apply_pauses(self, now: float) -> None:
        """Carry out what was ordered, as far as it is time for it."""
        pause: list[KafkaPartition] = []
        resume: list[KafkaPartition] = []
        for tp, owned in self.owned.items():
            wanted = owned.wanted_paused or self._suspended
            if not owned.fetched or wanted == owned.paused:
                continue
            if not wanted:
                resume.append(KafkaPartition(tp.topic, tp.partition))
            elif now - owned.since >= _PAUSE_AFTER:
                pause.append(KafkaPartition(tp.topic, tp.partition))
            else:
                continue
            owned.paused = wanted
        if pause:
            self._consumer.pause(pause)
        if resume:
            self._consumer.resume(resume)

    def begin(self, assigned: dict[TopicPartition, Owned]) -> None:
        """Own these, and fetch those that are not held."""
        self.owned.update(assigned)
        self._consumer.incremental_assign(
            [
                KafkaPartition(tp.topic, tp.partition, owned.position)
                for tp, owned in assigned.items()
                if owned.fetched
            ]
        )

    def begin_at(self, tp: TopicPartition, owned: Owned, offset: int) -> None:
        """Fetch an owned partition from an offset, whether it was fetched before or not.

        It leaves librdkafka's assignment and returns, because a fetcher that has lost its offset
        cannot `seek`. The group does not notice: ownership is not touched.
        """
        partition = KafkaPartition(tp.topic, tp.partition, offset)
        if owned.paused:
            self._consumer.resume([partition])
            owned.paused = False
        if owned.fetched:
            self._consumer.incremental_unassign([partition])
        self._consumer.incremental_assign([partition])
        owned.fetched, owned.since = True, time.monotonic()

    def give_up(self, tps: list[TopicPartition]) -> None:
        """Own these no longer. It answers the group's revocation, also where there are none."""
        given = [(KafkaPartition(tp.topic, tp.partition), self.owned.pop(tp)) for tp in tps]
        # librdkafka keeps a partition paused through hand-over and return.
        if paused := [partition for partition, owned in given if owned.paused]:
            self._consumer.resume(paused)
        self._consumer.incremental_unassign(
            [partition for partition, owned in given if owned.fetched]
        )
