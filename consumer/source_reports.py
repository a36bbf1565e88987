"""What the source's threads report, brought to the listener on the event loop, in order.

Two threads read: what one of them has under way may come after the other has handed the partition
over. The loop's own view of who owns what decides: what belongs to an assignment that has ended
does not arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from consumer.errors import SourceError
from consumer.fetching import Stamped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Future

    from consumer.event import Record, TopicPartition
    from consumer.offsets import CommitOffset
    from consumer.source_events import (
        AssignedPartition,
        CommitResult,
        PositionChange,
        SourceEvents,
    )

_log = logging.getLogger(__name__)


class SourceReports:
    """The listener's side of the source. `halt` stops all reading after a defect.

    The first half of the methods is for the loop's thread, the second half for any other.
    """

    def __init__(
        self, events: SourceEvents, loop: asyncio.AbstractEventLoop, halt: Callable[[], None]
    ) -> None:
        self._events = events
        self._loop = loop
        self._halt = halt
        self._epochs: dict[TopicPartition, int] = {}
        self._retry_of: dict[TopicPartition, TopicPartition] = {}
        self._draining: set[Stamped] = set()
        self.broken = False

    # -- on the loop ----------------------------------------------------------------------------

    @property
    def owned(self) -> int:
        """How many partitions the listener owns, those of the retry topic included."""
        return len(self._epochs)

    def stamped(self, tp: TopicPartition) -> Stamped:
        """An order for this partition, good for its present assignment."""
        return Stamped(tp, self._epochs.get(tp, -1))

    def is_of_retry_topic(self, tp: TopicPartition) -> bool:
        """Whether it is an owned partition that is read beside one of the source."""
        return tp in self._retry_of.values()

    def defect(self, error: Exception) -> None:
        """Report a defect once; nothing more is read then."""
        if not self.broken:
            self.broken = True
            _log.error("A defect stops the source", exc_info=error)
            failure = SourceError(
                f"the source stopped on {type(error).__name__}",
                "start again; nothing was committed for what was in flight",
            )
            failure.__cause__ = error
            self._halt()
            self._events.source_failed(failure)

    def _call(self, method: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self.broken:
            return  # what comes after something that was not taken would leave a gap
        try:
            method(*arguments)
        except Exception as error:  # noqa: BLE001  whatever it is, reading on would lose records
            self.defect(error)

    def _take_assigned(self, epoch: int, assigned: list[AssignedPartition]) -> None:
        for one in assigned:
            self._epochs[one.tp] = epoch
            if one.beside is not None:
                self._retry_of[one.beside] = one.tp
        self._events.partitions_assigned(assigned)

    def _take_lost(self, tps: list[TopicPartition]) -> None:
        self._forget(self._with_retry(tps))
        self._events.partitions_lost(tps)

    def _take_anew(self, before: Stamped, epoch: int, assigned: AssignedPartition) -> None:
        if self._is_current(before):
            self._take_lost([before.tp])
            self._take_assigned(epoch, [assigned])

    def _take_change(self, order: Stamped, change: PositionChange) -> None:
        if self._is_current(order):
            self._events.position_changed(change)

    def _take_highs(self, highs: Mapping[TopicPartition, int]) -> None:
        if known := {tp: high for tp, high in highs.items() if tp in self._epochs}:
            self._events.high_watermarks(known)

    def _take_retried(self, records: list[Record], orders: Iterable[Stamped]) -> None:
        ended = {order.tp for order in orders if not self._is_current(order)}
        if ended:
            records = [record for record in records if (record[0], record[1]) not in ended]
        if records:
            self._events.records_received(records)

    async def _revoke(self, orders: list[Stamped]) -> Mapping[TopicPartition, CommitOffset]:
        # A loop that was blocked begins this after it was cancelled: what it was for is lost then,
        # and may have come back.
        tps = [order.tp for order in orders if self._is_current(order)]
        if self.broken or not tps:
            return {}
        revoked = {self.stamped(tp) for tp in self._with_retry(tps)}
        self._draining |= revoked
        try:
            return await self._events.partitions_revoked(tps)
        except Exception as error:  # noqa: BLE001  as in _call
            self.defect(error)
            return {}
        finally:
            self._draining -= revoked
            # By the time a cancelled drain ends, a partition may have come back.
            self._forget(order.tp for order in revoked if order == self.stamped(order.tp))

    def _is_current(self, order: Stamped) -> bool:
        return order == self.stamped(order.tp) and order not in self._draining

    def _with_retry(self, tps: Iterable[TopicPartition]) -> list[TopicPartition]:
        """Those of these that are owned, and what is read beside them."""
        sources = [tp for tp in tps if tp in self._epochs]
        return sources + [self._retry_of[tp] for tp in sources if tp in self._retry_of]

    def _forget(self, tps: Iterable[TopicPartition]) -> None:
        for tp in list(tps):
            del self._epochs[tp]
            self._retry_of.pop(tp, None)

    # -- on the other threads -------------------------------------------------------------------

    def assigned(self, epoch: int, assigned: list[AssignedPartition]) -> None:
        """The listener owns these in this assignment, whose number orders for them carry."""
        self._post(self._take_assigned, epoch, assigned)

    def drain(self, orders: list[Stamped]) -> Future[Mapping[TopicPartition, CommitOffset]]:
        """The listener is to give these up; answers with what to commit before.

        Whoever cancels it reports them as lost: the listener may not even have begun.
        """
        return asyncio.run_coroutine_threadsafe(self._revoke(orders), self._loop)

    def lost(self, tps: list[TopicPartition]) -> None:
        """The listener owns these no longer."""
        self._post(self._take_lost, tps)

    def begun_anew(self, before: Stamped, epoch: int, assigned: AssignedPartition) -> None:
        """The listener owns a partition of another topic of the same name instead."""
        self._post(self._take_anew, before, epoch, assigned)

    def read(self, records: list[Record]) -> Callable[[], None]:
        """The call, for the loop, that gives records of the source to the listener."""
        return lambda: self._call(self._events.records_received, (records,))

    def retried(self, records: list[Record], orders: Iterable[Stamped]) -> Callable[[], None]:
        """The same for records of the retry topic, which belong to these assignments."""
        return lambda: self._call(self._take_retried, (records, orders))

    def position_changed(self, order: Stamped, change: PositionChange) -> None:
        """A partition goes on elsewhere, or is held, or no longer."""
        self._post(self._take_change, order, change)

    def high_watermarks(self, highs: Mapping[TopicPartition, int]) -> None:
        """How far partitions reach."""
        self._post(self._take_highs, highs)

    def committed(self, results: list[CommitResult]) -> None:
        """What became of commits."""
        self._post(self._events.committed, results)

    def session_timeout(self, seconds: float) -> None:
        """The group's session time-out."""
        self._post(self._events.session_timeout, seconds)

    def failed(self, error: SourceError) -> None:
        """Nothing more can be read."""
        self._post(self._events.source_failed, error)

    def broke(self, error: Exception) -> None:
        """A thread met a defect."""
        self._post(self.defect, error)

    def _post(self, method: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(self._call, method, arguments)
