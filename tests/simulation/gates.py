"""Limits that every request passes, retries too: how many at once, and one probe at a shut door."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consumer.verdict import Answer
    from tests.simulation.clock import Clock
    from tests.simulation.process import Process
    from tests.simulation.schedule import Setup
    from tests.simulation.tiktok import Call
    from tests.simulation.verdicts import Notes

_REFUSES_ALL = (b'{"code":40100,', b'{"code":40105,')
"""Beginnings of answers that concern everything that shares the token."""

_SHUTS = (*_REFUSES_ALL, b'{"code":40132,', b'{"code":40001,')
_LETS_IN = (b'{"code":0,', b'{"code":20001,', b'{"code":40002,')


class Gates:
    """What each process has heard of each pixel, and how many of its requests are on their way."""

    def __init__(self, clock: Clock, setup: Setup, notes: Notes) -> None:
        self._clock = clock
        self._setup = setup
        self._notes = notes
        self._shut_at: dict[tuple[Process, int], float] = {}
        self._closed_at: dict[tuple[Process, int], float] = {}
        """When a refusal was last heard that was news: requests from before it do not open."""

    def decided(self, process: Process, call: Call) -> None:
        """A request is to be sent."""
        call.decided = self._clock.now
        together = [other for other in process.calls.values() if other.pixel == call.pixel]
        if len(together) > self._setup.concurrency:
            what = f"{process.name} has {len(together)} requests for pixel {call.pixel}"
            self._notes.fail("concurrency", f"{what} on their way, of {self._setup.concurrency}")
        shut_at = self._shut_at.get((process, call.pixel))
        if shut_at is not None and sum(other.decided > shut_at for other in together) > 1:
            what = f"{process.name} sends more than a probe to pixel {call.pixel}"
            self._notes.fail("probe", f"{what}, which refused it at {shut_at:.3f} s")

    def answered(self, process: Process, call: Call, answer: Answer) -> None:
        """A process has heard what became of a request."""
        body = answer.body
        if body.startswith(_LETS_IN):
            if self._is_news(process, call.pixel, call):
                self._shut_at.pop((process, call.pixel), None)
        elif body.startswith(_SHUTS):
            every = self._setup.shared_token and body.startswith(_REFUSES_ALL)
            for pixel in range(self._setup.pixels) if every else (call.pixel,):
                where = process, pixel
                if self._is_news(process, pixel, call):
                    self._shut_at[where] = self._closed_at[where] = self._clock.now
                else:
                    self._shut_at.setdefault(where, self._clock.now)

    def _is_news(self, process: Process, pixel: int, call: Call) -> bool:
        """Whether a request is from after the last refusal that was."""
        return call.decided > self._closed_at.get((process, pixel), -math.inf)
