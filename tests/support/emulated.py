"""The TikTok emulator as a function from a request to its answer, without a socket or a clock."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from consumer.client import envelope
from consumer.event import Instant
from consumer.sandbox.rules import REJECT_MARKER
from consumer.sandbox.tiktok import Ask, EmulatorSettings, TikTok
from consumer.verdict import Answer
from tests.support.events import FIELDS
from tests.support.tiktok_values import event

if TYPE_CHECKING:
    from consumer.requests import Request
    from consumer.sandbox.faults import Scenario


def bad_event(event_id: str) -> bytes:
    """A value for `JsonDecoder` that our own checks let pass and the emulator refuses."""
    properties = dict.fromkeys(FIELDS["Properties"]) | {"custom": {REJECT_MARKER: True}}
    return event(event_id, properties=properties)


class Emulated:
    """Answers requests as the emulator does; remembers what it took."""

    def __init__(self, scenario: Scenario) -> None:
        self._now = Instant(0.0, 0)
        self._tiktok = TikTok(EmulatorSettings(scenario=scenario), self._now)

    def __call__(self, request: Request) -> Answer:
        """The answer to a request."""
        reply = self._tiktok.answer(Ask(envelope(request), "token"), self._now)
        return Answer(reply.status, reply.body, reply.retry_after)

    def accepted(self) -> Counter[str]:
        """How often each event was taken, repeats that were dropped included."""
        taken = self._tiktok.truth.events()
        return Counter({one.identity.event_id: len(one.request_ids) for one in taken})

    @property
    def request_ids(self) -> set[bytes]:
        """Of all requests."""
        return {seen.request_id.encode() for seen in self._tiktok.truth.recent}
