"""This process's member of the consumer group: everything that runs on the member's thread.

librdkafka's consumer is driven by one thread. Its rebalance callbacks run inside `consume`, on
that thread, and block it while partitions are handed over; heartbeats go on in librdkafka's own
threads. Nothing here decides what to read or commit: it does as told and reports.

In a callback the client may be asked about offsets. Nothing may be called there that serves
callbacks itself (`consume`, `list_topics`): the next callback after it aborts the process.

With each source partition the member owns the partition of the retry topic of the same number:
it finds out where that begins, commits it and hands it over together with the source partition,
while another client reads it.
"""

from __future__ import annotations

import concurrent.futures
import logging
import time
from typing import TYPE_CHECKING, Final

from consumer.event import TopicPartition
from consumer.fetching import Stamped
from consumer.group_commits import GroupCommits
from consumer.group_session import GroupSession
from consumer.kafka_properties import consumer_properties, uses_broker_assignment
from consumer.partition_reader import PartitionReader
from consumer.position import Position
from consumer.source_positions import Found
from consumer.take_over import TakeOvers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from confluent_kafka import Consumer, KafkaError
    from confluent_kafka import TopicPartition as KafkaPartition

    from consumer.errors import SourceError
    from consumer.event import Record
    from consumer.offsets import CommitOffset
    from consumer.retry_source import RetrySource
    from consumer.source_events import PositionChange, SourceSettings
    from consumer.source_reports import SourceReports
    from consumer.topic_ids import TopicIds

_log = logging.getLogger(__name__)

_SESSION_TIMEOUT: Final = 5.0
_SESSION_EVERY: Final = 60.0
_SERVE_EVERY: Final = 0.05
"""Seconds between two looks for commits that were asked for, while partitions drain."""


