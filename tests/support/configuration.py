"""Configurations as text, with the one destination that each needs."""

from __future__ import annotations

import pytest

from consumer.config import Config, parse
from consumer.errors import ConfigError

DESTINATION = """
destinations:
  - event_source_id: PIXEL
    access_token: {env: TOKEN}
"""


def config_of(text: str = "", **environ: str) -> Config:
    """What a file with this text and the destination means."""
    return parse(text + DESTINATION, environ, references=False)


def problems_of(text: str, *, references: bool = False, **environ: str) -> dict[str, str]:
    """What is wrong with a file of exactly this text: key and message. Something has to be."""
    with pytest.raises(ConfigError) as refused:
        parse(text, environ, references=references)
    return dict(refused.value.problems)
