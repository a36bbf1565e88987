"""Dead-letter topics are created and checked, or the check says that it is off."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from consumer.errors import ConfigError, StartError
from consumer.event import Record
from consumer.sandbox.broker import EmbeddedBroker, NewRecord
from consumer.topics import DEAD_LETTER_HEADROOM, TopicProblem, ensure_topics

if TYPE_CHECKING:
    from tests.support.kafka import RealKafka


def dead_letters_of(topic: str) -> str:
    return f"{topic}.dlq"


async def ensured(servers: str, *topics: str, create: bool = True) -> list[TopicProblem]:
    properties = {"bootstrap.servers": servers}
    return await ensure_topics(properties, topics, dead_letters_of, create=create, timeout=5.0)


async def test_a_missing_dead_letter_topic_is_made_like_its_source(kafka: RealKafka) -> None:
    """It has the source's partitions, and room for the source's largest record and headers."""
    kafka.create_topic("topics-source", 3, {"max.message.bytes": "500000"})
    assert await ensured(kafka.bootstrap_servers, "topics-source") == []
    assert kafka.partitions("topics-source.dlq") == 3
    config = kafka.topic_config("topics-source.dlq")
    assert int(config["max.message.bytes"]) == 500000 + DEAD_LETTER_HEADROOM
    assert await ensured(kafka.bootstrap_servers, "topics-source", create=False) == []


async def test_a_dead_letter_topic_takes_and_keeps_any_timestamp(kafka: RealKafka) -> None:
    """A broker's own rule refuses what is an hour ahead: one such letter would hold a partition."""
    anything = {"message.timestamp.after.max.ms": str(2**62)}
    kafka.create_topic("topics-times", 1, anything)
    assert await ensured(kafka.bootstrap_servers, "topics-times") == []
    ahead = Record("topics-times.dlq", 0, 0, 2**52, b"k", b"v", ())
    kafka.produce("topics-times.dlq", [ahead])
    assert [r.timestamp for r in kafka.read_all("topics-times.dlq")] == [2**52]


async def test_a_missing_topic_that_must_not_be_created_is_refused_with_the_command(
    kafka: RealKafka,
) -> None:
    """`kafka.create_topics: false` names the exact command and creates nothing."""
    kafka.create_topic("topics-strict", 2, {"max.message.bytes": "500000"})
    (problem,) = await ensured(kafka.bootstrap_servers, "topics-strict", create=False)
    assert problem.topic == "topics-strict.dlq"
    assert problem.how_to_mend == (
        f"kafka-topics.sh --bootstrap-server {kafka.bootstrap_servers} --create"
        " --topic topics-strict.dlq --partitions 2 --replication-factor 1"
        " --config max.message.bytes=565536"
        " --config message.timestamp.type=CreateTime"
        " --config message.timestamp.before.max.ms=9223372036854775807"
        " --config message.timestamp.after.max.ms=9223372036854775807"
    )
    assert kafka.partitions("topics-strict.dlq") == 0


async def test_a_dead_letter_topic_that_would_lose_letters_is_refused(kafka: RealKafka) -> None:
    """Compaction deletes letters with equal keys, and a small limit refuses large ones."""
    kafka.create_topic("topics-bad", 1, {"max.message.bytes": "500000"})
    kafka.create_topic(
        "topics-bad.dlq", 1, {"max.message.bytes": "1000", "cleanup.policy": "compact"}
    )
    problems = await ensured(kafka.bootstrap_servers, "topics-bad")
    assert [problem.how_to_mend.rsplit(" ", 1)[1] for problem in problems] == [
        "cleanup.policy=delete",
        "max.message.bytes=565536",
    ]


async def test_a_subscription_that_would_read_its_own_dead_letters_is_refused(
    kafka: RealKafka,
) -> None:
    """A pattern that matches a dead-letter topic would feed the consumer its own letters."""
    kafka.create_topic("topics-loop", 1)
    (problem,) = await ensured(kafka.bootstrap_servers, "^topics-loop.*")
    assert problem.topic == "topics-loop.dlq"
    assert kafka.partitions("topics-loop.dlq") == 0


async def test_a_broker_without_topic_administration_turns_the_checks_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A broker that lacks the calls is no obstacle; each check that is off is said once."""
    with EmbeddedBroker() as broker, caplog.at_level(logging.WARNING, logger="consumer.topics"):
        broker.produce("t", [NewRecord(b"k", b"v")])
        broker.produce("u", [NewRecord(b"k", b"v")])
        assert await ensured(broker.bootstrap_servers, "t", "u") == []
    assert len(caplog.messages) == 2
    assert all("left out" in message for message in caplog.messages)


async def test_a_broker_that_does_not_answer_is_an_error_of_the_start() -> None:
    """Nothing listens there: the operator is told what to check."""
    with pytest.raises(StartError, match=r"kafka\.bootstrap_servers"):
        await ensured("127.0.0.1:9")


@pytest.mark.parametrize(
    ("name", "value"), [("Sasl.Password", "CANARY"), ("security.protocol", 'CANARY" for')]
)
async def test_a_property_that_librdkafka_refuses_is_a_problem_of_the_configuration(
    name: str, value: str
) -> None:
    """A mistyped property is named with its key, not a traceback; its value is not quoted."""
    properties = {"bootstrap.servers": "localhost:1", name: value}
    with pytest.raises(ConfigError) as caught:
        await ensure_topics(properties, ["t"], dead_letters_of, create=True)
    (problem,) = caught.value.problems
    assert problem.path == "kafka.properties"
    assert name in problem.message
    assert "CANARY" not in problem.message
