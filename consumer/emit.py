"""The Kafka producer: dead letters go out, acknowledgements come back to the event loop.

Idempotent, `acks=all`. Nothing is dropped and nothing blocks the loop: what the full queue of
librdkafka does not take waits here, in order. A producer that turned fatal (the broker forgot its
identity) is replaced, and what was not acknowledged is produced again by the new one.
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

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from confluent_kafka import KafkaError

    from consumer.messages import Produce

_log = logging.getLogger(__name__)

_POLL: Final = 0.05
_REPLACE_AGAIN: Final = 1.0
_NO_TIMESTAMP: Final = 0
_TIME_REFUSED: Final = "INVALID_TIMESTAMP"
_TOO_LARGE: Final = frozenset({"MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"})
_PRODUCER_GONE: Final = frozenset({"_FATAL", "_PURGE_QUEUE", "_PURGE_INFLIGHT"})


class Client(Protocol):
    """What is used of confluent-kafka's `Producer`."""

    def produce(
        self,
        topic: str,
        value: bytes | None = ...,
        key: bytes | None = ...,
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
        # Guards what the loop and the polling thread share: queueing and the two lists below.
        self._lock = threading.Lock()
        self._backlog: deque[Produce] = deque()
        self._queued: dict[int, Produce] = {}
        self._reports: list[Acknowledged] = []
        self._stop_at: float | None = None
        self._fatal = False
        self._ended = asyncio.Event()

    def __repr__(self) -> str:
        """How much is on its way; never what."""
        return f"<Emitter queued={len(self._queued)} backlog={len(self._backlog)}>"

    def start(self) -> None:
        """Connect, in the background.

        Raises:
            ConfigError: librdkafka refused a property.
        """
        self._client = self._connect()
        threading.Thread(target=self._run, name="kafka-emit", daemon=True).start()

    def produce(self, outgoing: Sequence[Produce]) -> None:
        """Take records to produce; each is reported on by its handle, whatever happens to it."""
        with self._lock:
            self._backlog.extend(outgoing)
            self._queue_backlog()

    async def stop(self, timeout: float) -> bool:  # noqa: ASYNC109  the deadline is the caller's, and also bounds the thread
        """Wait for what is on its way and close; false where that took longer than `timeout` s.

        What was not acknowledged by then is reported on no more: its offset is not committed.
        """
        if self._client is None:
            return True
        self._stop_at = time.monotonic() + timeout
        await self._ended.wait()
        return not self._queued and not self._backlog

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

    def _queue_backlog(self) -> None:
        """Hand the backlog to librdkafka as far as it takes it. The lock is held."""
        client = self._client
        while self._backlog and client is not None and not self._fatal:
            record = self._backlog[0]
            try:
                client.produce(
                    record.topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    timestamp=max(record.timestamp, _NO_TIMESTAMP),
                    on_delivery=functools.partial(self._delivered, record),
                )
            except BufferError:
                return
            except KafkaException as error:
                self._report(record, error.args[0])
            else:
                self._queued[record.handle] = record
            self._backlog.popleft()

    def _delivered(self, record: Produce, error: KafkaError | None, _message: object) -> None:
        """Take a delivery report; on the polling thread, inside `poll`, without the lock."""
        with self._lock:
            self._queued.pop(record.handle, None)
            if error is not None and (error.fatal() or error.name() in _PRODUCER_GONE):
                self._fatal = True
                self._backlog.append(record)
            elif (
                error is not None
                and error.name() == _TIME_REFUSED
                and record.timestamp > time.time() * 1000
            ):
                # Its partition would be held until that future has come. The broker refuses the
                # whole batch: neighbours with times of the past go again with those.
                self._backlog.append(record._replace(timestamp=-1))
            else:
                self._report(record, error)

    def _report(self, record: Produce, error: KafkaError | None) -> None:
        if error is None:
            self._reports.append(Acknowledged(record.handle))
        elif error.name() in _TOO_LARGE:
            self._reports.append(Acknowledged(record.handle, "too_large", error.name()))
        else:
            self._reports.append(Acknowledged(record.handle, "retriable", error.name()))

    def _on_error(self, error: KafkaError) -> None:
        _log.warning("Kafka producer: %s", error)
        if error.fatal():
            self._fatal = True

    # -- on the polling thread ------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._done():
                if self._client is not None:
                    self._client.poll(_POLL)
                if self._fatal and not self._replace():
                    time.sleep(_REPLACE_AGAIN)
                with self._lock:
                    self._queue_backlog()
                    reports, self._reports = self._reports, []
                if reports:
                    self._loop.call_soon_threadsafe(self._on_acknowledged, reports)
        except Exception:  # noqa: BLE001  what waits is unacknowledged, so its offsets wait too
            _log.exception("The producer's thread ended early")
        finally:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._ended.set)

    def _done(self) -> bool:
        if self._stop_at is None:
            return False
        with self._lock:
            idle = not self._queued and not self._backlog and not self._reports
        return idle or time.monotonic() >= self._stop_at

    def _replace(self) -> bool:
        """Begin anew with what was not acknowledged, oldest first; false where that failed."""
        old = self._client
        if old is not None:
            old.purge()
            old.poll(0)
        with self._lock:
            _log.warning("The producer is replaced; %d records go again", len(self._queued))
            self._backlog.extendleft(reversed(self._queued.values()))
            self._queued.clear()
            self._client = None
            try:
                self._client = self._connect()
            except ConfigError as error:
                _log.error("no producer can be made: %s", error)
                return False
            self._fatal = False
            return True
