"""What delivery says: the requests to send, and what their answers settled."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.event import Attempt, Item, Refused
    from consumer.verdict import Verdict


class Request(NamedTuple):
    """A request to send: `events` are the JSON elements of `data[]`, in order."""

    handle: int
    event_source: str
    event_source_id: str
    test_event_code: str | None
    events: Sequence[bytes]

    def __repr__(self) -> str:
        """Where to and how many; never the events."""
        return f"<Request {self.handle} {self.event_source_id} events={len(self.events)}>"


class Announce(NamedTuple):
    """A batch about to be sent in which events are sent for the first time: say so before.

    Answer by `Delivery.announced`, when it can no longer be forgotten.
    """

    number: int
    items: Sequence[Item]


class Polled(NamedTuple):
    """What goes now, and what does not: `refused` for good, `unsure` until looked up again."""

    requests: Sequence[Request]
    announces: Sequence[Announce]
    refused: Sequence[tuple[Item, Refused]]
    unsure: Sequence[Item]


class Judged(NamedTuple):
    """What an answer settled: events accepted, and events refused for good.

    TikTok does not have the `cleared` ones: every attempt so far was refused for certain.
    """

    attempt: Attempt
    verdict: Verdict
    accepted: Sequence[Item]
    refused: Sequence[tuple[Item, Refused]]
    cleared: Sequence[Item] = ()

    def tell_as_sent(self) -> None:
        """What ended was in the request as it was then, not as it was to go in the next one."""
        if sent_as := self.attempt.sent_as:
            for item in (*self.accepted, *(item for item, _ in self.refused)):
                if (mapped := sent_as.get(item)) is not None:
                    item.mapped, item.event, item.consent = mapped, mapped.event, mapped.consent
            sent_as.clear()
