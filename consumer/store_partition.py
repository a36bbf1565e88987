"""One partition's accepted keys, in a RocksDB of its own.

A mark is a key with the time of its acceptance. It is written together with how far the store has
come in the state topic, in one batch: all of it or nothing. RocksDB's write-ahead log outlives the
process, however that ends.

Every database has a directory with a name of its own, which is never used again. One that was
deleted may still be open somewhere (in a process that was stopped, say), and RocksDB writes there
by name when it is closed: were the name its successor's, it would bring the old tables back among
the new log.

Expiry is the reader's to judge. Space is given back by RocksDB's own time-to-live, which drops
expired marks while it merges tables: those may still be found for a while. A key takes 38 bytes
once merged; RocksDB lets what is not merged yet grow to twice the merged part, and needs the space
of what it merges once more.

`rm -rf` of a directory in use goes unnoticed by RocksDB until it begins the next file, which may be
hours later: it goes on in files without a name. Reading from those is right. So writing asks first
whether RocksDB's lock file is still the one that was opened, which takes 1 µs a chunk.
"""

from __future__ import annotations

import logging
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from rocksdict import Options, Rdict, WriteBatch

from consumer import store_position
from consumer.errors import StoreError, StoreLostError
from consumer.state_records import split
from consumer.store_database import (
    MOST_IN_USE,
    Trouble,
    advice,
    close_database,
    databases,
    give_up,
    lock_file,
    new_path,
    open_database,
    trouble,
    wipe,
    wipe_old,
)
from consumer.store_position import CLEAN, Position, Standing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from threading import Thread

    from consumer.event import TopicPartition
    from consumer.messages import Marks, Reached

logger = logging.getLogger(__name__)

_TIME = struct.Struct(">Q")


