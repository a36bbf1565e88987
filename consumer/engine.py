"""The engine: every decision of the consumer, without any I/O.

Inputs are method calls that carry what happened and the time; each returns the actions to carry
out, in order. Nothing in here awaits, reads a clock, or knows Kafka's or aiohttp's types, so the
same engine runs in production and under a simulated world. One thread drives it.

`wake_at` says when to call `tick` if nothing else happens before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumer.again import Again
from consumer.arrivals import Arrivals
from consumer.commits import Commits
from consumer.event import (
    Headers,
    Instant,
    Item,
    Reason,
    Record,
    Refused,
    TopicPartition,
    TraceIds,
)
from consumer.handover import Closings, HandOver, HandOvers
from consumer.lease import Lease, lease_seconds, takeover_seconds
from consumer.limits import InFlight, Random, RetryPolicy
from consumer.lookups import LookUps
from consumer.messages import (
    Acknowledged,
    Action,
    AttemptFinished,
    FetchSchema,
    GiveUp,
    Parked,
    Produce,
    Released,
    SchemaAnswer,
    Send,
    Settled,
)
from consumer.offsets import Partition
from consumer.reading import Reading
from consumer.recall import Recall
from consumer.settle import maybe_taken_ms

if TYPE_CHECKING:
    import itertools
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from consumer.deliver import Delivery
    from consumer.event import Destination
    from consumer.intake import Intake
    from consumer.memory import Memory
    from consumer.messages import Reached, StateChunk
    from consumer.parking import Parking
    from consumer.schema_wait import SchemaWaits
    from consumer.settle import Settlement
    from consumer.source_events import AssignedPartition, CommitResult, PositionChange
    from consumer.verdict import Answer

_POSITION = 0
"""Handles count from 1; this one stands for a partition's position."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Bounds and times of the engine; times in seconds."""

    window: float = 48 * 3600.0
    max_in_flight_events: int = 20_000
    max_in_flight_bytes: int = 64 << 20
    commit_interval: float = 1.0
    session_timeout: float = 45.0
    request_timeout: float = 10.0
    static_member: bool = False
    resend_rewound: bool = False
    patience: RetryPolicy = field(default_factory=lambda: RetryPolicy(0.25, 15.0))
    """Pauses between tries of what is ours to get done: the store, dead letters."""


