"""The emulator as a command: its files, its example and its summary."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import orjson
import pytest
from click.testing import CliRunner

from consumer.cli import main
from consumer.errors import ConfigError
from consumer.sandbox.access import Access
from consumer.sandbox.emulator_command import example_request, settings_from_files, summary_lines
from consumer.sandbox.faults import Scenario
from consumer.sandbox.ground_truth import GroundTruth, RequestSeen, request_id
from consumer.sandbox.rules import check_request

if TYPE_CHECKING:
    from pathlib import Path

PIXEL = "C1"
SECRET = "a-secret-token"


def test_without_files_any_token_is_good_and_all_is_well() -> None:
    """The command needs no preparation."""
    settings = settings_from_files(None, None, strict=True, remember=5000)
    assert (settings.tokens, settings.scenario) == (None, Scenario())
    assert (settings.strict, settings.remember) == (True, 5000)


def test_files_say_how_it_starts(tmp_path: Path) -> None:
    """A scenario and a list of tokens, both as JSON."""
    scenario, tokens = tmp_path / "scenario.json", tmp_path / "tokens.json"
    scenario.write_text('{"pixel_rates": {"C1": 20}, "burst_seconds": 0.5}')
    tokens.write_bytes(orjson.dumps({SECRET: {"app": "shop", "event_source_ids": [PIXEL]}}))
    settings = settings_from_files(scenario, tokens, strict=False, remember=5000)
    assert settings.scenario == Scenario(pixel_rates={PIXEL: 20}, burst_seconds=0.5)
    assert settings.tokens == {SECRET: Access("shop", frozenset({PIXEL}))}
    assert not settings.strict


@pytest.mark.parametrize(
    ("scenario", "tokens", "told"),
    [
        (None, b"{", "tokens.json: no JSON"),
        (None, b"[]", "tokens.json: an object"),
        (None, b'{"a-secret-token": {}}', "tokens.json: token 1"),
        (b"{", None, "scenario.json: no JSON"),
        (b'{"pixel_rate": "20"}', None, "scenario.json: scenario.pixel_rate"),
        (b'{"faults": [{"kind": "fire"}]}', None, "scenario.json: faults[0].kind"),
    ],
)
def test_a_wrong_file_is_a_sentence(
    tmp_path: Path, scenario: bytes | None, tokens: bytes | None, told: str
) -> None:
    """It names the file and the key, and no token."""
    paths: list[Path | None] = []
    for name, content in (("scenario.json", scenario), ("tokens.json", tokens)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        paths.append(None if content is None else tmp_path / name)
    with pytest.raises(ConfigError) as caught:
        settings_from_files(*paths, strict=True, remember=5000)
    assert told in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    """The reason is the system's own."""
    with pytest.raises(ConfigError, match=r"none\.json: No such file"):
        settings_from_files(tmp_path / "none.json", None, strict=True, remember=5000)


def test_a_wrong_file_is_wrong_usage_of_the_command(tmp_path: Path) -> None:
    """Exit code 2 and the sentence on stderr; nothing listens."""
    wrong = tmp_path / "scenario.json"
    wrong.write_text('{"wrding": "none"}')
    result = CliRunner().invoke(main, ["emulator", "--port", "0", "--scenario", str(wrong)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "scenario.wrding: unknown key" in result.stderr


@pytest.mark.parametrize("tokens", [None, {SECRET: Access("shop", frozenset({"C2", "C3"}))}])
def test_the_example_is_a_request_that_the_rules_accept(
    tokens: dict[str, Access] | None,
) -> None:
    """Copied into a shell it works; a listed token is not shown, its pixel is."""
    command = example_request("http://127.0.0.1:1/", 1_700_000_000, tokens)
    words = shlex.split(command)
    body = orjson.loads(words[words.index("-d") + 1])
    assert check_request(body) is None
    assert SECRET not in command
    assert body["event_source_id"] == ("C2" if tokens else "C9ABC1234567890DEFGH")


def test_the_summary_says_what_was_asked_and_taken() -> None:
    """Requests by code, most frequent first, then events; what did not happen is not listed."""
    truth = GroundTruth()
    for at, (code, events) in enumerate(((0, 2), (0, 1), (40132, 1), (None, 1))):
        number = truth.begin(at)
        data = [{"event": "A", "event_id": str(n)} for n in range(events)]
        taken = truth.accept(number, PIXEL, None, data) if code == 0 else (0, 0)
        fault = "hang" if code is None else None
        truth.note(RequestSeen(request_id(number), at, PIXEL, None, events, 9, code, fault, *taken))
    text = "\n".join(summary_lines(truth.summary()))
    assert re.search(r"^requests +4$", text, re.MULTILINE)
    assert re.search(r"code 0 +2  OK\n", text)
    assert re.search(r"code 40132 +1  Too many requests", text)
    assert re.search(r"code none +1  no answer", text)
    assert re.search(r"struck by faults +1  hang 1\n", text)
    assert re.search(r"received +5\n +counted +2\n +repeats dropped +1\n", text)
    assert re.search(r"for C1 +2$", text)
    assert "forgotten" not in text
    assert "test events" not in text
    assert max(map(len, text.splitlines())) <= 80
