"""What is ours to get done fails and ends: the store, the dead letters. Nothing is lost by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.batch import BatchLimits
from consumer.event import Record, TopicPartition
from consumer.messages import Acknowledged, LookUp, OpenStore, Produce
from consumer.retry_headers import retry_headers
from consumer.settle import LETTER_REFUSED, LETTER_TOO_LARGE, STORE_FAILED
from consumer.state_phases import REBUILDING
from consumer.state_records import split
from tests.support.world import RETRY, START_MS, STATE, TOPIC, World, code, event, ok

if TYPE_CHECKING:
    from consumer.verdict import Answer

FIRST = TopicPartition(TOPIC, 0)
ONE_BY_ONE = BatchLimits(max_events=1)
BAD_EVENT = code(40002, "Invalid value for data.0.event_id: not valid.")


def refused(*, letters: list[str | None], **fields: object) -> World:
    """A world in which one event is refused and the broker answers its letter so, in order.

    None acknowledges; `...` as text leaves the letter in the air.
    """

    def answer(produce: Produce) -> Acknowledged | None:
        error = letters.pop(0) if letters else None
        if error == "...":
            return None
        return Acknowledged(produce.handle, error)  # type: ignore[arg-type]  # a kind of error

    answers: list[Answer] = [BAD_EVENT]
    world = World(
        answer=lambda _request: answers.pop() if answers else ok(),
        batch=BatchLimits(max_events=1),
        letter_answer=answer,
        **fields,  # type: ignore[arg-type]  # fields of World
    )
    world.assign(0, 1)
    world.produce(event("bad"), event("good"))
    return world


# Dead letters


def test_the_offset_waits_for_the_dead_letters_acknowledgement() -> None:
    """A refused record is unsettled until the broker has its dead letter."""
    world = refused(letters=["..."])
    world.run(30.0)
    assert world.outcomes() == {1: "delivered"}
    assert world.committed() == 0
    assert len(world.letters) == 1, "a letter that is in the air is not produced again"
    world.acknowledge(Acknowledged(world.letters[0].handle))
    world.run(1.0)
    assert world.outcomes()[0] == "dead_lettered:rejected"
    assert world.committed() == 2


def test_a_dead_letter_that_the_broker_does_not_take_is_produced_until_it_does() -> None:
    """Its partition is held with a reason meanwhile, the other one is not."""
    world = refused(letters=["retriable"] * 5)
    assert world.holds() == {LETTER_REFUSED}
    assert world.paused == {FIRST}
    assert world.holds(1) == set()
    assert world.committed() == 0
    world.run(60.0)
    assert len(world.letters) == 6
    assert len({(letter.key, letter.value, letter.headers) for letter in world.letters}) == 1
    assert world.holds() == set()
    assert world.paused == set()
    assert world.committed() == 2
    assert world.idle()


def test_a_dead_letter_that_is_too_large_loses_its_optional_headers() -> None:
    """The original stays whole; what names reason and source stays, too."""
    world = refused(letters=["too_large"])
    assert world.holds() == set()
    world.run(5.0)
    first, second = world.letters
    assert second.headers == tuple(
        header
        for header in first.headers
        if header[0]
        in {
            "h",
            "dlq.version",
            "dlq.reason",
            "dlq.source.topic",
            "dlq.source.partition",
            "dlq.source.offset",
            "dlq.replay.count",
        }
    )
    assert (second.key, second.value, second.timestamp) == (first.key, first.value, first.timestamp)
    assert world.outcomes()[0] == "dead_lettered:rejected"


def test_a_dead_letter_that_stays_too_large_holds_the_partition_until_the_topic_takes_it() -> None:
    """The reason is shown, the letter is tried again, and the partition goes on when it is in."""
    world = refused(letters=["too_large"] * 8)
    world.run(3.0)
    assert world.holds() == {LETTER_TOO_LARGE}
    assert world.paused == {FIRST}
    assert world.committed() == 0
    world.run(120.0)
    assert len(world.letters) == 9
    assert world.holds() == set()
    assert world.committed() == 2


def test_a_letter_refused_for_several_reasons_leaves_no_hold_behind() -> None:
    """All of them end with its acknowledgement."""
    world = refused(letters=["retriable", "too_large", "retriable", "too_large", "too_large"])
    world.run(60.0)
    assert world.holds() == set()
    assert world.paused == set()
    assert world.idle()


def test_two_letters_of_one_partition_hold_it_until_both_are_in() -> None:
    """The hold ends with the last that waits for it."""
    broken = True

    def answer(produce: Produce) -> Acknowledged:
        stuck = broken and produce.value == b"second"
        first_time = len(world.letters) <= 2
        return Acknowledged(produce.handle, "retriable" if stuck or first_time else None)

    world = World(letter_answer=answer)
    world.assign(0)
    world.produce(b"first", b"second")
    world.run(60.0)
    assert world.outcomes() == {0: "dead_lettered:undecodable"}
    assert world.holds() == {LETTER_REFUSED}
    assert world.committed() == 1
    broken = False
    world.run(60.0)
    assert world.committed() == 2
    assert world.holds() == set()


def test_an_acknowledgement_that_comes_twice_settles_once() -> None:
    """And one that nobody waits for settles nothing."""
    world = refused(letters=["..."])
    handle = world.letters[0].handle
    world.acknowledge(Acknowledged(handle), Acknowledged(handle), Acknowledged(9999))
    world.acknowledge(Acknowledged(handle, "retriable"))
    world.run(5.0)
    assert len(world.settled) == 2
    assert world.holds() == set()
    assert world.idle()


# The store


@pytest.mark.parametrize("number", [1, 30])
def test_a_store_that_fails_at_the_look_up_stops_its_partition(number: int) -> None:
    """Nothing is sent unasked, nothing is lost; it goes on when the store answers."""
    world = World()
    world.assign(0)
    world.store_fails = True
    world.produce(*(event(str(n)) for n in range(number)))
    world.run(60.0)
    assert not world.requests
    assert world.holds() == {STORE_FAILED}
    assert world.paused == {FIRST}
    assert world.committed() == 0
    world.store_fails = False
    world.run(20.0)
    assert set(world.outcomes().values()) == {"delivered"}
    assert world.holds() == set()
    assert world.committed() == number
    assert world.idle()


def test_a_store_that_fails_at_the_mark_stops_its_partition() -> None:
    """The acceptance is known, so it is not sent again; the offset waits for the mark."""
    world = World(marks_fail=True)
    world.assign(0)
    world.produce(event("a"), event("b"), event("a"))
    world.run(60.0)
    assert len(world.requests) == 1
    assert world.holds() == {STORE_FAILED}
    assert world.outcomes() == {}
    assert world.committed() == 0
    accepted_ms = world.attempts[0].ended
    world.marks_fail = False
    world.run(20.0)
    assert len(world.requests) == 1
    assert world.outcomes() == {0: "delivered", 1: "delivered", 2: "duplicate"}
    assert world.holds() == set()
    assert world.committed() == 3
    assert accepted_ms is not None
    assert set(world.stores.keys.values()) == {accepted_ms.wall_ms}, "the time of the acceptance"


def test_other_partitions_go_on_while_a_store_fails() -> None:
    """Each has its own: a broken directory is one partition's trouble."""
    world = World()
    world.assign(0, 1)
    world.produce(event("a"), partition=1)
    world.store_fails = True
    world.produce(event("b"), partition=0)
    world.store_fails = False
    assert (world.holds(0), world.holds(1)) == ({STORE_FAILED}, set())
    assert world.paused == {FIRST}
    world.run(60.0)
    assert world.outcomes(0) == world.outcomes(1) == {0: "delivered"}


