"""Names of the consumer's own topics, and which source topic each belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Purpose(StrEnum):
    """What an own topic is for."""

    STATE = "state"
    RETRY = "retry"
    DEAD_LETTER = "dead-letter"
    RECEIPTS = "receipts"


@dataclass(frozen=True, slots=True)
class OwnTopics:
    """The names. None means the default: one own topic for each source topic, and no receipts.

    A configured state or retry topic belongs to the only source topic, since it has its partition
    numbers; `consumer.combinations` refuses it beside several.
    """

    group: str
    state: str | None = None
    retry: str | None = None
    dead_letter: str | None = None
    receipts: str | None = None

    def state_of(self, source: str) -> str:
        """Where the accepted keys of a source topic are kept."""
        return self.state or f"{self.group}.{source}.dedup"

    def retry_of(self, source: str) -> str:
        """Where events of a source topic wait for their destination."""
        return self.retry or f"{self.group}.{source}.retry"

    def dead_letter_of(self, source: str) -> str:
        """Where the dead letters of a source topic go."""
        return self.dead_letter or f"{source}.dlq"

    def of(self, source: str) -> dict[Purpose, str]:
        """All of a source topic."""
        own = {
            Purpose.STATE: self.state_of(source),
            Purpose.RETRY: self.retry_of(source),
            Purpose.DEAD_LETTER: self.dead_letter_of(source),
        }
        return own if self.receipts is None else {**own, Purpose.RECEIPTS: self.receipts}


def is_topic_name(name: str) -> bool:
    """Whether Kafka takes this as the name of a topic."""
    return bool(re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", name)) and name not in (".", "..")
