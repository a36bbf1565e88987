"""Commits of a process's Kafka consumer: orders of the engine, and the last ones of a hand-over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.source_events import CommitResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from consumer.event import TopicPartition
    from consumer.offsets import CommitOffset
    from tests.simulation.process import Process
    from tests.simulation.session import Session

    Answered = Callable[[str | None], None]

POSITION_UNKNOWN = "position_unknown"
_TRIES = 5
_LATE = (0.5, 5.0, 20.0, 60.0, 1e9)
"""Seconds that an answer takes which does not come in time; the last one stands for never."""


class Committing:
    """Orders are answered late or never, in any order, also by the answer of a later membership.

    `unanswered_until` and `failing_until` are the times (seconds) until which a `share` of the
    commits is not answered in time, or fails.
    """

    def __init__(self, process: Process, session: Session) -> None:
        self._process = process
        self._session = session
        self._orders: list[Callable[[], None]] = []
        self.unanswered_until = 0.0
        self.failing_until = 0.0
        self.share = 0.0

    def commit(self, offsets: Mapping[TopicPartition, CommitOffset], number: int) -> None:
        """The engine commits; while partitions are handed over, it is done after that."""
        owned = self._session.owned
        stamped = {tp: (offset, owned.get(tp.partition)) for tp, offset in offsets.items()}
        if self._session.revoking is not None:
            self._orders.append(lambda: self._commit(stamped, number))
        else:
            self._commit(stamped, number)

    def go_on(self) -> None:
        """Nothing is handed over any more: what was ordered meanwhile is done."""
        orders, self._orders = self._orders, []
        for order in orders:
            order()

    def before_hand_over(
        self,
        offsets: Mapping[TopicPartition, CommitOffset],
        done: Callable[[], None],
        tries: int = _TRIES,
    ) -> None:
        """Commits and waits for it, a few times if need be."""
        if not offsets or self._session.membership is None:
            done()
            return

        def answered(error: str | None) -> None:
            if error in _PASSING and tries > 1:
                again = lambda: self.before_hand_over(offsets, done, tries - 1)  # noqa: E731  delivered below
                self._session.clock.after(0.1, lambda: self._process.deliver(again))
            else:
                self._process.committed(_results(offsets, error, None))
                done()

        once = self._request(offsets, answered)
        self._session.clock.after(5.0, lambda: self._process.deliver(lambda: once("_TIMED_OUT")))

    def _commit(
        self, stamped: Mapping[TopicPartition, tuple[CommitOffset, int | None]], number: int
    ) -> None:
        known: dict[TopicPartition, CommitOffset] = {}
        void: list[CommitResult] = []
        session = self._session
        for tp, (offset, epoch) in stamped.items():
            reading = session.reading.get(tp)
            if epoch is None or session.owned.get(tp.partition) != epoch or reading is None:
                void.append(CommitResult(tp, offset.offset, "not_owned", False, number))
            elif reading.hold == POSITION_UNKNOWN:
                void.append(CommitResult(tp, offset.offset, POSITION_UNKNOWN, True, number))
            else:
                known[tp] = offset
        if void:
            tell = lambda: self._process.committed(void)  # noqa: E731  delivered below
            session.clock.after(0.0, lambda: self._process.deliver(tell))
        if known:
            told = lambda error: self._process.committed(_results(known, error, number))  # noqa: E731  passed on
            self._request(known, told)

    def _request(
        self, offsets: Mapping[TopicPartition, CommitOffset], answered: Answered
    ) -> Answered:
        """One request to the coordinator; what it returns answers it before it is answered."""
        session, asked_at = self._session, self._session.clock.now
        membership, generation = session.membership, session.generation

        told: list[str | None] = []

        def once(error: str | None) -> None:
            if not told:
                told.append(error)
                answered(error)

        def at_coordinator() -> None:
            now, rng = session.clock.now, session.rng
            if now < session.coordinator.gone_until:
                error: str | None = "COORDINATOR_NOT_AVAILABLE"
            elif now < self.failing_until and rng.random() < self.share:
                error = rng.choice(_FAILURES)
            elif membership is None:
                error = "UNKNOWN_MEMBER_ID"
            else:
                error = session.coordinator.commit(membership, generation, offsets)
                if error is None:
                    self._process.proved(asked_at)
            seconds = session.latency()
            if now < self.unanswered_until and rng.random() < self.share:
                seconds = rng.choice(_LATE)
            session.link.back(seconds, lambda: self._process.deliver(lambda: once(error)))

        session.out(session.latency(), at_coordinator)
        return once


_FAILURES = ("REBALANCE_IN_PROGRESS", "NOT_COORDINATOR", "REQUEST_TIMED_OUT")
_PASSING = frozenset({*_FAILURES, "ILLEGAL_GENERATION", "COORDINATOR_NOT_AVAILABLE"})


def _results(
    offsets: Mapping[TopicPartition, CommitOffset], error: str | None, number: int | None
) -> list[CommitResult]:
    return [
        CommitResult(tp, offset.offset, error, error in _PASSING, number)
        for tp, offset in offsets.items()
    ]
