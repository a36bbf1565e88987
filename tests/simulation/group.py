"""The simulated group coordinator: members, sessions, who owns what, committed offsets.

Partitions move cooperatively: one that is to move is given to its new owner when the old one has
given it up, or is no member any more.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from consumer.event import TopicPartition
    from consumer.offsets import CommitOffset
    from tests.simulation.clock import Clock
    from tests.simulation.schedule import Setup


class Heartbeat(NamedTuple):
    """What a member is told: its generation, what it owns, and what of that it is to give up.

    `error`: it is no member.
    """

    generation: int = 0
    owned: frozenset[int] = frozenset()
    wanted: frozenset[int] = frozenset()
    error: str | None = None


class Membership:
    """A member as the coordinator knows it."""

    __slots__ = ("expelled", "generation", "heartbeat_at", "instance", "number", "owned", "target")

    def __init__(self, number: int, instance: str, now: float) -> None:
        self.number = number
        self.instance = instance
        self.heartbeat_at = now
        self.generation = 0
        self.owned: set[int] = set()
        self.target: set[int] = set()
        self.expelled: str | None = None

    def __repr__(self) -> str:
        """Who it is."""
        return f"<Membership {self.instance}-{self.number} owned={sorted(self.owned)}>"


class Coordinator:
    """One group. `tell` takes sentences about it; `on_offsets` is told of every commit."""

    def __init__(
        self,
        clock: Clock,
        setup: Setup,
        seed: int | str,
        on_offsets: Callable[[Mapping[TopicPartition, CommitOffset]], None],
        tell: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._setup = setup
        self._rng = random.Random(f"{seed}/group")
        self._on_offsets = on_offsets
        self._tell = tell
        self.offsets: dict[TopicPartition, CommitOffset] = {}
        self.members: list[Membership] = []
        self.generation = 0
        self.gone_until = 0.0
        self._rebalancing_until = 0.0
        self._joined = 0
        self._seed = 0

    # Members

    def join(self, instance: str) -> Membership:
        """A process joins. A static member takes the place of the one of its name, at once."""
        now = self._clock.now
        self._joined += 1
        new = Membership(self._joined, instance, now)
        old = next((m for m in self.members if m.instance == instance), None)
        if self._setup.static_members and old is not None:
            old.expelled = "FENCED_INSTANCE_ID"
            new.owned, new.target, new.generation = old.owned, old.target, old.generation
            old.owned, old.target = set(), set()
            self.members[self.members.index(old)] = new
        else:
            self.members.append(new)
            self.rebalance()
        self._clock.after(self._setup.session_timeout, lambda: self._look_at(new))
        return new

    def leave(self, member: Membership) -> None:
        """A member leaves by itself."""
        if member.expelled is None:
            self._expel(member, "UNKNOWN_MEMBER_ID")

    def heartbeat(self, member: Membership) -> Heartbeat:
        """A member shows that it lives, and learns what it is to own."""
        if member.expelled is not None:
            return Heartbeat(error=member.expelled)
        member.heartbeat_at = self._clock.now
        member.generation = self.generation
        free = set(range(self._setup.partitions)).difference(*(m.owned for m in self.members))
        member.owned |= member.target & free
        return Heartbeat(self.generation, frozenset(member.owned), frozenset(member.target))

    def given_up(self, member: Membership, partitions: Iterable[int]) -> None:
        """A member has handed partitions over."""
        member.owned.difference_update(partitions)

    def rebalance(self, *, shuffle: bool = False) -> None:
        """Partitions are shared out anew, with as few moves as can be; or shuffled."""
        self.generation += 1
        self._rebalancing_until = self._clock.now + self._setup.cooperative_pause
        members, partitions = self.members, list(range(self._setup.partitions))
        if not members:
            return
        order = sorted(members, key=lambda m: m.number)
        if shuffle:
            self._rng.shuffle(order)
            for index, member in enumerate(order):
                member.target = set(partitions[index :: len(order)])
            return
        kept: dict[int, set[int]] = {m.number: m.target & set(partitions) for m in order}
        taken = set().union(*kept.values())
        for partition in partitions:
            if partition not in taken:
                kept[min(order, key=lambda m: len(kept[m.number])).number].add(partition)
        while True:
            most = max(order, key=lambda m: len(kept[m.number]))
            least = min(order, key=lambda m: len(kept[m.number]))
            if len(kept[most.number]) - len(kept[least.number]) <= 1:
                break
            moved = max(kept[most.number])
            kept[most.number].discard(moved)
            kept[least.number].add(moved)
        for member in order:
            member.target = kept[member.number]

    def _expel(self, member: Membership, why: str) -> None:
        member.expelled = why
        self.members.remove(member)
        member.owned, member.target = set(), set()
        self.rebalance()

    def _look_at(self, member: Membership) -> None:
        """A member's session may be over."""
        if member.expelled is not None:
            return
        now, session = self._clock.now, self._setup.session_timeout
        ends = max(member.heartbeat_at, self.gone_until) + session
        if now >= ends:
            self._tell(
                f"the group gives up member {member.instance}: no heartbeat for {session:g} s"
            )
            self._expel(member, "UNKNOWN_MEMBER_ID")
        else:
            self._clock.at(ends, lambda: self._look_at(member))

    # Offsets

    def commit(
        self, member: Membership, generation: int, offsets: Mapping[TopicPartition, CommitOffset]
    ) -> str | None:
        """A member commits; the name of the error, if it may not."""
        if member.expelled is not None:
            return member.expelled
        if generation != self.generation:
            return "ILLEGAL_GENERATION"
        if self._clock.now < self._rebalancing_until and self._rng.random() < _REBALANCING:
            return "REBALANCE_IN_PROGRESS"
        if self._setup.commits_renew_session:
            member.heartbeat_at = self._clock.now
        self._on_offsets(offsets)
        self.offsets.update(offsets)
        return None


_REBALANCING = 0.5
"""Share of the commits during a rebalance that fail."""
