"""The simulated TikTok: takes events, or does not, says so, or does not; and keeps the truth."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, NamedTuple

import orjson

from consumer.verdict import Answer
from tests.simulation.schedule import Weather

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from consumer.state_log import StateLog
    from tests.simulation.clock import Clock
    from tests.simulation.schedule import Setup, Trouble

BAD = "/bad/"
"""Part of the page address of an event that TikTok never takes."""

PERSON = "the-same-person"
"""Whose events all are: nothing of it, not as a digest either, may be sent without consent."""


class Sent(NamedTuple):
    """An event of a request."""

    event_id: str
    bad: bool


class Call:
    """A request on its way; `answer` tells the process what came back, at most once.

    `decided` is when an engine wanted it sent, `began` when it was written (seconds, -inf before).
    `states` are the memories of the
    partitions whose events are in it.
    """

    __slots__ = ("answer", "began", "decided", "ended", "events", "pixel", "serial", "states")

    def __init__(
        self, serial: int, pixel: int, events: Sequence[Sent], answer: Callable[[Answer], None]
    ) -> None:
        self.serial = serial
        self.pixel = pixel
        self.events = events
        self.answer = answer
        self.decided = -math.inf
        self.began = -math.inf
        self.ended = False
        self.states: dict[int, StateLog] = {}


_LOST: dict[Weather, tuple[bool, Answer | None]] = {
    Weather.ACCEPT_HANG: (True, None),
    Weather.HANG: (False, None),
    Weather.ACCEPT_BREAK: (True, Answer(None, b"", None, "connection")),
    Weather.BREAK: (False, Answer(None, b"", None, "connection")),
    Weather.ACCEPT_ERROR: (True, Answer(200, b'{"code":50000,"message":"internal"}')),
    Weather.ERROR: (False, Answer(200, b'{"code":50000,"message":"internal"}')),
    Weather.PAGE: (False, Answer(502, b"<html>bad gateway</html>")),
}
"""Weather in which nobody learns whether events were taken: whether they are, and what comes."""

_REFUSED: dict[Weather, Answer] = {
    Weather.THROTTLE_APP: Answer(200, b'{"code":40100,"message":"too fast"}'),
    Weather.THROTTLE_PIXEL: Answer(200, b'{"code":40132,"message":"too fast"}', "2"),
    Weather.HOLD_TOKEN: Answer(200, b'{"code":40105,"message":"token"}'),
    Weather.HOLD_PIXEL: Answer(200, b'{"code":40001,"message":"no permission"}'),
    Weather.MAINTENANCE: Answer(200, b'{"code":60001,"message":"maintenance"}'),
    Weather.UNREACHABLE: Answer(None, b"", None, "not_sent"),
}
"""Weather in which a request is refused for certain, and what comes back."""

_SHARED = frozenset({Weather.THROTTLE_APP, Weather.HOLD_TOKEN})


class TikTok:
    """Answers requests by its weather, which the schedule's troubles make.

    `on_accept` is told of the events that are taken, with the request that brought them.
    """

    def __init__(
        self,
        clock: Clock,
        setup: Setup,
        seed: int | str,
        on_accept: Callable[[Call, Sequence[Sent]], None],
    ) -> None:
        self._clock = clock
        self._setup = setup
        self._rng = random.Random(f"{seed}/tiktok")
        self._on_accept = on_accept
        self._weather: dict[int, list[tuple[float, Trouble]]] = {}

    def change(self, trouble: Trouble) -> None:
        """The weather of a pixel changes for a while; what concerns an app, that of all of it."""
        pixels = [trouble.target]
        if trouble.weather in _SHARED and self._setup.shared_token:
            pixels = list(range(self._setup.pixels))
        for pixel in pixels:
            ends = self._clock.now + trouble.seconds
            self._weather.setdefault(pixel, []).append((ends, trouble))

    def calm(self) -> None:
        """All is well from now on."""
        self._weather.clear()

    def take(self, call: Call) -> None:
        """A request was sent."""
        rng, clock = self._rng, self._clock
        arrives = 0.005 + 0.03 * rng.random()
        answers = 0.02 + 0.2 * rng.random()
        weather = self._meets(call)
        timeout = self._setup.request_timeout
        if weather in _REFUSED:
            self._reply(call, _REFUSED[weather], arrives + answers)
        elif weather in _LOST:
            taken, answer = _LOST[weather]
            if taken:
                clock.after(arrives, lambda: self._accept(call, call.events))
            if answer is not None:
                self._reply(call, answer, arrives + answers)
        elif weather is Weather.ACCEPT_LATE:
            clock.after(timeout + 2 * rng.random(), lambda: self._accept(call, call.events))
        else:
            if weather is Weather.SLOW:
                answers = timeout * (0.2 + 0.9 * rng.random())
            partial = weather is Weather.PARTIAL
            clock.after(arrives, lambda: self._process(call, answers, partial=partial))

    def _meets(self, call: Call) -> Weather | None:
        troubles = self._weather.get(call.pixel)
        if not troubles:
            return None
        now = self._clock.now
        troubles[:] = [entry for entry in troubles if entry[0] > now]
        for _, trouble in reversed(troubles):
            if self._rng.random() < trouble.share:
                return trouble.weather
        return None

    def _process(self, call: Call, answers: float, *, partial: bool) -> None:
        """What TikTok does when all is well: a single bad event makes it refuse the request."""
        bad = [index for index, sent in enumerate(call.events) if sent.bad]
        if not bad:
            self._accept(call, call.events)
            answer = b'{"code":0,"message":"OK","request_id":"r%d","data":{}}' % call.serial
        elif partial and len(bad) < len(call.events):
            self._accept(call, [sent for sent in call.events if not sent.bad])
            failed = [{"index": index} for index in bad]
            answer = orjson.dumps({"code": 20001, "message": "part", "data": {"failed": failed}})
        else:
            where = f"data.{bad[0]}." if self._setup.names_guilty else ""
            message = f"Invalid value for {where}page.url: not valid."
            answer = orjson.dumps({"code": 40002, "message": message, "request_id": "r"})
        self._reply(call, Answer(200, answer), answers)

    def _accept(self, call: Call, events: Sequence[Sent]) -> None:
        self._on_accept(call, [sent for sent in events if not sent.bad])

    def _reply(self, call: Call, answer: Answer, seconds: float) -> None:
        self._clock.after(seconds, lambda: call.answer(answer))
