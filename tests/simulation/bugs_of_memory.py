"""Bugs to plant in what is remembered: state records, the local store, whose a partition is."""

from __future__ import annotations

from typing import Any

from consumer import engine, lookups
from consumer.engine import Engine
from consumer.lease import Lease
from consumer.lookups import LookUps
from consumer.memory import Memory
from consumer.messages import LookUp
from consumer.settle import STORE_FAILED, Settlement
from consumer.state_floor import Floor
from consumer.state_log import StateLog
from consumer.state_phases import Phase
from consumer.state_records import Kind, decode
from tests.simulation.bug import Bug, Original


def _mark_before_acceptance(announce: Original) -> Original:
    def broken(memory: Memory, batch: Any) -> None:
        announce(memory, batch)
        for item in batch.items:
            log = item.owner.state
            memory._follow(log, [log.append(Kind.ACCEPTED, 0, 0, item.key)])

    return broken


def _always(_holds: Original) -> Original:
    return lambda _lease, _now: True


def _no_wait(_taken_over: Original) -> Original:
    def broken(log: StateLog, _now: Any) -> None:
        log._unclosed.clear()
        log._begin_work()

    return broken


def _short_wait(taken_over: Original) -> Original:
    def broken(log: StateLog, now: Any) -> None:
        taken_over(log, now)
        log.wait_until = min(log.wait_until, now.mono + 1.0)

    return broken


def _store_only(_accepted: Original) -> Original:
    def broken(memory: Memory, appended: Any) -> None:
        for log, produce in appended:
            del log._sent[produce.handle]
            memory.effective.append(produce.handle)

    return broken


def _active_only(accept: Original) -> Original:
    def broken(settlement: Settlement, items: Any, reason: Any, now: Any) -> Any:
        return accept(settlement, [item for item in items if item.owner.active], reason, now)

    return broken


def _no_gap(advance: Original) -> Original:
    def broken(log: StateLog, now: Any) -> Any:
        if log.phase is Phase.READY and log._busy is None and log._entries:
            log._next = log._entries[0].offset
        return advance(log, now)

    return broken


def _no_foreign_open(attempted_or_owned: Original) -> Original:
    def broken(log: StateLog, offset: int, timestamp: int, value: Any, now: Any) -> None:
        if value.kind is not Kind.OPEN:
            attempted_or_owned(log, offset, timestamp, value, now)

    return broken


def _forget_attempts(begin_work: Original) -> Original:
    def broken(log: StateLog) -> None:
        log.attempts.since.clear()
        begin_work(log)

    return broken


def _floor_at_position(reached: Original) -> Original:
    def broken(log: StateLog, now: Any) -> Any:
        found = reached(log, now)
        return found._replace(floor=found.next_offset)

    return broken


def _read_without_marks(apply: Original) -> Original:
    def broken(log: StateLog, chunk: Any, now: Any) -> list[Any]:
        apply(log, chunk, now)
        return []

    return broken


