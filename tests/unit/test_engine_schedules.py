"""One engine under random schedules of records, answers, failures and rebalances.

One seed replays one run. What must hold is checked after every step, and once more when the
failures have ended and everything could settle.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Literal

import orjson
import pytest

from consumer.engine import EngineSettings
from consumer.event import Destination, EventSource, Outcome, Reason, TopicPartition
from consumer.handover import CLOSE_GRACE
from consumer.messages import Acknowledged, Produce
from tests.support.world import OTHER_PIXEL, PIXEL, TIMEOUT, TOPIC, World, code, event, ok

if TYPE_CHECKING:
    from consumer.requests import Request
    from consumer.verdict import Answer

PARTITIONS = (0, 1, 2)
MAX_EVENTS, LONGEST_CHUNK = 30, 8
STEPS = 150
BAD_PAGE = "https://shop.example/bad"


def is_bad(body: bytes) -> bool:
    """Whether TikTok will never take this event."""
    return BAD_PAGE.encode() in body


class Schedule:
    """A world in which a seed decides what happens next."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.faults = True
        self.world = World(
            answer=self.answer,
            destinations=(
                Destination(EventSource.WEB, PIXEL),
                Destination(EventSource.WEB, OTHER_PIXEL),
            ),
            token_groups={PIXEL: 1, OTHER_PIXEL: self.rng.choice((1, 2))},
            settings=EngineSettings(max_in_flight_events=MAX_EVENTS),
            letter_answer=self.letter_answer,
            state_answer=self.state_answer,
        )
        self.ids: dict[int, int] = dict.fromkeys(PARTITIONS, 0)
        self.waiting_letters: list[Produce] = []
        self.waiting_records: list[Produce] = []
        self.accepted: Counter[str] = Counter()
        self.seen = 0
        self.delivered: set[tuple[int, str]] = set()
        self.settled: Counter[tuple[int, int, int]] = Counter()
        self.ever_settled: dict[int, set[int]] = {p: set() for p in PARTITIONS}
        self.owners: list[object] = []  # kept, so that no identity is used twice
        for partition in PARTITIONS:
            self.world.take_over(partition)

    # The world's side

    def answer(self, request: Request) -> Answer | None:
        """What TikTok says, or None for later."""
        self.check_nothing_known_accepted_is_sent(request)
        if not self.faults:
            return self.truth(request)
        drawn = self.rng.random()
        if drawn < 0.4:
            return None
        return self.truth(request) if drawn < 0.7 else self.fault()

    def fault(self) -> Answer:
        """An answer that settles nothing."""
        return self.rng.choice(
            (TIMEOUT, code(40100), code(40132), code(40101), code(50000), code(60001))
        )

    def truth(self, request: Request) -> Answer:
        """Accepted when all events are good; else refused, naming a bad one or nobody."""
        bad = [index for index, body in enumerate(request.events) if is_bad(body)]
        if not bad:
            self.accepted.update(orjson.loads(body)["event_id"] for body in request.events)
            return ok()
        where = f"data.{bad[0]}." if self.rng.random() < 0.5 else ""
        return code(40002, f"Invalid value for {where}page: not valid.")

    def letter_answer(self, produce: Produce) -> Acknowledged | None:
        """What the broker says to a dead letter, or None for later."""
        drawn = self.rng.random() if self.faults else 1.0
        if drawn < 0.2:
            self.waiting_letters.append(produce)
            return None
        if drawn < 0.4:
            error: Literal["retriable", "too_large"]
            error = "retriable" if drawn < 0.35 else "too_large"
            return Acknowledged(produce.handle, error)
        return Acknowledged(produce.handle)

    def state_answer(self, produce: Produce) -> Acknowledged | None:
        """What the broker says to a state record, or None for later: the order stays."""
        drawn = self.rng.random() if self.faults else 1.0
        if drawn < 0.05 or (self.waiting_records and self.faults):
            self.waiting_records.append(produce)
            return None
        return (
            Acknowledged(produce.handle, "retriable") if drawn < 0.1 else self.world.write(produce)
        )

    def state_records_arrive(self) -> None:
        """The broker takes what was on its way to it."""
        while self.waiting_records:
            self.world.acknowledge(self.world.write(self.waiting_records.pop(0)))

    def value(self, partition: int) -> bytes | None:
        """A record's value: a new event, one seen before, one of another partition, or no event."""
        drawn = self.rng.random()
        if drawn < 0.03:
            return None
        if drawn < 0.06:
            return b"no event"
        if drawn < 0.5 or not self.ids[partition]:
            self.ids[partition] += 1
            number, prefix = self.ids[partition], f"p{partition}"
        elif drawn < 0.9:
            number, prefix = self.rng.randint(1, self.ids[partition]), f"p{partition}"
        else:
            number, prefix = self.rng.randint(1, 5), "shared"
        pixel = PIXEL if number % 2 else OTHER_PIXEL
        url = BAD_PAGE if self.rng.random() < 0.15 else f"https://shop.example/{number}"
        return event(f"{prefix}-{number}", event_source_id=pixel, page={"url": url})

    # Steps

    def step(self) -> None:
        """One thing happens."""
        world, rng = self.world, self.rng
        drawn = rng.random()
        if drawn < 0.4:
            self.comes_or_is_read(rng.choice(PARTITIONS))
        elif drawn < 0.6:
            self.is_answered()
        elif drawn < 0.68:
            if self.waiting_letters:
                world.acknowledge(Acknowledged(self.waiting_letters.pop().handle))
        elif drawn < 0.76:
            self.draw_faults()
        elif drawn < 0.81:
            self.rebalance(rng.choice(PARTITIONS))
        elif drawn < 0.83:
            world.lose_store(rng.choice(PARTITIONS))
        elif drawn < 0.88:
            self.state_records_arrive()
        else:
            world.run(rng.choice((0.0, 0.05, 0.3, 2.0, 12.0)))

    def comes_or_is_read(self, partition: int) -> None:
        """Records are produced, or read where the engine says so."""
        world, rng = self.world, self.rng
        if rng.random() < 0.5:
            values = [self.value(partition) for _ in range(rng.randint(1, LONGEST_CHUNK))]
            world.append(*values, partition=partition)
        elif world.flowing and TopicPartition(TOPIC, partition) not in world.paused:
            world.read(partition, most=rng.randint(1, LONGEST_CHUNK))

    def is_answered(self) -> None:
        """A request ends."""
        world, rng = self.world, self.rng
        if world.in_air:
            request = rng.choice(world.in_air)
            truth = rng.random() < 0.7
            world.reply(self.truth(request) if truth else self.fault(), request)

    def draw_faults(self) -> None:
        """The disk, the state topic's reader and the group's coordinator fail, or no longer do."""
        world, rng = self.world, self.rng
        world.store_fails = rng.random() < 0.3
        world.marks_fail = rng.random() < 0.3
        world.state_unread = rng.random() < 0.3
        world.commit_error = "REBALANCE_IN_PROGRESS" if rng.random() < 0.3 else None

    def rebalance(self, partition: int) -> None:
        """A partition goes and comes back, from the offset that the group has."""
        world = self.world
        if self.rng.random() < 0.5:
            before = len(world.released)
            world.revoke(partition, seconds=self.rng.choice((0.0, 0.5, 3.0)))
            world.run(3.0 + 2 * CLOSE_GRACE)
            assert len(world.released) == before + 1
        else:
            world.lose(partition)
        assert TopicPartition(TOPIC, partition) not in world.engine.partitions
        world.take_over(partition)

    # What must hold

    def check(self) -> None:
        """The invariants, after a step."""
        world = self.world
        for item in world.settled[self.seen :]:
            partition, offset = item.record.partition, item.record.offset
            self.owners.append(item.owner)
            self.settled[id(item.owner), partition, offset] += 1
            assert self.settled[id(item.owner), partition, offset] == 1, "settled twice"
            self.ever_settled[partition].add(offset)
            if item.outcome is Outcome.DELIVERED:
                assert item.event_id is not None
                self.delivered.add((partition, item.event_id))
        self.seen = len(world.settled)
        for partition in PARTITIONS:
            committed = world.group_offset(partition) or 0
            assert self.ever_settled[partition].issuperset(range(committed)), "committed too far"
        assert world.engine.in_flight.events == sum(
            len(p.pending) for p in world.engine.partitions.values()
        )

    def check_nothing_known_accepted_is_sent(self, request: Request) -> None:
        """An event whose acceptance is marked in its partition is never sent again."""
        marked = {(i.record.partition, i.event_id) for i in self.world.settled if i.outcome is DONE}
        for body in request.events:
            event_id = orjson.loads(body)["event_id"]
            if event_id.startswith("p"):
                assert (int(event_id[1]), event_id) not in marked, f"{event_id} is sent again"

    def settle_all(self) -> None:
        """The failures end, and with them everything that waits."""
        world = self.world
        self.faults = False
        world.store_fails = world.marks_fail = world.state_unread = False
        world.commit_error = None
        self.state_records_arrive()
        while world.in_air:
            world.reply(self.truth(world.in_air[0]))
        for produce in self.waiting_letters:
            world.acknowledge(Acknowledged(produce.handle))
        world.run(100.0)
        while sum(world.read(p, LONGEST_CHUNK) for p in PARTITIONS):
            world.run(5.0)
            assert world.flowing
            assert not world.paused
        world.run(100.0)
        self.check()

    def check_the_end(self) -> None:
        """Every record has the one outcome it must have."""
        world = self.world
        assert world.idle()
        by_offset = {(i.record.partition, i.record.offset): i for i in world.settled}
        for partition in PARTITIONS:
            records = world.topic.get(TopicPartition(TOPIC, partition), [])
            assert (world.group_offset(partition) or 0) == len(records)
            for record in records:
                item = by_offset[partition, record.offset]
                if record.value is None:
                    assert item.reason is Reason.TOMBSTONE
                elif record.value == b"no event":
                    assert item.reason is Reason.UNDECODABLE
                elif is_bad(record.value):
                    assert item.outcome in {Outcome.DEAD_LETTERED, Outcome.DUPLICATE}
                else:
                    assert item.outcome in {Outcome.DELIVERED, Outcome.DUPLICATE}
                    assert item.event_id is not None
                    assert self.accepted[item.event_id] >= 1, "never accepted"


DONE = Outcome.DELIVERED


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_lost_or_sent_again_under_any_schedule(seed: int) -> None:
    """Records, answers, failures and rebalances in any order: each record has its one outcome."""
    schedule = Schedule(seed)
    most = 0
    for _ in range(STEPS):
        schedule.step()
        schedule.check()
        most = max(most, schedule.world.engine.in_flight.events)
    assert most < MAX_EVENTS + LONGEST_CHUNK
    schedule.settle_all()
    schedule.check_the_end()
