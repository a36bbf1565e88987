"""What the ground truth holds: which requests brought each event, and when requests came.

A hundred thousand events take about 11 MB: an event that came once costs its event_id and one
number. So that a run of days ends in no larger a process than one of hours, there can be a limit:
then two halves are kept, the younger takes what comes, and when it is full the older one is
forgotten whole. Every arrival of an event counts, and every request, so that neither a loop of
repeats nor one of refusals grows without end.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_NOT_ANSWERED = -1.0


class Family(NamedTuple):
    """What events share that only their event_id tells apart."""

    event_source_id: str
    event: str
    test_event_code: str | None


class Repeated:
    """An event that came more than once: which requests brought it and which one counts."""

    __slots__ = ("accepted", "counting", "requests")

    def __init__(self, first: int) -> None:
        self.accepted = 1
        self.counting = first
        self.requests = array("l", (first,))


Known = int | Repeated
"""The number of the only request that brought an event, or all that there is about it."""


class _Half:
    """What came since request number `first`. `arrivals` are those of events, repeats included."""

    __slots__ = ("arrivals", "events", "first")

    def __init__(self, first: int) -> None:
        self.first = first
        self.arrivals = 0
        self.events: dict[Family, dict[str, Known]] = {}

    def distinct(self) -> int:
        return sum(map(len, self.events.values()))


class TruthMemory:
    """Events and request times. `limit` is how many of each are kept at most; None keeps all.

    `window` is in seconds: an event that comes again as long after the one that counts, or
    longer, counts again. What has been forgotten counts again whenever it comes.
    """

    def __init__(self, window: float, limit: int | None = None) -> None:
        self._window = window
        self._half = None if limit is None else max(limit // 2, 1)
        self._young = _Half(0)
        self._old = _Half(0)
        self._base = 0
        self._times = array("d")
        self._answered = array("d")
        self.forgotten = 0

    def begin(self, now: float) -> int:
        """Numbers a request that came at `now` (seconds since the epoch)."""
        number = self._base + len(self._times)
        young = self._young
        if self._half is not None and (
            young.arrivals >= self._half or number - young.first >= self._half
        ):
            self._forget(number)
        self._times.append(now)
        self._answered.append(_NOT_ANSWERED)
        return number

    def came_at(self, number: int) -> float:
        """When a request came that is still remembered."""
        return self._times[number - self._base]

    def answered(self, number: int, now: float) -> None:
        """Notes that the answer to a request is on its way to a client that was still there."""
        if number >= self._base:
            self._answered[number - self._base] = now

    def answered_at(self, number: int) -> float | None:
        """When a request's answer went out; None where it has not, or nobody knows any more."""
        at = self._answered[number - self._base] if number >= self._base else _NOT_ANSWERED
        return None if at == _NOT_ANSWERED else at

    def take(
        self,
        number: int,
        event_source_id: str,
        test_event_code: str | None,
        events: Sequence[Mapping[str, Any]],
    ) -> int:
        """Takes the events of a request; returns how many counted."""
        counted = 0
        homes: dict[str, tuple[dict[str, Known], dict[str, Known]]] = {}
        for event in events:
            name, event_id = event["event"], event["event_id"]
            home = homes.get(name)
            if home is None:
                home = homes[name] = self._home(Family(event_source_id, name, test_event_code))
            kept, earlier = home
            known = kept.get(event_id)
            if known is None and earlier and (known := earlier.get(event_id)) is not None:
                kept = earlier
            if known is None:
                kept[event_id] = number
                counted += 1
                continue
            if isinstance(known, int):
                known = kept[event_id] = Repeated(known)
            known.requests.append(number)
            if self.came_at(number) - self.came_at(known.counting) >= self._window:
                known.accepted += 1
                known.counting = number
                counted += 1
        self._young.arrivals += len(events)
        return counted

    def families(self) -> list[tuple[Family, dict[str, Known]]]:
        """Every family with its events, the older half first; a family may come twice."""
        return [*self._old.events.items(), *self._young.events.items()]

    def clear(self) -> None:
        """Forgets everything. Numbers go on, so that no request id comes twice."""
        self._base += len(self._times)
        del self._times[:]
        del self._answered[:]
        self._old, self._young = _Half(self._base), _Half(self._base)
        self.forgotten = 0

    def _home(self, family: Family) -> tuple[dict[str, Known], dict[str, Known]]:
        """Where new events of a family go, and where earlier ones may be."""
        return self._young.events.setdefault(family, {}), self._old.events.get(family, {})

    def _forget(self, number: int) -> None:
        self.forgotten += self._old.distinct()
        self._old = self._young
        gone = self._old.first - self._base
        del self._times[:gone]
        del self._answered[:gone]
        self._base = self._old.first
        self._young = _Half(number)


def matching(known_ones: Mapping[str, Known], event_id: str | None) -> Iterator[tuple[str, Known]]:
    """The events of a family as they are now, or the one of that id if it is there."""
    if event_id is None:
        yield from tuple(known_ones.items())
    elif (known := known_ones.get(event_id)) is not None:
        yield event_id, known
