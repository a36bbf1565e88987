"""RocksDB as the local stores use it: how a directory is opened, and what its errors mean.

Settings, and what was measured on two cores of a shared, busy virtual machine (so: orders, not
digits), with 10 million keys in one directory unless another number is told:

- Tables are merged by size (universal compaction), which writes a key three times until it rests.
  By levels it was 5.7 times, 60 % more CPU for a rebuild, and it made the writer wait 36 times.
- Buffers in memory are small, so that they stay in a processor's cache, and many make one table.
- Filters and indexes are cut into pieces, and the cache is not divided. In a divided cache a filter
  that is larger than a division is read from the file for every few look-ups: 9 µs a key with 2
  million keys, 18 with 10 million. Uncut filters are quicker as long as they fit the cache (about
  half of the time), and far slower where they do not: 34 to 130 µs with 40 million keys and 40 MiB,
  against 5 to 16 in pieces of 16 or 64 KiB.
- Nothing slows down or stops the writer because merging lags behind: it is the event loop's thread.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from contextlib import suppress
from enum import Enum
from errno import EAGAIN
from hashlib import blake2b
from pathlib import Path
from threading import Thread
from urllib.parse import quote

from rocksdict import (
    AccessType,
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DBCompactionStyle,
    DBCompressionType,
    Options,
    Rdict,
    WriteBufferManager,
)

_KIB = 1024
_MIB = 1024 * _KIB

BLOCK_CACHE_BYTES = 32 * _MIB
"""For blocks, filters and indexes of all partitions together.

Filters and indexes take about 16 MB for 10 million keys.
"""

WRITE_BUFFER_BYTES = 2 * _MIB
"""Of marks in memory before the next buffer is begun: no more than a processor's cache holds."""

WRITE_BUFFERS_MERGED = 8
"""Full buffers that become one table file."""

WRITE_BUFFERS = 20
"""Most buffers of one partition; a writer that would need another waits."""

ALL_WRITE_BUFFERS_BYTES = 32 * _MIB
"""Of marks in memory, for all partitions together, before tables are written early."""

OPEN_FILES = 64
"""Table files that one partition keeps open."""

MOST_IN_USE = 8
"""Stores of one partition that can be in use at a time, each by a process of its own."""

_METADATA_BLOCK_BYTES = 32 * _KIB
_FILTER_BITS = 10
_TABLES_MERGED = 4
_TABLES_SLOW, _TABLES_STOP = 1000, 2000
_LONGEST_NAME = 120
_SOON_CLOSED = 0.05
"""Seconds; a database without trouble is closed in a few milliseconds."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_MENDING = (
    ("No space left", "make space on the disk of {path}; it goes on by itself"),
    ("Permission denied", "let this user write to {path}"),
    ("Read-only file system", "dedup.directory must be on a disk that can be written to"),
    ("Not a directory", "part of the path {path} is a file: name another dedup.directory"),
    ("File exists", "{path} is a file: move it away, or name another dedup.directory"),
)
"""A word of an error's text, and what to do. Only for the reader: nothing is decided by it."""


class Trouble(Enum):
    """What an error means for a directory."""

    TAKEN = "is in use by another process, or by another part of this one"
    DAMAGED = "is damaged"
    PASSING = "cannot be used just now"


def trouble(error: Exception) -> Trouble:
    """What an error of RocksDB means. It tells so by its text alone; the status comes first.

    A file that is missing is damage: directories are made before they are opened.
    """
    text = str(error)
    if "lock hold by current process" in text:
        return Trouble.TAKEN
    if "lock file" in text and os.strerror(EAGAIN) in text:
        return Trouble.TAKEN
    if text.startswith("Corruption") or "No such file or directory" in text:
        return Trouble.DAMAGED
    return Trouble.PASSING


def advice(error: Exception, path: Path) -> str:
    """An error's text in one line, with what to do where that is known."""
    text = " ".join(str(error).split())
    if trouble(error) is Trouble.TAKEN:
        return (
            f"{MOST_IN_USE} stores in {path} are in use: stop what uses them, or name another"
            f" dedup.directory ({text})"
        )
    how = next((how for word, how in _MENDING if word in text), None)
    return f"{path}: {text}" if how is None else f"{how.format(path=path)} ({text})"


