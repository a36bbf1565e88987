"""Reads the partitions of the retry topic: a second client, beside the group's member.

It takes part in no group: the retry partition of the same number goes with each source partition.
It knows the group's id, for asking where the group stands, and commits nothing: that is the
member's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from consumer.event import TopicPartition
from consumer.fetching import Owned, Stamped
from consumer.kafka_properties import consumer_properties
from consumer.partition_reader import PartitionReader
from consumer.position import Earliest
from consumer.source_events import AssignedPartition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from consumer.errors import SourceError
    from consumer.event import Record
    from consumer.group_commits import GroupCommits
    from consumer.source_events import PositionChange, SourceSettings
    from consumer.source_positions import Found
    from consumer.source_reports import SourceReports
    from consumer.topic_ids import TopicIds

_MEMBERS_OWN: Final = frozenset({"group.instance.id", "group.protocol"})
"""Properties of a membership. A second client with the same instance id would be fenced."""

_DEFAULTS: Final = {"queued.max.messages.kbytes": "4096"}
"""Few events wait in the retry topic at most times: no need for the source's prefetch."""


def retry_properties(properties: Mapping[str, str], group_id: str) -> dict[str, str]:
    """Complete configuration of the client, without callbacks."""
    own = {name: value for name, value in properties.items() if name not in _MEMBERS_OWN}
    return consumer_properties(_DEFAULTS | own, group_id)


class RetrySource:
    """The client of the retry topic; every method but the constructor runs on its thread.

    `commits` gives an order to the commits of the group's member.

    Raises:
        ConfigError: librdkafka refused a property.
    """

    def __init__(
        self,
        settings: SourceSettings,
        ids: TopicIds,
        reports: SourceReports,
        commits: Callable[[Callable[[GroupCommits], None]], None],
        epochs: Iterator[int],
    ) -> None:
        self._reports = reports
        self._commits = commits
        self._epochs = epochs
        self._reader = PartitionReader(
            retry_properties(settings.properties, settings.group_id),
            settings,
            ids,
            self,
            start=Earliest(),
            may_be_missing=True,
        )

    # -- orders ---------------------------------------------------------------------------------

    def own(self, assigned: Mapping[TopicPartition, Owned]) -> None:
        """Own these, with the assignment of the source partitions they are read beside."""
        self.give_up(assigned)  # where the source partition was taken over anew
        self._reader.fetching.own(assigned)

    def give_up(self, tps: Iterable[TopicPartition]) -> None:
        """Own these no longer."""
        if fetched := self._reader.fetching.give_up(tps):
            self._reader.consumer.incremental_unassign(fetched)

    def pause(self, orders: Iterable[Stamped]) -> None:
        """Stop reading these."""
        self._reader.fetching.pause(orders)

    def resume(self, order: Stamped, position: int) -> None:
        """Read this one: the first time from `position`, later from where it was left."""
        self._reader.fetching.resume(order, position)

    # -- the client of a reading thread ---------------------------------------------------------

    @property
    def has_failed(self) -> bool:
        """Whether a failure was reported."""
        return self._reader.has_failed

    def begin(self) -> None:
        """There is no group to join."""

    def tick(self, now: float) -> None:
        """Keep positions right and report log ends."""
        self._reader.tick(now)

    def suspend(self, *, suspended: bool) -> None:
        """Let reading bring nothing, or go on."""
        self._reader.fetching.suspend(suspended=suspended)

    def read(self, timeout: float) -> list[Record]:
        """Read the next records."""
        return self._reader.read(timeout)

    def hand_out(self, records: list[Record]) -> Callable[[], None]:
        """Bind records to the assignments they were read in: those may be over on the loop."""
        owned = self._reader.fetching.owned
        tps = [TopicPartition(*pair) for pair in {(record[0], record[1]) for record in records}]
        orders = [Stamped(tp, owned[tp].epoch if tp in owned else 0) for tp in tps]
        return self._reports.retried(records, orders)

    def end(self) -> None:
        """Close the client."""
        self._reader.consumer.close()

    # -- what its reader finds out --------------------------------------------------------------

    def position_changed(self, order: Stamped, change: PositionChange) -> None:
        """Pass it on."""
        self._reports.position_changed(order, change)

    def start_found(self, order: Stamped, found: Found) -> None:
        """Let the member commit for this partition."""
        position, committed = found.position, found.committed
        self._commits(
            lambda commits: commits.start_found(
                order,
                position.offset if position.hold is None else None,
                has_offset=committed is not None,
            )
        )

    def recreated(self, tp: TopicPartition, log_start: int, high: int, bound_to: bytes) -> None:
        """Take the partition over anew, at the log start of the topic of today."""
        owned = self._reader.fetching.owned[tp]
        before, beside, epoch = Stamped(tp, owned.epoch), owned.beside, next(self._epochs)
        self.own({tp: Owned(epoch, log_start, high=high, bound_to=bound_to, beside=beside)})
        self._commits(lambda commits: commits.own_anew(before, epoch))
        self._reports.begun_anew(
            before,
            epoch,
            AssignedPartition(tp, log_start, None, bound_to=bound_to, beside=beside),
        )

    def high_watermarks(self, highs: Mapping[TopicPartition, int]) -> None:
        """Pass them on."""
        self._reports.high_watermarks(highs)

    def failed(self, error: SourceError) -> None:
        """Pass it on."""
        self._reports.failed(error)
