"""What goes wrong at the brokers: leaders, replicas, producing, retention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.event import TopicPartition
from tests.simulation.broker import RETRY, STATE, TOPIC
from tests.simulation.schedule import Fault, Trouble

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.simulation.world import World

_HALF = 0.5


class NobodyThereError(Exception):
    """A fault finds nobody, or nothing, that it could happen to."""


class BrokerTroubles:
    """The faults of a schedule that brokers have; `rng` is shared with the others."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._clock = world.clock
        self._rng = rng
        self._tell = world.tell_cause

    def _tp(self, trouble: Trouble) -> TopicPartition:
        topic = self._rng.choice((STATE, STATE, TOPIC, RETRY))
        return TopicPartition(topic, trouble.target % self._world.setup.partitions)

    def _leader_change(self, trouble: Trouble) -> None:
        tp = self._tp(trouble)
        lost = self._world.broker.change_leader(tp)
        self._tell(
            f"{partition_name(tp)} has another leader, without {lost} unacknowledged records"
        )

    def _slow_replicas(self, trouble: Trouble) -> None:
        tp, broker = self._tp(trouble), self._world.broker
        self._tell(f"replicas of {partition_name(tp)} are slow for {trouble.seconds:.0f} s")
        broker.slow_until[tp] = self._clock.now + trouble.seconds
        if trouble.share < _HALF:
            self._clock.after(trouble.seconds * 0.6, lambda: self._leader_lost(tp))

    def _leader_lost(self, tp: TopicPartition) -> None:
        lost = self._world.broker.change_leader(tp)
        self._tell(
            f"{partition_name(tp)} has another leader, without {lost} unacknowledged records"
        )

    def _partition_down(self, trouble: Trouble) -> None:
        tp, broker = self._tp(trouble), self._world.broker
        self._tell(f"nobody leads {partition_name(tp)} for {trouble.seconds:.0f} s")
        broker.change_leader(tp)
        broker.down_until[tp] = self._clock.now + trouble.seconds
        self._clock.after(trouble.seconds + 0.01, self._poke)

    def _poke(self) -> None:
        for process in self._world.running:
            process.member.readings.poke()

    def _produces_fail(self, trouble: Trouble) -> None:
        self._tell(f"records fail to be produced for {trouble.seconds:.0f} s")
        weather = self._world.producer_weather
        weather.until = self._clock.now + trouble.seconds
        weather.fail, weather.twice = trouble.share * 0.6, 0.0

    def _produces_twice(self, trouble: Trouble) -> None:
        self._tell(f"records are written twice for {trouble.seconds:.0f} s")
        weather = self._world.producer_weather
        weather.until = self._clock.now + trouble.seconds
        weather.fail, weather.twice = 0.0, trouble.share

    def _letters_fail(self, trouble: Trouble) -> None:
        self._tell(f"dead letters and receipts are refused for {trouble.seconds:.0f} s")
        weather = self._world.producer_weather
        weather.letters_fail_until = self._clock.now + trouble.seconds
        weather.letters_fail = trouble.share

    def _markers(self, trouble: Trouble) -> None:
        tp = self._tp(trouble)
        if not self._world.broker.log(tp).skip(1 + trouble.target % 3):
            raise NobodyThereError
        self._tell(f"markers of a transaction take offsets of {partition_name(tp)}")

    def _source_retention(self, trouble: Trouble) -> None:
        world = self._world
        tp = TopicPartition(TOPIC, trouble.target % world.setup.partitions)
        committed = world.coordinator.offsets.get(tp)
        log = world.broker.log(tp)
        start = (log.start if committed is None else committed.offset) + self._rng.randrange(-5, 8)
        log.delete_before(start)
        world.judge.truth.excuse(tp.partition, lambda offset: offset < log.start)
        self._tell(f"retention deletes {partition_name(tp)} below {log.start}")


OF_BROKERS: dict[Fault, Callable[[BrokerTroubles, Trouble], None]] = {
    Fault.LEADER_CHANGE: BrokerTroubles._leader_change,
    Fault.SLOW_REPLICAS: BrokerTroubles._slow_replicas,
    Fault.PARTITION_DOWN: BrokerTroubles._partition_down,
    Fault.PRODUCES_FAIL: BrokerTroubles._produces_fail,
    Fault.PRODUCES_TWICE: BrokerTroubles._produces_twice,
    Fault.LETTERS_FAIL: BrokerTroubles._letters_fail,
    Fault.MARKERS: BrokerTroubles._markers,
    Fault.SOURCE_RETENTION: BrokerTroubles._source_retention,
}
"""What each fault of the brokers does."""


def partition_name(tp: TopicPartition) -> str:
    """A partition in words."""
    topic = {TOPIC: "the source", STATE: "the state topic", RETRY: "the retry topic"}[tp.topic]
    return f"partition {tp.partition} of {topic}"
