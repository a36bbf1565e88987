"""This process's member of the consumer group: everything that runs on the consumer's thread.

librdkafka's consumer is driven by one thread. Its rebalance callbacks run inside `consume`, on
that thread, and block it while partitions are handed over; heartbeats go on in librdkafka's own
threads. Nothing here decides what to read or commit: it does as told and reports.
"""

from __future__ import annotations

import logging
import time
from operator import methodcaller
from typing import TYPE_CHECKING, Final, cast

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from consumer.commit_metadata import is_recreated
from consumer.errors import SourceError
from consumer.event import Record, TopicPartition
from consumer.fetching import Fetching, Owned
from consumer.group_commits import GroupCommits
from consumer.kafka_errors import POSITION_ERRORS, how_to_mend, is_failure, refused_properties
from consumer.kafka_properties import consumer_properties
from consumer.position import TRUNCATED, Position
from consumer.source_events import AssignedPartition, CommitResult, PositionChange
from consumer.source_positions import POSITION_UNKNOWN, PositionFinder
from consumer.topic_ids import TopicIds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka import KafkaError, Message

    from consumer.event import Headers
    from consumer.offsets import CommitOffset
    from consumer.source_events import SourceEvents, SourceSettings

_log = logging.getLogger(__name__)

_IDS_TIMEOUT: Final = 5.0


