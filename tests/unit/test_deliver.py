"""Attempts, retries, and the search for the guilty event of a refused batch."""

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
from consumer.engine import EngineSettings
from consumer.event import ATTEMPTS_KEPT, Destination, EventSource
from consumer.hold_gate import GateState
from consumer.limits import RetryPolicy
from consumer.verdict import Answer
from tests.support.world import PIXEL, START_MS, TIMEOUT, World, code, event, ok

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from consumer.requests import Request

HOUR, DAY = 3600.0, 24 * 3600.0
SELDOM = EngineSettings(commit_interval=120.0, session_timeout=3000.0)
"""Proves its membership every two minutes, so that a day is not too long to play."""

WORDINGS = (
    "Invalid value for data. {} .event_id: not a valid string.",
    "Invalid value for data.{}.event_id: not a valid string.",
    "Batch.{}.properties.contents.0.content_id: Not a valid string",
)
NOBODY = "Invalid value for event_id: not a valid string."


def ids(request: Request) -> list[str]:
    """The event_ids of a request, in order."""
    return [orjson.loads(body)["event_id"] for body in request.events]


class Strict:
    """Refuses a request that holds a guilty event, in one wording; counts what it accepts."""

    def __init__(self, guilty: set[str], wording: str, *, status: int = 200) -> None:
        self.guilty = guilty
        self.wording = wording
        self.status = status
        self.accepted: Counter[str] = Counter()

    def __call__(self, request: Request) -> Answer:
        """An answer as TikTok gives it: the first guilty event fails the whole request."""
        sent = ids(request)
        for index, event_id in enumerate(sent):
            if event_id in self.guilty:
                return code(40002, self.wording.format(index), status=self.status)
        self.accepted.update(sent)
        return ok()


def one_batch(answer: Callable[[Request], Answer | None], number: int, **fields: object) -> World:
    """A world that was given one full batch of so many events."""
    world = World(
        answer=answer,
        batch=BatchLimits(max_events=number, linger=1.0),
        **fields,  # type: ignore[arg-type]  # fields of World
    )
    world.assign(0)
    world.produce(*(event(str(n)) for n in range(number)))
    return world


@settings(max_examples=60)
@given(
    number=st.integers(1, 64),
    wording=st.sampled_from((*WORDINGS, NOBODY)),
    data=st.data(),
)
def test_every_good_event_is_accepted_once_and_every_bad_one_refused(
    number: int, wording: str, data: st.DataObject
) -> None:
    """Whoever is guilty and however it is said; and it takes no more requests than it must."""
    guilty = {str(n) for n in data.draw(st.sets(st.integers(0, number - 1), max_size=6))}
    tiktok = Strict(guilty, wording)
    world = one_batch(tiktok, number)
    world.run(2.0)
    expected = {
        n: "dead_lettered:rejected" if str(n) in guilty else "delivered" for n in range(number)
    }
    assert world.outcomes() == expected
    assert tiktok.accepted == Counter(str(n) for n in range(number) if str(n) not in guilty)
    by_bisection = 2 * math.log2(number) + 4
    extra = len(guilty) * (2 if wording != NOBODY else by_bisection)
    assert len(world.requests) <= 1 + extra
    assert world.idle()


def test_an_index_is_that_of_the_request_as_sent() -> None:
    """After one guilty event is out, the next index counts in what is left."""
    world = one_batch(Strict({"1", "3", "4"}, WORDINGS[0]), 6)
    world.run(1.0)
    sent = ["".join(ids(request)) for request in world.requests]
    assert sent == ["012345", "1", "02345", "3", "0245", "4", "025"]


def test_an_index_that_the_request_does_not_have_blames_nobody() -> None:
    """Nobody is refused on such a message: the batch is bisected."""
    world = one_batch(Strict({"2"}, "Invalid value for data.99.event_id: wrong"), 4)
    world.run(1.0)
    assert [n for n, o in world.outcomes().items() if o != "delivered"] == [2]


