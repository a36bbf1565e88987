"""The memories of one process: whose record is whose, and what follows when it took effect."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from consumer.event import Instant, Item, Record, TopicPartition, TraceIds
from consumer.memory import Memory
from consumer.messages import OpenStore, Produce, ReadState, StoreMarks
from consumer.offsets import Partition
from consumer.own_topics import OwnTopics
from consumer.requests import Announce
from consumer.source_events import AssignedPartition
from consumer.state_phases import Phase, StateRules
from consumer.state_records import Kind, StateValue, decode, split
from tests.support.state_world import MemoryStores, StateTopic

if TYPE_CHECKING:
    from consumer.messages import Action
    from consumer.state_log import StateLog

TOPICS = OwnTopics("group")
NO_TRACE = TraceIds(0, 0, 0, False, "")
NOW = Instant(1000.0, 1_790_000_000_000_000_000)


class Process:
    """A memory and what it asks for, answered when the test says so."""

    def __init__(self, process: bytes = b"process1", topic: StateTopic | None = None) -> None:
        self.memory = Memory(TOPICS, StateRules(), process, itertools.count(1))
        self.topic = StateTopic() if topic is None else topic
        self.stores = MemoryStores()
        self.numbers = itertools.count(1)

    def own(self, number: int, source: str = "conversions") -> Partition:
        """A partition that was just assigned."""
        one = AssignedPartition(TopicPartition(source, number), 0, 0)
        return Partition.taken_over(one, self.memory.take_over(one))

    def item(self, owner: Partition, name: str) -> Item:
        """The next record of a partition, which has this event."""
        record = Record(*owner.tp, owner.position, -1, None, b"", ())
        item = Item(record, NOW, NO_TRACE, owner, key=name.encode().ljust(16))
        assert owner.take(item)
        return item

    def announce(self, *items: Item) -> int:
        """A batch is about to be sent; its number."""
        number = next(self.numbers)
        self.memory.announce(Announce(number, items))
        return number

    def take(self) -> list[Action]:
        """What it asks for."""
        actions, self.memory.actions = self.memory.actions, []
        return actions

    def answer(self, action: Action) -> None:
        """The broker, the store or the reader does what it was asked for."""
        match action:
            case Produce():
                tp = TopicPartition(action.topic, action.partition or 0)
                offset = self.topic.append(tp, action.value, NOW.wall_ms)
                if self.memory.news(action.handle) is not None:
                    self.memory.told(action.handle)
                else:
                    self.memory.acknowledged(action.handle, offset, NOW)
            case OpenStore(handle, tp):
                self.memory.store_opened(handle, self.stores.reached.get(tp))
            case ReadState(handle):
                self.memory.read(handle, self.topic.chunk(action), NOW)
            case StoreMarks(handle, tp, marks, reached):
                self.stores.mark(tp, marks, reached)
                self.memory.marked(handle, NOW)

    def settle(self) -> None:
        """Everything is done that it asks for."""
        while actions := self.take():
            for action in actions:
                self.answer(action)

    def values(self, number: int) -> list[StateValue]:
        """What a state partition says."""
        return self.topic.values(TopicPartition(TOPICS.state_of("conversions"), number))


def said(action: Action) -> StateValue:
    """What a record says that is produced."""
    assert isinstance(action, Produce)
    value = decode(action.value)
    assert value is not None
    return value


# Members


def test_every_assignment_is_another_member() -> None:
    """Also one of the same partition to the same process: its requests are another's."""
    process = Process()
    first = process.own(0)
    process.settle()
    process.memory.let_go(first.state)
    process.own(0)
    process.own(1)
    process.settle()
    members = [value.member for number in (0, 1) for value in process.values(number)]
    assert len(set(members)) == 3
    assert {member[:8] for member in members} == {b"process1"}


def test_two_processes_are_two_members() -> None:
    """However short or long what they call themselves."""
    topic = StateTopic()
    for name in (b"a", b"b", b"a much longer name"):
        process = Process(name, topic)
        process.own(0)
        process.settle()
    members = [value.member for value in process.values(0)]
    assert len(set(members)) == 3
    assert {len(member) for member in members} == {16}


def test_a_partition_has_its_own_topics_partition_of_the_same_number() -> None:
    """One state topic for each source topic."""
    process = Process()
    process.own(3)
    process.own(3, "leads")
    process.settle()
    assert set(process.topic.logs) == {
        TopicPartition("group.conversions.dedup", 3),
        TopicPartition("group.leads.dedup", 3),
    }


# Announcements


def test_a_batch_over_several_partitions_is_announced_when_all_of_them_know_it() -> None:
    """Each gets its own keys, with how far it was settled."""
    process = Process()
    first, second = process.own(0), process.own(1)
    process.settle()
    process.item(second, "settled before")
    second.settle(0)
    number = process.announce(
        process.item(first, "a"), process.item(second, "b"), process.item(first, "c")
    )
    one, other = process.take()
    assert [key.strip() for key in split(said(one).keys)] == [b"a", b"c"]
    assert [key.strip() for key in split(said(other).keys)] == [b"b"]
    assert (said(one).settled_through, said(other).settled_through) == (0, 1)
    process.answer(one)
    assert process.memory.announced == []
    process.answer(other)
    assert process.memory.announced == [number]


