"""What the emulator remembers: filters, test events, and memory that stays within bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.sandbox.ground_truth import EventFilter, GroundTruth, RequestSeen, request_id
from consumer.sandbox.truth_memory import TruthMemory

HOUR = 3600.0


def event(event_id: str, name: str = "ViewContent") -> dict[str, Any]:
    return {"event": name, "event_id": event_id}


def filled() -> GroundTruth:
    """Two pixels, two names, a test event, and one event that counted twice."""
    truth = GroundTruth()
    truth.accept(truth.begin(0), "C1", None, [event("a"), event("b"), event("a", "Purchase")])
    truth.accept(truth.begin(1), "C2", None, [event("a")])
    truth.accept(truth.begin(2), "C1", "TEST1", [event("a")])
    truth.accept(truth.begin(49 * HOUR), "C1", None, [event("b")])
    return truth


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (EventFilter(), 5),
        (EventFilter(event_source_id="C2"), 1),
        (EventFilter(event="Purchase"), 1),
        (EventFilter(event_id="a"), 4),
        (EventFilter(event_id="nobody"), 0),
        (EventFilter(test_event_code="TEST1"), 1),
        (EventFilter(test_event_code=""), 4),
        (EventFilter(accepted_at_least=2), 1),
        (EventFilter("C1", "ViewContent", "a", ""), 1),
    ],
)
def test_a_filter_finds_the_events_it_describes(wanted: EventFilter, found: int) -> None:
    """Each part narrows down; a part that is left out asks for any."""
    events = list(filled().events(wanted))
    assert len(events) == found
    assert set(events) <= set(filled().events())


def test_the_event_that_counted_twice_is_found() -> None:
    """The question that a test of promises asks first."""
    (harm,) = filled().events(EventFilter(accepted_at_least=2))
    assert (harm.identity.event_id, harm.accepted) == ("b", 2)
    assert harm.request_ids == (request_id(0), request_id(3))


def test_test_events_are_listed_as_they_came_and_counted_apart() -> None:
    """Like TikTok's Test Events tab: with request, time and content; the real one is untouched."""
    truth = filled()
    (seen,) = truth.test_events
    assert (seen.test_event_code, seen.event_source_id, seen.at) == ("TEST1", "C1", 2)
    assert (seen.request_id, seen.event) == (request_id(2), event("a"))
    summary = truth.summary()
    assert (summary["test_events_accepted"], summary["events_deduplicated"]) == (1, 0)


def test_a_test_event_shows_no_person_in_its_repr() -> None:
    """What ends in a traceback says where it belongs, not who it was."""
    truth = GroundTruth()
    someone = {**event("a"), "user": {"ip": "20.42.7.9"}}
    truth.accept(truth.begin(0), "C1", "TEST1", [someone])
    assert "20.42" not in repr(truth.test_events[0])


def test_forgetting_starts_afresh_but_for_request_ids() -> None:
    """A reset truth is an empty one, and no id of before comes again."""
    truth = filled()
    truth.note(RequestSeen(request_id(3), 0, "C1", None, 1, 9, 0, "late", 1, 0))
    truth.clear()
    assert truth.summary() == GroundTruth().summary()
    assert (list(truth.events()), list(truth.recent), list(truth.test_events)) == ([], [], [])
    number = truth.begin(5)
    assert number == 4
    assert truth.accept(number, "C1", None, [event("a")]) == (1, 0)
    truth.answered(2, 9)
    truth.answered(4, 9)
    assert [truth.answered_at(each) for each in (2, 4)] == [None, 9]


BATCHES = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8), max_size=120)


@given(BATCHES, st.integers(2, 40))
@settings(max_examples=100, deadline=None)
def test_memory_stays_within_its_bound(batches: list[list[int]], limit: int) -> None:
    """Whatever comes, events, repeats and requests that are held are few."""
    memory = TruthMemory(48 * HOUR, limit)
    for at, batch in enumerate(batches):
        memory.take(memory.begin(at), "C1", None, [event(str(number)) for number in batch])
        held = sum(
            1 if isinstance(known, int) else len(known.requests)
            for _, known_ones in memory.families()
            for known in known_ones.values()
        )
        assert held <= limit + 2 * 8
        assert len(memory._times) <= limit + 2


@given(BATCHES, st.integers(2, 40))
@settings(max_examples=100, deadline=None)
def test_what_is_remembered_is_right(batches: list[list[int]], limit: int) -> None:
    """Beside a memory without a bound: the same until something is forgotten and counts again."""
    bounded, whole = TruthMemory(48 * HOUR, limit), TruthMemory(48 * HOUR)
    for at, batch in enumerate(batches):
        events = [event(str(number)) for number in batch]
        counted = bounded.take(bounded.begin(at), "C1", None, events)
        expected = whole.take(whole.begin(at), "C1", None, events)
        assert counted >= expected
        assert bounded.forgotten or counted == expected
    everything = dict(whole.families()[0][1]) if batches else {}
    for _, known_ones in bounded.families():
        for event_id, known in known_ones.items():
            full = everything[event_id]
            seen = [known] if isinstance(known, int) else list(known.requests)
            came = [full] if isinstance(full, int) else list(full.requests)
            assert seen == came[-len(seen) :]


def test_a_loop_of_refusals_takes_no_memory_for_ever() -> None:
    """Requests without events count too: a throttled client may knock for days."""
    memory = TruthMemory(48 * HOUR, 100)
    for second in range(5000):
        memory.answered(memory.begin(second), second + 0.5)
    assert len(memory._times) <= 102
    assert len(memory._answered) == len(memory._times)
    assert memory.answered_at(memory.begin(5000)) is None
    assert memory.answered_at(4999) == 4999.5
    assert memory.answered_at(10) is None


def test_an_unbounded_memory_forgets_nothing() -> None:
    """Tests that ask about every event leave the bound out."""
    memory = TruthMemory(48 * HOUR)
    for at in range(3000):
        memory.take(memory.begin(at), "C1", None, [event(str(at))])
    ((_, known_ones),) = memory.families()
    assert (len(known_ones), memory.forgotten) == (3000, 0)
