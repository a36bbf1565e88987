from __future__ import annotations

import json

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from consumer import __version__
from consumer.cli import Commands, main
from consumer.config import json_schema, parse
from consumer.errors import SourceError, StartError, StoreError, TikTokEventsError


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for name, command in group.commands.items():
        inner = (*path, name)
        found += commands(command, inner) if isinstance(command, click.Group) else [inner]
    return found


def invoke(*arguments: str, **environ: str) -> Result:
    return CliRunner(env=environ).invoke(main, arguments)


@pytest.mark.parametrize("path", commands(main), ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    """The example is a whole line that can be copied."""
    result = invoke(*path, "--help")
    assert result.exit_code == 0
    assert "Example:" in result.output
    assert " ".join(("tiktok-events", *path)) in result.output.partition("Example:")[2]


def test_the_version_is_the_distribution_s() -> None:
    """`--version` names the program and its version."""
    result = invoke("--version")
    assert (result.exit_code, result.output) == (0, f"tiktok-events, version {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["run", "--nonsense"], ["demo", "--events", "few"], ["emulator", "--port", "x"]],
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    """An unknown command or option, or a wrong value, is usage."""
    assert invoke(*arguments).exit_code == 2


def test_config_schema_prints_the_json_schema() -> None:
    """Machine-readable, and the same as the program uses."""
    result = invoke("config", "schema")
    assert result.exit_code == 0
    assert json.loads(result.output) == json_schema()


def test_config_example_prints_a_configuration_that_loads_with_every_default() -> None:
    """Every key stands in it with the value it has when it is left out."""
    result = invoke("config", "example")
    assert result.exit_code == 0
    example = parse(result.output, {}, references=False)
    least = {"destinations": yaml.safe_load(result.output)["destinations"]}
    assert example == parse(yaml.safe_dump(least), {}, references=False)
    assert set(yaml.safe_load(result.output)) == set(json_schema()["properties"])


def test_config_show_prints_the_effective_configuration_of_the_environment_alone() -> None:
    """Without a file, and masked: the password shows as a mask, the token as its place."""
    result = invoke(
        "config",
        "show",
        "--json",
        TIKTOK_EVENTS__DESTINATIONS="[{event_source_id: P, access_token: {env: TOKEN}}]",
        TIKTOK_EVENTS__KAFKA__PROPERTIES__SASL_PASSWORD="CANARY",
        TOKEN="CANARY",
    )
    assert result.exit_code == 0
    shown = json.loads(result.output)
    assert shown["destinations"][0]["access_token"] == {"env": "TOKEN"}
    assert shown["kafka"]["properties"] == {"sasl.password": "********"}
    assert "CANARY" not in result.output


def test_a_wrong_configuration_exits_2_with_one_problem_a_line() -> None:
    """On stderr, `path: message`, so that a person and a script read it alike."""
    result = invoke("run", TIKTOK_EVENTS__WORKERS="0", TIKTOK_EVENTS__ADMIN__PROT="1")
    assert result.exit_code == 2
    assert result.stdout == ""
    paths = [line.partition(": ")[0] for line in result.stderr.splitlines()]
    assert sorted(paths) == ["admin.prot", "destinations", "workers"]


@pytest.mark.parametrize(
    "error",
    [
        StartError("topic conversions is missing", "create it"),
        SourceError("another instance took over", "give each its own id", "FENCED_INSTANCE_ID"),
        StoreError(None, "the disk is full"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_expected_error_is_a_sentence_and_exit_1(error: TikTokEventsError) -> None:
    """Whatever a command raises on purpose; the operator sees no traceback."""

    def fail() -> None:
        raise error

    group = Commands(commands={"fail": click.Command("fail", callback=fail)})
    result = CliRunner().invoke(group, ["fail"])
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {error}\n")
