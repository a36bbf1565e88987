"""What an owner appends itself: the order in which it takes effect, and who else writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.messages import ReadState
from consumer.state_log import HOLDS, SUPERSEDED, Phase
from consumer.state_records import Kind
from tests.support.log_owner import RULES, SOURCE, STATE_TP, Kept, Owner, key


def working() -> tuple[Kept, Owner]:
    """An owner whose memory is complete."""
    kept = Kept()
    return kept, kept.owner().take_over()


def reached_floor(kept: Kept) -> int:
    """Where the next owner on this disk begins to read."""
    return kept.stores.reached[SOURCE].floor


# One after the other


def test_a_record_takes_effect_when_it_is_acknowledged_and_its_keys_are_stored() -> None:
    """Neither alone is enough."""
    _, owner = working()
    handle = owner.accept(key("a"))
    owner.write()
    assert handle not in owner.done
    owner.acknowledge()
    assert handle not in owner.done
    owner.answer()
    assert handle in owner.done
    assert owner.knows("a")


@given(st.permutations(range(6)), st.lists(st.booleans(), min_size=6, max_size=6))
def test_a_record_takes_effect_when_all_before_it_is_known_whatever_is_acknowledged_first(
    order: list[int], with_keys: list[bool]
) -> None:
    """What is not acknowledged yet is read like anybody's; each takes effect once."""
    _, owner = working()
    handles = []
    for number, has in enumerate(with_keys):
        handles.append(owner.accept(*([key(str(number))] if has else [])))
        owner.write()
    left = list(range(6))
    before = len(owner.done)
    for number in order:
        owner.acknowledge(left.index(number))
        left.remove(number)
        while owner.actions:
            assert handles[number] not in owner.done
            owner.answer()
        assert owner.done[-1] == handles[number]
        assert owner.knows(*[str(n) for n in range(number + 1) if with_keys[n]])
    assert sorted(owner.done[before:]) == handles


def test_a_gap_is_read_before_what_comes_after_it_takes_effect() -> None:
    """Somebody else wrote in between: what it says counts first."""
    kept, owner = working()
    kept.put(Kind.ACCEPTED, key("theirs"))
    handle = owner.accept(key("ours"))
    owner.write()
    owner.acknowledge()
    assert isinstance(owner.actions[0], ReadState)
    assert (owner.actions[0].start, owner.actions[0].end) == (1, 2)
    owner.answer()
    owner.answer()
    assert owner.knows("theirs")
    assert handle not in owner.done
    owner.settle()
    assert handle in owner.done


def test_offsets_without_records_between_our_own_do_no_harm() -> None:
    """The broker's own records leave gaps."""
    kept, owner = working()
    for name in ("a", "b"):
        kept.topic.skip(STATE_TP, 3)
        handle = owner.accept(key(name))
        owner.settle()
        assert handle in owner.done
    assert owner.knows("a", "b")


def test_acceptances_in_a_row_are_written_together() -> None:
    """One write to the disk for all that the broker has acknowledged."""
    _, owner = working()
    for number in range(5):
        owner.accept(key(str(number)))
        owner.write()
        owner.acknowledge()
    assert len(owner.actions) == 1
    owner.answer()
    assert len(owner.actions) == 1
    owner.answer()
    assert not owner.actions
    assert owner.knows("0", "1", "2", "3", "4")


def test_a_records_that_the_log_lost_is_appended_again() -> None:
    """It was acknowledged, and its broker forgot it before anybody else had it."""
    kept, owner = working()
    first, second = owner.accept(key("a")), owner.announce(owner.item("b"))[0]
    owner.write()
    owner.write()
    owner.acknowledge(1)
    kept.topic.truncate(STATE_TP, 1)
    kept.topic.skip(STATE_TP, 0)
    while not owner.log.ready or owner.actions or owner.produced or len(owner.written) > 1:
        if owner.actions:
            owner.answer()
        elif owner.produced:
            owner.write()
        else:
            owner.acknowledge(len(owner.written) - 1)
    assert second in owner.done
    assert first not in owner.done
    assert [value.kind for value in kept.values()].count(Kind.ATTEMPTED) == 1


def test_it_is_idle_when_all_it_appended_has_taken_effect() -> None:
    """Whoever waits for its end can see it."""
    _, owner = working()
    assert owner.log.idle
    owner.accept(key("a"))
    while not owner.log.idle:
        owner.settle_one() if not owner.actions else owner.answer()
    assert owner.knows("a")


def test_the_time_of_an_acceptance_is_that_of_the_acceptance() -> None:
    """However long the topic and the disk take."""
    kept, owner = working()
    accepted_ms = kept.clock.wall_ms
    owner.accept(key("a"))
    kept.clock.advance(300.0)
    owner.settle()
    assert kept.stores.keys[SOURCE, key("a")] == accepted_ms


# Somebody else


