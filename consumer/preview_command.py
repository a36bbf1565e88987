"""`tiktok-events preview`: a file with an event in, what would become of it out."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from consumer import compose, preview_text
from consumer.event_file import read_event_file
from consumer.plain_json import PlainForm
from consumer.preview import Previewer
from consumer.schemas import load_schema

if TYPE_CHECKING:
    from consumer.config import Config


def run(config: Config, event_file: str, *, as_json: bool, now: bool) -> int:
    """Prints the preview; the exit code: 1 for a dead letter, else 0.

    Args:
        config: the configuration; what it refers to need not be there.
        event_file: name of the file, `-` for standard input.
        as_json: print `Preview.as_json` instead of words.
        now: take the event as if it happened now.

    Raises:
        InputError: the file holds no event to judge.
    """
    document = read_event_file(event_file)
    wall_ms = time.time_ns() // 1_000_000
    if now:
        document["event_time"] = wall_ms
    plain = PlainForm(load_schema("conversion_event")).read(document)
    preview = Previewer(config).preview(plain, wall_ms)
    if as_json:
        click.echo(json.dumps(preview.as_json(), indent=2))
    else:
        targets = list(compose.destinations(config))
        click.echo(preview_text.text(preview, targets, missing=config.consent.missing))
    return 1 if preview.outcome == "dead_lettered" else 0
