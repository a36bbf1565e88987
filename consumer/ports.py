"""What the pipeline asks of the world, one protocol for each edge of it.

The program and the tests connect what they have: Kafka, HTTP and RocksDB, or something simpler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from consumer.event import Attempt, Item, TopicPartition
    from consumer.messages import Marks, Produce, Reached, ReadState, SchemaAnswer
    from consumer.offsets import CommitOffset
    from consumer.requests import Request
    from consumer.verdict import Answer


class SourceControl(Protocol):
    """What the engine asks of the source. Every method returns at once."""

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these partitions no further."""

    def resume(self, tp: TopicPartition, position: int) -> None:
        """Read this partition again, or for the first time: from this position."""

    def flow(self, open: bool) -> None:  # noqa: A002, FBT001  the one thing it says
        """Take records at all, or none."""

    def commit(self, offsets: Mapping[TopicPartition, CommitOffset], number: int) -> None:
        """Commit; the result comes to `Pipeline.committed`."""


class Sender(Protocol):
    """Sends requests to TikTok."""

    async def send(self, request: Request) -> Answer:
        """One attempt; never raises."""


class SchemaSource(Protocol):
    """Knows schemas by id."""

    async def fetch(self, schema_id: int) -> SchemaAnswer:
        """One question to the registry; never raises."""


class Producer(Protocol):
    """Produces dead letters; what became of them comes to `Pipeline.acknowledged`."""

    def produce(self, outgoing: Sequence[Produce]) -> None:
        """Takes records to produce; returns at once."""


class StoreKeeper(Protocol):
    """The deduplication stores of this process, one a partition.

    Every method but `close` may raise `StoreError`, and `StoreLostError` where the store is no
    longer what it was.
    """

    def open(self, tp: TopicPartition, state_bound_to: bytes) -> Reached | None:
        """Opens the partition's store; how far it has come in the state topic, if it has."""

    def accepted_at(self, tp: TopicPartition, keys: Sequence[bytes]) -> list[int | None]:
        """When each key was accepted, in milliseconds since the epoch; None where it was not."""

    def mark(self, tp: TopicPartition, marks: Sequence[Marks], reached: Reached) -> None:
        """Writes acceptances and how far the store has come with them, all or nothing."""

    def close(self, tp: TopicPartition) -> None:
        """Gives the partition's store up."""


class StateSource(Protocol):
    """Reads the state topic; what it read comes to `Pipeline.state_read` or `state_unread`."""

    def read(self, wanted: ReadState) -> None:
        """Reads a chunk; returns at once."""

    def forget(self, tp: TopicPartition) -> None:
        """A state partition is no longer of interest."""


class Observer(Protocol):
    """Is told what happened, a chunk at a time."""

    def settled(self, items: Sequence[Item]) -> None:
        """These items have their outcome."""

    def attempt_finished(self, attempt: Attempt) -> None:
        """A request is over."""

    def assigned(self) -> None:
        """The group has said which partitions are ours, if any."""

    def consumed(self, topic: str, records: int) -> None:
        """Records were read."""

    def records_lost(self, tp: TopicPartition, lost: tuple[int, int]) -> None:
        """Retention deleted these offsets (half-open range) before this group read them."""

    def parked(self, items: Sequence[Item]) -> None:
        """These items wait in the retry topic now."""

    def paused(self, reason: str) -> None:
        """A partition was paused."""
