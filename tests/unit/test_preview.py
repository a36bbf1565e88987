"""A preview is what the consumer would do, in the words of a contract and in those of a person."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from click.testing import CliRunner, Result

from consumer import compose, preview_text
from consumer.cli import main
from consumer.client import HEADERS, envelope
from consumer.decode import Decoder, Encoding
from consumer.deliver import Request
from consumer.event import EventSource, Instant, Item, Mapped, Reason, TopicPartition, TraceIds
from consumer.intake import Intake
from consumer.dedup import Keys
from consumer.offsets import Partition
from consumer.plain_json import PlainForm
from consumer.preview import Preview, Previewer
from consumer.schemas import load_schema
from tests.support.configuration import config_of
from tests.support.events import EVENT_TIME_MS

if TYPE_CHECKING:
    from pathlib import Path

    from consumer.config import Config

FORM = PlainForm(load_schema("conversion_event"))
ENDPOINT = "https://business-api.tiktok.com/open_api/v1.3/event/track/"
LEAST: dict[str, Any] = {
    "event_id": "e1",
    "event": "purchase",
    "event_time": EVENT_TIME_MS,
    "page": {"url": "https://shop.example/thanks"},
    "consent": {"marketing": "GRANTED", "ad_user_data": "GRANTED"},
}
EMAIL = "Ada@Mail.example"


def preview(text: str = "", **fields: Any) -> Preview:
    return Previewer(config_of(text)).preview(FORM.read(LEAST | fields), EVENT_TIME_MS)


def words(config: Config, **fields: Any) -> str:
    found = Previewer(config).preview(FORM.read(LEAST | fields), EVENT_TIME_MS)
    return preview_text.text(
        found, list(compose.destinations(config)), missing=config.consent.missing
    )
