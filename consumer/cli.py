"""The command `tiktok-events`.

Exit codes: 0 fine, 1 failed, 2 usage or configuration. What is expected to go wrong ends in a
sentence on stderr, never in a traceback. Each command imports what it needs when it runs, so that
`--help` and a wrong configuration answer at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consumer import __version__
from consumer.errors import ConfigError, TikTokEventsError

if TYPE_CHECKING:
    from consumer.config import Config

FAILED = 1
USAGE = 2


def _example(*lines: str) -> str:
    """The end of a command's help; the mark keeps click from filling the lines up."""
    return "\n".join(("\b", "Example:", *(f"  {line}" for line in lines)))


class Commands(click.Group):
    """A group whose expected errors are sentences and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; ends with `FAILED` or `USAGE` where it raises on purpose."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for problem in error.problems:
                click.echo(str(problem), err=True)
            ctx.exit(USAGE)
        except TikTokEventsError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(FAILED)


_config_file = click.option(
    "-c",
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="TIKTOK_EVENTS_CONFIG",
    default="tiktok-events.yaml",
    show_default=True,
    show_envvar=True,
    metavar="FILE",
    help="Configuration file.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")


@click.group(
    cls=Commands, epilog=_example("tiktok-events demo", "tiktok-events run -c tiktok-events.yaml")
)
@click.version_option(__version__, prog_name="tiktok-events")
def main() -> None:
    """Deliver conversion events from Kafka to TikTok's Events API.

    Nothing is lost, each event is counted once, and whatever became of one can be explained.
    """


@main.command(epilog=_example("TIKTOK_ACCESS_TOKEN=... tiktok-events run -c tiktok-events.yaml"))
@_config_file
def run(config_file: Path) -> None:
    """Deliver events until stopped.

    SIGTERM or SIGINT settles what is in flight within shutdown_timeout and exits 0; a second one
    exits at once.
    """
    config = _load(config_file)
    from consumer import app  # noqa: PLC0415  the whole program, which --help does not need

    sys.exit(app.run(config))


@main.command(epilog=_example("tiktok-events demo --events 5000"))
@click.option(
    "--events",
    type=click.IntRange(min=100),
    default=20_000,
    show_default=True,
    help="How many sample events to produce.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Draws the same events again.")
def demo(events: int, seed: int) -> None:
    """Show it at work in a whole local world.

    An embedded broker, a schema registry and a TikTok emulator are started on this machine; sample
    events with duplicates, bad ones, denied consent and a throttled minute go through the real
    consumer. Then a summary; exit 0 only if every promise held.
    """
    from consumer.sandbox import demo as world  # noqa: PLC0415  only the demo needs the sandbox

    sys.exit(world.run(events=events, seed=seed))


@main.command(
    epilog=_example(
        "tiktok-events emulator --port 8088",
        """echo '{"pixel_rate": 20, "retry_after": "1"}' > scenario.json""",
        """echo '{"a-token": {"app": "shop", "event_source_ids": ["C9..."]}}' > tokens.json""",
        "tiktok-events emulator --scenario scenario.json --tokens tokens.json",
    )
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8088,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--scenario",
    "scenario_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="How TikTok behaves at first, as JSON: latency, limits, faults. [default: all is well]",
)
@click.option(
    "--tokens",
    "tokens_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Which tokens there are, of which app and for which pixels, as JSON. [default: any token]",
)
@click.option(
    "--strict/--no-strict",
    default=True,
    show_default=True,
    help="Check every field of every event, or only count them (for load tests).",
)
@click.option(
    "--remember",
    type=click.IntRange(min=1000),
    default=2_000_000,
    show_default=True,
    help="Events and requests to remember at most; about 110 bytes each.",
)
def emulator(
    host: str,
    port: int,
    scenario_file: Path | None,
    tokens_file: Path | None,
    *,
    strict: bool,
    remember: int,
) -> None:
    """Run the TikTok emulator alone, until stopped.

    It checks every field as strictly as TikTok does, refuses with TikTok's own wordings, throttles
    and deduplicates, and tells over HTTP what it accepted. What goes wrong can be changed over
    HTTP while it runs. A summary is printed at the end.
    """
    from consumer.sandbox import emulator_command  # noqa: PLC0415  nothing else needs it

    settings = emulator_command.settings_from_files(
        scenario_file, tokens_file, strict=strict, remember=remember
    )
    try:
        sys.exit(emulator_command.run_emulator(host, port, settings))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "cannot be listened on"
        click.echo(f"Error: {host}:{port}: {reason}; choose another --port", err=True)
        sys.exit(FAILED)


@main.group(
    cls=Commands,
    epilog=_example(
        "tiktok-events config example > tiktok-events.yaml",
        "tiktok-events config show -c tiktok-events.yaml",
    ),
)
def config() -> None:
    """Describe, show or begin a configuration."""


@config.command(
    "schema", epilog=_example("tiktok-events config schema > tiktok-events.schema.json")
)
def config_schema() -> None:
    """Print the JSON Schema of the configuration file (draft 2020-12).

    Editors complete and check the file with it.
    """
    from consumer.config import json_schema  # noqa: PLC0415  see the module's docstring

    click.echo(json.dumps(json_schema(), indent=2))


@config.command("show", epilog=_example("tiktok-events config show -c tiktok-events.yaml --json"))
@_config_file
@_json
def config_show(config_file: Path, *, as_json: bool) -> None:
    """Print the effective configuration: file, environment and defaults, secrets masked.

    The tokens and files it names need not be there.
    """
    masked = _load(config_file, references=False).masked()
    if as_json:
        click.echo(json.dumps(masked, indent=2))
    else:
        import yaml  # noqa: PLC0415  see the module's docstring

        click.echo(yaml.safe_dump(masked, sort_keys=False, allow_unicode=True), nl=False)


@config.command("example", epilog=_example("tiktok-events config example > tiktok-events.yaml"))
def config_example() -> None:
    """Print a configuration file to begin with: every key, its meaning and its default."""
    from consumer.example import example_text  # noqa: PLC0415  see the module's docstring

    click.echo(example_text(), nl=False)


def _load(config_file: Path, *, references: bool = True) -> Config:
    """The configuration of a command; the environment alone where there is no file to be found.

    Raises:
        ConfigError: with every problem.
    """
    from consumer.config import load  # noqa: PLC0415  see the module's docstring
    from consumer.configfile import ENVIRONMENT_PREFIX  # noqa: PLC0415  the same

    context = click.get_current_context()
    by_default = context.get_parameter_source("config_file") is click.core.ParameterSource.DEFAULT
    by_environment = any(name.startswith(ENVIRONMENT_PREFIX) for name in os.environ)
    if by_default and by_environment and not config_file.exists():
        return load(None, os.environ, references=references)
    return load(config_file, os.environ, references=references)
