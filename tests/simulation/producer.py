"""A process's Kafka producer: records on their way to a broker, and what is heard of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.event import TopicPartition
from consumer.messages import Acknowledged
from tests.simulation.broker import LETTERS, RECEIPTS

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from consumer.messages import Produce, ProduceError
    from tests.simulation.broker import Broker
    from tests.simulation.clock import Clock
    from tests.simulation.link import Link


@dataclass(slots=True)
class ProducerWeather:
    """What happens to records while it lasts: shares of them; `until` in seconds."""

    until: float = 0.0
    fail: float = 0.0
    twice: float = 0.0
    letters_fail_until: float = 0.0
    letters_fail: float = 0.0


class Producer:
    """Records keep their order within a partition, unless one fails and is produced again."""

    def __init__(  # noqa: PLR0917  its surroundings, each once
        self,
        clock: Clock,
        broker: Broker,
        link: Link,
        weather: ProducerWeather,
        rng: random.Random,
        acknowledge: Callable[[Acknowledged], None],
    ) -> None:
        self._clock = clock
        self._broker = broker
        self._link = link
        self._weather = weather
        self._rng = rng
        self._acknowledge = acknowledge
        self._last: dict[TopicPartition, float] = {}
        self._blocked: dict[TopicPartition, float] = {}

    def produce(self, produce: Produce) -> None:
        """A record goes to its broker; `acknowledge` hears of it, unless the process ends."""
        tp = TopicPartition(produce.topic, produce.partition or 0)
        at = max(self._clock.now + 0.001 + 0.01 * self._rng.random(), self._last.get(tp, 0.0))
        self._last[tp] = at
        self._link.out(at - self._clock.now, lambda: self._arrive(tp, produce))

    def _arrive(self, tp: TopicPartition, produce: Produce) -> None:
        """It has reached the broker that leads its partition, or led it."""
        weather, now = self._weather, self._clock.now
        if self._broker.is_down(tp):
            if self._rng.random() < _GIVES_UP:
                self._fail(produce, "retriable", 2 + 5 * self._rng.random())
            else:
                self._block(tp, self._broker.down_until[tp] + 0.01)
                self._later(tp, lambda: self._arrive(tp, produce))
            return
        if now < self._blocked.get(tp, 0.0):
            self._later(tp, lambda: self._arrive(tp, produce))
            return
        if produce.topic in {LETTERS, RECEIPTS} and now < weather.letters_fail_until:
            if self._rng.random() < weather.letters_fail:
                too_large = self._rng.random() < _TOO_LARGE
                self._fail(produce, "too_large" if too_large else "retriable", 0.1)
                return
        elif now < weather.until:
            drawn = self._rng.random()
            if drawn < weather.fail:
                if self._rng.random() < _WRITTEN_ALL_THE_SAME:
                    self._broker.append(produce, _ignored)
                self._fail(produce, "retriable", 3 * self._rng.random())
                return
            if drawn < weather.fail + weather.twice:
                # The acknowledgement was lost, and a new producer wrote the record again.
                self._broker.append(produce, _ignored)
                self._block(tp, now + 2 * self._rng.random())
                self._later(tp, lambda: self._append(tp, produce))
                return
        self._append(tp, produce)

    def _append(self, tp: TopicPartition, produce: Produce) -> None:
        def done(offset: int | None) -> None:
            if offset is None:  # the leader that had it is gone: it is sent to the next one
                if self._clock.now >= self._blocked.get(tp, 0.0):
                    self._block(tp, self._clock.now + 0.05 + 0.2 * self._rng.random())
                self._later(tp, lambda: self._arrive(tp, produce))
            else:
                answer = Acknowledged(produce.handle, offset=offset)
                self._link.back(
                    0.002 + 0.01 * self._rng.random(), lambda: self._acknowledge(answer)
                )

        self._broker.append(produce, done)

    def _block(self, tp: TopicPartition, until: float) -> None:
        """What comes after must not overtake what has to be sent again."""
        self._blocked[tp] = max(until, self._blocked.get(tp, 0.0))

    def _later(self, tp: TopicPartition, what: Callable[[], None]) -> None:
        self._link.out(self._blocked[tp] - self._clock.now, what)

    def _fail(self, produce: Produce, error: ProduceError, seconds: float) -> None:
        answer = Acknowledged(produce.handle, error)
        self._link.back(seconds, lambda: self._acknowledge(answer))


_GIVES_UP = 0.5
"""Share of the records for a partition without a leader whose time runs out."""

_TOO_LARGE = 0.2
"""Share of the refused dead letters and receipts that are refused as too large."""

_WRITTEN_ALL_THE_SAME = 0.4
"""Share of the failed records that are in the log."""


def _ignored(_offset: int | None) -> None:
    """Nobody hears of it."""
