"""`tiktok-events send`: judge an event as the consumer will, then produce it.

A test that counts as a conversion cannot be taken back: it is reported, paid for and learned from.
So an event that TikTok itself would count needs a test code, or the word that it is meant. Where
the configured endpoint is not TikTok's, an emulator's say, a warning is enough.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from consumer import compose, preview_text
from consumer.errors import InputError
from consumer.event_file import read_event_file
from consumer.plain_json import PlainForm
from consumer.preview import Previewer
from consumer.schemas import load_schema
from consumer.send import send

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.config import Config
    from consumer.preview import Preview
    from consumer.send import Sent

_CONVERSION = "without a test event code it counts as a real conversion"


@dataclass(frozen=True, slots=True)
class Orders:
    """What the options say; the command's help has their meaning."""

    now: bool = False
    test_event_code: str | None = None
    live: bool = False
    topic: str | None = None
    register: bool = False
    force: bool = False


def run(
    config: Config, environ: Mapping[str, str], event_file: str, orders: Orders, *, as_json: bool
) -> int:
    """Produces the event and prints where it went; the exit code: 1 where it was refused, else 0.

    Raises:
        InputError: the file holds no event, or the options do not fit each other or the event.
        TikTokEventsError: it was not produced.
    """
    if orders.live and orders.test_event_code is not None:
        raise InputError("--live", "is the opposite of --test-event-code: give one of them")
    document = read_event_file(event_file)
    wall_ms = time.time_ns() // 1_000_000
    if orders.now:
        document["event_time"] = wall_ms
    if orders.test_event_code is not None:
        document["test_event_code"] = orders.test_event_code
    plain = PlainForm(load_schema("conversion_event")).read(document)
    preview = Previewer(config).preview(plain, wall_ms)
    told = preview_text.summary(preview, list(compose.destinations(config)))
    # Standard output is the machine's where it asked for JSON.
    click.echo(told, err=as_json)
    event = plain.event
    if event is None or (preview.outcome == "dead_lettered" and not orders.force):
        cure = "no schema takes it" if event is None else "--force produces it all the same"
        click.echo(f"Error: nothing was produced; {cure}", err=True)
        return 1
    _ask_whether_it_counts(preview, config.tiktok.endpoint, orders)
    sent = send(config, environ, event, topic=orders.topic, register=orders.register)
    _tell(sent, event["event_id"], preview, as_json=as_json)
    return 0


def _ask_whether_it_counts(preview: Preview, endpoint: str, orders: Orders) -> None:
    """Stops an event that TikTok would count, unless that is what was ordered.

    Raises:
        InputError: it has no test code, and nobody said that it is meant.
    """
    if orders.live or preview.mapped is None or preview.mapped.test_event_code is not None:
        return
    host = urlsplit(endpoint).hostname or ""
    if host == "tiktok.com" or host.endswith(".tiktok.com"):
        raise InputError(
            "--test-event-code",
            f"{_CONVERSION}; give the code of Events Manager's Test Events, or say --live",
        )
    click.echo(f"Warning: {_CONVERSION}, if {host} passes it on to TikTok", err=True)


def _tell(sent: Sent, event_id: str, preview: Preview, *, as_json: bool) -> None:
    if as_json:
        code = preview.mapped.test_event_code if preview.mapped is not None else None
        told: dict[str, Any] = {
            **sent._asdict(),
            "event_id": event_id,
            "test_event_code": code,
            "outcome": preview.outcome,
            "reason": preview.reason,
        }
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(f"\nProduced to {sent.topic}, partition {sent.partition}, offset {sent.offset}")
    if sent.registered:
        click.echo(f"Registered the event schema as {sent.topic}-value, with id {sent.schema_id}")
