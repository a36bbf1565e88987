"""A process's Kafka consumer: its membership, what it is given, what it hands over.

It does what `consumer.source` does around librdkafka, as far as an engine can tell: callbacks of a
rebalance block reading and committing, orders for a partition that was given up are void, a
session that is over is noticed by itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from consumer.commit_metadata import decode, is_of_another_topic
from consumer.event import TopicPartition
from consumer.position import TRUNCATED, Earliest, Position, start_position
from consumer.source_events import AssignedPartition
from tests.simulation.broker import RETRY, TOPIC
from tests.simulation.committing import POSITION_UNKNOWN, Committing
from tests.simulation.reading import Readings
from tests.simulation.session import Reading
from tests.support.world import STATE_BOUND_TO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.offsets import CommitOffset
    from tests.simulation.group import Heartbeat, Membership
    from tests.simulation.process import Process
    from tests.simulation.session import Session

_RECHECK = 3.0
_REVOKE_MARGIN = 2.0


class Member:
    """The Kafka side of one process."""

    def __init__(self, process: Process, session: Session) -> None:
        self._process = process
        self._session = session
        self.readings = Readings(process, session)
        self.commits = Committing(process, session)
        self._heard_at = 0.0
        self._heard_of = 0
        self._asks = 0
        self._epoch = 0
        self._coming: set[int] = set()
        self._revokes = 0
        self._committing = False
        self._leaving = False

    # Membership

    def start(self) -> None:
        """Joins the group, and shows from now on that it lives."""
        self._session.out(0.05, self._join)
        self._session.clock.after(self._session.setup.heartbeat, self._beat)

    def stop(self) -> None:
        """Hands over what it owns, and leaves."""
        self._leaving = True
        if self._session.revoking is None:
            self._revoke(list(self._session.owned))

    def _join(self) -> None:
        session = self._session
        if session.membership is None and not self._leaving:
            session.membership = session.coordinator.join(self._process.name)
            self._heard_at = session.clock.now

    def _beat(self) -> None:
        if not self._process.alive:
            return
        session = self._session
        session.clock.after(session.setup.heartbeat, self._beat)
        membership = session.membership
        if self._process.suspended or membership is None:
            return
        if session.clock.now - self._heard_at >= session.setup.session_timeout:
            self._expelled("_SESSION_TIMED_OUT")
            return
        self._asks += 1
        number = self._asks
        session.out(session.latency(), lambda: self._at_coordinator(membership, number))

    def _at_coordinator(self, membership: Membership, number: int) -> None:
        session = self._session
        if session.clock.now < session.coordinator.gone_until:
            return
        heartbeat = session.coordinator.heartbeat(membership)
        heard = lambda: self._heard(membership, heartbeat, number)  # noqa: E731  delivered below
        session.back(session.latency(), lambda: self._process.deliver(heard))

    def _heard(self, membership: Membership, heartbeat: Heartbeat, number: int) -> None:
        session = self._session
        if membership is not session.membership:
            return
        if heartbeat.error is not None:
            self._expelled(heartbeat.error)
            return
        self._heard_at = session.clock.now
        session.generation = heartbeat.generation
        if number <= self._heard_of or session.revoking is not None or self._leaving:
            return
        new = sorted(heartbeat.owned - session.owned.keys() - self._coming)
        if new:
            self._coming.update(new)
            self._epoch += 1
            epoch = self._epoch
            session.out(0.02, lambda: self._find(new, epoch, membership))
        if gone := sorted(session.owned.keys() - heartbeat.wanted):
            self._revoke(gone)

    def _expelled(self, why: str) -> None:
        """The group has given this member up: everything is lost."""
        if why == "FENCED_INSTANCE_ID":
            self._process.end("it is fenced")
            return
        session = self._session
        session.membership = None
        self._coming.clear()
        lost = [p for p in session.owned if p not in (session.revoking or ())]
        for partition in lost:
            session.forget(partition)
        if lost:
            self._process.lost([TopicPartition(TOPIC, p) for p in lost])
        if session.revoking is None:
            self._join_again()

    def _join_again(self) -> None:
        if not self._leaving:
            session = self._session
            session.out(0.5 + session.rng.random(), self._join)

    # Assignment

    def _find(self, partitions: list[int], epoch: int, membership: Membership) -> None:
        """Where the group stands; this happens at the coordinator."""
        session = self._session
        unknown = session.clock.now < session.coordinator.gone_until
        found: list[AssignedPartition] = []
        for partition in partitions:
            source = TopicPartition(TOPIC, partition)
            found.append(self._found(source, None, unknown=unknown))
            found.append(self._found(TopicPartition(RETRY, partition), source, unknown=unknown))
        assign = lambda: self._assign(found, epoch, membership)  # noqa: E731  delivered below
        session.back(0.02, lambda: self._process.deliver(assign))

    def _found(
        self, tp: TopicPartition, beside: TopicPartition | None, *, unknown: bool
    ) -> AssignedPartition:
        session = self._session
        bound_to = session.broker.binding(tp)
        state = STATE_BOUND_TO if beside is None else None
        if unknown:
            return AssignedPartition(
                tp, 0, None, POSITION_UNKNOWN, None, "", bound_to, beside, state
            )
        log = session.broker.log(tp)
        offset, metadata = session.coordinator.offsets.get(tp, (None, ""))
        if is_of_another_topic(metadata, bound_to):
            return AssignedPartition(tp, log.start, None, None, None, "", bound_to, beside, state)
        position = start_position(offset, log.start, log.high, Earliest())
        spans = () if offset is None else decode(metadata, offset, bound_to)
        if offset is not None and spans and spans[-1].end > log.high:
            position = Position(offset, hold=TRUNCATED)  # the log has lost what was settled
        return AssignedPartition(
            tp,
            position.offset,
            offset,
            position.hold,
            position.lost,
            metadata,
            bound_to,
            beside,
            state,
        )

    def _assign(self, found: list[AssignedPartition], epoch: int, membership: Membership) -> None:
        session = self._session
        if membership is not session.membership or self._leaving:
            return
        taken: list[AssignedPartition] = []
        for one in found:
            partition = one.tp.partition
            if one.beside is None and partition in self._coming:
                self._coming.discard(partition)
                session.owned[partition] = epoch
            if session.owned.get(partition) != epoch:
                continue
            session.reading[one.tp] = Reading(one.tp, one.position, one.hold)
            if one.hold == POSITION_UNKNOWN:
                session.clock.after(_RECHECK, partial(self._recheck, one.tp, epoch))
            taken.append(one)
        if taken:
            self._process.assigned(taken)

    def _recheck(self, tp: TopicPartition, epoch: int) -> None:
        """A held partition's place is asked for again."""
        session = self._session
        if not self._process.alive or session.owned.get(tp.partition) != epoch:
            return
        away = session.clock.now < session.coordinator.gone_until
        if session.link.cut or self._process.suspended or away:
            session.clock.after(_RECHECK, lambda: self._recheck(tp, epoch))
            return
        found = self._found(tp, None, unknown=False)
        self.readings.move(session.reading[tp], found.position, found.hold, found.lost)

    # Handing over

    def _revoke(self, partitions: list[int]) -> None:
        session = self._session
        session.revoking = partitions
        self._revokes += 1
        handle = self._revokes
        if not partitions:
            self._give_up(handle)
            return
        tps = [TopicPartition(TOPIC, p) for p in partitions]
        too_long = lambda: self._too_long(tps, handle)  # noqa: E731  delivered below
        limit = session.setup.drain_seconds + _REVOKE_MARGIN
        session.clock.after(limit, lambda: self._process.deliver(too_long))
        self._process.revoked(tps, session.setup.drain_seconds, handle)

    def _too_long(self, tps: list[TopicPartition], handle: int) -> None:
        """The consumer's thread waits no longer: nothing is committed for these."""
        if self._session.revoking is not None and handle == self._revokes and not self._committing:
            self._process.lost(tps)
            self._give_up(handle)

    def released(self, offsets: Mapping[TopicPartition, CommitOffset | None], handle: int) -> None:
        """The engine has let partitions go: their last offsets are committed, and waited for."""
        if self._session.revoking is None or handle != self._revokes:
            return
        self._committing = True
        known = {tp: offset for tp, offset in offsets.items() if offset is not None}
        self.commits.before_hand_over(known, lambda: self._give_up(handle))

    def _give_up(self, handle: int) -> None:
        session = self._session
        if session.revoking is None or handle != self._revokes:
            return
        gone, session.revoking, self._committing = session.revoking, None, False
        for partition in gone:
            session.forget(partition)
        self._heard_of = self._asks
        membership = session.membership
        if membership is not None:
            session.out(0.01, lambda: session.coordinator.given_up(membership, gone))
        if self._leaving:
            self._leave(membership)
            return
        if membership is None:
            self._join_again()  # it could not while its thread was busy
        self.commits.go_on()
        self.readings.poke()

    def _leave(self, membership: Membership | None) -> None:
        session = self._session
        if session.owned:
            self._revoke(list(session.owned))
            return
        if membership is not None:
            session.coordinator.leave(membership)
        self._process.end("it has left the group")
