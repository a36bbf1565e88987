"""One owner of a partition's memory, driven by hand: its state log, and what it waits for."""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING

from consumer.event import Item, Record, TopicPartition, TraceIds
from consumer.messages import OpenStore, Produce, ReadState, StoreMarks
from consumer.offsets import CommitOffset, Partition
from consumer.state_log import StateLog
from consumer.state_phases import Phase, StateRules
from consumer.state_records import KEY_BYTES, MEMBER_BYTES, Kind, StateValue, decode
from tests.support.state_world import MemoryStores, StateTopic
from tests.support.surroundings import Clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from consumer.messages import Action

SOURCE = TopicPartition("conversions", 0)
STATE_TP = TopicPartition("group.conversions.dedup", 0)
BOUND_TO, STATE_BOUND_TO = b"t" * 16, b"s" * 16
RULES = StateRules(window_ms=3_600_000, takeover_wait=11.0, say_again_after=20)
NO_TRACE = TraceIds(0, 0, 0, False, "")


def key(name: str) -> bytes:
    """The key of an event with this name."""
    return name.encode().ljust(KEY_BYTES, b".")


class Kept:
    """What all owners of a partition share: the state topic, the disk, the time."""

    def __init__(self) -> None:
        self.topic = StateTopic()
        self.stores = MemoryStores()
        self.clock = Clock()
        self._members = itertools.count(1)

    def owner(
        self, bound_to: bytes | None = BOUND_TO, *, own_disk: bool = False, position: int = 0
    ) -> Owner:
        """A new owner, which has not begun yet; on a machine of its own it finds no store."""
        disk = MemoryStores() if own_disk else self.stores
        return Owner(self, next(self._members), bound_to, disk, position)

    def put(self, kind: Kind, *keys: bytes, member: int = 99, **fields: int) -> int:
        """Somebody else appends a record; its offset."""
        member_id = member.to_bytes(MEMBER_BYTES, "big")
        value = StateValue(kind, member_id, BOUND_TO, 0, self.clock.wall_ms, b"".join(keys))
        return self.topic.add(STATE_TP, value._replace(**fields), self.clock.wall_ms)  # type: ignore[arg-type]  # fields of it

    def values(self) -> list[StateValue]:
        """What the records of the log say."""
        return self.topic.values(STATE_TP)

    def kinds(self) -> list[Kind]:
        """What kinds of records the log has."""
        return [value.kind for value in self.values()]