class Budget:
    """The memory that the databases of this process share."""

    def __init__(self) -> None:
        self._cache = Cache.new_hyper_clock_cache(BLOCK_CACHE_BYTES, 0)  # 0: it finds out itself
        self._write_buffers = WriteBufferManager(ALL_WRITE_BUFFERS_BYTES, allow_stall=False)

    def options(self) -> Options:
        """How a database is opened within it."""
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(self._tables())
        options.set_compression_type(DBCompressionType.none())  # digests do not shrink
        options.set_write_buffer_size(WRITE_BUFFER_BYTES)
        options.set_min_write_buffer_number_to_merge(WRITE_BUFFERS_MERGED)
        options.set_max_write_buffer_number(WRITE_BUFFERS)
        options.set_write_buffer_manager(self._write_buffers)
        options.set_memtable_prefix_bloom_ratio(0.05)
        options.set_memtable_whole_key_filtering(True)
        options.set_compaction_style(DBCompactionStyle.universal())
        options.set_level_zero_file_num_compaction_trigger(_TABLES_MERGED)
        options.set_level_zero_slowdown_writes_trigger(_TABLES_SLOW)
        options.set_level_zero_stop_writes_trigger(_TABLES_STOP)
        options.set_max_open_files(OPEN_FILES)
        options.set_max_background_jobs(2)
        options.set_stats_dump_period_sec(0)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(_MIB)
        return options

    def _tables(self) -> BlockBasedOptions:
        tables = BlockBasedOptions()
        tables.set_block_cache(self._cache)
        tables.set_bloom_filter(_FILTER_BITS, block_based=False)
        tables.set_format_version(5)
        tables.set_index_type(BlockBasedIndexType.two_level_index_search())
        tables.set_partition_filters(True)
        tables.set_metadata_block_size(_METADATA_BLOCK_BYTES)
        tables.set_cache_index_and_filter_blocks(True)  # or their size grows with the keys
        tables.set_pin_top_level_index_and_filter(True)
        tables.set_pin_l0_filter_and_index_blocks_in_cache(True)
        return tables


def open_database(path: Path, options: Options, ttl_seconds: int) -> Rdict:
    """Opens a directory, which is made if it is not there.

    Raises:
        Exception: it cannot be opened; `trouble` tells why.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    database = Rdict(
        str(path),
        options,
        # Named, or a directory that exists is opened with the options stored in it: with a cache
        # of its own, and with a second time-to-live filter around the first, which takes every
        # mark for expired when RocksDB compacts.
        column_families={"default": options},
        access_type=AccessType.with_ttl(ttl_seconds),
    )
    try:
        # A table file that no compaction has touched for so long is compacted for its age.
        database.set_options({"periodic_compaction_seconds": str(ttl_seconds)})
    except Exception:
        close_database(database)
        raise
    return database


def close_database(database: Rdict) -> None:
    """Puts everything on the disk and gives the directory up, the latter in any case."""
    with suppress(Exception):  # it repeats the error of an earlier write
        database.close()


def give_up(database: Rdict) -> Thread:
    """Closes a database that failed, on a thread of its own while that takes long.

    RocksDB tries for a second to recover from a full disk before it lets go, and the caller is the
    event loop's thread. What still runs is for the caller to wait for: until then the directory is
    in use.
    """
    closing = Thread(target=close_database, args=(database,), name="store-closing")
    closing.start()
    closing.join(_SOON_CLOSED)
    return closing


def wipe(path: Path) -> None:
    """Deletes a directory with all that is in it.

    Raises:
        OSError: it cannot be deleted.
    """
    if path.exists():
        shutil.rmtree(path)


def databases(directory: Path) -> list[Path]:
    """The databases in a directory, in use or not, the one that was written to last first.

    Raises:
        OSError: the directory cannot be read.
    """
    if not directory.exists():
        return []
    found = [path for path in directory.iterdir() if (path / "CURRENT").exists()]
    return sorted(found, key=_last_written, reverse=True)


def wipe_old(directory: Path, older_than: float) -> None:
    """Deletes the databases in a directory that were not written to for so many seconds.

    Who has one open has none of its marks left that count, and will notice.

    Raises:
        OSError: one cannot be deleted.
    """
    for path in databases(directory):
        if time.time() - _last_written(path) > older_than:
            wipe(path)


def _last_written(path: Path) -> float:
    """When a file in a directory was changed last, in seconds since the epoch."""
    with os.scandir(path) as entries:  # closed also where a file goes meanwhile
        return max((entry.stat().st_mtime for entry in entries), default=0.0)


def new_path(directory: Path) -> Path:
    """Where to make a database: a name that was never used."""
    return directory / secrets.token_hex(8)


def lock_file(path: Path) -> tuple[int, int] | None:
    """Which file RocksDB's lock is, by device and inode; None where the directory has none.

    Whoever has it open keeps its number from being given to another file.
    """
    try:
        found = os.stat(f"{path}/LOCK")  # noqa: PTH116  three times as quick, and asked for often
    except OSError:
        return None
    return found.st_dev, found.st_ino


def boot_id() -> str:
    """What tells this run of the machine from those before; empty where the system has none."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def file_name(name: str) -> str:
    """A name as one part of a path: nothing climbs out of it, no two names become the same."""
    safe = quote(name, safe="")
    if not safe.strip("."):
        safe = safe.replace(".", "%2E")
    if len(safe) > _LONGEST_NAME:
        digest = blake2b(name.encode(), digest_size=16).hexdigest()
        safe = f"{safe[:_LONGEST_NAME]}~{digest}"
    return safe
