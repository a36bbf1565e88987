"""What a crash leaves: where the next owner begins to read, and which attempts it finds there."""

from __future__ import annotations

import pytest

from consumer.state_records import Kind
from tests.support.log_owner import RULES, SOURCE, STATE_TP, Kept, Owner, key


def working() -> tuple[Kept, Owner]:
    """An owner whose memory is complete."""
    kept = Kept()
    return kept, kept.owner().take_over()


def reached_floor(kept: Kept) -> int:
    """Where the next owner on this disk begins to read."""
    return kept.stores.reached[SOURCE].floor


def test_the_floor_stays_below_an_attempt_until_its_event_is_settled() -> None:
    """A crash finds every announced attempt that has no outcome."""
    kept, owner = working()
    first, second = owner.item("a"), owner.item("b")
    owner.announce(first)
    owner.settle()
    owner.announce(second)
    owner.accept(key("other"))
    owner.settle()
    assert reached_floor(kept) == 1
    owner.partition.settle(first.record.offset)
    owner.accept(key("more"))
    owner.settle()
    assert reached_floor(kept) == 2
    owner.partition.settle(second.record.offset)
    owner.accept(key("most"))
    owner.settle()
    assert reached_floor(kept) == kept.stores.reached[SOURCE].next_offset == 6


def test_the_floor_counts_the_last_event_of_an_announcement() -> None:
    """One of a batch that is settled is not all of them."""
    kept, owner = working()
    items = [owner.item(name) for name in "abc"]
    owner.announce(*items)
    owner.settle()
    for item in items[:2]:
        owner.partition.settle(item.record.offset)
    owner.accept(key("x"))
    owner.settle()
    assert reached_floor(kept) == 1


@pytest.mark.parametrize("settled", [0, 1])
def test_the_floor_holds_for_every_announcement_whichever_is_acknowledged_first(
    settled: int,
) -> None:
    """The one without an outcome counts, in whatever order they became known."""
    kept, owner = working()
    items = [owner.item("a"), owner.item("b")]
    for item in items:
        owner.announce(item)
        owner.write()
    for at in (1, 0):
        owner.acknowledge(at)
        while owner.actions:
            owner.answer()
    owner.partition.settle(items[settled].record.offset)
    owner.accept(key("x"))
    owner.settle()
    assert reached_floor(kept) == 2 - settled
    assert key("b" if settled == 0 else "a") in kept.owner().take_over().log.attempts.since


def test_an_earlier_owners_attempts_are_below_the_floor_until_their_records_are_settled() -> None:
    """That they were looked up is no outcome: the event may wait for its destination."""
    kept, first = working()
    first.announce(first.item("x"))
    first.settle()
    second = kept.owner().take_over()
    second.wait()
    item = second.item("x")
    assert item.key in second.log.attempts.since
    second.accept(key("other"))
    second.settle()
    assert reached_floor(kept) <= 1
    assert set(kept.owner().take_over().log.attempts.since) == {key("x")}
    second.partition.settle(item.record.offset)
    second.log.reclaim(kept.clock.mono + 1.0)
    second.accept(key("last"))
    second.settle()
    assert reached_floor(kept) <= 1, "superseded: not its own to say"


def test_the_floor_moves_on_when_an_earlier_owners_attempts_are_over() -> None:
    """Each of their keys has an outcome."""
    kept, first = working()
    first.announce(first.item("x"))
    first.settle()
    second = kept.owner().take_over()
    second.wait()
    item = second.item("x")
    second.partition.settle(item.record.offset)
    second.accept(key("x"))
    second.settle()
    assert reached_floor(kept) == kept.stores.reached[SOURCE].next_offset


