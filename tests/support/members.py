"""Settings of a group's member, and records for it to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from consumer.event import Record
from consumer.own_topics import OwnTopics
from consumer.source import SourceSettings
from tests.support.clusters import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EPOCH_MS = 1_750_000_000_000
"""The timestamp of the first record; the others follow, a millisecond each."""


class Group(Protocol):
    """What a member has to know of a broker."""

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`."""

    @property
    def session_timeout_ms(self) -> str:
        """For the classic protocol."""

    @property
    def protocol(self) -> str:
        """That of groups which do not care."""


def records(topic: str, number: int, first: int = 0) -> list[Record]:
    """So many records, in turn for each partition; their values count from `first`."""
    return [
        Record(topic, i % PARTITIONS, 0, EPOCH_MS + i, b"k%d" % i, b"v%d" % i, ())
        for i in range(first, first + number)
    ]


def values(read: Iterable[Record]) -> list[bytes]:
    """What was read, whatever the order."""
    return sorted(record.value or b"" for record in read)


def member(
    cluster: Group,
    topic: str,
    *,
    protocol: str | None = None,
    properties: Mapping[str, str] | None = None,
    **more: Any,
) -> SourceSettings:
    """Settings of a member that reads the topic; without more, in a group of the topic's own."""
    group = more.pop("group_id", f"readers-of-{topic}")
    given = {
        "bootstrap.servers": cluster.bootstrap_servers,
        "group.protocol": protocol or cluster.protocol,
        "session.timeout.ms": cluster.session_timeout_ms,
        "heartbeat.interval.ms": "300",
        **(properties or {}),
    }
    more.setdefault("own_topics", OwnTopics(group))
    return SourceSettings(topics=[topic], group_id=group, properties=given, **more)
