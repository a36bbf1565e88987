"""Access tokens follow their files and are shown to nobody."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pytest

from consumer.event import Destination, EventSource
from consumer.secret import Secret, SecretSource
from consumer.tokens import CHECK_SECONDS, Tokens, TokenWatch

if TYPE_CHECKING:
    from pathlib import Path

PIXEL = ("web", "C9ABC1234567890DEFGH")
OTHER = ("web", "C9OTHER4567890DEFGHI")


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        """Now."""
        return self.seconds

    def pass_a_check(self) -> None:
        """Until the next look at the files."""
        self.seconds += CHECK_SECONDS


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


def of_file(path: Path, clock: Clock) -> Tokens:
    return Tokens({PIXEL: SecretSource(file=path)}, {}, clock)


def test_each_destination_has_its_own_token(file: Path, clock: Clock) -> None:
    """From the environment or from a file, without the white space around it."""
    sources = {PIXEL: SecretSource(env="PIXEL_TOKEN"), OTHER: SecretSource(file=file)}
    tokens = Tokens(sources, {"PIXEL_TOKEN": " one "}, clock)
    assert tokens.current(*PIXEL) == Secret("one")
    assert tokens.current(*OTHER) == Secret("first")
    assert tokens.version(*PIXEL) == tokens.version(*OTHER) == 1


def test_a_token_that_was_never_there_is_none_until_it_is(tmp_path: Path, clock: Clock) -> None:
    """A secret that is mounted late is picked up."""
    path = tmp_path / "late"
    tokens = of_file(path, clock)
    assert tokens.current(*PIXEL) is None
    assert tokens.version(*PIXEL) == 0
    path.write_text("here")
    clock.pass_a_check()
    assert tokens.current(*PIXEL) == Secret("here")
    assert tokens.version(*PIXEL) == 1


def test_an_unset_variable_is_no_token(clock: Clock) -> None:
    """Nothing is sent with an empty token."""
    assert Tokens({PIXEL: SecretSource(env="UNSET")}, {}, clock).current(*PIXEL) is None


def test_a_rewritten_file_is_read_again_at_the_next_check(file: Path, clock: Clock) -> None:
    """Without a restart, and the version tells that the token is another one."""
    tokens = of_file(file, clock)
    assert tokens.current(*PIXEL) == Secret("first")
    file.write_text("second")
    assert tokens.current(*PIXEL) == Secret("first")
    clock.pass_a_check()
    assert tokens.version(*PIXEL) == 2
    assert tokens.current(*PIXEL) == Secret("second")


def test_a_link_that_points_elsewhere_is_noticed(tmp_path: Path, clock: Clock) -> None:
    """Mounted secrets are replaced by a new link, with equal size and time of change."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, ns=(1, 1))
    link = tmp_path / "token"
    link.symlink_to(tmp_path / "one")
    tokens = of_file(link, clock)
    assert tokens.current(*PIXEL) == Secret("one")
    link.unlink()
    link.symlink_to(tmp_path / "two")
    clock.pass_a_check()
    assert tokens.current(*PIXEL) == Secret("two")


def test_the_same_token_written_again_is_no_new_version(file: Path, clock: Clock) -> None:
    """Somebody who waits for a new token is not woken by a touched file."""
    tokens = of_file(file, clock)
    assert tokens.version(*PIXEL) == 1
    file.write_text("first \n")
    clock.pass_a_check()
    assert tokens.version(*PIXEL) == 1


