"""Arrivals: records on their way from the source to the look-up, or to an outcome before it.

A record waits here for its schema; one whose key is on its way already waits for the first one's
outcome, and makes it as strict as its own consent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.consent import strictest
from consumer.event import Headers, Item, Record, Refused, Suppressed, TraceIds
from consumer.intake import Intake, SchemaNeeded
from consumer.messages import FetchSchema
from consumer.retry_headers import restore
from consumer.schema_wait import MOST_WAITING, SchemaWaits
from consumer.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from consumer.deliver import Delivery
    from consumer.event import Instant
    from consumer.lookups import LookUps
    from consumer.messages import Action, SchemaAnswer
    from consumer.offsets import Partition
    from consumer.settle import Settlement

REGISTRY_UNAVAILABLE = "registry_unavailable"
SCHEMAS_MISSING = "schemas_missing"
"""Hold reason: as many records as may wait for schemas that the registry does not have."""

_SCHEMAS = -1
"""Handles count from 1; this one stands for all schemas that a partition waits for."""


class Arrivals:
    """What has been read and is not looked up yet; `out` takes the actions."""

    def __init__(  # noqa: PLR0917  its neighbours on the path, each once
        self,
        intake: Intake,
        schemas: SchemaWaits,
        settlement: Settlement,
        delivery: Delivery,
        look_ups: LookUps,
        begin_trace: Callable[[Headers], TraceIds],
        out: list[Action],
    ) -> None:
        self._intake = intake
        self._schemas = schemas
        self._settlement = settlement
        self._delivery = delivery
        self._look_ups = look_ups
        self._begin_trace = begin_trace
        self._out = out

    def take(
        self,
        records: Sequence[Record],
        partitions: Mapping[tuple[str, int], Partition],
        now: Instant,
    ) -> tuple[int, int]:
        """Records were read: how many of them are taken, and their bytes.

        Those of partitions that are not ours, or no longer, are ignored.
        """
        begin_trace, prepare, wall_ms = self._begin_trace, self._intake.prepare, now.wall_ms
        taken, size = 0, 0
        to_look_up: dict[Partition, list[Item]] = {}
        for record in records:
            partition = partitions.get((record.topic, record.partition))
            if partition is None or partition.draining:
                continue
            item = Item(record, now, begin_trace(record.headers), partition)
            if not partition.take(item):
                continue
            if partition.beside is not None:
                restore(item, wall_ms)
            taken += 1
            size += len(record.value or b"")
            self._enter(item, prepare(item, wall_ms), to_look_up, now)
        self._look_ups.ask(to_look_up)
        return taken, size

    def again(self, items: Iterable[Item], now: Instant) -> None:
        """Items that were mapped before enter once more: their keys were free meanwhile."""
        to_look_up: dict[Partition, list[Item]] = {}
        for item in items:
            self._enter(item, None, to_look_up, now)
        self._look_ups.ask(to_look_up)

    def go_first(self, promoted: Iterable[Item], now: Instant) -> None:
        """Items that waited are the first of their key now: as strict as those that wait still.

        They are looked up: those they waited for may have been another partition's.
        """
        to_look_up: dict[Partition, list[Item]] = {}
        for item in promoted:
            for waiter in item.waiters or ():
                self._wait_for(item, waiter, now)
            to_look_up.setdefault(item.owner, []).append(item)
        self._look_ups.ask(to_look_up)

    def schema_answered(self, schema_id: int, answer: SchemaAnswer, now: Instant) -> float | None:
        """The registry said something about a schema id; when to ask again, if it did not."""
        waiting = [item.owner for item in self._schemas.items(schema_id)]
        going_on = self._schemas.answered(schema_id, answer, now.mono)
        if isinstance(going_on, float):
            held = self._schemas.unavailable(schema_id)
            for owner in waiting:
                if held:
                    owner.hold(REGISTRY_UNAVAILABLE, schema_id)
                else:
                    owner.release(REGISTRY_UNAVAILABLE, schema_id)
            return going_on
        for owner in waiting:
            owner.release(REGISTRY_UNAVAILABLE, schema_id)
            if self._schemas.waiting(owner) * 2 <= MOST_WAITING:
                owner.release(SCHEMAS_MISSING, _SCHEMAS)
        items, refused = going_on
        to_look_up: dict[Partition, list[Item]] = {}
        for item in items:
            found = refused or self._intake.prepare(item, now.wall_ms)
            self._enter(item, found, to_look_up, now)
        self._look_ups.ask(to_look_up)
        return None

    def waiting_for(self, schema_id: int) -> Iterable[Item]:
        """The items that wait for a schema."""
        return self._schemas.items(schema_id)

    def drop(self, owners: AbstractSet[Partition]) -> None:
        """These partitions are no longer ours."""
        self._schemas.drop(set(owners))

    def _enter(
        self,
        item: Item,
        found: SchemaNeeded | Refused | Suppressed | None,
        to_look_up: dict[Partition, list[Item]],
        now: Instant,
    ) -> None:
        """An item has been through intake: where it goes from there."""
        if found is None:
            first = self._settlement.in_flight.enter(item)
            if first is None:
                to_look_up.setdefault(item.owner, []).append(item)
            else:
                self._wait_for(first, item, now)
        elif isinstance(found, SchemaNeeded):
            asked = self._schemas.enter(found.schema_id, item, now.mono)
            if self._schemas.waiting(item.owner) >= MOST_WAITING:
                item.owner.hold(SCHEMAS_MISSING, _SCHEMAS)
            if isinstance(asked, Refused):
                self._out += self._settlement.refuse(item, asked, now)
            elif asked:
                self._out.append(FetchSchema(found.schema_id))
            elif self._schemas.unavailable(found.schema_id):
                item.owner.hold(REGISTRY_UNAVAILABLE, found.schema_id)
        elif isinstance(found, Suppressed):
            self._settlement.suppress(item, found.reason, now)
        else:
            self._out += self._settlement.refuse(item, found, now)

    def _wait_for(self, first: Item, waiter: Item, now: Instant) -> None:
        """The later record waits; the next attempt applies the stricter consent of the two."""
        if first.consent is None or waiter.consent is None:
            return
        consent = strictest(first.consent, waiter.consent)
        if consent == first.consent:
            return
        last = first.attempts[-1] if first.attempts else None
        if last is not None and last.verdict == Kind.ACCEPTED.value:
            return  # TikTok has it: there is no next attempt
        if last is not None and last.verdict is None and first.mapped is not None:
            last.sent_as.setdefault(first, first.mapped)
        found = self._intake.restrict(first, consent, now.wall_ms)
        if isinstance(found, Refused):
            self._delivery.withdraw(first, found)
