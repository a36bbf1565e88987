"""What TikTok has accepted: every event, how often, and in which requests.

TikTok deduplicates by event_source_id, event name and event_id (a test event apart from the real
one) for 48 hours from the first; a later copy counts again. Both are recorded, so that a test can
tell "sent twice, counted once" from "counted twice". Test events are also listed as they came,
like in the Test Events tab of TikTok's Events Manager.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, NamedTuple

from consumer.sandbox.truth_memory import Known, TruthMemory, matching

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from consumer.sandbox.truth_memory import Family

WINDOW_SECONDS = 48 * 3600.0
"""How long TikTok drops a repeat, counted from the first event."""

RECENT_REQUESTS = 1000
RECENT_TEST_EVENTS = 1000


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


class EventFilter(NamedTuple):
    """Which accepted events are asked for; None asks for any.

    `test_event_code` "" asks for real events only. `accepted_at_least` 2 asks for those that
    counted more than once.
    """

    event_source_id: str | None = None
    event: str | None = None
    event_id: str | None = None
    test_event_code: str | None = None
    accepted_at_least: int = 1

    def wants(self, family: Family) -> bool:
        """Whether events of this destination, name and test code are asked for."""
        code = self.test_event_code
        return (
            self.event_source_id in (None, family.event_source_id)
            and self.event in (None, family.event)
            and (code is None or code == (family.test_event_code or ""))
        )


_EVERY_EVENT = EventFilter()


class RequestSeen(NamedTuple):
    """A request as it came and what became of it.

    `at` is in seconds since the epoch. `fault` names what struck it, if anything did; `code` is
    None where the answer carried none. `events` is 0 where the body could not be read. `app` is
    the one whose token it showed, None where any token is as good. `upload_seconds` is how long
    the body took to come, after its head. `status` is the HTTP status of the answer, None where
    the connection closed instead.
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
    status: int | None = None


class EventUnderTest(NamedTuple):
    """A test event as it came, in which request and when (`at`, seconds since the epoch)."""

    test_event_code: str
    event_source_id: str
    request_id: str
    at: float
    event: Mapping[str, Any]

    def __repr__(self) -> str:
        """Where it belongs; never what it says about a person."""
        return f"<EventUnderTest {self.test_event_code} {self.event_source_id}>"


class GroundTruth:
    """Everything TikTok has taken, and totals of everything it was asked.

    Requests are numbered as they come; `request_id` gives the number its public form. `limit` is
    how many events and requests are remembered (see `truth_memory`), None all of them; totals,
    the latest requests and the latest test events take bounded room in any case.
    """

    def __init__(self, window: float = WINDOW_SECONDS, limit: int | None = None) -> None:
        self._memory = TruthMemory(window, limit)
        self.recent: deque[RequestSeen] = deque(maxlen=RECENT_REQUESTS)
        self.test_events: deque[EventUnderTest] = deque(maxlen=RECENT_TEST_EVENTS)
        self._reset_totals()

    def _reset_totals(self) -> None:
        self.requests = 0
        self.events_received = 0
        self.events_accepted = 0
        self.events_deduplicated = 0
        self.test_events_accepted = 0
        self.requests_by_code: dict[str, int] = {}
        self.requests_by_fault: dict[str, int] = {}
        self.batch_sizes: dict[int, int] = {}

    def begin(self, now: float) -> int:
        """Numbers a request that came at `now` (seconds since the epoch)."""
        self.requests += 1
        return self._memory.begin(now)

    def answered(self, number: int, now: float) -> None:
        """Notes that the answer to a request is on its way to a client that was still there."""
        self._memory.answered(number, now)

    def answered_at(self, number: int) -> float | None:
        """When a request's answer went out; None where it has not, or the client had hung up."""
        return self._memory.answered_at(number)

    def accept(
        self,
        number: int,
        event_source_id: str,
        test_event_code: str | None,
        events: Sequence[Mapping[str, Any]],
    ) -> tuple[int, int]:
        """Takes the events of a request; returns how many counted and how many were repeats."""
        accepted = self._memory.take(number, event_source_id, test_event_code, events)
        deduplicated = len(events) - accepted
        self.events_accepted += accepted
        self.events_deduplicated += deduplicated
        if test_event_code is not None:
            self.test_events_accepted += accepted
            request, at = request_id(number), self._memory.came_at(number)
            self.test_events.extend(
                EventUnderTest(test_event_code, event_source_id, request, at, event)
                for event in events
            )
        return accepted, deduplicated

    def note(self, seen: RequestSeen) -> None:
        """Remembers a request that has been dealt with."""
        self.recent.append(seen)
        self.events_received += seen.events
        self.batch_sizes[seen.events] = self.batch_sizes.get(seen.events, 0) + 1
        code = "none" if seen.code is None else str(seen.code)
        self.requests_by_code[code] = self.requests_by_code.get(code, 0) + 1
        if seen.fault is not None:
            fault = str(seen.fault)  # a plain text: JSON takes no member of an enum as a key
            self.requests_by_fault[fault] = self.requests_by_fault.get(fault, 0) + 1

    def clear(self) -> None:
        """Forgets all events, requests and totals; request ids go on where they were."""
        self._memory.clear()
        self.recent.clear()
        self.test_events.clear()
        self._reset_totals()

    def events(self, wanted: EventFilter = _EVERY_EVENT) -> Iterator[AcceptedEvent]:
        """The events that were taken, by destination and name, first come first.

        Events may come in while this is being read; those may or may not be among them.
        """
        for family, known_ones in self._memory.families():
            if not wanted.wants(family):
                continue
            for event_id, known in matching(known_ones, wanted.event_id):
                identity = EventIdentity(
                    family.event_source_id, family.event, event_id, family.test_event_code
                )
                event = _accepted(identity, known)
                if event.accepted >= wanted.accepted_at_least:
                    yield event

    def summary(self) -> dict[str, Any]:
        """Totals as JSON: requests by code and fault, batch sizes, events by destination.

        Distinct events are those that are remembered; `events_forgotten` is how many are not.
        """
        by_destination: Counter[str] = Counter()
        for family, known_ones in self._memory.families():
            by_destination[family.event_source_id] += len(known_ones)
        return {
            "requests": self.requests,
            "requests_by_code": self.requests_by_code,
            "requests_by_fault": self.requests_by_fault,
            "batch_sizes": {str(size): n for size, n in sorted(self.batch_sizes.items())},
            "events_received": self.events_received,
            "events_accepted": self.events_accepted,
            "events_deduplicated": self.events_deduplicated,
            "test_events_accepted": self.test_events_accepted,
            "distinct_events": by_destination.total(),
            "distinct_events_by_destination": dict(by_destination),
            "events_forgotten": self._memory.forgotten,
        }


def _accepted(identity: EventIdentity, known: Known) -> AcceptedEvent:
    if isinstance(known, int):
        return AcceptedEvent(identity, 1, 0, (request_id(known),))
    repeats = len(known.requests) - known.accepted
    return AcceptedEvent(identity, known.accepted, repeats, tuple(map(request_id, known.requests)))


def request_id(number: int) -> str:
    """The request id that TikTok answers with for a request of this number."""
    return f"emulator{number:012X}"
