"""What meets seldom: a hand-over and a late acceptance, a lost store and another owner."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from consumer.batch import BatchLimits
from consumer.engine import EngineSettings
from consumer.errors import SourceError
from consumer.event import Destination, EventSource, TopicPartition
from consumer.limits import RetryPolicy
from consumer.messages import Acknowledged
from consumer.pipeline import Pipeline
from consumer.source_events import AssignedPartition, PositionChange
from consumer.state_phases import SUPERSEDED
from consumer.state_records import Kind, decode
from tests.support.state_world import MemoryStores
from tests.support.world import (
    BOUND_TO,
    OTHER_PIXEL,
    PIXEL,
    RETRY,
    STATE,
    TIMEOUT,
    TOPIC,
    World,
    code,
    event,
    ok,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.messages import Produce
    from consumer.verdict import Answer

FIRST = TopicPartition(TOPIC, 0)
LOG = TopicPartition(STATE, 0)
PIXELS = (Destination(EventSource.WEB, PIXEL), Destination(EventSource.WEB, OTHER_PIXEL))
ONE_BY_ONE = BatchLimits(max_events=1)
SLOW = EngineSettings(patience=RetryPolicy(initial=30.0, maximum=30.0))


def kinds(world: World) -> list[Kind]:
    """What the records of the first state partition are."""
    values = [decode(record.value) for record in world.state_topic.logs[LOG].values()]
    return [value.kind for value in values if value is not None]


def test_nobody_is_told_that_all_is_over_while_an_acceptance_is_not_written() -> None:
    """The next owner would send what TikTok is known to have: the word would come before it."""
    away = True

    def broker(produce: Produce) -> Acknowledged:
        value = decode(produce.value)
        if away and value is not None and value.kind is Kind.ACCEPTED and value.keys:
            return Acknowledged(produce.handle, "retriable", "not enough replicas")
        return world.write(produce)

    world = World(batch=ONE_BY_ONE, state_answer=broker, settings=SLOW)
    world.take_over()
    world.produce(event("a"))
    world.run(0.5)
    away = False
    world.revoke(0, seconds=0.1)
    world.run(1.0)
    assert world.released
    assert kinds(world) == [Kind.OPEN, Kind.ATTEMPTED]
    heir = world.successor(state_answer=None)
    heir.take_over()
    heir.read()
    world.run(40.0)
    heir.run(40.0)
    assert heir.sent_ids() == []
    assert heir.outcomes() == {0: "duplicate"}


def test_a_crash_delays_only_the_next_owner() -> None:
    """Who takes the partition over after that, from a clean hand-over, begins at once."""
    crashed = World(batch=ONE_BY_ONE, answer=lambda _request: None)
    crashed.take_over()
    crashed.append(event("a"))
    crashed.read()
    heir = crashed.successor(answer=lambda _request: ok())
    heir.take_over()
    heir.run(20.0)
    heir.read()
    heir.run(1.0)
    heir.revoke(0)
    assert heir.released
    for stores in (heir.stores, MemoryStores()):
        third = heir.successor(stores=stores)
        third.take_over()
        third.run(0.1)
        assert third.holds() == set()


def test_a_late_announce_of_a_stranger_does_not_hide_an_owner_that_crashed() -> None:
    """Only who opened after it has waited for it."""
    before = World(batch=ONE_BY_ONE, answer=lambda _request: None)
    before.take_over()
    before.produce(event("a"))
    late = before.appended[-1]
    crashed = before.successor()
    crashed.take_over()
    crashed.run(20.0)
    crashed.produce(event("b"))
    before.write(late)
    closed = decode(late.value)
    assert closed is not None
    crashed.state_topic.add(LOG, closed._replace(kind=Kind.CLOSED), crashed.clock.wall_ms)
    heir = crashed.successor(stores=MemoryStores())
    heir.take_over()
    heir.run(5.0)
    assert heir.holds() == {"takeover"}


def test_a_lost_store_does_not_take_a_partition_back_from_another_owner() -> None:
    """Only a proof of membership does; what was proven before says nothing."""
    world = World(batch=ONE_BY_ONE, answer=lambda _request: None)
    world.take_over()
    world.produce(event("a"))
    world.successor().take_over()
    world.commit_error = "ILLEGAL_GENERATION"
    world.produce(event("b"))
    before = kinds(world)
    world.lose_store()
    world.run(15.0)
    assert world.holds() == {SUPERSEDED}
    assert kinds(world) == before
    assert world.sent_ids() == ["a"]
    world.commit_error = None
    world.run(30.0)
    assert world.holds() == set()


def test_a_retry_topic_made_again_does_not_keep_old_attempts_for_ever() -> None:
    """What an earlier owner attempted and this one sent is over."""
    crashed = World(batch=ONE_BY_ONE, answer=lambda _request: None, parks=True)
    crashed.take_over()
    crashed.append(event("a"))
    crashed.read()
    heir = crashed.successor(answer=lambda _request: ok())
    heir.take_over()
    heir.run(20.0)
    parked = TopicPartition(RETRY, 0)
    heir._do(heir.engine.lost([parked], heir.clock.now))
    heir.own(AssignedPartition(parked, 0, None, bound_to=BOUND_TO, beside=FIRST))
    heir.run(20.0)
    heir.read()
    heir.run(5.0)
    heir.produce(event("b"))
    heir.run(5.0)
    reached = heir.marks[-1].reached
    assert reached.floor >= reached.next_offset - 2


def slow_to_park(
    answer: Callable[[], Answer | None], parking: list[Produce], retry: RetryPolicy
) -> World:
    """A world whose first pixel answers this, and whose retry topic acknowledges when asked to."""
    return World(
        answer=lambda request: ok() if request.event_source_id == OTHER_PIXEL else answer(),
        destinations=PIXELS,
        batch=ONE_BY_ONE,
        retry=retry,
        park_answer=parking.append,
        parks=True,
    )


def test_a_key_counts_from_its_first_attempt_while_its_event_is_being_parked() -> None:
    """Its next record may be sent before the retry topic has acknowledged the first one."""
    answer = TIMEOUT
    parking: list[Produce] = []
    world = slow_to_park(lambda: answer, parking, RetryPolicy(1.0, 5.0))
    world.take_over()
    world.produce(event("a", event_source_id=PIXEL))
    world.run(3.0)
    answer = code(40105, "the token is over")
    world.run(80.0)
    assert len(parking) == 1
    answer = ok()
    world.produce(event("a", event_source_id=PIXEL))
    world.run(10.0)
    assert world.outcomes() == {1: "delivered"}
    assert world.repeats()[-1] == {"unfinished": 1}
    world.acknowledge(world.put_by(parking[0]))
    world.read(topic=RETRY)
    world.run(5.0)
    assert world.outcomes(topic=RETRY) == {0: "duplicate"}
    assert world.partition().state.attempts.since == {}


def test_an_event_parked_unsent_denies_no_attempt_of_the_next_one_with_its_key() -> None:
    """The retry topic acknowledges it when the next one has been sent, and has no outcome."""
    answer: Answer | None = None
    announcing: list[Produce] = []
    parking: list[Produce] = []
    world = slow_to_park(lambda: answer, parking, RetryPolicy(1.0, 300.0))
    world.take_over()
    world.produce(event("in the air", event_source_id=PIXEL))
    world.state_answer = announcing.append
    world.produce(event("a", event_source_id=PIXEL), event("probe", event_source_id=PIXEL))
    world.run(1.0)
    world.state_answer = None
    answer = code(40105, "the token is over")
    world.reply(answer)
    for produce in announcing:
        world.acknowledge(world.write(produce))
    world.run(80.0)
    assert "a" not in world.sent_ids()
    answer = TIMEOUT
    world.produce(event("a", event_source_id=PIXEL))
    world.run(100.0)
    assert "a" in world.sent_ids()
    for produce in parking:
        world.acknowledge(world.put_by(produce))
    heir = world.successor(stores=MemoryStores())
    heir.take_over()
    heir.run(30.0)
    assert len(heir.partition().state.attempts.since) == 1


def test_what_was_attempted_is_known_when_the_retry_topic_is_made_again() -> None:
    """Its record is gone, and its producer may repeat the event."""
    answer = code(40105, "the token is over")
    world = World(
        answer=lambda request: ok() if request.event_source_id == OTHER_PIXEL else answer,
        destinations=PIXELS,
        batch=ONE_BY_ONE,
        retry=RetryPolicy(1.0, 5.0),
        parks=True,
    )
    world.take_over()
    world.produce(event("a", event_source_id=PIXEL), event("b", event_source_id=PIXEL))
    world.run(90.0)
    answer = TIMEOUT
    world.read(topic=RETRY)
    world.run(10.0)
    attempted = set(world.sent_ids()[-5:])
    assert world.repeats()[-1] == {"timeout": 1}
    parked = TopicPartition(RETRY, 0)
    world._do(world.engine.lost([parked], world.clock.now))
    world.own(AssignedPartition(parked, 0, None, bound_to=BOUND_TO, beside=FIRST))
    answer = ok()
    before = len(world.requests)
    world.produce(*(event(name, event_source_id=PIXEL) for name in attempted))
    world.run(30.0)
    assert set(world.outcomes().values()) == {"delivered"}
    assert all(world.repeats()[before:])


def test_announces_are_forgotten_when_all_their_events_are_refused() -> None:
    """Nothing else takes place then that would look at them: for days, perhaps."""
    world = World(batch=ONE_BY_ONE, answer=lambda _request: code(40002, "no such event"))
    world.take_over()
    for number in range(200):
        world.produce(event(f"e{number}"))
    world.run(5.0)
    assert set(world.outcomes().values()) == {"dead_lettered:rejected"}
    assert len(world.partition().state._floor._announced) < 20


def test_a_long_commit_interval_does_not_wake_the_engine_without_end() -> None:
    """An unanswered commit is made again when the interval is over, not before."""
    settings = EngineSettings(commit_interval=19.0, request_timeout=1.0)
    world = World(settings=settings, commits_wait=True)
    world.take_over()
    world.run(18.0)
    assert len(world.waiting_commits) == 1
    world.run(2.0)
    assert len(world.waiting_commits) == 2


def test_nothing_is_committed_before_the_broker_has_told_the_position() -> None:
    """What stands for it meanwhile would move the group back to the beginning."""
    world = World()
    world.assign(0, hold="position_unknown")
    world.run(10.0)
    assert world.commits == []
    world.move(PositionChange(FIRST, 700, None, None))
    world.run(10.0)
    assert {commit[FIRST] for commit in world.commits} == {700}


async def test_nothing_drains_after_a_failure() -> None:
    """Nothing can settle any more: a fenced member leaves at once, not at its deadline."""
    world = World()
    nobody = cast("Any", None)
    pipeline = Pipeline(
        world.engine,
        sender=nobody,
        schemas=nobody,
        stores=nobody,
        observer=nobody,
        drain_seconds=60.0,
    )
    pipeline.source_failed(SourceError("the member was fenced", "start it once"))
    async with asyncio.timeout(1.0):
        assert await pipeline.partitions_revoked([FIRST]) == {}
    assert isinstance(pipeline.failed.exception(), SourceError)
