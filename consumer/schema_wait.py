"""Records that wait for a schema: which ids were asked for, and what the registry said.

A registry that does not answer makes its records wait for as long as that lasts. Only when the
registry itself has said for `unknown_after` seconds that an id does not exist, the records with
that id are dead letters: a schema may be registered a moment after its first record.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumer.decode import Decoder, UnusableSchema
from consumer.event import Reason, Refused
from consumer.messages import RegistryUnavailable, SchemaAnswer, SchemaFound, SchemaNotAvro

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.event import Item
    from consumer.offsets import Partition

RECHECK_SECONDS = 30.0
"""How long an answer "does not exist" is believed for further records with the id."""

REFUSED_KEPT = 1000
"""Refused ids remembered: hostile records could name any number of them."""

MOST_WAITING = 1000
"""Records of one partition that may wait for schemas; at this many it is held, until half of them
have gone on. A partition full of unknown ids must not fill the whole process."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between two questions for the same id."""


@dataclass(slots=True)
class Wait:
    """The records that wait for one schema id."""

    items: list[Item] = field(default_factory=list)
    missing_since: float | None = None
    questions: int = 0
    unavailable: bool = False


class SchemaWaits:
    """All records that wait for the registry, by schema id."""

    def __init__(self, decoder: Decoder, unknown_after: float) -> None:
        self._decoder = decoder
        self._unknown_after = unknown_after
        self._waits: dict[int, Wait] = {}
        self._refused: dict[int, tuple[Refused, float]] = {}
        self._waiting: Counter[Partition] = Counter()

    def enter(self, schema_id: int, item: Item, now: float) -> Refused | bool:
        """A record needs a schema. A refusal, or whether the registry is to be asked."""
        known = self._refused.get(schema_id)
        if known is not None and now < known[1]:
            return known[0]
        wait = self._waits.get(schema_id)
        self._waiting[item.owner] += 1
        if wait is not None:
            wait.items.append(item)
            return False
        # An id that did not exist is asked for again, but one more "does not exist" is enough.
        missing = known is not None and known[0].reason is Reason.SCHEMA_UNKNOWN
        missing_since = now - self._unknown_after if missing else None
        self._waits[schema_id] = Wait([item], missing_since)
        return True

    def unavailable(self, schema_id: int) -> bool:
        """Whether the registry did not answer when it was last asked for this id."""
        wait = self._waits.get(schema_id)
        return wait is not None and wait.unavailable

    def answered(
        self, schema_id: int, answer: SchemaAnswer, now: float
    ) -> tuple[list[Item], Refused | None] | float:
        """What the registry said: the items that go on, refused or not; or when to ask again."""
        wait = self._waits[schema_id]
        refused = self._judge(schema_id, answer, wait, now)
        if isinstance(refused, float):
            return now + refused
        del self._waits[schema_id]
        self._waiting.subtract(item.owner for item in wait.items)
        if refused is not None:
            if len(self._refused) >= REFUSED_KEPT:
                del self._refused[next(iter(self._refused))]
            self._refused[schema_id] = refused, now + RECHECK_SECONDS
        return wait.items, refused

    def _judge(
        self, schema_id: int, answer: SchemaAnswer, wait: Wait, now: float
    ) -> Refused | float | None:
        wait.questions += 1
        wait.unavailable = isinstance(answer, RegistryUnavailable)
        pause = min(SHORTEST_PAUSE * 2.0 ** min(wait.questions - 1, 16), LONGEST_PAUSE)
        if isinstance(answer, SchemaFound):
            try:
                self._decoder.learn(schema_id, answer.schemas)
            except UnusableSchema as error:
                return Refused(Reason.UNDECODABLE, f"schema {schema_id}: {error.detail}")
            return None
        if isinstance(answer, SchemaNotAvro):
            return Refused(Reason.UNDECODABLE, f"schema {schema_id}: {answer.detail}")
        if wait.unavailable:
            wait.missing_since = None
            return pause
        if wait.missing_since is None:
            wait.missing_since = now
        left = wait.missing_since + self._unknown_after - now
        if left <= 0:
            return Refused(
                Reason.SCHEMA_UNKNOWN,
                f"the registry has no schema with id {schema_id}; register it, then replay",
            )
        return min(pause, left)

    def drop(self, owners: set[Partition]) -> None:
        """Forgets the records of these partitions; questions that were asked stay asked."""
        for wait in self._waits.values():
            wait.items = [item for item in wait.items if item.owner not in owners]
        for owner in owners:
            del self._waiting[owner]

    def waiting(self, owner: Partition) -> int:
        """How many records of a partition wait for schemas."""
        return self._waiting[owner]

    def items(self, schema_id: int) -> Sequence[Item]:
        """The records that wait for this schema."""
        wait = self._waits.get(schema_id)
        return wait.items if wait is not None else ()
