"""The Kafka producer: records for our own topics go out, acknowledgements come back to the loop.

Idempotent, `acks=all`. Nothing is dropped and nothing blocks the loop: what librdkafka does not
take waits here, in order, topic by topic, so that a topic that is gone does not fill the queue that
all of them share. A producer that turned fatal (the broker forgot its identity) is replaced, and
what was not acknowledged is produced again by the new one, in its order. It may have been written
before: twice in the log is possible, not at all is not.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from confluent_kafka import KafkaException, Producer

from consumer.errors import ConfigError
from consumer.kafka_errors import refused_properties
from consumer.kafka_properties import producer_properties
from consumer.messages import Acknowledged
from consumer.produce_errors import PRODUCER_GONE, TIME_REFUSED, failed
from consumer.produce_lanes import Lane, hand_over, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from confluent_kafka import KafkaError, Message

    from consumer.messages import Produce

_log = logging.getLogger(__name__)

REPORTS_AT_ONCE: Final = 256
"""Reports that the loop is given at once: a few milliseconds of its time."""

_POLL: Final = 0.05
_REPLACE_AGAIN: Final = 1.0
_MOST_BARREN: Final = 2
_NO_TIMESTAMP: Final = 0
_BY_KEY: Final = -1
_BROKEN: Final = "the producer has ended on a defect: restart the consumer"


class Client(Protocol):
    """What is used of confluent-kafka's `Producer`."""

    def produce(
        self,
        topic: str,
        value: bytes | None = ...,
        key: bytes | None = ...,
        partition: int = ...,
        *,
        on_delivery: Callable[..., None] | None = ...,
        timestamp: int = ...,
        headers: Any = ...,
    ) -> None:
        """Queue a record; raises `BufferError` where the queue is full."""

    def poll(self, timeout: float) -> int:
        """Serve delivery reports, waiting up to `timeout` seconds for the first."""

    def purge(self) -> None:
        """Give up everything queued or in flight, each with a report."""


