"""The guilty events of a large batch are found, and nobody else is blamed for them."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import TYPE_CHECKING

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.batch import BatchLimits
from consumer.sandbox.faults import Scenario
from consumer.sandbox.rules import IndexWording
from tests.support.emulated import Emulated, bad_event
from tests.support.world import PIXEL, World, code, event, ok

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from consumer.requests import Request
    from consumer.verdict import Answer

EVENTS = 1000


def world_of(
    answer: Callable[[Request], Answer | None], number: int, bad: Collection[int] = ()
) -> World:
    """A world that was given one full batch of so many events, some of which TikTok refuses."""
    world = World(
        answer=answer,
        batch=BatchLimits(max_events=number, linger=1.0),
        requests_per_second=1e6,
        max_concurrency=8,
    )
    world.assign(0)
    world.produce(*(bad_event(str(n)) if n in bad else event(str(n)) for n in range(number)))
    return world


def most_requests(guilty: int, number: int, wording: IndexWording) -> float:
    """Named events cost two requests each; the others what bisection needs."""
    each = 2 * math.log2(number) + 4 if wording is IndexWording.NONE else 2
    return 1 + guilty * each


@pytest.mark.parametrize("wording", IndexWording)
@pytest.mark.parametrize("guilty", [1, 3, 50])
def test_of_a_thousand_events_only_the_bad_ones_are_refused(
    wording: IndexWording, guilty: int
) -> None:
    """Against the emulator's rules: every good one once, every bad one with code and request id."""
    bad = set(random.Random(f"{wording}{guilty}").sample(range(EVENTS), guilty))
    emulated = Emulated(Scenario(wording=wording))
    world = world_of(emulated, EVENTS, bad)
    world.run(30.0)

    assert world.outcomes() == {
        n: "dead_lettered:rejected" if n in bad else "delivered" for n in range(EVENTS)
    }
    assert emulated.accepted() == Counter(str(n) for n in range(EVENTS) if n not in bad)
    for letter in world.letters:
        headers = dict(letter.headers)
        assert headers["dlq.tiktok.code"] == b"40002"
        assert headers["dlq.tiktok.request_id"] in emulated.request_ids
        assert headers["dlq.field"] == b"properties"
    assert len(world.letters) == guilty
    assert len(world.requests) <= most_requests(guilty, EVENTS, wording)
    assert world.idle()


def misleading(place: Callable[[int, int], int], accepted: Counter[str]) -> Callable[..., Answer]:
    """A TikTok that names a wrong place: `place` of the guilty one, in a request of so many."""

    def answer(request: Request) -> Answer:
        events = [orjson.loads(body) for body in request.events]
        bad = [n for n, found in enumerate(events) if found["event_id"].startswith("bad")]
        if not bad:
            accepted.update(found["event_id"] for found in events)
            return ok()
        told = place(bad[0], len(events))
        return code(40002, f"Invalid value for data.{told}.event_id: wrong")

    return answer


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda at, _of: at + 1, id="one too far"),
        pytest.param(lambda at, _of: at - 1, id="one too near"),
        pytest.param(lambda _at, _of: 0, id="always the first"),
        pytest.param(lambda _at, of: of - 1, id="always the last"),
        pytest.param(lambda at, of: (at + of // 2) % of, id="far off"),
    ],
)
def test_a_wrong_place_blames_no_good_event(place: Callable[[int, int], int]) -> None:
    """A named event is asked about alone; when it is taken, places are not believed any more."""
    accepted: Counter[str] = Counter()
    world = World(
        answer=misleading(place, accepted),
        batch=BatchLimits(max_events=200, linger=1.0),
        requests_per_second=1e6,
    )
    world.assign(0)
    names = [f"bad{n}" if n in (17, 18, 140) else f"good{n}" for n in range(200)]
    world.produce(*map(event, names))
    world.run(30.0)
    refused = {n for n, outcome in world.outcomes().items() if outcome != "delivered"}
    assert refused == {17, 18, 140}
    assert accepted == Counter(name for name in names if name.startswith("good"))
    assert len(world.requests) <= 1 + 3 * (2 * math.log2(200) + 4) + 8
    assert world.idle()


@settings(max_examples=100, deadline=None)
@given(
    number=st.integers(1, 40),
    bad=st.sets(st.integers(0, 39), max_size=8),
    seed=st.integers(0, 2**32),
)
def test_no_message_whatsoever_makes_a_good_event_a_dead_letter(
    number: int, bad: set[int], seed: int
) -> None:
    """Places that are right, wrong, absurd or missing, at random: all good ones are taken once."""
    rng, accepted = random.Random(seed), Counter[str]()

    def place(at: int, of: int) -> int:
        return rng.choice((at, rng.randrange(of), of + 3, 0))

    world = World(
        answer=misleading(place, accepted),
        batch=BatchLimits(max_events=number, linger=1.0),
        requests_per_second=1e6,
    )
    world.assign(0)
    names = [f"bad{n}" if n in bad else f"good{n}" for n in range(number)]
    world.produce(*map(event, names))
    world.run(30.0)
    refused = {n for n, outcome in world.outcomes().items() if outcome != "delivered"}
    assert refused == {n for n in bad if n < number}
    assert accepted == Counter(name for name in names if name.startswith("good"))
    assert world.idle()


def test_an_error_of_the_envelope_is_never_split() -> None:
    """A thousand events wait together, and go together when it is mended."""
    emulated = Emulated(Scenario())
    answers = [code(40002, "Invalid value for event_source_id: unknown.")] * 5
    world = world_of(lambda request: answers.pop() if answers else emulated(request), EVENTS)
    world.run(400.0)
    assert {len(request.events) for request in world.requests} == {EVENTS}
    assert set(world.outcomes().values()) == {"delivered"}
    assert {request.event_source_id for request in world.requests} == {PIXEL}