@pytest.mark.parametrize("name", ["event_source", "event_source_id"])
def test_an_envelope_error_holds_the_destination_and_never_splits(name: str) -> None:
    """The set-up is wrong, no event: all stay, together, until it is mended; with an alert."""
    answers = [code(40002, f"Invalid value for {name}: not valid.")] * 5
    world = one_batch(lambda _request: answers.pop() if answers else ok(), 8)
    world.run(0.01)
    hold = world.delivery.queues[world.destinations[0]].gates.hold
    assert hold.state is GateState.HELD
    assert hold.reason is not None
    assert name in hold.reason
    (first,) = world.delivery.queues[world.destinations[0]].ready[0].items[0].attempts
    assert (first.verdict, first.alert) == ("held", True)
    world.run(400.0)
    assert {len(request.events) for request in world.requests} == {8}
    assert set(world.outcomes().values()) == {"delivered"}


def test_a_test_code_that_came_with_events_is_their_fault() -> None:
    """All events of the request carry it, so all are refused, and the destination goes on."""

    def answer(request: Request) -> Answer:
        bad = request.test_event_code == "WRONG"
        return code(40002, "Invalid value for test_event_code: wrong.") if bad else ok()

    world = World(answer=answer)
    world.assign(0)
    world.produce(event("a", test_event_code="WRONG"), event("b", test_event_code="WRONG"))
    world.produce(event("c"))
    world.run(1.0)
    assert world.outcomes() == {
        0: "dead_lettered:rejected",
        1: "dead_lettered:rejected",
        2: "delivered",
    }
    assert len(world.requests) == 2


def test_a_wrong_test_code_of_the_destination_holds_it() -> None:
    """A mistake in the configuration dead-letters nobody."""
    world = World(
        answer=lambda _request: code(40002, "Invalid value for test_event_code: wrong."),
        destinations=(Destination(EventSource.WEB, PIXEL, test_event_code="MINE"),),
    )
    world.assign(0)
    world.produce(event("a"), event("b"))
    world.run(60.0)
    assert world.outcomes() == {}
    assert world.delivery.queues[world.destinations[0]].gates.hold.state is GateState.HELD


def test_a_request_that_is_too_large_is_split_until_it_is_not() -> None:
    """HTTP 413 names nobody; events that are too large even alone are dead letters."""

    def gateway(request: Request) -> Answer:
        sent = ids(request)
        return Answer(413, b"too large") if len(sent) > 3 or "5" in sent else ok()

    world = one_batch(gateway, 16)
    world.run(1.0)
    refused = {n: o for n, o in world.outcomes().items() if o != "delivered"}
    assert refused == {5: "dead_lettered:too_large"}
    assert len(world.outcomes()) == 16


def test_a_code_beside_http_413_decides() -> None:
    """The body speaks first: this event is refused for what TikTok says, not for its size."""
    world = one_batch(Strict({"0"}, WORDINGS[1], status=413), 2)
    world.run(1.0)
    assert world.outcomes() == {0: "dead_lettered:rejected", 1: "delivered"}


def test_a_refusals_text_is_redacted() -> None:
    """TikTok's message may quote the value; the dead letter's header does not."""
    message = "Invalid value for data.0.user.email: 'jane@shop.example' is not valid."
    world = one_batch(lambda _request: code(40002, message), 1)
    world.run(1.0)
    headers = dict(world.letters[0].headers)
    assert b"jane" not in b"".join(value or b"" for value in headers.values())
    assert headers["dlq.field"] == b"user.email"
    assert headers["dlq.detail"]


# Partly


def partial(failed: Sequence[object]) -> Answer:
    """20001, naming failed events."""
    body = {"code": 20001, "message": "partial", "request_id": "r", "data": {"failed": failed}}
    return Answer(200, orjson.dumps(body))