class Engine:
    """All decisions of one process. See the module for how it is driven."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        intake: Intake,
        schemas: SchemaWaits,
        delivery: Delivery,
        settlement: Settlement,
        memory: Memory,
        parking: Parking,
        handles: itertools.count[int],
        begin_trace: Callable[[Headers], TraceIds],
        rng: Random,
    ) -> None:
        self._settings = settings
        self.delivery = delivery
        self._settlement = settlement
        self._memory = memory
        self.parking = parking
        # Keyed by TopicPartition; a plain pair finds it too, without making one per record.
        self.partitions: dict[tuple[str, int], Partition] = {}
        self.in_flight = InFlight(settings.max_in_flight_events, settings.max_in_flight_bytes)
        self.reading = Reading(self.in_flight)
        self._source_partitions = 0
        self._actions: list[Action] = []
        self._look_ups = LookUps(
            settings.window,
            settlement,
            delivery,
            handles,
            self._actions,
            resend_rewound=settings.resend_rewound,
        )
        self._arrivals = Arrivals(
            intake, schemas, settlement, delivery, self._look_ups, begin_trace, self._actions
        )
        self._again = Again(settings.patience, rng)
        self.lease = Lease(lease_seconds(settings.session_timeout, settings.request_timeout))
        self._commits = Commits(settings.commit_interval, settings.session_timeout / 3)
        self._closings = Closings()
        self._recall = Recall(
            memory,
            self._look_ups,
            settlement,
            delivery,
            self._again,
            self._closings,
            self._actions,
        )
        self._hand_overs = HandOvers(self._stuck)

    # Assignment

    def assigned(self, assigned: Iterable[AssignedPartition], now: Instant) -> list[Action]:
        """These partitions are ours now, each from its position on."""
        for one in assigned:
            beside = None if one.beside is None else self.partitions.get(one.beside)
            if one.beside is not None and beside is None:
                continue  # its source partition went before it came
            state = self._memory.take_over(one) if beside is None else beside.state
            partition = Partition.taken_over(one, state, beside)
            self._recall.begin(partition)
            if one.hold is not None:
                partition.hold(one.hold, _POSITION)
            self.reading.begin(partition)
            if beside is not None:
                self.parking.taken_over(partition)
            self.partitions[one.tp] = partition
        self._share_limits(now)
        return self._after(now)

    def session_timeout(self, seconds: float) -> None:
        """The group's session time-out, where the broker owns it."""
        settings = self._settings
        self.lease.seconds = lease_seconds(seconds, settings.request_timeout)
        self._memory.wait_for_takeover(
            takeover_seconds(seconds, settings.request_timeout, static=settings.static_member)
        )

    def grown(self, topic: str, partitions: int, now: Instant) -> list[Action]:
        """A source topic has more partitions than before, and the state topic as many."""
        self._memory.grown(topic, partitions, now)
        return self._after(now)

    def source_partitions(self, counts: Mapping[str, int], now: Instant) -> list[Action]:
        """So many partitions has each source topic: our part of them is our share of the limits."""
        self._source_partitions = sum(counts.values())
        self._share_limits(now)
        return self._after(now)

    def position_changed(self, change: PositionChange, now: Instant) -> list[Action]:
        """A partition is read from another position now, is held there, or no longer held."""
        partition = self.partitions.get(change.tp)
        if partition is not None:
            partition.position = max(partition.position, change.position)
            partition.start_unknown = False
            for reason in list(partition.holds):
                partition.release(reason, _POSITION)
            if change.hold is not None:
                partition.hold(change.hold, _POSITION)
        return self._after(now)

    def revoked(
        self, tps: Iterable[TopicPartition], deadline: float, now: Instant, *, handle: int = 0
    ) -> list[Action]:
        """These partitions are to be handed over: settle what is in flight by the deadline.

        `Released` follows with this handle, at the latest at the deadline (seconds).
        """
        partitions = self._with_retry(tps)
        for partition in partitions:
            partition.draining = True
        self.delivery.flush()
        self._hand_overs.begin(HandOver(partitions, deadline, handle), now.mono)
        return self._after(now)

    def lost(self, tps: Iterable[TopicPartition], now: Instant) -> list[Action]:
        """These partitions belong to somebody else already: drop what is queued, commit nothing."""
        self.lease.end(now.mono)
        self._let_go(self._with_retry(tps), now)
        return self._after(now)

    def _with_retry(self, tps: Iterable[TopicPartition]) -> list[Partition]:
        """These partitions, each with that of the retry topic which is read beside it."""
        sources = [self.partitions[tp] for tp in tps if tp in self.partitions]
        return sources + [source.retry for source in sources if source.retry is not None]

    # Intake

    def records(self, records: Sequence[Record], now: Instant) -> list[Action]:
        """Records were read. Those of partitions that are not ours, or no longer, are ignored."""
        self.in_flight.add(*self._arrivals.take(records, self.partitions, now))
        return self._after(now)

    def schema_answered(self, schema_id: int, answer: SchemaAnswer, now: Instant) -> list[Action]:
        """The registry said something about a schema id, or did not answer."""
        again_at = self._arrivals.schema_answered(schema_id, answer, now)
        if again_at is not None:
            self._again.at(again_at, FetchSchema(schema_id))
        return self._after(now)

    # Deduplication

    def looked_up(
        self, handle: int, accepted_at: Sequence[int | None], now: Instant
    ) -> list[Action]:
        """The store said when each key was accepted (milliseconds), if it was."""
        self._recall.looked_up(handle, accepted_at, now)
        return self._after(now)

    def wants(self, handle: int) -> bool:
        """Whether the answer to a question about a partition's memory is still waited for."""
        return self._memory.waited_for(handle) is not None

    def store_opened(self, handle: int, reached: Reached | None, now: Instant) -> list[Action]:
        """A local store is open; it has reached this place of the state topic, if any."""
        self._recall.store_opened(handle, reached)
        return self._after(now)

    def state_read(self, handle: int, chunk: StateChunk, now: Instant) -> list[Action]:
        """A chunk of a state partition was read."""
        self._recall.read(handle, chunk, now)
        return self._after(now)

    def state_unread(self, handle: int, now: Instant) -> list[Action]:
        """A state partition could not be read: asked again later."""
        self._recall.unread(handle, now)
        return self._after(now)

    def marked(self, handle: int, now: Instant) -> list[Action]:
        """The marks are durable."""
        self._recall.marked(handle, now)
        return self._after(now)

    def store_failed(self, handle: int, now: Instant) -> list[Action]:
        """The store failed: the partition stops until it answers again."""
        self._recall.store_failed(handle, now)
        return self._after(now)

    def store_lost(self, tp: TopicPartition, now: Instant) -> list[Action]:
        """A local store is no longer what it was: the partition's memory is taken over anew."""
        partition = self.partitions.get(tp)
        if partition is not None:
            self._recall.store_lost(partition)
        return self._after(now)

    # Delivery

    def answered(self, handle: int, answer: Answer, now: Instant) -> list[Action]:
        """What came back for a request."""
        judged = self.delivery.answered(handle, answer, now)
        judged.tell_as_sent()
        self._actions.append(AttemptFinished(judged.attempt))
        if judged.accepted:
            reason = Reason.PARTIAL if judged.verdict.rule.partial else None
            self._memory.accepted(self._settlement.accept(judged.accepted, reason, now))
        cleared = [item for item, _ in judged.refused if item.first_unknown_ms is None]
        if cleared := [*cleared, *judged.cleared]:
            self._memory.refused(cleared, now)
        self._refuse(judged.refused, now)
        return self._after(now)

    def token_changed(self, destinations: Iterable[Destination], now: Instant) -> list[Action]:
        """Another token is there for these destinations: those that are shut try it at once."""
        self.delivery.renew(destinations, now)
        return self._after(now)

    def _share_limits(self, now: Instant) -> None:
        """Divides what a destination takes among the members, by the partitions they own.

        Without a partition there is nothing to send but what is in flight: the share stays.
        """
        owned = sum([partition.beside is None for partition in self.partitions.values()])
        if owned and self._source_partitions:
            self.delivery.share(min(1.0, owned / self._source_partitions), now)

    def acknowledged(self, answers: Iterable[Acknowledged], now: Instant) -> list[Action]:
        """What became of records of our own topics."""
        for answer in answers:
            if self._recall.acknowledged(answer, now):
                continue
            if self.parking.wants(answer.handle):
                again: Action | None = self.parking.acknowledged(answer)
            else:
                again = self._settlement.acknowledged(answer, now)
            if again is None:
                self._again.succeeded(answer.handle)
            else:
                self._again.failed(answer.handle, again, now.mono)
        return self._after(now)

    def _refuse(self, refused: Iterable[tuple[Item, Refused]], now: Instant) -> None:
        for item, why in refused:
            if item.first_unknown_ms is not None and item.key:
                item.owner.state.left(item.key, item.first_unknown_ms, now)
            self._actions += self._settlement.refuse(item, why, now)

    def _park(self, now: Instant) -> None:
        """Parks what waits too long, and lets go of what is safely in the retry topic."""
        parking = self.parking
        if self.lease.holds(now.mono):
            self._actions += parking.poll(
                now, self.delivery.queues, self._settlement.in_flight, self.in_flight
            )
        else:
            parking.watch_crowd()
        if parking.returned:
            returned, parking.returned = parking.returned, []
            self._arrivals.again(returned, now)
        if parking.parked:
            parked, parking.parked = parking.parked, []
            for item in parked:
                item.owner.settle(item.record.offset)
            self._memory.refused([item for item in parked if self._is_untried(item)], now)
            self._forget(parked)
            self._actions.append(Parked(parked))

    def _is_untried(self, item: Item) -> bool:
        """Whether TikTok cannot have a parked event, although it was announced.

        Its key has been free meanwhile: another record with it may be on its way, or have ended
        without an outcome.
        """
        if not item.announced or item.first_unknown_ms is not None:
            return False
        first = self._settlement.in_flight.first(item.key)
        return first is None and item.key not in item.owner.state.attempts.since

    # Offsets

    def committed(self, results: Iterable[CommitResult], now: Instant) -> list[Action]:
        """What became of a commit. An error (a rebalance, say) leaves it to the next one."""
        proved_at = self._commits.answered(results)
        if proved_at is not None:
            lapsed = not self.lease.holds(now.mono)
            self.lease.prove(proved_at)
            if lapsed:
                # It may be a new membership, and what is announced another owner's by now: the
                # next announcement reads what was written in between.
                self.delivery.announce_again()
            self._memory.proved(proved_at)
        return self._after(now)

    def high_watermarks(self, highs: Mapping[TopicPartition, int]) -> None:
        """How far each partition reaches, for the lag that is reported."""
        for tp, high in highs.items():
            partition = self.partitions.get(tp)
            if partition is not None:
                partition.high = high

    # Time

    def tick(self, now: Instant) -> list[Action]:
        """Time has passed."""
        for action in self._again.due(now.mono):
            if isinstance(action, FetchSchema) or self._is_wanted(action):
                self._actions.append(action)
            else:
                self._again.succeeded(_handle(action))
        self._memory.tick(now)
        return self._after(now)

    def wake_at(self, now: Instant) -> float:
        """When `tick` is due if nothing happens before: seconds, infinity for never."""
        may_start = self.lease.holds(now.mono)
        return min(
            self.delivery.wake_at(now, may_start=may_start),
            self._hand_overs.wake_at(),
            self._again.wake_at(),
            self._commits.wake_at(self.partitions.values(), self._prove_at()),
            self._memory.wake_at(),
            self.parking.wake_at() if may_start else math.inf,
            self._closings.wake_at(),
        )

    def _prove_at(self) -> float:
        """When membership is to be proven: seconds, infinity where nothing is ours to prove."""
        for partition in self.partitions.values():
            if partition.may_commit:
                return self.lease.renew_at()
        return math.inf

    def _is_wanted(self, action: Action) -> bool:
        """Whether an action put up for another try still has somebody waiting for it."""
        handle = _handle(action)
        return (
            self._look_ups.asked(handle) is not None
            or self._settlement.wants(handle)
            or self.parking.wants(handle)
            or self._memory.waited_for(handle) is not None
            or self._memory.news(handle) is not None
        )

    # What follows from every input

    def _after(self, now: Instant) -> list[Action]:
        """Sends what may go, tells what is settled, and adjusts the flow."""
        self._recall.follow(now)
        self._park(now)
        polled = self.delivery.poll(now, may_start=self.lease.holds(now.mono))
        self._refuse(polled.refused, now)
        for announce in polled.announces:
            self._memory.announce(announce)
        unsure: dict[Partition, list[Item]] = {}
        for item in polled.unsure:
            unsure.setdefault(item.owner, []).append(item)
        self._look_ups.ask(unsure)
        if self._settlement.promoted:
            promoted, self._settlement.promoted = self._settlement.promoted, []
            self._arrivals.go_first(promoted, now)
        self._actions += map(Send, polled.requests)
        settled = self._settlement.settled
        if settled:
            self._settlement.settled = []
            self._forget(settled)
            self._actions.append(Settled(settled))
        for ended in self._hand_overs.ended(now.mono):
            self._hand_over(ended, now)
        self._recall.follow(now)
        self._actions += self._closings.ended(now.mono)
        prove = now.mono >= self._prove_at()
        commit = self._commits.due(self.partitions.values(), now.mono, prove=prove)
        if commit is not None:
            self._actions.append(commit)
        self._actions += self.reading.adjust(self.partitions.values())
        if receipts := self._settlement.receipts:
            self._settlement.receipts = []
            self._actions += receipts
        actions = self._actions[:]
        self._actions.clear()
        return actions

    def _forget(self, items: Collection[Item]) -> None:
        """These are in memory no longer."""
        self.in_flight.remove(len(items), sum([len(item.record.value or b"") for item in items]))

    # Hand-over

    def _hand_over(self, ended: HandOver, now: Instant) -> None:
        """Lets partitions go, and tells the next owner where nothing of them is in the air."""
        partitions = [partition for partition in ended.partitions if partition.active]
        offsets = {p.tp: p.to_commit() if p.may_commit else None for p in partitions}
        items = [item for one in partitions for item in one.pending.values()]
        self._memory.refused([item for item in items if self._is_unsent(item)], now)
        in_air = {owner.source for owner in self.delivery.owners_in_air()}
        closed = (
            self._memory.close(partition.state, partition.watermark)
            for partition in partitions
            if partition.beside is None and partition not in in_air
        )
        handles = {handle for handle in closed if handle is not None}
        self._let_go(partitions, now)
        released = Released(offsets, ended.handle)
        self._closings.begin(handles, released, deadline=ended.deadline, now=now.mono)

    def _is_unsent(self, item: Item) -> bool:
        """Whether TikTok cannot have an event that waits to be sent, although it was announced."""
        waits = item.announced and self._settlement.in_flight.first(item.key) is item
        return waits and maybe_taken_ms(item) is None

    def _stuck(self, deadline: float, now: float) -> Iterable[Item]:
        """The items that cannot settle before a deadline, whatever happens until then."""
        yield from self.delivery.stuck(deadline, now)
        for partition in self.partitions.values():
            yield from partition.waiting
        for action in self._again.beyond(deadline):
            if isinstance(action, FetchSchema):
                yield from self._arrivals.waiting_for(action.schema_id)
            elif isinstance(action, Produce):
                yield from self._settlement.item_of(action.handle)
                yield from self.parking.item_of(action.handle)

    def _let_go(self, partitions: Sequence[Partition], now: Instant) -> None:
        """Forgets partitions; their unsettled records are somebody else's to read again."""
        if not partitions:
            return
        for partition in partitions:
            if partition.source not in partitions:
                _leave_tried(partition, now)
            partition.active = False
            self.reading.end(partition)
            partition.waiting = []
            self._commits.forget(partition.tp)
            if self.partitions.get(partition.tp) is partition:
                del self.partitions[partition.tp]
            if partition.beside is None:
                self._memory.let_go(partition.state)
                self._actions.append(GiveUp(partition.tp, partition.state.state_tp))
        self._share_limits(now)
        owners = set(partitions)
        self._look_ups.drop(owners)
        self.delivery.drop(owners)
        self.parking.let_go(partitions)
        self._arrivals.drop(owners)
        self._arrivals.go_first(self._settlement.hand_over(partitions), now)
        for partition in partitions:
            self._forget(partition.pending.values())
            # What is accepted of it late must not say that all it had read was settled.
            partition.position, partition.pending = partition.watermark, {}


def _leave_tried(retry: Partition, now: Instant) -> None:
    """A retry topic was made again: TikTok may have what was attempted of the one before."""
    for item in retry.pending.values():
        since = maybe_taken_ms(item)
        if since is not None and item.key and item.outcome is None:
            retry.state.left(item.key, since, now)


def _handle(action: Action) -> int:
    return getattr(action, "handle", _POSITION)
