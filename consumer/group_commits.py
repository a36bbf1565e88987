"""Commits of the group's member, and what becomes of them: always a result, never an exception.

They are the member's for the source's partitions and for those of the retry topic alike, whichever
client reads them.

The results of a commit come with the client's callbacks, at the next read. Inside a rebalance's
callback there is none: while partitions drain there, commits are waited for (`serve_now`), so that
membership can be proven however long a drain takes. No other thread could do it: the client lets
one in at a time, and keeps it for the length of a callback.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from consumer.event import TopicPartition
from consumer.kafka_errors import commit_results, is_failure
from consumer.source_events import CommitResult
from consumer.source_positions import POSITION_UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka import Consumer, KafkaError

    from consumer.fetching import Stamped
    from consumer.offsets import CommitOffset

NOT_OWNED: Final = "not_owned"
"""Error of a commit for a partition that was handed over or lost since it was asked for."""

_TRIES: Final = 5
_RETRY_AFTER: Final = 0.1
_STARTS_EVERY: Final = 1.0
_START_TIMEOUT: Final = 1.0
_ANSWER_TIMEOUT: Final = 5.0

Orders = list[tuple["Stamped", "CommitOffset"]]
_Content = frozenset[tuple[str, int, int]]


@dataclass(slots=True)
class _Standing:
    """How the group stands in an owned partition.

    `start_known` is whether the broker has said so. A group that has no offset begins where the
    listener first reads; `uncommitted_start` is that place until it is committed.
    """

    epoch: int
    start_known: bool
    has_offset: bool
    begun_at: int | None = None
    uncommitted_start: int | None = None


class GroupCommits:
    """Commits offsets of owned partitions; lives on the member's thread, but for `ask`.

    `report` takes results as they come, `fail` an error that ends the membership.
    """

    def __init__(
        self,
        consumer: Consumer,
        report: Callable[[list[CommitResult]], None],
        fail: Callable[[KafkaError], None],
    ) -> None:
        self._consumer = consumer
        self._report = report
        self._fail = fail
        self._standings: dict[TopicPartition, _Standing] = {}
        self._asked: deque[tuple[Orders, int]] = deque()
        # The commits that a callback will tell of, in their order; None: nobody asked for it.
        self._in_air: deque[tuple[int | None, _Content]] = deque()
        self._next_starts = 0.0

    # -- how the group stands -------------------------------------------------------------------

    def own(self, order: Stamped, *, start_known: bool, has_offset: bool) -> None:
        """Commits of this assignment are to be made from now on."""
        self._standings[order.tp] = _Standing(order.epoch, start_known, has_offset)

    def own_anew(self, before: Stamped, epoch: int) -> None:
        """The partition's topic was made again: the group has no offset in it, in any words."""
        if self._current(before) is not None:
            self._standings[before.tp] = _Standing(epoch, start_known=True, has_offset=False)

    def give_up(self, tps: Iterable[TopicPartition]) -> None:
        """Commits of these partitions are no longer to be made."""
        for tp in tps:
            self._standings.pop(tp, None)

    def start_found(self, order: Stamped, position: int | None, *, has_offset: bool) -> None:
        """The broker has said how the group stands; `position` is None where it is held still."""
        standing = self._current(order)
        if standing is not None:
            standing.start_known, standing.has_offset = True, has_offset
            if standing.begun_at is not None and position is not None:
                standing.begun_at = position
                self._begin(standing)

    def begun(self, order: Stamped, position: int) -> None:
        """Reading begins at this position; later calls for the same assignment say nothing."""
        standing = self._current(order)
        if standing is not None and standing.begun_at is None:
            standing.begun_at = position
            self._begin(standing)

    def _begin(self, standing: _Standing) -> None:
        if standing.start_known and not standing.has_offset:
            standing.uncommitted_start = standing.begun_at
            self._next_starts = 0.0

    def _current(self, order: Stamped) -> _Standing | None:
        standing = self._standings.get(order.tp)
        return standing if standing is not None and standing.epoch == order.epoch else None

    # -- commits --------------------------------------------------------------------------------

    def ask(self, orders: Orders, number: int) -> None:
        """Commit these when the thread comes to it. May be called on any thread.

        The results carry the `number`: it tells which of several commits of the same offset an
        answer belongs to.
        """
        self._asked.append((orders, number))

    def serve(self) -> None:
        """Make the commits that were asked for. Their results come with the client's callbacks."""
        while self._asked:
            orders, number = self._asked.popleft()
            self._asynchronously(self._allowed(orders, number), number)

    def serve_now(self, deadline: float) -> None:
        """Make the commits that were asked for, and wait for each until it is answered.

        `deadline` (monotonic seconds) is until when they may take.
        """
        while self._asked:
            orders, number = self._asked.popleft()
            if offsets := self._allowed(orders, number):
                by = min(deadline, time.monotonic() + _ANSWER_TIMEOUT)
                if results := self._synchronously(offsets, by, number):
                    self._report(results)

    def commit_starts(self, now: float) -> None:
        """Commit where a group without an offset began, now and then until it is done.

        Else a crash before the first commit of a settled record would begin anew at another log
        end, or at another log start, and skip what lies between. Nobody asked for these commits,
        so nobody is told of them.
        """
        starts = [
            KafkaPartition(*tp, standing.uncommitted_start)
            for tp, standing in self._standings.items()
            if standing.uncommitted_start is not None
        ]
        if not starts or now < self._next_starts:
            return
        self._next_starts = now + _STARTS_EVERY
        if not self._answers(starts, now + _START_TIMEOUT):
            return
        for result in self._commit(starts):
            if result.error is None:
                standing = self._standings[result.tp]
                standing.uncommitted_start, standing.has_offset = None, True

    def before_hand_over(
        self, offsets: Mapping[TopicPartition, CommitOffset], deadline: float
    ) -> None:
        """Commit, a few times if need be, and wait until the `deadline` (monotonic seconds).

        The next owner begins there.
        """
        wanted = [
            KafkaPartition(*tp, offset, metadata)
            for tp, (offset, metadata) in offsets.items()
            if self._standings[tp].start_known
        ]
        for tries_left in range(_TRIES - 1, -1, -1):
            if not wanted:
                return
            results = self._synchronously(wanted, deadline, None)
            may_retry = tries_left > 0 and time.monotonic() + _RETRY_AFTER < deadline
            again = {r.tp for r in results if r.error is not None and r.retriable and may_retry}
            if final := [r for r in results if r.tp not in again]:
                self._report(final)
            wanted = [p for p in wanted if TopicPartition(p.topic, p.partition) in again]
            if wanted:
                time.sleep(_RETRY_AFTER)

    def take_results(self, error: KafkaError | None, partitions: list[KafkaPartition]) -> None:
        """Take what librdkafka says of an asynchronous commit.

        Which one is not told: it is the oldest of those with these offsets, and what was asked
        before that is not answered any more. So one that stays without an answer does not shift
        the answers of those after it.
        """
        number, content = None, _content(partitions)
        if content in [asked for _, asked in self._in_air]:
            number, asked = self._in_air.popleft()
            while asked != content:
                number, asked = self._in_air.popleft()
        self._ended(error, partitions, number)

    def _ended(
        self, error: KafkaError | None, partitions: list[KafkaPartition], number: int | None
    ) -> None:
        self._look_for_failure(error, partitions)
        if partitions:
            self._report(commit_results(error, partitions, number))

    def _allowed(self, orders: Orders, number: int) -> list[KafkaPartition]:
        """The orders that may be carried out; the others are answered at once.

        Whoever does not know where the group stood must not move it. The same offset again is
        committed again: it proves the membership.
        """
        offsets: list[KafkaPartition] = []
        refused: list[CommitResult] = []
        for order, (offset, metadata) in orders:
            standing = self._current(order)
            if standing is None:
                refused.append(
                    CommitResult(order.tp, offset, NOT_OWNED, retriable=False, number=number)
                )
            elif not standing.start_known:
                refused.append(
                    CommitResult(order.tp, offset, POSITION_UNKNOWN, retriable=True, number=number)
                )
            else:
                # Never after this, lest the start overtakes what was settled since.
                standing.uncommitted_start, standing.has_offset = None, True
                offsets.append(KafkaPartition(*order.tp, offset, metadata))
        if refused:
            self._report(refused)
        return offsets

    def _asynchronously(self, offsets: list[KafkaPartition], number: int | None) -> None:
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._ended(error.args[0], offsets, number)
        else:
            self._in_air.append((number, _content(offsets)))

    def _synchronously(
        self, offsets: list[KafkaPartition], deadline: float, number: int | None
    ) -> list[CommitResult]:
        """Commit and wait for the results; none if they could not be had by the deadline.

        The commit is made all the same then, and its results come with a callback, if ever.
        """
        if self._answers(offsets, deadline):
            return self._commit(offsets, number)
        self._asynchronously(offsets, number)
        return []

    def _answers(self, offsets: list[KafkaPartition], deadline: float) -> bool:
        """Whether the group's coordinator answers by the deadline.

        A commit that is waited for knows no time-out: it would block as long as the coordinator is
        away. So that is asked something before that knows one.
        """
        try:
            left = max(deadline - time.monotonic(), 0.0)
            self._consumer.committed(offsets[:1], timeout=left)
        except KafkaException:
            return False
        return True

    def _commit(
        self, offsets: list[KafkaPartition], number: int | None = None
    ) -> list[CommitResult]:
        error, done = None, offsets
        try:
            done = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as exception:
            error = exception.args[0]
        self._look_for_failure(error, done)
        return commit_results(error, done, number)

    def _look_for_failure(
        self, error: KafkaError | None, partitions: Iterable[KafkaPartition]
    ) -> None:
        for cause in (error, *(partition.error for partition in partitions)):
            if cause is not None and is_failure(cause):
                self._fail(cause)


def _content(partitions: Iterable[KafkaPartition]) -> _Content:
    return frozenset((p.topic, p.partition, p.offset) for p in partitions)
