"""Bugs to plant: each breaks the engine in one small way, for as long as a run lasts.

What the simulation is worth shows in that it catches every one of them. `PLANTED` says what each
one is; the seeds that catch them are in `caught.txt`.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from consumer import deliver, engine, expiry, lookups, offsets
from consumer.commit_metadata import Span
from consumer.commits import Commits
from consumer.dedup import InFlight
from consumer.deliver import Delivery
from consumer.engine import Engine
from consumer.event import Outcome
from consumer.lease import Lease
from consumer.memory import Memory
from consumer.messages import Commit
from consumer.offsets import CommitOffset, Partition
from consumer.parking import Parking
from consumer.settle import Settlement
from consumer.state_log import StateLog
from consumer.state_phases import Phase
from consumer.state_records import Kind, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Original = Callable[..., Any]


class Bug(NamedTuple):
    """What is broken: the place, and what takes its place there."""

    sentence: str
    owner: Any
    name: str
    broken: Callable[[Any], Any]


def _mark_before_acceptance(announce: Original) -> Original:
    def broken(memory: Memory, batch: Any) -> None:
        announce(memory, batch)
        for item in batch.items:
            log = item.owner.state
            memory._follow(log, [log.append(Kind.ACCEPTED, 0, 0, item.key)])

    return broken


def _everything_read_is_settled(_watermark: property) -> property:
    return property(lambda partition: partition.position)


def _forget_a_waiter(leave: Original) -> Original:
    return lambda in_flight, item: leave(in_flight, item)[:-1]


def _always(_holds: Original) -> Original:
    return lambda _lease, _now: True


def _no_wait(_taken_over: Original) -> Original:
    def broken(log: StateLog, _now: Any) -> None:
        log._unclosed.clear()
        log._begin_work()

    return broken


def _one_too_many(settled_spans: Original) -> Original:
    def broken(base: int, unsettled: Any, position: int) -> Iterator[Span]:
        for span in settled_spans(base, unsettled, position):
            yield Span(span.start, span.end + 1)

    return broken


def _late_result_commits(answered: Original) -> Original:
    def broken(self: Engine, handle: int, answer: Any, now: Any) -> Any:
        batch, _ = self.delivery._in_air[handle]
        late = {i.owner.tp: i.record.offset for i in batch.items if not i.owner.active}
        actions = answered(self, handle, answer, now)
        commits = {tp: CommitOffset(offset + 1) for tp, offset in late.items()}
        return [*actions, Commit(commits, 0)] if commits else actions

    return broken


def _any_answer_proves(answered: Original) -> Original:
    def broken(commits: Commits, results: Any) -> float | None:
        results = list(results)
        answered(commits, results)
        return commits._next_at if any(result.error is None for result in results) else None

    return broken


def _announced_already(add: Original) -> Original:
    def broken(delivery: Delivery, item: Any, now: Any) -> None:
        item.announced = True
        add(delivery, item, now)

    return broken


def _store_only(_accepted: Original) -> Original:
    def broken(memory: Memory, appended: Any) -> None:
        for log, produce in appended:
            del log._sent[produce.handle]
            memory.effective.append(produce.handle)

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
        log.attempts.clear()
        begin_work(log)

    return broken


def _floor_at_position(reached: Original) -> Original:
    def broken(log: StateLog) -> Any:
        found = reached(log)
        return found._replace(floor=found.next_offset)

    return broken


def _read_without_marks(apply: Original) -> Original:
    def broken(log: StateLog, chunk: Any, now: Any) -> list[Any]:
        apply(log, chunk, now)
        return []

    return broken


def _nothing_in_air(_owners: Original) -> Original:
    return lambda _delivery: set()


def _never_give_up(expiry: Original) -> Original:
    def broken(item: Any, now_ms: int, _give_up_ms: float) -> Any:
        return expiry(item, now_ms, math.inf)

    return broken


def _letter_is_enough(produce: Original) -> Original:
    def broken(self: Settlement, item: Any, refused: Any, now: Any) -> Any:
        made = produce(self, item, refused, now)
        self.settle(item, Outcome.DEAD_LETTERED, refused.reason, now)
        return made

    return broken


def _shorter_window(within: Original) -> Original:
    return lambda accepted_ms, now_ms, window_ms: within(accepted_ms, now_ms, window_ms // 4)


def _parked_at_once(park: Original) -> Original:
    def broken(parking: Parking, item: Any, now: Any) -> Any:
        parking.parked.append(item)
        return park(parking, item, now)

    return broken


def _empty_is_complete(acknowledged: Original) -> Original:
    def broken(log: StateLog, handle: int, offset: int, now: Any) -> Any:
        if handle == log._opening and log._next is None:
            log._next = log._floor = offset
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


def _all_cleared(_cleared: Original) -> Original:
    def broken(items: Any) -> list[Any]:
        for item in items:
            item.announced = False
        return list(items)

    return broken


def _no_doubt(_doubt: Original) -> Original:
    return lambda _delivery, _owners: []


def _nothing_learned(follow: Original) -> Original:
    def broken(memory: Memory, log: StateLog, actions: Any) -> None:
        if log.learned:
            log.ready, log.learned = log.phase is Phase.READY, False
        follow(memory, log, actions)

    return broken


def _let_go_as_read(let_go: Original) -> Original:
    def broken(self: Engine, partitions: Any, now: Any) -> None:
        positions = [(partition, partition.position) for partition in partitions]
        let_go(self, partitions, now)
        for partition, position in positions:
            partition.position = position

    return broken


def _parked_forgotten(_parked: Original) -> Original:
    return lambda _log, _item, _retry, _offset: None


PLANTED: dict[str, Bug] = {
    "mark_before_acceptance": Bug(
        "a key is recorded as accepted when it is announced",
        Memory, "announce", _mark_before_acceptance,
    ),
    "commit_what_was_read": Bug(
        "everything that was read counts as settled for the commit",
        Partition, "watermark", _everything_read_is_settled,
    ),
    "forget_a_waiter": Bug(
        "of those that wait for an outcome the last is forgotten",
        InFlight, "leave", _forget_a_waiter,
    ),
    "ignore_the_lease": Bug(
        "attempts start without a proof of membership", Lease, "holds", _always
    ),
    "skip_the_wait": Bug(
        "a new owner does not wait for the requests of one that vanished",
        StateLog, "_taken_over", _no_wait,
    ),
    "metadata_off_by_one": Bug(
        "the commit's metadata calls one record too many settled",
        offsets, "settled_spans", _one_too_many,
    ),
    "late_result_commits": Bug(
        "a result of an earlier assignment is committed in this one",
        Engine, "answered", _late_result_commits,
    ),
    "any_answer_proves": Bug(
        "an answer to any commit proves membership from now on",
        Commits, "answered", _any_answer_proves,
    ),
    "not_announced": Bug(
        "events are sent without a word in the state topic",
        Delivery, "add", _announced_already,
    ),
    "store_only": Bug(
        "an acceptance is not written to the state topic",
        Memory, "accepted", _store_only,
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
    "closed_in_the_air": Bug(
        "a partition is handed over as closed with requests in the air",
        Delivery, "owners_in_air", _nothing_in_air,
    ),
    "never_given_up": Bug(
        "unknown attempts are repeated for ever", expiry, "expiry", _never_give_up
    ),
    "letter_unacknowledged": Bug(
        "a record is settled before its dead letter is safe",
        Settlement, "_produce", _letter_is_enough,
    ),
    "window_too_short": Bug(
        "an acceptance counts for a quarter of the window",
        lookups, "within_window", _shorter_window,
    ),
    "parked_unacknowledged": Bug(
        "a record's offset passes before it is in the retry topic",
        Parking, "_park", _parked_at_once,
    ),
    "empty_is_complete": Bug(
        "a local store that is empty is taken for complete",
        StateLog, "acknowledged", _empty_is_complete,
    ),
    "another_topic_believed": Bug(
        "what was settled of a topic that is no more counts for the one of today",
        StateLog, "_apply", _any_topic,
    ),
    "read_before_rebuilt": Bug(
        "a partition is read before its memory is complete",
        engine, "HOLDS", _hold_nothing,
    ),
    "refused_though_unknown": Bug(
        "an unknown attempt is recorded as refused for certain",
        deliver, "_cleared", _all_cleared,
    ),
    "no_doubt": Bug(
        "what waits is not looked up again when the memory was in question",
        Delivery, "doubt", _no_doubt,
    ),
    "late_facts_unheard": Bug(
        "somebody else's late acceptance does not stop what waits to be sent",
        Memory, "_follow", _nothing_learned,
    ),
    "settled_as_read": Bug(
        "a late acceptance says that all that had been read was settled",
        Engine, "_let_go", _let_go_as_read,
    ),
    "parked_forgotten": Bug(
        "the attempts of a parked event are forgotten when its partition moves",
        StateLog, "parked", _parked_forgotten,
    ),
}  # fmt: skip


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Plants a bug while the context lasts; None plants nothing."""
    if name is None:
        yield
        return
    bug = PLANTED[name]
    original = bug.owner.__dict__[bug.name]
    setattr(bug.owner, bug.name, bug.broken(original))
    try:
        yield
    finally:
        setattr(bug.owner, bug.name, original)