class RocksStore:
    """A partition's store. After an error its directory is opened anew when it is next asked.

    RocksDB refuses every write after one that failed, also when there is space again; opening it
    anew is what ends that. What is found then has to be what was left: else the store is lost,
    until `open` is called.

    Args:
        tp: the source partition.
        directory: where it lies, beside those that others have open.
        boot: what tells this run of the machine from others.
    """

    def __init__(
        self, tp: TopicPartition, directory: Path, options: Options, ttl_seconds: int, boot: str
    ) -> None:
        self._tp = tp
        self._directory = directory
        self._options = options
        self._ttl_seconds = ttl_seconds
        self._boot = boot
        self._database: Rdict | None = None
        self._closing: Thread | None = None
        self._path = directory
        self._lock_file: tuple[int, int] | None = None
        self._here = b""
        self._state_bound_to = b""
        self._reached: Reached | None = None
        self._tried: Reached | None = None
        """Of a write that failed, and may be there all the same."""
        self._damaged: Path | None = None
        self._lost: str | None = "was not opened"
        self._closed = False

    def __repr__(self) -> str:
        """Whose it is and whether it is open."""
        state = "closed" if self._closed else "failed" if self._database is None else "open"
        return f"<RocksStore {self._tp.topic}/{self._tp.partition} {state}>"

    @property
    def is_open(self) -> bool:
        """Whether it can be asked without being opened first."""
        return self._database is not None

    def open(self, state_bound_to: bytes) -> Reached | None:
        """Opens the directory, for the first time or anew; how far what is in it has come.

        None where it is new, wiped, or not known to be complete. Marks of this cluster are facts
        and stay; those of another one are wiped.

        Args:
            state_bound_to: what ties positions to the state topic.

        Raises:
            StoreError: it cannot be opened.
        """
        if self._closed:
            raise StoreError(self._tp, "was closed: the partition is no longer ours")
        self._release()
        self._wait_for_closing()
        self._lost = "was not opened"
        self._state_bound_to = state_bound_to
        try:
            path, database, reached = self._claim()
        except Exception as error:
            raise StoreError(self._tp, advice(error, self._directory)) from error
        self._use(path, database, reached)
        with suppress(OSError):  # others' leftovers; it is tried again when the next one is opened
            wipe_old(self._directory, self._ttl_seconds)
        return reached

    def accepted_at(self, keys: Sequence[bytes]) -> list[int | None]:
        """When each key was accepted, in milliseconds since the epoch; None where it was not.

        Raises:
            StoreError: the store cannot be read.
            StoreLostError: it is not complete any more.
        """
        database = self._opened()
        unpack = _TIME.unpack
        try:
            values = database.get(list(keys))
            return [None if value is None else unpack(value)[0] for value in values or ()]
        except Exception as error:
            raise self._failure(error) from error

    def mark(self, marks: Sequence[Marks], reached: Reached) -> None:
        """Writes acceptances and the position they lead to, all of it or nothing.

        Raises:
            StoreError: it was not written, as far as is known.
            StoreLostError: the store is not complete any more.
        """
        database = self._opened()
        if lock_file(self._path) != self._lock_file:
            raise self._lose("was deleted or moved away while in use")
        values: dict[bytes, bytes] = {}
        for accepted_ms, keys in marks:
            values.update(dict.fromkeys(split(keys), _TIME.pack(accepted_ms)))
        batch = WriteBatch(raw_mode=True)
        put = batch.put
        for key in sorted(values):  # RocksDB takes them in about 60 % of the time then
            put(key, values[key])
        put(store_position.KEY, self._position(reached, self._here))
        self._tried = reached
        try:
            database.write(batch)
        except Exception as error:
            raise self._failure(error) from error
        self._reached = reached

    def entries(self) -> int:
        """About how many keys the store holds, expired ones included that still take space.

        Raises:
            StoreError: the store cannot be read.
        """
        database = self._opened()
        try:
            return database.property_int_value("rocksdb.estimate-num-keys") or 0
        except Exception as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Gives the directory up, with everything on the disk. Twice does no harm."""
        database, reached = self._database, self._reached
        if database is not None and reached is not None and self._is_in_place():
            # Where this fails the position says, as before, that the store was in use.
            with suppress(Exception):
                database.flush()  # so that nothing says so before it is true
                database[store_position.KEY] = self._position(reached, CLEAN)
        self._closed = True
        self._release()

    # Opening

    def _claim(self) -> tuple[Path, Rdict, Reached | None]:
        """The latest store that nobody has open, or a new one.

        Those that are damaged or of another cluster are wiped.
        """
        taken = 0
        for path in databases(self._directory):
            database: Rdict | None = None
            try:
                database, standing, reached = self._look_into(path)
            except Exception as error:
                kind = trouble(error)
                taken += kind is Trouble.TAKEN
                if kind is Trouble.PASSING or taken == MOST_IN_USE:
                    raise
                if kind is Trouble.TAKEN:
                    continue
                standing, reached = Standing.DAMAGED, None
            if path == self._damaged:  # it can be opened, though
                standing = Standing.DAMAGED
            if database is not None and standing not in (Standing.DAMAGED, Standing.FOREIGN):
                if standing in (Standing.OTHER_TOPIC, Standing.UNCERTAIN):
                    self._tell(path, f"{standing.value}: read from the state topic again")
                return path, database, reached
            if database is not None:
                close_database(database)
            self._tell(path, f"{standing.value}: wiped")
            wipe(path)
        path = new_path(self._directory)
        if taken:
            self._tell(path, f"is new: {taken} beside it are in use by others")
        database, _, reached = self._look_into(path)
        return path, database, reached

    def _look_into(self, path: Path) -> tuple[Rdict, Standing, Reached | None]:
        database = open_database(path, self._options, self._ttl_seconds)
        try:
            raw = database.get(store_position.KEY)
            return database, *store_position.judge(raw, self._state_bound_to, self._place(path))
        except Exception:
            close_database(database)
            raise

    def _use(self, path: Path, database: Rdict, reached: Reached | None) -> None:
        self._path, self._database = path, database
        self._lock_file = lock_file(path)
        self._here = self._place(path)
        self._reached = self._tried = reached
        self._damaged = self._lost = None

    def _opened(self) -> Rdict:
        """The database; opened anew after an error."""
        if self._database is not None:
            return self._database
        if self._closed:
            raise StoreError(self._tp, "was closed: the partition is no longer ours")
        if self._lost is not None:
            raise StoreLostError(self._tp, f"{self._path} {self._lost}")
        self._wait_for_closing()
        try:
            database, _, reached = self._look_into(self._path)
        except Exception as error:
            raise self._failure(error) from error
        if reached not in (self._reached, self._tried):
            close_database(database)
            raise self._lose("does not hold what it did")
        self._use(self._path, database, reached)
        return database

    # Errors and the end

    def _failure(self, error: Exception) -> StoreError:
        """The error to raise; the database is given up until the next call."""
        kind = Trouble.DAMAGED if isinstance(error, struct.error) else trouble(error)
        if kind is Trouble.PASSING:
            database, self._database = self._database, None
            if database is not None:
                self._closing = give_up(database)
            return StoreError(self._tp, advice(error, self._path))
        if kind is Trouble.DAMAGED:
            self._damaged = self._path
        return self._lose(kind.value)

    def _lose(self, why: str) -> StoreLostError:
        self._release()
        self._lost = why
        return StoreLostError(self._tp, f"{self._path} {why}: read from the state topic again")

    def _release(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            close_database(database)

    def _wait_for_closing(self) -> None:
        """Refuses while a database of this directory is still being closed."""
        if self._closing is not None and self._closing.is_alive():
            raise StoreError(self._tp, f"{self._path} is being closed after an error")
        self._closing = None

    def _is_in_place(self) -> bool:
        return self._lock_file is not None and lock_file(self._path) == self._lock_file

    def _place(self, path: Path) -> bytes:
        return store_position.place(self._boot, *(lock_file(path) or (0, 0)))

    def _position(self, reached: Reached, written_on: bytes) -> bytes:
        return store_position.encode(Position(self._state_bound_to, written_on, reached))

    def _tell(self, path: Path, what: str) -> None:
        logger.warning(
            "deduplication store of %s/%s: %s %s", self._tp.topic, self._tp.partition, path, what
        )
