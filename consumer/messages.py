"""What the engine and the world tell each other: plain values, both ways.

The engine's inputs are method calls that carry these answers and the time; its outputs are the
actions below, in the order in which they are to be carried out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumer.event import Attempt, Headers, Item, TopicPartition
    from consumer.offsets import CommitOffset
    from consumer.requests import Request

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
    """What became of a `Produce`: acknowledged by the broker, or the kind of error.

    `offset` is the one the broker gave the record; None with an error, or where it is not told.
    """

    handle: int
    error: ProduceError | None = None
    detail: str | None = None
    offset: int | None = None


class StateRecord(NamedTuple):
    """A record of the state topic; `timestamp` (milliseconds) is the broker's."""

    offset: int
    timestamp: int
    value: bytes | None


class StateChunk(NamedTuple):
    """Records of a state partition, in order, with nothing left out before `next_offset`.

    `log_start` and `log_end` are the partition's ends as last seen.
    """

    records: Sequence[StateRecord]
    next_offset: int
    log_start: int
    log_end: int


class Reached(NamedTuple):
    """How far a local store has come, written together with the marks that got it there.

    `next_offset`: of the state partition; all marks below it are in the store. `floor`: where to
    begin reading to find every announced attempt that had no outcome yet; not above `next_offset`.
    `settled_through`: the source offset below which every record had its outcome. `bound_to` ties
    that to the source topic. `unclosed`: members that announced attempts and have not said since
    that none is in the air.
    """

    next_offset: int
    floor: int
    settled_through: int
    bound_to: bytes
    unclosed: tuple[bytes, ...] = ()


class Marks(NamedTuple):
    """Keys that were accepted at one time (milliseconds), 16 bytes each, one after the other."""

    accepted_ms: int
    keys: bytes


# Actions of the engine


class FetchSchema(NamedTuple):
    """Ask the registry; answer by `Engine.schema_answered`."""

    schema_id: int


class LookUp(NamedTuple):
    """Ask the partition's store for these keys; answer by `Engine.looked_up`."""

    handle: int
    tp: TopicPartition
    keys: Sequence[bytes]


class OpenStore(NamedTuple):
    """Open the partition's local store; answer by `Engine.store_opened`.

    `state_bound_to` is what the state topic is bound to: marks of another cluster are wiped, a
    position in another topic is forgotten.
    """

    handle: int
    tp: TopicPartition
    state_bound_to: bytes


class ReadState(NamedTuple):
    """Read a chunk of a state partition; answer by `Engine.state_read`.

    From `start` (None, or one that retention has deleted: the log start) up to, not including,
    `end`.
    """

    handle: int
    tp: TopicPartition
    start: int | None
    end: int


class StoreMarks(NamedTuple):
    """Write these acceptances and the position reached, atomically; answer by `Engine.marked`."""

    handle: int
    tp: TopicPartition
    marks: Sequence[Marks]
    reached: Reached


class Send(NamedTuple):
    """Send this request; answer by `Engine.answered`."""

    request: Request


class Produce(NamedTuple):
    """Produce a record; answer by `Engine.acknowledged`. `timestamp` -1 means none.

    `partition` None leaves it to the key.
    """

    handle: int
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int
    partition: int | None = None

    def __repr__(self) -> str:
        """Where to; never the record."""
        return f"<Produce {self.handle} {self.topic}>"


class Commit(NamedTuple):
    """Commit these offsets; answer by `Engine.committed`, with the number of the commit."""

    offsets: Mapping[TopicPartition, CommitOffset]
    number: int


class Pause(NamedTuple):
    """Read no more of this partition until `Resume`."""

    tp: TopicPartition


class Resume(NamedTuple):
    """Read this partition, or read it again. The first time it begins at `position`."""

    tp: TopicPartition
    position: int


class Flow(NamedTuple):
    """Take records from the source, or (closed) take none: the limits in flight are reached."""

    open: bool


class Settled(NamedTuple):
    """These items have their outcome: count them, trace them."""

    items: Sequence[Item]


class Parked(NamedTuple):
    """These items are in the retry topic now: they have no outcome yet, count them."""

    items: Sequence[Item]


class GiveUp(NamedTuple):
    """A source partition is no longer ours: close its store, read its state partition no more."""

    tp: TopicPartition
    state_tp: TopicPartition


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
    | OpenStore
    | ReadState
    | StoreMarks
    | Send
    | Produce
    | Commit
    | Pause
    | Resume
    | Flow
    | Settled
    | AttemptFinished
    | GiveUp
    | Parked
    | Released
)
