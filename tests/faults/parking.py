"""One destination refuses everything for minutes; the others must not notice."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from consumer.sandbox.answers import TOKEN_EXPIRED
from consumer.sandbox.faults import Fault, FaultKind
from consumer.sandbox.faults import Scenario as Weather
from consumer.sandbox.samples import PIXELS
from tests.faults.evidence import IncidentKind
from tests.faults.load import Fate
from tests.faults.pace import steady
from tests.faults.scenario import Scenario

if TYPE_CHECKING:
    from tests.faults.round import Round

_RATE: Final = 1_500
"""Events a second, of which about a third are for the destination that is held."""

_BACKLOG: Final = 20
"""How many times `max_in_flight_events` the held destination's backlog comes to."""

_SHARE: Final = 0.95
"""Of the other destinations' events: accepted while the one is held."""

_MOST_RSS: Final = 300 << 20


def held(played: Round) -> None:
    """A pixel's token expires; what waits is parked, a member dies, then everything is sent."""
    settings = played.settings
    pixel = PIXELS[0]
    seconds = settings.events / _RATE
    in_flight = int(settings.events / 3.5 / _BACKLOG)
    limits = {"max_in_flight_events": in_flight}
    over = {"limits": limits, "batching": {"max_events": min(100, in_flight // 8)}}
    fault = Fault(FaultKind.CODE, code=TOKEN_EXPIRED, event_source_id=pixel)
    calm = Weather(settings.seed, latency_ms=30, latency_jitter_ms=30)
    began = time.time()
    played.emulator.play(
        Weather(settings.seed, latency_ms=30, latency_jitter_ms=30, faults=(fault,))
    )
    with steady(played, _RATE, settings.events) as pace:
        members = played.start(0, 1, over=over)
        time.sleep(seconds / 2)
        _check_the_others(played, pixel, "before a member died")
        members[0].kill()
        members[0].start()
        played.until(lambda: pace.is_over, "the steady load is over", 2 * seconds + 60)
    if not settings.brief:  # else there is no time to catch up
        _check_the_others(played, pixel, "at the end of the hold")
    if not any(played.cluster.kafka.ends(played.retry_topic).values()):
        played.find("nothing was parked")
    played.note(IncidentKind.HOLD, None, began)
    played.emulator.play(calm)
    played.until_done()
    for member in members:
        if (peak := member.process.peak_rss_bytes()) > _MOST_RSS:
            played.find(f"{member.app} took {peak >> 20} MiB")
    played.finish()


def _check_the_others(played: Round, pixel: str, when: str) -> None:
    """The others' events are through, as far as they have been produced."""
    load = played.load
    accepted = played.accepted
    events = [e for e in load.with_fate(Fate.DELIVERED) if load.source_of(e) != pixel]
    share = accepted / len(events)
    played.remarks.append(f"the others had {share:.1%} of their events {when}")
    if share < _SHARE:
        played.find(f"the other destinations had only {share:.1%} of their events {when}")


SCENARIOS: Final = (Scenario("held", held, rounds=1, events=900_000, brief_events=36_000),)
