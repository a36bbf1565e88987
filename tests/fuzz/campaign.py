"""Many changed events through route and mapping, and what is accepted through TikTok's rules.

What must hold for every event: no exception; a refusal names its field; what would be sent is a
request that TikTok's emulator takes; and it is the same whoever came before, so that what is
remembered of one person never shows in another's event.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from consumer.client import envelope
from consumer.consent import ConsentRules, OnDenied
from consumer.deliver import Request
from consumer.event import ConsentState, EventSource, Mapped, Reason, Refused, Suppressed
from consumer.identity import IdentityRules
from consumer.route import Routes
from consumer.sandbox.rules import check_request
from tests.fuzz.drawing import Drawn, draw
from tests.support.mapping import DESTINATIONS, NOW, mapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from consumer.event import Destination

MAX_BODY_BYTES: Final = 60_000
"""Smaller than in production, so that huge values meet the bound."""

_FRESH_ONCE_IN: Final = 16
_ROUTES: Final = Routes(list(DESTINATIONS.values()), DESTINATIONS[EventSource.WEB].event_source_id)
_RULES: Final = (
    (ConsentRules(missing=ConsentState.GRANTED), IdentityRules("US")),
    (
        ConsentRules(
            on_marketing_denied=OnDenied.STRIP, limited_data_use_regions=frozenset({"US"})
        ),
        IdentityRules(lowercase_external_id=True),
    ),
    (
        ConsentRules(missing=ConsentState.GRANTED, forward_signals=False),
        IdentityRules("DE"),
    ),
)
"""What configurations differ in, as far as mapping is concerned."""


class Maps(Protocol):
    """What is tried: the mapping of one event."""

    def map(
        self, event: dict[str, Any], destination: Destination, wall_ms: int
    ) -> Mapped | Suppressed | Refused:
        """As `consumer.payload.Mapper.map`."""


def product(number: int) -> Maps:
    """The mapper as it is, by one of the configurations."""
    consent, identity = _RULES[number]
    return mapper(consent, identity, MAX_BODY_BYTES)


@dataclass(slots=True)
class Figures:
    """What became of the events.

    `outcomes` counts them by source and outcome, or the reason of one that is not sent;
    `warned` those accepted of which something was left out. `found` has what must not be, by the
    number of the event.
    """

    events: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    found: list[tuple[int, str]] = field(default_factory=list)

    def total(self, *names: str) -> int:
        """How many events had one of these outcomes or reasons."""
        return sum(count for (_, name), count in self.outcomes.items() if name in names)

    def lines(self) -> list[str]:
        """The figures as a person reads them."""
        names = sorted({name for _, name in self.outcomes})
        suppressed = [name for name in names if name in ("consent", "filter")]
        letters = [name for name in names if name not in ("accepted", *suppressed)]
        first = (
            f"{self.events} changed events: {self.total('accepted')} accepted"
            f" ({self.warned.total()} with a warning), {self.total(*letters)} dead-lettered,"
            f" {self.total(*suppressed)} suppressed, {len(self.found)} that must not be"
        )
        lines = [first]
        for source in EventSource:
            counts = ", ".join(
                f"{name} {count}" for name in names if (count := self.outcomes[source.value, name])
            )
            lines.append(f"  {source}: {counts}; warned {self.warned[source.value]}")
        return lines


def event(seed: int, number: int) -> Drawn:
    """The event of this number; the same for ever."""
    return draw(random.Random(f"{seed}/{number}"))


def fuzz(seed: int, numbers: Iterable[int], make: Callable[[int], Maps] = product) -> Figures:
    """Plays the events of these numbers; `make` gives a mapper for each configuration."""
    figures = Figures()
    mappers = [make(number) for number in range(len(_RULES))]
    for number in numbers:
        figures.events += 1
        drawn = event(seed, number)
        which = number % len(mappers)
        try:
            problem = _play(drawn, mappers[which], figures)
            if problem is None and number % _FRESH_ONCE_IN == 0:
                problem = _differs(drawn, mappers[which], make(which))
        except Exception as error:  # noqa: BLE001  this is what is looked for
            problem = f"raises {type(error).__name__}"
        if problem is not None:
            changed = ", ".join(drawn.changed)
            figures.found.append((number, f"{drawn.source} event with other {changed}: {problem}"))
    return figures


def _play(drawn: Drawn, mapping: Maps, figures: Figures) -> str | None:
    """Counts what becomes of the event; what must not be, in words."""
    found = _outcome(drawn.event, mapping)
    source = drawn.source.value
    if isinstance(found, Mapped):
        figures.outcomes[source, "accepted"] += 1
        if found.warnings:
            figures.warned[source] += 1
        return _judge(found)
    figures.outcomes[source, found.reason.value] += 1
    if isinstance(found, Refused) and found.reason is Reason.INVALID and not found.field:
        return f"is invalid without a field: {found.detail}"
    return None


def _outcome(given: dict[str, Any], mapping: Maps) -> Mapped | Suppressed | Refused:
    destination = _ROUTES.route(given)
    if isinstance(destination, Refused):
        return destination
    return mapping.map(given, destination, NOW)


def _judge(found: Mapped) -> str | None:
    """What TikTok says against the request, as the client would make it."""
    to = found.destination
    request = Request(
        0, to.event_source.value, to.event_source_id, found.test_event_code, [found.body]
    )
    complaint = check_request(orjson.loads(envelope(request)))
    if complaint is not None:
        return f"is refused by TikTok at {complaint.path}: {complaint.why}"
    if len(found.body) > MAX_BODY_BYTES:
        return f"is {len(found.body)} bytes long"
    return None


def _differs(drawn: Drawn, one: Maps, other: Maps) -> str | None:
    if _outcome(drawn.event, one) == _outcome(drawn.event, other):
        return None
    return "is mapped otherwise by a mapper that remembers other events"
