"""What the Kafka source says and what it is told: values, and the interface of its listener."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from consumer.position import Earliest, Latest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumer.errors import SourceError
    from consumer.event import Record, TopicPartition
    from consumer.offsets import CommitOffset
    from consumer.own_topics import OwnTopics

_EARLIEST: Final = Earliest()


class StartTime(NamedTuple):
    """A group without an offset begins at the first record of this time or later (epoch ms)."""

    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """How to read.

    `properties` are the user's for librdkafka, `bootstrap.servers` and security included; those
    the promises rest on are added by `kafka_properties`. `revoke_timeout` (seconds) bounds how
    long revoked partitions may drain. `position_timeout` (seconds) bounds how long a new
    assignment waits for the broker to say where to begin, before it is held and asked again every
    `recheck_interval` seconds. Every `topic_check_interval` seconds the topics are looked at: one
    that was made again and has grown past our position gives no error.
    """

    topics: Sequence[str]
    group_id: str
    properties: Mapping[str, str] = field(repr=False)  # may hold a SASL password
    own_topics: OwnTopics
    start: Earliest | Latest | StartTime = _EARLIEST
    chunk_size: int = 500
    revoke_timeout: float = 20.0
    position_timeout: float = 15.0
    recheck_interval: float = 5.0
    topic_check_interval: float = 60.0


class CommitResult(NamedTuple):
    """What became of one partition's commit.

    `error` is Kafka's name for it. `retriable` says that a later commit may succeed: the group
    was rebalancing, the coordinator moved or did not answer. `number` is that of the commit it
    answers; None where the source made it by itself.
    """

    tp: TopicPartition
    offset: int
    error: str | None
    retriable: bool
    number: int | None = None


class AssignedPartition(NamedTuple):
    """A partition that this member now owns.

    `position` is the first offset that will be read. `committed` and `metadata` are the group's,
    None and empty where it has none (the position is then committed at once). `hold` is the reason
    why nothing is read yet; `lost` the half-open range of offsets deleted before they were read.
    `bound_to` ties commit metadata to this cluster and topic; None where the broker tells no ids.

    Nothing is read of it before the first `resume`. `beside` is the source partition that a
    partition of the retry topic is read beside, None for one of a source topic; it comes after it
    in the same list. `state_bound_to` ties the local store to the state topic (source only).
    """

    tp: TopicPartition
    position: int
    committed: int | None
    hold: str | None = None
    lost: tuple[int, int] | None = None
    metadata: str = ""
    bound_to: bytes | None = None
    beside: TopicPartition | None = None
    state_bound_to: bytes | None = None


class PositionChange(NamedTuple):
    """An owned partition is now read from `position`, or held there, or no longer held."""

    tp: TopicPartition
    position: int
    hold: str | None
    lost: tuple[int, int] | None


class SourceEvents(Protocol):
    """The source's listener. Every method is called on the event loop's thread, in order.

    An exception out of any of them stops the source: it comes back as `source_failed`.
    """

    def records_received(self, records: list[Record]) -> None:
        """Take the next records, in order within each partition, of source or retry topic."""

    def partitions_assigned(self, assigned: list[AssignedPartition]) -> None:
        """Own these from now on; their records come after this call."""

    async def partitions_revoked(
        self, partitions: list[TopicPartition]
    ) -> Mapping[TopicPartition, CommitOffset]:
        """Settle what is in flight of these and return what to commit before they are handed over.

        They are partitions of the source; each takes the one beside it along, and the answer holds
        offsets of both. No record of either comes while this runs. Past `revoke_timeout` it is
        cancelled, nothing more is committed, and `partitions_lost` tells of them.
        """

    def partitions_lost(self, partitions: list[TopicPartition]) -> None:
        """Drop these at once: another member may own them already.

        Partitions of the source take those beside them along. A partition of the retry topic alone
        is lost where that topic was deleted and made again; it is assigned anew right after.
        """

    def position_changed(self, change: PositionChange) -> None:
        """Learn that an owned partition was moved, is held, or is read again."""

    def committed(self, results: list[CommitResult]) -> None:
        """Learn what became of commits, those of a revocation included."""

    def high_watermarks(self, highs: Mapping[TopicPartition, int]) -> None:
        """Learn the known log ends of owned partitions, about once a second."""

    def session_timeout(self, seconds: float) -> None:
        """Learn the group's session time-out where the broker owns it (KIP-848), once it is told.

        Called before the first `partitions_assigned`, and again when it has changed.
        """

    def source_failed(self, error: SourceError) -> None:
        """Learn that nothing more will come; only `stop` is left to call."""
