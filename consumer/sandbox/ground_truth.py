"""What TikTok has accepted: every event, how often, and in which requests.

TikTok deduplicates by event_source_id, event name and event_id (a test event apart from the real
one) for 48 hours from the first; a later copy counts again. Both are recorded, so that a test can
tell "sent twice, counted once" from "counted twice". A hundred thousand events take about 11 MB:
an event that came once costs its event_id and one number.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WINDOW_SECONDS = 48 * 3600.0
"""How long TikTok drops a repeat, counted from the first event."""

RECENT_REQUESTS = 1000

_NOT_ANSWERED = -1.0


class EventIdentity(NamedTuple):
    """What makes two events the same for TikTok."""

    event_source_id: str
    event: str
    event_id: str
    test_event_code: str | None = None


class AcceptedEvent(NamedTuple):
    """An event TikTok has taken.

    `accepted` is how often it counted, `deduplicated` how often a repeat was dropped.
    `request_ids` are those of the requests that brought it, in their order.
    """

    identity: EventIdentity
    accepted: int
    deduplicated: int
    request_ids: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The form in which the emulator gives it out, one line of NDJSON."""
        return {
            **self.identity._asdict(),
            "accepted": self.accepted,
            "deduplicated": self.deduplicated,
            "request_ids": self.request_ids,
        }

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> AcceptedEvent:
        """Reads what `to_json` wrote."""
        return cls(
            EventIdentity(
                line["event_source_id"], line["event"], line["event_id"], line["test_event_code"]
            ),
            line["accepted"],
            line["deduplicated"],
            tuple(line["request_ids"]),
        )


class RequestSeen(NamedTuple):
    """A request as it came and what became of it.

    `at` is in seconds since the epoch. `fault` names what struck it, if anything did; `code` is
    None where the answer carried none. `events` is 0 where the body could not be read. `app` is
    the one whose token it showed, None where any token is as good. `upload_seconds` is how long
    the body took to come, after its head.
    """

    request_id: str
    at: float
    event_source_id: str | None
    test_event_code: str | None
    events: int
    body_bytes: int
    code: int | None
    fault: str | None
    accepted: int
    deduplicated: int
    app: str | None = None
    upload_seconds: float = 0.0


class _Repeated:
    """An event that came more than once: which requests brought it and which one counts."""

    __slots__ = ("accepted", "counting", "requests")

    def __init__(self, first: int) -> None:
        self.accepted = 1
        self.counting = first
        self.requests = array("l", (first,))


class GroundTruth:
    """Everything TikTok has taken, and totals of everything it was asked.

    Requests are numbered as they come; `request_id` gives the number its public form.
    """

    def __init__(self, window: float = WINDOW_SECONDS) -> None:
        self._window = window
        self._events: dict[tuple[str, str, str | None], dict[str, int | _Repeated]] = {}
        self._times = array("d")
        self._answered = array("d")
        self.recent: deque[RequestSeen] = deque(maxlen=RECENT_REQUESTS)
        self.events_received = 0
        self.events_accepted = 0
        self.events_deduplicated = 0
        self.requests_by_code: dict[str, int] = {}
        self.requests_by_fault: dict[str, int] = {}
        self.batch_sizes: dict[int, int] = {}

    def begin(self, now: float) -> int:
        """Numbers a request that came at `now` (seconds since the epoch)."""
        self._times.append(now)
        self._answered.append(_NOT_ANSWERED)
        return len(self._times) - 1

    def answered(self, number: int, now: float) -> None:
        """Notes that the answer to a request is on its way to a client that was still there."""
        self._answered[number] = now

    def answered_at(self, number: int) -> float | None:
        """When a request's answer went out; None where it has not, or the client had hung up."""
        at = self._answered[number]
        return None if at == _NOT_ANSWERED else at

    def accept(
        self,
        number: int,
        event_source_id: str,
        test_event_code: str | None,
        events: Sequence[Mapping[str, Any]],
    ) -> tuple[int, int]:
        """Takes the events of a request; returns how many counted and how many were repeats."""
        accepted = 0
        for event in events:
            name, event_id = event["event"], event["event_id"]
            kind = self._events.setdefault((event_source_id, name, test_event_code), {})
            known = kind.get(event_id)
            if known is None:
                kind[event_id] = number
                accepted += 1
                continue
            if isinstance(known, int):
                known = kind[event_id] = _Repeated(known)
            known.requests.append(number)
            if self._times[number] - self._times[known.counting] >= self._window:
                known.accepted += 1
                known.counting = number
                accepted += 1
        deduplicated = len(events) - accepted
        self.events_accepted += accepted
        self.events_deduplicated += deduplicated
        return accepted, deduplicated

    def note(self, seen: RequestSeen) -> None:
        """Remembers a request that has been dealt with."""
        self.recent.append(seen)
        self.events_received += seen.events
        self.batch_sizes[seen.events] = self.batch_sizes.get(seen.events, 0) + 1
        code = "none" if seen.code is None else str(seen.code)
        self.requests_by_code[code] = self.requests_by_code.get(code, 0) + 1
        if seen.fault is not None:
            count = self.requests_by_fault.get(seen.fault, 0)
            self.requests_by_fault[seen.fault] = count + 1

    def events(self) -> Iterator[AcceptedEvent]:
        """Every event that was taken, by destination and name, first come first.

        Events may come in while this is being read; those may or may not be among them.
        """
        for (event_source_id, name, test_event_code), kind in tuple(self._events.items()):
            for event_id, known in tuple(kind.items()):
                identity = EventIdentity(event_source_id, name, event_id, test_event_code)
                if isinstance(known, int):
                    yield AcceptedEvent(identity, 1, 0, (request_id(known),))
                    continue
                yield AcceptedEvent(
                    identity,
                    known.accepted,
                    len(known.requests) - known.accepted,
                    tuple(map(request_id, known.requests)),
                )

    def summary(self) -> dict[str, Any]:
        """Totals as JSON: requests by code and fault, batch sizes, events by destination."""
        by_destination: dict[str, int] = {}
        for (event_source_id, _, _), kind in self._events.items():
            by_destination[event_source_id] = by_destination.get(event_source_id, 0) + len(kind)
        return {
            "requests": len(self._times),
            "requests_by_code": self.requests_by_code,
            "requests_by_fault": self.requests_by_fault,
            "batch_sizes": {str(size): n for size, n in sorted(self.batch_sizes.items())},
            "events_received": self.events_received,
            "events_accepted": self.events_accepted,
            "events_deduplicated": self.events_deduplicated,
            "distinct_events": sum(by_destination.values()),
            "distinct_events_by_destination": by_destination,
        }


def request_id(number: int) -> str:
    """The request id that TikTok answers with for a request of this number."""
    return f"emulator{number:012X}"
