"""Settlement: from a verdict to the one outcome of a record, in the order that loses nothing.

Accepted: state record acknowledged, mark in the local store, then outcome, then offset. Refused:
dead letter acknowledged, then outcome, then offset. Where receipts are written, the offset waits
for the one of the outcome. Records that waited for another one's outcome get theirs from it.
What fails on the way (a store, a topic of ours) is tried again; its partition is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.dedup import InFlight
from consumer.event import Item, Outcome, Reason, Refused
from consumer.state_records import Kind as StateKind
from consumer.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from consumer.deadletter import DeadLetters
    from consumer.event import Instant
    from consumer.messages import Acknowledged, Action, Produce
    from consumer.offsets import Partition
    from consumer.receipt import Receipts
    from consumer.state_log import StateLog

STORE_FAILED = "dedup_store_failed"
LETTER_REFUSED = "dead_letter_refused"
LETTER_TOO_LARGE = "dead_letter_too_large"
RECEIPT_REFUSED = "receipt_refused"


class _Unacknowledged:
    """A record of ours that the broker has to acknowledge before an item goes on.

    `refused` is what a dead letter says; None makes it a receipt.
    """

    __slots__ = ("item", "produce", "reduced", "refused")

    def __init__(self, item: Item, produce: Produce, refused: Refused | None = None) -> None:
        self.item = item
        self.produce = produce
        self.refused = refused
        self.reduced = False


class Settlement:
    """What is between its verdict and its outcome, and who waits for whom."""

    def __init__(
        self, letters: DeadLetters, handles: Iterator[int], receipts: Receipts | None = None
    ) -> None:
        self.in_flight = InFlight()
        self._dead_letters = letters
        self._receipts = receipts
        self._handles = handles
        self._marks: dict[int, tuple[list[Item], Reason | None, int]] = {}
        self._unacknowledged: dict[int, _Unacknowledged] = {}
        self.receipts: list[Produce] = []
        """Receipts that are to be written, until the engine has said so."""
        self.settled: list[Item] = []
        """Items that are done with, until the engine has told the world."""
        self.promoted: list[Item] = []
        """Items that became the first of their key and are still to be sent."""

    # Accepted

    def accept(
        self, items: Iterable[Item], reason: Reason | None, now: Instant
    ) -> Iterator[tuple[StateLog, Produce]]:
        """TikTok accepted these items: their keys are to be kept, partition by partition.

        Also those of partitions that are no longer ours: it is a fact that the next owner needs.
        """
        by_state: dict[StateLog, list[Item]] = {}
        for item in items:
            by_state.setdefault(item.owner.state, []).append(item)
        for state, together in by_state.items():
            keys = b"".join([item.key for item in together])
            through = together[0].owner.source.watermark
            produce = state.append(StateKind.ACCEPTED, through, now.wall_ms, keys)
            if active := [item for item in together if item.owner.active]:
                self._marks[produce.handle] = active, reason, now.wall_ms
            yield state, produce

    def marked(self, handle: int, now: Instant) -> bool:
        """The acceptances are durable: the items are delivered, those that waited are duplicates.

        False where the handle is none of an acceptance.
        """
        accepted = self._marks.pop(handle, None)
        if accepted is None:
            return False
        items, reason, accepted_ms = accepted
        for item in items:
            item.accepted_ms = accepted_ms
            self.settle(item, Outcome.DELIVERED, reason, now)
            self._duplicates(self.in_flight.leave(item), accepted_ms, now)
        return True

    # Not sent

    def duplicate(self, item: Item, accepted_ms: int | None, now: Instant) -> None:
        """The key was accepted before: this item and those that wait for it are duplicates."""
        self._duplicates([item, *self.in_flight.leave(item)], accepted_ms, now)

    def _duplicates(self, items: list[Item], accepted_ms: int | None, now: Instant) -> None:
        for item in items:
            item.accepted_ms = accepted_ms
            self.settle(item, Outcome.DUPLICATE, None, now)

    def suppress(self, item: Item, reason: Reason, now: Instant) -> None:
        """The item is not sent, on purpose."""
        self.settle(item, Outcome.SUPPRESSED, reason, now)
        self.promoted += self._succeed(item)

    # Refused

    def refuse(self, item: Item, refused: Refused, now: Instant) -> Iterator[Action]:
        """The item is refused for good: a dead letter; so are the same bytes that wait for it.

        A waiter with other bytes may be a correction: it becomes the first of its key.
        """
        if item.owner.active:
            yield self._produce(item, refused, now)
        waiters = self.in_flight.leave(item) if item.key else []
        others = []
        for waiter in waiters:
            if waiter.record.value == item.record.value:
                waiter.attempts = item.attempts
                yield self._produce(waiter, refused, now)
            else:
                others.append(waiter)
        self.promoted += self._promote(others, item.first_unknown_ms)

    def acknowledged(self, answer: Acknowledged, now: Instant) -> Action | None:
        """What became of a dead letter or receipt; an action to try again later, if it failed."""
        waiting = self._unacknowledged.get(answer.handle)
        if waiting is None:
            return None
        item, handle = waiting.item, answer.handle
        if answer.error is None:
            del self._unacknowledged[handle]
            for reason in (LETTER_REFUSED, LETTER_TOO_LARGE, RECEIPT_REFUSED):
                item.owner.release(reason, handle)
            if waiting.refused is None:
                self._end(item)
            else:
                self.settle(item, Outcome.DEAD_LETTERED, waiting.refused.reason, now)
            return None
        if waiting.refused is None:
            item.owner.hold(RECEIPT_REFUSED, handle)
        elif answer.error != "too_large":
            item.owner.hold(LETTER_REFUSED, handle)
        elif waiting.reduced:
            item.owner.hold(LETTER_TOO_LARGE, handle)
        else:
            waiting.reduced = True
            waiting.produce = self._dead_letters.without_optional_headers(waiting.produce, item)
        return waiting.produce

    def _produce(self, item: Item, refused: Refused, now: Instant) -> Produce:
        item.detail, item.field = refused.detail, refused.field
        handle = next(self._handles)
        produce = self._dead_letters.letter(item, refused, handle, now)
        self._unacknowledged[handle] = _Unacknowledged(item, produce, refused)
        return produce

    # Outcomes

    def settle(self, item: Item, outcome: Outcome, reason: Reason | None, now: Instant) -> None:
        """Gives an item its outcome, once; what an earlier assignment left over gets none."""
        if item.outcome is not None or not item.is_pending:
            return
        item.outcome, item.reason, item.settled = outcome, reason, now
        if self._receipts is None:
            self._end(item)
        else:
            produce = self._receipts.receipt(item, next(self._handles))
            self._unacknowledged[produce.handle] = _Unacknowledged(item, produce)
            self.receipts.append(produce)

    def _end(self, item: Item) -> None:
        """An item is done with: its offset may be passed."""
        if item.owner.active and item.owner.settle(item.record.offset):
            self.settled.append(item)

    def hand_over(self, gone: Sequence[Partition]) -> list[Item]:
        """Forgets all items of partitions that are no longer ours; they must be inactive by now.

        Records of other partitions that waited for one of them become the first of their key;
        they come back and are to be looked up, since their own store was not asked yet.
        """
        owners = set(gone)
        self._marks = {
            handle: (left, reason, accepted_ms)
            for handle, (items, reason, accepted_ms) in self._marks.items()
            if (left := [item for item in items if item.owner not in owners])
        }
        self._unacknowledged = {
            handle: waiting
            for handle, waiting in self._unacknowledged.items()
            if waiting.item.owner not in owners
        }
        orphans: list[Item] = []
        for partition in gone:
            for item in partition.pending.values():
                if not item.key:
                    continue
                first = self.in_flight.first(item.key)
                if first is item:
                    waiters = [w for w in self.in_flight.leave(item) if w.owner.active]
                    orphans += self._promote(waiters, maybe_taken_ms(item))
                elif first is not None and first.waiters and item in first.waiters:
                    first.waiters.remove(item)
        return orphans

    def item_of(self, handle: int) -> Iterator[Item]:
        """The item whose dead letter or receipt has this handle and is not acknowledged."""
        waiting = self._unacknowledged.get(handle)
        if waiting is not None:
            yield waiting.item

    def wants(self, handle: int) -> bool:
        """Whether a dead letter or receipt with this handle is still waited for."""
        return handle in self._unacknowledged

    def _succeed(self, item: Item) -> list[Item]:
        return self._promote(self.in_flight.leave(item), item.first_unknown_ms) if item.key else []

    def _promote(self, waiters: list[Item], first_unknown_ms: int | None) -> list[Item]:
        """The first of the waiters takes the place of the one they waited for."""
        promoted = []
        for waiter in waiters:
            if self.in_flight.enter(waiter) is None:
                # TikTok may have taken the key already: the successor gives up in time, too.
                known = (first_unknown_ms, waiter.first_unknown_ms)
                waiter.first_unknown_ms = min((ms for ms in known if ms is not None), default=None)
                promoted.append(waiter)
        return promoted


def maybe_taken_ms(item: Item) -> int | None:
    """Since when TikTok may have an item that is given up before its outcome; None: never sent.

    Its last attempt may be in the air still, or accepted and not marked.
    """
    if item.first_unknown_ms is None and item.attempts:
        last = item.attempts[-1]
        if last.verdict in (None, Kind.ACCEPTED.value):
            return last.started.wall_ms
    return item.first_unknown_ms
