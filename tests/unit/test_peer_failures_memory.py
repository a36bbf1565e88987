"""How comparable systems lost or repeated events with their memory: the same, the other result.

Each test names where it was seen. What a broker and a disk do is played by a small world here.
"""

from __future__ import annotations

import pytest

from consumer.arrivals import REGISTRY_UNAVAILABLE
from consumer.batch import BatchLimits
from consumer.event import Destination, EventSource, TopicPartition
from consumer.messages import (
    Acknowledged,
    OpenStore,
    ReadState,
    RegistryUnavailable,
    SchemaFound,
)
from consumer.parking import RETRY_REFUSED
from consumer.recall import STATE_REFUSED, STATE_UNREAD
from consumer.settle import LETTER_REFUSED, STORE_FAILED
from consumer.source_events import PositionChange
from consumer.state_phases import REBUILDING, SUPERSEDED, TAKEOVER
from tests.support.world import OTHER_PIXEL, PIXEL, STATE, TIMEOUT, TOPIC, World, code, event, ok

FIRST = TopicPartition(TOPIC, 0)
LOG = TopicPartition(STATE, 0)
ONE_BY_ONE = BatchLimits(max_events=1)


def with_history(events: int = 30) -> World:
    """A process that settled events, left cleanly, and whose disk is gone."""
    world = World(batch=ONE_BY_ONE)
    world.take_over()
    world.produce(*(event(str(n)) for n in range(events)))
    world.run(3.0)
    world.revoke(0)
    assert len(world.outcomes()) == events
    world.stores.wipe(FIRST)
    world.group.clear()
    return world


def replayed(world: World) -> World:
    """What the next owner makes of the same records, read from the start."""
    world.partition().position = 0
    world.read()
    world.run(20.0)
    return world


# quix


@pytest.mark.parametrize("markers", [1, 7])
def test_quix_1017_a_rebuild_ends_at_the_markers_of_transactions(markers: int) -> None:
    """Offsets without a record stand between any two, and at the end: it ends by position."""
    before = with_history(0)
    for n in range(20):
        before.state_topic.skip(LOG, markers)
        before.take_over()
        before.produce(event(str(n)))
        before.run(1.0)
        before.revoke(0)
    before.state_topic.skip(LOG, markers)
    before.stores.wipe(FIRST)
    world = before.successor()
    world.take_over()
    assert world.holds() == set()
    assert set(replayed(world).outcomes().values()) == {"duplicate"}
    assert not world.requests


def test_quix_1114_a_rebuild_ends_though_retention_deletes_what_it_was_to_read() -> None:
    """Before it, and while it reads: what is gone is older than anybody asks for."""
    before = with_history()
    before.state_topic.delete_before(LOG, 5)
    world = before.successor(state_unread=True)
    world.take_over()
    world.state_topic.delete_before(LOG, 40)
    world.state_unread = False
    world.run(20.0)
    assert world.holds() == set()
    outcomes = replayed(world).outcomes()
    assert outcomes[29] == "duplicate"
    assert len(outcomes) == 30


def test_quix_1131_a_store_that_somebody_else_has_open_is_asked_for_again() -> None:
    """The process before holds the lock a little longer: nothing is skipped, nothing ends."""
    world = with_history().successor(store_fails=True)
    world.take_over()
    world.run(60.0)
    assert world.holds() == {STORE_FAILED, REBUILDING}
    assert sum(isinstance(action, OpenStore) for action in world.log) > 3
    world.store_fails = False
    world.run(20.0)
    assert world.holds() == set()
    assert set(replayed(world).outcomes().values()) == {"duplicate"}


