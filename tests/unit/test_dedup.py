"""The same event twice: on its way, accepted before, or refused and corrected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.batch import BatchLimits
from consumer.dedup import KEY_BYTES, InFlight, Keys, within_window
from consumer.engine import EngineSettings
from consumer.event import Consent, ConsentState, Destination, EventSource, Mapped
from consumer.messages import LookUp, Send, Settled, StoreMarks
from tests.support.world import OTHER_PIXEL, PIXEL, TIMEOUT, World, code, event, ok

HOUR = 3600.0
UNKNOWN = ConsentState.UNKNOWN
CONSENT = Consent(UNKNOWN, UNKNOWN, UNKNOWN, None, None, True, False, None)
BAD_EVENT = code(40002, "Invalid value for data.0.event_id: not valid.")


def key(source_id: str, name: str, event_id: str, test_code: str | None) -> bytes:
    """The key of an event with these parts."""
    destination = Destination(EventSource.WEB, source_id)
    mapped = Mapped(destination, name, event_id, 0, test_code, b"{}", (), CONSENT, (), ())
    return KEYS.key(mapped)


KEYS = Keys()
PARTS = st.tuples(
    st.text(max_size=4), st.text(max_size=4), st.text(max_size=4), st.none() | st.text(max_size=4)
)


@given(PARTS, PARTS)
def test_a_key_stands_for_its_four_parts_and_nothing_else(
    a: tuple[str, str, str, str | None], b: tuple[str, str, str, str | None]
) -> None:
    """Source id, name as sent, event_id and test code: equal keys mean equal parts."""
    assert (key(*a) == key(*b)) is (a == b)
    assert len(key(*a)) == KEY_BYTES


@given(st.text("ab1:", max_size=5), st.text("ab1:", max_size=5), st.integers(0, 10))
def test_a_key_does_not_depend_on_where_one_part_ends(left: str, right: str, at: int) -> None:
    """Letters that move from one part to the next make another event."""
    text = left + right
    cut = min(at, len(text))
    moved = (text[:cut], text[cut:]) != (left, right)
    assert (key(left, right, "e", None) != key(text[:cut], text[cut:], "e", None)) is moved
    assert (key("s", left, right, None) != key("s", text[:cut], text[cut:], None)) is moved


def test_no_test_code_is_another_key_than_an_empty_one() -> None:
    """A test event never consumes the real one's key."""
    assert len({key("s", "n", "e", code) for code in (None, "", "T")}) == 3


def test_keys_are_the_same_in_every_process() -> None:
    """Marks are read by later versions: the digest is part of the stored format."""
    assert key(PIXEL, "CompletePayment", "order-1", None).hex() == (
        "d27d2c2c920140289ae024a354cb7346"
    )
    assert key(PIXEL, "CompletePayment", "order-1", "TEST").hex() == (
        "e3b8d365d9603a7fd6cb36ce737b5804"
    )


def test_keys_remember_a_bounded_number_of_names() -> None:
    """Names and test codes come from outside: any number of them gives right keys."""
    first = key("s", "n0", "e", None)
    for n in range(5000):
        key("s", f"n{n}", "e", None)
    assert key("s", "n0", "e", None) == first
    assert len(KEYS._prefixes) <= 4096


# Accepted before


@given(st.integers(0, 2**45), st.integers(-(2**40), 2**40), st.integers(1, 2**40))
def test_the_window_runs_from_the_acceptance(accepted: int, age: int, window: int) -> None:
    """Within it a repeat is a duplicate; an acceptance from the future counts, too."""
    assert within_window(accepted, accepted + age, window) is (age < window)
    assert not within_window(None, accepted, window)