@pytest.mark.parametrize(
    ("failed", "refused"),
    [
        ([], set()),
        ([{"index": 1}], {1}),
        ([{"event_id": "2"}], {2}),
        ([{"index": 0}, {"event_id": "3"}], {0, 3}),
        ([{"index": 99}, {"index": -1}, {"event_id": "nobody"}, {"index": "1"}], set()),
        ([{"event_id": 1}], set()),
    ],
)
def test_a_partial_success_is_never_resent(failed: Sequence[object], refused: set[int]) -> None:
    """What it names is dead-lettered, everything else is delivered and marked."""
    world = one_batch(lambda _request: partial(failed), 4)
    world.run(5.0)
    assert len(world.requests) == 1
    assert world.outcomes() == {
        n: "dead_lettered:rejected" if n in refused else "delivered:partial" for n in range(4)
    }
    assert len(world.stores.keys) == 4 - len(refused)


# Retries


CODES = (50000, 40202, 60001, 40100, 40132, 40001, 40101)
BARE = (Answer(502, b"<html>"), Answer(200, b"<html>"), Answer(404, b"none"), Answer(401, b""))
LOST = tuple(Answer(None, b"", None, why) for why in ("timeout", "connection", "not_sent"))


@pytest.mark.parametrize("trouble", [*LOST, *map(code, CODES), *BARE])
def test_what_is_no_refusal_is_repeated_until_it_is_taken(trouble: Answer) -> None:
    """The same batch, the same events in order, until TikTok takes it."""
    answers = [trouble] * 4
    world = one_batch(lambda _request: answers.pop() if answers else ok(), 3)
    world.run(600.0)
    assert [ids(request) for request in world.requests] == [["0", "1", "2"]] * 5
    assert set(world.outcomes().values()) == {"delivered"}
    assert not world.letters
    assert world.settled[0].attempt_count == 5
    assert world.idle()


def test_maintenance_is_left_in_peace() -> None:
    """60001 asks for a long pause."""
    world = one_batch(lambda _request: code(60001), 1)
    world.run(59.0)
    assert len(world.requests) == 1


def test_an_attempt_tells_what_left_its_events_unknown() -> None:
    """Every attempt with unknown outcome is told with its cause and its events, for counting."""
    answers = [TIMEOUT, TIMEOUT, code(50000)]
    world = one_batch(lambda _request: answers.pop() if answers else ok(), 3)
    world.run(60.0)
    unknown: Counter[str] = Counter()
    for attempt in world.attempts:
        if attempt.verdict == "retry":
            unknown[attempt.error or str(attempt.code)] += attempt.events
    assert unknown == {"timeout": 6, "50000": 3}


def test_an_item_keeps_its_latest_attempts_and_counts_all() -> None:
    """A long outage costs no memory."""
    answers = [TIMEOUT] * 40
    world = one_batch(
        lambda _request: answers.pop() if answers else ok(),
        1,
        retry=RetryPolicy(initial=0.1, maximum=0.1),
    )
    world.run(60.0)
    (item,) = world.settled
    assert item.attempt_count == 41
    assert len(item.attempts) == ATTEMPTS_KEPT
    assert item.attempts[-1] is world.attempts[-1]
    assert (item.tiktok_code, item.http_status, item.request_id) == (0, 200, "r")


def test_an_attempt_is_linked_with_every_event_in_it() -> None:
    """All of a batch, not the first hundred and some."""
    world = one_batch(lambda _request: ok(), 300)
    (attempt,) = world.attempts
    assert attempt.linked == [item.trace for item in world.settled]
    assert (attempt.events, attempt.verdict, attempt.code) == (300, "accepted", 0)


@pytest.mark.parametrize("give_up_after", [60.0, HOUR, DAY])
def test_an_unknown_outcome_is_repeated_only_until_it_is_given_up(give_up_after: float) -> None:
    """From the first unknown attempt, and no attempt begins after that time."""
    retry = RetryPolicy(give_up_after / 100, give_up_after / 50, give_up_after)
    world = one_batch(lambda _request: TIMEOUT, 2, retry=retry, settings=SELDOM)
    world.run(give_up_after * 1.2)
    assert set(world.outcomes().values()) == {"dead_lettered:retries_exhausted"}
    assert len(world.outcomes()) == 2
    first, last = world.attempts[0].started.mono, world.attempts[-1].started.mono
    assert give_up_after * 0.9 < last - first < give_up_after
    assert world.idle()


