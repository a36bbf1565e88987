"""Owners of one partition in any order, alive or not, against the log that they share.

Each owner does what the engine does: it looks an event up, announces it, sends it, and tells what
became of it. Owners crash, or live on without knowing that the partition has another owner by now:
then they have no lease and start nothing, but answers still come to them, what they produced still
arrives, and they open the partition again when they lose their disk. The broker and the disk answer
when they like. What must hold is checked where it matters: at every look-up and every request.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

import pytest

from consumer.state_phases import Phase
from consumer.state_records import Kind, decode, split
from tests.support.log_owner import RULES, SOURCE, STATE_TP, Kept, key

if TYPE_CHECKING:
    from consumer.event import Item

EVENTS = 30
STEPS, SCHEDULES = 40, 60
FATES = ("accepted", "accepted", "unknown", "refused", "none")


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
        self.looked_up: list[Item] = []
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
            self.waiting += self.looked_up + self.ready
            self.looked_up, self.ready = [], []

    def go_on(self, steps: int, rng: random.Random) -> None:
        """The broker and the disk answer so often, in any order."""
        owner = self.owner
        for _ in range(steps):
            drawn = rng.random()
            if owner.actions and drawn < 0.5:
                owner.answer()
            elif owner.produced and drawn < 0.8:
                owner.write()
            elif owner.written:
                owner.acknowledge(rng.randrange(len(owner.written)))
            self.after()

    def settle(self) -> None:
        """The broker and the disk answer everything."""
        self.owner.settle()
        self.after()

    def read(self) -> None:
        """The next record of the source."""
        partition = self.owner.partition
        if partition.position < EVENTS:
            self.waiting.append(self.owner.item(str(partition.position)))

    def look_up_all(self) -> None:
        """What waits is looked up, where the memory is complete."""
        while self.waiting and self.owner.log.ready:
            self.look_up()
            self.after()

    def announce_some(self, rng: random.Random) -> None:
        """What was looked up is about to be sent; some of it waits for its destination."""
        held = [item for item in self.looked_up if rng.random() < 0.4]
        for item in [item for item in self.looked_up if item not in held]:
            (handle,) = self.owner.announce(item)
            self.announcing[handle] = item
        self.looked_up = held

    def send_all(self) -> None:
        """What is announced goes, where the memory is complete."""
        while self.ready and self.owner.log.ready:
            self.send()

    def look_up(self) -> None:
        """The first that waits is a duplicate, or is to be sent."""
        item, owner = self.waiting.pop(0), self.owner
        for name in self.truth.accepted_below(self.known_below):
            assert (SOURCE, name) in owner.disk.keys, "an acceptance in the log is not known"
        self.doubted.discard(item)
        if (SOURCE, item.key) in owner.disk.keys:
            owner.partition.settle(item.record.offset)
            return
        if (since := owner.log.attempts.since.get(item.key)) is not None:
            item.first_unknown_ms = min(since, item.first_unknown_ms or since)
        (self.ready if item.announced else self.looked_up).append(item)

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
        # Its next attempt is the next thing for it, unless the memory was in doubt meanwhile.
        if answer == "unknown":
            item.first_unknown_ms = item.first_unknown_ms or own[0].at_ms
        elif item.first_unknown_ms is None:
            self.owner.refuse(item.key)
            item.announced = False
            for one in own:
                sent.remove(one)
        (self.waiting if item in self.doubted or not item.announced else self.ready).append(item)


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


class Schedule:
    """Several owners of one log; a seed decides what happens next."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.kept = Kept()
        self.truth = Truth(self.kept)
        self.committed = 0
        self.tenants: list[Tenant] = []
        self.takes_over()

    def step(self) -> None:
        """One thing happens."""
        happens = self.rng.choices(
            (
                self.takes_over,
                self.hands_over,
                self.proves_itself,
                self.loses_its_disk,
                self.goes_on,
                self.waits,
                self.works,
                self.is_answered,
                self.commits,
            ),
            weights=(4, 1, 3, 2, 8, 6, 10, 5, 2),
        )[0]
        happens()
        if self.rng.random() < 0.2:
            self.kept.topic.skip(STATE_TP)  # the broker writes something of its own
        self.check()

    def any(self) -> Tenant:
        """One of those alive, the owner more often."""
        return self.tenants[-1] if self.rng.random() < 0.6 else self.rng.choice(self.tenants)

    # Who owns it

    def takes_over(self) -> None:
        """Somebody else gets the partition; the one before is dead, or does not know it yet."""
        if self.tenants and self.rng.random() < 0.6:
            self.tenants.pop()
        taken = any(t.owner.disk is self.kept.stores for t in self.tenants)
        own_disk = taken or self.rng.random() < 0.2
        self.tenants.append(Tenant(self.kept, self.committed, self.truth, own_disk=own_disk))

    def hands_over(self) -> None:
        """With nothing in the air the owner says so, and goes."""
        tenant = self.tenants[-1]
        if tenant.in_air or tenant.announcing:
            return
        tenant.owner.close()
        while tenant.owner.produced:
            tenant.owner.write()
        self.tenants.pop()
        self.takes_over()

    def proves_itself(self) -> None:
        """A commit of the owner has succeeded."""
        tenant = self.tenants[-1]
        self.kept.clock.advance(0.001)
        tenant.owner.do(tenant.owner.log.reclaim(self.kept.clock.mono))
        tenant.after()

    def loses_its_disk(self) -> None:
        """A store is found to be another one."""
        tenant = self.any()
        tenant.owner.lose_store()
        tenant.after()

    # The world

    def goes_on(self) -> None:
        """The broker and the disk answer, one thing after the other."""
        self.any().go_on(self.rng.randint(1, 6), self.rng)

    def waits(self) -> None:
        """As long as an owner has to for the one before."""
        tenant = self.any()
        tenant.settle()
        self.kept.clock.advance(RULES.takeover_wait)
        tenant.owner.tick()
        tenant.settle()

    # Events

    def works(self) -> None:
        """Events are read, looked up, announced, sent, answered; the last ones not to the end."""
        tenant = self.tenants[-1]
        for _ in range(self.rng.randint(0, 4)):
            tenant.read()
            tenant.look_up_all()
            tenant.announce_some(self.rng)
            if self.rng.random() < 0.7:
                tenant.settle()
            tenant.send_all()
            fate = self.rng.choice(FATES)
            if tenant.in_air and fate != "none":
                tenant.answer(self.rng.randrange(100), fate)
        tenant.read()
        tenant.look_up_all()
        tenant.announce_some(self.rng)
        tenant.go_on(self.rng.randint(0, 8), self.rng)
        tenant.send_all()

    def is_answered(self) -> None:
        """A request ends."""
        tenant = self.any()
        if tenant.in_air:
            tenant.answer(self.rng.randrange(100), self.rng.choice(FATES[:4]))

    def commits(self) -> None:
        """What the owner has settled is committed."""
        self.committed = max(self.committed, self.tenants[-1].owner.partition.watermark)

    # What must hold

    def check(self) -> None:
        """What a disk says it has reached, it has."""
        for tenant in self.tenants:
            disk = tenant.owner.disk
            if (reached := disk.reached.get(SOURCE)) is not None:
                known = {name for _, name in disk.keys}
                assert self.truth.accepted_below(reached.next_offset) <= known
                assert reached.floor <= reached.next_offset

    def finish(self) -> None:
        """The owner goes on in peace: all its events get their outcome."""
        tenant = self.tenants[-1]
        for _ in range(4 * EVENTS):
            tenant.settle()
            self.proves_itself()
            self.kept.clock.advance(RULES.takeover_wait)
            tenant.owner.tick()
            tenant.settle()
            tenant.read()
            tenant.look_up_all()
            tenant.announce_some(self.rng)
            tenant.settle()
            tenant.send_all()
            while tenant.in_air:
                tenant.answer(0, "accepted")
            tenant.settle()
        assert tenant.owner.log.ready
        assert tenant.owner.partition.watermark == EVENTS
        assert set(self.truth.open) == self.truth.accepted_below(self.kept.topic.ends[STATE_TP])


@pytest.mark.parametrize("base", range(0, 4 * SCHEDULES, SCHEDULES))
def test_no_acceptance_is_unknown_and_no_attempt_forgotten_whoever_owns_the_log(base: int) -> None:
    """Crashes, zombies, lost disks, answers in any order: every schedule, to its end."""
    for seed in range(base, base + SCHEDULES):
        schedule = Schedule(seed)
        for _ in range(STEPS):
            schedule.step()
        schedule.finish()