def test_an_accepted_event_is_not_sent_again_within_the_window() -> None:
    """Before 48 h have passed since the acceptance it is a duplicate, after them an event."""
    world = World()
    world.assign(0)
    world.produce(event())
    world.run(1.0)
    accepted_ms = world.marks[0].marks[0].accepted_ms
    now_ms = world.clock.wall_ms
    world.clock.advance((accepted_ms - world.clock.wall_ms) / 1000 + 48 * HOUR - 0.001)
    world.produce(event(event_time=now_ms))
    assert world.outcomes()[1] == "duplicate"
    world.clock.advance(0.001)
    world.produce(event(event_time=now_ms))
    world.run(1.0)
    assert world.outcomes()[2] == "delivered"
    assert len(world.requests) == 2


def test_the_window_is_a_setting() -> None:
    """A shorter window forgets earlier."""
    world = World(settings=EngineSettings(window=60.0))
    world.assign(0)
    world.produce(event())
    world.run(70.0)
    world.produce(event())
    world.run(1.0)
    assert world.outcomes() == {0: "delivered", 1: "delivered"}


def test_another_name_pixel_or_test_code_is_another_event() -> None:
    """All four are sent, though the event_id is one; the fifth has the name that is sent."""
    names = {"purchase": "CompletePayment"}
    world = World(
        destinations=tuple(
            Destination(EventSource.WEB, pixel, event_names=names) for pixel in (PIXEL, OTHER_PIXEL)
        )
    )
    world.assign(0)
    world.produce(
        event("e", "purchase", event_source_id=PIXEL),
        event("e", "AddToCart", event_source_id=PIXEL),
        event("e", "purchase", event_source_id=OTHER_PIXEL),
        event("e", "purchase", event_source_id=PIXEL, test_event_code="T"),
        event("e", "CompletePayment", event_source_id=PIXEL),
    )
    world.run(1.0)
    assert sorted(world.outcomes().values()) == ["delivered"] * 4 + ["duplicate"]
    assert world.outcomes()[4] == "duplicate"


def test_a_mark_is_written_after_the_acceptance_and_before_the_outcome() -> None:
    """Sent, answered, marked, settled: a crash between any two loses and counts nothing twice."""
    world = World()
    world.assign(0)
    world.produce(event())
    world.run(1.0)
    order = [
        type(action)
        for action in world.log
        if isinstance(action, LookUp | Send | StoreMarks | Settled)
    ]
    assert order == [LookUp, Send, StoreMarks, Settled]


@pytest.mark.parametrize("answer", [TIMEOUT, code(40100), code(40101), code(50000), BAD_EVENT])
def test_nothing_but_an_acceptance_is_marked(answer: object) -> None:
    """Time-outs, throttles, holds and refusals leave no mark."""
    world = World(answer=lambda _request: answer)  # type: ignore[arg-type,return-value]  # an Answer
    world.assign(0)
    world.produce(event())
    world.run(5.0)
    assert not world.marks
    assert not world.stores.keys


def test_a_corrected_replay_of_a_refused_event_is_delivered() -> None:
    """A rejection leaves no mark, so the same event_id may come again."""
    answers = [BAD_EVENT, ok()]
    world = World(answer=lambda _request: answers.pop(0))
    world.assign(0)
    world.produce(event("e", page={"url": "https://s.example/wrong"}))
    world.run(1.0)
    world.produce(event("e", page={"url": "https://s.example/right"}))
    world.run(1.0)
    assert world.outcomes() == {0: "dead_lettered:rejected", 1: "delivered"}


# On its way


def in_the_air(*values: bytes) -> World:
    """A world in which the first of these is sent, unanswered."""
    world = World(answer=lambda _request: None, batch=BatchLimits(max_events=1))
    world.assign(0)
    world.produce(*values)
    assert len(world.in_air) == 1
    return world


def test_later_records_of_a_key_wait_and_become_duplicates() -> None:
    """One request for all of them, whether they came in one chunk or later."""
    world = in_the_air(event(), event())
    world.produce(event(page={"url": "https://s.example/other"}))
    world.run(10.0)
    assert len(world.requests) == 1
    assert world.outcomes() == {}
    assert world.committed() == 0
    world.reply(ok())
    world.run(1.0)
    assert world.outcomes() == {0: "delivered", 1: "duplicate", 2: "duplicate"}
    assert world.committed() == 3
    assert world.idle()


