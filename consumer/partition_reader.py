"""Reads owned partitions through one client, and keeps their positions right.

The member of the group reads the source's partitions with it, `retry_source` those of the retry
topic. What it finds out it reports; whom a partition belongs to is decided by its owner.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, Protocol

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from consumer.commit_metadata import is_recreated
from consumer.errors import SourceError
from consumer.event import TopicPartition
from consumer.fetching import Fetching, Stamped
from consumer.kafka_errors import (
    MISSING_TOPIC_ERRORS,
    POSITION_ERRORS,
    how_to_mend,
    is_failure,
    refused_properties,
)
from consumer.kafka_records import records_of
from consumer.log_limit import LogLimit
from consumer.position import TRUNCATED, Earliest, Position
from consumer.source_events import PositionChange
from consumer.source_positions import POSITION_UNKNOWN, PositionFinder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import KafkaError, Message

    from consumer.event import Record
    from consumer.fetching import Owned
    from consumer.position import Latest
    from consumer.source_events import SourceSettings, StartTime
    from consumer.source_positions import Found
    from consumer.topic_ids import TopicIds

_log = logging.getLogger(__name__)

IDS_TIMEOUT: Final = 5.0
_ASK_TIMEOUT: Final = 2.0
"""Seconds that a look at held partitions, or at what became of a position, may take."""


class Reports(Protocol):
    """What a reader has found out. Every method is called on its client's thread."""

    def position_changed(self, order: Stamped, change: PositionChange) -> None:
        """A partition goes on at another position, or is held, or no longer."""

    def start_found(self, order: Stamped, found: Found) -> None:
        """The broker has told where a partition begins, which it had not at its assignment."""

    def recreated(self, tp: TopicPartition, log_start: int, high: int, bound_to: bytes) -> None:
        """The partition's topic was deleted and made again: it has to be taken over anew."""

    def high_watermarks(self, highs: Mapping[TopicPartition, int]) -> None:
        """How far the partitions reach."""

    def failed(self, error: SourceError) -> None:
        """Nothing more can be read."""