def test_a_foreign_owner_stops_this_one_before_anything_more_takes_effect() -> None:
    """It is seen at the latest when an announcement is acknowledged: before the request goes."""
    kept, owner = working()
    kept.owner().take_over()
    (handle,) = owner.announce(owner.item("a"))
    owner.settle()
    assert handle in owner.done
    assert owner.log.phase is Phase.SUPERSEDED
    assert not owner.log.ready
    assert HOLDS[owner.log.phase] == SUPERSEDED


def test_facts_of_a_superseded_owner_take_effect_all_the_same() -> None:
    """What TikTok took is taken, whoever owns the partition."""
    kept, owner = working()
    kept.owner().take_over()
    handle = owner.accept(key("a"))
    owner.settle()
    assert handle in owner.done
    assert owner.knows("a")


def test_a_superseded_owner_goes_on_only_with_a_proof_of_after_it() -> None:
    """The proof of before may be that of a member that has been replaced since."""
    kept, owner = working()
    kept.owner().take_over()
    kept.clock.advance(1.0)
    owner.accept(key("a"))
    owner.settle()
    seen_at = kept.clock.mono
    assert owner.log.superseded_at == seen_at
    for proved_at in (seen_at - 1.0, seen_at):
        assert owner.log.reclaim(proved_at) == []
    owner.do(owner.log.reclaim(seen_at + 0.1))
    assert owner.log.phase is Phase.OPENING
    owner.settle()
    assert owner.log.ready


def test_a_proof_changes_nothing_for_an_owner_that_nobody_questions() -> None:
    """It comes every few seconds."""
    kept, owner = working()
    assert owner.log.reclaim(kept.clock.mono + 5.0) == []
    owner.close()
    assert owner.log.reclaim(kept.clock.mono + 5.0) == []


def test_who_takes_a_partition_back_waits_for_the_one_in_between() -> None:
    """It may have requests in the air, and what it accepted counts."""
    kept, owner = working()
    other = kept.owner(own_disk=True).take_over()
    other.announce(other.item("x"))
    other.accept(key("y"))
    other.settle()
    owner.accept(key("a"))
    owner.settle()
    owner.do(owner.log.reclaim(kept.clock.mono + 1.0))
    owner.settle()
    assert owner.log.phase is Phase.TAKEOVER
    owner.wait()
    assert owner.log.ready
    assert owner.knows("y", "a")
    assert set(owner.log.attempts) == {key("x")}
    other.accept(key("z"))
    other.settle()
    assert other.log.phase is Phase.SUPERSEDED, "now the other one sees that"


def test_the_end_of_an_earlier_wait_does_not_end_the_next_one() -> None:
    """The record that was to end it is only appended when the new wait has begun."""
    kept, first = working()
    first.announce(first.item("x"))
    first.settle()
    owner = kept.owner().take_over()
    kept.clock.advance(RULES.takeover_wait)
    owner.tick()
    late = owner.produced.pop()
    third = kept.owner().take_over()
    third.close()
    owner.accept(key("a"))
    owner.settle()
    assert owner.log.phase is Phase.SUPERSEDED
    owner.do(owner.log.reclaim(kept.clock.mono + 1.0))
    owner.settle()
    assert owner.log.phase is Phase.TAKEOVER
    owner.do([late])
    owner.settle()
    assert owner.log.phase is Phase.TAKEOVER
    owner.wait()
    assert owner.log.ready


# What a crash may leave


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
    assert key("b" if settled == 0 else "a") in kept.owner().take_over().log.attempts


def test_an_earlier_owners_attempts_are_below_the_floor_until_their_records_are_settled() -> None:
    """That they were looked up is no outcome: the event may wait for its destination."""
    kept, first = working()
    first.announce(first.item("x"))
    first.settle()
    second = kept.owner().take_over()
    second.wait()
    item = second.item("x")
    assert second.log.attempts.pop(item.key)
    for high in (None, 1):
        second.partition.high = high
        second.accept(key(f"other {high}"))
        second.settle()
        assert reached_floor(kept) <= 1
    assert set(kept.owner().take_over().log.attempts) == {key("x")}
    second.partition.settle(item.record.offset)
    second.log.reclaim(kept.clock.mono + 1.0)
    second.accept(key("last"))
    second.settle()
    assert reached_floor(kept) <= 1, "superseded: not its own to say"


def test_the_floor_moves_on_when_an_earlier_owners_attempts_are_over() -> None:
    """All records that were there when it began are settled."""
    kept, first = working()
    first.announce(first.item("x"))
    first.settle()
    second = kept.owner().take_over()
    second.wait()
    second.partition.high = 1
    item = second.item("x")
    second.partition.settle(item.record.offset)
    second.accept(key("x"))
    second.settle()
    assert reached_floor(kept) == kept.stores.reached[SOURCE].next_offset