def test_a_batch_goes_on_without_a_partition_that_goes() -> None:
    """What is announced of it concerns nobody any more; the others' events are sent."""
    process = Process()
    first, second = process.own(0), process.own(1)
    process.settle()
    number = process.announce(process.item(first, "a"), process.item(second, "b"))
    one, other = process.take()
    process.memory.let_go(first.state)
    assert process.memory.announced == []
    process.answer(other)
    assert process.memory.announced == [number]
    process.answer(one)
    assert process.memory.announced == [number]


def test_an_announcement_of_partitions_that_all_go_is_over() -> None:
    """Nobody waits for it for ever."""
    process = Process()
    first = process.own(0)
    process.settle()
    number = process.announce(process.item(first, "a"))
    process.memory.let_go(first.state)
    assert process.memory.announced == [number]


# What took effect


def test_a_records_effect_is_told_by_its_handle() -> None:
    """An acceptance's, once its keys are stored; an announcement's is its batch's."""
    process = Process()
    owner = process.own(0)
    process.settle()
    process.memory.effective.clear()
    item = process.item(owner, "a")
    process.announce(item)
    process.settle()
    assert process.memory.effective == []
    produce = owner.state.append(Kind.ACCEPTED, 0, NOW.wall_ms, item.key)
    process.memory.accepted([(owner.state, produce)])
    (asked,) = process.take()
    process.answer(asked)
    assert process.memory.effective == []
    process.settle()
    assert process.memory.effective == [produce.handle]


def test_a_fact_of_a_partition_that_went_takes_effect_with_its_acknowledgement() -> None:
    """There is no store to write it to any more; whoever waits for it need not wait longer."""
    process = Process()
    owner = process.own(0)
    process.settle()
    process.announce(process.item(owner, "a"))
    process.settle()
    process.memory.effective.clear()
    handle = process.memory.close(owner.state, 0)
    assert handle is not None
    (closed,) = process.take()
    process.memory.let_go(owner.state)
    assert process.memory.waited_for(handle) is not None
    process.answer(closed)
    assert process.memory.effective == [handle]
    assert process.memory.waited_for(handle) is None


def test_what_is_refused_is_unsaid_only_for_partitions_that_are_ours() -> None:
    """Of another owner's we know nothing for certain."""
    process = Process()
    first, second = process.own(0), process.own(1)
    process.settle()
    items = [process.item(first, "a"), process.item(second, "b")]
    first.active = False
    process.memory.let_go(first.state)
    process.memory.refused(items, NOW)
    (refused,) = process.take()
    assert (said(refused).kind, said(refused).keys.strip()) == (Kind.REFUSED, b"b")


def test_a_refusal_that_failed_is_dropped_and_an_acceptance_never() -> None:
    """The latter is a fact that the next owner needs."""
    process = Process()
    owner = process.own(0)
    process.settle()
    process.memory.refused([process.item(owner, "a")], NOW)
    accepted = owner.state.append(Kind.ACCEPTED, 0, 1, b"k" * 16)
    process.memory.accepted([(owner.state, accepted)])
    refused, _ = process.take()
    assert isinstance(refused, Produce)
    assert process.memory.dropped(refused.handle)
    assert process.memory.waited_for(refused.handle) is None
    assert not process.memory.dropped(refused.handle)
    assert not process.memory.dropped(accepted.handle)
    assert process.memory.waited_for(accepted.handle) is not None


# Phases


def test_every_change_of_phase_is_told_once() -> None:
    """The engine holds and releases by it."""
    process = Process()
    owner = process.own(0)
    seen: list[tuple[StateLog, Phase]] = []
    while actions := process.take():
        seen += [(log, log.phase) for log in process.memory.moved]
        process.memory.moved.clear()
        for action in actions:
            process.answer(action)
    seen += [(log, log.phase) for log in process.memory.moved]
    assert [phase for _, phase in seen] == [Phase.LOADING, Phase.OPENING, Phase.READY]
    assert {log for log, _ in seen} == {owner.state}


def test_a_store_that_is_lost_leaves_nothing_that_is_waited_for_but_its_opening() -> None:
    """The handles that nobody answers any more are told, so that nothing is held for them."""
    process = Process()
    owner = process.own(0)
    process.settle()
    produce = owner.state.append(Kind.ACCEPTED, 0, 1, b"k" * 16)
    process.memory.accepted([(owner.state, produce)])
    (asked,) = process.take()
    process.answer(asked)
    (marks,) = process.take()
    assert isinstance(marks, StoreMarks)
    assert process.memory.lost_store(owner.state) == [marks.handle]
    assert process.memory.waited_for(marks.handle) is None
    (opens,) = process.take()
    assert isinstance(opens, OpenStore)
    process.answer(opens)
    process.settle()
    assert produce.handle in process.memory.effective
    process.memory.let_go(owner.state)
    assert process.memory.lost_store(owner.state) == []


def test_the_next_wait_for_an_earlier_owner_is_the_next_thing_to_wake_for() -> None:
    """Of all partitions; with none there is nothing to wake for."""
    topic = StateTopic()
    before = Process(topic=topic)
    owner = before.own(1)
    before.settle()
    before.announce(before.item(owner, "a"))
    before.settle()
    process = Process(b"process2", topic)
    process.own(0)
    second = process.own(1)
    process.settle()
    wait = StateRules().takeover_wait
    assert process.memory.wake_at() == NOW.mono + wait
    process.memory.tick(NOW._replace(mono=NOW.mono + wait - 0.1))
    assert process.take() == []
    process.memory.tick(NOW._replace(mono=NOW.mono + wait))
    process.settle()
    assert second.state.ready
    assert process.memory.wake_at() == float("inf")