class GroupMember:
    """A consumer group's member; every method but the constructor runs on the member's thread.

    `retries` gives an order to the client of the retry topic. `hand_over_by` tells until when a
    hand-over that begins now has to be done, in monotonic seconds.

    Raises:
        ConfigError: librdkafka refused a property.
    """

    def __init__(
        self,
        settings: SourceSettings,
        ids: TopicIds,
        reports: SourceReports,
        epochs: Iterator[int],
        *,
        retries: Callable[[Callable[[RetrySource], None]], None],
        hand_over_by: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._reports = reports
        self._epochs = epochs
        self._retries = retries
        self._hand_over_by = hand_over_by
        self._leaving = False
        self._rebalanced = False
        self._given_up: set[TopicPartition] = set()
        self._session: GroupSession | None = None
        self._next_session = 0.0
        if uses_broker_assignment(settings.properties):
            self._session = GroupSession(settings.properties, settings.group_id)
        properties = consumer_properties(settings.properties, settings.group_id)
        self._reader = PartitionReader(
            {**properties, "on_commit": self._on_commit},
            settings,
            ids,
            self,
            start=settings.start,
        )
        self._consumer = self._reader.consumer
        self._take_overs = TakeOvers(settings, ids, self._reader)
        self.commits = GroupCommits(self._consumer, reports.committed, self._reader.take_error)

    # -- orders ---------------------------------------------------------------------------------

    def pause(self, orders: Iterable[Stamped]) -> None:
        """Stop reading these."""
        self._reader.fetching.pause(orders)

    def resume(self, order: Stamped, position: int) -> None:
        """Read this one: the first time from `position`, later from where it was left.

        One that the other client reads is only remembered to have begun, for its commits.
        """
        self.commits.begun(order, position)
        self._reader.fetching.resume(order, position)

    # -- the client of a reading thread ---------------------------------------------------------

    @property
    def has_failed(self) -> bool:
        """Whether a failure was reported."""
        return self._reader.has_failed

    def begin(self) -> None:
        """Join the group."""
        self._consumer.subscribe(
            list(self._settings.topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def tick(self, now: float) -> None:
        """Make commits, keep positions and the session time-out right, and report log ends."""
        self.commits.serve()
        self.commits.commit_starts(now)
        self._reader.tick(now)
        if now >= self._next_session > 0.0:
            self._tell_session()

    def suspend(self, *, suspended: bool) -> None:
        """Let reading bring nothing, or go on."""
        self._reader.fetching.suspend(suspended=suspended)

    def read(self, timeout: float) -> list[Record]:
        """Read the next records. Serves rebalances and errors as a side effect.

        What was read ahead of a rebalance that happened inside the same read is left out, as far
        as it is of partitions that were given up, also of those that came back.
        """
        records = self._reader.read(timeout)
        if self._rebalanced:
            owned = self._reader.fetching.owned.keys() - self._given_up
            records = [record for record in records if (record[0], record[1]) in owned]
            self._rebalanced = False
            self._given_up.clear()
        return records

    def hand_out(self, records: list[Record]) -> Callable[[], None]:
        """All that concerns these partitions comes by this thread, in order: nothing to check."""
        return self._reports.read(records)

    def end(self) -> None:
        """Drain, commit and hand over what is owned, leave the group and close."""
        self._leaving = True
        if tps := list(self._reader.fetching.owned):
            # Not in the callback of the closing, where the client asks the group nothing any more.
            self._hand_over(tps)
            self._let_go(tps)
        self._consumer.close()

    # -- the group's callbacks ------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        consumer.incremental_assign([])  # none yet: without a word the client would take them all
        if not self._leaving:
            self._rebalanced = True
            self._take_over([TopicPartition(p.topic, p.partition) for p in partitions])

    def _on_revoke(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        tps = self._ours(partitions)
        if tps:
            self._hand_over(tps)
        consumer.incremental_unassign(self._give_up(tps))

    def _on_lost(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        tps = self._ours(partitions)
        if tps:
            self._reports.lost(tps)
        consumer.incremental_unassign(self._give_up(tps))

    def _ours(self, partitions: Iterable[KafkaPartition]) -> list[TopicPartition]:
        tps = (TopicPartition(p.topic, p.partition) for p in partitions)
        return [tp for tp in tps if tp in self._reader.fetching.owned]

    # -- taking over ----------------------------------------------------------------------------

    def _take_over(
        self, tps: list[TopicPartition], known: Mapping[TopicPartition, Found] | None = None
    ) -> None:
        """Own partitions, with what is `known` of where they begin, and those beside them."""
        epoch = next(self._epochs)
        taken = self._take_overs.find(tps, epoch, known)
        self._reader.fetching.own(taken.sources)
        self._retries(lambda retries: retries.own(taken.retries))
        for tp, owned in (*taken.sources.items(), *taken.retries.items()):
            self.commits.own(
                Stamped(tp, epoch),
                start_known=not owned.start_unknown,
                has_offset=tp in taken.has_offset,
            )
        self._tell_session()
        self._reports.assigned(epoch, taken.assigned)

    def _tell_session(self) -> None:
        if self._session is not None:
            self._next_session = time.monotonic() + _SESSION_EVERY
            if (seconds := self._session.news(_SESSION_TIMEOUT)) is not None:
                self._reports.session_timeout(seconds)

    # -- handing over ---------------------------------------------------------------------------

    def _hand_over(self, tps: list[TopicPartition]) -> None:
        """Let the listener give partitions up, and commit what it says, all by one deadline."""
        deadline = self._hand_over_by()
        self.commits.before_hand_over(self._drained(tps, deadline), deadline)

    def _drained(
        self, tps: list[TopicPartition], deadline: float
    ) -> Mapping[TopicPartition, CommitOffset]:
        owned = self._reader.fetching.owned
        answer = self._reports.drain([Stamped(tp, owned[tp].epoch) for tp in tps])
        while True:
            left = max(deadline - time.monotonic(), 0.0)
            concurrent.futures.wait([answer], min(left, _SERVE_EVERY))
            if answer.cancelled():
                _log.warning("Draining %d partitions was cancelled", len(tps))
                return {}
            if answer.done():
                return answer.result()
            if left == 0.0 and answer.cancel():
                _log.warning("%d partitions did not drain in time", len(tps))
                self._reports.lost(tps)
                return {}
            self.commits.serve_now(deadline)

    def _give_up(self, tps: list[TopicPartition]) -> list[KafkaPartition]:
        """Own these no longer, nor those beside them; returns what the client has of them."""
        beside = [self._take_overs.beside(tp) for tp in tps]
        self._rebalanced = True
        self._given_up.update(tps)
        self._retries(lambda retries: retries.give_up(beside))
        self.commits.give_up([*tps, *beside])
        return self._reader.fetching.give_up(tps)

    def _let_go(self, tps: list[TopicPartition]) -> None:
        """Own these no longer, outside of a rebalance."""
        if fetched := self._give_up(tps):
            self._consumer.incremental_unassign(fetched)

    # -- what the client and its reader tell ----------------------------------------------------

    def _on_commit(self, error: KafkaError | None, offsets: list[KafkaPartition]) -> None:
        self.commits.take_results(error, offsets)

    def position_changed(self, order: Stamped, change: PositionChange) -> None:
        """Pass it on."""
        self._reports.position_changed(order, change)

    def start_found(self, order: Stamped, found: Found) -> None:
        """Commit for this partition from now on."""
        position, has_offset = found.position, found.committed is not None
        start = position.offset if position.hold is None else None
        self.commits.start_found(order, start, has_offset=has_offset)

    def recreated(self, tp: TopicPartition, log_start: int, high: int, bound_to: bytes) -> None:
        """Take the partition over anew, at the log start of the topic of today."""
        del bound_to  # asked for again, with those of the topics beside it
        self._reports.lost([tp])
        self._let_go([tp])
        self._take_over([tp], {tp: Found(Position(log_start), high=high)})

    def high_watermarks(self, highs: Mapping[TopicPartition, int]) -> None:
        """Pass them on."""
        self._reports.high_watermarks(highs)

    def failed(self, error: SourceError) -> None:
        """Pass it on."""
        self._reports.failed(error)
