"""The durable memory of one source partition: taken over, added to, handed over. Without any I/O.

The state topic's partition of the same number is a log of what was tried and what was accepted.
A new owner appends an `open` record, whose offset is its epoch, and reads up to it before it
begins; what the local store holds already is not read again. Where an owner before it announced
attempts and left no `closed` record, requests of its may still be in the air: the new owner waits
until they must have ended, and reads what was added meanwhile.

Every record that this member appends takes effect in the order of the log's offsets, one after
the other, and only when everything before it has been read. So an offset that is not the next one
shows that somebody else wrote in between; a foreign `open` shows that the partition has another
owner, before anything more is sent.
"""

from __future__ import annotations

import math
from bisect import insort
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from consumer.event import TopicPartition
from consumer.messages import Marks, OpenStore, Produce, Reached, ReadState, StoreMarks
from consumer.state_attempts import Attempts
from consumer.state_floor import Floor
from consumer.state_growth import Growth
from consumer.state_phases import Phase, StateRules
from consumer.state_records import MOST_KEYS, UNBOUND, Kind, StateValue, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from consumer.event import Instant, Item
    from consumer.messages import Action, StateChunk
    from consumer.offsets import Partition

_EVERYTHING = 2**63 - 1
_FACTS = frozenset({Kind.ACCEPTED, Kind.CLOSED})


class _Entry(NamedTuple):
    """A record of our own that has its offset, and waits for its turn."""

    offset: int
    handle: int
    value: StateValue


