"""What TikTok may have: from when on, until when, and who may deny it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.event import Instant
from consumer.state_attempts import Attempts

WINDOW_MS = 1000


def at(wall_ms: int) -> Instant:
    """A moment by the wall clock."""
    return Instant(0.0, wall_ms * 1_000_000)


def test_nothing_matters_before_anything_was_attempted() -> None:
    """A fresh partition holds nothing back."""
    assert not Attempts(WINDOW_MS).matter(at(0))


def test_what_was_found_matters_for_a_window_from_then_on_however_old_it_is() -> None:
    """After days of standing still its record is read late."""
    attempts = Attempts(WINDOW_MS)
    attempts.found([b"a"], b"member", 5, at(10_000))
    assert attempts.since == {b"a": 5}
    assert attempts.matter(at(10_000 + WINDOW_MS - 1))
    assert not attempts.matter(at(10_000 + WINDOW_MS))


def test_only_the_member_that_attempted_a_key_last_can_deny_it() -> None:
    """Neither another one, nor anybody what we attempted ourselves."""
    attempts = Attempts(WINDOW_MS)
    attempts.found([b"a", b"b"], b"one", 5, at(10))
    attempts.found([b"a"], b"two", 7, at(10))
    attempts.left(b"c", 8, at(10))
    attempts.denied([b"a", b"b", b"c"], b"one")
    assert attempts.since == {b"a": 5, b"c": 8}


def test_a_later_word_ends_an_attempt() -> None:
    """Nothing of it is kept, nor does it matter."""
    attempts = Attempts(WINDOW_MS)
    attempts.found([b"a"], b"one", 5, at(10))
    attempts.forget([b"a", b"unknown"])
    assert attempts.since == {}
    assert not attempts.matter(at(10))


def test_an_announcement_ends_what_it_says_and_nothing_found_after_it_was_made() -> None:
    """One that says of no attempt knew of none."""
    attempts = Attempts(WINDOW_MS)
    attempts.found([b"a", b"b", b"c"], b"one", 5, at(10))
    attempts.announced([b"a", b"unknown"], 5)
    attempts.announced([b"b"], 0)
    attempts.announced([b"c"], 6)
    assert attempts.since == {b"b": 5, b"c": 5}


def test_what_is_left_again_and_again_takes_no_more_place() -> None:
    """An event may go to the tail of the retry topic every minute of a day."""
    attempts = Attempts(WINDOW_MS)
    for now in range(100):
        attempts.left(b"a", 5, at(now))
    assert len(attempts._left) == 1
    attempts.forget([b"a"])
    assert not attempts._left


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 300)), min_size=1))
def test_what_was_left_is_kept_for_its_window_and_hardly_longer(
    steps: list[tuple[bytes, int]],
) -> None:
    """The latest word of each key counts; what is too old goes with the next one."""
    attempts, now, expected = Attempts(WINDOW_MS), WINDOW_MS + 1, {}
    for key, passed in steps:
        now += passed
        attempts.left(key, now, at(now))
        expected[key] = now
        oldest = now - WINDOW_MS
        assert attempts.since == {k: since for k, since in expected.items() if since > oldest}
        assert attempts.matter(at(now))