def test_events_are_not_given_up_while_they_are_only_refused_definitely() -> None:
    """A throttle or a hold says that TikTok took nothing: they wait until they are too old."""
    destination = Destination(EventSource.WEB, PIXEL, max_age_ms=1_800_000)
    world = one_batch(
        lambda _request: code(40101),
        2,
        destinations=(destination,),
        retry=RetryPolicy(give_up_after=600.0),
    )
    world.run(1780.0)
    assert world.outcomes() == {}
    assert world.delivery.queues[destination].gates.hold.state is GateState.HELD
    world.run(80.0)
    assert set(world.outcomes().values()) == {"dead_lettered:too_old"}
    assert world.clock.wall_ms - START_MS > destination.max_age_ms
    assert world.idle()


def test_one_unknown_attempt_is_enough_to_give_up_while_held() -> None:
    """So long after it, a repeat might count twice: the hold does not prolong it."""
    answers = [TIMEOUT]
    world = one_batch(
        lambda _request: answers.pop() if answers else code(40101),
        1,
        retry=RetryPolicy(give_up_after=600.0),
    )
    world.run(580.0)
    assert world.outcomes() == {}
    world.run(40.0)
    assert world.outcomes() == {0: "dead_lettered:retries_exhausted"}


def test_nothing_is_sent_after_a_long_sleep_of_the_machine() -> None:
    """What is over when the process wakes up is a dead letter, not one more attempt."""
    world = one_batch(lambda _request: TIMEOUT, 2)
    world.run(1.0)
    sent = len(world.requests)
    world.clock.advance(3 * DAY)
    world.tick()
    world.run(60.0)
    assert len(world.requests) == sent
    assert set(world.outcomes().values()) == {"dead_lettered:retries_exhausted"}


def test_a_batch_that_only_has_expired_events_takes_no_probes_place() -> None:
    """Events that are over do not use up the one attempt that a held destination gets."""
    short = Destination(EventSource.WEB, PIXEL, max_age_ms=600_000)
    world = one_batch(lambda _request: None, 1, destinations=(short,))
    world.reply(code(40001))
    world.clock.advance(601.0)
    world.produce(event("young", event_time=world.clock.wall_ms))
    world.run(61.0)
    assert [ids(request) for request in world.in_air] == [["young"]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_any_mix_of_trouble_ends_with_every_event_accepted_or_refused(seed: int) -> None:
    """Time-outs, throttles, holds and refusals in any order: one outcome for each event."""
    rng = random.Random(seed)
    number = rng.randint(1, 30)
    tiktok = Strict({str(n) for n in range(number) if rng.random() < 0.2}, rng.choice(WORDINGS))
    trouble = (TIMEOUT, code(50000), code(40100), code(40132), code(40101), Answer(429, b"", "3"))

    def answer(request: Request) -> Answer:
        return rng.choice(trouble) if rng.random() < 0.5 else tiktok(request)

    world = one_batch(answer, number)
    for _ in range(72):
        if len(world.settled) < number:
            world.run(100.0)
    assert set(tiktok.accepted.values()) <= {1}
    for n, outcome in world.outcomes().items():
        assert outcome == ("dead_lettered:rejected" if str(n) in tiktok.guilty else "delivered")
    assert len(world.settled) == number
    assert world.idle()


def test_events_that_have_to_wait_anyway_go_on_filling_their_batch() -> None:
    """Behind a closed gate no small batches pile up: one large request goes when it opens."""
    world = World(answer=lambda _request: None, batch=BatchLimits(max_events=100, linger=0.1))
    world.assign(0)
    world.produce(event("first"))
    world.run(1.0)
    world.reply(code(40100, "too many requests"))
    for number in range(30):
        world.produce(event(f"later-{number}"))
        world.run(0.0)
    world.run(120.0)
    world.reply(ok())
    world.run(5.0)
    assert [len(request.events) for request in world.requests] == [1, 1, 30]
