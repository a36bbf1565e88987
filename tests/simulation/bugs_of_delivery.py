"""Bugs to plant in the way to TikTok: attempts, answers, retries, gates, consent."""

from __future__ import annotations

import math
from typing import Any

from consumer import deliver, expiry, guilty
from consumer.arrivals import Arrivals
from consumer.batch import Batch
from consumer.deliver import Delivery
from consumer.hold_gate import HoldGate
from consumer.limits import Gates
from consumer.requests import Judged
from tests.simulation.bug import Bug, Original


def _announced_already(add: Original) -> Original:
    def broken(delivery: Delivery, item: Any, now: Any) -> None:
        item.announced = True
        add(delivery, item, now)

    return broken


def _never_give_up(expiry: Original) -> Original:
    def broken(item: Any, now_ms: int, _give_up_ms: float) -> Any:
        return expiry(item, now_ms, math.inf)

    return broken


def _all_cleared(_cleared: Original) -> Original:
    def broken(items: Any) -> list[Any]:
        for item in items:
            item.announced = False
        return list(items)

    return broken


def _no_doubt(_doubt: Original) -> Original:
    return lambda _delivery, _owners: []


def _believed(search: Original) -> Original:
    def broken(batch: Batch, verdict: Any) -> Any:
        place, items = verdict.blame.event, batch.items
        if place is None or len(items) == 1:
            return search(batch, verdict)
        place = (place + 1) % len(items)
        rest = batch.part(items[:place] + items[place + 1 :])
        return guilty.Search([(items[place], guilty.refusal(verdict))], [rest])

    return broken


def _one_half(halves: Original) -> Original:
    def broken(batch: Batch) -> tuple[Batch, Batch]:
        first, _ = halves(batch)
        return first, batch.part([])

    return broken


def _any_number_at_once(ready_at: Original) -> Original:
    def broken(gates: Gates, now: float) -> Any:
        in_flight, gates.in_flight = gates.in_flight, 0
        try:
            return ready_at(gates, now)
        finally:
            gates.in_flight = in_flight

    return broken


def _crowd_of_probes(starts: Original) -> Original:
    def broken(hold: HoldGate, now: float) -> None:
        starts(hold, now)
        hold._probe = None

    return broken


def _consent_of_the_first(_wait_for: Original) -> Original:
    return lambda _arrivals, _first, _waiter, _now: None


def _told_as_it_would_go(_tell_as_sent: Original) -> Original:
    return lambda judged: judged.attempt.sent_as.clear()


BUGS: dict[str, Bug] = {
    "not_announced": Bug(
        "events are sent without a word in the state topic",
        Delivery, "add", _announced_already,
    ),
    "never_given_up": Bug(
        "unknown attempts are repeated for ever", expiry, "expiry", _never_give_up
    ),
    "refused_though_unknown": Bug(
        "an unknown attempt is recorded as refused for certain",
        deliver, "_cleared", _all_cleared,
    ),
    "no_doubt": Bug(
        "what waits is not looked up again when the memory was in question",
        Delivery, "doubt", _no_doubt,
    ),
    "place_believed": Bug(
        "the event at a place that is off by one is dead-lettered without being asked about",
        guilty, "search", _believed,
    ),
    "half_forgotten": Bug(
        "of a batch that is split in halves only the first is sent again",
        Batch, "halves", _one_half,
    ),
    "any_number_at_once": Bug(
        "as many requests as there are batches are in the air at once",
        Gates, "ready_at", _any_number_at_once,
    ),
    "crowd_of_probes": Bug(
        "a destination that refused is asked by many requests at once",
        HoldGate, "starts", _crowd_of_probes,
    ),
    "consent_of_the_first": Bug(
        "a record in flight is sent whole, though a later one of the same event allows less",
        Arrivals, "_wait_for", _consent_of_the_first,
    ),
    "told_as_it_would_go": Bug(
        "an event in the air is told of as its next attempt was to be",
        Judged, "tell_as_sent", _told_as_it_would_go,
    ),
}  # fmt: skip
"""Each by a name for the command line."""
