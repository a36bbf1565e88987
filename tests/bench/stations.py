"""What each station of the path costs an event: the real objects on one thread, without a network.

Each is timed by this thread's CPU clock over a few thousand events, the best of several rounds.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from rocksdict import Options, Rdict, WriteBatch

from consumer import compose
from consumer.config import Config
from consumer.consent import ConsentRules
from consumer.dedup import Keys
from consumer.event import Mapped
from consumer.export import Exported, ExportThread
from consumer.identity import IdentityRules
from consumer.metrics import Metrics
from consumer.payload import Mapper
from consumer.source import SLICE
from consumer.span_writer import SpanWriter
from consumer.spans import endpoint
from consumer.store import Stores
from consumer.telemetry import Telemetry
from consumer.tracing import Tracer
from tests.bench import floor
from tests.bench.data import PIXEL, records
from tests.bench.engine_drive import EngineDrive, schema_text
from tests.bench.servers import SCHEMA_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from consumer.event import Record, Refused, Suppressed
    from consumer.export import Patience

_GROUP = "bench"
_PARTITIONS = 4
_ROUNDS = 3
_CONFIG = Config.model_validate(
    {"destinations": [{"event_source_id": PIXEL, "access_token": {"env": "TOKEN"}}]}
)
_A = TypeVar("_A")
_T = TypeVar("_T")


class Station(NamedTuple):
    """Microseconds that an event costs here: in the product and, where it does it, in the floor."""

    name: str
    product: float
    floor: float | None = None


class Stopwatch:
    """CPU seconds of this thread by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def time(self, what: str, call: Callable[..., _T], *arguments: Any) -> _T:
        """Calls and times it."""
        began = time.thread_time()
        result = call(*arguments)
        self.seconds[what] += time.thread_time() - began
        return result

    def each(self, what: str, call: Callable[[_A], _T], arguments: Iterable[_A]) -> list[_T]:
        """Calls for each argument and times it all."""
        return self.time(what, lambda: [call(argument) for argument in arguments])


def measure(count: int, folder: Path) -> list[Station]:
    """What every station costs, over `count` events; `folder` is empty and can be written to."""
    now_ms = time.time_ns() // 1_000_000
    sample = list(records("t", count, partitions=_PARTITIONS, schema_id=SCHEMA_ID, now_ms=now_ms))
    best: dict[str, float] = {}
    for number in range(_ROUNDS):
        at = folder / str(number)
        costs = {
            **_alone(sample, now_ms),
            **_floor(sample, at / "floor"),
            **_driven(sample, at / "untraced", traced=False),
            "telemetry, traced": _driven(sample, at / "traced", traced=True)["telemetry"],
        }
        for what, seconds in costs.items():
            cost = seconds / count * 1e6
            best[what] = min(best.get(what, cost), cost)
    return _table(best)


def _table(best: dict[str, float]) -> list[Station]:
    alone = best["decode"] + best["map"] + best["key"] + best["trace"]
    return [
        Station("decode: Avro", best["decode"], best["floor: decode"]),
        Station("map: route, consent, SHA-256, orjson", best["map"], best["floor: map"]),
        Station("trace: parent, ids, sampling", best["trace"]),
        Station("deduplication key", best["key"]),
        Station("rest of intake: item, offsets", best["intake"] - alone),
        Station("look up, mark: RocksDB", best["look up"] + best["mark"], best["floor: store"]),
        Station("batch, gates", best["batch"]),
        Station("request body", best["body"]),
        Station("verdict", best["verdict"]),
        Station("outcome", best["settle"]),
        Station("metrics", best["telemetry"]),
        Station("span, where traced", best["telemetry, traced"] - best["telemetry"]),
    ]


def _alone(sample: Sequence[Record], now_ms: int) -> dict[str, float]:
    """The stations that the engine calls event by event, one after the other."""
    (destination,) = compose.destinations(_CONFIG)
    decoder = compose.decoder(_CONFIG)
    decoder.learn(SCHEMA_ID, [schema_text()])
    mapper = Mapper(
        consent=ConsentRules(),
        identity=IdentityRules(),
        max_future_ms=int(_CONFIG.events.max_future * 1000),
        max_body_bytes=_CONFIG.batching.max_bytes,
    )
    key, begin = Keys().key, _tracer(traced=False).begin

    def to_tiktok(event: dict[str, Any]) -> Mapped | Refused | Suppressed:
        return mapper.map(event, destination, now_ms, None)

    watch = Stopwatch()
    for chunk in _chunks(sample, SLICE):
        events = watch.each("decode", decoder.decode, [r.value or b"" for r in chunk])
        mapped = watch.each("map", to_tiktok, events)
        good = [event for event in mapped if isinstance(event, Mapped)]
        assert len(good) == len(chunk)
        watch.each("key", key, good)
        watch.each("trace", begin, [record.headers for record in chunk])
    return watch.seconds


def _floor(sample: Sequence[Record], folder: Path) -> dict[str, float]:
    decode = floor.decoder()
    database = Rdict(str(folder), Options(raw_mode=True))

    def look_up_and_mark(keys: Sequence[bytes]) -> None:
        database.get(list(keys))
        batch = WriteBatch(raw_mode=True)
        for each in keys:
            batch.put(each, floor.MARK)
        database.write(batch)

    watch = Stopwatch()
    for chunk in _chunks(sample, floor.CHUNK):
        events = watch.each("floor: decode", decode, [r.value or b"" for r in chunk])
        watch.each("floor: map", floor.element, events)
        watch.time("floor: store", look_up_and_mark, [floor.key(event) for event in events])
    database.close()
    return watch.seconds


def _driven(sample: Sequence[Record], folder: Path, *, traced: bool) -> dict[str, float]:
    """The stations that work by the chunk, as the engine and its surroundings call them."""
    metrics = Metrics()
    thread = ExportThread(_Nowhere(), metrics)
    to = endpoint(_CONFIG.tiktok.endpoint)
    telemetry = Telemetry(_tracer(traced=traced), metrics, SpanWriter(_GROUP, to, thread, ()))
    stores = Stores(folder, _GROUP, _CONFIG.dedup.window)
    watch = Stopwatch()
    EngineDrive(_CONFIG, stores, telemetry, watch.time).run(sample)
    stores.close_all()
    thread.close(10.0)
    return watch.seconds


def _chunks(sample: Sequence[Record], size: int) -> Iterator[Sequence[Record]]:
    return (sample[start : start + size] for start in range(0, len(sample), size))


def _tracer(*, traced: bool) -> Tracer:
    sampler = ALWAYS_ON if traced else ALWAYS_OFF
    return Tracer(sampler, RandomIdGenerator(), TraceContextTextMapPropagator(), enabled=True)


class _Nowhere:
    """An exporter whose receiver takes everything at once."""

    def export(self, payloads: Sequence[bytes], spans: int, patience: Patience) -> Exported:
        del payloads, patience  # nothing is sent, so nothing fails
        return Exported(spans, {})

    def close(self) -> None:
        """Has nothing to let go."""
