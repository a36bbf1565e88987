"""Delivery: batches, attempts and retries, without any I/O.

Events come in by `add`; `poll` says which requests go now; `answered` takes what came back and
says which events TikTok accepted and which it refused for good. Everything else (retry, throttle,
hold, split) stays in here and passes the same gates as a first attempt.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, deque
from typing import TYPE_CHECKING

from consumer import guilty
from consumer.event import ATTEMPTS_KEPT, Attempt, Destination, Item, Refused, TraceIds
from consumer.expiry import take_out_expired
from consumer.hold_gate import GateState
from consumer.limits import Random, retry_after_seconds
from consumer.queues import DeliverySettings, Queue
from consumer.requests import Announce, Judged, Polled, Request
from consumer.verdict import Answer, Kind, Scope, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from consumer.batch import Batch
    from consumer.event import Instant
    from consumer.offsets import Partition

SWEEP_SECONDS = 10.0
"""How often events that wait are looked through for those whose time is over."""


class Delivery:
    """All destinations' queues, and the requests that are in the air.

    `token_group` says which destinations share a token: an app-level throttle slows all of a
    group. `draw` gives the identity of an attempt's span; `rng` the jitter.
    """

    def __init__(
        self,
        destinations: Iterable[Destination],
        settings: DeliverySettings,
        *,
        token_group: Mapping[Destination, int],
        draw: Callable[[bool], TraceIds],
        rng: Random,
    ) -> None:
        self._retry = settings.retry
        self.queues = {d: Queue(d, settings) for d in destinations}
        self._groups: dict[int, list[Queue]] = {}
        for destination, queue in self.queues.items():
            self._groups.setdefault(token_group[destination], []).append(queue)
        self._token_group = token_group
        self._draw = draw
        self._rng = rng
        self._handles = itertools.count(1)
        self._order = itertools.count()
        self._in_air: dict[int, tuple[Batch, Attempt]] = {}
        self._announcing: dict[int, tuple[Queue, Batch]] = {}
        self._withdrawn: dict[Item, Refused] = {}
        self._sweep_every = min(SWEEP_SECONDS, settings.retry.give_up_after / 10)
        self._sweep_at = -math.inf

    # What comes in

    def add(self, item: Item, now: Instant) -> None:
        """Takes a mapped event for its destination's next batch."""
        mapped = item.mapped
        if mapped is None:
            raise TypeError("only a mapped event can be delivered")
        queue = self.queues[mapped.destination]
        item.batched = now
        batch = queue.lane(mapped.test_event_code).add(item, len(mapped.body), now.mono)
        if batch is not None:
            queue.ready.append(batch)

    def withdraw(self, item: Item, refused: Refused) -> None:
        """The event must not be sent any more; it comes back as refused before its next attempt."""
        self._withdrawn[item] = refused

    def answered(self, handle: int, answer: Answer, now: Instant) -> Judged:
        """Judges the answer to a request and files what is left to do."""
        batch, attempt = self._in_air.pop(handle)
        queue = self.queues[batch.destination]
        queue.came_back(handle, now.mono)
        verdict = guilty.hold_if_envelope(batch, judge(answer, len(batch.items)))
        attempt.ended = now
        attempt.http_status, attempt.code = verdict.http_status, verdict.code
        attempt.request_id, attempt.verdict = verdict.request_id, verdict.kind.value
        attempt.error, attempt.alert = verdict.failure, verdict.rule.alert
        match verdict.kind:
            case Kind.ACCEPTED:
                return self._accepted(queue, batch, attempt, verdict, now)
            case Kind.RETRY:
                self._retry_later(queue, batch, attempt, verdict, now)
            case Kind.THROTTLED | Kind.HELD:
                self._close_gates(queue, batch, attempt, verdict, now)
            case Kind.REJECTED:
                return self._rejected(queue, batch, attempt, verdict, now)
        return Judged(attempt, verdict, (), (), _cleared(batch.items))

    # What goes out

    def poll(self, now: Instant, *, may_start: bool = True) -> Polled:
        """What goes now; no attempt where none `may_start`, because membership is not proven."""
        requests: list[Request] = []
        announces: list[Announce] = []
        refused: list[tuple[Item, Refused]] = []
        unsure: list[Item] = []
        if now.mono >= self._sweep_at:
            refused += self._sweep(now)
            self._sweep_at = now.mono + self._sweep_every
        give_up_after = self._retry.give_up_after
        for queue in self.queues.values() if may_start else ():
            queue.close_due(now.mono)
            while queue.retrying and queue.retrying[0][0] <= now.mono:
                queue.ready.appendleft(heapq.heappop(queue.retrying)[2])
            while queue.ready and queue.ready_at(now.mono) <= now.mono:
                batch = queue.ready.popleft()
                batch.items = _sendable(batch, unsure)
                if self._withdrawn:
                    refused += self._take_out_withdrawn(batch.items)
                refused += take_out_expired(batch.items, now, give_up_after)
                if not batch.items:
                    continue
                if all(item.announced for item in batch.items):
                    requests.append(self._start(queue, batch, now))
                else:
                    announces.append(self._announce(queue, batch))
        return Polled(requests, announces, refused, unsure)

    def announced(self, number: int) -> None:
        """It is known for good that this batch is about to be sent: `poll` sends it."""
        queue, batch = self._announcing.pop(number)
        queue.announcing -= 1
        for item in batch.items:
            item.announced = True
        if batch.items:
            queue.ready.appendleft(batch)

    def wake_at(self, now: Instant, *, may_start: bool = True) -> float:
        """When `poll` has something to do without an input: seconds, infinity for never."""
        at, mono = math.inf, now.mono
        for queue in self.queues.values():
            if may_start:
                at = min(at, queue.wake_at(mono))
            if not queue.idle():
                at = min(at, self._sweep_at)
        return at

    # Hand-over of partitions

    def flush(self) -> None:
        """Closes every open batch: somebody waits for its events."""
        for queue in self.queues.values():
            queue.close_all()

    def drop(self, owners: set[Partition]) -> None:
        """Forgets what waits of these partitions. Requests in the air end as they end."""
        self._take_out(owners)
        for _, batch in self._announcing.values():
            batch.items = [item for item in batch.items if item.owner not in owners]
        for item in [item for item in self._withdrawn if item.owner in owners]:
            del self._withdrawn[item]

    def _take_out(self, owners: set[Partition]) -> None:
        for queue in self.queues.values():
            for items in queue.waiting():
                items[:] = [item for item in items if item.owner not in owners]
            queue.ready = deque(batch for batch in queue.ready if batch.items)
            queue.retrying = [entry for entry in queue.retrying if entry[2].items]
            heapq.heapify(queue.retrying)

    def stuck(self, deadline: float, now: float) -> Iterator[Item]:
        """The events that cannot be sent before `deadline` (seconds), whatever happens until."""
        for queue in self.queues.values():
            shut = queue.gates.in_flight == 0 and queue.gates.ready_at(now) > deadline
            for at, _, batch in queue.retrying:
                if shut or at > deadline:
                    yield from batch.items
            if shut:
                for lane in queue.lanes.values():
                    yield from lane.items
                for batch in queue.ready:
                    yield from batch.items

    def doubt(self, owners: set[Partition]) -> list[Item]:
        """Takes out what waits of these partitions: it has to be looked up again.

        So has what is in the air, should it come back.
        """
        taken: list[Item] = []
        for queue in self.queues.values():
            for items in queue.waiting():
                taken += [item for item in items if item.owner in owners]
        in_air = (batch for batch, _ in self._in_air.values())
        announcing = (batch for _, batch in self._announcing.values())
        for batch in itertools.chain(in_air, announcing):
            batch.doubted |= any(item.owner in owners for item in batch.items)
        self._take_out(owners)
        return taken

    def announce_again(self) -> None:
        """What waits is to be announced before its next attempt, also where it was already."""
        for queue in self.queues.values():
            for items in queue.waiting():
                for item in items:
                    item.announced = False

    def owners_in_air(self) -> set[Partition]:
        """The partitions whose events are in a request that waits for its answer."""
        return {item.owner for batch, _ in self._in_air.values() for item in batch.items}

    # What changes the gates from outside

    def renew(self, destinations: Iterable[Destination], now: Instant) -> None:
        """Another token is there for these: where one is shut, a probe goes at once."""
        for destination in destinations:
            self.queues[destination].gates.hold.renew(now.mono)

    def share(self, part: float, now: Instant) -> None:
        """This part of all requests is ours to make, the rest is other members'."""
        for queue in self.queues.values():
            queue.gates.share(part, now.mono)

    @property
    def requests_in_air(self) -> int:
        """How many requests wait for their answer."""
        return len(self._in_air)

    # One attempt

    def _announce(self, queue: Queue, batch: Batch) -> Announce:
        number = next(self._handles)
        self._announcing[number] = queue, batch
        queue.announcing += 1
        return Announce(number, [item for item in batch.items if not item.announced])

    def _start(self, queue: Queue, batch: Batch, now: Instant) -> Request:
        items = batch.items
        bodies: list[bytes] = [item.mapped.body for item in items if item.mapped is not None]
        linked = [item.trace for item in items if item.trace.sampled]
        attempt = Attempt(
            number=batch.failures + 1,
            destination=batch.destination,
            test_event_code=batch.test_event_code,
            trace=self._draw(bool(linked)),
            started=now,
            events=len(items),
            request_bytes=sum(map(len, bodies)),
            linked=linked,
        )
        first = (attempt,)
        repeats: Counter[str] = Counter()
        for item in items:
            if item.first_unknown_ms is not None:
                repeats[item.unknown_cause or UNFINISHED] += 1
                if item.unknown_cause is None:
                    # An earlier owner's acceptance may come late: it would stand before the
                    # record that announces the next attempt, and so be read before that.
                    item.announced = False
            item.attempts = first if not item.attempts else _later(item.attempts, attempt)
            item.attempt_count += 1
        attempt.repeats = repeats
        handle = next(self._handles)
        queue.goes(handle, len(items), now.mono)
        self._in_air[handle] = (batch, attempt)
        destination = batch.destination
        return Request(
            handle,
            destination.event_source.value,
            destination.event_source_id,
            batch.test_event_code,
            bodies,
        )

    def _accepted(
        self, queue: Queue, batch: Batch, attempt: Attempt, verdict: Verdict, now: Instant
    ) -> Judged:
        if queue.gates.accepted(now.mono, attempt.started.mono):
            queue.opened(now.mono)
        if self._withdrawn:
            self._take_out_withdrawn(list(batch.items))  # too late: they were taken
        accepted, refused = guilty.accepted(batch, verdict)
        return Judged(attempt, verdict, accepted, refused)

    def _retry_later(
        self, queue: Queue, batch: Batch, attempt: Attempt, verdict: Verdict, now: Instant
    ) -> None:
        batch.failures += 1
        started = attempt.started
        asked = max(retry_after_seconds(verdict.retry_after, now) or 0.0, verdict.rule.pause)
        queue.gates.failed(
            f"{verdict.cause}: {verdict.rule.why}",
            max(self._gate_pause(queue, started.mono), asked),
            now.mono,
            started.mono,
            slow=verdict.failure == "timeout",
            asked=asked > 0.0,
        )
        if verdict.rule.unknown:
            # TikTok may have taken the events as early as the request began.
            for item in batch.items:
                if item.first_unknown_ms is None:
                    item.first_unknown_ms = started.wall_ms
                    item.unknown_cause = verdict.cause
        pause = max(self._retry.pause(batch.failures, self._rng), asked)
        heapq.heappush(queue.retrying, (now.mono + pause, next(self._order), batch))

    def _gate_pause(self, queue: Queue, started: float) -> float:
        failures = queue.gates.hold.next_failure(started)
        return max(self._retry.pause(failures, self._rng), _SHORTEST_HOLD)

    def _close_gates(
        self, queue: Queue, batch: Batch, attempt: Attempt, verdict: Verdict, now: Instant
    ) -> None:
        queue.ready.appendleft(batch)
        asked = retry_after_seconds(verdict.retry_after, now)
        state = GateState.THROTTLED if verdict.kind is Kind.THROTTLED else GateState.HELD
        reason = f"{verdict.cause}: {verdict.rule.why}"
        group = self._groups[self._token_group[batch.destination]]
        for one in group if verdict.rule.scope is Scope.APP else (queue,):
            pause = self._gate_pause(one, attempt.started.mono)
            if asked:  # nothing, or a time that is over by our clock, asks for no pause
                pause = max(asked, _SHORTEST_HOLD)
            one.gates.refused(
                state, reason, pause, now.mono, attempt.started.mono, own=one is queue
            )

    def _rejected(
        self, queue: Queue, batch: Batch, attempt: Attempt, verdict: Verdict, now: Instant
    ) -> Judged:
        if queue.gates.let_in(now.mono, attempt.started.mono):
            queue.opened(now.mono)
        found = guilty.search(batch, verdict)
        queue.ready.extendleft(reversed(found.again))
        return Judged(attempt, verdict, (), found.refused)

    # Events whose time is over

    def _sweep(self, now: Instant) -> list[tuple[Item, Refused]]:
        expired = []
        for queue in self.queues.values():
            for items in queue.waiting():
                expired += take_out_expired(items, now, self._retry.give_up_after)
            queue.ready = deque(batch for batch in queue.ready if batch.items)
            queue.retrying = [entry for entry in queue.retrying if entry[2].items]
            heapq.heapify(queue.retrying)
        if self._withdrawn:
            # Some had their outcome by another way before their next attempt, or were parked.
            self._withdrawn = {
                item: why
                for item, why in self._withdrawn.items()
                if item.owner.pending.get(item.record.offset) is item
            }
        return expired

    def _take_out_withdrawn(self, items: list[Item]) -> list[tuple[Item, Refused]]:
        taken = [(item, self._withdrawn.pop(item)) for item in items if item in self._withdrawn]
        if taken:
            gone = {item for item, _ in taken}
            items[:] = [item for item in items if item not in gone]
        return taken


_SHORTEST_HOLD = 0.05

UNFINISHED = "unfinished"
"""Cause of a repeat: an owner of the partition ended before the outcome of an attempt was kept."""


def _sendable(batch: Batch, unsure: list[Item]) -> list[Item]:
    """Those that may go; `unsure` gets those that have to be looked up before.

    A batch that was in the air when partitions were handed over may hold theirs.
    """
    items = batch.items
    if batch.doubted:
        unsure += [item for item in items if item.owner.active]
        return []
    if all(item.owner.state.ready for item in items):
        return items
    unsure += [item for item in items if item.owner.active and not item.owner.state.ready]
    return [item for item in items if item.owner.state.ready]


def _cleared(items: Iterable[Item]) -> list[Item]:
    """Those of a refused request that TikTok cannot have; their next attempt is a first one."""
    cleared = [item for item in items if item.first_unknown_ms is None]
    for item in cleared:
        item.announced = False
    return cleared


def _later(attempts: tuple[Attempt, ...], attempt: Attempt) -> tuple[Attempt, ...]:
    return (*attempts[-(ATTEMPTS_KEPT - 1) :], attempt)
