"""Errors of the producer, by librdkafka's names: what kind they are, and what cures them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from consumer.messages import Acknowledged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.messages import Produce, ProduceError

TIME_REFUSED: Final = "INVALID_TIMESTAMP"
TOO_LARGE: Final = frozenset({"MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"})

PRODUCER_GONE: Final = frozenset(
    {
        "_FATAL",
        "_PURGE_QUEUE",
        "_PURGE_INFLIGHT",
        "OUT_OF_ORDER_SEQUENCE_NUMBER",
        "UNKNOWN_PRODUCER_ID",
        "INVALID_PRODUCER_EPOCH",
        "INVALID_PRODUCER_ID_MAPPING",
    }
)
"""The record was not refused: its producer has ended, or the broker knows it no more."""

_GONE: Final = "does not exist: restart the consumer, or create the topic again"
_REPLICAS: Final = "has fewer replicas in sync than min.insync.replicas: bring the brokers back"
_IDENTITY: Final = "grant the consumer's principal IdempotentWrite on the cluster"
_CREDENTIALS: Final = "check the credentials in kafka.properties"
_HOW_TO_MEND: Final[Mapping[str, str]] = {
    "_UNKNOWN_TOPIC": _GONE,
    "_UNKNOWN_PARTITION": _GONE,
    "UNKNOWN_TOPIC_OR_PART": _GONE,
    # What waited for a partition when the client heard that its topic, or its broker, is gone.
    "_DESTROY": "its partition or broker has gone: if the topic does not exist, restart the"
    " consumer, or create the topic again",
    "NOT_ENOUGH_REPLICAS": _REPLICAS,
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND": _REPLICAS,
    "TOPIC_AUTHORIZATION_FAILED": "grant the consumer's principal the right to write to the topic",
    "CLUSTER_AUTHORIZATION_FAILED": _IDENTITY,
    "_AUTHENTICATION": _CREDENTIALS,
    "SASL_AUTHENTICATION_FAILED": _CREDENTIALS,
    "INVALID_RECORD": "the broker wants a key: set the topic's cleanup.policy to delete",
    "INVALID_TIMESTAMP": "set the topic's message.timestamp.before.max.ms higher",
    # librdkafka tries again by itself until the time is over, and does not say what it met.
    "_MSG_TIMED_OUT": "not acknowledged in time, written or not: a broker is away, too few"
    " replicas are in sync, or the topic is gone",
}
"""What to do about an error; nothing more is known of those that are not in here."""


def failed(record: Produce, error: str, trouble: str | None) -> Acknowledged:
    """What to tell of a record that was not acknowledged.

    Only its size is a record's own fault: whatever else goes wrong, it can be produced again.
    `trouble` is what the client met last, where a time-out hides the cause. The detail names the
    topic and what to do, and nothing of the record.
    """
    where = record.topic if record.partition is None else f"{record.topic}/{record.partition}"
    detail = ": ".join(filter(None, (where, error, _HOW_TO_MEND.get(error))))
    if trouble is not None and trouble != error:
        detail = f"{detail} ({trouble})"
    kind: ProduceError = "too_large" if error in TOO_LARGE else "retriable"
    return Acknowledged(record.handle, kind, detail)
