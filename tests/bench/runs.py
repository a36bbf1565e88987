"""One run each: a reader over the same topic, its start-up measured apart."""

from __future__ import annotations

import sys
import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.bench import data, profiler
from tests.bench.process import Cores, MeasuredProcess, pinned
from tests.bench.product import Surroundings, Tracing, product
from tests.bench.servers import SCHEMA_ID, read_json, serving
from tests.support import kafka

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from consumer.event import Record
    from tests.bench.process import Usage
    from tests.support.kafka import RealKafka

PARTITIONS = 4
_SLOWEST = 500
"""Events a second below which a run is taken for stuck."""


class Run(NamedTuple):
    """What a run took.

    `startup_cpu_seconds` is the CPU time of a run of its own over an empty topic, contained in
    `cpu_seconds`. `seconds` is from the start to the last event's outcome. `threads` has the CPU
    seconds by kind of thread.
    """

    name: str
    records: int
    delivered: int
    cpu_seconds: float
    startup_cpu_seconds: float
    seconds: float
    peak_rss: int
    requests: int
    spans: int
    otlp_bytes: int
    threads: Mapping[str, float]

    @property
    def micros_per_event(self) -> float:
        """CPU microseconds per delivered event, without start-up."""
        return (self.cpu_seconds - self.startup_cpu_seconds) / self.delivered * 1e6

    @property
    def events_per_second(self) -> float:
        """What one core delivers in a second of its time."""
        return 1e6 / self.micros_per_event


class _Sides(NamedTuple):
    """What a run's counterparts counted."""

    tiktok: Mapping[str, Any]
    receiver: Mapping[str, int]


@dataclass(frozen=True)
class Bench:
    """A broker with the records in it, and a folder for the runs' files."""

    kafka: RealKafka
    cores: Cores
    folder: Path
    topic: str
    empty_topic: str
    events: int
    value_bytes: float

    @property
    def distinct(self) -> int:
        """How many events are to be delivered."""
        return data.distinct(self.events)

    def floor(self) -> Run:
        """The floor, on everything."""
        startup, _, _ = self._floor(self.empty_topic, 0)
        usage, seconds, sides = self._floor(self.topic, self.events)
        return self._run("floor", usage, startup, seconds, sides)

    def product(self, tracing: Tracing) -> Run:
        """The product, on everything."""
        with (
            self._around(self.empty_topic) as around,
            product(self._folder(), around, tracing, self.cores.measured) as process,
        ):
            process.until_it_reads(PARTITIONS)
            startup = process.terminate()
        with self._around(self.topic) as around:
            began = time.monotonic()
            with product(self._folder(), around, tracing, self.cores.measured) as process:
                totals = process.until_settled(self.events, self._patience)
                seconds = time.monotonic() - began
                usage = process.terminate()
            sides = _sides(around)
        wanted = {"delivered": self.distinct, "duplicate": self.events - self.distinct}
        if {name: number for name, number in totals.items() if number} != wanted:
            raise RuntimeError(f"{tracing.name}: the outcomes are {totals}, not {wanted}")
        return self._run(tracing.name, usage, startup, seconds, sides)

    def profile(self, tracing: Tracing) -> list[profiler.Function]:
        """The product, on everything, with its main thread's time by function."""
        output = self.folder / "profile.json"
        command = (sys.executable, "-m", profiler.__name__, str(output))
        with self._around(self.topic) as around:
            folder, cores = self._folder(), self.cores.measured
            with product(folder, around, tracing, cores, command) as process:
                process.until_settled(self.events, self._patience)
                process.terminate()
        return profiler.read(output)

    def _floor(self, topic: str, events: int) -> tuple[Usage, float, _Sides]:
        with self._around(topic) as around:
            group, endpoint = f"floor-{uuid.uuid4()}", around.tiktok["endpoint"]
            command = (
                *(sys.executable, "-m", "tests.bench.floor"),
                *(around.bootstrap_servers, topic, group, str(events), endpoint),
            )
            folder = self._folder()
            folder.mkdir()
            began = time.monotonic()
            with MeasuredProcess(command, folder, self.cores.measured) as process:
                usage = process.wait(self._patience)
            return usage, time.monotonic() - began, _sides(around)

    def _run(self, name: str, usage: Usage, startup: Usage, seconds: float, sides: _Sides) -> Run:
        taken = sides.tiktok
        delivered, repeated = taken["events_accepted"], taken["events_deduplicated"]
        if (delivered, repeated) != (self.distinct, 0):
            raise RuntimeError(
                f"{name}: {delivered} of {self.distinct} delivered, {repeated} twice"
            )
        return Run(
            name,
            self.events,
            delivered,
            usage.cpu_seconds,
            startup.cpu_seconds,
            seconds,
            usage.peak_rss,
            sum(taken["requests_by_code"].values()),
            sides.receiver["spans"],
            sides.receiver["bytes"],
            usage.threads,
        )

    @contextmanager
    def _around(self, topic: str) -> Iterator[Surroundings]:
        """Counterparts that have seen nothing yet."""
        with (
            serving("tiktok", self.cores.others) as tiktok,
            serving("otlp", self.cores.others) as receiver,
        ):
            yield Surroundings(self.kafka.bootstrap_servers, topic, tiktok, receiver)

    def _folder(self) -> Path:
        return self.folder / str(uuid.uuid4())

    @property
    def _patience(self) -> float:
        return 60.0 + self.events / _SLOWEST


def _delete(broker: RealKafka, topic: str) -> None:
    """Takes a topic away, and the dead-letter topic that the product has made beside it."""
    for name in (topic, f"{topic}.dlq"):
        if broker.partitions(name):
            broker.delete_topic(name)


def _sides(around: Surroundings) -> _Sides:
    return _Sides(read_json(around.tiktok["truth"]), read_json(around.receiver["counts"]))


@contextmanager
def prepared(events: int) -> Iterator[Bench]:
    """A broker with `events` records in it, for the length of the block."""
    cores = Cores.of_this_machine()
    with ExitStack() as stack:
        stack.enter_context(pinned(cores.others))
        broker = kafka.start()
        stack.callback(broker.stop)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="bench-")))
        topic, empty = (f"bench-{name}-{uuid.uuid4().hex[:8]}" for name in ("events", "empty"))
        for name in (topic, empty):
            broker.create_topic(name, PARTITIONS)
            stack.callback(_delete, broker, name)
        sizes = [0]

        def counted() -> Iterator[Record]:
            for record in data.records(
                topic,
                events,
                partitions=PARTITIONS,
                schema_id=SCHEMA_ID,
                now_ms=time.time_ns() // 1_000_000,
            ):
                sizes[0] += len(record.value or b"")
                yield record

        broker.produce(topic, counted())
        yield Bench(broker, cores, folder, topic, empty, events, sizes[0] / events)
