"""The whole simulated world of one run: its parts, the records, the processes, the end."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import orjson

from consumer.commit_metadata import is_of_another_topic
from consumer.event import TopicPartition
from consumer.messages import RegistryUnavailable, SchemaFound
from tests.simulation.assembly import PIXELS, key_of
from tests.simulation.broker import RETRY, STATE, TOPIC, Broker
from tests.simulation.clock import Clock
from tests.simulation.group import Coordinator
from tests.simulation.judge import Judge
from tests.simulation.process import Process
from tests.simulation.producer import ProducerWeather
from tests.simulation.schedule import Append, Kind
from tests.simulation.stores import Disk
from tests.simulation.tiktok import BAD, PERSON, TikTok
from tests.simulation.troubles import Troubles
from tests.simulation.truth import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from consumer.messages import SchemaAnswer
    from tests.simulation.schedule import Schedule, Setup

NAMES = "ABCDEFGH"
_LOOK_SECONDS = 5.0
_CLEAN_SECONDS = 30.0
_FAULTS_WAIT = 120.0
"""Seconds that faults which find nobody may come late."""

_RETENTION = 1.5
"""Of the state topic, against the window."""


class Registry:
    """The schema registry: it knows every schema, unless it is away."""

    def __init__(self, clock: Clock, seed: int | str) -> None:
        self._clock = clock
        self._rng = random.Random(f"{seed}/registry")
        self.away_until = 0.0

    def ask(self, answer: Callable[[SchemaAnswer], None]) -> None:
        """One question."""
        away = self._clock.now < self.away_until
        found: SchemaAnswer = RegistryUnavailable("away") if away else SchemaFound(("{}",))
        self._clock.after(0.01 + 0.1 * self._rng.random(), lambda: answer(found))


class Told(NamedTuple):
    """Something that happened: when (seconds), and what.

    `is_cause`: it was done to the consumers, by the schedule. `is_routine`: it happens all the
    time, and seldom matters.
    """

    at: float
    sentence: str
    is_cause: bool = False
    is_routine: bool = False


class World:
    """One run. `tell` takes what happens as sentences, where somebody wants to read them."""

    def __init__(self, schedule: Schedule, tell: Callable[[Told], None] | None = None) -> None:
        self.schedule = schedule
        self.seed = seed = f"{schedule.seed}/{schedule.luck}" if schedule.luck else schedule.seed
        self.setup: Setup = schedule.setup
        self.clock = Clock()
        self._tell = tell
        self.telling = tell is not None
        self.judge = Judge(self)
        self.registry = Registry(self.clock, seed)
        self.broker = Broker(self.clock, seed, self.judge.own_records.committed, self._readable)
        self.coordinator = Coordinator(
            self.clock, self.setup, seed, self.judge.offsets_committed, self.tell
        )
        self.tiktok = TikTok(self.clock, self.setup, seed, self.judge.attempts.took)
        self.producer_weather = ProducerWeather()
        self.troubles = Troubles(self)
        self.disks: dict[str, Disk] = {}
        self.processes: list[Process] = []
        self.slots: dict[str, Process] = {}
        self.truncated: set[int] = set()
        """Partitions that take no record until somebody has looked after them."""
        self.ever_truncated: set[int] = set()
        self._waiting: list[Append] = []
        self._calls = 0

    def tell(self, sentence: str, *, is_routine: bool = False) -> None:
        """Something worth telling happened."""
        if self._tell is not None:
            self._tell(Told(self.clock.now, sentence, is_routine=is_routine))

    def tell_cause(self, sentence: str) -> None:
        """Something was done to the consumers."""
        if self._tell is not None:
            self._tell(Told(self.clock.now, sentence, is_cause=True))

    def next_call(self) -> int:
        """The number of a request."""
        self._calls += 1
        return self._calls

    # The run

    def run(self) -> None:
        """Everything in the schedule happens; then the faults end, and everything has to settle.

        Raises:
            Violation: something does not hold.
        """
        for partition in range(self.setup.partitions):
            for topic in (TOPIC, RETRY):
                self.broker.log(TopicPartition(topic, partition))
        for append in self.schedule.appends:
            self.clock.at(append.at, partial(self.publish, append))
        for trouble in self.schedule.troubles:
            self.clock.at(trouble.at, partial(self.troubles.meet, trouble))
        for name in NAMES[: self.setup.processes]:
            self.start(name)
        if self.setup.window < self.schedule.seconds:
            self.clock.after(_CLEAN_SECONDS, self._clean)
        self.clock.run(self.schedule.seconds)
        while self.troubles.to_come and self.clock.now < self.schedule.seconds + _FAULTS_WAIT:
            self.clock.run(self.clock.now + 1.0)  # somebody is to start again and meet them
        self.troubles.end()
        self._settle()

    def publish(self, append: Append) -> None:
        """A record is produced to the source; its key is its number, wherever it is copied to."""
        _, partition, number, kind = append
        partition %= self.setup.partitions
        if partition in self.truncated:
            self._waiting.append(append)
            return
        tp = TopicPartition(TOPIC, partition)
        event_id = f"p{partition}-{number}"
        truth = self.judge.truth
        serial = len(truth.sources)
        offset = self.broker.log(tp).end
        truth.sources[serial] = Source(serial, kind, event_id, partition, offset)
        value = _value(kind, event_id, PIXELS[number % self.setup.pixels])
        if self.telling:
            self.judge.truth.event_of[key_of(event_id, number % self.setup.pixels)] = event_id
            self.tell_cause(f"{event_id} ({partition}@{offset}, {kind}) is produced")
        self.broker.publish(tp, b"%d" % serial, value)

    def mended(self) -> None:
        """Somebody has looked after the truncated partitions: what waited is produced."""
        self.truncated.clear()
        waiting, self._waiting = self._waiting, []
        for append in waiting:
            self.publish(append)

    def _readable(self, tp: TopicPartition) -> None:
        if tp.topic != STATE:
            for process in self.running:
                process.member.readings.poke()

    def _clean(self) -> None:
        """Retention of the state topic."""
        oldest = self.broker.now_ms - round(self.setup.window * _RETENTION * 1000)
        for tp, log in self.broker.logs.items():
            if tp.topic == STATE:
                log.delete_older(oldest)
        self.clock.after(_CLEAN_SECONDS, self._clean)

    # Processes

    @property
    def running(self) -> list[Process]:
        """The processes that have not ended."""
        return [process for process in self.processes if process.alive]

    def start(self, name: str, disk: Disk | None = None) -> None:
        """A process starts, on its machine or on another one; unless it runs already."""
        running = self.slots.get(name)
        if running is not None and running.alive and disk is None:
            return
        if disk is None:
            disk = self.disks.setdefault(name, Disk())
        self.disks[name] = disk
        process = Process(self, name, len(self.processes) + 1, disk)
        self.processes.append(process)
        self.slots[name] = process
        self.tell(f"{name} starts")

    # The end

    def _settle(self) -> None:
        """Lets time pass until all is settled."""
        limit = self.clock.now + self.setup.settles_within
        while self.clock.now < limit:
            self.clock.run(self.clock.now + _LOOK_SECONDS)
            if not self.running:
                self.start(NAMES[0])
            if self._is_settled():
                self.judge.finish()
                self.tell("all is settled")
                return
        self.judge.notes.fail("liveness", "; ".join(self._left()))

    def _is_settled(self) -> bool:
        return next(self._left(), None) is None

    def _left(self) -> Iterator[str]:
        """What is not settled yet."""
        if self._waiting or self.truncated:
            yield f"{len(self._waiting)} records wait for partitions {sorted(self.truncated)}"
        yield from self._uncommitted()
        yield from self._unsettled()

    def _uncommitted(self) -> Iterator[str]:
        """The partitions with a record, not a mere marker, behind the committed offset."""
        for tp, log in self.broker.logs.items():
            if tp.topic not in {TOPIC, RETRY}:
                continue
            at, metadata = self.coordinator.offsets.get(tp, (0, ""))
            if is_of_another_topic(metadata, self.broker.binding(tp)):
                at = 0
            if any(offset in log.entries for offset in range(max(at, log.start), log.high)):
                yield f"{tp.topic}/{tp.partition} is committed to {at} of {log.high}"

    def _unsettled(self) -> Iterator[str]:
        for process in self.running:
            for partition in process.engine.partitions.values():
                if partition.pending or partition.holds:
                    yield f"{process.name}: {partition!r} holds {partition.holds}"


def _value(kind: Kind, event_id: str, pixel: str) -> bytes | None:
    if kind is Kind.TOMBSTONE:
        return None
    if kind is Kind.GARBAGE:
        return b"no event"
    event: dict[str, object] = {
        "event_id": event_id,
        "event": "purchase",
        "event_source_id": pixel,
        "page": {"url": f"https://shop.example{BAD if kind is Kind.BAD else '/'}{event_id}"},
        "user": {"external_id": PERSON},
    }
    if kind is Kind.DENIED:
        event["consent"] = {"marketing": "DENIED"}
    if kind is Kind.STRIPPED:
        event["consent"] = {"ad_user_data": "DENIED"}
    value = orjson.dumps(event)
    return b"?007" + value if kind is Kind.SCHEMA else value
