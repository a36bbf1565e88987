"""The accepted keys on this machine: one RocksDB a partition.

A mark is a key with the time of its acceptance. It is written with RocksDB's write-ahead log, so
it outlives the process, however that ends; a crash of the whole machine may take the last ones.
Expiry is the reader's to judge. Space is given back by RocksDB's own time-to-live, which drops
expired marks while it compacts: those may still be found for a while.

Measured on an idle machine with 500,000 keys in each of 8 partitions, in chunks of 500: 0.7 µs to
look up a key that is not there (the usual case), 3 to 5 µs one that is, 2 to 3 µs to mark one;
55 MB of memory for all of them.
"""

from __future__ import annotations

from contextlib import suppress
from hashlib import blake2b
from struct import Struct
from typing import TYPE_CHECKING
from urllib.parse import quote

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
)

from consumer.errors import StoreError
from consumer.messages import Reached
from consumer.state_records import split

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from consumer.event import TopicPartition
    from consumer.messages import Marks

_MIB = 1024 * 1024

BLOCK_CACHE_BYTES = 16 * _MIB
"""For blocks, filters and indexes of all partitions together."""

WRITE_BUFFER_BYTES = 4 * _MIB
"""Of marks in memory before one partition writes them to a table file."""

ALL_WRITE_BUFFERS_BYTES = 32 * _MIB
"""The same for all partitions together."""

OPEN_FILES = 64
"""Table files that one partition keeps open."""

TTL_MARGIN_SECONDS = 3600
"""Marks stay this much longer than the window, so that no clock's error takes one too early."""

_LONGEST_NAME = 120
_TIME = Struct(">Q")
_REACHED = b"reached"
_PLACE = Struct(">16sQQQ16sH")

_MENDING = (
    ("Corruption", "damaged: move {path} away to begin anew, with nothing known of what it held"),
    ("lock hold", "opened twice in this process: {path}"),
    ("lock file", "another process has {path} open: stop it, or give it its own dedup.directory"),
    ("No space left", "make space on the disk of {path}; it goes on by itself"),
    ("Permission denied", "let this user write to {path}"),
    ("Read-only file system", "dedup.directory must be on a disk that can be written to"),
    ("Not a directory", "part of the path {path} is a file: name another dedup.directory"),
)
"""A word of RocksDB's error text, and what to do. Only for the reader: nothing is decided by it."""


