"""Kafka's error codes, by name, as the policies they mean for the group's member."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from consumer.errors import ConfigError, Problem
from consumer.event import TopicPartition
from consumer.source_events import CommitResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka import KafkaError
    from confluent_kafka import TopicPartition as KafkaPartition


def refused_properties(error: Exception) -> ConfigError:
    """What to tell of a client that librdkafka would not make; it names one property at a time."""
    cause = error.args[0] if error.args else error
    told = cause.str() if hasattr(cause, "str") else str(cause)
    # It may quote the value, and a secret may stand at the wrong property.
    told = re.sub(r'^Invalid value ".*" for', "Invalid value for", told)
    return ConfigError((Problem("kafka.properties", f"is refused by librdkafka: {told}"),))


POSITION_ERRORS: Final = frozenset({"_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE", "_LOG_TRUNCATION"})
"""The broker has no record at the offset that was to be fetched."""

MISSING_TOPIC_ERRORS: Final = frozenset(
    {"UNKNOWN_TOPIC_OR_PART", "UNKNOWN_TOPIC_ID", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION"}
)
"""The topic, or that partition of it, is not there: not yet, or no longer."""

_GRANT = "grant the consumer's principal the right to"
_FAILURES: Final[Mapping[str, str]] = {
    # What the client calls fatal it reports under this name only: the text says which error it was.
    "_FATAL": "start the consumer again; give each member its own group.instance.id if you set one",
    "FENCED_INSTANCE_ID": "another member runs with this group.instance.id: give each its own",
    "UNRELEASED_INSTANCE_ID": "another member runs with this group.instance.id: give each its own",
    "TOPIC_AUTHORIZATION_FAILED": f"{_GRANT} describe and read the topics",
    "GROUP_AUTHORIZATION_FAILED": f"{_GRANT} read the group",
    "CLUSTER_AUTHORIZATION_FAILED": f"{_GRANT} use the cluster",
    "INVALID_GROUP_ID": "set another kafka.group_id",
    "INVALID_SESSION_TIMEOUT": "set session.timeout.ms within the broker's limits",
    "INCONSISTENT_GROUP_PROTOCOL": "stop the group's members that use another protocol first",
    "UNSUPPORTED_ASSIGNOR": "stop the group's members that use another protocol first",
    "_UNSUPPORTED_FEATURE": "use a newer broker, or group.protocol: classic",
}
"""Waiting cures none of these: somebody has to change a setting, a right or another member."""

RETRIABLE_COMMIT_ERRORS: Final = frozenset(
    {
        # The group is rebalancing or this member has to join again: what is still owned after
        # that can be committed then.
        "REBALANCE_IN_PROGRESS",
        "ILLEGAL_GENERATION",
        "UNKNOWN_MEMBER_ID",
        "STALE_MEMBER_EPOCH",
        "_ASSIGNMENT_LOST",
        # The coordinator moves, starts, or does not answer.
        "NOT_COORDINATOR",
        "COORDINATOR_NOT_AVAILABLE",
        "COORDINATOR_LOAD_IN_PROGRESS",
        "REQUEST_TIMED_OUT",
        "NETWORK_EXCEPTION",
        "UNSTABLE_OFFSET_COMMIT",
        "UNKNOWN_TOPIC_OR_PART",
        "THROTTLING_QUOTA_EXCEEDED",
        "_TIMED_OUT",
        "_TIMED_OUT_QUEUE",
        "_TRANSPORT",
        "_WAIT_COORD",
        "_ALL_BROKERS_DOWN",
        "_IN_PROGRESS",
    }
)


def is_failure(error: KafkaError) -> bool:
    """Whether the member cannot go on."""
    return error.fatal() or error.name() in _FAILURES


def how_to_mend(error: KafkaError) -> str:
    """What an operator can do about a failure."""
    return _FAILURES.get(error.name(), "start the consumer again")


def commit_results(
    error: KafkaError | None, partitions: Iterable[KafkaPartition], number: int | None = None
) -> list[CommitResult]:
    """One result for each partition; `error` holds for those without an error of their own."""
    results: list[CommitResult] = []
    for partition in partitions:
        tp = TopicPartition(partition.topic, partition.partition)
        cause = partition.error or error
        if cause is None:
            results.append(CommitResult(tp, partition.offset, None, retriable=False, number=number))
        else:
            retriable = cause.name() in RETRIABLE_COMMIT_ERRORS or cause.retriable()
            results.append(CommitResult(tp, partition.offset, cause.name(), retriable, number))
    return results