class Emitter:
    """Produces records and reports on each one, in batches, on the loop.

    Reports come in the order in which the broker acknowledged, partition by partition, with the
    offset that it gave.

    `properties` are the user's for librdkafka, connection and security included. All methods are
    to be called on the loop's thread. `client` makes a producer of a complete configuration.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        on_acknowledged: Callable[[Sequence[Acknowledged]], None],
        loop: asyncio.AbstractEventLoop,
        client: Callable[[dict[str, Any]], Client] = Producer,
    ) -> None:
        self._properties = properties
        self._on_acknowledged = on_acknowledged
        self._loop = loop
        self._make_client = client
        self._client: Client | None = None
        # Guards giving records to the client, by the loop and by the polling thread.
        self._lock = threading.Lock()
        self._lanes: dict[str, Lane] = {}
        self._queued: dict[int, Produce] = {}
        self._reports: deque[Acknowledged] = deque()
        self._called = False
        self._started = False
        self._stop_at: float | None = None
        self._broken = False
        self._fatal: str | None = None
        # Why producers ended since the last acknowledgement: not every one tells it in time.
        self._cause: str | None = None
        self._barren = 0
        self._trouble: str | None = None
        self._replace_at = 0.0
        self._ended = asyncio.Event()

    def __repr__(self) -> str:
        """How much is on its way; never what."""
        return f"<Emitter queued={len(self._queued)} backlog={self._backlog()}>"

    def start(self) -> None:
        """Connect, in the background.

        Raises:
            ConfigError: librdkafka refused a property.
        """
        self._client = self._connect()
        self._started = True
        threading.Thread(target=self._run, name="kafka-emit", daemon=True).start()

    def produce(self, outgoing: Sequence[Produce]) -> None:
        """Take records to produce; each is reported on by its handle, whatever happens to it."""
        with self._lock:
            for record in outgoing:
                lane = self._lanes.get(record.topic)
                if lane is None:
                    lane = self._lanes[record.topic] = Lane()
                if lane.backlog or not self._give(lane, record):
                    lane.backlog.append(record)
            if self._broken:
                self._refuse_waiting(_BROKEN)

    async def stop(self, timeout: float) -> bool:  # noqa: ASYNC109  the deadline is the caller's, and also bounds the thread
        """Wait for what is on its way and close; false where that took longer than `timeout` s.

        What was not acknowledged by then is reported on no more: its offset is not committed.
        """
        if not self._started:
            return True
        self._stop_at = time.monotonic() + timeout
        await self._ended.wait()
        while self._reports:
            self._take_reports()
        return not self._queued and not self._backlog()

    def _backlog(self) -> int:
        return sum(len(lane.backlog) for lane in list(self._lanes.values()))

    def _connect(self) -> Client:
        config: dict[str, Any] = {
            **producer_properties(self._properties),
            "error_cb": self._on_error,
            "logger": logging.getLogger("consumer.kafka"),
        }
        try:
            return self._make_client(config)
        except (KafkaException, ValueError, TypeError) as error:
            raise refused_properties(error) from None

    def _give(self, lane: Lane, record: Produce) -> bool:
        """Hand a record to librdkafka; false where it has to wait. The lock is held."""
        client, size = self._client, size_of(record)
        if client is None or self._fatal is not None or not lane.takes(size):
            return False
        self._queued[record.handle] = record  # before its report can come
        try:
            client.produce(
                record.topic,
                value=record.value,
                key=record.key,
                partition=_BY_KEY if record.partition is None else record.partition,
                headers=list(record.headers) if record.headers else None,
                timestamp=max(record.timestamp, _NO_TIMESTAMP),
                on_delivery=functools.partial(self._delivered, lane, record),
            )
        except BufferError:
            del self._queued[record.handle]
            return False
        except KafkaException as error:
            del self._queued[record.handle]
            if self._is_end(error.args[0]):
                return False
            self._reports.append(failed(record, error.args[0].name(), None))
            self._call_loop()
        else:
            lane.given += size
        return True

    # -- on the loop ----------------------------------------------------------------------------

    def _take_reports(self) -> None:
        self._called = False
        reports = self._reports
        taken = [reports.popleft() for _ in range(min(len(reports), REPORTS_AT_ONCE))]
        if reports:
            self._call_loop()
        if taken:
            self._on_acknowledged(taken)

    # -- on the polling thread ------------------------------------------------------------------

    def _delivered(
        self, lane: Lane, record: Produce, error: KafkaError | None, message: Message
    ) -> None:
        """Take a delivery report; inside `poll`."""
        if error is None:
            self._barren, self._trouble, self._cause = 0, None, None
            offset = message.offset()
            known = offset is not None and offset >= 0
            self._reports.append(Acknowledged(record.handle, None, None, offset if known else None))
        elif self._is_end(error):
            return  # it stays queued: the next producer has it in its place
        elif error.name() == TIME_REFUSED and record.timestamp > time.time() * 1000:
            # Its partition would be held until that future has come. The broker refuses the
            # whole batch: neighbours with times of the past go again with those.
            lane.backlog.append(record._replace(timestamp=-1))
        else:
            self._reports.append(failed(record, error.name(), self._trouble))
        del self._queued[record.handle]
        lane.returned += size_of(record)

    def _is_end(self, error: KafkaError) -> bool:
        """Whether an error is the producer's end, which is noted then, and not the record's."""
        ended = error.fatal() or error.name() in PRODUCER_GONE
        if ended and self._fatal is None:
            self._fatal = error.name()
        if ended and error.name() not in PRODUCER_GONE:
            self._cause = error.name()
        return ended

    def _on_error(self, error: KafkaError) -> None:
        _log.warning("Kafka producer: %s", error)
        self._trouble = error.name()
        self._is_end(error)

    def _run(self) -> None:
        try:
            while not self._done():
                if self._fatal is not None and time.monotonic() >= self._replace_at:
                    self._replace()
                if self._client is None:
                    time.sleep(_POLL)
                else:
                    self._serve(self._client, _POLL)
                with self._lock:
                    hand_over(list(self._lanes.values()), self._give)
                self._call_loop()
        except Exception:  # noqa: BLE001  whatever it is, what waits for a report must get one
            _log.exception("The producer's thread ended early")
            with self._lock:
                self._client, self._broken = None, True
                self._take_back()
                self._refuse_waiting(_BROKEN)
        finally:
            with self._lock:
                last, self._client = self._client, None
            del last  # its connections end, and it tries no more to deliver anything
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._ended.set)

    def _serve(self, client: Client, timeout: float) -> None:
        try:
            client.poll(timeout)
        except KafkaException as error:
            # This is how the client tells that it is fatal; its error callback hears nothing.
            if not self._is_end(error.args[0]):
                raise

    def _call_loop(self) -> None:
        """Have the loop take the reports, unless it is on its way to them already."""
        if self._reports and not self._called:
            self._called = True
            self._loop.call_soon_threadsafe(self._take_reports)

    def _done(self) -> bool:
        if self._stop_at is None:
            return False
        idle = not self._queued and not self._backlog()
        return idle or time.monotonic() >= self._stop_at

    def _replace(self) -> None:
        """Begin anew with what was not acknowledged, in its order.

        Where one producer after the other ends without a single acknowledgement, a new one is no
        cure: what waits is reported on, so that somebody learns why.
        """
        with self._lock:
            old, self._client = self._client, None
        if old is not None:
            old.purge()
            self._serve(old, 0.0)
        self._replace_at = time.monotonic() + _REPLACE_AGAIN
        try:
            new = self._connect()
        except ConfigError as error:
            _log.error("no producer can be made: %s", error)
            return
        self._barren += 1
        with self._lock:
            _log.warning("The producer is replaced; %d records go again", len(self._queued))
            self._take_back()
            if self._barren > _MOST_BARREN:
                self._refuse_waiting(self._cause or self._fatal or "")
            self._client, self._fatal = new, None

    def _take_back(self) -> None:
        """What a client was given and did not report on waits again, first. The lock is held."""
        for record in reversed(self._queued.values()):
            self._lanes[record.topic].backlog.appendleft(record)
        self._queued.clear()
        for lane in self._lanes.values():
            lane.given = lane.returned = 0

    def _refuse_waiting(self, why: str) -> None:
        """Report on all that waits as not produced. The lock is held."""
        for lane in self._lanes.values():
            self._reports += [failed(record, why, self._trouble) for record in lane.backlog]
            lane.backlog.clear()
        self._call_loop()
