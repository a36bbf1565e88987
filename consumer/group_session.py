"""How long the broker waits for a silent member, where that is the group's setting (KIP-848)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, the stubs forget it
    AdminClient,
    ConfigResource,
    ResourceType,
)

from consumer.kafka_properties import admin_properties

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)

DEFAULT_SECONDS: Final = 45.0
"""Kafka's own default of `group.consumer.session.timeout.ms`."""

_KEY: Final = "consumer.session.timeout.ms"


class GroupSession:
    """Asks the broker for the group's session time-out; blocks, so it lives on a thread."""

    def __init__(self, properties: Mapping[str, str], group_id: str) -> None:
        self._properties = admin_properties(properties)
        self._resource = ConfigResource(ResourceType.GROUP, group_id)
        self._told: float | None = None

    def news(self, timeout: float) -> float | None:
        """The session time-out in seconds, if it is another than the one told last.

        The first answer is always news. A broker that does not tell it within `timeout` seconds
        (an old one, or one that does not allow the question) is taken to use Kafka's default.
        """
        found = self._ask(timeout)
        if isinstance(found, str):
            if self._told is not None:
                return None
            _log.warning(
                "The broker does not tell the group's session time-out (%s): %.0f s are assumed",
                found,
                DEFAULT_SECONDS,
            )
            found = DEFAULT_SECONDS
        if found == self._told:
            return None
        self._told = found
        return found

    def _ask(self, timeout: float) -> float | str:
        """The time-out in seconds, or why it is not told."""
        try:
            # Made for the moment: it is asked seldom, and would keep connections.
            admin = AdminClient(self._properties, logger=logging.getLogger("consumer.kafka"))
            cluster = admin.list_topics(timeout=timeout)
            if cluster.controller_id >= 0 and cluster.controller_id not in cluster.brokers:
                return "its controller is not among its brokers"
            answers = admin.describe_configs([self._resource], request_timeout=timeout)
            entries = answers[self._resource].result()
        except KafkaException as error:
            return str(error.args[0])
        entry = entries.get(_KEY)
        if entry is None or entry.value is None or not entry.value.isdecimal():
            return f"it has no {_KEY}"
        return int(entry.value) / 1000