class RocksStore:
    """A partition's store. After an error it is opened anew when it is next asked.

    RocksDB refuses every write after one that failed, also when there is space again; opening it
    anew is what ends that.
    """

    def __init__(self, tp: TopicPartition, path: Path, options: Options, ttl_seconds: int) -> None:
        self._tp = tp
        self._path = path
        self._options = options
        self._ttl_seconds = ttl_seconds
        self._database: Rdict | None = None
        self._closed = False

    def __repr__(self) -> str:
        """Whose it is and whether it is open."""
        state = "closed" if self._closed else "failed" if self._database is None else "open"
        return f"<RocksStore {self._tp.topic}/{self._tp.partition} {state}>"

    def accepted_at(self, keys: Sequence[bytes]) -> list[int | None]:
        """When each key was accepted, in milliseconds since the epoch; None where it was not.

        Raises:
            StoreError: the store cannot be read.
        """
        database = self._open()
        unpack = _TIME.unpack
        try:
            values = database.get(list(keys))
            return [None if value is None else unpack(value)[0] for value in values or ()]
        except Exception as error:
            raise self._failure(error) from error

    def reached(self, state_bound_to: bytes) -> Reached | None:
        """How far it has come in this state topic."""
        raw = self._open().get(_REACHED)
        if raw is None:
            return None
        bound, next_offset, floor, through, bound_to, count = _PLACE.unpack_from(raw)
        if bound != state_bound_to:
            return None
        at = _PLACE.size
        unclosed = tuple(raw[at + 16 * n : at + 16 * n + 16] for n in range(count))
        return Reached(next_offset, floor, through, bound_to, unclosed)

    def mark(self, marks: Sequence[Marks], reached: Reached, state_bound_to: bytes) -> None:
        """Writes keys with their times of acceptance, all of them or none.

        Raises:
            StoreError: they were not written.
        """
        database = self._open()
        batch = WriteBatch(raw_mode=True)
        try:
            for accepted_ms, keys in marks:
                value = _TIME.pack(accepted_ms)
                for key in split(keys):
                    batch.put(key, value)
            place = _PLACE.pack(state_bound_to, *reached[:4], len(reached.unclosed))
            batch.put(_REACHED, place + b"".join(reached.unclosed))
            database.write(batch)
        except Exception as error:
            raise self._failure(error) from error

    def entries(self) -> int:
        """About how many keys the store holds, expired ones included that still take space.

        Raises:
            StoreError: the store cannot be read.
        """
        try:
            return self._open().property_int_value("rocksdb.estimate-num-keys") or 0
        except StoreError:
            raise
        except Exception as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Gives the directory up, so that another owner can open it. Twice does no harm."""
        self._closed = True
        self._release()

    @property
    def is_open(self) -> bool:
        """Whether it can be asked without being opened first."""
        return self._database is not None

    def open(self) -> None:
        """Opens the directory, which is made if it is not there.

        Raises:
            StoreError: it cannot be opened.
        """
        self._open()

    def _open(self) -> Rdict:
        if self._database is not None:
            return self._database
        if self._closed:
            raise StoreError(self._tp, "was closed: the partition is no longer ours")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            database = Rdict(
                str(self._path),
                self._options,
                # Named, or a directory that exists is opened with the options stored in it: with a
                # cache of its own, and with a second time-to-live filter around the first, which
                # takes every mark for expired when RocksDB compacts.
                column_families={"default": self._options},
                access_type=AccessType.with_ttl(self._ttl_seconds),
            )
            self._database = database
            # A table file that no compaction has touched for so long is compacted for its age.
            database.set_options({"periodic_compaction_seconds": str(self._ttl_seconds)})
        except Exception as error:
            raise self._failure(error) from error
        return database

    def _failure(self, error: Exception) -> StoreError:
        """The error to raise, with what to do; the database is given up until the next call."""
        self._release()
        text = " ".join(str(error).split())
        how = next((how for word, how in _MENDING if word in text), None)
        if how is None:
            return StoreError(self._tp, f"{self._path}: {text}")
        return StoreError(self._tp, f"{how.format(path=self._path)} ({text})")

    def _release(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            # It repeats the error of an earlier write; the directory is free all the same.
            with suppress(Exception):
                database.close()


class Stores:
    """The stores of this process, one a partition, with one budget of memory for all.

    Args:
        directory: where they lie, as `<directory>/<group>/<topic>/<partition>`.
        group: the consumer group. Groups do not share marks.
        window_seconds: how long marks are needed.
    """

    def __init__(self, directory: Path, group: str, window_seconds: float) -> None:
        self._directory = directory / _file_name(group)
        self._ttl_seconds = int(window_seconds) + TTL_MARGIN_SECONDS
        self._cache = Cache(BLOCK_CACHE_BYTES)
        self._write_buffers = WriteBufferManager(ALL_WRITE_BUFFERS_BYTES, allow_stall=False)
        self._stores: dict[TopicPartition, RocksStore] = {}
        self._bound: dict[TopicPartition, bytes] = {}

    def __repr__(self) -> str:
        """Where they lie and how many are open."""
        return f"<Stores {self._directory} {len(self._stores)}>"

    def open(self, tp: TopicPartition, state_bound_to: bytes) -> Reached | None:
        """Opens a partition's store; how far it has come."""
        self._bound[tp] = state_bound_to
        return self._of(tp).reached(state_bound_to)

    def accepted_at(self, tp: TopicPartition, keys: Sequence[bytes]) -> list[int | None]:
        """When each key was accepted."""
        return self._of(tp).accepted_at(keys)

    def mark(self, tp: TopicPartition, marks: Sequence[Marks], reached: Reached) -> None:
        """Writes marks."""
        self._of(tp).mark(marks, reached, self._bound[tp])

    def _of(self, tp: TopicPartition) -> RocksStore:
        """The partition's store; the same one until it is closed.

        Raises:
            StoreError: it cannot be opened.
        """
        store = self._stores.get(tp)
        if store is None:
            path = self._directory / _file_name(tp.topic) / str(tp.partition)
            options = _options(self._cache, self._write_buffers)
            store = RocksStore(tp, path, options, self._ttl_seconds)
            store.open()
            self._stores[tp] = store
        return store

    def entries(self, tp: TopicPartition) -> int | None:
        """About how many keys the partition's store holds; None while it is not open."""
        store = self._stores.get(tp)
        if store is None or not store.is_open:
            return None
        try:
            return store.entries()
        except StoreError:
            return None

    def close(self, tp: TopicPartition) -> None:
        """Gives the partition's store up, if it is open; its marks stay on disk."""
        store = self._stores.pop(tp, None)
        if store is not None:
            store.close()

    def close_all(self) -> None:
        """Gives every store up."""
        for tp in list(self._stores):
            self.close(tp)


def _options(cache: Cache, write_buffers: WriteBufferManager) -> Options:
    """Small memory, quick to say that a key is not there.

    Filters and indexes live in the shared cache, since their size grows with the keys. Tables are
    not compressed: digests do not shrink. RocksDB's own log is kept small.
    """
    tables = BlockBasedOptions()
    tables.set_block_cache(cache)
    tables.set_bloom_filter(10, block_based=False)
    tables.set_format_version(5)
    tables.set_cache_index_and_filter_blocks(True)
    tables.set_pin_l0_filter_and_index_blocks_in_cache(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(tables)
    options.set_compression_type(DBCompressionType.none())
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_write_buffer_manager(write_buffers)
    options.set_memtable_prefix_bloom_ratio(0.05)
    options.set_memtable_whole_key_filtering(True)
    options.set_max_open_files(OPEN_FILES)
    options.set_max_background_jobs(2)
    options.set_stats_dump_period_sec(0)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(_MIB)
    return options


def _file_name(name: str) -> str:
    """A name as one part of a path: nothing climbs out of it, no two names become the same."""
    safe = quote(name, safe="")
    if not safe.strip("."):
        safe = safe.replace(".", "%2E")
    if len(safe) > _LONGEST_NAME:
        digest = blake2b(name.encode(), digest_size=16).hexdigest()
        safe = f"{safe[:_LONGEST_NAME]}~{digest}"
    return safe
