"""What a process's Kafka consumer knows of its membership; its parts share it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumer.event import TopicPartition
from tests.simulation.broker import RETRY, TOPIC

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.simulation.broker import Broker
    from tests.simulation.clock import Clock
    from tests.simulation.group import Coordinator, Membership
    from tests.simulation.link import Link
    from tests.simulation.schedule import Setup


class Reading:
    """A partition that is read, or would be if it were not paused or held."""

    __slots__ = ("hold", "paused", "position", "started", "tp")

    def __init__(self, tp: TopicPartition, position: int, hold: str | None) -> None:
        self.tp = tp
        self.position = position
        self.hold = hold
        self.paused = True
        self.started = False


@dataclass(slots=True, eq=False)
class Session:
    """The consumer's state. `owned` has the number of each assignment, by source partition.

    `revoking` are the partitions that a callback of the group is handing over just now: it blocks
    the consumer's thread, so nothing is read and nothing else is committed meanwhile.
    """

    clock: Clock
    broker: Broker
    coordinator: Coordinator
    link: Link
    setup: Setup
    rng: random.Random
    membership: Membership | None = None
    generation: int = 0
    owned: dict[int, int] = field(default_factory=dict)
    reading: dict[TopicPartition, Reading] = field(default_factory=dict)
    revoking: list[int] | None = None
    _last_out: float = 0.0
    _last_back: float = 0.0

    def out(self, seconds: float, what: Callable[[], None]) -> None:
        """To the coordinator, over one connection: in order."""
        now = self.clock.now
        self._last_out = max(now + seconds, self._last_out)
        self.link.out(self._last_out - now, what)

    def back(self, seconds: float, what: Callable[[], None]) -> None:
        """From the coordinator, in order too."""
        now = self.clock.now
        self._last_back = max(now + seconds, self._last_back)
        self.link.back(self._last_back - now, what)

    def latency(self) -> float:
        """What one way takes, in seconds."""
        return 0.002 + 0.02 * self.rng.random()

    def forget(self, partition: int) -> None:
        """A partition is no longer owned."""
        self.owned.pop(partition, None)
        self.reading.pop(TopicPartition(TOPIC, partition), None)
        self.reading.pop(TopicPartition(RETRY, partition), None)