def test_the_attempts_of_an_owner_in_between_are_below_the_floor_too() -> None:
    """This one had caught up with those before it, and took the partition back from another."""
    kept, owner = working()
    owner.partition.high = 0
    other = kept.owner(own_disk=True).take_over()
    other.announce(other.item("x"))
    other.settle()
    owner.accept(key("a"))
    owner.settle()
    owner.do(owner.log.reclaim(kept.clock.mono + 1.0))
    owner.settle()
    owner.wait()
    owner.partition.high = 1
    item = owner.item("x")
    assert owner.log.attempts.pop(item.key)
    owner.accept(key("b"))
    owner.settle()
    assert reached_floor(kept) <= kept.kinds().index(Kind.ATTEMPTED)
    assert set(kept.owner().take_over().log.attempts) == {key("x")}


def test_events_that_tiktok_may_have_since_before_are_announced_with_that_time() -> None:
    """Whoever reads it gives up in time; first attempts of the same batch have their own."""
    kept, owner = working()
    early = kept.clock.wall_ms - 5000
    owner.announce(owner.item("a"), owner.item("b", early), owner.item("c", early))
    owner.settle()
    attempted = [value for value in kept.values() if value.kind is Kind.ATTEMPTED]
    assert [(value.time_ms, value.keys) for value in attempted] == [
        (kept.clock.wall_ms, key("a")),
        (early, key("b") + key("c")),
    ]


def test_a_store_that_is_lost_with_records_in_the_air_loses_none_of_them() -> None:
    """They take effect after the memory was read again, in the order of the log."""
    kept, owner = working()
    owner.accept(key("a"))
    owner.settle()
    handles = [owner.accept(key("written")), owner.accept(key("acknowledged"))]
    owner.write()
    owner.write()
    owner.acknowledge()
    handles += [owner.accept(key("on its way"))]
    owner.lose_store()
    assert not owner.log.ready
    owner.settle()
    assert owner.log.ready
    assert [handle for handle in owner.done if handle in handles] == handles
    assert owner.knows("a", "written", "acknowledged", "on its way")
    assert kept.kinds().count(Kind.ACCEPTED) == 4


@pytest.mark.parametrize("answers", range(6))
def test_a_store_that_is_lost_during_the_takeover_begins_it_anew(answers: int) -> None:
    """At any point of it."""
    kept, first = working()
    for name in "abcdefghij":
        first.accept(key(name))
        first.settle()
    second = kept.owner(own_disk=True).begin()
    for _ in range(answers):
        second.answer() if second.actions else second.settle_one()
    second.lose_store()
    second.settle()
    assert second.log.ready
    assert second.knows(*"abcdefghij")


def test_answers_that_nobody_waits_for_any_more_change_nothing() -> None:
    """Of the store, of the reader, of the broker: they may come after the memory began anew."""
    kept, owner = working()
    owner.accept(key("a"))
    owner.write()
    kept.topic.skip(STATE_TP)
    owner.acknowledge()
    (marks,) = owner.actions
    owner.do(owner.log.begin())
    before = list(owner.actions)
    assert owner.log.failed(marks.handle) is None
    for late in (marks.handle, 999):
        assert owner.log.marked(late, kept.clock.now) == []
        assert owner.log.store_opened(late, None) == []
        assert (
            owner.log.read(late, kept.topic.chunk(ReadState(late, STATE_TP, 0, 1)), kept.clock.now)
            == []
        )
        assert not owner.log.wants(late)
    assert owner.log.acknowledged(999, 5, kept.clock.now) == []
    assert list(owner.actions) == before
    owner.actions.popleft()
    owner.settle()
    assert owner.knows("a")


# The end


def test_a_closed_log_still_takes_facts_and_nothing_else_takes_effect() -> None:
    """An acceptance that comes late has to reach the next owner; an announcement has not."""
    kept, owner = working()
    (announced,) = owner.announce(owner.item("a"))
    refused, accepted = owner.refuse(key("b")), owner.accept(key("c"))
    before = list(owner.done)
    owner.log.close()
    assert not owner.log.wants(announced)
    assert not owner.log.wants(refused)
    assert owner.log.wants(accepted)
    late = owner.accept(key("d"))
    assert owner.log.wants(late)
    owner.settle()
    assert owner.done == before
    assert not owner.knows("c")
    assert kept.owner().take_over().knows("c", "d")


def test_it_is_said_that_nothing_is_in_the_air_only_by_who_has_sent_something() -> None:
    """And only while the partition is surely its own."""
    kept, owner = working()
    assert not owner.log.must_close
    owner.announce(owner.item("a"))
    assert not owner.log.must_close, "nobody has seen that yet"
    owner.settle()
    assert owner.log.must_close
    kept.owner().take_over()
    owner.accept(key("x"))
    owner.settle()
    assert not owner.log.must_close


def test_a_refusal_that_was_not_appended_is_left_out() -> None:
    """Later it could deny an attempt that was made meanwhile; nothing else is left out."""
    _, owner = working()
    refused, accepted = owner.refuse(key("a")), owner.accept(key("b"))
    assert owner.log.drop(refused)
    assert not owner.log.wants(refused)
    assert not owner.log.drop(refused)
    assert not owner.log.drop(accepted)
    assert owner.log.wants(accepted)