def test_waiting_records_count_in_the_limits() -> None:
    """A flood of duplicates is no way around the bounds."""
    world = World(answer=lambda _request: None, settings=EngineSettings(max_in_flight_events=10))
    world.assign(0)
    world.produce(*([event()] * 10))
    assert not world.flowing
    assert world.engine.in_flight.events == 10


def test_the_same_bytes_share_a_refusal_unsent() -> None:
    """What was refused for good would be refused again."""
    world = in_the_air(event(), event(), event())
    world.reply(BAD_EVENT)
    world.run(10.0)
    assert len(world.requests) == 1
    assert set(world.outcomes().values()) == {"dead_lettered:rejected"}
    assert len(world.outcomes()) == len(world.letters) == 3
    assert {dict(letter.headers)["dlq.tiktok.code"] for letter in world.letters} == {b"40002"}
    assert world.idle()


def test_other_bytes_become_the_first_and_the_rest_wait_for_them() -> None:
    """A correction that waits behind a bad event is sent once the bad one is out."""
    bad, good = event(), event(page={"url": "https://s.example/corrected"})
    world = in_the_air(bad, good, bad, good)
    world.reply(BAD_EVENT)
    world.run(1.0)
    assert world.outcomes() == {0: "dead_lettered:rejected", 2: "dead_lettered:rejected"}
    assert world.requests[1].events != world.requests[0].events
    world.reply(ok())
    assert world.outcomes()[1] == "delivered"
    assert world.outcomes()[3] == "duplicate"
    assert world.idle()


def test_a_correction_that_waits_in_another_partition_is_looked_up_there_first() -> None:
    """Its own partition may have had the event accepted before: then it is not sent again."""
    world = World(answer=lambda _request: None, batch=BatchLimits(max_events=1))
    world.assign(0, 1)
    world.produce(event(), partition=1)
    world.reply(ok())
    world.produce(event(page={"url": "https://s.example/wrong"}), partition=0)
    world.produce(event(), partition=1)
    world.reply(BAD_EVENT)
    world.run(1.0)
    assert len(world.requests) == 2
    assert world.outcomes(1) == {0: "delivered", 1: "duplicate"}
    assert world.idle()


def test_a_successor_gives_up_when_the_first_would_have() -> None:
    """TikTok may have the key since the first one's unknown attempt: the clock runs from there."""
    world = in_the_air(event(), event(page={"url": "https://s.example/other"}))
    world.reply(TIMEOUT)
    world.run(1.0)
    world.reply(BAD_EVENT)
    world.run(1.0)
    world.clock.advance(24 * HOUR)
    world.reply(TIMEOUT)
    world.run(1.0)
    assert len(world.requests) == 3
    assert world.outcomes() == {0: "dead_lettered:rejected", 1: "dead_lettered:retries_exhausted"}


def test_a_successor_is_not_sent_after_the_time_to_give_up() -> None:
    """No attempt is made for a key after `give_up_after` from its first unknown one."""
    world = in_the_air(event(), event(page={"url": "https://s.example/other"}))
    world.reply(TIMEOUT)
    world.run(1.0)
    world.clock.advance(24 * HOUR)
    world.reply(BAD_EVENT)
    world.run(60.0)
    assert len(world.requests) == 2
    assert world.outcomes()[1] == "dead_lettered:retries_exhausted"


# The strictest consent


GRANTED = {"marketing": "GRANTED", "ad_user_data": "GRANTED"}
DENIED = {"marketing": "GRANTED", "ad_user_data": "DENIED"}
USER = {"email": "somebody@shop.example"}


def has_email(world: World, request: int) -> bool:
    """Whether a request tells who the person is."""
    return b'"email"' in world.requests[request].events[0]


