"""This process's member of the consumer group: everything that runs on the consumer's thread.

librdkafka's consumer is driven by one thread. Its rebalance callbacks run inside `consume`, on
that thread, and block it while partitions are handed over; heartbeats go on in librdkafka's own
threads. Nothing here decides what to read or commit: it does as told and reports.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from consumer.errors import SourceError
from consumer.event import Record, TopicPartition
from consumer.kafka_errors import POSITION_ERRORS, commit_results, how_to_mend, is_failure
from consumer.kafka_properties import consumer_properties
from consumer.position import Position
from consumer.source_events import (
    AssignedPartition,
    CommitResult,
    PositionChange,
)
from consumer.source_positions import POSITION_UNKNOWN, PositionFinder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka import KafkaError, Message

    from consumer.event import Headers
    from consumer.offsets import CommitOffset
    from consumer.source_events import SourceEvents, SourceSettings

_log = logging.getLogger(__name__)

NOT_OWNED: Final = "not_owned"
"""Error of a commit for a partition that was handed over or lost since it was asked for."""

_PAUSE_AFTER: Final = 0.5
"""Seconds between an assignment and its first pause: librdkafka forgets the start offset of a
partition that is paused before its fetcher has started (librdkafka#2190)."""

_COMMIT_TRIES: Final = 5
_COMMIT_RETRY_AFTER: Final = 0.1


class Stamped(NamedTuple):
    """An order for one partition, bound to the assignment it was given under."""

    tp: TopicPartition
    epoch: int


@dataclass(slots=True)
class _Owned:
    """A partition of this member, as this thread knows it.

    `position` is where reading began or is held. `fetched` tells whether librdkafka has it: a
    partition held from the start is not given to it before it can be read. `asked_for_start`
    stands while not even the committed offset is known. `uncommitted_start` is the position of a
    group that has no offset, until it is committed. `paused` is librdkafka's state, `wanted_paused`
    the listener's order.
    """

    epoch: int
    since: float
    position: int
    hold: str | None
    high: int
    fetched: bool
    asked_for_start: bool
    uncommitted_start: int | None
    wanted_paused: bool = False
    paused: bool = False


class GroupMember:
    """A consumer group's member; every method but the constructor runs on the consumer's thread.

    `post` calls a listener's method on the event loop, in order, and returns at once. `drain`
    asks the listener to give partitions up and blocks until it has answered. `assigned` tells the
    listener of new partitions, with the epoch that orders for them have to carry.

    Raises:
        SourceError: librdkafka refused the configuration.
    """

    def __init__(
        self,
        settings: SourceSettings,
        events: SourceEvents,
        post: Callable[..., None],
        drain: Callable[[list[TopicPartition]], Mapping[TopicPartition, CommitOffset]],
        assigned: Callable[[dict[TopicPartition, int], list[AssignedPartition]], None],
    ) -> None:
        self._settings = settings
        self._events = events
        self._post = post
        self._drain = drain
        self._assigned = assigned
        self._owned: dict[TopicPartition, _Owned] = {}
        self._epoch = 0
        self._suspended = False
        self._rebalanced = False
        self._revoked_now: set[TopicPartition] = set()
        self._next_tick = 0.0
        self._next_recheck = 0.0
        self._failed = False
        config: dict[str, object] = {
            **consumer_properties(settings.properties, settings.group_id),
            "on_commit": self._on_commit,
            "error_cb": self._on_error,
            "logger": logging.getLogger("consumer.kafka"),
        }
        try:
            self._consumer = Consumer(config)
        except (KafkaException, ValueError, TypeError) as error:
            raise SourceError(
                f"librdkafka refuses the configuration: {error}", "correct kafka.properties"
            ) from error
        self._positions = PositionFinder(self._consumer, settings.start)

    @property
    def failed(self) -> bool:
        """Whether a failure was reported; nothing more is read then."""
        return self._failed

    def join(self) -> None:
        """Join the group."""
        self._consumer.subscribe(
            list(self._settings.topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def leave(self) -> None:
        """Drain, commit and hand over what is owned, and leave the group."""
        self._consumer.close()

    def read(self, timeout: float) -> list[Record]:
        """Read the next chunk of records, waiting up to `timeout` seconds for it to fill.

        Serves rebalances, commit results and errors as a side effect.
        """
        messages = self._consumer.consume(self._settings.chunk_size, timeout)
        if not messages:
            self._rebalanced = False
            self._revoked_now.clear()
            return []
        records: list[Record] = []
        errors: list[Message] = []
        append = records.append
        make = tuple.__new__  # a third of the cost of the class's own constructor
        for message in messages:
            if message.error() is not None:
                errors.append(message)
                continue
            headers = message.headers()
            append(
                make(
                    Record,
                    (
                        message.topic(),
                        message.partition(),
                        message.offset(),
                        message.timestamp()[1],
                        message.key(),
                        message.value(),
                        tuple(cast("Headers", headers)) if headers else (),
                    ),
                )
            )
        if self._rebalanced:
            records = self._without_revoked(records)
        for message in errors:
            self._on_message_error(message)
        return records

    def tick(self, now: float) -> None:
        """Do what is due: late pauses, log ends, starts to commit, held partitions to ask for."""
        self._apply_pauses(now)
        if now < self._next_tick:
            return
        self._next_tick = now + 1.0
        self._report_high_watermarks()
        self._commit_starts()
        if now >= self._next_recheck:
            self._next_recheck = now + self._settings.recheck_interval
            for tp, owned in list(self._owned.items()):
                if owned.hold is not None:
                    self._recheck(tp, owned)

    # -- orders ---------------------------------------------------------------------------------

    def pause(self, orders: Iterable[Stamped], *, paused: bool) -> None:
        """Stop or go on reading these partitions; those no longer owned are left out."""
        for tp, epoch in orders:
            owned = self._owned.get(tp)
            if owned is not None and owned.epoch == epoch:
                owned.wanted_paused = paused
        self._apply_pauses(time.monotonic())

    def suspend(self, *, suspended: bool) -> None:
        """Stop or go on reading everything, so that polling can go on without records."""
        self._suspended = suspended
        self._apply_pauses(time.monotonic())

    @property
    def suspended(self) -> bool:
        """Whether nothing is read; a new assignment ends it, so that it can be ordered anew."""
        return self._suspended

    def commit(self, orders: Iterable[tuple[Stamped, CommitOffset]]) -> None:
        """Commit asynchronously; the results go to the listener, errors included."""
        offsets: list[KafkaPartition] = []
        refused: list[CommitResult] = []
        for (tp, epoch), (offset, metadata) in orders:
            owned = self._owned.get(tp)
            if owned is None or owned.epoch != epoch:
                refused.append(CommitResult(tp, offset, NOT_OWNED, retriable=False))
            else:
                owned.uncommitted_start = None
                offsets.append(KafkaPartition(tp.topic, tp.partition, offset, metadata))
        if refused:
            self._post(self._events.committed, refused)
        if offsets:
            self._commit_asynchronously(offsets)

    def _commit_asynchronously(self, offsets: list[KafkaPartition]) -> None:
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._on_commit(error.args[0], offsets)

    def _apply_pauses(self, now: float) -> None:
        pause: list[KafkaPartition] = []
        resume: list[KafkaPartition] = []
        for tp, owned in self._owned.items():
            wanted = owned.wanted_paused or self._suspended
            if not owned.fetched or wanted == owned.paused:
                continue
            if not wanted:
                resume.append(KafkaPartition(tp.topic, tp.partition))
            elif now - owned.since >= _PAUSE_AFTER:
                pause.append(KafkaPartition(tp.topic, tp.partition))
            else:
                continue
            owned.paused = wanted
        if pause:
            self._consumer.pause(pause)
        if resume:
            self._consumer.resume(resume)

    # -- the group's callbacks ------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        tps = [TopicPartition(p.topic, p.partition) for p in partitions]
        found = self._positions.find(tps, self._settings.position_timeout)
        self._epoch += 1
        self._rebalanced = True
        # What is assigned now cannot be paused at once: see _PAUSE_AFTER.
        self._suspended = False
        now = time.monotonic()
        assigned: list[AssignedPartition] = []
        for tp, (position, committed, metadata, high) in found.items():
            fresh = committed is None and position.hold is None
            self._owned[tp] = _Owned(
                epoch=self._epoch,
                since=now,
                position=position.offset,
                hold=position.hold,
                high=high,
                fetched=position.hold is None,
                asked_for_start=position.hold == POSITION_UNKNOWN,
                uncommitted_start=position.offset if fresh else None,
            )
            assigned.append(
                AssignedPartition(
                    tp, position.offset, committed, position.hold, position.lost, metadata
                )
            )
        # Held partitions are owned but not fetched: they are left out until they can be read.
        consumer.incremental_assign(
            [
                KafkaPartition(a.tp.topic, a.tp.partition, a.position)
                for a in assigned
                if a.hold is None
            ]
        )
        self._assigned(dict.fromkeys(tps, self._epoch), assigned)
        self._commit_starts()

    def _on_revoke(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        tps = self._ours(partitions)
        self._rebalanced = True
        if tps:
            offsets = self._drain(tps)
            self._commit_before_hand_over({tp: offsets[tp] for tp in tps if tp in offsets})
        self._give_up(consumer, tps)

    def _on_lost(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        tps = self._ours(partitions)
        self._rebalanced = True
        if tps:
            self._post(self._events.partitions_lost, tps)
        self._give_up(consumer, tps)

    def _ours(self, partitions: list[KafkaPartition]) -> list[TopicPartition]:
        tps = (TopicPartition(p.topic, p.partition) for p in partitions)
        return [tp for tp in tps if tp in self._owned]

    def _give_up(self, consumer: Consumer, tps: list[TopicPartition]) -> None:
        given = [(KafkaPartition(tp.topic, tp.partition), self._owned.pop(tp)) for tp in tps]
        self._revoked_now.update(tps)
        # librdkafka keeps a partition paused through hand-over and return.
        if paused := [partition for partition, owned in given if owned.paused]:
            consumer.resume(paused)
        consumer.incremental_unassign([partition for partition, owned in given if owned.fetched])

    def _commit_before_hand_over(self, offsets: Mapping[TopicPartition, CommitOffset]) -> None:
        wanted = [
            KafkaPartition(tp.topic, tp.partition, offset, metadata)
            for tp, (offset, metadata) in offsets.items()
        ]
        for left in range(_COMMIT_TRIES - 1, -1, -1):
            if not wanted:
                return
            try:
                done = self._consumer.commit(offsets=wanted, asynchronous=False)
                results = commit_results(None, done)
            except KafkaException as error:
                results = commit_results(error.args[0], wanted)
            again = {r.tp for r in results if r.error is not None and r.retriable} if left else ()
            final = [r for r in results if r.tp not in again]
            if final:
                self._post(self._events.committed, final)
            wanted = [p for p in wanted if TopicPartition(p.topic, p.partition) in again]
            if wanted:
                time.sleep(_COMMIT_RETRY_AFTER)

    def _on_commit(self, error: KafkaError | None, partitions: list[KafkaPartition]) -> None:
        results = commit_results(error, partitions)
        for result in results:
            owned = self._owned.get(result.tp)
            if (
                owned is not None
                and result.error is None
                and result.offset == owned.uncommitted_start
            ):
                owned.uncommitted_start = None
        if results:
            self._post(self._events.committed, results)
        for code in {error, *(partition.error for partition in partitions)}:
            if code is not None and is_failure(code):
                self._fail(code)

    # -- positions ------------------------------------------------------------------------------

    def _commit_starts(self) -> None:
        """Commit where a group without an offset began.

        Else a crash before the first commit of a settled record would begin anew at another log
        end, or at another log start, and skip what lies between.
        """
        starts = [
            KafkaPartition(tp.topic, tp.partition, owned.uncommitted_start)
            for tp, owned in self._owned.items()
            if owned.uncommitted_start is not None
        ]
        if starts:
            self._commit_asynchronously(starts)

    def _recheck(self, tp: TopicPartition, owned: _Owned) -> None:
        """Ask again for a held partition; read it once it may be read."""
        try:
            if owned.asked_for_start:
                found = self._positions.find([tp], timeout=2.0)[tp]
                position, owned.high = found.position, found.high
                owned.asked_for_start = position.hold == POSITION_UNKNOWN
                if found.committed is None and position.hold is None:
                    owned.uncommitted_start = position.offset
            else:
                position, owned.high = self._positions.move(tp, owned.position, timeout=2.0)
        except KafkaException as error:
            _log.warning("%s/%d stays held: %s", *tp, error.args[0])
            return
        if position.hold is None:
            self._begin_at(tp, owned, position.offset)
        if position.hold != owned.hold:
            self._moved(tp, owned, PositionChange(tp, *position))

    def _lose_position(self, tp: TopicPartition, owned: _Owned) -> None:
        """Find out where to go on after the broker refused the offset to fetch."""
        (reached,) = self._consumer.position([KafkaPartition(tp.topic, tp.partition)])
        wanted = reached.offset if reached.offset >= 0 else owned.position
        try:
            position, owned.high = self._positions.move(tp, wanted, timeout=2.0)
        except KafkaException:
            # Whether records are missing is not known yet: held, and asked again soon.
            position = Position(wanted, hold=POSITION_UNKNOWN)
        if position.hold is None:
            self._begin_at(tp, owned, position.offset)
        if position.hold is not None or position.lost is not None:
            self._moved(tp, owned, PositionChange(tp, *position))

    def _begin_at(self, tp: TopicPartition, owned: _Owned, offset: int) -> None:
        """Fetch a partition from an offset, whether it was fetched before or not.

        It leaves librdkafka's assignment and returns, because a fetcher that has lost its offset
        cannot `seek`. The group does not notice: ownership is not touched.
        """
        partition = KafkaPartition(tp.topic, tp.partition, offset)
        if owned.paused:
            self._consumer.resume([partition])
            owned.paused = False
        if owned.fetched:
            self._consumer.incremental_unassign([partition])
        self._consumer.incremental_assign([partition])
        owned.fetched, owned.since = True, time.monotonic()

    def _moved(self, tp: TopicPartition, owned: _Owned, change: PositionChange) -> None:
        owned.position, owned.hold = change.position, change.hold
        _log.warning(
            "%s/%d is read from %d, hold %s, lost %s",
            *tp,
            change.position,
            change.hold,
            change.lost,
        )
        self._post(self._events.position_changed, change)

    def _report_high_watermarks(self) -> None:
        highs: dict[TopicPartition, int] = {}
        for tp, owned in self._owned.items():
            if owned.fetched:
                partition = KafkaPartition(tp.topic, tp.partition)
                _, high = self._consumer.get_watermark_offsets(partition, cached=True)
                owned.high = max(owned.high, high)
            highs[tp] = owned.high
        if highs:
            self._post(self._events.high_watermarks, highs)

    # -- errors ---------------------------------------------------------------------------------

    def _on_message_error(self, message: Message) -> None:
        error = message.error()
        topic, partition = message.topic(), message.partition()
        if error is None:
            return
        if error.name() in POSITION_ERRORS and topic is not None and partition is not None:
            tp = TopicPartition(topic, partition)
            owned = self._owned.get(tp)
            if owned is not None and owned.hold is None:
                self._lose_position(tp, owned)
        else:
            self._on_error(error)

    def _on_error(self, error: KafkaError) -> None:
        if is_failure(error):
            self._fail(error)
        else:
            # librdkafka tries again by itself, also where no broker can be reached.
            _log.warning("Kafka: %s", error)

    def _fail(self, error: KafkaError) -> None:
        if not self._failed:
            self._failed = True
            failure = SourceError(error.str(), how_to_mend(error), error.name())
            self._post(self._events.source_failed, failure)

    def _without_revoked(self, records: list[Record]) -> list[Record]:
        """Leave out what was read ahead of a rebalance that happened inside the same read.

        A partition that left and came back within one read is begun again at its new position:
        which of its records belong to which assignment cannot be told.
        """
        again = self._revoked_now & self._owned.keys()
        for tp in again:
            owned = self._owned[tp]
            if owned.fetched:
                self._begin_at(tp, owned, owned.position)
        readable = self._owned.keys() - again
        self._rebalanced = False
        self._revoked_now.clear()
        return [record for record in records if (record[0], record[1]) in readable]