def test_the_attempts_of_an_owner_in_between_are_below_the_floor_too() -> None:
    """This one had caught up with those before it, and took the partition back from another."""
    kept, first = working()
    first.announce(first.item("w"))
    first.settle()
    owner = kept.owner().take_over()
    owner.wait()
    owner.partition.settle(owner.item("w").record.offset)
    owner.accept(key("w"))
    owner.settle()
    assert reached_floor(kept) == kept.stores.reached[SOURCE].next_offset
    other = kept.owner(own_disk=True, position=1).take_over()
    other.announce(other.item("x"))
    other.settle()
    attempted_at = kept.topic.ends[STATE_TP] - 1
    owner.accept(key("a"))
    owner.settle()
    owner.do(owner.log.reclaim(kept.clock.mono + 1.0))
    owner.settle()
    owner.wait()
    item = owner.item("x")
    assert item.key in owner.log.attempts.since
    owner.accept(key("b"))
    owner.settle()
    assert reached_floor(kept) <= attempted_at
    assert key("x") in kept.owner(position=1).take_over().log.attempts.since


def test_events_that_tiktok_may_have_since_before_are_announced_with_that_time() -> None:
    """Whoever reads it gives up in time; a first attempt has the time of its record."""
    kept, owner = working()
    early = kept.clock.wall_ms - 5000
    owner.announce(owner.item("a"), owner.item("b", early), owner.item("c", early))
    owner.settle()
    attempted = [value for value in kept.values() if value.kind is Kind.ATTEMPTED]
    assert [(value.time_ms, value.keys) for value in attempted] == [
        (0, key("a")),
        (early, key("b") + key("c")),
    ]
    now_ms = kept.clock.wall_ms
    known = kept.owner(own_disk=True).take_over().log.attempts.since
    assert known == {key("a"): now_ms, key("b"): early, key("c"): early}


# What ends without an outcome


def given_up(kept: Kept, owner: Owner, name: str = "x") -> int:
    """TikTok may have an event of ours that is settled without an outcome; since when."""
    since = kept.clock.wall_ms
    item = owner.item(name)
    owner.announce(item)
    owner.settle()
    owner.log.left(item.key, since, kept.clock.now)
    owner.partition.settle(item.record.offset)
    owner.accept(key(f"after {name}"))
    owner.settle()
    return since


def test_what_was_given_up_is_known_after_a_restart() -> None:
    """Its record is settled; another one with the same key counts from its attempt."""
    kept, owner = working()
    since = given_up(kept, owner)
    second = kept.owner().take_over()
    assert second.log.attempts.since == {key("x"): since}
    second.wait()
    second.accept(key("more"))
    second.settle()
    assert set(kept.owner().take_over().log.attempts.since) == {key("x")}


def test_what_was_given_up_is_known_although_somebody_else_attempted_others_since() -> None:
    """The floor goes down to the attempt, from that of the other one."""
    kept, owner = working()
    for name in "ab":
        owner.accept(key(name))
        owner.settle()
    item, since = owner.item("x"), kept.clock.wall_ms
    owner.announce(item)
    owner.settle()
    other = kept.owner(own_disk=True).take_over()
    other.wait()
    other.announce(other.item("y"))
    other.settle()
    owner.accept(key("c"))
    owner.settle()
    owner.do(owner.log.reclaim(kept.clock.mono + 1.0))
    owner.settle()
    owner.wait()
    owner.log.left(item.key, since, kept.clock.now)
    owner.partition.settle(item.record.offset)
    owner.accept(key("d"))
    owner.settle()
    assert set(kept.owner().take_over().log.attempts.since) == {key("x"), key("y")}


def test_what_was_given_up_no_longer_matters_after_the_window() -> None:
    """A restart need not read for ever what may count again."""
    kept, owner = working()
    given_up(kept, owner)
    kept.clock.advance(RULES.window_ms / 1000 + 1.0)
    owner.accept(key("late"))
    owner.settle()
    assert reached_floor(kept) == kept.stores.reached[SOURCE].next_offset


def busy(owner: Owner, records: int) -> None:
    """Other events come and go."""
    for number in range(records):
        owner.accept(key(f"busy {number}"))
        owner.settle()


def go_on_until_it_says_again(owner: Owner) -> None:
    """Other events come and go, until old attempts are to be announced once more."""
    while not owner.produced:
        owner.accept(key("busy"))
        owner.write()
        owner.acknowledge()
        while owner.actions:
            owner.answer()