@pytest.mark.parametrize("how", ["lose", "revoke"])
def test_quix_1146_a_rebalance_in_the_middle_of_a_rebuild_begins_it_again(how: str) -> None:
    """The rebuild of before is over, its answers concern nobody; the next one is whole."""
    world = with_history().successor(state_unread=True)
    world.take_over()
    reads = [action for action in world.log if isinstance(action, ReadState)]
    assert reads
    if how == "lose":
        world.lose(0)
    else:
        world.revoke(0)
        assert world.released == [{FIRST: None}]
    world.state_unread = False
    for read in reads:
        chunk = world.state_topic.chunk(read)
        world._do(world.engine.state_read(read.handle, chunk, world.clock.now))
    assert not world.stores.keys
    world.run(60.0)
    assert FIRST not in world.engine.partitions
    world.take_over()
    world.run(20.0)
    assert world.holds() == set()
    assert set(replayed(world).outcomes().values()) == {"duplicate"}
    assert not world.requests


# rudder


def test_rudder_709_a_key_is_not_stored_before_its_event_was_accepted() -> None:
    """Neither on the disk nor in the state topic: who dies before that leaves it to be sent."""
    before = World(answer=lambda _request: None, batch=ONE_BY_ONE)
    before.take_over()
    before.produce(event("a"))
    before.run(5.0)
    assert not before.stores.keys
    world = before.successor(answer=lambda _request: ok())
    world.take_over()
    world.read()
    world.run(12.0)
    assert world.outcomes() == {0: "delivered"}
    assert world.sent_ids() == ["a"]


@pytest.mark.parametrize("dies", ["before the record", "before the mark", "before the commit"])
def test_rudder_709_a_crash_after_the_acceptance_neither_loses_nor_forgets(dies: str) -> None:
    """From the record in the state topic on, the next owner knows; before it, it repeats."""
    before = World(answer=lambda _request: None, batch=ONE_BY_ONE)
    before.take_over()
    before.produce(event("a"))
    before.commits_wait = True
    before.marks_fail = dies == "before the mark"
    if dies == "before the record":
        before.state_answer = lambda _produce: None
    before.reply(ok())
    world = before.successor(
        answer=lambda _request: ok(), commits_wait=False, marks_fail=False, state_answer=None
    )
    world.take_over()
    world.read()
    world.run(12.0)
    known = dies != "before the record"
    assert world.outcomes() == {0: "duplicate" if known else "delivered"}
    assert world.repeats() == ([] if known else [{"unfinished": 1}])
    assert world.group_offset() == 1


# bento, jitsu, arroyo


@pytest.mark.parametrize("fails", ["store_fails", "marks_fail"])
def test_bento_drop_on_err_an_error_of_the_store_stops_the_partition(fails: str) -> None:
    """It neither drops the event nor lets it pass unmarked."""
    world = World()
    world.assign(0)
    setattr(world, fails, True)
    world.produce(event())
    world.run(600.0)
    assert world.outcomes() == {}
    assert world.holds() == {STORE_FAILED}
    assert world.committed() == 0
    setattr(world, fails, False)
    world.run(16.0)
    assert world.outcomes() == {0: "delivered"}
    assert len(world.requests) == 1


def test_jitsu_what_is_queued_is_never_committed() -> None:
    """Open batch, back-off, held, announced: the group stands before the first of them."""
    world = World(answer=lambda _request: TIMEOUT, batch=BatchLimits(max_events=2, linger=600.0))
    world.take_over()
    world.produce(event("a"), event("b"), event("open"))
    world.run(30.0)
    assert world.group_offset() == 0
    world.answer = lambda _request: code(40101)
    world.run(120.0)
    assert world.group_offset() == 0
    world.state_answer, world.answer = (lambda _produce: None), lambda _request: ok()
    world.run(120.0)
    assert world.group_offset() == 0
    assert world.commits == [{FIRST: 0}] * len(world.commits)


def test_arroyo_412_what_comes_while_a_partition_is_paused_waits_in_its_order() -> None:
    """It is neither dropped nor sent unasked; when the pause ends all of it is settled."""
    world = World()
    world.take_over()
    world.state_unread = True
    world.state_topic.skip(LOG)
    world.produce(event("a"))
    world.lose_store()
    assert FIRST in world.paused
    for n in range(20):
        world.produce(event(str(n)))
        world.run(1.0)
    assert not world.outcomes()
    world.state_unread = False
    world.run(30.0)
    assert set(world.outcomes()) == set(range(21))
    assert world.sent_ids() == ["a", *map(str, range(20))]


