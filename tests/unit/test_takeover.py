"""Events whose key is announced, owners that crash, and what the next one knows of them."""

from __future__ import annotations

import pytest

from consumer.batch import BatchLimits
from consumer.engine import STATE_REFUSED, STATE_UNREAD, EngineSettings
from consumer.event import Destination, EventSource, TopicPartition
from consumer.limits import RetryPolicy
from consumer.messages import Acknowledged, Produce, Resume, Send
from consumer.offsets import CommitOffset
from consumer.source_events import AssignedPartition, PositionChange
from consumer.state_log import REBUILDING, SUPERSEDED, TAKEOVER, StateRules
from consumer.state_records import Kind, decode
from tests.support.world import (
    BOUND_TO,
    OTHER_PIXEL,
    PIXEL,
    RETRY,
    START_MS,
    STATE,
    STATE_BOUND_TO,
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


# Announced before it is sent


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


# Nothing is read before the memory is complete


def test_nothing_is_read_before_the_memory_is_complete() -> None:
    """Opening, rebuilding and waiting each hold the partition with their reason."""
    before = silent()
    before.append(event("a"))
    before.read()
    world = before.successor(state_unread=True)
    world.take_over()
    assert world.holds() == {REBUILDING, STATE_UNREAD}
    world.run(30.0)
    assert world.paused == {FIRST}
    world.state_unread = False
    world.run(16.0)
    assert world.holds() == {TAKEOVER}
    assert not any(isinstance(action, Resume) for action in world.log)
    world.run(11.0)
    assert world.holds() == set()
    assert [action for action in world.log if isinstance(action, Resume)] == [Resume(FIRST, 0)]


def test_records_that_come_all_the_same_wait_for_the_memory() -> None:
    """One read may be under way when a partition is taken over anew: none of it is sent unasked."""
    world = World()
    world.take_over()
    world.produce(event("a"))
    world.run(1.0)
    world.state_unread = True
    world.state_topic.skip(LOG)
    world.lose_store()
    world.produce(event("a"), event("b"))
    world.run(60.0)
    assert world.sent_ids() == ["a"]
    world.state_unread = False
    world.run(20.0)
    assert world.sent_ids() == ["a", "b"]
    assert world.outcomes() == {0: "delivered", 1: "duplicate", 2: "delivered"}


def test_a_request_that_ends_after_the_store_was_lost_and_found_is_looked_up_again() -> None:
    """Its batch goes on when the answer comes, though the memory has been complete for long."""
    world = silent()
    world.produce(event("a"), event("b"))
    world.lose_store()
    world.run(5.0)
    assert world.holds() == set()
    world.answer = lambda _request: ok()
    world.reply(TIMEOUT)
    world.reply(code(40100))
    world.run(20.0)
    assert world.outcomes() == {0: "delivered", 1: "delivered"}
    assert world.idle()


def test_what_waits_when_the_store_is_lost_is_looked_up_again_before_it_goes() -> None:
    """Open batches, retries, and what is being announced."""
    world = World(answer=lambda _request: TIMEOUT)
    world.take_over()
    world.produce(event("retry"))
    world.run(0.3)
    world.state_answer = lambda _produce: None
    world.produce(*(event(f"announced {n}") for n in range(10)))
    announced = world.appended[-1]
    world.state_answer = None
    world.produce(event("open"))
    world.lose_store()
    world.acknowledge(world.write(announced))
    world.answer = lambda _request: ok()
    world.run(30.0)
    assert set(world.outcomes().values()) == {"delivered"}
    assert len(world.outcomes()) == 12
    assert sorted(world.sent_ids()) == sorted({*world.sent_ids(), "retry"} | {"open"}) or (
        world.sent_ids().count("retry") >= 2
    )
    assert all(world.sent_ids().count(f"announced {n}") == 1 for n in range(10))
    assert world.idle()


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
    for _ in range(3):
        if wiped:
            world.stores.wipe(FIRST)
        world = world.successor()
        world.take_over()
        world.read()
        world.run(HOUR)
        assert world.sent_ids() == ["e1"]
    world = world.successor()
    world.take_over()
    world.read()
    world.run(HOUR)
    assert world.outcomes() == {0: "dead_lettered:retries_exhausted"}
    world.run(HOUR)
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
    second.engine.high_watermarks({FIRST: 1})
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


# Where a group goes on


def test_a_group_without_offset_goes_on_where_the_state_says_it_had_come_to() -> None:
    """Also one that would start at the log's end: what lies between is not skipped."""
    before = World()
    before.take_over()
    before.produce(event("a"), event("b"))
    before.run(1.0)
    before.revoke(0)
    world = before.successor(group={})
    world.append(event("c"))
    latest = AssignedPartition(FIRST, 3, None, bound_to=BOUND_TO, state_bound_to=STATE_BOUND_TO)
    world.own(latest)
    assert Resume(FIRST, 2) in world.log
    world.read()
    world.run(1.0)
    assert world.sent_ids() == ["c"]
    assert world.group_offset() == 3


def test_the_state_of_a_topic_that_was_made_again_says_nothing_of_its_offsets() -> None:
    """The new topic begins at its start; what was accepted stays accepted."""
    before = World()
    before.take_over()
    before.produce(event("a"), event("b"))
    before.run(1.0)
    before.revoke(0)
    world = before.successor(group={}, topic={})
    world.append(event("a"), event("c"))
    world.assign(0, bound_to=b"n" * 16)
    world.read()
    world.run(1.0)
    assert world.outcomes() == {0: "duplicate", 1: "delivered"}


def test_a_group_that_was_reset_within_the_window_finds_duplicates() -> None:
    """Somebody set its offsets to 0: nothing is sent again."""
    world = World()
    world.take_over()
    world.produce(event("a"), event("b"))
    world.run(1.0)
    world.revoke(0)
    world.group[FIRST] = CommitOffset(0)
    world.take_over()
    world.read()
    world.run(1.0)
    assert len(world.requests) == 1
    assert [world.settled[n].outcome for n in (2, 3)] == ["duplicate", "duplicate"]


def rewound(*, resend: bool, age: float, timestamp: int = START_MS) -> World:
    """A group that is reset so many seconds after its two events were settled; a third is new."""
    window = StateRules(window_ms=int(HOUR * 1000))
    settings = EngineSettings(window=HOUR, resend_rewound=resend)
    world = World(rules=window, settings=settings)
    world.take_over()
    world.append(event("a"), event("b"), timestamp=timestamp)
    world.read()
    world.run(1.0)
    world.revoke(0)
    world.clock.advance(age)
    world.group[FIRST] = CommitOffset(0)
    world.append(event("c"), timestamp=timestamp)
    world.take_over()
    world.read()
    world.run(1.0)
    return world


@pytest.mark.parametrize("timestamp", [START_MS, -1])
def test_a_group_that_was_reset_beyond_the_window_sends_nothing_again(timestamp: int) -> None:
    """Its marks have expired: what was settled before and is older than the window is rewound.

    By the record's time, or the event's where the record has none.
    """
    world = rewound(resend=False, age=HOUR, timestamp=timestamp)
    assert world.outcomes() == {0: "suppressed:rewound", 1: "suppressed:rewound", 2: "delivered"}
    assert world.sent_ids() == ["a", "b", "c"]


def test_a_group_may_be_reset_to_send_again() -> None:
    """Where the configuration says so."""
    world = rewound(resend=True, age=HOUR)
    assert world.sent_ids() == ["a", "b", "a", "b", "c"]


def test_what_was_settled_before_and_is_younger_than_the_window_is_no_rewind() -> None:
    """Its mark would be there if it had been accepted: it was refused, and may be corrected now."""
    world = World(answer=lambda _request: code(40002, "Invalid value for data.0.x: y"))
    world.take_over()
    world.produce(event("a"))
    world.run(1.0)
    world.revoke(0)
    world.group[FIRST] = CommitOffset(0)
    world.answer = lambda _request: ok()
    world.take_over()
    world.read()
    world.run(1.0)
    assert world.sent_ids() == ["a", "a"]


def test_a_partition_whose_position_is_not_known_yet_waits_for_it() -> None:
    """The memory may be complete before: it is read from where the source says."""
    world = World()
    world.assign(0, hold="position_unknown")
    assert world.holds() == {"position_unknown"}
    world.move(PositionChange(FIRST, 7, None, None))
    assert Resume(FIRST, 7) in world.log


# Another owner


def test_an_owner_that_somebody_else_replaced_sends_nothing_more() -> None:
    """It finds the other's record before its own takes effect, and holds with a reason."""
    old = World()
    old.take_over()
    old.run(1.0)
    new = old.successor()
    new.take_over()
    old.commit_error = "UNKNOWN_MEMBER_ID"
    old.produce(event("a"))
    old.run(1.0)
    assert not old.requests
    assert old.holds() == {SUPERSEDED}
    assert old.paused == {FIRST}
    old.run(120.0)
    assert not old.requests


def test_an_owner_that_was_questioned_and_proves_itself_goes_on() -> None:
    """The other was a member of before: its record came late. What it did counts all the same."""
    world = silent()
    zombie = world.successor(stores=type(world.stores)())
    zombie.take_over()
    world.append(event("a"), event("b"))
    zombie.read(most=1)
    zombie.run(0.5)
    zombie.reply(ok())
    world.answer = lambda _request: ok()
    world.clock.advance(0.5)
    world.read()
    world.run(0.1)
    assert world.holds() == {SUPERSEDED}
    world.run(5.0)
    assert world.holds() == {TAKEOVER}
    world.run(12.0)
    assert world.holds() == set()
    assert world.outcomes() == {0: "duplicate", 1: "delivered"}
    assert world.sent_ids() == ["b"]


# The retry topic beside


def test_a_retry_partition_shares_the_memory_of_its_source_partition() -> None:
    """It is held as long, an event of the one is a duplicate in the other, and both are released."""
    before = silent(parks=True)
    before.produce(event("a"))
    world = before.successor(answer=lambda _request: ok())
    world.take_over()
    retry = TopicPartition(RETRY, 0)
    assert world.engine.partitions[retry].state is world.partition().state
    assert set(world.engine.partitions[retry].holds) == {TAKEOVER}
    assert world.paused == {FIRST, retry}
    world.run(11.0)
    assert world.paused == set()
    parked = world.topic[FIRST][0]._replace(topic=RETRY, offset=0)
    world.topic[retry] = [parked]
    world.read()
    world.run(1.0)
    world.read(topic=RETRY)
    world.run(1.0)
    assert world.outcomes() == {0: "delivered"}
    assert world.outcomes(topic=RETRY) == {0: "duplicate"}
    assert world.group_offset(topic=RETRY) == 1


def test_an_attempt_on_a_parked_event_is_known_by_its_source_partitions_log() -> None:
    """A crash in the middle of it is counted as any other."""
    before = silent(parks=True)
    retry = TopicPartition(RETRY, 0)
    before.topic[retry] = [before.append(event("a"))[0]._replace(topic=RETRY, offset=0)]
    before.read(topic=RETRY)
    before.run(0.5)
    assert before.sent_ids() == ["a"]
    world = before.successor(answer=lambda _request: ok())
    world.take_over()
    world.run(12.0)
    world.read(topic=RETRY)
    world.run(1.0)
    assert world.repeats() == [{"unfinished": 1}]
    assert world.outcomes(topic=RETRY) == {0: "delivered"}


def test_a_retry_partition_without_its_source_partition_is_not_taken() -> None:
    """The source partition went before it came: there is no memory to share."""
    world = World()
    retry = TopicPartition(RETRY, 3)
    world.own(AssignedPartition(retry, 0, None, beside=TopicPartition(TOPIC, 3)))
    assert retry not in world.engine.partitions
    assert not world.appended
