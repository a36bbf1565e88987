"""Taking a partition's memory over: what is read, what is waited for, what is known then."""

from __future__ import annotations

import pytest

from consumer.state_phases import HOLDS, REBUILDING, TAKEOVER, Phase
from consumer.state_records import Kind
from tests.support.log_owner import RULES, SOURCE, STATE_TP, Kept, Owner, key, last_value

HOUR_MS = 3_600_000


def crashed(*names: str) -> tuple[Kept, Owner]:
    """What an owner leaves that announced these and was never heard of again."""
    kept = Kept()
    owner = kept.owner().take_over()
    owner.announce(*[owner.item(name) for name in names])
    owner.settle()
    return kept, owner


# The first owner, and the next


def test_the_first_owner_begins_at_once() -> None:
    """There is nothing to read and nobody to wait for; its own record is the log's first."""
    owner = Kept().owner().take_over()
    assert owner.is_in(Phase.READY)
    assert owner.is_ready()
    assert owner.kept.kinds() == [Kind.OPEN]
    assert owner.read_ranges() == []


def test_a_partition_is_held_with_a_reason_until_its_memory_is_complete() -> None:
    """Each phase but the ready one has its reason."""
    kept, _ = crashed("a")
    seen = []
    owner = kept.owner().begin()
    while not owner.is_in(Phase.TAKEOVER):
        seen.append(HOLDS[owner.log.phase])
        owner.settle() if not owner.actions else owner.answer()
    assert set(seen) == {REBUILDING}
    assert HOLDS[owner.log.phase] == TAKEOVER
    owner.wait()
    assert owner.log.phase not in HOLDS


def test_a_clean_hand_over_needs_no_wait() -> None:
    """The owner before said that nothing of its is in the air."""
    kept, first = crashed("a")
    first.accept(key("a"))
    first.settle()
    first.close()
    first.settle()
    second = kept.owner().take_over()
    assert second.is_ready()
    assert second.knows("a")
    assert second.log.attempts.since == {}


def test_an_owner_that_announced_nothing_is_not_waited_for() -> None:
    """It cannot have a request in the air; nor does it say that it closes."""
    kept = Kept()
    first = kept.owner().take_over()
    assert not first.log.must_close
    first.close()
    assert kept.kinds() == [Kind.OPEN]
    assert kept.owner().take_over().log.ready


def test_an_owner_that_left_without_a_word_is_waited_for_and_what_it_added_is_read() -> None:
    """Its last acceptance may come while the next one waits: it counts."""
    kept, first = crashed("a", "b")
    second = kept.owner().take_over()
    assert second.is_in(Phase.TAKEOVER)
    assert second.log.wait_until == kept.clock.mono + RULES.takeover_wait
    kept.clock.advance(RULES.takeover_wait - 0.1)
    second.tick()
    assert second.produced == []
    first.accept(key("a"))
    first.settle()
    kept.clock.advance(0.1)
    second.tick()
    second.settle()
    assert second.is_ready()
    assert second.knows("a")
    assert set(second.log.attempts.since) == {key("b")}


def test_an_owner_is_waited_for_again_by_the_one_after_the_next() -> None:
    """The next one read of it and vanished during its own wait."""
    kept, _ = crashed("a")
    kept.owner().take_over()
    third = kept.owner().take_over()
    assert third.is_in(Phase.TAKEOVER)
    third.wait()
    fourth = kept.owner().take_over()
    assert fourth.is_in(Phase.TAKEOVER), "what is not in the log is not known"
    assert set(fourth.log.attempts.since) == {key("a")}


def test_what_the_disk_says_of_owners_that_did_not_close_counts() -> None:
    """Their records are below what is read again, and retention may have deleted them."""
    kept, first = crashed("a")
    first.accept(key("a"))
    first.settle()
    first.partition.settle(0)
    first.accept(key("b"))
    first.settle()
    reached = kept.stores.reached[SOURCE]
    assert reached.unclosed == (first.member,)
    kept.topic.delete_before(STATE_TP, reached.next_offset)
    assert kept.owner().take_over().log.phase is Phase.TAKEOVER


# What is read


def test_reading_begins_at_the_floor_and_ends_at_the_own_record() -> None:
    """Nothing below what the store has, but for attempts without an outcome; nothing after."""
    kept, first = crashed("a")
    for number in range(20):
        first.accept(key(f"k{number}"))
        first.settle()
    reached = kept.stores.reached[SOURCE]
    assert (reached.floor, reached.next_offset) == (1, 22)
    second = kept.owner().take_over()
    assert second.read_ranges()[0] == (1, 22)
    assert max(end for _, end in second.read_ranges()) == 22
    assert set(second.log.attempts.since) == {key("a")}


