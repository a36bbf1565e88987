"""Bugs to plant in what ends a record: outcomes, dead letters, parking, offsets, hand-over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumer import limits, offsets
from consumer.commit_metadata import Span
from consumer.commits import Commits
from consumer.dedup import InFlight
from consumer.deliver import Delivery
from consumer.engine import Engine
from consumer.event import Outcome
from consumer.messages import Commit
from consumer.offsets import CommitOffset, Partition
from consumer.parking import Parking
from consumer.settle import Settlement
from tests.simulation.bug import Bug, Original

if TYPE_CHECKING:
    from collections.abc import Iterator


def _everything_read_is_settled(_watermark: property) -> property:
    return property(lambda partition: partition.position)


def _forget_a_waiter(leave: Original) -> Original:
    return lambda in_flight, item: leave(in_flight, item)[:-1]


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


def _errors_unread(answered: Original) -> Original:
    def broken(commits: Commits, results: Any) -> float | None:
        proved: float | None = answered(commits, [r._replace(error=None) for r in results])
        return proved

    return broken


def _settled_when_accepted(accept: Original) -> Original:
    def broken(self: Settlement, items: Any, reason: Any, now: Any) -> Any:
        for item in items:
            self.settle(item, Outcome.DELIVERED, reason, now)
        return accept(self, items, reason, now)

    return broken


def _letter_is_enough(produce: Original) -> Original:
    def broken(self: Settlement, item: Any, refused: Any, now: Any) -> Any:
        made = produce(self, item, refused, now)
        self.settle(item, Outcome.DEAD_LETTERED, refused.reason, now)
        return made

    return broken


def _receipt_is_enough(settle: Original) -> Original:
    def broken(self: Settlement, item: Any, outcome: Any, reason: Any, now: Any) -> None:
        settle(self, item, outcome, reason, now)
        self._end(item)

    return broken


def _all_share_it(refuse: Original) -> Original:
    def broken(self: Settlement, item: Any, refused: Any, now: Any) -> Any:
        for waiter in item.waiters or ():
            waiter.record = waiter.record._replace(value=item.record.value)
        return refuse(self, item, refused, now)

    return broken


def _parked_at_once(park: Original) -> Original:
    def broken(parking: Parking, item: Any, now: Any) -> Any:
        parking.parked.append(item)
        return park(parking, item, now)

    return broken


def _key_is_as_new(park: Original) -> Original:
    def broken(parking: Parking, item: Any, now: Any) -> Any:
        made = park(parking, item, now)
        item.owner.state.attempts.forget((item.key,))
        return made

    return broken


def _nothing_in_air(_owners: Original) -> Original:
    return lambda _delivery: set()


def _let_go_as_read(let_go: Original) -> Original:
    def broken(self: Engine, partitions: Any, now: Any) -> None:
        positions = [(partition, partition.position) for partition in partitions]
        let_go(self, partitions, now)
        for partition, position in positions:
            partition.position = position

    return broken


def _stays_full(remove: Original) -> Original:
    def broken(in_flight: limits.InFlight, events: int, size: int) -> None:
        full = in_flight.full
        remove(in_flight, events, size)
        in_flight.full = full

    return broken


BUGS: dict[str, Bug] = {
    "commit_what_was_read": Bug(
        "everything that was read counts as settled for the commit",
        Partition, "watermark", _everything_read_is_settled,
    ),
    "forget_a_waiter": Bug(
        "of those that wait for an outcome the last is forgotten",
        InFlight, "leave", _forget_a_waiter,
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
    "commit_errors_unread": Bug(
        "a commit that failed counts as one that succeeded",
        Commits, "answered", _errors_unread,
    ),
    "settled_unmarked": Bug(
        "an event is delivered before its acceptance is durable",
        Settlement, "accept", _settled_when_accepted,
    ),
    "letter_unacknowledged": Bug(
        "a record is settled before its dead letter is safe",
        Settlement, "_produce", _letter_is_enough,
    ),
    "receipt_unacknowledged": Bug(
        "a record's offset passes before its receipt is safe",
        Settlement, "settle", _receipt_is_enough,
    ),
    "correction_refused": Bug(
        "a corrected record shares the refusal of the one that it waited for",
        Settlement, "refuse", _all_share_it,
    ),
    "parked_unacknowledged": Bug(
        "a record's offset passes before it is in the retry topic",
        Parking, "_park", _parked_at_once,
    ),
    "parked_key_as_new": Bug(
        "another record of a parked event does not count from the same attempt",
        Parking, "_park", _key_is_as_new,
    ),
    "closed_in_the_air": Bug(
        "a partition is handed over as closed with requests in the air",
        Delivery, "owners_in_air", _nothing_in_air,
    ),
    "settled_as_read": Bug(
        "a late acceptance says that all that had been read was settled",
        Engine, "_let_go", _let_go_as_read,
    ),
    "full_for_ever": Bug(
        "the source stays paused when there is room again",
        limits.InFlight, "remove", _stays_full,
    ),
}  # fmt: skip
"""Each by a name for the command line."""
