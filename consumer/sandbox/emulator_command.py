"""The body of `tiktok-events emulator`: the emulator alone, from its files to what it says."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson

from consumer.errors import ConfigError, Problem
from consumer.sandbox.access import TokensError, tokens_from_json
from consumer.sandbox.answers import MESSAGES
from consumer.sandbox.emulator import serve
from consumer.sandbox.faults import Scenario, ScenarioError
from consumer.sandbox.scenario_json import scenario_from_json
from consumer.sandbox.tiktok import EmulatorSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from consumer.sandbox.tiktok import Access

_T = TypeVar("_T")
_EVENT_SOURCE_ID = "C9ABC1234567890DEFGH"
_LABEL_COLUMNS = 26


def settings_from_files(
    scenario: Path | None, tokens: Path | None, *, strict: bool, remember: int
) -> EmulatorSettings:
    """How the emulator starts, from the command's options.

    Raises:
        ConfigError: a file cannot be read, or what is in it cannot be understood.
    """
    return EmulatorSettings(
        tokens=None if tokens is None else _read(tokens, tokens_from_json),
        scenario=Scenario() if scenario is None else _read(scenario, scenario_from_json),
        strict=strict,
        remember=remember,
    )


def run_emulator(
    host: str = "127.0.0.1",
    port: int = 8088,
    settings: EmulatorSettings | None = None,
    say: Callable[[str], object] = click.echo,
) -> int:
    """Runs an emulator until SIGTERM or SIGINT. Returns 0.

    `say` is given the endpoint's address and a request to try, and at the end a summary, line by
    line.

    Raises:
        OSError: the address cannot be listened on.
    """
    return asyncio.run(_run(host, port, settings or EmulatorSettings(), say))


async def _run(
    host: str, port: int, settings: EmulatorSettings, say: Callable[[str], object]
) -> int:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with serve(settings, host, port) as running:
        say(f"TikTok emulator at {running.url}")
        say(f"What it accepted: {running.control_url}/truth and {running.control_url}/events")
        say(
            f"Make it fail: PATCH {running.control_url}/scenario, POST {running.control_url}/faults"
        )
        say(f"Try it:\n{example_request(running.url, int(time.time()), settings.tokens)}")
        await stopped.wait()
        for line in summary_lines(running.truth.summary()):
            say(line)
    return 0


def example_request(url: str, event_time: int, tokens: Mapping[str, Access] | None = None) -> str:
    """A curl command that the emulator at `url` accepts; `event_time` in seconds.

    Where tokens are listed the command does not show one, but says where it belongs.
    """
    pixels = sorted(
        {each for access in (tokens or {}).values() for each in access.event_source_ids}
    )
    body = {
        "event_source": "web",
        "event_source_id": pixels[0] if pixels else _EVENT_SOURCE_ID,
        "data": [
            {
                "event": "ViewContent",
                "event_time": event_time,
                "event_id": f"example-{event_time}",
                "user": {"ttclid": "E.C.P.example"},
                "page": {"url": "https://shop.example.com/"},
            }
        ],
    }
    token = "any" if tokens is None else "$TOKEN"
    return (
        f"curl -X POST {url} -H \"Access-Token: {token}\" -H 'Content-Type: application/json'"
        f" -d '{orjson.dumps(body).decode()}'"
    )


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """What a person wants to know at the end, from `GroundTruth.summary`."""
    lines = ["", _line("requests", summary["requests"])]
    codes: Mapping[str, int] = summary["requests_by_code"]
    lines += [
        _line(f"  code {code}", count, _meaning(code))
        for code, count in sorted(codes.items(), key=lambda each: -each[1])
    ]
    if struck := summary["requests_by_fault"]:
        told = ", ".join(f"{kind} {count:,}" for kind, count in sorted(struck.items()))
        lines.append(_line("  struck by faults", sum(struck.values()), told))
    lines += [
        _line("events received", summary["events_received"]),
        _line("  counted", summary["events_accepted"]),
        _line("  repeats dropped", summary["events_deduplicated"]),
    ]
    if tests := summary["test_events_accepted"]:
        lines.append(_line("  test events", tests, "counted apart from real ones"))
    destinations: Mapping[str, int] = summary["distinct_events_by_destination"]
    lines += [
        _line(f"  for {event_source_id}", count)
        for event_source_id, count in sorted(destinations.items())
    ]
    if forgotten := summary["events_forgotten"]:
        lines.append(_line("  forgotten", forgotten, "more than --remember allows"))
    return lines


def _meaning(code: str) -> str:
    if code == "none":
        return "no answer that could be read"
    if code == "40002":
        return "Bad parameters."
    return MESSAGES.get(int(code), "")


def _line(label: str, count: int, note: str = "") -> str:
    return f"{label:<{_LABEL_COLUMNS}} {count:>10,}  {note}".rstrip()


def _read(path: Path, understand: Callable[[object], _T]) -> _T:
    try:
        return understand(orjson.loads(path.read_bytes()))
    except OSError as error:
        problem = Problem(str(path), error.strerror or "cannot be read")
    except orjson.JSONDecodeError as error:
        problem = Problem(str(path), f"no JSON: {error}")
    except (ScenarioError, TokensError) as error:
        problem = Problem(str(path), str(error))
    raise ConfigError((problem,))