def test_the_next_attempt_applies_the_strictest_consent_of_those_that_wait() -> None:
    """A later record denies what the first one granted: a retry leaves the identifiers out."""
    world = in_the_air(event(user=USER, consent=GRANTED))
    assert has_email(world, 0)
    world.produce(event(user=USER, consent=DENIED))
    world.reply(TIMEOUT)
    world.run(1.0)
    assert not has_email(world, 1)
    world.reply(ok())
    assert world.settled[0].consent is not None
    assert world.settled[0].consent.strip_user_data


def test_consent_that_comes_while_a_batch_waits_counts_for_its_first_attempt() -> None:
    """Nothing of the person is sent at all then."""
    world = World()
    world.assign(0)
    world.produce(event(user=USER, consent=GRANTED), event(user=USER, consent=DENIED))
    world.run(1.0)
    assert len(world.requests) == 1
    assert not has_email(world, 0)


def test_a_more_lenient_record_loosens_nothing() -> None:
    """The order in which answers come does not matter."""
    world = World()
    world.assign(0)
    world.produce(event(user=USER, consent=DENIED), event(user=USER, consent=GRANTED))
    world.run(1.0)
    assert not has_email(world, 0)


def test_a_successor_is_as_strict_as_those_that_wait_for_it() -> None:
    """The first is refused; the second takes its place; the third, which denies, waits for it."""
    other = {"url": "https://s.example/other"}
    world = in_the_air(
        event(user=USER, consent=GRANTED),
        event(user=USER, consent=GRANTED, page=other),
        event(user=USER, consent=DENIED, page=other),
    )
    world.reply(BAD_EVENT)
    world.run(1.0)
    assert len(world.requests) == 2
    assert not has_email(world, 1)


def test_an_event_that_cannot_meet_the_stricter_consent_is_not_sent_any_more() -> None:
    """Limited data use needs an address: without one the event is refused before its next try."""
    limited = {"marketing": "GRANTED", "ad_personalization": "DENIED", "region": "US-CA"}
    world = World(
        answer=lambda _request: None,
        batch=BatchLimits(max_events=1),
        limited_data_use_regions=frozenset({"US"}),
    )
    world.assign(0)
    world.produce(event(consent=GRANTED))
    world.produce(event(consent=limited, user={"ip": "8.8.8.8"}))
    world.reply(TIMEOUT)
    world.run(5.0)
    assert world.outcomes() == {0: "dead_lettered:invalid"}
    assert dict(world.letters[0].headers)["dlq.field"] == b"user.ip"
    assert len(world.requests) == 2
    assert b'"limited_data_use":true' in world.requests[1].events[0]
    world.reply(ok())
    assert world.outcomes()[1] == "delivered"
    assert world.idle()


def test_what_was_to_be_withdrawn_but_ended_otherwise_is_forgotten() -> None:
    """A refusal for the next attempt is kept only as long as there may be one."""
    limited = {"marketing": "GRANTED", "ad_personalization": "DENIED", "region": "US"}
    world = World(
        answer=lambda _request: None,
        batch=BatchLimits(max_events=1),
        limited_data_use_regions=frozenset({"US"}),
    )
    world.assign(0)
    world.produce(event(consent=GRANTED))
    world.produce(event(consent=limited, user={"ip": "8.8.8.8"}))
    world.reply(BAD_EVENT)
    world.reply(ok())
    world.run(30.0)
    world.tick()
    assert world.idle()
    assert not world.delivery._withdrawn


def test_leaving_twice_brings_nobody_back_twice() -> None:
    """Those that waited come back once, and only for the first of the key."""
    world = in_the_air(event(), event())
    first, waiter = world.partition().pending.values()
    flight = InFlight()
    assert flight.enter(first) is None
    assert flight.enter(waiter) is first
    assert flight.leave(waiter) == []
    assert flight.first(first.key) is first
    assert waiter in flight.leave(first)
    assert flight.leave(first) == []
    assert len(flight) == 0