# spring-kafka


def test_spring_kafka_4332_every_pause_has_a_reason_that_ends() -> None:
    """All reasons at once, each ended by its own remedy; then nothing is paused."""
    world = World(
        letter_answer=lambda produce: Acknowledged(produce.handle, "retriable"),
        registry=lambda _id: RegistryUnavailable("down"),
    )
    world.assign(0, hold="truncated")
    world.store_fails = True
    world.move(PositionChange(FIRST, 0, None, None))
    world.produce(event("a"), b"no event", b"?007" + event("b"))
    world.move(PositionChange(FIRST, 3, "truncated", None))
    reasons = {"truncated", STORE_FAILED, LETTER_REFUSED, REGISTRY_UNAVAILABLE}
    assert world.holds() == reasons
    world.store_fails = False
    world.run(16.0)
    assert world.holds() == reasons - {STORE_FAILED}
    world.letter_answer = lambda produce: Acknowledged(produce.handle)
    world.run(16.0)
    assert world.holds() == {"truncated", REGISTRY_UNAVAILABLE}
    world.registry = lambda _id: SchemaFound(("{}",))
    world.run(31.0)
    assert world.holds() == {"truncated"}
    assert world.paused == {FIRST}
    world.move(PositionChange(FIRST, 3, None, None))
    assert world.holds() == set()
    assert world.idle()


def test_spring_kafka_4332_every_pause_of_the_memory_has_a_reason_that_ends() -> None:
    """From a takeover that meets every trouble there is, to an owner that is questioned."""
    before = World(answer=lambda _request: None, batch=ONE_BY_ONE)
    before.take_over()
    before.produce(event("a"))
    world = before.successor(
        answer=lambda _request: ok(),
        store_fails=True,
        state_unread=True,
        state_answer=lambda produce: Acknowledged(produce.handle, "retriable"),
    )
    world.take_over()
    remedies = [
        ({STORE_FAILED, REBUILDING}, "store_fails", False),
        ({STATE_REFUSED, REBUILDING}, "state_answer", None),
        ({STATE_UNREAD, REBUILDING}, "state_unread", False),
    ]
    for reasons, name, value in remedies:
        world.run(60.0)
        assert world.holds() == reasons
        setattr(world, name, value)
        world.tick()
        while world.holds() == reasons:
            world.run(0.5)
    assert world.holds() == {TAKEOVER}
    assert world.paused == {FIRST}
    world.run(11.0)
    assert world.holds() == set()
    assert world.paused == set()
    zombie = world.successor(stores=type(world.stores)())
    zombie.take_over()
    world.produce(event("b"))
    world.run(0.5)
    assert world.holds() == {SUPERSEDED}
    world.run(30.0)
    assert world.holds() == set()
    world.read()
    world.run(5.0)
    assert world.paused == set()
    assert world.idle()


def test_spring_kafka_4332_a_retry_topic_that_refuses_records_pauses_until_it_takes_them() -> None:
    """What is behind would only pile up in memory; the destination that can send goes on."""
    world = World(
        answer=lambda request: ok() if request.event_source_id == OTHER_PIXEL else code(40101),
        destinations=(
            Destination(EventSource.WEB, PIXEL),
            Destination(EventSource.WEB, OTHER_PIXEL),
        ),
        park_answer=lambda produce: Acknowledged(produce.handle, "retriable"),
        parks=True,
    )
    world.take_over()
    world.produce(*(event(str(n), event_source_id=PIXEL) for n in range(5)))
    world.run(90.0)
    assert world.holds() == {RETRY_REFUSED}
    assert FIRST in world.paused
    world.park_answer = None
    world.run(20.0)
    assert world.holds() == set()
    assert world.paused == set()
    assert {item.record.offset for item in world.parked} >= {0, 1, 2, 3}