class GroupMember:
    """A consumer group's member; every method but the constructor runs on the consumer's thread.

    `post` calls a listener's method on the event loop, in order, and returns at once. `drain`
    asks the listener to give partitions up and blocks until it has answered. `assigned` tells the
    listener of new partitions, with the epoch that orders for them have to carry.

    `fetching` and `commits` take the orders.

    Raises:
        ConfigError: librdkafka refused a property.
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
        self._epoch = 0
        self._rebalanced = False
        self._revoked_now: set[TopicPartition] = set()
        self._refused: list[Message] = []
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
            raise refused_properties(error) from None
        self._positions = PositionFinder(self._consumer, settings.start)
        self._topic_ids = TopicIds(settings.properties)
        self.fetching = Fetching(self._consumer)
        self.commits = GroupCommits(self._consumer, self.fetching, self._report, self._fail)

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
        records, self._refused = _records(messages)
        return self._without_revoked(records) if self._rebalanced else records

    def tick(self, now: float) -> None:
        """Do what is due: errors, late pauses, log ends, starts to commit, held partitions.

        To be called between two reads, when the records of the first are on their way: an error
        that moves a position comes after the records before it.
        """
        refused, self._refused = self._refused, []
        for message in refused:
            self._on_message_error(message)
        self.fetching.apply_pauses(now)
        if now < self._next_tick:
            return
        self._next_tick = now + 1.0
        self._report_high_watermarks()
        self.commits.commit_starts()
        if now >= self._next_recheck:
            self._next_recheck = now + self._settings.recheck_interval
            for tp, owned in list(self.fetching.owned.items()):
                if owned.hold is not None:
                    self._recheck(tp, owned)

    # -- the group's callbacks ------------------------------------------------------------------

    def _on_assign(self, _consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        tps = [TopicPartition(p.topic, p.partition) for p in partitions]
        bindings = self._topic_ids.bindings((tp.topic for tp in tps), _IDS_TIMEOUT) if tps else {}
        found = self._positions.find(tps, bindings, self._settings.position_timeout)
        self._epoch += 1
        self._rebalanced = True
        now = time.monotonic()
        owned = {
            tp: Owned(
                epoch=self._epoch,
                since=now,
                position=position.offset,
                hold=position.hold,
                high=high,
                fetched=position.hold is None,
                asked_for_start=position.hold == POSITION_UNKNOWN,
                uncommitted_start=(
                    position.offset if committed is None and position.hold is None else None
                ),
                bound_to=bindings.get(tp.topic),
            )
            for tp, (position, committed, _, high) in found.items()
        }
        self.fetching.begin(owned)
        self._assigned(
            dict.fromkeys(tps, self._epoch),
            [
                AssignedPartition(
                    tp,
                    position.offset,
                    committed,
                    position.hold,
                    position.lost,
                    metadata,
                    bindings.get(tp.topic),
                )
                for tp, (position, committed, metadata, _) in found.items()
            ],
        )
        self.commits.commit_starts()

    def _on_revoke(self, _consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        tps = self._ours(partitions)
        self._rebalanced = True
        if tps:
            offsets = self._drain(tps)
            self.commits.before_hand_over({tp: offsets[tp] for tp in tps if tp in offsets})
        self._give_up(tps)

    def _on_lost(self, _consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        tps = self._ours(partitions)
        self._rebalanced = True
        if tps:
            self._post(self._events.partitions_lost, tps)
        self._give_up(tps)

    def _give_up(self, tps: list[TopicPartition]) -> None:
        self._revoked_now.update(tps)
        self.fetching.give_up(tps)

    def _ours(self, partitions: list[KafkaPartition]) -> list[TopicPartition]:
        tps = (TopicPartition(p.topic, p.partition) for p in partitions)
        return [tp for tp in tps if tp in self.fetching.owned]

    # -- positions ------------------------------------------------------------------------------

    def _recheck(self, tp: TopicPartition, owned: Owned) -> None:
        """Ask again for a held partition; read it once it may be read."""
        bindings = self._topic_ids.bindings([tp.topic], _IDS_TIMEOUT)
        try:
            if owned.asked_for_start:
                found = self._positions.find([tp], bindings, timeout=2.0)[tp]
                position, owned.high = found.position, found.high
                owned.asked_for_start = position.hold == POSITION_UNKNOWN
                if found.committed is None and position.hold is None:
                    owned.uncommitted_start = position.offset
            elif self._is_recreated(tp, owned, bindings):
                self._begin_anew(tp, owned, bindings[tp.topic])
                return
            elif owned.hold == TRUNCATED:
                return  # that the log has grown again does not bring back what is gone
            else:
                position, owned.high = self._positions.move(tp, owned.position, timeout=2.0)
        except KafkaException as error:
            _log.warning("%s/%d stays held: %s", *tp, error.args[0])
            return
        if position.hold is None:
            self.fetching.begin_at(tp, owned, position.offset)
        if position.hold != owned.hold:
            self._moved(tp, owned, PositionChange(tp, *position))

    def _lose_position(self, tp: TopicPartition, owned: Owned) -> None:
        """Find out where to go on after the broker refused the offset to fetch."""
        (reached,) = self._consumer.position([KafkaPartition(tp.topic, tp.partition)])
        wanted = reached.offset if reached.offset >= 0 else owned.position
        try:
            bindings = self._topic_ids.bindings([tp.topic], _IDS_TIMEOUT)
            if self._is_recreated(tp, owned, bindings):
                self._begin_anew(tp, owned, bindings[tp.topic])
                return
            position, owned.high = self._positions.move(tp, wanted, timeout=2.0)
        except KafkaException:
            # Whether records are missing is not known yet: held, and asked again soon.
            position = Position(wanted, hold=POSITION_UNKNOWN)
        if position.hold is None:
            self.fetching.begin_at(tp, owned, position.offset)
        if position.hold is not None or position.lost is not None:
            self._moved(tp, owned, PositionChange(tp, *position))

    def _is_recreated(
        self, tp: TopicPartition, owned: Owned, bindings: Mapping[str, bytes]
    ) -> bool:
        before, bound_to = owned.bound_to, bindings.get(tp.topic)
        return before is not None and bound_to is not None and is_recreated(before, bound_to)

    def _begin_anew(self, tp: TopicPartition, owned: Owned, bound_to: bytes) -> None:
        """The topic was deleted and made again: its offsets begin anew, and so does the assignment.

        Raises:
            KafkaException: The broker does not tell the log start.
        """
        position, high = self._positions.move(tp, 0, timeout=2.0)
        _log.warning("%s was deleted and made again: %s/%d begins at its start", tp.topic, *tp)
        self._epoch += 1
        self._post(self._events.partitions_lost, [tp])
        owned.epoch, owned.bound_to = self._epoch, bound_to
        owned.position = owned.uncommitted_start = position.offset
        owned.hold, owned.high, owned.asked_for_start = None, high, False
        self.fetching.begin_at(tp, owned, position.offset)
        self._assigned(
            {tp: self._epoch},
            [AssignedPartition(tp, position.offset, None, bound_to=bound_to)],
        )

    def _moved(self, tp: TopicPartition, owned: Owned, change: PositionChange) -> None:
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
        for tp, owned in self.fetching.owned.items():
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
            owned = self.fetching.owned.get(tp)
            if owned is not None and owned.hold is None:
                self._lose_position(tp, owned)
        else:
            self._on_error(error)

    def _on_commit(self, error: KafkaError | None, offsets: list[KafkaPartition]) -> None:
        self.commits.take_results(error, offsets)

    def _on_error(self, error: KafkaError) -> None:
        if is_failure(error):
            self._fail(error)
        else:
            # librdkafka tries again by itself, also where no broker can be reached.
            _log.warning("Kafka: %s", error)

    def _report(self, results: list[CommitResult]) -> None:
        self._post(self._events.committed, results)

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
        again = self._revoked_now & self.fetching.owned.keys()
        for tp in again:
            owned = self.fetching.owned[tp]
            if owned.fetched:
                self.fetching.begin_at(tp, owned, owned.position)
        readable = self.fetching.owned.keys() - again
        self._rebalanced = False
        self._revoked_now.clear()
        return [record for record in records if (record[0], record[1]) in readable]


# For a header name that is no UTF-8 the client sets an exception and returns a broken list all the
# same. A call written out, `message.headers()`, is specialised by the interpreter once it is warm
# and does not look for that any more; a call made by C code always does.
_headers_of = methodcaller("headers")


def _records(messages: Iterable[Message]) -> tuple[list[Record], list[Message]]:
    """Turn messages into records, and set those aside that carry an error instead."""
    records: list[Record] = []
    errors: list[Message] = []
    append = records.append
    make = tuple.__new__  # a third of the cost of the class's own constructor
    for message in messages:
        if message.error() is not None:
            errors.append(message)
            continue
        try:
            headers = _headers_of(message)
        except (UnicodeDecodeError, SystemError):
            headers = None  # a name that is no UTF-8: the client cannot tell any of them
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
    return records, errors
