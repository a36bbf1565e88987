"""Produces samples at a steady pace, so that a consumer can be watched while it works."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from consumer.sandbox import plot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from consumer.sandbox.broker import EmbeddedBroker, NewRecord
    from consumer.sandbox.samples import Sample

_EARLIEST_SECONDS = 0.02
"""How much ahead of its pace it may be: a wait for each record would be slower than the pace."""


class PacedProducer:
    """Produces the samples on a thread of its own, spread over `plot.PRODUCING_SECONDS`."""

    def __init__(self, broker: EmbeddedBroker, samples: Sequence[Sample]) -> None:
        self._broker = broker
        self._samples = samples
        self._stopped = threading.Event()
        self._task: asyncio.Task[int] | None = None
        self.produced = 0
        self.began_at = 0.0

    def start(self) -> None:
        """Begins; `produced` counts from now on."""
        self.began_at = time.time()
        work = asyncio.to_thread(self._broker.produce, plot.TOPIC, self._paced())
        self._task = asyncio.create_task(work)

    @property
    def done(self) -> bool:
        """Whether the broker has everything."""
        return self._task is not None and self._task.done()

    def check(self) -> None:
        """Raises what went wrong, if anything did.

        Raises:
            BrokerError: a record was refused or pushed out.
        """
        if self._task is not None and self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """Ends it, before its time if need be. Twice does no harm."""
        self._stopped.set()
        if self._task is not None:
            await asyncio.wait({self._task})
            self._task.exception()  # whoever wanted to know it has asked `check`

    def _paced(self) -> Iterator[NewRecord]:
        began = time.monotonic()
        total = len(self._samples)
        for number, sample in enumerate(self._samples):
            due = began + plot.PRODUCING_SECONDS * number / total
            early = due - time.monotonic()
            if self._stopped.wait(early) if early > _EARLIEST_SECONDS else self._stopped.is_set():
                return
            self.produced = number + 1
            # The time of producing, which end-to-end times are counted from.
            yield sample.record()._replace(timestamp=-1)
