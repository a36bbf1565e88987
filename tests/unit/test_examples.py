"""Every example in deploy/examples loads, and its events become exactly what stands beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from consumer import __version__
from consumer.cli import main
from consumer.config import Config, load
from consumer.errors import ConfigError
from consumer.event_file import read_event_file
from consumer.plain_json import PlainForm
from consumer.preview import Previewer
from consumer.sandbox.rules import check_request
from consumer.schemas import load_schema

FOLDER = Path(__file__).parents[2] / "deploy" / "examples"
CONFIGURATIONS = sorted(FOLDER.glob("*.yaml"))
EVENTS = sorted(path for path in FOLDER.glob("*.json") if not path.stem.endswith(".preview"))
PREVIEWED_AT_MS = 1_769_876_460_000
"""A minute after most of the events: 2026-01-31T16:21:00Z."""

SECRETS = ("tiktok-token", "registry-password", "ca.pem")
INTERPOLATED = {"KAFKA_USERNAME": "made-up", "KAFKA_PASSWORD": "made-up"}
"""What stands in the files as `${NAME}`, and so has to be there to read them at all."""


def name(path: Path) -> str:
    return path.name


def configuration_of(event: Path) -> Path:
    """The configuration whose name the event's begins with."""
    fitting = [path for path in CONFIGURATIONS if f"{event.stem}-".startswith(f"{path.stem}-")]
    assert len(fitting) == 1
    return fitting[0]


def needs(configuration: Path) -> set[str]:
    """The variables that the comment on top says it needs."""
    text = configuration.read_text(encoding="utf-8")
    (line,) = re.findall(r"^# Needs in the environment: (.*)$", text, re.MULTILINE)
    return set(re.findall(r"[A-Z][A-Z_]+", line)) - {"SECRETS"}


def test_the_usual_cases_are_there_and_each_has_an_event() -> None:
    """None without an event, no event without its configuration and what becomes of it."""
    assert {path.stem for path in CONFIGURATIONS} == {
        "web",
        "several-pixels",
        "app",
        "eu-consent",
        "sasl-registry-auth",
    }
    assert {configuration_of(event) for event in EVENTS} == set(CONFIGURATIONS)
    previews = {path.name for path in FOLDER.glob("*.preview.json")}
    assert previews == {f"{event.stem}.preview.json" for event in EVENTS}


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=name)
def test_it_loads_with_what_its_comment_says_it_needs(path: Path, tmp_path: Path) -> None:
    """The variables and files named on top are enough to run; a variable less is a problem."""
    for secret in SECRETS:
        (tmp_path / secret).write_text("made-up", encoding="utf-8")
    environ = dict.fromkeys(needs(path), "made-up") | {"SECRETS": str(tmp_path)}
    assert load(path, environ, references=True).destinations
    for key in needs(path):
        with pytest.raises(ConfigError, match=key):
            load(path, {k: v for k, v in environ.items() if k != key}, references=True)


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=name)
def test_it_can_be_looked_at_without_its_secrets(path: Path) -> None:
    """So that its events can be previewed anywhere."""
    assert isinstance(load(path, INTERPOLATED, references=False), Config)


def expected(event: Path) -> Any:
    """What stands beside the event, with the version of this program in it."""
    text = (FOLDER / f"{event.stem}.preview.json").read_text(encoding="utf-8")
    return json.loads(re.sub(r'"tiktok-events/[^"]*"', f'"tiktok-events/{__version__}"', text))


@pytest.mark.parametrize("event", EVENTS, ids=name)
def test_its_event_becomes_exactly_what_stands_beside_it(event: Path) -> None:
    """The whole preview; and TikTok, as far as its rules are known, takes the request."""
    config = load(configuration_of(event), INTERPOLATED, references=False)
    plain = PlainForm(load_schema("conversion_event")).read(read_event_file(str(event)))
    shown = Previewer(config).preview(plain, PREVIEWED_AT_MS).as_json()
    assert json.loads(json.dumps(shown)) == expected(event)
    if shown["request"] is not None:
        assert check_request(shown["request"]["body"]) is None


@pytest.mark.parametrize("event", EVENTS, ids=name)
def test_the_command_in_its_comment_works_at_any_time(event: Path) -> None:
    """With `--now` no example gets too old; it ends as the one beside it."""
    configuration = configuration_of(event)
    command = f"#   tiktok-events preview -c {configuration.name} --now {event.name}"
    assert command in configuration.read_text(encoding="utf-8").splitlines()
    arguments = ["preview", "-c", str(configuration), "--now", "--json", str(event)]
    result = CliRunner(env=INTERPOLATED).invoke(main, arguments)
    assert result.exit_code == 0
    shown, stated = json.loads(result.stdout), expected(event)
    for found in (shown, stated):
        if found["request"] is not None:
            del found["request"]["body"]["data"][0]["event_time"]
    assert shown == stated


def test_every_outcome_of_an_example_is_sent_or_suppressed_on_purpose() -> None:
    """Nobody copies an event that ends as a dead letter; one shows what a lack of consent does."""
    outcomes = {event.stem: expected(event)["outcome"] for event in EVENTS}
    assert set(outcomes.values()) == {"send", "suppressed"}
    assert outcomes["eu-consent-missing"] == "suppressed"


def test_the_guide_names_every_example() -> None:
    """What is not listed is not found."""
    guide = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    for path in CONFIGURATIONS:
        assert f"(examples/{path.name})" in guide
