"""What partitions remember, while it is asked for: who is held meanwhile, and what follows from it.

Local stores and the state topic answer, or fail. Where one fails the partition is held and it is
asked again; where the memory of a partition is complete, or no longer, its events go on to be
looked up, or wait to be looked up anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.settle import STORE_FAILED
from consumer.state_phases import HOLDS, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.again import Again
    from consumer.deliver import Delivery
    from consumer.event import Instant
    from consumer.handover import Closings
    from consumer.lookups import LookUps
    from consumer.memory import Memory
    from consumer.messages import Acknowledged, Action, Reached, StateChunk
    from consumer.offsets import Partition
    from consumer.settle import Settlement
    from consumer.state_log import StateLog

STATE_REFUSED = "state_topic_refused"
"""Hold reason: the broker does not take the state topic's records."""

STATE_UNREAD = "state_topic_unread"
"""Hold reason: the broker does not tell the state topic's records."""

_MEMORY = -2
"""Handles count from 1; this one stands for the phase of a partition's memory."""


class Recall:
    """The questions to the memory of all partitions; `out` takes the actions."""

    def __init__(  # noqa: PLR0917  those that an answer may concern, each once
        self,
        memory: Memory,
        look_ups: LookUps,
        settlement: Settlement,
        delivery: Delivery,
        again: Again,
        closings: Closings,
        out: list[Action],
    ) -> None:
        self._memory = memory
        self._look_ups = look_ups
        self._settlement = settlement
        self._delivery = delivery
        self._again = again
        self._closings = closings
        self._out = out

    def begin(self, partition: Partition) -> None:
        """A partition was assigned: it is held until its memory is complete."""
        if (reason := HOLDS.get(partition.state.phase)) is not None:
            partition.hold(reason, _MEMORY)

    # Answers

    def looked_up(self, handle: int, accepted_at: Sequence[int | None], now: Instant) -> None:
        """The store said when each key was accepted (milliseconds), if it was."""
        self._again.succeeded(handle)
        owner = self._look_ups.answered(handle, accepted_at, now)
        if owner is not None:
            _release(owner.state, STORE_FAILED, handle)

    def store_opened(self, handle: int, reached: Reached | None) -> None:
        """A local store is open; it has reached this place of the state topic, if any."""
        self._answered(handle, STORE_FAILED)
        self._memory.store_opened(handle, reached)

    def read(self, handle: int, chunk: StateChunk, now: Instant) -> None:
        """A chunk of a state partition was read."""
        self._answered(handle, STATE_UNREAD)
        self._memory.read(handle, chunk, now)

    def unread(self, handle: int, now: Instant) -> None:
        """A state partition could not be read: asked again later."""
        self._failed(handle, STATE_UNREAD, now)

    def marked(self, handle: int, now: Instant) -> None:
        """The marks are durable."""
        waited = self._memory.waited_for(handle)
        self._answered(handle, STORE_FAILED)
        self._memory.marked(handle, now)
        for owner in waited[0].owners if waited is not None else ():
            if owner.active and owner.state.ready:
                self._look_ups.ask_waiting(owner)

    def store_failed(self, handle: int, now: Instant) -> None:
        """The store failed: the partition stops until it answers again."""
        asked = self._look_ups.asked(handle)
        if asked is not None:
            action, owner = asked
            _hold(owner.state, STORE_FAILED, handle)
            self._again.failed(handle, action, now.mono)
        else:
            self._failed(handle, STORE_FAILED, now)

    def store_lost(self, partition: Partition) -> None:
        """A local store is no longer what it was: the partition's memory is taken over anew."""
        for handle in self._memory.lost_store(partition.state):
            self._again.succeeded(handle)
            for reason in (STORE_FAILED, STATE_UNREAD):
                _release(partition.state, reason, handle)

    def acknowledged(self, answer: Acknowledged, now: Instant) -> bool:
        """What became of a record of the state topic; false if it is not one of those."""
        memory, handle = self._memory, answer.handle
        if (news := memory.news(handle)) is not None:
            if answer.error is not None:
                self._again.failed(handle, news, now.mono)
            else:
                self._again.succeeded(handle)
                memory.told(handle)
        elif memory.waited_for(handle) is None:
            return False
        elif answer.error is None and answer.offset is not None:
            self._answered(handle, STATE_REFUSED)
            memory.acknowledged(handle, answer.offset, now)
        elif not memory.dropped(handle):
            self._failed(handle, STATE_REFUSED, now)
        return True

    def _answered(self, handle: int, reason: str) -> None:
        self._again.succeeded(handle)
        waited = self._memory.waited_for(handle)
        if waited is not None:
            _release(waited[0], reason, handle)

    def _failed(self, handle: int, reason: str, now: Instant) -> None:
        """What a partition's memory rests on failed: its partitions are held, it is tried again."""
        waited = self._memory.waited_for(handle)
        if waited is not None:
            _hold(waited[0], reason, handle)
            self._again.failed(handle, waited[1], now.mono)

    # What follows

    def follow(self, now: Instant) -> None:
        """Carries on what follows from the memory: until nothing follows any more."""
        memory = self._memory
        while memory.effective or memory.announced or memory.moved or memory.learned:
            effective, memory.effective = memory.effective, []
            for handle in effective:
                if not self._settlement.marked(handle, now):
                    self._closings.acknowledged(handle)
            announced, memory.announced = memory.announced, []
            for number in announced:
                self._delivery.announced(number)
            moved, memory.moved = memory.moved, []
            for state in moved:
                self._moved(state)
            learned, memory.learned = memory.learned, []
            for state in learned:
                self._doubt(state)
        self._out += memory.actions
        memory.actions = []

    def _moved(self, state: StateLog) -> None:
        """The memory of a partition is complete now, or no longer."""
        reason = HOLDS.get(state.phase)
        owners = [owner for owner in state.owners if owner.active]
        for owner in owners:
            for other in set(HOLDS.values()):
                owner.release(other, _MEMORY)
            if reason is not None:
                owner.hold(reason, _MEMORY)
        if state.phase is Phase.READY:
            for owner in owners:
                owner.begin_at(0 if owner.beside is not None else state.settled_through)
                self._look_ups.ask_waiting(owner)
        elif state.phase in {Phase.SUPERSEDED, Phase.LOADING}:
            self._doubt(state)

    def _doubt(self, state: StateLog) -> None:
        """What waits to be sent has to be looked up again, when the memory is complete."""
        for item in self._delivery.doubt({owner for owner in state.owners if owner.active}):
            item.owner.waiting.append(item)


def _hold(state: StateLog, reason: str, handle: int) -> None:
    for owner in state.owners:
        owner.hold(reason, handle)


def _release(state: StateLog, reason: str, handle: int) -> None:
    for owner in state.owners:
        owner.release(reason, handle)
