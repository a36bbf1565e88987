"""The evidence of a round that was never played: honest, until a test forges something in it."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from consumer.sandbox.ground_truth import RequestSeen, request_id
from consumer.sandbox.receipts import COUNTED
from tests.faults.evidence import (
    NEVER,
    Acceptances,
    Answers,
    Evidence,
    Incident,
    Mark,
    Opened,
    StateHistory,
)
from tests.faults.load import LETTERS, Fate, Load

if TYPE_CHECKING:
    from consumer.event import Record
    from tests.faults.evidence import IncidentKind

NOW = 1_764_000_000.0
"""When the round began, in seconds since the epoch."""

PARTITIONS = 2
_A_REQUEST = 20
_RECORDS = 400
_OUTCOMES = {
    **dict.fromkeys(LETTERS, "dead_lettered"),
    Fate.DENIED: "suppressed",
    Fate.TOMBSTONE: "suppressed",
}


class ForgedRound:
    """A round in which one member, `first`, sent everything, a request a second.

    Each answer went out 50 ms after its request, and each event was marked 50 ms after that.
    """

    def __init__(self, seed: int = 1) -> None:
        load = Load(seed, 1, PARTITIONS, int(NOW * 1000))
        list(load.records(load.more(_RECORDS)))
        self.requests: list[RequestSeen] = []
        self.answered: list[float | None] = []
        taken = Acceptances(array("l", [NEVER]) * _RECORDS)
        events = list(load.with_fate(Fate.DELIVERED))
        for at in range(0, len(events), _A_REQUEST):
            number = self.request("first", NOW + len(self.requests))
            for event in events[at : at + _A_REQUEST]:
                taken.first[event] = number
        history = StateHistory({p: [Opened(0, NOW - 1, b"first")] for p in range(PARTITIONS)})
        self.evidence = Evidence(
            load,
            taken,
            Answers(self.requests, self.answered),
            [],
            history,
            {event: _key(event) for event in events},
            [
                dead_letter(load, partition, offset)
                for partition, log in enumerate(load.log)
                for offset, number in enumerate(log)
                if Fate(load.fates[number]) in LETTERS
            ],
            load.ends,
            receipts={
                (partition, offset): _OUTCOMES.get(Fate(load.fates[number]), COUNTED)
                for partition, log in enumerate(load.log)
                for offset, number in enumerate(log)
            },
        )
        for event in events:
            first = self.answered[taken.first[event]]
            assert first is not None
            self.mark(event, 1 + event, first + 0.05, b"first")

    @property
    def an_event(self) -> int:
        """A delivered event, one of the first."""
        return next(self.evidence.load.with_fate(Fate.DELIVERED))

    def at(self, event: int) -> float:
        """When the first request with an event came."""
        return self.requests[self.evidence.taken.first[event]].at

    def request(
        self, app: str, at: float, *, answered: float | None = 0.05, fault: str | None = None
    ) -> int:
        """A request that was accepted at a time, and answered so many seconds later; its number."""
        number = len(self.requests)
        answer = None if answered is None else at + answered
        self.requests.append(
            RequestSeen(request_id(number), at, "PIXEL", None, 1, 1, 0, fault, 1, 0, app)
        )
        self.answered.append(answer)
        return number

    def lose(self, event: int) -> None:
        """An event was never accepted."""
        self.evidence.taken.first[event] = NEVER

    def unanswer(self, event: int, fault: str | None = None) -> None:
        """The first request with an event got no answer, and so there is no mark of it."""
        number = self.evidence.taken.first[event]
        self.requests[number] = self.requests[number]._replace(fault=fault)
        self.answered[number] = None
        self.unmark(event)

    def send_again(self, event: int, app: str, after: float) -> None:
        """An event came once more, so many seconds after the first time."""
        first = self.evidence.taken.first[event]
        again = self.request(app, self.at(event) + after)
        self.evidence.taken.requests[event] = [first, again]

    def mark(self, event: int, offset: int, at: float, process: bytes) -> None:
        """The state topic has one more mark of an event."""
        marks = self.evidence.history.marks.setdefault(_key(event), [])
        marks.append(Mark(offset, at, process))
        self.evidence.history.first_keys.setdefault(process, []).append((at, _key(event)))

    def unmark(self, event: int) -> None:
        """The state topic has no mark of an event."""
        self.evidence.history.marks.pop(_key(event), None)

    def take_over(self, process: bytes, offset: int, at: float) -> None:
        """A process takes every partition over."""
        for opens in self.evidence.history.opens.values():
            opens.append(Opened(offset, at, process))

    def happened(self, kind: IncidentKind, app: str | None, began: float, ended: float) -> None:
        """Something was done to a member, or to all."""
        self.evidence.incidents = [*self.evidence.incidents, Incident(kind, app, began, ended)]


def dead_letter(load: Load, partition: int, offset: int) -> Record:
    """The dead letter that a record must have."""
    number = load.log[partition][offset]
    original = load.record(number)
    reason = LETTERS[Fate(load.fates[number])].value.encode()
    own = {
        "dlq.reason": reason,
        "dlq.source.partition": b"%d" % partition,
        "dlq.source.offset": b"%d" % offset,
        "__connect.errors.topic": b"t",
    }
    headers = (*original.headers, *own.items())
    return original._replace(topic="t.dlq", partition=0, offset=0, headers=headers)


def _key(event: int) -> bytes:
    return b"%016d" % event