def test_the_floor_follows_what_was_given_up_and_forgets_nothing_of_it() -> None:
    """Else one such event would make every restart read days again."""
    kept, owner = working()
    times = {key(name): given_up(kept, owner, name) for name in ("x", "y")}
    kept.clock.advance(60.0)
    times[key("z")] = given_up(kept, owner, "z")
    busy(owner, 60)
    reached = kept.stores.reached[SOURCE]
    assert reached.next_offset - reached.floor < 30
    for _ in range(3):
        owner.close()
        owner.settle()
        owner = kept.owner(position=3).take_over()
        assert owner.log.attempts.since == times
        busy(owner, 30)
        reached = kept.stores.reached[SOURCE]
        assert reached.next_offset - reached.floor < 30
    attempted = [value for value in kept.values() if value.kind is Kind.ATTEMPTED]
    assert len(attempted) < 3 + 2 * 8, "seldom, and those of one time together"


def test_what_is_given_up_while_older_attempts_are_said_again_is_known_too() -> None:
    """The floor stays below it, until all of them are said once more."""
    kept, owner = working()
    given_up(kept, owner, "x")
    item, since = owner.item("y"), kept.clock.wall_ms
    owner.announce(item)
    owner.settle()
    go_on_until_it_says_again(owner)
    owner.log.left(item.key, since, kept.clock.now)
    owner.partition.settle(item.record.offset)
    owner.settle()
    owner.accept(key("more"))
    owner.settle()
    assert set(kept.owner().take_over().log.attempts.since) == {key("x"), key("y")}


def test_what_could_not_be_said_again_keeps_the_floor_down() -> None:
    """Written later it might follow the outcome of its keys; it is made anew instead."""
    kept, owner = working()
    times = {key("x"): given_up(kept, owner, "x")}
    kept.clock.advance(1.0)
    times[key("y")] = given_up(kept, owner, "y")
    go_on_until_it_says_again(owner)
    failed, other = owner.produced
    assert owner.log.drop(failed.handle)
    owner.produced.remove(failed)
    owner.write(owner.produced.index(other))
    owner.acknowledge()
    assert reached_floor(kept) == 0
    busy(owner, 2)
    assert reached_floor(kept) > 20
    assert kept.owner(position=2).take_over().log.attempts.since == times


def test_what_is_twice_as_old_as_the_window_is_not_said_again() -> None:
    """It would be known for ever."""
    kept, owner = working()
    given_up(kept, owner)
    owner.close()
    owner.settle()
    kept.clock.advance(2 * RULES.window_ms / 1000)
    owner = kept.owner().take_over()
    assert set(owner.log.attempts.since) == {key("x")}
    busy(owner, 40)
    assert reached_floor(kept) > 20
    assert kept.owner().take_over().log.attempts.since == {}


def test_an_attempt_whose_record_was_deleted_is_known_after_two_restarts() -> None:
    """Nobody will ever read the record again, but its producer may repeat the event."""
    kept, first = working()
    first.announce(first.item("x"))
    first.settle()
    for _ in range(2):
        owner = kept.owner().take_over()
        owner.wait()
        assert set(owner.log.attempts.since) == {key("x")}
        owner.announce(owner.item("of another topic"))
        owner.accept(key("of another topic"))
        owner.settle()


def test_an_attempt_of_before_is_known_until_the_next_one_is_announced() -> None:
    """A crash between the look-up and the announcement forgets nothing."""
    kept, first = working()
    first.announce(first.item("x"))
    first.settle()
    since = kept.clock.wall_ms
    owner = kept.owner().take_over()
    owner.wait()
    item = owner.item("x", since)
    assert item.key in owner.log.attempts.since
    owner.announce(item)
    owner.settle()
    assert owner.log.attempts.since == {}
    owner.accept(key("other"))
    owner.settle()
    assert kept.owner().take_over().log.attempts.since == {key("x"): since}