def _shorter_window(within: Original) -> Original:
    return lambda accepted_ms, now_ms, window_ms: within(accepted_ms, now_ms, window_ms // 4)


def _endless_window(_within: Original) -> Original:
    return lambda accepted_ms, _now_ms, _window_ms: accepted_ms is not None


def _empty_is_complete(acknowledged: Original) -> Original:
    def broken(log: StateLog, handle: int, offset: int, now: Any) -> Any:
        if handle == log._opening and log._next is None:
            log._read_from(offset)
        return acknowledged(log, handle, offset, now)

    return broken


def _hold_nothing(_holds: Any) -> dict[Any, str]:
    return {}


def _any_topic(apply: Original) -> Original:
    def broken(log: StateLog, chunk: Any, now: Any) -> Any:
        marks = apply(log, chunk, now)
        values = (decode(record.value) for record in chunk.records)
        through = [value.settled_through for value in values if value is not None]
        log.settled_through = max([log.settled_through, *through])
        return marks

    return broken


def _nothing_learned(follow: Original) -> Original:
    def broken(memory: Memory, log: StateLog, actions: Any) -> None:
        if log.learned:
            log.ready, log.learned = log.phase is Phase.READY, False
        follow(memory, log, actions)

    return broken


def _left_forgotten(_left: Original) -> Original:
    return lambda _floor: None


def _never_rewound(_is_rewound: Original) -> Original:
    return lambda _look_ups, _item, _wall_ms: False


def _failed_is_empty(store_failed: Original) -> Original:
    def broken(self: Engine, handle: int, now: Any) -> Any:
        asked = self._look_ups.asked(handle)
        if asked is None:
            return store_failed(self, handle, now)
        action, _ = asked
        assert isinstance(action, LookUp)
        return self.looked_up(handle, [None] * len(action.keys), now)

    return broken


def _held_for_ever(release: Original) -> Original:
    def broken(state: StateLog, reason: str, handle: int) -> None:
        if reason != STORE_FAILED:
            release(state, reason, handle)

    return broken


BUGS: dict[str, Bug] = {
    "mark_before_acceptance": Bug(
        "a key is recorded as accepted when it is announced",
        Memory, "announce", _mark_before_acceptance,
    ),
    "ignore_the_lease": Bug(
        "attempts start without a proof of membership", Lease, "holds", _always
    ),
    "skip_the_wait": Bug(
        "a new owner does not wait for the requests of one that vanished",
        StateLog, "_taken_over", _no_wait,
    ),
    "wait_too_short": Bug(
        "a new owner waits a second for the requests of one that vanished",
        StateLog, "_taken_over", _short_wait,
    ),
    "store_only": Bug(
        "an acceptance is not written to the state topic",
        Memory, "accepted", _store_only,
    ),
    "late_acceptance_untold": Bug(
        "an acceptance that comes after the partition was lost is not written to the state topic",
        Settlement, "accept", _active_only,
    ),
    "gap_unread": Bug(
        "what somebody else wrote in between is not read",
        StateLog, "_advance", _no_gap,
    ),
    "foreign_open_ignored": Bug(
        "another member's `open` means nothing",
        StateLog, "_attempted_or_owned", _no_foreign_open,
    ),
    "attempts_forgotten": Bug(
        "a new owner does not know what the one before had attempted",
        StateLog, "_begin_work", _forget_attempts,
    ),
    "floor_too_early": Bug(
        "after a crash attempts are read only from the position on",
        StateLog, "_reached", _floor_at_position,
    ),
    "position_without_marks": Bug(
        "the store's position moves on, the marks that were read are not written",
        StateLog, "_apply", _read_without_marks,
    ),
    "window_too_short": Bug(
        "an acceptance counts for a quarter of the window",
        lookups, "within_window", _shorter_window,
    ),
    "window_without_end": Bug(
        "an acceptance counts for ever",
        lookups, "within_window", _endless_window,
    ),
    "empty_is_complete": Bug(
        "a local store that is empty is taken for complete",
        StateLog, "acknowledged", _empty_is_complete,
    ),
    "failed_is_empty": Bug(
        "a local store that fails is taken for one that knows nothing",
        Engine, "store_failed", _failed_is_empty,
    ),
    "held_for_ever": Bug(
        "a partition stays held when its local store works again",
        engine, "_release", _held_for_ever,
    ),
    "another_topic_believed": Bug(
        "what was settled of a topic that is no more counts for the one of today",
        StateLog, "_apply", _any_topic,
    ),
    "read_before_rebuilt": Bug(
        "a partition is read before its memory is complete",
        engine, "HOLDS", _hold_nothing,
    ),
    "late_facts_unheard": Bug(
        "somebody else's late acceptance does not stop what waits to be sent",
        Memory, "_follow", _nothing_learned,
    ),
    "left_forgotten": Bug(
        "after a restart nobody knows what was given up without an outcome",
        Floor, "left", _left_forgotten,
    ),
    "rewound_resent": Bug(
        "what was settled before is sent again when its mark has expired",
        LookUps, "_is_rewound", _never_rewound,
    ),
}  # fmt: skip
"""Each by a name for the command line."""
