"""A process's other edges: its local stores, the state topic, TikTok. Each answers in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from consumer.messages import LookUp, OpenStore, StateChunk, StateRecord, StoreMarks
from consumer.verdict import Answer
from tests.simulation.assembly import PIXELS
from tests.simulation.stores import DiskError
from tests.simulation.tiktok import BAD, Call, Sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.messages import Action, ReadState
    from consumer.requests import Request
    from tests.simulation.process import Process

_BAD = BAD.encode()
_TIMEOUT = Answer(None, b"", None, "timeout")
_NOT_SENT = Answer(None, b"", None, "not_sent")
_CONNECTS, _CONNECT_TIME = 0.2, 0.2
"""Share of the requests that need a new connection, and how long that takes at most."""

_READ_TIME = 10.0
_RECORDS_AT_ONCE = 12


def ask_store(process: Process, action: LookUp | OpenStore | StoreMarks) -> list[Action]:
    """Asks a local store; it answers at once, as in `consumer.pipeline`."""
    engine, stores, now = process.engine, process.stores, process.now
    try:
        match action:
            case LookUp(handle, tp, keys):
                return engine.looked_up(handle, stores.accepted_at(tp, keys), now)
            case OpenStore(handle, tp):
                return engine.store_opened(handle, stores.open(tp), now)
            case StoreMarks(handle, tp, marks, reached):
                stores.mark(tp, marks, reached)
                return engine.marked(handle, now)
    except DiskError as error:
        lost = engine.store_lost(action.tp, now) if error.lost else []
        return [*lost, *engine.store_failed(action.handle, now)]


def read_state(process: Process, action: ReadState) -> None:
    """Reads a chunk of a state partition; what takes too long has failed."""
    handle, tp, start, end = action
    world, rng, link = process.world, process.rng, process.link
    answered: list[bool] = []

    def once(step: Callable[[], None]) -> None:
        if not answered:
            answered.append(True)
            step()

    def there() -> None:
        if world.broker.is_down(tp):
            return
        log = world.broker.log(tp)
        at = log.start if start is None else start
        if at > log.high:
            chunk = StateChunk((), log.high, log.start, log.high)
        else:
            entries, reached = log.read(at, end, 1 + rng.randrange(_RECORDS_AT_ONCE))
            records = [StateRecord(e.offset, e.timestamp, e.value) for e in entries]
            chunk = StateChunk(records, max(reached, at), log.start, log.high)
        took = lambda: once(lambda: process.state_read(handle, chunk))  # noqa: E731  delivered below
        link.back(0.01 * rng.random(), lambda: process.deliver(took))

    failed = lambda: once(lambda: process.state_unread(handle))  # noqa: E731  delivered below
    link.out(0.002 + 0.01 * rng.random(), there)
    world.clock.after(_READ_TIME, lambda: process.deliver(failed))


def send(process: Process, request: Request) -> None:
    """Sends a request to TikTok; one that is not answered in time has failed.

    As `consumer.client` it asks for the lease once more when the connection stands.
    """
    world, handle = process.world, request.handle
    events = [Sent(orjson.loads(body)["event_id"], bad=_BAD in body) for body in request.events]

    def answer(given: Answer) -> None:
        if not call.ended:
            process.deliver(lambda: process.answered(call, handle, given))

    def begin() -> None:
        if call.ended:
            return
        if process.engine.lease.holds(process.now.mono):
            call.began = world.clock.now
            world.judge.attempts.began(process, call)
            world.tiktok.take(call)
        else:
            world.clock.after(0.0, lambda: answer(_NOT_SENT))

    pixel = PIXELS.index(request.event_source_id)
    call = Call(world.next_call(), pixel, events, answer)
    process.calls[handle] = call
    world.judge.attempts.decided(process, call, handle)

    def give_up() -> None:
        # Whether it was sent is looked at when the process comes to it: it may have been suspended.
        process.answered(call, handle, _TIMEOUT if call.began > 0 else _NOT_SENT)

    world.clock.after(world.setup.request_timeout, lambda: process.deliver(give_up))
    if process.rng.random() < _CONNECTS:
        seconds = _CONNECT_TIME * process.rng.random()
        world.clock.after(seconds, lambda: process.deliver(begin))
    else:
        begin()
