"""A share of the fuzz run (`python -m tests.fuzz`), and that it would find what it looks for."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from consumer.event import Destination, EventSource, Mapped, Reason, Refused, Suppressed
from tests.fuzz.campaign import Maps, event, fuzz, product

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS = 6_000
FEW = 600


def test_no_changed_event_breaks_the_mapping_or_is_refused_by_tiktok() -> None:
    """Every source; each accepted, warned about, dead-lettered with its field, or suppressed."""
    figures = fuzz(2, range(EVENTS))
    print("\n".join(figures.lines()))  # noqa: T201  the figures belong into the log
    assert figures.found == []
    assert sum(figures.outcomes.values()) == EVENTS
    for source in EventSource:
        counts = {name: n for (of, name), n in figures.outcomes.items() if of == source}
        assert counts["accepted"] > EVENTS / 8
        assert figures.warned[source] > EVENTS / 40
        assert counts["invalid"] > 0
    assert {reason for _, reason in figures.outcomes} >= {
        *("accepted", "consent", "invalid", "unknown_destination"),
        *("too_old", "in_future", "too_large"),
    }


def test_an_event_is_the_same_for_ever() -> None:
    """So that one which was found can be looked at again, by its number."""
    numbers = range(50)
    assert [repr(event(3, n)) for n in numbers] == [repr(event(3, n)) for n in numbers]
    assert len({repr(event(3, n)) for n in numbers}) == 50
    assert repr(event(4, 0)) != repr(event(3, 0))


@dataclass
class Broken:
    """The mapper with a planted mistake in what it makes of an event."""

    whole: Maps
    mistake: Callable[[Any], Any]

    def map(
        self, event: dict[str, Any], destination: Destination, wall_ms: int
    ) -> Mapped | Suppressed | Refused:
        """As `Mapper.map`, save for the mistake."""
        found: Mapped | Suppressed | Refused = self.mistake(
            self.whole.map(event, destination, wall_ms)
        )
        return found


def plain_e_mail(found: Any) -> Any:
    return _changed(found, lambda sent: sent.setdefault("user", {}).update(email="a@b.example"))


def milliseconds_as_text(found: Any) -> Any:
    return _changed(found, lambda sent: sent.update(event_time=str(sent["event_time"])))


def empty_text(found: Any) -> Any:
    return _changed(found, lambda sent: sent.setdefault("properties", {}).update(order_id=""))


def no_field(found: Any) -> Any:
    if isinstance(found, Refused) and found.reason is Reason.INVALID:
        return found._replace(field=None)
    return found


def fails(found: Any) -> Any:
    if isinstance(found, Suppressed):
        raise TypeError("planted")
    return found


def _changed(found: Any, change: Callable[[dict[str, Any]], None]) -> Any:
    if not isinstance(found, Mapped):
        return found
    sent = orjson.loads(found.body)
    change(sent)
    return found._replace(body=orjson.dumps(sent))


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (plain_e_mail, "is refused by TikTok at user.email"),
        (milliseconds_as_text, "is refused by TikTok at event_time"),
        (empty_text, "is refused by TikTok at properties.order_id"),
        (no_field, "is invalid without a field"),
        (fails, "raises TypeError"),
    ],
)
def test_a_planted_mistake_is_found(mistake: Callable[[Any], Any], words: str) -> None:
    """Each kind of what must not be; the number leads to the event."""

    def make(number: int) -> Maps:
        return Broken(product(number), mistake)

    assert any(words in problem for _, problem in fuzz(2, range(FEW), make).found)


def test_a_mapper_that_mixes_persons_up_is_found() -> None:
    """What it remembers of one event must not show in the next."""
    made = itertools.count()

    def make(number: int) -> Maps:
        mark = next(made)

        def mix_up(found: Any) -> Any:
            return _changed(found, lambda sent: sent.setdefault("properties", {}).update(m=mark))

        return Broken(product(number), mix_up)

    found = fuzz(2, range(FEW), make).found
    assert any("remembers other events" in problem for _, problem in found)
