"""What is known after a round: from the records produced, the emulator, the topics and the clock.

Everything here is data, so that a verdict can be asked for on evidence that never happened.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from consumer.state_records import KEY_BYTES, Kind, decode
from tests.faults.load import Fate, event_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from consumer.event import Record
    from consumer.sandbox.ground_truth import AcceptedEvent, GroundTruth, RequestSeen
    from consumer.sandbox.receipts import Position
    from tests.faults.load import Load

_TOLD: Final = 5
NEVER: Final = -1
PROCESS_BYTES: Final = 8


class IncidentKind(StrEnum):
    """What the harness did to the world."""

    KILL = "kill"
    STOP = "stop"
    JOIN = "join"
    LEAVE = "leave"
    BROKER = "broker killed"
    LEADER = "leader moved"
    CUT = "network cut"
    WIPE = "state wiped"
    DISK = "disk full"
    TOPIC = "topic deleted"
    HOLD = "destination held"
    RESET = "offsets reset"


class Incident(NamedTuple):
    """Something that was done, to one member or to all.

    `app` is the member's, as the emulator knows it, or None for all. Times are in seconds since
    the epoch; `ended` equals `began` where it took no time.
    """

    kind: IncidentKind
    app: str | None
    began: float
    ended: float


class Opened(NamedTuple):
    """A process has taken a partition over: its place and time (seconds) in the state topic."""

    offset: int
    at: float
    process: bytes


class Mark(NamedTuple):
    """An acceptance in the state topic: its place and time (seconds) there, and who wrote it."""

    offset: int
    at: float
    process: bytes


@dataclass
class StateHistory:
    """What the state topic says: who owned a partition since when, and what was marked when."""

    opens: dict[int, list[Opened]] = field(default_factory=dict)
    marks: dict[bytes, list[Mark]] = field(default_factory=dict)
    first_keys: dict[bytes, list[tuple[float, bytes]]] = field(default_factory=dict)
    """By process: the time and the first key of each of its records of acceptances."""

    @classmethod
    def read(cls, records: Iterable[Record], wanted: frozenset[bytes]) -> StateHistory:
        """Reads a state topic; of its marks only those of the wanted keys are kept."""
        history = cls()
        for record in records:
            said = decode(record.value)
            if said is None:
                continue
            at = record.timestamp / 1000
            # A member id is the process's and the number of one of its assignments.
            process = said.member[:PROCESS_BYTES]
            if said.kind is Kind.OPEN:
                opened = Opened(record.offset, at, process)
                history.opens.setdefault(record.partition, []).append(opened)
            elif said.kind is Kind.ACCEPTED and said.keys:
                first = (at, said.keys[:KEY_BYTES])
                history.first_keys.setdefault(process, []).append(first)
                for place in range(0, len(said.keys), KEY_BYTES):
                    key = said.keys[place : place + KEY_BYTES]
                    if key in wanted:
                        mark = Mark(record.offset, at, process)
                        history.marks.setdefault(key, []).append(mark)
        return history


@dataclass
class Acceptances:
    """What the emulator has taken.

    `first` has the number of the request that brought an event first, by event, `NEVER` where
    none did. `requests` has all of them, by event, where there was more than one. `strangers` are
    events that should not have been sent.
    """

    first: array[int]
    requests: dict[int, Sequence[int]] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, load: Load, accepted: Iterable[AcceptedEvent]) -> Acceptances:
        """Compares what was accepted with what was produced."""
        taken = cls(array("l", [NEVER]) * len(load.fates))
        for each in accepted:
            event = event_of(each.identity.event_id)
            if (
                event >= len(load.fates)
                or load.fates[event] != Fate.DELIVERED
                or each.identity != load.identity(event)
            ):
                taken.strangers.append(f"{each.identity} was sent and should not have been")
                continue
            numbers = [int(request_id[-12:], 16) for request_id in each.request_ids]
            taken.first[event] = numbers[0]
            if len(numbers) > 1:
                taken.requests[event] = numbers
        return taken


@dataclass(frozen=True)
class Answers:
    """The emulator's requests by number, and when their answers went out (None: they did not)."""

    requests: Sequence[RequestSeen]
    answered_at: Sequence[float | None]

    @classmethod
    def read(cls, truth: GroundTruth) -> Answers:
        """Everything that an emulator was asked; it must have kept all its requests."""
        requests = tuple(truth.recent)
        return cls(requests, [truth.answered_at(number) for number in range(len(requests))])


@dataclass
class Evidence:
    """All that a verdict is made of.

    `keys` gives the deduplication key of an event that was accepted more than once; `app_of_key`,
    where a member was stopped, who sent the event of a key. `receipts` is what they tell of each
    record, None where none are written. `timeout` is `tiktok.timeout` and
    `session` the group's session time-out, in seconds. `strict` says that nothing has happened
    in the round that excuses a repeat, or a second letter of one record. `longest_pause` is the
    time in seconds for which no partition may stand still, where that is promised.
    """

    load: Load
    taken: Acceptances
    answers: Answers
    incidents: Sequence[Incident]
    history: StateHistory
    keys: Mapping[int, bytes]
    letters: Sequence[Record]
    committed: Mapping[int, int]
    receipts: Mapping[Position, str] | None = None
    app_of_key: Mapping[bytes, str | None] = field(default_factory=dict)
    timeout: float = 2.0
    session: float = 6.0
    strict: bool = False
    longest_pause: float | None = None
    findings: list[str] = field(default_factory=list)
    """What went wrong while the round was played."""


def told(findings: Sequence[str]) -> list[str]:
    """The first few of one kind, then how many there are."""
    if len(findings) <= _TOLD:
        return list(findings)
    return [*findings[:_TOLD], f"… and {len(findings) - _TOLD} more of this kind"]
