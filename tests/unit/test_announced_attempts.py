"""An event's key is announced before it is sent; what an owner that crashed leaves of it."""

from __future__ import annotations

import pytest

from consumer.batch import BatchLimits
from consumer.engine import STATE_REFUSED
from consumer.event import Destination, EventSource, TopicPartition
from consumer.limits import RetryPolicy
from consumer.messages import Acknowledged, Produce, Send
from consumer.state_phases import TAKEOVER
from consumer.state_records import Kind, decode
from tests.support.world import (
    OTHER_PIXEL,
    PIXEL,
    STATE,
    TIMEOUT,
    TOPIC,
    World,
    code,
    event,
    ok,
)

FIRST = TopicPartition(TOPIC, 0)
LOG = TopicPartition(STATE, 0)
PIXELS = (Destination(EventSource.WEB, PIXEL), Destination(EventSource.WEB, OTHER_PIXEL))
ONE_BY_ONE = BatchLimits(max_events=1)
HOUR = 3600.0


def silent(**fields: object) -> World:
    """A world with one partition in which every request stays in the air."""
    world = World(answer=lambda _request: None, batch=ONE_BY_ONE, **fields)  # type: ignore[arg-type]  # its fields
    world.take_over()
    return world


def kinds(world: World) -> list[Kind]:
    """What the records of the first state partition say."""
    return [value.kind for value in world.state_topic.values(LOG)]


def order(world: World) -> list[str]:
    """What was done, as far as it matters for the order: state records, requests, outcomes."""
    names = []
    for action in world.log:
        if isinstance(action, Produce):
            value = decode(action.value)
            names.append(value.kind.name.lower() if value else "letter")
        elif isinstance(action, Send):
            names.append("send")
    return names


def test_a_key_is_announced_and_acknowledged_before_its_first_request() -> None:
    """Nobody has to guess what a process that died had in the air."""
    world = silent()
    waiting: list[Produce] = []
    world.state_answer = waiting.append
    world.produce(event())
    world.run(5.0)
    assert not world.requests
    assert [value.kind for p in waiting if (value := decode(p.value))] == [Kind.ATTEMPTED]
    world.acknowledge(world.write(waiting[0]))
    assert world.sent_ids() == ["e1"]


def test_the_records_of_an_events_way_come_in_their_order() -> None:
    """Opened, attempted, sent, accepted."""
    world = World()
    world.take_over()
    world.produce(event("a"), event("b"))
    world.run(1.0)
    assert order(world) == ["open", "attempted", "send", "accepted"]


def test_a_repeat_is_not_announced_again() -> None:
    """The first announcement holds until the outcome is known."""
    answers = [TIMEOUT, TIMEOUT, code(50000)]
    world = World(answer=lambda _request: answers.pop() if answers else ok())
    world.take_over()
    world.produce(event())
    world.run(60.0)
    assert order(world) == ["open", "attempted", "send", "send", "send", "send", "accepted"]


@pytest.mark.parametrize("refusal", [code(40100), code(40132), code(40101)])
def test_what_was_refused_for_certain_is_unsaid_and_announced_again(refusal: object) -> None:
    """A throttle or a hold took nothing: the next owner need not count from this attempt."""
    answers = [refusal]
    world = World(answer=lambda _request: answers.pop() if answers else ok())  # type: ignore[arg-type,return-value]  # an Answer
    world.take_over()
    world.produce(event())
    world.run(60.0)
    assert order(world) == ["open", "attempted", "send", "refused", "attempted", "send", "accepted"]


def test_a_refusal_after_an_unknown_attempt_unsays_nothing() -> None:
    """TikTok may have taken the first one."""
    answers = [code(40100), TIMEOUT]
    world = World(answer=lambda _request: answers.pop() if answers else ok())
    world.take_over()
    world.produce(event())
    world.run(60.0)
    assert order(world) == ["open", "attempted", "send", "send", "send", "accepted"]


