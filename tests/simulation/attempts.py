"""What must hold for attempts: who may send, what, when, and how often."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from typing import TYPE_CHECKING

from consumer.lease import lease_seconds
from tests.simulation.gates import Gates
from tests.simulation.schedule import Kind
from tests.simulation.tiktok import PERSON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.event import Attempt, Item
    from consumer.state_log import StateLog
    from consumer.verdict import Answer
    from tests.simulation.judge import Judge
    from tests.simulation.process import Process
    from tests.simulation.tiktok import Call, Sent
    from tests.simulation.world import World

_PERSON = hashlib.sha256(PERSON.encode()).hexdigest().encode()
_ROUNDING = 1e-6
_CROSSING = 1.0
"""Seconds in which an announcement and a late acceptance may cross each other on their way."""

_TOLD_WITHIN = 60.0
"""Seconds in which a process that lives tells the state topic what it has heard."""


class Attempts:
    """All requests of one run. `repeats` counts events that were sent again, by cause."""

    def __init__(self, world: World, judge: Judge) -> None:
        setup = world.setup
        self._world = world
        self._setup = setup
        self._clock = world.clock
        self._notes = judge.notes
        self._truth = judge.truth
        self._owners = judge.owners
        self._own_records = judge.own_records
        self._counts = judge.counts
        self._gates = Gates(world.clock, setup, judge.notes)
        self._lease = lease_seconds(setup.session_timeout, setup.request_timeout)
        self._slack = setup.request_timeout + 5.0 + setup.wall_skew
        self._taken: dict[tuple[StateLog, str], float] = {}
        self._heard: list[tuple[Process, str, float]] = []
        self._sent: dict[Item, bytes] = {}
        self.repeats: Counter[str] = Counter()

    def took(self, call: Call, events: Sequence[Sent]) -> None:
        """TikTok has taken events: the truth."""
        for sent in events:
            taken = self._truth.accepted.setdefault(sent.event_id, [])
            if taken:
                self._counts["taken again"] += 1
            taken.append(self._clock.now)
        if self._world.telling:
            names = ", ".join(sent.event_id for sent in events)
            self._world.tell(f"TikTok takes {names} (request {call.serial})")
        self._notes.note(1, call.serial)

    def decided(self, process: Process, call: Call, handle: int) -> None:
        """An engine says that a request is to be sent."""
        fail, name = self._notes.fail, process.name
        self._gates.decided(process, call)
        batch, _ = process.engine.delivery._in_air[handle]
        for item in batch.items:
            state, event_id = item.owner.state, item.event_id or ""
            self._truth.event_of[item.key] = event_id
            # As it was when the engine decided: what came with the same step may have ended it.
            if not self._owners.may_send(state):
                fail("not the owner", f"{name} sends {event_id} while {state.phase}")
            if self._has_read_foreign_open(state):
                fail("superseded", f"{name} sends {event_id} and has read of another owner")
            if not self._own_records.is_announced(state._member, item.key):
                fail("announced", f"{name} sends {event_id} without a word in the state topic")
            if self._is_rewound(state, item):
                fail("rewound", f"{name} sends {event_id}, which was settled a window ago")
            self._check_consent(name, item)
            if item.mapped is not None:
                self._sent[item] = item.mapped.body
            self._check_again(process, state, item)
            call.states[state.tp.partition] = state
        self._counts["requests"] += 1
        self._counts["sent"] += len(batch.items)
        self._notes.note(2, process.serial, len(batch.items), call.serial)

    def began(self, process: Process, call: Call) -> None:
        """A request goes on the wire."""
        if self._world.telling:
            names = ", ".join(sent.event_id for sent in call.events)
            self._world.tell(f"{process.name} sends {names} (request {call.serial})")
        if self._clock.now >= process.proved_at + self._lease + _ROUNDING:
            self._notes.fail("lease", f"{process.name} sends without a proof of membership")
        for partition, state in call.states.items():
            if self._owners.is_replaced(partition, state):
                detail = f"{process.name} sends events of partition {partition}"
                self._notes.fail("old owner", f"{detail}, which has a new owner")

    def answered(self, process: Process, call: Call, handle: int, answer: Answer) -> None:
        """A process has learned, or not, what became of a request."""
        if self._world.telling:
            said = answer.failure or answer.body.decode()
            self._world.tell(f"{process.name} hears of request {call.serial}: {said}")
        self._notes.note(3, process.serial, call.serial, len(answer.body))
        self._gates.answered(process, call, answer)
        if answer.body.startswith(b'{"code":0,'):
            batch, _ = process.engine.delivery._in_air[handle]
            for item in batch.items:
                event_id = item.event_id or ""
                self._taken[item.owner.state, event_id] = self._clock.now
                self._heard.append((process, event_id, self._clock.now))

    def attempted(self, attempt: Attempt) -> None:
        """An attempt is over."""
        self.repeats.update(attempt.repeats)

    def told(self, item: Item) -> None:
        """A delivered item tells what TikTok has of it, not what the next attempt was to have."""
        if item.mapped is None or self._sent.pop(item, None) != item.mapped.body:
            self._notes.fail("told", f"{item.event_id} is told of as it was not sent")

    def finish(self) -> None:
        """What a process heard of, also after it had lost the partition, is known to everybody."""
        for process, event_id, at in self._heard:
            late = self._clock.now - at > _TOLD_WITHIN
            if late and process.alive and event_id not in self._truth.known:
                self._notes.fail("untold", f"{process.name} keeps to itself that {event_id} is in")

    def _has_read_foreign_open(self, state: StateLog) -> bool:
        read = state._next or 0
        opens = self._truth.opens[state.tp.partition]
        last = next(member for offset, member in reversed(opens) if offset < read)
        return last != state._member

    def _is_rewound(self, state: StateLog, item: Item) -> bool:
        """Whether a record was settled before its owner began, and too long ago for its mark."""
        window, partition = self._setup.window, state.tp.partition
        age = (item.received.wall_ms - item.record.timestamp) / 1000
        if item.owner.beside is not None or age <= window + self._setup.wall_skew:
            return False
        opens = self._truth.opens[partition]
        begun = max(offset for offset, member in opens if member == state._member)
        told = [
            through
            for offset, through, at in self._truth.told.get(partition, ())
            if offset <= begun and self._clock.now - at < window
        ]
        return item.record.offset < max(told, default=0)

    def _check_consent(self, name: str, item: Item) -> None:
        """Of the records that share an attempt the strictest decides what is in it."""
        if item.mapped is None or _PERSON not in item.mapped.body:
            return
        for one in (item, *(item.waiters or ())):
            if self._truth.source_of(one).kind is Kind.STRIPPED:
                detail = f"{name} sends {item.event_id} with what the person does not allow"
                self._notes.fail("consent", detail)

    def _check_again(self, process: Process, state: StateLog, item: Item) -> None:
        """An event that TikTok has, or may have, is sent again only as far as was promised."""
        truth, setup, now = self._truth, self._setup, self._clock.now
        fail, event_id = self._notes.fail, item.event_id or ""
        window = setup.window - setup.wall_skew
        if now - self._taken.get((state, event_id), -math.inf) < window:
            fail("sent again", f"{process.name} has heard that {event_id} was accepted")
        for partition, offset, accepted_ms, told_at in truth.known.get(event_id, ()):
            if self._world.broker.now_ms - accepted_ms >= window * 1000:
                continue
            read = partition == state.tp.partition and offset < (state._next or 0)
            if read or now - told_at > _CROSSING:
                fail("sent again", f"{process.name} sends {event_id}, accepted at {offset}")
            self._counts["crossed"] += 1
        for accepted_at in truth.unknown_acceptances(event_id):
            age = now - accepted_at
            if setup.give_up_after + self._slack < age < setup.window - self._slack:
                fail("given up late", f"{event_id} is sent {age:.0f} s after it was taken")
            if item.first_unknown_ms is None and age < setup.window - self._slack:
                fail("uncounted repeat", f"{event_id} is sent again as if for the first time")
