"""Delivery: batches, attempts, retries and the search for a guilty event, without any I/O.

Events come in by `add`; `poll` says which requests go now; `answered` takes what came back and
says which events TikTok accepted and which it refused for good. Everything else (retry, throttle,
hold, split) stays in here and passes the same gates as a first attempt.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

from consumer.event import ATTEMPTS_KEPT, Attempt, Destination, Item, Reason, Refused, TraceIds
from consumer.limits import (
    GateState,
    Random,
    retry_after_seconds,
)
from consumer.queues import DeliverySettings, Queue
from consumer.redact import redact
from consumer.verdict import Answer, Kind, Scope, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from consumer.batch import Batch
    from consumer.event import Instant
    from consumer.offsets import Partition

SWEEP_SECONDS = 10.0
"""How often events that wait are looked through for those whose time is over."""


class Request(NamedTuple):
    """A request to send: `events` are the JSON elements of `data[]`, in order."""

    handle: int
    event_source: str
    event_source_id: str
    test_event_code: str | None
    events: Sequence[bytes]

    def __repr__(self) -> str:
        """Where to and how many; never the events."""
        return f"<Request {self.handle} {self.event_source_id} events={len(self.events)}>"


class Announce(NamedTuple):
    """A batch about to be sent in which events are sent for the first time: say so before.

    Answer by `Delivery.announced`, when it can no longer be forgotten.
    """

    number: int
    items: Sequence[Item]


class Polled(NamedTuple):
    """What goes now, and what does not: `refused` for good, `unsure` until looked up again."""

    requests: Sequence[Request]
    announces: Sequence[Announce]
    refused: Sequence[tuple[Item, Refused]]
    unsure: Sequence[Item]


class Judged(NamedTuple):
    """What an answer settled: events accepted, and events refused for good.

    TikTok does not have the `cleared` ones: every attempt so far was refused for certain.
    """

    attempt: Attempt
    verdict: Verdict
    accepted: Sequence[Item]
    refused: Sequence[tuple[Item, Refused]]
    cleared: Sequence[Item] = ()


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
        item.batched_ns = now.wall_ns
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
        queue.gates.finish()
        verdict = judge(answer, len(batch.items))
        attempt.ended = now
        attempt.http_status, attempt.code = verdict.http_status, verdict.code
        attempt.request_id, attempt.verdict = verdict.request_id, verdict.kind.value
        attempt.error = verdict.failure
        match verdict.kind:
            case Kind.ACCEPTED:
                return self._accepted(queue, batch, attempt, verdict)
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
        for queue in self.queues.values() if may_start else ():
            queue.close_due(now.mono)
            while queue.retrying and queue.retrying[0][0] <= now.mono:
                queue.ready.appendleft(heapq.heappop(queue.retrying)[2])
            while queue.ready and queue.ready_at(now.mono) <= now.mono:
                batch = queue.ready.popleft()
                batch.items = _sendable(batch, unsure)
                if self._withdrawn:
                    refused += self._take_out_withdrawn(batch.items)
                refused += self._take_out_expired(batch.items, now)
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
        queue.gates.start()
        handle = next(self._handles)
        self._in_air[handle] = (batch, attempt)
        destination = batch.destination
        return Request(
            handle,
            destination.event_source.value,
            destination.event_source_id,
            batch.test_event_code,
            bodies,
        )

    def _accepted(self, queue: Queue, batch: Batch, attempt: Attempt, verdict: Verdict) -> Judged:
        queue.gates.hold.open(attempt.started.mono)
        if self._withdrawn:
            self._take_out_withdrawn(list(batch.items))  # too late: they were taken
        if not verdict.failed:
            return Judged(attempt, verdict, batch.items, ())
        failed = set(verdict.failed)
        accepted, refused = [], []
        for index, item in enumerate(batch.items):
            if index in failed or item.event_id in failed:
                refused.append((item, _refusal(verdict)))
            else:
                accepted.append(item)
        return Judged(attempt, verdict, accepted, refused)

    def _retry_later(
        self, queue: Queue, batch: Batch, attempt: Attempt, verdict: Verdict, now: Instant
    ) -> None:
        batch.failures += 1
        pause = max(
            self._retry.pause(batch.failures, self._rng),
            retry_after_seconds(verdict.retry_after, now) or 0.0,
            verdict.rule.pause,
        )
        queue.gates.hold.probe_failed(pause, now.mono, attempt.started.mono)
        if verdict.rule.unknown:
            # TikTok may have taken the events as early as the request began.
            first_ms = attempt.started.wall_ms
            for item in batch.items:
                if item.first_unknown_ms is None:
                    item.first_unknown_ms = first_ms
                    item.unknown_cause = verdict.cause
        heapq.heappush(queue.retrying, (now.mono + pause, next(self._order), batch))

    def _close_gates(
        self, queue: Queue, batch: Batch, attempt: Attempt, verdict: Verdict, now: Instant
    ) -> None:
        queue.ready.appendleft(batch)
        asked = retry_after_seconds(verdict.retry_after, now)
        state = GateState.THROTTLED if verdict.kind is Kind.THROTTLED else GateState.HELD
        reason = f"{verdict.cause}: {verdict.rule.why}"
        group = self._groups[self._token_group[batch.destination]]
        for one in group if verdict.rule.scope is Scope.APP else (queue,):
            hold = one.gates.hold
            failures = hold.next_failure(attempt.started.mono)
            pause = asked if asked is not None else self._retry.pause(failures, self._rng)
            hold.close(state, reason, max(pause, _SHORTEST_HOLD), now.mono, attempt.started.mono)

    def _rejected(
        self, queue: Queue, batch: Batch, attempt: Attempt, verdict: Verdict, now: Instant
    ) -> Judged:
        blame, items = verdict.blame, batch.items
        # A test code that came with the events is theirs; the destination's is its set-up.
        theirs = blame.field == "test_event_code" and (
            batch.test_event_code != batch.destination.test_event_code
        )
        if blame.envelope and not theirs:
            self._close_gates(queue, batch, attempt, _as_hold(verdict), now)
            return Judged(attempt, verdict, (), (), _cleared(items))
        queue.gates.hold.open(attempt.started.mono)
        if len(items) == 1 or blame.envelope:
            return Judged(attempt, verdict, (), [(item, _refusal(verdict)) for item in items])
        if blame.event is None:
            queue.ready.extendleft(reversed(batch.halves()))
            return Judged(attempt, verdict, (), ())
        guilty = items[blame.event]
        rest = items[: blame.event] + items[blame.event + 1 :]
        queue.ready.appendleft(batch.part(rest))
        return Judged(attempt, verdict, (), [(guilty, _refusal(verdict))])

    # Events whose time is over

    def _sweep(self, now: Instant) -> list[tuple[Item, Refused]]:
        expired = []
        for queue in self.queues.values():
            for items in queue.waiting():
                expired += self._take_out_expired(items, now)
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

    def _take_out_expired(self, items: list[Item], now: Instant) -> list[tuple[Item, Refused]]:
        now_ms, give_up_ms = now.wall_ms, self._retry.give_up_after * 1000
        expired = [
            (item, refused)
            for item in items
            if (refused := _expiry(item, now_ms, give_up_ms)) is not None
        ]
        if expired:
            gone = {item for item, _ in expired}
            items[:] = [item for item in items if item not in gone]
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


def _refusal(verdict: Verdict) -> Refused:
    """TikTok's refusal of one event; its text may quote the value, so it is redacted."""
    if verdict.code is None and verdict.http_status == 413:  # noqa: PLR2004  HTTP: content too large
        return Refused(Reason.TOO_LARGE, "TikTok refuses a request of this size (HTTP 413)")
    detail = redact(verdict.message or "") or verdict.rule.why
    return Refused(Reason.REJECTED, detail, verdict.blame.field)


def _as_hold(verdict: Verdict) -> Verdict:
    """A rejection of the envelope: the destination's own set-up is wrong, no event is."""
    rule = verdict.rule._replace(
        kind=Kind.HELD, why=f"TikTok refuses {verdict.blame.field}: check the destination"
    )
    return verdict._replace(kind=Kind.HELD, rule=rule)


def _expiry(item: Item, now_ms: int, give_up_ms: float) -> Refused | None:
    """Whether an event's time is over.

    One that TikTok may have taken is repeated only while a repeat is surely within TikTok's own
    window; one that was only ever refused waits as long as it is not too old.
    """
    if item.first_unknown_ms is not None:
        if now_ms - item.first_unknown_ms >= give_up_ms:
            return Refused(
                Reason.RETRIES_EXHAUSTED,
                "no attempt had a known outcome within retry.give_up_after",
            )
        return None
    mapped = item.mapped
    if mapped is not None and now_ms - mapped.event_time_ms > mapped.destination.max_age_ms:
        return Refused(
            Reason.TOO_OLD,
            "the event became too old while its destination took nothing",
            "event_time",
        )
    return None
