"""The process that `tests.bench.rebuild` measures; prints its figures as a line of JSON.

`python -m tests.bench.rebuild_run KEYS PARTITIONS DIRECTORY`
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import count
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from consumer import app
from consumer.commit_metadata import binding
from consumer.event import TopicPartition
from consumer.messages import Marks, Reached
from consumer.state_records import KEY_BYTES, MOST_KEYS, Kind, StateValue, decode, encode
from consumer.store import Stores

if TYPE_CHECKING:
    from collections.abc import Sequence

_RECORD_KEYS = 1024
_CHUNK_RECORDS = MOST_KEYS // _RECORD_KEYS
_BOUND_TO = binding("cluster", "state topic")
_LOOK_UP = 500
_LOOK_UPS = 40
_ROUNDS = 3
_QUIET_SECONDS = 0.3
_MERGING_SECONDS = 60.0


class Rebuild:
    """Stores that are filled from made-up state records."""

    def __init__(self, stores: Stores, partitions: int) -> None:
        self._stores = stores
        self._tps = [TopicPartition("conversions", number) for number in range(partitions)]
        self._offsets = count(_CHUNK_RECORDS, _CHUNK_RECORDS)
        self._calls: list[float] = []
        self.known: dict[TopicPartition, list[bytes]] = {tp: [] for tp in self._tps}

    def open(self) -> float:
        """Opens all stores; how many seconds that took."""
        began = time.perf_counter()
        for tp in self._tps:
            self._stores.open(tp, _BOUND_TO)
        return time.perf_counter() - began

    def fill(self, keys: int) -> dict[str, Any]:
        """Rebuilds so many keys; what that took."""
        made_up = 0.0
        began, cpu_began = time.perf_counter(), time.process_time()
        for number in range(max(1, keys // MOST_KEYS)):
            tp = self._tps[number % len(self._tps)]
            before = time.thread_time()
            values = [_record() for _ in range(_CHUNK_RECORDS)]
            if len(self.known[tp]) < _LOOK_UP * _LOOK_UPS:
                self.known[tp] += [values[-1][-KEY_BYTES * n :][:KEY_BYTES] for n in range(1, 21)]
            made_up += time.thread_time() - before
            self._rebuild(tp, values)
        seconds = time.perf_counter() - began - made_up
        self._until_merged()
        *_, p99 = quantiles(self._calls, n=100)
        ordered = sorted(self._calls)
        return {
            "seconds": seconds,
            "cpu_seconds": time.process_time() - cpu_began - made_up,
            "call_ms": [1000 * ms for ms in (ordered[len(ordered) // 2], p99, ordered[-1])],
        }

    def look_up(self, keys: dict[TopicPartition, list[bytes]], *, known: bool) -> float:
        """Microseconds for each key, in chunks as they come from a source; the best of rounds."""
        best = float("inf")
        for _ in range(_ROUNDS):
            asked, spent = 0, 0.0
            for tp, its in keys.items():
                for start in range(0, len(its), _LOOK_UP):
                    chunk = its[start : start + _LOOK_UP]
                    began = time.thread_time()
                    found = self._stores.accepted_at(tp, chunk)
                    spent += time.thread_time() - began
                    asked += len(chunk)
                    assert all((at is not None) is known for at in found), "a wrong answer"
            best = min(best, spent / asked * 1e6)
        return best

    def _rebuild(self, tp: TopicPartition, values: Sequence[bytes]) -> None:
        began = time.perf_counter()
        said = [value for raw in values if (value := decode(raw)) is not None]
        marks = [Marks(value.time_ms, value.keys) for value in said]
        offset = next(self._offsets)
        self._stores.mark(tp, marks, Reached(offset, offset, 0, _BOUND_TO))
        self._calls.append(time.perf_counter() - began)

    def _until_merged(self) -> None:
        """Waits until RocksDB's own threads have been at rest for a moment."""
        deadline = time.monotonic() + _MERGING_SECONDS
        quiet_since = time.monotonic()
        while time.monotonic() < min(deadline, quiet_since + _QUIET_SECONDS):
            time.sleep(0.02)
            if any(self._works(tp) for tp in self._tps):
                quiet_since = time.monotonic()

    def _works(self, tp: TopicPartition) -> bool:
        database: Any = self._stores._stores[tp]._database
        properties = ("rocksdb.num-running-compactions", "rocksdb.num-running-flushes")
        return any(database.property_int_value(name) for name in properties)


def _record() -> bytes:
    """An `accepted` record, of keys as random as digests are."""
    keys = os.urandom(_RECORD_KEYS * KEY_BYTES)
    return encode(StateValue(Kind.ACCEPTED, bytes(16), bytes(16), 0, time.time_ns() // 10**6, keys))


def _rss() -> int:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _run(keys: int, partitions: int, directory: Path) -> dict[str, Any]:
    app._share_arenas()  # as the consumer does, whose other modules are loaded here, too
    stores = Stores(directory, "bench", 48 * 3600.0)
    rebuild = Rebuild(stores, partitions)
    rebuild.open()
    figures = rebuild.fill(keys)
    unknown = {tp: [os.urandom(KEY_BYTES) for _ in its] for tp, its in rebuild.known.items()}
    figures["unknown_micros"] = rebuild.look_up(unknown, known=False)
    figures["known_micros"] = rebuild.look_up(rebuild.known, known=True)
    figures["rss"] = _rss()
    figures["disk_bytes"] = sum(path.stat().st_size for path in directory.rglob("*"))
    stores.close_all()
    figures["open_seconds"] = rebuild.open()
    stores.close_all()
    return figures


if __name__ == "__main__":
    _keys, _partitions, _directory = sys.argv[1:]
    figures = _run(int(_keys), int(_partitions), Path(_directory))
    sys.stdout.write(json.dumps(figures) + "\n")
