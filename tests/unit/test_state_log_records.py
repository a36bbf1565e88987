"""What an owner appends itself: the order in which it takes effect, and who else writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.messages import ReadState
from consumer.state_phases import HOLDS, SUPERSEDED, Phase
from consumer.state_records import Kind
from tests.support.log_owner import RULES, SOURCE, STATE_TP, Kept, Owner, key


def working() -> tuple[Kept, Owner]:
    """An owner whose memory is complete."""
    kept = Kept()
    return kept, kept.owner().take_over()


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


@pytest.mark.parametrize("gap", [1, 5])
def test_a_record_that_the_log_lost_is_appended_again(gap: int) -> None:
    """It was acknowledged, and an unclean election took it before its turn had come."""
    kept, owner = working()
    kept.topic.skip(STATE_TP, gap)
    (announced,) = owner.announce(owner.item("a"))
    accepted = owner.accept(key("b"))
    for _ in range(2):
        owner.write()
        owner.acknowledge()
    kept.topic.truncate(STATE_TP, 1)
    owner.answer()
    assert not owner.is_ready(), "who knows what else is lost"
    owner.settle()
    assert owner.is_ready()
    assert {announced, accepted} <= set(owner.done)
    assert owner.knows("b")
    assert sorted(kept.kinds()) == [Kind.OPEN, Kind.OPEN, Kind.ACCEPTED, Kind.ATTEMPTED]


def test_it_is_idle_when_all_it_appended_has_taken_effect() -> None:
    """Whoever waits for its end can see it."""
    _, owner = working()
    seen = [owner.log.idle]
    owner.accept(key("a"))
    for step in (owner.write, owner.acknowledge, owner.answer):
        seen.append(owner.log.idle)
        step()
    assert [*seen, owner.log.idle] == [True, False, False, False, True]


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
    assert owner.is_in(Phase.SUPERSEDED)
    assert not owner.is_ready()
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
    assert owner.is_in(Phase.OPENING)
    owner.settle()
    assert owner.is_ready()


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
    assert owner.is_in(Phase.TAKEOVER)
    owner.wait()
    assert owner.is_ready()
    assert owner.knows("y", "a")
    assert set(owner.log.attempts.since) == {key("x")}
    other.accept(key("z"))
    other.settle()
    assert other.is_in(Phase.SUPERSEDED), "now the other one sees that"


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
    assert owner.is_in(Phase.SUPERSEDED)
    owner.do(owner.log.reclaim(kept.clock.mono + 1.0))
    owner.settle()
    assert owner.is_in(Phase.TAKEOVER)
    owner.do([late])
    owner.settle()
    assert owner.is_in(Phase.TAKEOVER)
    owner.wait()
    assert owner.is_ready()


def test_an_announcement_that_comes_late_hides_nothing_of_the_owner_in_between() -> None:
    """It was made before the other one attempted the key, and says nothing of that."""
    kept, owner = working()
    owner.announce(owner.item("x"))
    other = kept.owner(own_disk=True).take_over()
    other.announce(other.item("x"))
    other.settle()
    attempted_ms = kept.clock.wall_ms
    owner.settle()
    assert owner.is_in(Phase.SUPERSEDED)
    owner.do(owner.log.reclaim(kept.clock.mono + 1.0))
    owner.settle()
    owner.wait()
    assert owner.log.attempts.since == {key("x"): attempted_ms}
    item = owner.item("x", attempted_ms)
    owner.announce(item)
    owner.settle()
    assert owner.log.attempts.since == {}, "this one says since when"


def test_a_refusal_that_comes_late_denies_nothing_of_the_owner_in_between() -> None:
    """What we know to be refused are our own attempts."""
    kept, owner = working()
    item = owner.item("x")
    owner.announce(item)
    owner.settle()
    owner.refuse(item.key)
    other = kept.owner(own_disk=True).take_over()
    other.wait()
    other.announce(other.item("x"))
    other.settle()
    owner.settle()
    assert owner.is_in(Phase.SUPERSEDED)
    assert set(owner.log.attempts.since) == {key("x")}


# The store is lost


def test_what_is_read_again_ends_no_attempt_that_came_after_it() -> None:
    """An earlier owner's attempt was refused; ours, of the same key, ended without an outcome."""
    kept = Kept()
    kept.put(Kind.ATTEMPTED, key("x"))
    kept.put(Kind.REFUSED, key("x"))
    kept.put(Kind.CLOSED)
    owner = kept.owner().take_over()
    owner.announce(owner.item("x"))
    owner.settle()
    since = kept.clock.wall_ms
    owner.log.left(key("x"), since, kept.clock.now)
    owner.lose_store()
    owner.settle()
    assert owner.is_ready()
    assert owner.log.attempts.since == {key("x"): since}


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
    assert not owner.is_ready()
    owner.settle()
    assert owner.is_ready()
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
    assert second.is_ready()
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
    says = [owner.log.must_close]
    owner.announce(owner.item("a"))
    says.append(owner.log.must_close)
    owner.settle()
    says.append(owner.log.must_close)
    kept.owner().take_over()
    owner.accept(key("x"))
    owner.settle()
    says.append(owner.log.must_close)
    assert says == [False, False, True, False]


def test_a_refusal_that_was_not_appended_is_left_out() -> None:
    """Later it could deny an attempt that was made meanwhile; nothing else is left out."""
    _, owner = working()
    refused, accepted = owner.refuse(key("a")), owner.accept(key("b"))
    assert owner.log.drop(refused)
    assert not owner.log.wants(refused)
    assert not owner.log.drop(refused)
    assert not owner.log.drop(accepted)
    assert owner.log.wants(accepted)