class StateLog:
    """The memory of one assignment of a partition.

    Inputs return the actions that follow. `done` has the handles of own records that have taken
    effect, until the engine takes them. `attempts` has what TikTok may have. `owners` are the
    partitions whose events are remembered here: the source's and the retry topic's. `learned` is
    set when somebody else turns out to have had keys accepted: what waits to be sent has to be
    looked up again, once the store has them; until then it is not `ready`. Below `rewound_below`
    every source record had its outcome, or was parked, before this assignment began.

    Args:
        tp: The source partition.
        topic: Its state topic.
        member: 16 bytes that nobody else has, no other assignment of this process either.
        bound_to: What ties `settled_through` to the source topic; None where nothing is known.
        state_bound_to: What ties the local store to the state topic; None likewise.
    """

    def __init__(  # noqa: PLR0917  all of them are what a log is, each once
        self,
        tp: TopicPartition,
        topic: str,
        member: bytes,
        bound_to: bytes | None,
        state_bound_to: bytes | None,
        rules: StateRules,
        handles: Iterator[int],
    ) -> None:
        self.tp = tp
        self.state_tp = TopicPartition(topic, tp.partition)
        self.phase = Phase.LOADING
        self.ready = False
        self.attempts = Attempts(member, rules.window_ms)
        self.settled_through = 0
        self.rewound_below = 0
        self.wait_until = math.inf
        self.superseded_at = -math.inf
        self.learned = False
        self.done: list[int] = []
        self.owners: list[Partition] = []
        self._member = member
        self._bound_to = bound_to or UNBOUND
        self._state_bound_to = state_bound_to or UNBOUND
        self._rules = rules
        self._handles = handles
        self._next: int | None = None  # what of the log comes next; None: its start
        self._claimed = 0  # how far the log reached by what the store says
        self._first = 0
        self._target = 0
        self._unclosed: set[bytes] = set()
        self._before: dict[bytes, set[bytes]] = {}  # who was unclosed when a member opened
        self._opening = 0  # the handle of the `open` record that counts
        self._epoch: int | None = None
        self._progress = 0  # the handle of the record that ends the wait
        self._growth = Growth(self.state_tp, rules.window_ms)
        self._floor = Floor()
        self._lasts: dict[int, dict[Partition, int]] = {}
        self._sent: dict[int, StateValue] = {}
        self._entries: list[_Entry] = []
        self._busy: OpenStore | ReadState | StoreMarks | None = None
        self._run: list[_Entry] = []

    def __repr__(self) -> str:
        """Whose and in which phase."""
        return f"<StateLog {self.tp.topic}/{self.tp.partition} {self.phase}>"

    @property
    def progress(self) -> tuple[int, int]:
        """How many offsets of the state partition have been read, of how many."""
        read = 0 if self._next is None else self._next - self._first
        return max(read, 0), max(self._target - self._first, 0)

    @property
    def idle(self) -> bool:
        """Whether everything that was appended has taken effect."""
        return not self._sent and not self._entries and self._busy is None and not self._run

    def wants(self, handle: int) -> bool:
        """Whether an answer with this handle is still waited for.

        Of a partition that is no longer ours only facts are: what was accepted, and that nothing
        is in the air.
        """
        if self._busy is not None and self._busy.handle == handle:
            return True
        value = self._sent.get(handle)
        return value is not None and (self.phase is not Phase.CLOSED or value.kind in _FACTS)

    # Taking over

    def begin(self) -> list[Action]:
        """Takes the partition over, for the first time or anew: what was in the store is asked."""
        self.phase, self.ready, self.wait_until = Phase.LOADING, False, math.inf
        self._growth.stop()
        self._epoch = None
        self._progress = 0
        self._run, unwritten = [], self._run
        for entry in unwritten:
            insort(self._entries, entry, key=attrgetter("offset"))
        self._busy = OpenStore(next(self._handles), self.tp, self._state_bound_to)
        return [self._busy]

    def store_opened(self, handle: int, reached: Reached | None) -> list[Action]:
        """The local store has told how far it had come."""
        if self._busy is None or self._busy.handle != handle:
            return []
        self._busy = None
        if reached is None:
            self._read_from(None)
        else:
            self._read_from(reached.floor)
            self._claimed = reached.next_offset
            self._unclosed.update(reached.unclosed)
            if reached.bound_to == self._bound_to:
                self.settled_through = max(self.settled_through, reached.settled_through)
        self.phase = Phase.OPENING
        return self._open()

    def reclaim(self, proved_at: float) -> list[Action]:
        """Membership was proven at this time (seconds).

        If somebody else had opened the partition before that, it is ours still: taken over again.
        """
        if self.phase is not Phase.SUPERSEDED or proved_at <= self.superseded_at:
            return []
        self.phase = Phase.OPENING
        self._progress = 0
        return self._open()

    def _open(self) -> list[Action]:
        produce = self.append(Kind.OPEN, self.settled_through)
        self._opening = produce.handle
        return [produce]

    def tick(self, now: Instant) -> list[Action]:
        """The wait for an earlier owner's requests may be over: what it added is read."""
        if now.mono < self.wait_until:
            return []
        self.wait_until = math.inf
        produce = self.append(Kind.ACCEPTED, self.settled_through, now.wall_ms)
        self._progress = produce.handle
        return [produce]

    def _read_from(self, offset: int | None) -> None:
        """What of the log comes next; None: its start, wherever that is."""
        self._next = offset
        self._floor.begin(offset)
        if offset is None:
            self._claimed = 0

    # Adding to it

    def append(
        self, kind: Kind, settled_through: int, time_ms: int = 0, keys: bytes = b""
    ) -> Produce:
        """A record for the state topic; its handle comes back in `done` when it took effect."""
        value = StateValue(kind, self._member, self._bound_to, settled_through, time_ms, keys)
        return self._produce(next(self._handles), value)

    def announce(self, items: Iterable[Item], settled_through: int) -> Iterator[Produce]:
        """The records that say that these are about to be sent for the first time.

        Nothing is sent before its record is acknowledged, so the broker's time of it is the
        earliest possible one. What TikTok may have since before is announced with that time.
        """
        times: dict[int, list[Item]] = {}
        for item in items:
            times.setdefault(item.first_unknown_ms or 0, []).append(item)
        for time_ms, together in times.items():
            keys = b"".join([item.key for item in together])
            produce = self.append(Kind.ATTEMPTED, settled_through, time_ms, keys)
            lasts: dict[Partition, int] = {}
            for item in together:
                offset = item.record.offset
                if offset > lasts.get(item.owner, -1):
                    lasts[item.owner] = offset
            self._lasts[produce.handle] = lasts
            yield produce

    def _produce(self, handle: int, value: StateValue) -> Produce:
        self._sent[handle] = value
        topic, partition = self.state_tp
        return Produce(handle, topic, None, encode(value), (), -1, partition)

    def acknowledged(self, handle: int, offset: int, now: Instant) -> list[Action]:
        """The broker has a record of ours, at this offset."""
        value = self._sent.pop(handle, None)
        if value is None or self.phase is Phase.CLOSED:
            return []
        if handle == self._opening:
            self._target = offset
            if offset < max(self._next or 0, self._claimed):
                # The log ends before what was read of it: it lost records, or is another one.
                self.attempts.another_log()
                self._read_from(None)
        insort(self._entries, _Entry(offset, handle, value), key=attrgetter("offset"))
        return self._advance(now)

    def drop(self, handle: int) -> bool:
        """Forgets a record that was not appended, if others say enough; false if it is needed.

        A `refused` one might follow another attempt of the same keys, and deny that one. Without
        it an attempt counts that came to nothing, which is harmless. One that says attempts again
        might follow their outcome.
        """
        value = self._sent.get(handle)
        if value is None or (value.kind is not Kind.REFUSED and not self._floor.unsaid(handle)):
            return False
        del self._sent[handle]
        return True

    def read(self, handle: int, chunk: StateChunk, now: Instant) -> list[Action]:
        """A chunk of the log was read."""
        if self._busy is None or self._busy.handle != handle:
            return []
        if self._busy.tp != self.state_tp:
            self._busy = None
            return self._read_other(chunk, now)
        self._busy = None
        if self._next is None:
            self._first = chunk.log_start
            self._read_from(chunk.log_start)
        read = self._next or chunk.log_start
        if chunk.next_offset <= read and chunk.log_end <= self._entries[0].offset:
            return self._lost(chunk.log_end) + self.begin()
        marks = self._apply(chunk, now)
        self._next = max(read, chunk.next_offset)
        if marks:
            return [self._store(marks, now)]
        return self._advance(now)

    def marked(self, handle: int, now: Instant) -> list[Action]:
        """The store has written what it was given."""
        if self._busy is None or self._busy.handle != handle:
            return []
        self._busy = None
        self.ready = self.phase is Phase.READY
        run, self._run = self._run, []
        self._complete(run, now)
        return self._advance(now)

    def failed(self, handle: int) -> Action | None:
        """The action with this handle failed; it is to be tried again."""
        if self._busy is not None and self._busy.handle == handle:
            return self._busy
        return None

    def _lost(self, log_end: int) -> list[Action]:
        """The log lost records of ours that it had acknowledged: they are appended again."""
        lost = [entry for entry in self._entries if entry.offset >= log_end]
        self._entries = [entry for entry in self._entries if entry.offset < log_end]
        return [self._produce(e.handle, e.value) for e in lost if e.handle != self._opening]

    # Handing over

    def close(self) -> None:
        """The partition is no longer ours: nothing more takes effect. Facts may be appended."""
        self.phase, self.ready, self.wait_until = Phase.CLOSED, False, math.inf
        self._busy = None
        self._entries, self._run = [], []
        self._floor.close()

    @property
    def must_close(self) -> bool:
        """Whether the next owner has to be told that none of our requests is in the air.

        Not while an acceptance is on its way: it may follow the word, and would not be waited for.
        """
        if any(value.kind is Kind.ACCEPTED and value.keys for value in self._sent.values()):
            return False
        return self.ready and self._member in self._unclosed

    # One after the other

    def _advance(self, now: Instant) -> list[Action]:
        if self._busy is not None or self.phase is Phase.LOADING:
            return []
        growth = self._growth
        if self.ready and growth.is_told:
            self._begin_work()
        if (other := growth.reading) is not None:
            self._busy = ReadState(next(self._handles), other, growth.next_offset, _EVERYTHING)
            return [self._busy]
        while self._entries:
            first = self._entries[0]
            if self._next is None and first.offset == 0:
                self._read_from(0)
            if self._next is None or first.offset > self._next:
                if self._epoch is None and self.phase is Phase.OPENING:
                    self.phase = Phase.REBUILDING
                    self._first = 0 if self._next is None else self._next
                self._busy = ReadState(next(self._handles), self.state_tp, self._next, first.offset)
                return [self._busy]
            run, marks = self._take_run(now)
            if marks:
                self._run = run
                return [self._store(marks, now)]
            self._complete(run, now)
            if growth.reading is not None:
                return self._advance(now)
        return self._say_again(now)

    def _say_again(self, now: Instant) -> list[Action]:
        """What ended without an outcome long ago is announced once more, for the floor to rise.

        Else every restart would read again all that was written since, for days.
        """
        since = self.attempts.since
        if not since or self._floor.is_rising or not self.ready or self._next is None:
            return []
        if self._floor.behind(self._next) < self._rules.say_again_after + len(since):
            return []
        produces: list[Produce] = []
        for time_ms, keys in self.attempts.by_time(now).items():
            for at in range(0, len(keys), MOST_KEYS):
                together = b"".join(keys[at : at + MOST_KEYS])
                produces.append(
                    self.append(Kind.ATTEMPTED, self.settled_through, time_ms, together)
                )
        self._floor.say_again(self._next, [produce.handle for produce in produces])
        return [*produces]

    def _take_run(self, now: Instant) -> tuple[list[_Entry], list[Marks]]:
        """The next own records without a gap, and what is to be marked for them."""
        run: list[_Entry] = []
        marks: list[Marks] = []
        size = 0
        while self._entries and size < MOST_KEYS:
            entry = self._entries[0]
            if self._next is None or entry.offset > self._next:
                break
            del self._entries[0]
            run.append(entry)
            self._next = max(self._next, entry.offset + 1)
            kind, keys = entry.value.kind, entry.value.keys
            if kind is Kind.ACCEPTED and keys:
                marks.append(Marks(entry.value.time_ms or now.wall_ms, keys))
                size += len(keys)
            elif kind is Kind.ATTEMPTED:
                self._unclosed.add(self._member)
                self._floor.announced(entry.offset, self._lasts.pop(entry.handle, {}))
            if not self._floor.said_again(entry.handle):
                self.attempts.said(entry.offset, entry.value)
            self.settled_through = max(self.settled_through, entry.value.settled_through)
        return run, marks

    def _complete(self, run: list[_Entry], now: Instant) -> None:
        for entry in run:
            self.done.append(entry.handle)
            if entry.handle == self._opening:
                self._epoch = entry.offset
                self._taken_over(now)
            elif entry.handle == self._progress and self.phase is Phase.TAKEOVER:
                self._unclosed.clear()
                self._begin_work()

    def _taken_over(self, now: Instant) -> None:
        # Our own requests in the air are known to us.
        self._unclosed.discard(self._member)
        if self._unclosed:
            self.phase = Phase.TAKEOVER
            self.wait_until = now.mono + self._rules.takeover_wait
        else:
            self._begin_work()

    def _begin_work(self) -> None:
        """The memory is complete, but for what others have where the source has grown."""
        if self._growth.begin():
            self.phase, self.ready = Phase.REBUILDING, False
            return
        self.phase, self.ready = Phase.READY, True
        self.rewound_below = self.settled_through

    def _read_other(self, chunk: StateChunk, now: Instant) -> list[Action]:
        """A chunk of another partition was read."""
        marks = self._growth.read(chunk, now)
        if self._growth.reading is None:
            self._begin_work()
        return [self._store(marks, now)] if marks else self._advance(now)

    def _apply(self, chunk: StateChunk, now: Instant) -> list[Marks]:
        """What somebody wrote counts; the marks in it that are not too old are returned."""
        marks: list[Marks] = []
        oldest = now.wall_ms - self._rules.window_ms
        for offset, timestamp, raw in chunk.records:
            value = decode(raw)
            if value is None:
                continue
            if value.bound_to == self._bound_to and value.settled_through > self.settled_through:
                self.settled_through = value.settled_through
            if value.kind is Kind.ACCEPTED:
                if (accepted_ms := max(value.time_ms, timestamp)) > oldest and value.keys:
                    marks.append(Marks(accepted_ms, value.keys))
                    if self.ready and value.member != self._member:
                        self.ready, self.learned = False, True
            elif value.kind is not Kind.REFUSED:
                self._attempted_or_owned(offset, value, now)
            self.attempts.read(offset, timestamp, value, now)
        return marks

    def _attempted_or_owned(self, offset: int, value: StateValue, now: Instant) -> None:
        kind, member = value.kind, value.member
        if kind is Kind.ATTEMPTED:
            # Nobody announces before the requests of those before have surely ended.
            self._unclosed -= self._before.pop(member, set())
            self._unclosed.add(member)
            if member != self._member:
                self._floor.foreign(offset)
        elif kind is Kind.CLOSED:
            self._unclosed.discard(member)
        elif kind is Kind.GROWN:
            self._growth.tell(offset, value, now)
        elif self._epoch is None or offset < self._epoch:
            self._before[member] = set(self._unclosed)
        elif member != self._member:
            self.phase, self.ready, self.wait_until = Phase.SUPERSEDED, False, math.inf
            self._epoch, self.superseded_at = None, now.mono

    def _store(self, marks: list[Marks], now: Instant) -> StoreMarks:
        busy = StoreMarks(next(self._handles), self.tp, marks, self._reached(now))
        self._busy = busy
        return busy

    def _reached(self, now: Instant) -> Reached:
        position = self._growth.before(self._next or 0)
        may_rise = self.ready and not self.attempts.matter(now)
        floor = self._floor.below(position, may_rise=may_rise)
        return Reached(position, floor, self.settled_through, self._bound_to, tuple(self._unclosed))

    def left(self, key: bytes, since: int, now: Instant) -> None:
        """An event that TikTok may have since then (milliseconds) ends here, or is parked.

        Another record with its key counts from the same attempt.
        """
        self.attempts.left(key, since, now)
        self._floor.left()