class Owner:
    """A state log whose actions are carried out one by one, in the order the test wants.

    `actions` are those that the store or the topic's reader has to answer, `produced` records that
    are not written yet, `written` those that are not acknowledged yet (with their offsets), `done`
    the handles of those that took effect; `offsets` has where each was written.
    """

    def __init__(
        self, kept: Kept, member: int, bound_to: bytes | None, disk: MemoryStores, position: int
    ) -> None:
        self.kept = kept
        self.disk = disk
        self.member = member.to_bytes(MEMBER_BYTES, "big")
        self.log = StateLog(
            SOURCE,
            STATE_TP.topic,
            self.member,
            bound_to,
            STATE_BOUND_TO,
            RULES,
            itertools.count(1),
        )
        self.partition = Partition(SOURCE, position, CommitOffset(position), state=self.log)
        self.log.owners.append(self.partition)
        self.actions: deque[OpenStore | ReadState | StoreMarks] = deque()
        self.produced: list[Produce] = []
        self.written: list[tuple[int, int]] = []
        self.reads: list[ReadState] = []
        self.done: list[int] = []
        self.offsets: dict[int, int] = {}

    # The log's inputs

    def begin(self) -> Owner:
        """It begins to take the partition over."""
        self.do(self.log.begin())
        return self

    def take_over(self) -> Owner:
        """It takes the partition over, as far as it can at once."""
        self.begin()
        self.settle()
        return self

    def lose_store(self) -> None:
        """Its local store is found to be another one, and empty."""
        self.disk.wipe(SOURCE)
        self.actions.clear()
        self.do(self.log.begin())

    def accept(self, *keys: bytes, settled_through: int = 0) -> int:
        """TikTok took keys; the handle of the record that says so."""
        return self._append(Kind.ACCEPTED, settled_through, *keys)

    def refuse(self, *keys: bytes) -> int:
        """TikTok refused keys for certain."""
        return self._append(Kind.REFUSED, 0, *keys)

    def close(self) -> None:
        """It hands the partition over."""
        if self.log.must_close:
            self._append(Kind.CLOSED, 0)
        self.log.close()

    def _append(self, kind: Kind, settled_through: int, *keys: bytes) -> int:
        now_ms = self.kept.clock.wall_ms
        produce = self.log.append(kind, settled_through, now_ms, b"".join(keys))
        self.do([produce])
        return produce.handle

    def announce(self, *items: Item) -> list[int]:
        """Events are about to be sent; the handles of the records that say so."""
        produces = list(self.log.announce(items, self.partition.watermark))
        self.do(produces)
        return [produce.handle for produce in produces]

    def item(self, name: str, first_unknown_ms: int | None = None) -> Item:
        """The next record of the source, which has this event."""
        partition = self.partition
        record = Record(*SOURCE, partition.position, -1, None, b"", ())
        item = Item(record, self.kept.clock.now, NO_TRACE, partition, key=key(name))
        item.first_unknown_ms = first_unknown_ms
        assert partition.take(item)
        return item

    def tick(self) -> None:
        """Time has passed."""
        self.do(self.log.tick(self.kept.clock.now))

    def wait(self) -> None:
        """As long as it has to for an earlier owner's requests, and all that follows."""
        assert self.is_in(Phase.TAKEOVER)
        self.kept.clock.advance(RULES.takeover_wait)
        self.tick()
        self.settle()

    # The world

    def do(self, actions: Iterable[Action]) -> None:
        """Files what the log wants."""
        for action in actions:
            if isinstance(action, Produce):
                self.produced.append(action)
            else:
                assert isinstance(action, OpenStore | ReadState | StoreMarks)
                self.actions.append(action)
        self.done += self.log.done
        self.log.done = []

    def write(self, at: int = 0) -> int:
        """The broker takes a record that was produced; its offset."""
        produce = self.produced.pop(at)
        offset = self.kept.topic.append(STATE_TP, produce.value, self.kept.clock.wall_ms)
        self.written.append((produce.handle, offset))
        self.offsets[produce.handle] = offset
        return offset

    def acknowledge(self, at: int = 0) -> None:
        """The broker's acknowledgement of a record arrives."""
        handle, offset = self.written.pop(at)
        self.do(self.log.acknowledged(handle, offset, self.kept.clock.now))

    def answer(self) -> None:
        """The store or the topic's reader answers the oldest of what it was asked."""
        action, now = self.actions.popleft(), self.kept.clock.now
        match action:
            case OpenStore(handle, tp):
                self.do(self.log.store_opened(handle, self.disk.reached.get(tp)))
            case ReadState(handle):
                self.reads.append(action)
                self.do(self.log.read(handle, self.kept.topic.chunk(action), now))
            case StoreMarks(handle, tp, marks, reached):
                self.disk.mark(tp, marks, reached)
                self.do(self.log.marked(handle, now))

    def settle(self) -> None:
        """Everything is written, acknowledged and answered, until nothing is left to do."""
        while self.actions or self.produced or self.written:
            while self.actions:
                self.answer()
            while self.produced:
                self.write()
            if self.written:
                self.acknowledge()

    def settle_one(self) -> None:
        """One record is written, or acknowledged if all are written."""
        if self.produced:
            self.write()
        else:
            self.acknowledge()

    # What came of it

    def is_in(self, phase: Phase) -> bool:
        """Whether the log is in this phase."""
        return self.log.phase is phase

    def is_ready(self) -> bool:
        """Whether its memory is complete."""
        return self.log.ready

    def knows(self, *names: str) -> bool:
        """Whether the store has the keys of all these."""
        return all((SOURCE, key(name)) in self.disk.keys for name in names)

    def read_ranges(self) -> Sequence[tuple[int | None, int]]:
        """From where to where it has asked for the state topic."""
        return [(read.start, read.end) for read in self.reads]


def last_value(owner: Owner) -> StateValue:
    """What the record says that was produced last."""
    value = decode(owner.produced[-1].value)
    assert value is not None
    return value
