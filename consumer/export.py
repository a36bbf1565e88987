"""Hands spans from the event loop to an exporter on a thread of its own.

The loop never waits: what finds no room in the queue is dropped and counted, and so is what the
exporter could not bring to its receiver. Nothing is dropped silently.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumer.metrics import Metrics

logger = logging.getLogger(__name__)

Payload = TypeVar("Payload")
Taken_contra = TypeVar("Taken_contra", contravariant=True)

QUEUE_BYTES = 32 << 20
"""What may wait for the exporter: about 30,000 spans of events."""

REQUEST_BYTES = 1 << 20
"""A request is sent as soon as this much waits, and holds hardly more."""


class Exported(NamedTuple):
    """What became of a request's spans: `dropped` counts by reason."""

    exported: int
    dropped: Mapping[str, int]


class Patience:
    """How long an exporter may go on trying: for ever, until the process shuts down."""

    def __init__(self) -> None:
        self._closing = threading.Event()
        self._give_up_at = float("inf")

    def close(self, seconds: float) -> None:
        """Ends all trying within so many seconds."""
        self._give_up_at = time.monotonic() + seconds
        self._closing.set()

    @property
    def closing(self) -> bool:
        """Whether the process shuts down."""
        return self._closing.is_set()

    def left(self) -> float:
        """Seconds left; infinite as long as the process runs."""
        return self._give_up_at - time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Waits before another try; false when there is no time for one.

        A shutdown cuts the wait short, so that the last try is not made too late.
        """
        if self.closing:
            if seconds >= self.left():
                return False
            time.sleep(seconds)
        else:
            self._closing.wait(seconds)
        return self.left() > 0


class Exporter(Protocol[Taken_contra]):
    """Brings spans to a receiver. Called from one thread only."""

    def export(self, payloads: Sequence[Taken_contra], spans: int, patience: Patience) -> Exported:
        """Exports payloads that hold `spans` spans; blocks, never raises."""

    def close(self) -> None:
        """Lets connections go."""


class _Waiting(NamedTuple, Generic[Payload]):
    payload: Payload
    spans: int
    size: int


class ExportThread(Generic[Payload]):
    """A bounded queue and the thread that empties it.

    Args:
        exporter: where the spans go.
        metrics: where they are counted.
        delay: seconds that a span may wait for others (`OTEL_BSP_SCHEDULE_DELAY`).
        max_spans: spans that may wait (`OTEL_BSP_MAX_QUEUE_SIZE`), beside the limit in bytes.
        max_bytes: bytes that may wait.
    """

    def __init__(
        self,
        exporter: Exporter[Payload],
        metrics: Metrics,
        *,
        delay: float = 5.0,
        max_spans: float = float("inf"),
        max_bytes: int = QUEUE_BYTES,
    ) -> None:
        self._exporter = exporter
        self._metrics = metrics
        self._delay = delay
        self._max_spans = max_spans
        self._max_bytes = max_bytes
        self._queue: deque[_Waiting[Payload]] = deque()
        self._spans = 0
        self._bytes = 0
        self._exporting = 0
        self._abandoned = False
        self._changed = threading.Condition()
        self._patience = Patience()
        self._thread = threading.Thread(target=self._run, name="span-export", daemon=True)
        self._thread.start()

    def put(self, payload: Payload, spans: int, size: int) -> None:
        """Takes a payload of `spans` spans and about `size` bytes; returns at once."""
        with self._changed:
            if self._patience.closing:
                reason = "shutdown"
            elif self._bytes + size > self._max_bytes or self._spans + spans > self._max_spans:
                reason = "queue_full"
            else:
                self._queue.append(_Waiting(payload, spans, size))
                self._spans += spans
                self._bytes += size
                if self._bytes >= REQUEST_BYTES:
                    self._changed.notify()
                return
        self._metrics.spans_dropped.add(spans, (reason,))

    def close(self, seconds: float) -> None:
        """Exports what waits, for so many seconds at most; what is left is counted as dropped.

        Blocks: to be called off the event loop.
        """
        with self._changed:
            self._patience.close(seconds)
            self._changed.notify()
        self._thread.join(max(seconds, 0.0))
        self._drop_rest()

    def _run(self) -> None:
        while taken := self._take():
            spans = sum(waiting.spans for waiting in taken)
            payloads = [waiting.payload for waiting in taken]
            try:
                result = self._exporter.export(payloads, spans, self._patience)
            except Exception:
                # A defect of the exporter costs these spans, and is counted, but not the thread.
                logger.exception("the span exporter failed")
                result = Exported(0, {"refused": spans})
            self._count(result)
        self._exporter.close()

    def _count(self, result: Exported) -> None:
        with self._changed:
            self._exporting = 0
            if self._abandoned:
                return  # counted as dropped when the time was up
        if result.exported:
            self._metrics.spans_exported.add(result.exported)
        for reason, dropped in result.dropped.items():
            self._metrics.spans_dropped.add(dropped, (reason,))

    def _take(self) -> list[_Waiting[Payload]]:
        """The payloads of the next request; empty when it is time to end."""
        with self._changed:
            while not self._patience.closing and self._bytes < REQUEST_BYTES:
                if not self._changed.wait(self._delay) and self._queue:
                    break
            if self._patience.left() <= 0:
                return []
            taken: list[_Waiting[Payload]] = []
            size = 0
            while self._queue and size < REQUEST_BYTES:
                taken.append(waiting := self._queue.popleft())
                size += waiting.size
                self._spans -= waiting.spans
            self._bytes -= size
            self._exporting = sum(waiting.spans for waiting in taken)
            return taken

    def _drop_rest(self) -> None:
        with self._changed:
            left = self._spans + self._exporting
            self._spans = self._bytes = 0
            self._queue.clear()
            self._abandoned = True
        if left:
            self._metrics.spans_dropped.add(left, ("shutdown",))
            logger.warning("spans could not be exported before shutdown", extra={"spans": left})
