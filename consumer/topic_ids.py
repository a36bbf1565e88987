"""What ties commit metadata to a topic: the ids that the broker gave to it and to the cluster.

A topic that was deleted and made again has another id, and a mirrored one another cluster. Where
the broker does not tell them (an old or locked-down one), no metadata is written or believed.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from consumer.commit_metadata import binding
from consumer.kafka_errors import MISSING_TOPIC_ERRORS
from consumer.kafka_properties import admin_properties

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from concurrent.futures import Future

    from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, the stubs forget it
        TopicDescription,
    )

_log = logging.getLogger(__name__)


class TopicIds:
    """Asks the broker; blocks, so it lives on a consumer's thread."""

    def __init__(self, properties: Mapping[str, str]) -> None:
        self._properties = admin_properties(properties)
        self._told = False

    def bindings(self, topics: Iterable[str], timeout: float) -> dict[str, bytes]:
        """The binding of each topic whose ids the broker tells within `timeout` seconds.

        A topic that does not exist has none.
        """
        names = sorted(set(topics))
        if not names:
            return {}
        deadline = time.monotonic() + timeout
        try:
            # Made for the moment: it is asked once an assignment, and would keep connections.
            admin = AdminClient(self._properties, logger=logging.getLogger("consumer.kafka"))
            cluster = admin.list_topics(timeout=timeout)
            if cluster.controller_id >= 0 and cluster.controller_id not in cluster.brokers:
                return self._none("its controller is not among its brokers")
            answers = admin.describe_topics(
                TopicCollection(names), request_timeout=max(deadline - time.monotonic(), 0.1)
            )
            cluster_id: object = cluster.cluster_id  # the type stub knows none
            if not isinstance(cluster_id, str):
                return self._none("nor an id of the cluster")
            ids = {name: self._id(answer) for name, answer in answers.items()}
        except KafkaException as error:
            return self._none(str(error.args[0]))
        return {name: binding(cluster_id, id_) for name, id_ in ids.items() if id_ is not None}

    def _id(self, answer: Future[TopicDescription]) -> str | None:
        try:
            return str(answer.result().topic_id)
        except KafkaException as error:
            if error.args[0].name() not in MISSING_TOPIC_ERRORS:
                self._none(str(error.args[0]))
            return None

    def _none(self, why: str) -> dict[str, bytes]:
        if not self._told:
            self._told = True
            _log.warning(
                "The broker tells no topic ids (%s): after a restart, what was settled above the "
                "committed offset is looked up again",
                why,
            )
        return {}