def test_a_disk_that_has_everything_is_not_read_again() -> None:
    """A restart on the same machine costs one record, however long the log is."""
    kept, first = crashed("a")
    for number in range(20):
        first.accept(key(f"k{number}"))
        first.settle()
    first.partition.settle(0)
    first.accept(key("last"))
    first.settle()
    first.close()
    first.settle()
    second = kept.owner().take_over()
    assert second.knows("k0", "last")
    assert sum(end - (start or 0) for start, end in second.read_ranges()) <= 2


def test_a_machine_without_a_store_reads_the_whole_log() -> None:
    """From its start, in chunks, each written with the place it reaches."""
    kept, first = crashed("a")
    for number in range(30):
        first.accept(key(f"k{number}"))
        first.settle()
    second = kept.owner(own_disk=True).take_over()
    assert second.read_ranges()[0] == (None, 32)
    assert len(second.reads) > 5
    assert second.knows(*[f"k{number}" for number in range(30)])
    read, of = second.log.progress
    assert read >= of > 0


def test_how_much_of_it_is_read_can_be_seen() -> None:
    """Offsets read, of how many, for whoever waits for a rebuild."""
    kept, first = crashed("a")
    for number in range(30):
        first.accept(key(f"k{number}"))
        first.settle()
    second = kept.owner(own_disk=True).begin()
    seen = []
    while not second.is_ready() and not second.is_in(Phase.TAKEOVER):
        second.answer() if second.actions else second.settle_one()
        seen.append(second.log.progress)
    assert seen == sorted(seen)
    assert {of for _, of in seen} == {0, 32}
    assert seen[-1][0] == 33


def test_gaps_in_the_log_do_no_harm() -> None:
    """Markers of transactions have offsets and no records, also right before the own record."""
    kept, first = crashed("a")
    kept.topic.skip(STATE_TP, 3)
    first.accept(key("a"))
    first.settle()
    kept.topic.skip(STATE_TP, 7)
    second = kept.owner(own_disk=True).begin()
    second.answer()
    second.write()
    kept.topic.skip(STATE_TP, 2)
    second.settle()
    assert second.knows("a")
    second.wait()
    assert second.is_ready()


def test_what_is_none_of_ours_in_the_log_says_nothing() -> None:
    """Null values, other programs' records, records of a later version, half of one."""
    kept = Kept()
    offset = kept.put(Kind.ACCEPTED, key("a"))
    whole = kept.topic.logs[STATE_TP][offset].value
    assert whole is not None
    for value in (None, b"", b"x" * 60, b"\x02" + whole[1:], whole[:-3], whole[:30]):
        kept.topic.append(STATE_TP, value, kept.clock.wall_ms)
    owner = kept.owner().take_over()
    assert owner.is_ready()
    assert set(owner.disk.keys) == {(SOURCE, key("a"))}


def test_what_retention_deleted_below_the_stores_place_is_not_missed() -> None:
    """The store has it; the log's start is where reading goes on."""
    kept, first = crashed("a")
    for number in range(10):
        first.accept(key(f"k{number}"))
        first.settle()
    kept.topic.delete_before(STATE_TP, 6)
    second = kept.owner().take_over()
    assert second.read_ranges()[0] == (1, 12)
    assert second.knows(*[f"k{number}" for number in range(10)])
    second.wait()
    assert second.is_ready()


def test_retention_that_deletes_what_the_store_never_had_does_not_stop_a_rebuild() -> None:
    """Those acceptances are older than the window; the rest counts."""
    kept, first = crashed("a")
    for number in range(10):
        first.accept(key(f"k{number}"))
        first.settle()
    kept.topic.delete_before(STATE_TP, 8)
    second = kept.owner(own_disk=True).take_over()
    assert not second.knows("k4")
    assert second.knows("k8", "k9")
    assert second.is_ready(), "nothing is left that tells of an owner to wait for"


def test_a_log_that_is_all_deleted_is_a_log() -> None:
    """Only its offsets are left."""
    kept, _ = crashed("a")
    kept.topic.delete_before(STATE_TP, 2)
    second = kept.owner(own_disk=True).take_over()
    assert second.is_ready()


@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_store_that_is_ahead_of_the_log_is_read_anew_from_the_logs_start(left: int) -> None:
    """The log lost its tail, or is another one: its place says nothing, its marks still count."""
    kept, first = crashed("a")
    for number in range(10):
        first.accept(key(f"k{number}"))
        first.settle()
    kept.topic.truncate(STATE_TP, left)
    kept.put(Kind.ACCEPTED, key("other"))
    second = kept.owner().take_over()
    assert second.knows("other", "k0", "k9")
    assert second.read_ranges()[0][0] is None
    if second.is_in(Phase.TAKEOVER):
        second.wait()
    assert second.is_ready()
    assert kept.stores.reached[SOURCE].next_offset <= kept.topic.ends[STATE_TP]


