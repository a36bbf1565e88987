from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from confluent_kafka import TopicPartition as KafkaPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.event import TopicPartition
from consumer.fetching import Fetching, Owned, Stamped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Consumer

TPS = [TopicPartition("t", number) for number in range(3)]
UNREAD = -1001


class FakeClient:
    """The client's assignment, as strict as librdkafka about it; each read brings a record."""

    def __init__(self) -> None:
        self.next: dict[TopicPartition, int] = {}
        self.read_of: set[TopicPartition] = set()

    def incremental_assign(self, partitions: list[KafkaPartition]) -> None:
        """Begin to fetch."""
        for partition in partitions:
            tp = TopicPartition(partition.topic, partition.partition)
            assert tp not in self.next, "already part of the assignment"
            assert partition.offset >= 0
            self.next[tp] = partition.offset
            self.read_of.discard(tp)

    def incremental_unassign(self, partitions: list[KafkaPartition]) -> None:
        """Fetch no more, and forget what was fetched ahead."""
        for partition in partitions:
            del self.next[TopicPartition(partition.topic, partition.partition)]

    def position(self, partitions: list[KafkaPartition]) -> list[KafkaPartition]:
        """The next offset; unknown before a record was read since the assignment."""
        tps = [TopicPartition(p.topic, p.partition) for p in partitions]
        return [
            KafkaPartition(*tp, self.next[tp] if tp in self.next and tp in self.read_of else UNREAD)
            for tp in tps
        ]

    def read(self) -> Iterable[tuple[TopicPartition, int]]:
        """A record of each partition that is fetched."""
        for tp, offset in self.next.items():
            yield tp, offset
            self.next[tp] = offset + 1
            self.read_of.add(tp)


class Order(NamedTuple):
    """Something that happens to a partition, or to all of them."""

    what: str
    tp: TopicPartition


class World:
    """Partitions in epoch 1, what was ordered of them, and what was read of them."""

    def __init__(self) -> None:
        self.client = FakeClient()
        self.fetching = Fetching(cast("Consumer", self.client))
        self.fetching.own({tp: Owned(1, position=50) for tp in TPS})
        self.wanted: set[TopicPartition] = set()
        self.held: set[TopicPartition] = set()
        self.suspended = False
        self.offsets: dict[TopicPartition, list[int]] = {tp: [] for tp in TPS}

    def carry_out(self, order: Order) -> None:
        """Let it happen."""
        tp, now = order.tp, Stamped(order.tp, 1)
        match order.what:
            case "resume":
                self.fetching.resume(now, 10)
                self.wanted.add(tp)
            case "pause":
                self.fetching.pause([now])
                self.wanted.discard(tp)
            case "outdated":
                self.fetching.pause([Stamped(tp, 0)])
                self.fetching.resume(Stamped(tp, 2), 3)
            case "suspend" | "go on":
                self.suspended = order.what == "suspend"
                self.fetching.suspend(suspended=self.suspended)
            case "lose" if self.offsets[tp]:
                self.fetching.move(tp, self.fetching.next_offset(tp), "held")
                self.held.add(tp)
            case "find" if tp in self.held:
                self.fetching.move(tp, self.fetching.owned[tp].position, None)
                self.held.discard(tp)
            case "read":
                for read_of, offset in self.client.read():
                    self.offsets[read_of].append(offset)


ORDERS = st.lists(
    st.builds(
        Order,
        st.sampled_from(
            ["resume", "pause", "outdated", "suspend", "go on", "lose", "find", "read", "read"]
        ),
        st.sampled_from(TPS),
    ),
    max_size=60,
)


@given(ORDERS)
@settings(max_examples=300)
def test_what_is_read_has_no_gap_and_no_repetition(orders: list[Order]) -> None:
    """However it is paused, held, suspended: each offset once, from the first resume's on."""
    world = World()
    for order in orders:
        world.carry_out(order)
        allowed = set() if world.suspended else world.wanted - world.held
        assert world.client.next.keys() == allowed
    for offsets in world.offsets.values():
        assert offsets == list(range(10, 10 + len(offsets)))


def test_a_partition_that_is_held_is_read_from_the_position_that_ends_the_hold() -> None:
    """A resume before the position is known neither reads nor decides where to begin."""
    world = World()
    world.fetching.own({TPS[0]: Owned(1, position=0, hold="position_unknown", start_unknown=True)})
    world.carry_out(Order("resume", TPS[0]))
    assert world.client.next == {}
    world.fetching.move(TPS[0], 33, None)
    assert world.client.next == {TPS[0]: 33}


def test_what_is_given_up_is_fetched_no_more_and_its_orders_are_void() -> None:
    """Only what the client has is given back to it."""
    world = World()
    world.carry_out(Order("resume", TPS[0]))
    given_back = world.fetching.give_up(TPS[:2])
    assert [(p.topic, p.partition) for p in given_back] == [TPS[0]]
    world.fetching.resume(Stamped(TPS[1], 1), 10)
    assert world.client.next.keys() == {TPS[0]}, "the caller gives it back, with the group's word"
    assert world.fetching.owned.keys() == {TPS[2]}