@pytest.mark.parametrize("content", [None, b"", b"two\nlines", b"\xff\xfe", b"x" * 20_000])
def test_a_file_without_a_usable_token_leaves_the_last_one(
    file: Path, clock: Clock, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Gone, empty, half written or no token at all: said once, and read again until it is one."""
    tokens = of_file(file, clock)
    assert tokens.current(*PIXEL) == Secret("first")
    file.unlink() if content is None else file.write_bytes(content)
    for _ in range(3):
        clock.pass_a_check()
        assert tokens.current(*PIXEL) == Secret("first")
        assert tokens.version(*PIXEL) == 1
    assert len(caplog.records) == 1
    assert str(file) in caplog.text
    file.write_text("second")
    clock.pass_a_check()
    assert tokens.current(*PIXEL) == Secret("second")


def test_the_file_is_looked_at_once_a_second_at_most(file: Path, clock: Clock) -> None:
    """However many requests are sent."""
    tokens = of_file(file, clock)
    tokens.current(*PIXEL)
    file.unlink()
    file.write_text("second")
    clock.seconds += CHECK_SECONDS * 0.99
    assert tokens.current(*PIXEL) == Secret("first")


def test_no_token_is_in_reprs_and_logs(
    file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A change is told by the destination, not by the token."""
    caplog.set_level(logging.DEBUG)
    file.write_text("canary-1")
    tokens = of_file(file, clock)
    tokens.current(*PIXEL)
    file.write_text("canary-2")
    clock.pass_a_check()
    shown = f"{tokens!r} {tokens.current(*PIXEL)!r} {caplog.text}"
    assert "a new one is in use" in shown
    assert "canary" not in shown


DESTINATION = Destination(EventSource(PIXEL[0]), PIXEL[1])


def test_a_new_token_of_a_shut_destination_is_noticed_once(file: Path, clock: Clock) -> None:
    """So that it is tried at once, and not at the next probe."""
    tokens = of_file(file, clock)
    watch = TokenWatch(tokens, [DESTINATION])
    tokens.current(*PIXEL)
    assert watch.changed(()) == []
    assert watch.changed({DESTINATION}) == []
    file.write_text("second")
    assert watch.changed({DESTINATION}) == [], "the file is looked at once a second"
    clock.pass_a_check()
    assert watch.changed({DESTINATION}) == [DESTINATION]
    clock.pass_a_check()
    assert watch.changed({DESTINATION}) == []
    assert tokens.current(*PIXEL) == Secret("second")


def test_a_token_that_comes_late_is_noticed(tmp_path: Path, clock: Clock) -> None:
    """A destination without any token sends nothing, so nobody else would look for it."""
    watch = TokenWatch(of_file(tmp_path / "late", clock), [DESTINATION])
    assert watch.changed({DESTINATION}) == []
    (tmp_path / "late").write_text("here")
    clock.pass_a_check()
    assert watch.changed({DESTINATION}) == [DESTINATION]


def test_no_file_is_looked_at_while_nothing_is_shut(tmp_path: Path, clock: Clock) -> None:
    """A destination that sends looks itself."""
    tokens = of_file(tmp_path / "late", clock)
    watch = TokenWatch(tokens, [DESTINATION])
    (tmp_path / "late").write_text("here")
    clock.pass_a_check()
    assert watch.changed(()) == []
    assert tokens.in_use(*PIXEL) == 0


def test_a_token_that_was_replaced_before_the_destination_shut_is_no_news(
    file: Path, clock: Clock
) -> None:
    """It is the one that was refused."""
    tokens = of_file(file, clock)
    watch = TokenWatch(tokens, [DESTINATION])
    tokens.current(*PIXEL)
    file.write_text("second")
    clock.pass_a_check()
    tokens.current(*PIXEL)
    assert watch.changed(()) == []
    clock.pass_a_check()
    assert watch.changed({DESTINATION}) == []


def test_a_file_that_disappears_while_held_changes_nothing(file: Path, clock: Clock) -> None:
    """The last token read stays, and is tried at the usual pace."""
    tokens = of_file(file, clock)
    watch = TokenWatch(tokens, [DESTINATION])
    tokens.current(*PIXEL)
    watch.changed(())
    file.unlink()
    for _ in range(3):
        clock.pass_a_check()
        assert watch.changed({DESTINATION}) == []
    assert tokens.current(*PIXEL) == Secret("first")
