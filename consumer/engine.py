"""The engine: every decision of the consumer, without any I/O.

Inputs are method calls that carry what happened and the time; each returns the actions to carry
out, in order. Nothing in here awaits, reads a clock, or knows Kafka's or aiohttp's types, so the
same engine runs in production and under a simulated world. One thread drives it.

`wake_at` says when to call `tick` if nothing else happens before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumer.again import Again
from consumer.commits import Commits
from consumer.consent import strictest
from consumer.dedup import within_window
from consumer.event import (
    Headers,
    Instant,
    Item,
    Reason,
    Record,
    Refused,
    Suppressed,
    TopicPartition,
    TraceIds,
)
from consumer.handover import HandOver, HandOvers
from consumer.intake import Intake, SchemaNeeded
from consumer.limits import InFlight, Random, RetryPolicy
from consumer.messages import (
    Acknowledged,
    Action,
    AttemptFinished,
    FetchSchema,
    Flow,
    LookUp,
    Pause,
    Produce,
    Released,
    Resume,
    SchemaAnswer,
    Send,
    Settled,
)
from consumer.offsets import Partition
from consumer.schema_wait import MOST_WAITING, SchemaWaits
from consumer.settle import STORE_FAILED, Settlement

if TYPE_CHECKING:
    import itertools
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from consumer.deliver import Delivery
    from consumer.source_events import AssignedPartition, CommitResult, PositionChange
    from consumer.verdict import Answer

REGISTRY_UNAVAILABLE = "registry_unavailable"
SCHEMAS_MISSING = "schemas_missing"
"""Hold reason: as many records as may wait for schemas that the registry does not have."""

_POSITION, _SCHEMAS = 0, -1
"""Handles count from 1; these stand for a partition's position and for its missing schemas."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Bounds and times of the engine; times in seconds."""

    window: float = 48 * 3600.0
    max_in_flight_events: int = 20_000
    max_in_flight_bytes: int = 64 << 20
    commit_interval: float = 1.0
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
        handles: itertools.count[int],
        begin_trace: Callable[[Headers], TraceIds],
        rng: Random,
    ) -> None:
        self._settings = settings
        self._window_ms = int(settings.window * 1000)
        self._intake = intake
        self._schemas = schemas
        self.delivery = delivery
        self._settlement = settlement
        self._handles = handles
        self._begin_trace = begin_trace
        # Keyed by TopicPartition; a plain pair finds it too, without making one per record.
        self.partitions: dict[tuple[str, int], Partition] = {}
        self.in_flight = InFlight(settings.max_in_flight_events, settings.max_in_flight_bytes)
        self._flowing = True
        self._paused: set[Partition] = set()
        self._look_ups: dict[int, tuple[LookUp, list[Item]]] = {}
        self._again = Again(settings.patience, rng)
        self._commits = Commits(settings.commit_interval)
        self._hand_overs = HandOvers(self._stuck)
        self._actions: list[Action] = []

    # Assignment

    def assigned(self, assigned: Iterable[AssignedPartition], now: Instant) -> list[Action]:
        """These partitions are ours now, each from its position on."""
        for one in assigned:
            partition = Partition.taken_over(one)
            if one.hold is not None:
                partition.hold(one.hold, _POSITION)
                self._paused.add(partition)  # the source has not begun to read it
            self.partitions[one.tp] = partition
        return self._after(now)

    def position_changed(self, change: PositionChange, now: Instant) -> list[Action]:
        """A partition is read from another position now, is held there, or no longer held."""
        partition = self.partitions.get(change.tp)
        if partition is not None:
            partition.position = max(partition.position, change.position)
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
        partitions = [self.partitions[tp] for tp in tps if tp in self.partitions]
        for partition in partitions:
            partition.draining = True
        self.delivery.flush()
        self._hand_overs.begin(HandOver(partitions, deadline, handle), now.mono)
        return self._after(now)

    def lost(self, tps: Iterable[TopicPartition], now: Instant) -> list[Action]:
        """These partitions belong to somebody else already: drop what is queued, commit nothing."""
        self._let_go([self.partitions[tp] for tp in tps if tp in self.partitions], now)
        return self._after(now)

    # Intake

    def records(self, records: Sequence[Record], now: Instant) -> list[Action]:
        """Records were read. Those of partitions that are not ours, or no longer, are ignored."""
        partitions, begin_trace, prepare = (
            self.partitions,
            self._begin_trace,
            self._intake.prepare,
        )
        wall_ms = now.wall_ms
        taken, size = 0, 0
        look_ups: dict[Partition, list[Item]] = {}
        for record in records:
            partition = partitions.get((record.topic, record.partition))
            if partition is None or partition.draining:
                continue
            item = Item(record, now, begin_trace(record.headers), partition)
            if not partition.take(item):
                continue
            taken += 1
            size += len(record.value or b"")
            self._enter(item, prepare(item, wall_ms), look_ups, now)
        self.in_flight.add(taken, size)
        self._look_up(look_ups)
        return self._after(now)

    def schema_answered(self, schema_id: int, answer: SchemaAnswer, now: Instant) -> list[Action]:
        """The registry said something about a schema id, or did not answer."""
        waiting = [item.owner for item in self._schemas.items(schema_id)]
        going_on = self._schemas.answered(schema_id, answer, now.mono)
        if isinstance(going_on, float):
            held = self._schemas.unavailable(schema_id)
            for owner in waiting:
                if held:
                    owner.hold(REGISTRY_UNAVAILABLE, schema_id)
                else:
                    owner.release(REGISTRY_UNAVAILABLE, schema_id)
            self._again.at(going_on, FetchSchema(schema_id))
            return self._after(now)
        for owner in waiting:
            owner.release(REGISTRY_UNAVAILABLE, schema_id)
            if self._schemas.waiting(owner) * 2 <= MOST_WAITING:
                owner.release(SCHEMAS_MISSING, _SCHEMAS)
        items, refused = going_on
        look_ups: dict[Partition, list[Item]] = {}
        for item in items:
            found = refused or self._intake.prepare(item, now.wall_ms)
            self._enter(item, found, look_ups, now)
        self._look_up(look_ups)
        return self._after(now)

    def _enter(
        self,
        item: Item,
        found: SchemaNeeded | Refused | Suppressed | None,
        look_ups: dict[Partition, list[Item]],
        now: Instant,
    ) -> None:
        """An item has been through intake: where it goes from there."""
        if found is None:
            first = self._settlement.in_flight.enter(item)
            if first is None:
                look_ups.setdefault(item.owner, []).append(item)
            else:
                self._wait_for(first, item, now)
        elif isinstance(found, SchemaNeeded):
            asked = self._schemas.enter(found.schema_id, item, now.mono)
            if self._schemas.waiting(item.owner) >= MOST_WAITING:
                item.owner.hold(SCHEMAS_MISSING, _SCHEMAS)
            if isinstance(asked, Refused):
                self._actions += self._settlement.refuse(item, asked, now)
            elif asked:
                self._actions.append(FetchSchema(found.schema_id))
            elif self._schemas.unavailable(found.schema_id):
                item.owner.hold(REGISTRY_UNAVAILABLE, found.schema_id)
        elif isinstance(found, Suppressed):
            self._settlement.suppress(item, found.reason, now)
        else:
            self._actions += self._settlement.refuse(item, found, now)

    def _wait_for(self, first: Item, waiter: Item, now: Instant) -> None:
        """The later record waits; the next attempt applies the stricter consent of the two."""
        if first.consent is None or waiter.consent is None:
            return
        consent = strictest(first.consent, waiter.consent)
        if consent == first.consent:
            return
        found = self._intake.restrict(first, consent, now.wall_ms)
        if isinstance(found, Refused):
            self.delivery.withdraw(first, found)

    def _go_first(self, promoted: Iterable[Item], now: Instant) -> None:
        """Items that waited are the first of their key now: as strict as those that wait still.

        They are looked up: those they waited for may have been another partition's.
        """
        look_ups: dict[Partition, list[Item]] = {}
        for item in promoted:
            for waiter in item.waiters or ():
                self._wait_for(item, waiter, now)
            look_ups.setdefault(item.owner, []).append(item)
        self._look_up(look_ups)

    # Deduplication

    def _look_up(self, look_ups: Mapping[Partition, list[Item]]) -> None:
        for partition, items in look_ups.items():
            action = LookUp(next(self._handles), partition.tp, [item.key for item in items])
            self._look_ups[action.handle] = action, items
            self._actions.append(action)

    def looked_up(
        self, handle: int, accepted_at: Sequence[int | None], now: Instant
    ) -> list[Action]:
        """The store said when each key was accepted (milliseconds), if it was."""
        asked = self._look_ups.pop(handle, None)
        self._again.succeeded(handle)
        wall_ns, wall_ms, window_ms = now.wall_ns, now.wall_ms, self._window_ms
        if asked is not None:
            asked[1][0].owner.release(STORE_FAILED, handle)
            for item, accepted_ms in zip(asked[1], accepted_at, strict=True):
                item.deduplicated_ns = wall_ns
                if within_window(accepted_ms, wall_ms, window_ms):
                    self._settlement.duplicate(item, now)
                else:
                    self.delivery.add(item, now)
        return self._after(now)

    def marked(self, handle: int, now: Instant) -> list[Action]:
        """The marks are durable."""
        self._again.succeeded(handle)
        self._settlement.marked(handle, now)
        return self._after(now)

    def store_failed(self, handle: int, now: Instant) -> list[Action]:
        """The store failed at a look-up or a mark: the partition stops until it answers again."""
        if handle in self._look_ups:
            action, items = self._look_ups[handle]
            items[0].owner.hold(STORE_FAILED, handle)
            self._again.failed(handle, action, now.mono)
        elif (again := self._settlement.mark_failed(handle)) is not None:
            self._again.failed(handle, again, now.mono)
        return self._after(now)

    # Delivery

    def answered(self, handle: int, answer: Answer, now: Instant) -> list[Action]:
        """What came back for a request."""
        judged = self.delivery.answered(handle, answer, now)
        self._actions.append(AttemptFinished(judged.attempt))
        if judged.accepted:
            reason = Reason.PARTIAL if judged.verdict.rule.partial else None
            self._actions += self._settlement.accept(judged.accepted, reason, now)
        self._refuse(judged.refused, now)
        return self._after(now)

    def acknowledged(self, answers: Iterable[Acknowledged], now: Instant) -> list[Action]:
        """What became of dead letters."""
        for answer in answers:
            again = self._settlement.acknowledged(answer, now)
            if again is None:
                self._again.succeeded(answer.handle)
            else:
                self._again.failed(answer.handle, again, now.mono)
        return self._after(now)

    def _refuse(self, refused: Iterable[tuple[Item, Refused]], now: Instant) -> None:
        for item, why in refused:
            self._actions += self._settlement.refuse(item, why, now)

    # Offsets

    def committed(self, results: Iterable[CommitResult], now: Instant) -> list[Action]:
        """What became of a commit. An error (a rebalance, say) leaves it to the next one."""
        self._commits.answered(results)
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
        return self._after(now)

    def wake_at(self, now: Instant) -> float:
        """When `tick` is due if nothing happens before: seconds, infinity for never."""
        return min(
            self.delivery.wake_at(now),
            self._hand_overs.wake_at(),
            self._again.wake_at(),
            self._commits.wake_at(self.partitions.values()),
        )

    def _is_wanted(self, action: Action) -> bool:
        """Whether an action put up for another try still has somebody waiting for it."""
        handle = _handle(action)
        return handle in self._look_ups or self._settlement.wants(handle)

    # What follows from every input

    def _after(self, now: Instant) -> list[Action]:
        """Sends what may go, tells what is settled, and adjusts the flow."""
        requests, refused = self.delivery.poll(now)
        self._refuse(refused, now)
        if self._settlement.promoted:
            promoted, self._settlement.promoted = self._settlement.promoted, []
            self._go_first(promoted, now)
        self._actions += map(Send, requests)
        settled = self._settlement.settled
        if settled:
            self._settlement.settled = []
            self.in_flight.remove(
                len(settled), sum(len(item.record.value or b"") for item in settled)
            )
            self._actions.append(Settled(settled))
        for ended in self._hand_overs.ended(now.mono):
            partitions = [partition for partition in ended.partitions if partition.active]
            offsets = {partition.tp: partition.to_commit() for partition in partitions}
            self._let_go(partitions, now)
            self._actions.append(Released(offsets, ended.handle))
        if (commit := self._commits.due(self.partitions.values(), now.mono)) is not None:
            self._actions.append(commit)
        self._adjust_flow()
        actions, self._actions = self._actions, []
        return actions

    def _adjust_flow(self) -> None:
        for partition in self.partitions.values():
            if bool(partition.holds) != (partition in self._paused):
                if partition.holds:
                    self._paused.add(partition)
                    self._actions.append(Pause(partition.tp))
                else:
                    self._paused.discard(partition)
                    self._actions.append(Resume(partition.tp))
        if self._flowing == self.in_flight.full:
            self._flowing = not self.in_flight.full
            self._actions.append(Flow(self._flowing))

    # Hand-over

    def _stuck(self, deadline: float, now: float) -> Iterable[Item]:
        """The items that cannot settle before a deadline, whatever happens until then."""
        yield from self.delivery.stuck(deadline, now)
        for action in self._again.beyond(deadline):
            if isinstance(action, FetchSchema):
                yield from self._schemas.items(action.schema_id)
            elif isinstance(action, Produce):
                yield from self._settlement.letter_of(action.handle)

    def _let_go(self, partitions: Sequence[Partition], now: Instant) -> None:
        """Forgets partitions; their unsettled records are somebody else's to read again."""
        if not partitions:
            return
        for partition in partitions:
            partition.active = False
            self._paused.discard(partition)
            if self.partitions.get(partition.tp) is partition:
                del self.partitions[partition.tp]
        owners = set(partitions)
        self._look_ups = {
            handle: asked
            for handle, asked in self._look_ups.items()
            if asked[1][0].owner not in owners
        }
        self.delivery.drop(owners)
        self._schemas.drop(owners)
        self._go_first(self._settlement.hand_over(partitions), now)
        for partition in partitions:
            unsettled = partition.pending.values()
            self.in_flight.remove(
                len(unsettled), sum(len(item.record.value or b"") for item in unsettled)
            )
            partition.pending = {}


def _handle(action: Action) -> int:
    return getattr(action, "handle", _POSITION)
