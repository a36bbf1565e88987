"""The demo, seen from outside: the installed command, what it prints and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = Path(sys.executable).with_name("tiktok-events")
EVENTS = 2000


@contextmanager
def demo(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo that keeps its files below `folder`; it is gone when the context ends."""
    process = subprocess.Popen(
        [COMMAND, "demo", "--events", str(EVENTS), "--seed", "3"],
        env={**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


def read_until(stream: IO[str] | None, words: str) -> str:
    """What is printed up to the line with these words."""
    read = ""
    for line in stream or ():
        read += line
        if words in line:
            return read
    pytest.fail(f"the demo never said {words!r} but:\n{read}")


def consumers_of(folder: Path) -> list[str]:
    """The command lines of processes that run with a configuration below `folder`."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        if str(folder) in command and " run " in command:
            found.append(command)
    return found


def number(text: str, label: str) -> int:
    """The first number of the summary's line that begins with this label."""
    match = re.search(rf"^ +{re.escape(label)} +([0-9,]+)", text, re.MULTILINE)
    assert match is not None, f"no line {label!r} in:\n{text}"
    return int(match[1].replace(",", ""))


def send_an_event_of_ones_own(url: str) -> None:
    """What another program with a token for the same pixel would do."""
    body = {
        "event_source": "web",
        "event_source_id": "C9SHOPALPHA000000001",
        "data": [
            {
                "event": "ViewContent",
                "event_time": int(time.time()),
                "event_id": "not-of-this-shop-1",
                "user": {"ttclid": "E.C.P.stranger"},
                "page": {"url": "https://shop.example.com/"},
            }
        ],
    }
    headers = {"Content-Type": "application/json", "Access-Token": "any"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310  only loopback is asked
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  the same
        assert json.load(answer)["code"] == 0


def test_the_demo_shows_that_the_promises_hold(tmp_path: Path) -> None:
    """Exit 0, every figure in the summary, and neither a process nor a file left behind."""
    with demo(tmp_path) as running:
        text, _ = running.communicate(timeout=180)
    assert running.returncode == 0, text
    assert "Every promise held." in text
    assert "Consumer killed (SIGKILL)" in text
    assert number(text, "produced") == EVENTS
    good = number(text, "delivered")
    assert number(text, "counted once") == good
    assert number(text, "counted more than once") == 0
    outcomes = ("delivered", "duplicates", "suppressed", "dead letters")
    assert sum(number(text, outcome) for outcome in outcomes) == EVENTS
    assert number(text, "total") == number(text, "dead letters") > 0
    assert number(text, "throttled (40132)") > 0
    assert number(text, "sent again") > 0
    assert max(map(len, text.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == []
    assert consumers_of(tmp_path) == []


def test_the_demo_fails_when_tiktok_s_truth_disagrees(tmp_path: Path) -> None:
    """Another program sends an event of its own: exit 1, and the sentence names that event."""
    with demo(tmp_path) as running:
        url = read_until(running.stdout, "TikTok at ").split("TikTok at ")[1].strip()
        send_an_event_of_ones_own(url)
        text, _ = running.communicate(timeout=180)
    assert running.returncode == 1, text
    assert "Not as promised:" in text
    (sentence,) = (line for line in text.splitlines() if line.startswith("  - "))
    assert "not-of-this-shop-1" in sentence
    assert "Every promise held." not in text
    (kept,) = tmp_path.iterdir()
    assert str(kept) in text
    names = {"consumer-1.log", "consumer-2.log", "tiktok-events.yaml"}
    assert {file.name for file in kept.iterdir()} == names


@pytest.mark.parametrize("number_of_signal", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, number_of_signal: int) -> None:
    """Ctrl-C in the middle: exit 1 with a sentence, no process, no file, no traceback."""
    with demo(tmp_path) as running:
        read_until(running.stdout, "Consumer at work")
        assert consumers_of(tmp_path) != []
        running.send_signal(number_of_signal)
        text, _ = running.communicate(timeout=60)
    assert (running.returncode, text.splitlines()[-1]) == (
        1,
        "Interrupted: everything is stopped and cleaned up.",
    )
    assert "Traceback" not in text
    assert list(tmp_path.iterdir()) == []
    assert consumers_of(tmp_path) == []
