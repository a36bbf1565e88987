"""A running emitter, for as long as a test needs one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from consumer.emit import Emitter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from consumer.messages import Acknowledged, Produce

_TIMEOUT = 40.0


class Emitting:
    """An emitter and what it has reported."""

    def __init__(self, properties: Mapping[str, str]) -> None:
        self.reports: list[Acknowledged] = []
        self._reported = asyncio.Event()
        self.emitter = Emitter(properties, self._take, asyncio.get_running_loop())

    def _take(self, reports: Sequence[Acknowledged]) -> None:
        self.reports += reports
        self._reported.set()

    async def produced(self, records: Sequence[Produce]) -> list[Acknowledged]:
        """Produces records; returns the reports on them, in order, once they are there."""
        before = len(self.reports)
        self.emitter.produce(records)
        async with asyncio.timeout(_TIMEOUT):
            while len(self.reports) < before + len(records):
                self._reported.clear()
                await self._reported.wait()
        return self.reports[before:]

    async def produced_at_last(self, record: Produce) -> int | None:
        """Produces a record again and again, as the engine does; returns its offset."""
        async with asyncio.timeout(_TIMEOUT):
            while True:
                (report,) = await self.produced([record])
                if report.error is None:
                    return report.offset
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def emitting(bootstrap_servers: str, **properties: str) -> AsyncIterator[Emitting]:
    """An emitter that runs; at the end, everything given to it must have been reported on."""
    running = Emitting({"bootstrap.servers": bootstrap_servers, **properties})
    running.emitter.start()
    yield running
    assert await running.emitter.stop(_TIMEOUT), "reports are missing"


async def emitted(
    bootstrap_servers: str, records: Sequence[Produce], **properties: str
) -> list[Acknowledged]:
    """What was reported on these records, in order."""
    async with emitting(bootstrap_servers, **properties) as running:
        running.emitter.produce(records)
    return running.reports
