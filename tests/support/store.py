"""Deduplication stores in memory, which the contract suite holds to what the real ones do.

Also the machines that both kinds of stores run on in that suite.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from consumer.commit_metadata import is_recreated
from consumer.errors import StoreError, StoreLostError
from consumer.state_records import UNBOUND, split
from consumer.store import Stores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from consumer.event import TopicPartition
    from consumer.messages import Marks, Reached

WINDOW = 48 * 3600.0


@dataclass
class Directory:
    """What stays of a store when nobody has it open."""

    marks: dict[bytes, int] = field(default_factory=dict)
    reached: tuple[bytes, Reached] | None = None
    """The state topic that it counts in, and the position."""

    def take(self, state_bound_to: bytes) -> Reached | None:
        """The position, where it is one of this state topic. Another cluster's marks go."""
        if self.reached is None:
            return None
        before, reached = self.reached
        if before == state_bound_to:
            return reached
        if UNBOUND not in (before, state_bound_to) and not is_recreated(before, state_bound_to):
            self.marks, self.reached = {}, None
        return None


@dataclass
class _Open:
    directory: Directory
    state_bound_to: bytes
    reached: Reached | None
    interrupted: bool = False


class MemoryStores:
    """All partitions' stores. `disk` is what stays when they are closed."""

    def __init__(self, disk: dict[TopicPartition, Directory] | None = None) -> None:
        self.disk = {} if disk is None else disk
        self._open: dict[TopicPartition, _Open | None] = {}

    def open(self, tp: TopicPartition, state_bound_to: bytes) -> Reached | None:
        """Opens the partition's store, for the first time or anew; how far it has come."""
        directory = self.disk.setdefault(tp, Directory())
        reached = directory.take(state_bound_to)
        self._open[tp] = _Open(directory, state_bound_to, reached)
        return reached

    def accepted_at(self, tp: TopicPartition, keys: Sequence[bytes]) -> list[int | None]:
        """When each key was accepted."""
        marks = self._of(tp).directory.marks
        return [marks.get(key) for key in keys]

    def mark(self, tp: TopicPartition, marks: Sequence[Marks], reached: Reached) -> None:
        """Keeps acceptances and the position they lead to."""
        store = self._of(tp)
        if self.disk.get(tp) is not store.directory:
            raise self._lose(tp)
        for accepted_ms, keys in marks:
            store.directory.marks.update(dict.fromkeys(split(keys), accepted_ms))
        store.directory.reached = store.state_bound_to, reached
        store.reached = reached

    def entries(self, tp: TopicPartition) -> int | None:
        """How many keys it holds; None while it is not open."""
        store = self._open.get(tp)
        return None if store is None or store.interrupted else len(store.directory.marks)

    def close(self, tp: TopicPartition) -> None:
        """Gives it up; its marks stay on `disk`."""
        self._open.pop(tp, None)

    def close_all(self) -> None:
        """Gives all up."""
        self._open.clear()

    def interrupt(self, tp: TopicPartition) -> None:
        """An error closes the store: its next call opens it anew."""
        store = self._open[tp]
        assert store is not None, "it is lost already"
        store.interrupted = True

    def _of(self, tp: TopicPartition) -> _Open:
        if tp not in self._open:
            raise StoreError(tp, "is not open: the partition is not ours")
        store = self._open[tp]
        if store is None:
            raise StoreLostError(tp, "is lost until it is opened again")
        if store.interrupted:
            directory = self.disk.setdefault(tp, Directory())
            if directory.take(store.state_bound_to) != store.reached:
                raise self._lose(tp)
            store.directory, store.interrupted = directory, False
        return store

    def _lose(self, tp: TopicPartition) -> StoreLostError:
        self._open[tp] = None
        return StoreLostError(tp, "does not hold what it did")


class Keeper(Protocol):
    """What the consumer asks of its stores."""

    def open(self, tp: TopicPartition, state_bound_to: bytes) -> Reached | None:
        """Opens one; how far it has come."""

    def accepted_at(self, tp: TopicPartition, keys: Sequence[bytes]) -> list[int | None]:
        """When keys were accepted."""

    def mark(self, tp: TopicPartition, marks: Sequence[Marks], reached: Reached) -> None:
        """Writes acceptances and a position."""

    def entries(self, tp: TopicPartition) -> int | None:
        """How many marks it holds, if it is open."""

    def close(self, tp: TopicPartition) -> None:
        """Gives it up."""

    def close_all(self) -> None:
        """Gives all up."""


class Machine(Protocol):
    """Where processes are started, one after the other, that find what those before left."""

    def start(self) -> Keeper:
        """The stores of a new process."""

    def wipe(self, tp: TopicPartition) -> None:
        """Deletes a partition's directory."""

    def interrupt(self, tp: TopicPartition) -> None:
        """An error closes the latest process's store of a partition: its next call opens it."""


class MemoryMachine:
    """With stores in memory."""

    def __init__(self) -> None:
        self._disk: dict[TopicPartition, Directory] = {}
        self._latest = MemoryStores(self._disk)

    def start(self) -> Keeper:
        """The stores of a new process."""
        self._latest = MemoryStores(self._disk)
        return self._latest

    def wipe(self, tp: TopicPartition) -> None:
        """Deletes a partition's directory."""
        self._disk.pop(tp, None)

    def interrupt(self, tp: TopicPartition) -> None:
        """An error closes the latest process's store of a partition."""
        self._latest.interrupt(tp)


class DiskMachine:
    """With stores on RocksDB, below a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[Stores] = []

    def start(self) -> Keeper:
        """The stores of a new process."""
        self._started.append(Stores(self._directory, "group", WINDOW))
        return self._started[-1]

    def wipe(self, tp: TopicPartition) -> None:
        """Deletes a partition's directory."""
        shutil.rmtree(self._directory / "group" / tp.topic / str(tp.partition))

    def interrupt(self, tp: TopicPartition) -> None:
        """An error closes the latest process's store of a partition."""
        self._started[-1]._stores[tp]._release()

    def stop(self) -> None:
        """Closes what is open."""
        for stores in self._started:
            stores.close_all()
