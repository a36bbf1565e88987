"""What is counted and logged when events settle and requests end."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from consumer.event import Attempt, Instant, Item, Outcome, Reason
from consumer.metrics import Metrics
from consumer.span_writer import SpanWriter
from consumer.spans import endpoint
from consumer.telemetry import MOST_EVENT_NAMES, Telemetry
from consumer.tracing import Tracer
from tests.support.items import DESTINATION, attempts, items, mapped
from tests.support.world import World, code, event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.event import Mapped
    from consumer.instruments import Labels

PIXEL = DESTINATION.event_source_id


class Listener(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the record."""
        self.heard.append(record)


def telemetry() -> Telemetry:
    tracer = Tracer(ALWAYS_OFF, RandomIdGenerator(), CompositePropagator([]), enabled=False)
    writer = SpanWriter("group", endpoint("https://tiktok.example/track/"), None, [])
    return Telemetry(tracer, Metrics(), writer)


def total(values: Mapping[Labels, int]) -> int:
    return sum(values.values())


@given(st.lists(items(), max_size=6), st.integers(0, 6))
@settings(max_examples=50, deadline=None)
def test_every_item_is_counted_once_wherever_the_chunks_end(settled: list[Item], cut: int) -> None:
    """Outcomes and times add up to the items, however they are handed over."""
    told = telemetry()
    told.settled(settled[:cut])
    told.settled(settled[cut:])
    counted = told.metrics.settled.values()
    assert total(counted) == len(settled)
    for outcome in Outcome:
        assert total({key: n for key, n in counted.items() if key[0] == outcome.value}) == sum(
            item.outcome is outcome for item in settled
        )
    observed = told.metrics.end_to_end_seconds.values()
    assert sum(series.observed for series in observed.values()) == len(settled)
    assert all(series.sum >= 0 for series in observed.values())
    known = [item.mapped for item in settled if item.mapped is not None]
    assert total(told.metrics.match_keys_events.values()) == len(known)
    assert total(told.metrics.match_keys.values()) == sum(len(one.match_keys) for one in known)
    assert total(told.metrics.warnings.values()) == sum(len(one.warnings) for one in known)


@given(items(mapped=None, outcome=Outcome.DEAD_LETTERED, reason=Reason.UNKNOWN_DESTINATION))
@settings(max_examples=5, deadline=None)
def test_an_id_that_no_destination_has_is_no_label(item: Item) -> None:
    """Anybody can send any id; each would be a series for ever."""
    item.event_source_id = "whatever was sent"
    told = telemetry()
    told.settled([item])
    assert told.metrics.settled.values() == {("dead_lettered", "unknown_destination", ""): 1}


@given(items(), mapped())
@settings(max_examples=5, deadline=None)
def test_event_names_beyond_a_number_count_together(item: Item, base: Mapped) -> None:
    """Own event names are any text; the labels stay few and the sum right."""
    told = telemetry()
    for n in range(MOST_EVENT_NAMES + 30):
        item.mapped = base._replace(event=f"own {n}")
        told.settled([item])
    counted = told.metrics.match_keys_events.values()
    assert len(counted) == MOST_EVENT_NAMES + 1
    assert counted["other",] == 30


@given(attempts)
@settings(max_examples=60, deadline=None)
def test_every_attempt_is_counted_by_its_code(attempt: Attempt) -> None:
    """The code speaks first, then the failure, then the HTTP status."""
    told = telemetry()
    told.attempt_finished(attempt)
    [(pixel, code)] = told.metrics.requests.values()
    assert pixel == PIXEL
    if attempt.code is not None:
        assert code == str(attempt.code)
    else:
        assert code == (attempt.error or f"http_{attempt.http_status}")
    assert told.metrics.batch_events.values()[()].sum == attempt.events
    again = total(told.metrics.retries.values())
    assert again == (attempt.events if attempt.verdict in ("retry", "held") else 0)


@given(attempts, st.dictionaries(st.sampled_from(["timeout", "unfinished"]), st.integers(1, 9)))
@settings(max_examples=20, deadline=None)
def test_repeats_are_counted_by_why_the_outcome_before_is_unknown(
    attempt: Attempt, repeats: Mapping[str, int]
) -> None:
    """Whatever becomes of the request itself: it was the repeat."""
    told = telemetry()
    told.attempt_finished(dataclasses.replace(attempt, repeats=repeats))
    assert told.metrics.repeats.values() == {(PIXEL, why): n for why, n in repeats.items()}


@given(items(outcome=Outcome.DEAD_LETTERED, reason=Reason.INVALID, settled=Instant(5.0, 0)))
@settings(max_examples=5, deadline=None)
def test_dead_letters_are_logged_but_not_in_floods(item: Item) -> None:
    """A poisoned topic writes some lines a minute, each with where the event stands."""
    listener = Listener()
    logger = logging.getLogger("consumer.telemetry")
    logger.addHandler(listener)
    try:
        telemetry().settled([item] * 1000)
    finally:
        logger.removeHandler(listener)
    heard = listener.heard
    assert len(heard) == 10
    assert heard[0].__dict__["offset"] == item.record.offset
    assert heard[0].getMessage() == "event dead-lettered: invalid"


def test_an_answer_that_somebody_has_to_look_at_is_counted() -> None:
    """By destination and code, each attempt once: what alerts are made of."""
    told = telemetry()
    world = World(answer=lambda _request: code(next(codes)))
    codes = iter([40132, 40999, 12345, 50000, 40001, 0])
    world.assign(0)
    world.produce(event())
    world.run(600.0)
    for attempt in world.attempts:
        told.attempt_finished(attempt)
    assert told.metrics.alerts.values() == {
        (PIXEL, "40132"): 1,
        (PIXEL, "40999"): 1,
        (PIXEL, "12345"): 1,
        (PIXEL, "40001"): 1,
    }
