"""Commits of the group's member, and what becomes of them: always a result, never an exception."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from consumer.event import TopicPartition
from consumer.kafka_errors import commit_results, is_failure
from consumer.source_events import CommitResult
from consumer.source_positions import POSITION_UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka import Consumer, KafkaError

    from consumer.fetching import Fetching, Stamped
    from consumer.offsets import CommitOffset

NOT_OWNED: Final = "not_owned"
"""Error of a commit for a partition that was handed over or lost since it was asked for."""

_TRIES: Final = 5
_RETRY_AFTER: Final = 0.1


class GroupCommits:
    """Commits offsets of owned partitions; lives on the consumer's thread.

    `report` takes results as they come, `fail` an error that ends the membership.
    """

    def __init__(
        self,
        consumer: Consumer,
        fetching: Fetching,
        report: Callable[[list[CommitResult]], None],
        fail: Callable[[KafkaError], None],
    ) -> None:
        self._consumer = consumer
        self._fetching = fetching
        self._report = report
        self._fail = fail

    def commit(self, orders: Iterable[tuple[Stamped, CommitOffset]]) -> None:
        """Commit asynchronously, where the partition is still owned and its start is known.

        Whoever does not know where the group stood must not move it.
        """
        offsets: list[KafkaPartition] = []
        refused: list[CommitResult] = []
        for order, (offset, metadata) in orders:
            owned = self._fetching.current(order)
            if owned is not None and owned.asked_for_start:
                refused.append(CommitResult(order.tp, offset, POSITION_UNKNOWN, retriable=True))
            elif owned is None:
                refused.append(CommitResult(order.tp, offset, NOT_OWNED, retriable=False))
            else:
                owned.uncommitted_start = None
                offsets.append(KafkaPartition(order.tp.topic, order.tp.partition, offset, metadata))
        if refused:
            self._report(refused)
        self._asynchronously(offsets)

    def commit_starts(self) -> None:
        """Commit where a group without an offset began.

        Else a crash before the first commit of a settled record would begin anew at another log
        end, or at another log start, and skip what lies between.
        """
        self._asynchronously(
            [
                KafkaPartition(tp.topic, tp.partition, owned.uncommitted_start)
                for tp, owned in self._fetching.owned.items()
                if owned.uncommitted_start is not None
            ]
        )

    def before_hand_over(self, offsets: Mapping[TopicPartition, CommitOffset]) -> None:
        """Commit and wait for it, a few times if need be: the next owner begins there."""
        wanted = [
            KafkaPartition(tp.topic, tp.partition, offset, metadata)
            for tp, (offset, metadata) in offsets.items()
            if not self._fetching.owned[tp].asked_for_start
        ]
        for tries_left in range(_TRIES - 1, -1, -1):
            if not wanted:
                return
            try:
                done = self._consumer.commit(offsets=wanted, asynchronous=False)
                results = commit_results(None, done)
            except KafkaException as error:
                results = commit_results(error.args[0], wanted)
            again = {r.tp for r in results if r.error is not None and r.retriable and tries_left}
            if final := [r for r in results if r.tp not in again]:
                self._report(final)
            wanted = [p for p in wanted if TopicPartition(p.topic, p.partition) in again]
            if wanted:
                time.sleep(_RETRY_AFTER)

    def take_results(self, error: KafkaError | None, partitions: list[KafkaPartition]) -> None:
        """Take what librdkafka says of an asynchronous commit."""
        results = commit_results(error, partitions)
        for result in results:
            owned = self._fetching.owned.get(result.tp)
            if owned and result.error is None and result.offset == owned.uncommitted_start:
                owned.uncommitted_start = None
        if results:
            self._report(results)
        for cause in (error, *(partition.error for partition in partitions)):
            if cause is not None and is_failure(cause):
                self._fail(cause)

    def _asynchronously(self, offsets: list[KafkaPartition]) -> None:
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self.take_results(error.args[0], offsets)
