"""Owners of one partition in any order, alive or not, against the log that they share.

Each owner does what the engine does: it looks an event up, announces it, sends it, and tells what
became of it. Owners crash, come back as zombies, lose their disks and take the partition back; the
broker and the disk answer when they like. What must hold is checked where it matters: at every
look-up and at every request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consumer.state_log import Phase
from consumer.state_records import Kind, decode, split
from tests.support.log_owner import RULES, SOURCE, STATE_TP, Kept, key

if TYPE_CHECKING:
    from consumer.event import Item

EVENTS = 8
choices = st.integers(0, 10**6)


class Sent(NamedTuple):
    """A request: who sent it and when."""

    member: bytes
    at_ms: int


class Tenant:
    """An owner and the events in its hands."""

    def __init__(self, kept: Kept, position: int, truth: Truth, *, own_disk: bool) -> None:
        self.owner = kept.owner(own_disk=own_disk, position=position)
        self.kept, self.truth = kept, truth
        self.waiting: list[Item] = []
        self.ready: list[Item] = []
        self.announcing: dict[int, Item] = {}
        self.in_air: list[Item] = []
        self.doubted: set[Item] = set()
        self.accepting: dict[int, Item] = {}
        self.known_below = 0
        self.owner.begin()

    def after(self) -> None:
        """Takes what has taken effect, as the engine does."""
        owner = self.owner
        for handle in owner.done:
            self.known_below = max(self.known_below, owner.offsets[handle] + 1)
            if (item := self.announcing.pop(handle, None)) is not None:
                item.announced = True
                self.ready.append(item)
            elif (item := self.accepting.pop(handle, None)) is not None:
                owner.partition.settle(item.record.offset)
        owner.done.clear()
        if owner.log.phase in {Phase.LOADING, Phase.SUPERSEDED}:
            self.doubted.update(self.in_air, self.announcing.values())
            self.waiting += self.ready
            self.ready = []

    def look_up(self) -> None:
        """The first that waits is a duplicate, or is to be sent."""
        item, owner = self.waiting.pop(0), self.owner
        for name in self.truth.accepted_below(self.known_below):
            assert (SOURCE, name) in owner.disk.keys, "an acceptance in the log is not known"
        self.doubted.discard(item)
        if (SOURCE, item.key) in owner.disk.keys:
            owner.partition.settle(item.record.offset)
            return
        if (since := owner.log.attempts.pop(item.key, None)) is not None:
            item.first_unknown_ms = min(since, item.first_unknown_ms or since)
        if item.announced:
            self.ready.append(item)
        else:
            (handle,) = owner.announce(item)
            self.announcing[handle] = item

    def send(self) -> None:
        """The first that is ready goes."""
        item = self.ready.pop(0)
        if item in self.doubted:
            self.waiting.append(item)
            return
        member, now_ms = self.owner.member, self.kept.clock.wall_ms
        others = [s.at_ms for s in self.truth.open[item.key] if s.member != member]
        if others:
            assert item.first_unknown_ms is not None, "somebody's attempt was forgotten"
            assert item.first_unknown_ms <= min(others), "it is given up too late"
        self.truth.open[item.key].append(Sent(member, now_ms))
        self.in_air.append(item)

    def answer(self, number: int, answer: str) -> None:
        """What came back for a request."""
        item = self.in_air.pop(number % len(self.in_air))
        sent = self.truth.open[item.key]
        own = [one for one in sent if one.member == self.owner.member]
        if answer == "accepted":
            self.accepting[self.owner.accept(item.key)] = item
            return
        if answer == "unknown":
            item.first_unknown_ms = item.first_unknown_ms or own[0].at_ms
        elif item.first_unknown_ms is None:
            self.owner.refuse(item.key)
            item.announced = False
            for one in own:
                sent.remove(one)
        self.waiting.append(item)


class Truth:
    """What nobody but the test can see: the whole log, and all requests without a sure refusal."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.open: dict[bytes, list[Sent]] = {key(str(n)): [] for n in range(EVENTS)}

    def accepted_below(self, offset: int) -> set[bytes]:
        """The keys that the log says are accepted, below an offset."""
        found: set[bytes] = set()
        for record in self.kept.topic.logs.get(STATE_TP, {}).values():
            value = decode(record.value)
            if value is not None and value.kind is Kind.ACCEPTED and record.offset < offset:
                found.update(split(value.keys))
        return found


