"""The simulated local stores: directories that survive processes, and what processes open there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.state_records import split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.event import TopicPartition
    from consumer.messages import Marks, Reached

_WRITES_KEPT = 64


class DiskError(Exception):
    """A store's call failed; `lost`: it will not be again what it was."""

    def __init__(self, *, lost: bool = False) -> None:
        super().__init__("lost" if lost else "failed")
        self.lost = lost


class Directory:
    """What a partition's store holds on a disk."""

    def __init__(self) -> None:
        self.keys: dict[bytes, int] = {}
        self.reached: Reached | None = None
        self._undo: list[tuple[dict[bytes, int | None], Reached | None]] = []

    def write(self, marks: Sequence[Marks], reached: Reached) -> None:
        """Writes all of it at once."""
        before: dict[bytes, int | None] = {}
        for accepted_ms, keys in marks:
            for key in split(keys):
                before.setdefault(key, self.keys.get(key))
                self.keys[key] = accepted_ms
        self._undo.append((before, self.reached))
        del self._undo[:-_WRITES_KEPT]
        self.reached = reached

    def lose_last(self, writes: int) -> None:
        """The machine went down: the last writes were not on the disk yet."""
        for _ in range(min(writes, len(self._undo))):
            before, self.reached = self._undo.pop()
            for key, accepted_ms in before.items():
                if accepted_ms is None:
                    del self.keys[key]
                else:
                    self.keys[key] = accepted_ms

    def wipe(self) -> None:
        """Somebody deleted it."""
        self.keys, self.reached, self._undo = {}, None, []


class Disk:
    """The directories of a machine, one a partition; `fails` while it does not work."""

    def __init__(self) -> None:
        self.directories: dict[TopicPartition, Directory] = {}
        self.fails = False

    def of(self, tp: TopicPartition) -> Directory:
        """The directory of a partition; made when first asked for."""
        return self.directories.setdefault(tp, Directory())


class Stores:
    """What one process has open. As `consumer.store`: an error closes, the next call reopens.

    A store that finds another state than the one that it left is lost, until it is opened again.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._open: dict[TopicPartition, Reached | None] = {}
        self._closed_by_error: set[TopicPartition] = set()
        self._lost: set[TopicPartition] = set()

    def open(self, tp: TopicPartition) -> Reached | None:
        """Opens a partition's store, for the first time or anew.

        Raises:
            DiskError: the disk does not work.
        """
        self._closed_by_error.discard(tp)
        self._lost.discard(tp)
        self._open.pop(tp, None)
        self._work(tp)
        self._open[tp] = reached = self._disk.of(tp).reached
        return reached

    def accepted_at(self, tp: TopicPartition, keys: Sequence[bytes]) -> list[int | None]:
        """When each key was accepted.

        Raises:
            DiskError: the disk does not work, or the store is not what it was.
        """
        found = self._again(tp).keys
        return [found.get(key) for key in keys]

    def mark(self, tp: TopicPartition, marks: Sequence[Marks], reached: Reached) -> None:
        """Writes acceptances and the position reached.

        Raises:
            DiskError: the disk does not work, or the store is not what it was.
        """
        self._again(tp).write(marks, reached)
        self._open[tp] = reached

    def close(self, tp: TopicPartition) -> None:
        """Gives a store up."""
        self._lost.discard(tp)
        self._open.pop(tp, None)
        self._closed_by_error.discard(tp)

    def disturb(self, tp: TopicPartition) -> None:
        """The files vanish under an open store: its next call fails."""
        if tp in self._open:
            self._closed_by_error.add(tp)

    def _again(self, tp: TopicPartition) -> Directory:
        self._work(tp)
        directory = self._disk.of(tp)
        if tp in self._lost:
            raise DiskError(lost=True)
        if tp in self._closed_by_error or tp not in self._open:
            if tp in self._open and directory.reached != self._open[tp]:
                self._closed_by_error.discard(tp)
                del self._open[tp]
                self._lost.add(tp)
                raise DiskError(lost=True)
            self._closed_by_error.discard(tp)
        return directory

    def _work(self, tp: TopicPartition) -> None:
        if self._disk.fails:
            if tp in self._open:
                self._closed_by_error.add(tp)
            raise DiskError