def test_the_store_is_asked_again_with_growing_pauses() -> None:
    """A broken disk is not hammered, and is asked at least every quarter of a minute."""
    world = World()
    world.assign(0)
    world.store_fails = True
    world.produce(event())
    world.run(300.0)
    tries = sum(isinstance(action, LookUp) for action in world.log)
    assert 20 <= tries <= 200


def test_a_store_that_does_not_open_stops_its_partition_before_anything_is_read() -> None:
    """It is asked again with pauses; then the partition is taken over and read."""
    world = World(store_fails=True)
    world.assign(0)
    world.run(300.0)
    tries = sum(isinstance(action, OpenStore) for action in world.log)
    assert 20 <= tries <= 200
    assert world.holds() == {STORE_FAILED, REBUILDING}
    assert world.paused == {FIRST}
    assert not world.appended
    world.store_fails = False
    world.run(16.0)
    assert world.holds() == set()
    assert world.paused == set()


@pytest.mark.parametrize("fails", ["store_fails", "marks_fail", "state_unread"])
def test_a_store_that_is_found_lost_after_it_failed_holds_nothing_for_ever(fails: str) -> None:
    """What it was asked for is asked no more; the memory is read again, and all goes on."""
    world = World()
    world.assign(0)
    world.produce(event("a"))
    world.run(1.0)
    setattr(world, fails, True)
    world.state_topic.skip(TopicPartition(STATE, 0))
    world.produce(event("b"))
    world.run(1.0)
    world.lose_store()
    world.run(5.0)
    assert world.outcomes() == {0: "delivered"}
    setattr(world, fails, False)
    world.run(40.0)
    assert world.holds() == set()
    assert world.outcomes() == {0: "delivered", 1: "delivered"}
    assert world.sent_ids() == ["a", "b"]
    assert world.idle()


def test_a_batch_over_two_partitions_is_marked_in_both_stores() -> None:
    """Each key goes where its records come from."""
    world = World(batch=BatchLimits(max_events=4))
    world.assign(0, 1)
    world.produce(event("a"), event("b"), partition=0)
    world.produce(event("c"), event("d"), partition=1)
    sizes = [(mark.tp.partition, len(split(mark.marks[0].keys))) for mark in world.marks]
    assert sorted(sizes) == [(0, 2), (1, 2)]
    assert len(world.requests) == 1
    assert world.idle()


def test_who_becomes_the_first_of_a_key_counts_from_what_it_brought_itself() -> None:
    """The retry topic may know of an attempt that the state topic has no longer."""
    answers: list[Answer | None] = [None, ok()]
    world = World(answer=lambda _request: answers.pop(0), batch=ONE_BY_ONE, parks=True)
    world.take_over()
    world.produce(event("a", page={"url": "https://shop.example/wrong"}))
    headers = retry_headers(
        TOPIC, 0, 7, first_unknown_ms=START_MS - 5000, replay_count=0, parked_ms=START_MS
    )
    parked = Record(RETRY, 0, 0, START_MS, b"k", event("a"), headers)
    world.topic[TopicPartition(RETRY, 0)] = [parked]
    world.read(topic=RETRY)
    world.reply(BAD_EVENT)
    world.run(5.0)
    assert world.outcomes() == {0: "dead_lettered:rejected"}
    assert world.outcomes(topic=RETRY) == {0: "delivered"}
    assert world.repeats() == [{}, {"unfinished": 1}]