class Owners(RuleBasedStateMachine):
    """Several owners, one log."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = Kept()
        self.truth = Truth(self.kept)
        self.committed = 0
        self.tenants: list[Tenant] = []

    def any(self, choice: int) -> Tenant:
        """One of the owners, the latest more often."""
        return self.tenants[-1 if choice % 3 else choice // 3 % len(self.tenants)]

    # Who owns it

    @rule(own_disk=st.booleans(), dies=st.booleans())
    def takes_over(self, *, own_disk: bool, dies: bool) -> None:
        """Somebody else gets the partition; the one before is dead, or does not know it yet."""
        if dies and self.tenants:
            self.tenants.pop()
        tenant = Tenant(self.kept, self.committed, self.truth, own_disk=own_disk or not dies)
        self.tenants.append(tenant)

    @precondition(lambda self: self.tenants)
    @rule(choice=choices)
    def hands_over(self, choice: int) -> None:
        """With nothing in the air it says so, and goes."""
        tenant = self.any(choice)
        if tenant.in_air or tenant.announcing:
            return
        tenant.owner.close()
        while tenant.owner.produced:
            tenant.owner.write()
        self.tenants.remove(tenant)

    @precondition(lambda self: self.tenants)
    @rule(choice=choices)
    def proves_itself(self, choice: int) -> None:
        """A commit succeeded."""
        tenant = self.any(choice)
        self.kept.clock.advance(0.001)
        tenant.owner.do(tenant.owner.log.reclaim(self.kept.clock.mono))
        tenant.after()

    @precondition(lambda self: self.tenants)
    @rule(choice=choices)
    def loses_its_disk(self, choice: int) -> None:
        """The store is found to be another one."""
        tenant = self.any(choice)
        tenant.owner.lose_store()
        tenant.after()

    # The world

    @precondition(lambda self: self.tenants)
    @rule(choice=choices, steps=st.integers(1, 12))
    def goes_on(self, choice: int, steps: int) -> None:
        """The broker and the disk answer, one thing after the other."""
        tenant = self.any(choice)
        owner = tenant.owner
        for _ in range(steps):
            if owner.actions and (choice % 2 or not owner.produced):
                owner.answer()
            elif owner.produced or owner.written:
                owner.settle_one()
            tenant.after()

    @precondition(lambda self: self.tenants)
    @rule(choice=choices)
    def waits(self, choice: int) -> None:
        """The wait for an earlier owner passes."""
        self.kept.clock.advance(RULES.takeover_wait)
        tenant = self.any(choice)
        tenant.owner.tick()
        tenant.owner.settle()
        tenant.after()

    @rule()
    def leaves_a_gap(self) -> None:
        """The broker writes something of its own."""
        self.kept.topic.skip(STATE_TP)

    # Events

    @precondition(lambda self: self.tenants)
    @rule(choice=choices)
    def reads(self, choice: int) -> None:
        """The next record of the source."""
        tenant = self.any(choice)
        position = tenant.owner.partition.position
        if position < EVENTS:
            tenant.owner.partition.high = EVENTS
            tenant.waiting.append(tenant.owner.item(str(position)))

    @precondition(lambda self: self.tenants)
    @rule(choice=choices)
    def looks_up(self, choice: int) -> None:
        """An event that waits, where the memory is complete."""
        tenant = self.any(choice)
        if tenant.waiting and tenant.owner.log.ready:
            tenant.look_up()
            tenant.after()

    @precondition(lambda self: self.tenants)
    @rule(choice=choices)
    def sends(self, choice: int) -> None:
        """An event that is announced goes."""
        tenant = self.any(choice)
        if tenant.ready and tenant.owner.log.ready:
            tenant.send()

    @precondition(lambda self: self.tenants)
    @rule(choice=choices, answer=st.sampled_from(["accepted", "accepted", "unknown", "refused"]))
    def is_answered(self, choice: int, answer: str) -> None:
        """A request ends."""
        tenant = self.any(choice)
        if tenant.in_air:
            tenant.answer(choice, answer)
            tenant.after()

    @precondition(lambda self: self.tenants)
    @rule()
    def commits(self) -> None:
        """What the latest owner has settled is committed."""
        self.committed = max(self.committed, self.tenants[-1].owner.partition.watermark)

    @invariant()
    def the_disk_is_never_ahead_of_its_marks(self) -> None:
        """What the disk says it has reached, it has."""
        for disk in {id(t.owner.disk): t.owner.disk for t in self.tenants}.values():
            if (reached := disk.reached.get(SOURCE)) is not None:
                known = {name for _, name in disk.keys}
                assert self.truth.accepted_below(reached.next_offset) <= known
                assert reached.floor <= reached.next_offset


Owners.TestCase.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)
TestOwners = Owners.TestCase
TestOwners.__doc__ = "No acceptance in the log is unknown to a look-up, no attempt is forgotten."
