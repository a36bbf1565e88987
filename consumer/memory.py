"""What this process remembers of its partitions: their state logs, and who waits for which record.

The engine hands in what happened to a state record, a read or the store; what has become of it is
collected here until the engine takes it: actions, acceptances that are durable, batches that are
announced, partitions whose memory has moved on to another phase.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from consumer.messages import OpenStore, Produce, ReadState, StoreMarks
from consumer.state_log import StateLog
from consumer.state_phases import Phase, StateRules
from consumer.state_records import MEMBER_BYTES, UNBOUND, Kind, StateValue, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from consumer.event import Instant, Item, TopicPartition
    from consumer.messages import Action, Reached, StateChunk
    from consumer.own_topics import OwnTopics
    from consumer.requests import Announce
    from consumer.source_events import AssignedPartition

_PROCESS_BYTES = MEMBER_BYTES - 8


class Memory:
    """The state logs of one process.

    `process` are random bytes of this process; `handles` numbers everything that is waited for.
    """

    def __init__(
        self, topics: OwnTopics, rules: StateRules, process: bytes, handles: Iterator[int]
    ) -> None:
        self._topics = topics
        self._rules = rules
        self._process = process[:_PROCESS_BYTES].ljust(_PROCESS_BYTES, b"\0")
        self._assignments = itertools.count(1)
        self._handles = handles
        self._waited: dict[int, tuple[StateLog, Action]] = {}
        self._news: dict[int, Produce] = {}
        self._announces: dict[int, dict[int, StateLog]] = {}
        self._number_of: dict[int, int] = {}
        self._phases: dict[StateLog, Phase] = {}
        self._reads: dict[TopicPartition, list[ReadState]] = {}  # the first of each is asked for
        self.actions: list[Action] = []
        self.effective: list[int] = []
        """Handles of our own records that have taken effect, but for announces."""
        self.announced: list[int] = []
        """Batches all of whose events are announced."""
        self.moved: list[StateLog] = []
        """State logs in another phase than before."""
        self.learned: list[StateLog] = []
        """State logs in which somebody else's acceptances were found after the work had begun."""

    # Whose it is

    def take_over(self, one: AssignedPartition) -> StateLog:
        """The state log of a source partition that was just assigned; it begins at once."""
        member = self._process + next(self._assignments).to_bytes(8, "big")
        log = StateLog(
            one.tp,
            self._topics.state_of(one.tp.topic),
            member,
            one.bound_to,
            one.state_bound_to,
            self._rules,
            self._handles,
        )
        self._phases[log] = Phase.CLOSED
        self._follow(log, log.begin())
        return log

    def wait_for_takeover(self, seconds: float) -> None:
        """So long the requests of an owner that vanished are waited for from now on."""
        self._rules = replace(self._rules, takeover_wait=seconds)

    def let_go(self, log: StateLog) -> None:
        """The partition is no longer ours. What was accepted is still appended."""
        log.close()
        self._phases.pop(log, None)
        self._waited = {
            handle: waited
            for handle, waited in self._waited.items()
            if waited[0] is not log or log.wants(handle)
        }
        self._next_reads()
        if reads := self._reads.get(log.state_tp):
            self.actions.append(reads[0])  # giving the partition up has ended it
        for number, handles in list(self._announces.items()):
            for handle in [handle for handle, of in handles.items() if of is log]:
                self._announced(number, handle)

    def close(self, log: StateLog, settled_through: int) -> int | None:
        """Tells the next owner that nothing of ours is in the air; None where it need not know."""
        if not log.must_close:
            return None
        produce = log.append(Kind.CLOSED, settled_through)
        self._follow(log, [produce])
        return produce.handle

    def lost_store(self, log: StateLog) -> list[int]:
        """The local store is not what it was: everything is read from the state topic.

        The handles that are no longer waited for come back. Where somebody else has opened the
        partition it stays as it is: only a proof of membership takes it over again.
        """
        if log.phase in {Phase.CLOSED, Phase.SUPERSEDED}:
            return []
        self._follow(log, log.begin())
        abandoned = [h for h, (of, _) in self._waited.items() if of is log and not log.wants(h)]
        for handle in abandoned:
            del self._waited[handle]
        self._next_reads()
        return abandoned

    def proved(self, at: float) -> None:
        """Membership was proven at this time (seconds)."""
        for log in list(self._phases):
            self._follow(log, log.reclaim(at))

    # What is added to it

    def accepted(self, appended: Iterable[tuple[StateLog, Produce]]) -> None:
        """TikTok accepted keys; these records say so."""
        for log, produce in appended:
            self._follow(log, [produce])

    def announce(self, announce: Announce) -> None:
        """These events are about to be sent for the first time."""
        handles: dict[int, StateLog] = {}
        for log, items in _by_state(announce.items).items():
            through = items[0].owner.source.watermark
            produces = list(log.announce(items, through))
            handles |= {produce.handle: log for produce in produces}
            self._follow(log, produces)
        self._announces[announce.number] = handles
        self._number_of |= dict.fromkeys(handles, announce.number)

    def refused(self, items: Sequence[Item], now: Instant) -> None:
        """TikTok does not have these: all their attempts were refused for certain."""
        # What is no longer ours may have been sent by somebody else by now.
        for log, together in _by_state(item for item in items if item.owner.active).items():
            keys = b"".join([item.key for item in together])
            through = together[0].owner.source.watermark
            self._follow(log, [log.append(Kind.REFUSED, through, now.wall_ms, keys)])

    def grown(self, source: str, partitions: int, now: Instant) -> None:
        """A source topic has so many partitions now: every owner of one has to know."""
        value = StateValue(
            Kind.GROWN,
            self._process.ljust(MEMBER_BYTES, b"\0"),
            UNBOUND,
            0,
            now.wall_ms,
            b"",
            partitions,
        )
        topic = self._topics.state_of(source)
        for partition in range(partitions):
            produce = Produce(next(self._handles), topic, None, encode(value), (), -1, partition)
            self._news[produce.handle] = produce
            self.actions.append(produce)

    # What happened

    def news(self, handle: int) -> Action | None:
        """The record of nobody's own partition that has this handle and is not acknowledged."""
        return self._news.get(handle)

    def told(self, handle: int) -> None:
        """The broker has such a record."""
        del self._news[handle]

    def waited_for(self, handle: int) -> tuple[StateLog, Action] | None:
        """Whose answer this is, and what was asked; None where nobody waits for it any more."""
        waited = self._waited.get(handle)
        return waited if waited is not None and waited[0].wants(handle) else None

    def acknowledged(self, handle: int, offset: int, now: Instant) -> None:
        """The broker has one of our records."""
        if (waited := self._waited.pop(handle, None)) is not None:
            self._follow(waited[0], waited[0].acknowledged(handle, offset, now))
            if waited[0].phase is Phase.CLOSED:
                self.effective.append(handle)

    def dropped(self, handle: int) -> bool:
        """Whether a record that failed is better left out than appended later."""
        waited = self._waited.get(handle)
        if waited is None or not waited[0].drop(handle):
            return False
        del self._waited[handle]
        return True

    def store_opened(self, handle: int, reached: Reached | None) -> None:
        """A local store is open."""
        if (waited := self._waited.pop(handle, None)) is not None:
            self._follow(waited[0], waited[0].store_opened(handle, reached))

    def read(self, handle: int, chunk: StateChunk, now: Instant) -> None:
        """A chunk of a state partition was read."""
        if (waited := self._waited.pop(handle, None)) is not None:
            self._follow(waited[0], waited[0].read(handle, chunk, now))
            self._next_reads()

    def marked(self, handle: int, now: Instant) -> None:
        """A local store has written its marks."""
        if (waited := self._waited.pop(handle, None)) is not None:
            self._follow(waited[0], waited[0].marked(handle, now))

    # Time

    def tick(self, now: Instant) -> None:
        """Waits for earlier owners may be over."""
        for log in list(self._phases):
            if log.wait_until <= now.mono:
                self._follow(log, log.tick(now))

    def wake_at(self) -> float:
        """When the next wait is over: seconds, infinity for none."""
        return min((log.wait_until for log in self._phases), default=math.inf)

    # What follows

    def _follow(self, log: StateLog, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Produce | OpenStore | ReadState | StoreMarks):
                self._waited[action.handle] = log, action
            if isinstance(action, ReadState):
                self._read(action)
            else:
                self.actions.append(action)
        if log.done:
            done, log.done = log.done, []
            for handle in done:
                number = self._number_of.get(handle)
                if number is None:
                    self.effective.append(handle)
                else:
                    self._announced(number, handle)
        if log.learned:
            log.learned = False
            self.learned.append(log)
        if log in self._phases and self._phases[log] is not log.phase:
            self._phases[log] = log.phase
            self.moved.append(log)

    def _read(self, action: ReadState) -> None:
        """One read of a partition at a time: where a source has grown, all owners read them all."""
        reads = self._reads.setdefault(action.tp, [])
        reads.append(action)
        if len(reads) == 1:
            self.actions.append(action)

    def _next_reads(self) -> None:
        """Asks for what waited for a read that is answered, or no longer of interest."""
        for tp, reads in list(self._reads.items()):
            wanted = [read for read in reads if self.waited_for(read.handle) is not None]
            if not wanted:
                del self._reads[tp]
                continue
            self._reads[tp] = wanted
            if wanted[0] is not reads[0]:
                self.actions.append(wanted[0])

    def _announced(self, number: int, handle: int) -> None:
        self._number_of.pop(handle, None)
        handles = self._announces[number]
        del handles[handle]
        if not handles:
            del self._announces[number]
            self.announced.append(number)


def _by_state(items: Iterable[Item]) -> dict[StateLog, list[Item]]:
    by_state: dict[StateLog, list[Item]] = {}
    for item in items:
        by_state.setdefault(item.owner.state, []).append(item)
    return by_state