# What is known


def test_marks_that_are_too_old_are_not_stored() -> None:
    """Acceptances older than the window count no longer: to the millisecond."""
    kept = Kept()
    kept.put(Kind.ACCEPTED, key("old"))
    kept.clock.advance(0.001)
    kept.put(Kind.ACCEPTED, key("young"))
    kept.clock.advance(RULES.window_ms / 1000 - 0.001)
    owner = kept.owner().take_over()
    assert not owner.knows("old")
    assert owner.knows("young")


def test_an_acceptance_counts_from_the_later_of_both_clocks() -> None:
    """The process that wrote it may have had a slow clock; the broker's says when it was."""
    kept = Kept()
    now = kept.clock.wall_ms
    kept.put(Kind.ACCEPTED, key("a"), time_ms=now - 10 * HOUR_MS)
    owner = kept.owner().take_over()
    assert owner.disk.keys[SOURCE, key("a")] == now


def test_attempts_without_an_outcome_are_known_since_the_first_of_them() -> None:
    """By the earlier of both clocks: a repeat may only be too early to be given up, never late."""
    kept = Kept()
    first = kept.clock.wall_ms
    kept.put(Kind.ATTEMPTED, key("a"), key("b"))
    kept.clock.advance(60.0)
    kept.put(Kind.ATTEMPTED, key("a"), key("c"), time_ms=first - 5)
    kept.put(Kind.ATTEMPTED, key("d"), time_ms=first + HOUR_MS)
    owner = kept.owner().take_over()
    assert owner.log.attempts.since == {
        key("a"): first,
        key("b"): first,
        key("c"): first - 5,
        key("d"): first + 60_000,
    }


@pytest.mark.parametrize("kind", [Kind.ACCEPTED, Kind.REFUSED])
def test_an_outcome_ends_what_is_known_of_attempts(kind: Kind) -> None:
    """Accepted, or refused for certain: there is nothing to give up."""
    kept = Kept()
    kept.put(Kind.ATTEMPTED, key("a"), key("b"))
    kept.put(kind, key("a"))
    assert set(kept.owner().take_over().log.attempts.since) == {key("b")}


def test_a_refusal_denies_no_attempt_of_another_owner() -> None:
    """It was written late: somebody else has tried again since, with unknown outcome."""
    kept = Kept()
    kept.put(Kind.ATTEMPTED, key("a"), member=98)
    kept.put(Kind.ATTEMPTED, key("a"), member=99)
    kept.put(Kind.REFUSED, key("a"), member=98)
    assert set(kept.owner().take_over().log.attempts.since) == {key("a")}


def test_an_attempt_after_a_refusal_is_an_attempt() -> None:
    """The order of the log counts."""
    kept = Kept()
    first = kept.clock.wall_ms
    kept.put(Kind.ATTEMPTED, key("a"))
    kept.put(Kind.REFUSED, key("a"))
    kept.clock.advance(5.0)
    kept.put(Kind.ATTEMPTED, key("a"))
    assert kept.owner().take_over().log.attempts.since == {key("a"): first + 5000}


# How far the source was settled


def test_how_far_the_source_was_settled_is_the_furthest_that_anybody_said() -> None:
    """By the log or by the disk; below it records were settled before this owner began."""
    kept = Kept()
    kept.put(Kind.ACCEPTED, settled_through=40)
    kept.put(Kind.ACCEPTED, settled_through=70)
    kept.put(Kind.REFUSED, key("a"), settled_through=50)
    first = kept.owner().take_over()
    assert first.log.rewound_below == 70
    first.accept(key("b"), settled_through=90)
    first.settle()
    assert first.log.rewound_below == 70, "what it settled itself is not rewound"
    kept.topic.delete_before(STATE_TP, kept.topic.ends[STATE_TP])
    assert kept.owner().take_over().log.rewound_below == 90


def test_the_progress_of_another_topic_says_nothing() -> None:
    """The source was deleted and made again: its offsets begin anew; what was accepted stays so."""
    kept = Kept()
    first = kept.owner(b"o" * 16).take_over()
    first.accept(key("a"), settled_through=500)
    first.settle()
    for own_disk in (False, True):
        second = kept.owner(own_disk=own_disk).take_over()
        assert second.log.settled_through == 0
        assert second.knows("a")


def test_the_record_that_opens_says_how_far_the_source_was_settled() -> None:
    """So the log alone tells it, however short retention leaves it."""
    kept = Kept()
    first = kept.owner().take_over()
    first.accept(key("a"), settled_through=7)
    first.settle()
    second = kept.owner().begin()
    second.answer()
    assert last_value(second).settled_through == 7
