"""What is read on: held partitions are paused, and the whole source while the process is full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.messages import Flow, Pause, Resume

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from consumer.limits import InFlight
    from consumer.messages import Action
    from consumer.offsets import Partition


class Reading:
    """What the source has been told to read, beside what it is to read now.

    `in_flight` says when it is too much.
    """

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self.flowing = True
        """Whether anything is read at all."""
        self.paused: set[Partition] = set()
        """The partitions that are not."""

    def begin(self, partition: Partition) -> None:
        """A partition was assigned: the source reads nothing of it before it is told to."""
        self.paused.add(partition)

    def end(self, partition: Partition) -> None:
        """A partition is no longer ours: nothing is to be told of it."""
        self.paused.discard(partition)

    def adjust(self, partitions: Iterable[Partition]) -> Iterator[Action]:
        """What the source is to be told, now that these are held or not."""
        for partition in partitions:
            if bool(partition.holds) != (partition in self.paused):
                if partition.holds:
                    self.paused.add(partition)
                    yield Pause(partition.tp)
                else:
                    self.paused.discard(partition)
                    yield Resume(partition.tp, partition.position)
        if self.flowing == self._in_flight.full:
            self.flowing = not self._in_flight.full
            yield Flow(self.flowing)
