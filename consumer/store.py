"""The accepted keys on this machine: one RocksDB a partition, a copy of what the state topic says.

Whatever happens to a directory (deleted, damaged, in use, of another cluster, its machine crashed)
costs reading the state topic again, nothing else. Members that share `dedup.directory` never share
a store: who finds one in use takes or makes another one beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.errors import StoreError
from consumer.store_database import Budget, boot_id, file_name
from consumer.store_partition import RocksStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from consumer.event import TopicPartition
    from consumer.messages import Marks, Reached

TTL_MARGIN_SECONDS = 3600
"""Marks stay this much longer than the window, so that no clock's error takes one too early."""


class Stores:
    """The stores of this process, one a partition, with one budget of memory for all.

    Args:
        directory: where they lie, as `<directory>/<group>/<topic>/<partition>/<any name>`.
        group: the consumer group. Groups do not share marks.
        window_seconds: how long marks are needed.
        boot: what tells this run of the machine from others; None: the system is asked.
    """

    def __init__(
        self, directory: Path, group: str, window_seconds: float, *, boot: str | None = None
    ) -> None:
        self._directory = directory / file_name(group)
        self._ttl_seconds = int(window_seconds) + TTL_MARGIN_SECONDS
        self._boot = boot_id() if boot is None else boot
        self._budget = Budget()
        self._stores: dict[TopicPartition, RocksStore] = {}

    def __repr__(self) -> str:
        """Where they lie and how many are open."""
        return f"<Stores {self._directory} {len(self._stores)}>"

    def open(self, tp: TopicPartition, state_bound_to: bytes) -> Reached | None:
        """Opens the partition's store, for the first time or anew: see `RocksStore.open`.

        Raises:
            StoreError: it cannot be opened.
        """
        store = self._stores.get(tp)
        if store is not None:
            return store.open(state_bound_to)
        path = self._directory / file_name(tp.topic) / str(tp.partition)
        store = RocksStore(tp, path, self._budget.options(), self._ttl_seconds, self._boot)
        reached = store.open(state_bound_to)
        self._stores[tp] = store
        return reached

    def accepted_at(self, tp: TopicPartition, keys: Sequence[bytes]) -> list[int | None]:
        """When each key was accepted, in milliseconds since the epoch; None where it was not.

        Raises:
            StoreError: the store is not open, or cannot be read.
            StoreLostError: it is not complete any more.
        """
        return self._of(tp).accepted_at(keys)

    def mark(self, tp: TopicPartition, marks: Sequence[Marks], reached: Reached) -> None:
        """Writes acceptances and the position they lead to, all of it or nothing.

        Raises:
            StoreError: the store is not open, or it was not written, as far as is known.
            StoreLostError: the store is not complete any more.
        """
        self._of(tp).mark(marks, reached)

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

    def _of(self, tp: TopicPartition) -> RocksStore:
        store = self._stores.get(tp)
        if store is None:
            raise StoreError(tp, "is not open: the partition is not ours")
        return store