class PartitionReader:
    """One client and the partitions that are read with it; lives on that client's thread.

    `start` is where a group without an offset begins. Where topics `may_be_missing`, what is not
    there yet is held, and looked for again.

    Raises:
        ConfigError: librdkafka refused a property.
    """

    def __init__(
        self,
        config: Mapping[str, object],
        settings: SourceSettings,
        ids: TopicIds,
        reports: Reports,
        *,
        start: Earliest | Latest | StartTime,
        may_be_missing: bool = False,
    ) -> None:
        self._settings = settings
        self._ids = ids
        self._reports = reports
        self._refused: list[Message] = []
        self._log_limit = LogLimit(lines=1, seconds=10.0)
        self._asked_at: dict[TopicPartition, float] = {}
        self._next_report = 0.0
        self._next_recheck = 0.0
        self._next_topic_check = time.monotonic() + settings.topic_check_interval
        self.has_failed = False
        complete = {
            **config,
            "error_cb": self.take_error,
            "logger": logging.getLogger("consumer.kafka"),
        }
        try:
            self.consumer = Consumer(complete)
        except (KafkaException, ValueError, TypeError) as error:
            raise refused_properties(error) from None
        self.positions = PositionFinder(self.consumer, start, may_be_missing=may_be_missing)
        self.fetching = Fetching(self.consumer)

    def read(self, timeout: float) -> list[Record]:
        """Read the next chunk of records, waiting up to `timeout` seconds for it to fill.

        Serves the client's callbacks as a side effect.
        """
        messages = self.consumer.consume(self._settings.chunk_size, timeout)
        if not messages:
            return []
        records, self._refused = records_of(messages)
        return records

    def tick(self, now: float) -> None:
        """Do what is due: errors, log ends, held partitions.

        To be called between two reads, when the records of the first are on their way: an error
        that moves a position comes after the records before it.
        """
        refused, self._refused = self._refused, []
        for message in refused:
            self._take_refusal(message)
        if now < self._next_report:
            return
        self._next_report = now + 1.0
        self._report_high_watermarks()
        if now >= self._next_recheck:
            self._next_recheck = now + self._settings.recheck_interval
            self._recheck_held()
            self._ask_for_log_ends()
        if now >= self._next_topic_check:
            self._next_topic_check = now + self._settings.topic_check_interval
            self._check_topics()

    def _check_topics(self) -> None:
        """Find out whether a topic was deleted and made again, also where nothing tells it.

        Found out late, it is read from its start all the same.
        """
        tps = list(self.fetching.owned)
        bindings = self._ids.bindings({tp.topic for tp in tps}, IDS_TIMEOUT)
        for tp in tps:
            try:
                if tp in self.fetching.owned:
                    self._begins_anew(tp, bindings)
            except KafkaException as error:
                _log.warning("No log start of %s/%d: %s", *tp, error.args[0])

    # -- positions ------------------------------------------------------------------------------

    def _recheck_held(self) -> None:
        """Ask again for held partitions, those first that were not asked for the longest time."""
        held = [tp for tp, owned in self.fetching.owned.items() if owned.hold is not None]
        self._asked_at = {tp: self._asked_at.get(tp, 0.0) for tp in held}
        if not held:
            return
        held.sort(key=self._asked_at.__getitem__)
        bindings = self._ids.bindings({tp.topic for tp in held}, IDS_TIMEOUT)
        deadline = time.monotonic() + _ASK_TIMEOUT
        self._find_starts([tp for tp in held if self._owned(tp).start_unknown], bindings, deadline)
        for tp in held:
            if tp in self.fetching.owned and time.monotonic() < deadline:
                self._asked_at[tp] = time.monotonic()
                self._recheck(tp, bindings)

    def _find_starts(
        self, tps: list[TopicPartition], bindings: Mapping[str, bytes], deadline: float
    ) -> None:
        if not tps:
            return
        for tp, found in self.positions.find(tps, bindings, deadline).items():
            if found.unknown:
                continue
            owned = self._owned(tp)
            owned.start_unknown, owned.high = False, found.high
            owned.bound_to = owned.bound_to or bindings.get(tp.topic)
            self._reports.start_found(Stamped(tp, owned.epoch), found)
            self._move(tp, found.position)

    def _recheck(self, tp: TopicPartition, bindings: Mapping[str, bytes]) -> None:
        owned = self._owned(tp)
        if owned.hold is None or owned.start_unknown:
            return
        try:
            if self._begins_anew(tp, bindings) or owned.hold == TRUNCATED:
                return  # that a log has grown again does not bring back what is gone
            position, owned.high = self.positions.move(tp, owned.position, _ASK_TIMEOUT)
        except KafkaException as error:
            _log.warning("%s/%d stays held: %s", *tp, error.args[0])
            return
        self._move(tp, position)

    def _lose_position(self, tp: TopicPartition) -> None:
        """Find out where to go on after the broker refused the offset to fetch."""
        wanted = self.fetching.next_offset(tp)
        bindings = self._ids.bindings([tp.topic], IDS_TIMEOUT)
        try:
            if self._begins_anew(tp, bindings):
                return
            position, self._owned(tp).high = self.positions.move(tp, wanted, _ASK_TIMEOUT)
        except KafkaException:
            # Whether records are missing is not known yet: held, and asked again soon.
            position = Position(wanted, hold=POSITION_UNKNOWN)
        self._move(tp, position)

    def _begins_anew(self, tp: TopicPartition, bindings: Mapping[str, bytes]) -> bool:
        before, bound_to = self._owned(tp).bound_to, bindings.get(tp.topic)
        if before is None or bound_to is None or not is_recreated(before, bound_to):
            return False
        log_start, high = self.positions.move(tp, 0, _ASK_TIMEOUT)
        _log.warning("%s was deleted and made again: %s/%d begins at its start", tp.topic, *tp)
        self._reports.recreated(tp, log_start.offset, high, bound_to)
        return True

    def _move(self, tp: TopicPartition, position: Position) -> None:
        owned = self._owned(tp)
        is_news = position.hold != owned.hold or position.lost is not None
        self.fetching.move(tp, position.offset, position.hold)
        if is_news:
            change = PositionChange(tp, *position)
            _log.warning("%s/%d is read from %d, hold %s, lost %s", *tp, *position)
            self._reports.position_changed(Stamped(tp, owned.epoch), change)

    def _owned(self, tp: TopicPartition) -> Owned:
        return self.fetching.owned[tp]

    # -- log ends -------------------------------------------------------------------------------

    def _report_high_watermarks(self) -> None:
        """Report the log ends; the client knows those of the partitions that it fetches."""
        for tp, owned in self.fetching.owned.items():
            if owned.fetched:
                _, high = self.consumer.get_watermark_offsets(KafkaPartition(*tp), cached=True)
                owned.high = max(owned.high, high)
        highs = {tp: owned.high for tp, owned in self.fetching.owned.items()}
        if highs:
            self._reports.high_watermarks(highs)

    def _ask_for_log_ends(self) -> None:
        """Ask for the log ends of partitions that are not fetched: their lag grows nevertheless."""
        deadline = time.monotonic() + _ASK_TIMEOUT
        for tp, owned in self.fetching.owned.items():
            if owned.fetched or owned.hold is not None:
                continue
            try:
                owned.high = max(owned.high, self.positions.log_end(tp, _ASK_TIMEOUT))
            except KafkaException:
                return  # the broker is away: what is known stays as it is
            if time.monotonic() > deadline:
                return

    # -- errors ---------------------------------------------------------------------------------

    def _take_refusal(self, message: Message) -> None:
        error = message.error()
        topic, partition = message.topic(), message.partition()
        if error is None:
            return
        if error.name() not in POSITION_ERRORS | MISSING_TOPIC_ERRORS or topic is None:
            self.take_error(error)
            return
        tp = TopicPartition(topic, -1 if partition is None else partition)
        owned = self.fetching.owned.get(tp)
        if owned is None or not owned.fetched:
            return
        if error.name() in POSITION_ERRORS:
            self._lose_position(tp)
        else:
            # When the topic is back it may be another one of the same name.
            self._move(tp, Position(self.fetching.next_offset(tp), hold=POSITION_UNKNOWN))

    def take_error(self, error: KafkaError) -> None:
        """Take what the client says of itself: report a failure, log the rest."""
        if not is_failure(error):
            # librdkafka tries again by itself, also where no broker can be reached.
            skipped = self._log_limit.skipped(error.name(), time.monotonic())
            if skipped is not None:
                _log.warning("Kafka: %s", error, extra={"not_logged": skipped or None})
        elif not self.has_failed:
            self.has_failed = True
            self._reports.failed(SourceError(error.str(), how_to_mend(error), error.name()))
