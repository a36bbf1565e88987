"""Deduplication stores in memory, which the contract suite holds to what the real ones do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.dedup import Store
    from consumer.event import TopicPartition


class MemoryStore:
    """One partition's marks. `broken`, when set, is what every call fails with."""

    def __init__(self, tp: TopicPartition, marks: dict[bytes, int]) -> None:
        self._tp = tp
        self._marks = marks
        self._closed = False
        self.broken: str | None = None

    def accepted_at(self, keys: Sequence[bytes]) -> list[int | None]:
        """When each key was accepted."""
        self._check()
        return [self._marks.get(key) for key in keys]

    def mark(self, marks: Sequence[tuple[bytes, int]]) -> None:
        """Keeps keys with their times."""
        self._check()
        self._marks.update(marks)

    def entries(self) -> int:
        """How many keys there are."""
        self._check()
        return len(self._marks)

    def close(self) -> None:
        """Ends its use; the marks stay."""
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            raise StoreError(self._tp, "was closed: the partition is no longer ours")
        if self.broken is not None:
            raise StoreError(self._tp, self.broken)


class MemoryStores:
    """All partitions' stores. `disk` is what stays when they are closed."""

    def __init__(self, disk: dict[TopicPartition, dict[bytes, int]] | None = None) -> None:
        self.disk = {} if disk is None else disk
        self._stores: dict[TopicPartition, MemoryStore] = {}

    def open(self, tp: TopicPartition) -> Store:
        """The partition's store; the same one until it is closed."""
        if tp not in self._stores:
            self._stores[tp] = MemoryStore(tp, self.disk.setdefault(tp, {}))
        return self._stores[tp]

    def entries(self, tp: TopicPartition) -> int | None:
        """How many keys it holds; None while it is not open."""
        store = self._stores.get(tp)
        return None if store is None else store.entries()

    def close(self, tp: TopicPartition) -> None:
        """Gives it up; its marks stay on `disk`."""
        store = self._stores.pop(tp, None)
        if store is not None:
            store.close()

    def close_all(self) -> None:
        """Gives all up."""
        for tp in list(self._stores):
            self.close(tp)
