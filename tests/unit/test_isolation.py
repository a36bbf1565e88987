"""Whatever one destination does for a minute, another one under the same load does not notice."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

import orjson
import pytest

from consumer.batch import BatchLimits
from consumer.engine import EngineSettings
from consumer.event import Destination, EventSource, TopicPartition
from consumer.verdict import Answer
from tests.support.world import OTHER_PIXEL, PIXEL, RETRY, TIMEOUT, TOPIC, World, code, event, ok

if TYPE_CHECKING:
    from consumer.requests import Request

NAMES = (PIXEL, OTHER_PIXEL, *(f"C9MORE{n}234567890DEFG" for n in range(8)))
PIXELS = tuple(Destination(EventSource.WEB, name) for name in NAMES)
BOUND = 60
"""Events in flight; the sick destination's backlog comes to ten times as many and more."""

EVERY, EACH = 0.05, 2
"""Seconds between two looks at the source, and the events of each pixel that came in between."""

MINUTE = 30.0
"""Half of one, to be exact: the time in which a destination is sick."""

LATENCY = 0.15
SHARE = 0.95

KINDS: dict[str, tuple[Answer, float]] = {
    "token refused": (code(40105), LATENCY),
    "pixel refused": (code(40001), LATENCY),
    "set-up wrong": (code(40300), LATENCY),
    "envelope refused": (code(40002, "Invalid value for event_source_id: unknown."), LATENCY),
    "app throttled": (code(40100), LATENCY),
    "pixel throttled": (code(40132), LATENCY),
    "HTTP 429 with Retry-After": (Answer(429, b"", "2"), LATENCY),
    "no answer": (TIMEOUT, 10.0),
    "reset": (Answer(None, b"", None, "connection"), LATENCY),
    "unreachable": (Answer(None, b"", None, "not_sent"), LATENCY),
    "HTTP 503": (Answer(503, b"<html>"), LATENCY),
    "50000": (code(50000), LATENCY),
    "maintenance": (code(60001), LATENCY),
    "slow": (ok(), 8.0),
}
"""What the sick destination answers, and after how many seconds."""


class Street:
    """A source with events for some pixels, in turn, and a TikTok that answers in time."""

    def __init__(self, pixels: int = 2) -> None:
        self.pixels = NAMES[:pixels]
        bound = BOUND * pixels // 2
        self.world = World(
            answer=self._later,
            destinations=PIXELS[:pixels],
            batch=BatchLimits(max_events=10, linger=0.1),
            settings=EngineSettings(max_in_flight_events=bound),
            max_concurrency=16,
            parks=True,
        )
        self.world.take_over(0)
        self.sick: dict[str, tuple[Answer, float]] = {}
        self.accepted: Counter[str] = Counter()
        self.produced = 0
        self.most = 0
        self._due: list[tuple[float, int, Request, Answer]] = []
        self._numbers = itertools.count()

    def _later(self, request: Request) -> None:
        answer, seconds = self.sick.get(request.event_source_id, (ok(), LATENCY))
        entry = (self.world.clock.mono + seconds, next(self._numbers), request, answer)
        heapq.heappush(self._due, entry)

    def pass_by(self, seconds: float, *, each: int = EACH) -> None:
        """Time passes, in which so many events come for each pixel at every look."""
        for _ in range(round(seconds / EVERY)):
            self.world.append(
                *(
                    event(f"{pixel}-{self.produced + n}", event_source_id=pixel)
                    for n in range(each)
                    for pixel in self.pixels
                )
            )
            self.produced += each
            self._look()

    def _look(self) -> None:
        world = self.world
        for topic in (TOPIC, RETRY):
            if world.flowing and TopicPartition(topic, 0) not in world.paused:
                world.read(0, most=2 * EACH * len(self.pixels), topic=topic)
        self.most = max(self.most, world.engine.in_flight.events)
        world.run(EVERY)
        while self._due and self._due[0][0] <= world.clock.mono:
            _, _, request, answer = heapq.heappop(self._due)
            if answer == ok():
                sent = (orjson.loads(body)["event_id"] for body in request.events)
                self.accepted.update(sent)
            world.reply(answer, request)

    def taken(self, pixel: str) -> int:
        """How many events of a pixel TikTok has."""
        return sum(name.startswith(pixel) for name in self.accepted)


@cache
def healthy(pixels: int = 2) -> int:
    """What a pixel gets through in the same time with neighbours that are well."""
    street = Street(pixels)
    street.pass_by(5.0 + MINUTE)
    return street.taken(OTHER_PIXEL)


@pytest.mark.parametrize("kind", KINDS)
def test_one_sick_destination_never_slows_another(kind: str) -> None:
    """The other has its throughput, nothing is dead-lettered, and everything comes in the end.

    Once each: except where nobody could know whether it had come, nothing is sent twice.
    """
    street = Street()
    street.pass_by(5.0)
    street.sick = {PIXEL: KINDS[kind]}
    street.pass_by(MINUTE)
    share = street.taken(OTHER_PIXEL) / healthy()
    assert share >= SHARE, f"{share:.1%} of its throughput"
    assert street.most <= BOUND + 8 * EACH
    assert street.produced - street.taken(PIXEL) > 9 * BOUND
    assert street.world.parked

    street.sick = {}
    street.pass_by(90.0, each=0)
    assert street.world.letters == []
    for pixel in (PIXEL, OTHER_PIXEL):
        assert street.taken(pixel) == street.produced
    assert set(street.accepted.values()) == {1}
    assert street.world.idle()


@pytest.mark.parametrize("seed", range(2))
def test_eight_sick_ones_of_ten_do_not_slow_the_other_two(seed: int) -> None:
    """Each sick in its own way: the bounds are shared fairly among any number."""
    rng = random.Random(seed)
    street = Street(10)
    street.pass_by(5.0)
    street.sick = {pixel: KINDS[rng.choice(list(KINDS))] for pixel in NAMES[2:]}
    street.pass_by(MINUTE)
    for pixel in NAMES[:2]:
        assert street.taken(pixel) >= SHARE * healthy(10)
    street.sick = {}
    street.pass_by(150.0, each=0)
    assert street.world.letters == []
    assert set(street.accepted.values()) == {1}
    assert {street.taken(pixel) for pixel in NAMES} == {street.produced}
    assert street.world.idle()


def test_two_that_are_well_copy_nothing() -> None:
    """Parking is for trouble: a busy minute with none leaves the retry topic empty."""
    street = Street()
    street.pass_by(MINUTE)
    assert not street.world.parked


def test_two_that_are_both_slow_copy_nothing() -> None:
    """Nobody would have anything of it: the source waits instead."""
    street = Street()
    street.world.answer = lambda _request: None
    street.pass_by(MINUTE)
    assert not street.world.parked
    assert not street.world.flowing


def test_a_new_token_lets_all_flow_at_once() -> None:
    """Not at the next probe, which may be a minute away; each event is sent once."""
    street = Street()
    street.pass_by(5.0)
    street.sick = {PIXEL: KINDS["token refused"]}
    street.pass_by(MINUTE)
    before = street.taken(PIXEL)
    street.sick = {}
    world = street.world
    world._do(world.engine.token_changed([PIXELS[0]], world.clock.now))
    street.pass_by(0.5, each=0)
    assert street.taken(PIXEL) > before
    street.pass_by(60.0, each=0)
    assert street.taken(PIXEL) == street.produced
    assert set(street.accepted.values()) == {1}
