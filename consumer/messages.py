"""What the engine and the world tell each other: plain values, both ways.

The engine's inputs are method calls that carry these answers and the time; its outputs are the
actions below, in the order in which they are to be carried out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumer.deliver import Request
    from consumer.event import Attempt, Headers, Item, TopicPartition
    from consumer.offsets import CommitOffset

# Answers of the world


class SchemaFound(NamedTuple):
    """The registry knows the schema: those it refers to first, the schema itself last."""

    schemas: tuple[str, ...]


class SchemaNotFound(NamedTuple):
    """The registry itself says that it has no schema with this id."""


class SchemaNotAvro(NamedTuple):
    """The id belongs to a schema in another language."""

    detail: str


class RegistryUnavailable(NamedTuple):
    """The registry did not say anything usable; `detail` tells what happened, without secrets."""

    detail: str


SchemaAnswer = SchemaFound | SchemaNotFound | SchemaNotAvro | RegistryUnavailable

ProduceError = Literal["retriable", "too_large"]


class Acknowledged(NamedTuple):
    """What became of a `Produce`: acknowledged by the broker, or the kind of error."""

    handle: int
    error: ProduceError | None = None
    detail: str | None = None


# Actions of the engine


class FetchSchema(NamedTuple):
    """Ask the registry; answer by `Engine.schema_answered`."""

    schema_id: int


class LookUp(NamedTuple):
    """Ask the partition's store for these keys; answer by `Engine.looked_up`."""

    handle: int
    tp: TopicPartition
    keys: Sequence[bytes]


class Mark(NamedTuple):
    """Write these acceptances (key, milliseconds) durably; answer by `Engine.marked`."""

    handle: int
    tp: TopicPartition
    marks: Sequence[tuple[bytes, int]]


class Send(NamedTuple):
    """Send this request; answer by `Engine.answered`."""

    request: Request


class Produce(NamedTuple):
    """Produce a dead letter; answer by `Engine.acknowledged`. `timestamp` -1 means none."""

    handle: int
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int

    def __repr__(self) -> str:
        """Where to; never the record."""
        return f"<Produce {self.handle} {self.topic}>"


class Commit(NamedTuple):
    """Commit these offsets; answer by `Engine.committed`."""

    offsets: Mapping[TopicPartition, CommitOffset]


class Pause(NamedTuple):
    """Read no more of this partition until `Resume`."""

    tp: TopicPartition


class Resume(NamedTuple):
    """Read this partition again."""

    tp: TopicPartition


class Flow(NamedTuple):
    """Take records from the source, or (closed) take none: the limits in flight are reached."""

    open: bool


class Settled(NamedTuple):
    """These items have their outcome: count them, trace them."""

    items: Sequence[Item]


class AttemptFinished(NamedTuple):
    """A request is over: count it, trace it."""

    attempt: Attempt


class Released(NamedTuple):
    """These partitions are done with: commit these last offsets, then hand them over.

    `handle` is the one that `Engine.revoked` was given.
    """

    offsets: Mapping[TopicPartition, CommitOffset | None]
    handle: int = 0


Action = (
    FetchSchema
    | LookUp
    | Mark
    | Send
    | Produce
    | Commit
    | Pause
    | Resume
    | Flow
    | Settled
    | AttemptFinished
    | Released
)
