"""The simulated brokers: the logs of all topics, and what happens to a record that is produced."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from consumer.commit_metadata import binding
from consumer.event import TopicPartition
from consumer.own_topics import OwnTopics
from tests.simulation.log import Entry, Log
from tests.support.world import START_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.messages import Produce
    from tests.simulation.clock import Clock

TOPIC = "conversions"
OWN_TOPICS = OwnTopics("group")
STATE = OWN_TOPICS.state_of(TOPIC)
RETRY = OWN_TOPICS.retry_of(TOPIC)
LETTERS = OWN_TOPICS.dead_letter_of(TOPIC)
RECEIPTS = "receipts"


class Broker:
    """All logs. `on_commit` is told of every record of ours that readers can see from now on.

    `on_readable` is told of a partition that has more to read.
    """

    def __init__(
        self,
        clock: Clock,
        seed: int | str,
        on_commit: Callable[[TopicPartition, Entry], None],
        on_readable: Callable[[TopicPartition], None],
    ) -> None:
        self._clock = clock
        self._rng = random.Random(f"{seed}/broker")
        self._on_commit = on_commit
        self._on_readable = on_readable
        self._bindings = {RETRY: binding("cluster", RETRY), TOPIC: binding("cluster", TOPIC)}
        self._recreated = 0
        self.logs: dict[TopicPartition, Log] = {}
        self.down_until: dict[TopicPartition, float] = {}
        self.slow_until: dict[TopicPartition, float] = {}
        self._unreplicated: dict[TopicPartition, dict[int, Callable[[int | None], None]]] = {}

    @property
    def now_ms(self) -> int:
        """The brokers' clock."""
        return START_MS + round(self._clock.now * 1000)

    def binding(self, tp: TopicPartition) -> bytes:
        """What ties offsets to a topic as it is now."""
        return self._bindings[tp.topic]

    def recreate(self, topic: str) -> list[TopicPartition]:
        """A topic is deleted and made again; its partitions, which are empty now."""
        self._recreated += 1
        self._bindings[topic] = binding("cluster", f"{topic}, made again {self._recreated} times")
        tps = [tp for tp in self.logs if tp.topic == topic]
        for tp in tps:
            self.logs[tp] = Log()
        return tps

    def log(self, tp: TopicPartition) -> Log:
        """A partition's log; made when first asked for."""
        log = self.logs.get(tp)
        if log is None:
            log = self.logs[tp] = Log()
        return log

    def calm(self) -> None:
        """All brokers are well from now on."""
        self.down_until.clear()
        self.slow_until.clear()

    def is_down(self, tp: TopicPartition) -> bool:
        """Whether nobody leads a partition."""
        return self.down_until.get(tp, 0.0) > self._clock.now

    def append(self, produce: Produce, done: Callable[[int | None], None]) -> None:
        """The leader takes a record. `done` gets its offset once all replicas have it.

        It gets None if it vanished with the leader before that.
        """
        tp = TopicPartition(produce.topic, produce.partition or 0)
        log, now_ms = self.log(tp), self.now_ms
        # The state topic has the broker's time on its records, the others the producer's.
        timestamp = now_ms if produce.topic == STATE else produce.timestamp
        entry = log.append(timestamp, produce.key, produce.value, produce.headers, now_ms)
        self._unreplicated.setdefault(tp, {})[entry.offset] = done
        slow = self.slow_until.get(tp, 0.0)
        if slow > self._clock.now:
            delay = min(slow - self._clock.now, 4 * self._rng.random())
            end = log.end
            self._clock.after(delay, lambda: self.replicate(tp, end))
        else:
            self.replicate(tp, log.end)

    def replicate(self, tp: TopicPartition, through: int) -> None:
        """All replicas have what lies below an offset: it is acknowledged, and can be read."""
        log = self.log(tp)
        before = log.high
        log.replicate(through)
        waiting = self._unreplicated.get(tp, {})
        for offset in range(before, log.high):
            entry = log.entries.get(offset)
            if entry is not None:
                self._on_commit(tp, entry)
            if (done := waiting.pop(offset, None)) is not None:
                done(offset)
        if log.high > before:
            self._on_readable(tp)

    def change_leader(self, tp: TopicPartition) -> int:
        """A replica takes over; what it did not have is gone. Says how many records."""
        lost = self.log(tp).change_leader()
        waiting = self._unreplicated.get(tp, {})
        dones = [waiting.pop(entry.offset) for entry in lost if entry.offset in waiting]
        for done in dones:
            done(None)
        return len(lost)

    def publish(self, tp: TopicPartition, key: bytes, value: bytes | None) -> None:
        """Somebody else's record, that all replicas have at once."""
        log = self.log(tp)
        log.append(self.now_ms, key, value, (), self.now_ms)
        self.replicate(tp, log.end)