def test_a_rejected_event_is_unsaid_and_the_parts_of_its_batch_stay_announced() -> None:
    """Whom a search for the guilty one leaves over is sent again at once."""

    def answer(request: object) -> object:
        bodies: list[bytes] = request.events  # type: ignore[attr-defined]  # a Request
        bad = any(b'"bad"' in body for body in bodies)
        return code(40002, "Invalid value for page: not valid.") if bad else ok()

    world = World(answer=answer, batch=BatchLimits(max_events=4))  # type: ignore[arg-type]  # as Request
    world.take_over()
    world.produce(event("a"), event("b"), event("bad"), event("c"))
    world.run(5.0)
    values = world.state_topic.values(LOG)
    assert [len(v.keys) // 16 for v in values if v.kind is Kind.ATTEMPTED] == [4]
    assert [len(v.keys) // 16 for v in values if v.kind is Kind.REFUSED] == [1]
    assert world.outcomes()[2] == "dead_lettered:rejected"


def test_a_state_topic_that_refuses_records_stops_its_partition() -> None:
    """Nothing is sent unannounced; it is tried again, and goes on when the topic does."""
    world = silent()
    world.state_answer = lambda produce: Acknowledged(produce.handle, "retriable")
    world.produce(event())
    world.run(300.0)
    assert not world.requests
    assert world.holds() == {STATE_REFUSED}
    assert world.paused == {FIRST}
    assert 20 <= len(world.appended) <= 300
    world.state_answer = None
    world.run(16.0)
    assert world.holds() == set()
    assert world.sent_ids() == ["e1"]


def test_an_acceptance_is_an_outcome_when_the_state_topic_and_the_disk_have_it() -> None:
    """Not before either; the event is not sent again meanwhile."""
    world = silent()
    world.produce(event())
    world.state_answer = lambda produce: Acknowledged(produce.handle, "retriable")
    world.reply(ok())
    world.run(60.0)
    assert world.outcomes() == {}
    assert world.group_offset() == 0
    world.state_answer, world.marks_fail = None, True
    world.run(60.0)
    assert kinds(world)[-1] is Kind.ACCEPTED
    assert world.outcomes() == {}
    world.marks_fail = False
    world.run(20.0)
    assert world.outcomes() == {0: "delivered"}
    assert len(world.requests) == 1


# What a crash leaves


def test_an_attempt_whose_outcome_nobody_kept_is_repeated_and_says_why() -> None:
    """The next owner waits until it must have ended, and counts the repeat by its cause."""
    before = silent()
    before.produce(event("a"))
    world = before.successor(answer=lambda _request: ok())
    world.take_over()
    world.read()
    world.run(10.9)
    assert world.holds() == {TAKEOVER}
    assert not world.requests
    world.run(1.0)
    assert world.outcomes() == {0: "delivered"}
    assert world.repeats() == [{"unfinished": 1}]


def test_a_first_attempt_is_no_repeat() -> None:
    """Nor is one after attempts that were refused for certain."""
    answers = [code(40100), code(40101)]
    world = World(answer=lambda _request: answers.pop() if answers else ok())
    world.take_over()
    world.produce(event())
    world.run(120.0)
    assert world.outcomes() == {0: "delivered"}
    assert world.repeats() == [{}, {}, {}]


def test_a_repeat_tells_the_cause_of_the_attempt_that_made_it_one() -> None:
    """The first unknown one's, however many follow."""
    answers = [code(50000), TIMEOUT]
    world = World(answer=lambda _request: answers.pop() if answers else ok())
    world.take_over()
    world.produce(event("a"), event("b"))
    world.run(120.0)
    first, second, third = world.repeats()
    assert first == {}
    assert second == third
    assert list(second.values()) == [2]


@pytest.mark.parametrize("wiped", [False, True])
def test_an_unknown_attempt_survives_crashes_and_is_given_up_in_time(wiped: bool) -> None:  # noqa: FBT001  a parameter
    """From the first of all attempts, whoever made it: no repeat can count twice at TikTok."""
    world = silent(retry=RetryPolicy(give_up_after=4 * HOUR))
    world.produce(event())
    began = world.clock.mono
    for _ in range(4):
        if wiped:
            world.stores.wipe(FIRST)
        world = world.successor(answer=lambda _request: TIMEOUT)
        world.take_over()
        world.read()
        world.run(HOUR)
        assert world.attempts
    assert world.outcomes() == {0: "dead_lettered:retries_exhausted"}
    assert began + 3.9 * HOUR < world.attempts[-1].started.mono < began + 4 * HOUR
    world.run(1.0)
    assert world.group_offset() == 1


def test_an_unknown_attempt_is_known_to_the_one_after_the_next_though_it_was_looked_up() -> None:
    """The event waits for a held destination, others are marked: then that owner crashes, too."""
    before = silent(destinations=PIXELS)
    before.produce(event("x", event_source_id=PIXEL))
    first_ms = before.clock.wall_ms

    def one_is_held(request: object) -> object:
        return ok() if request.event_source_id == OTHER_PIXEL else code(40101)  # type: ignore[attr-defined]  # a Request

    second = before.successor(answer=one_is_held)
    second.take_over(0, 1)
    second.run(12.0)
    second.produce(event("hold", event_source_id=PIXEL), partition=1)
    second.read()
    second.produce(event("y", event_source_id=OTHER_PIXEL))
    second.run(0.1)
    assert second.outcomes() == {1: "delivered"}
    assert "x" not in second.sent_ids()
    third = second.successor(answer=lambda _request: None)
    third.take_over()
    third.read()
    third.run(12.0)
    assert third.sent_ids() == ["x"]
    (item,) = third.partition().pending.values()
    assert item.first_unknown_ms == first_ms


def test_what_was_announced_and_not_sent_is_unsaid_when_its_partition_is_handed_over() -> None:
    """The next owner need not give up what nobody has sent, should its destination stay shut."""
    announcing: list[Produce] = []
    world = silent()
    world.produce(event("in the air"))
    world.state_answer = announcing.append
    world.produce(event("unsent"), event("probe"))
    world.run(1.0)
    world.state_answer = None
    world.reply(code(40101))
    world.answer = lambda _request: code(40101)
    for produce in announcing:
        world.acknowledge(world.write(produce))
    world.revoke(0, seconds=5.0)
    world.run(6.0)
    assert "unsent" not in world.sent_ids()
    heir = world.successor(answer=lambda _request: ok())
    heir.take_over()
    assert heir.partition().state.attempts.since == {}


def test_a_later_record_of_a_key_that_was_given_up_is_given_up_too() -> None:
    """It counts from the key's first attempt: beyond TikTok's window a repeat might count twice."""
    world = World(answer=lambda _request: TIMEOUT, retry=RetryPolicy(give_up_after=600.0))
    world.take_over()
    world.produce(event())
    world.run(700.0)
    sent = len(world.requests)
    world.answer = lambda _request: ok()
    world.produce(event(page={"url": "https://s.example/other"}))
    world.run(60.0)
    assert set(world.outcomes().values()) == {"dead_lettered:retries_exhausted"}
    assert len(world.requests) == sent


def test_an_acceptance_that_was_not_acknowledged_is_repeated_within_the_time_to_give_up() -> None:
    """The process died between the answer and the state record: TikTok's own window covers it."""
    before = silent()
    before.produce(event())
    before.state_answer = lambda _produce: None
    before.reply(ok())
    world = before.successor(answer=lambda _request: ok(), state_answer=None)
    world.take_over()
    world.read()
    world.run(12.0)
    assert world.outcomes() == {0: "delivered"}
    assert world.repeats() == [{"unfinished": 1}]


@pytest.mark.parametrize("marks_fail", [False, True])
def test_an_acceptance_in_the_state_topic_is_never_sent_again(marks_fail: bool) -> None:  # noqa: FBT001  a parameter
    """Crash before the commit, with or without the local mark: the next owner knows it."""
    before = World(marks_fail=marks_fail)
    before.take_over()
    before.produce(event("a"), event("b"))
    before.run(0.3)
    world = before.successor(marks_fail=False)
    world.take_over()
    world.read()
    world.run(12.0)
    assert not world.requests
    assert world.outcomes() == {0: "duplicate", 1: "duplicate"}


def test_a_machine_without_the_disk_rebuilds_it_from_the_state_topic() -> None:
    """Duplicates, and no request, however many records it takes."""
    before = World(batch=ONE_BY_ONE)
    before.take_over()
    before.produce(*(event(str(n)) for n in range(40)))
    before.run(3.0)
    before.revoke(0)
    before.stores.wipe(FIRST)
    before.group.clear()
    world = before.successor()
    world.take_over()
    assert world.partition().position == 40, "a group without offset goes on where it had come to"
    world.partition().position = 0
    world.read()
    world.run(1.0)
    assert not world.requests
    assert set(world.outcomes().values()) == {"duplicate"}
    assert len(world.outcomes()) == 40
