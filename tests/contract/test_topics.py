"""The consumer's own topics are created, checked and extended, or the check says that it is off."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, the stubs forget it
    AdminClient,
    NewPartitions,
)

from consumer.errors import ConfigError, StartError
from consumer.event import Record
from consumer.own_topics import OwnTopics
from consumer.sandbox.broker import EmbeddedBroker, NewRecord
from consumer.topic_rules import HEADROOM, Spans
from consumer.topics import Ensured, Grown, TopicKeeper, TopicProblem

if TYPE_CHECKING:
    from tests.support.kafka import RealKafka

HOUR, DAY = 3600, 86_400
SPANS = Spans(window=48.0 * HOUR, max_age=7.0 * DAY)
OWN = OwnTopics("grp")


def keeper(servers: str, *topics: str, create: bool = True, own: OwnTopics = OWN) -> TopicKeeper:
    properties = {"bootstrap.servers": servers}
    return TopicKeeper(properties, topics, own, SPANS, create=create, timeout=5.0)


def extend(kafka: RealKafka, topic: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
    admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(20)
    deadline = time.monotonic() + 20
    while kafka.partitions(topic) != partitions:
        assert time.monotonic() < deadline, f"{topic} has not grown"
        time.sleep(0.05)


async def problems(kafka: RealKafka, *topics: str, create: bool = True) -> list[TopicProblem]:
    found = await keeper(kafka.bootstrap_servers, *topics, create=create).ensure()
    return list(found.problems)


async def test_missing_own_topics_are_made_like_their_source(kafka: RealKafka) -> None:
    """Each has the source's partitions and what its promise needs; the next look is content."""
    kafka.create_topic("made", 3, {"max.message.bytes": "500000", "retention.ms": f"{DAY}000"})
    assert await problems(kafka, "made") == []
    state, retry, letters = (
        kafka.topic_config(OWN.of("made")[purpose]) for purpose in OWN.of("made")
    )
    assert [kafka.partitions(name) for name in OWN.of("made").values()] == [3, 3, 3]
    assert {config["cleanup.policy"] for config in (state, retry, letters)} == {"delete"}
    assert (state["retention.ms"], state["retention.bytes"]) == (f"{72 * HOUR}000", "-1")
    assert state["message.timestamp.type"] == "LogAppendTime"
    assert state["segment.ms"] == f"{6 * HOUR}000"
    assert (retry["retention.ms"], retry["retention.bytes"]) == (f"{8 * DAY}000", "-1")
    assert retry["message.timestamp.type"] == letters["message.timestamp.type"] == "CreateTime"
    assert int(retry["max.message.bytes"]) == 500000 + HEADROOM
    assert int(letters["max.message.bytes"]) == 500000 + HEADROOM
    assert await problems(kafka, "made", create=False) == []


async def test_retry_and_dead_letter_topics_take_and_keep_any_timestamp(kafka: RealKafka) -> None:
    """A broker's own rule refuses what is an hour ahead: one such letter would hold a partition."""
    kafka.create_topic("times", 1, {"message.timestamp.after.max.ms": str(2**62)})
    assert await problems(kafka, "times") == []
    for topic in (OWN.retry_of("times"), OWN.dead_letter_of("times")):
        kafka.produce(topic, [Record(topic, 0, 0, 2**52, b"k", b"v", ())])
        assert [r.timestamp for r in kafka.read_all(topic)] == [2**52]


async def test_the_state_topic_has_the_brokers_time(kafka: RealKafka) -> None:
    """A producer whose clock is years behind cannot make its marks look ready for deletion."""
    kafka.create_topic("clocks", 1)
    assert await problems(kafka, "clocks") == []
    topic = OWN.state_of("clocks")
    kafka.produce(topic, [Record(topic, 0, 0, 1_000_000, None, b"v", ())])
    [record] = kafka.read_all(topic)
    assert record.timestamp > 1_700_000_000_000


async def test_missing_topics_that_must_not_be_created_are_refused_with_the_commands(
    kafka: RealKafka,
) -> None:
    """`kafka.create_topics: false` names the exact commands and creates nothing."""
    kafka.create_topic("strict", 2, {"max.message.bytes": "500000"})
    state, retry, letters = await problems(kafka, "strict", create=False)
    begin = f"kafka-topics.sh --bootstrap-server {kafka.bootstrap_servers} --create --topic "
    source_retention = kafka.topic_config("strict")["retention.ms"]
    assert state.how_to_mend == (
        f"{begin}grp.strict.dedup --partitions 2 --replication-factor 1"
        " --config cleanup.policy=delete --config message.timestamp.type=LogAppendTime"
        " --config retention.ms=259200000 --config retention.bytes=-1"
        " --config segment.ms=21600000 --config max.message.bytes=1048576"
    )
    assert retry.how_to_mend == (
        f"{begin}grp.strict.retry --partitions 2 --replication-factor 1"
        " --config cleanup.policy=delete --config message.timestamp.type=CreateTime"
        " --config message.timestamp.before.max.ms=9223372036854775807"
        " --config message.timestamp.after.max.ms=9223372036854775807"
        f" --config retention.ms={'-1' if source_retention == '-1' else '691200000'}"
        " --config retention.bytes=-1 --config max.message.bytes=565536"
    )
    assert letters.how_to_mend == (
        f"{begin}strict.dlq --partitions 2 --replication-factor 1"
        " --config cleanup.policy=delete --config message.timestamp.type=CreateTime"
        " --config message.timestamp.before.max.ms=9223372036854775807"
        " --config message.timestamp.after.max.ms=9223372036854775807"
        " --config max.message.bytes=565536"
    )
    assert [kafka.partitions(name) for name in OWN.of("strict").values()] == [0, 0, 0]


async def test_the_commands_that_are_told_do_what_they_say(kafka: RealKafka) -> None:
    """The topics they describe pass the check: their settings are the broker's own words."""
    kafka.create_topic("obeyed", 2, {"max.message.bytes": "500000"})
    for problem in await problems(kafka, "obeyed", create=False):
        name = re.findall(r"--topic (\S+)", problem.how_to_mend)[0]
        config = dict(re.findall(r"--config (\S+?)=(\S+)", problem.how_to_mend))
        kafka.create_topic(name, 2, config)
    assert await problems(kafka, "obeyed", create=False) == []


async def test_own_topics_that_would_lose_records_are_refused_with_what_to_set(
    kafka: RealKafka,
) -> None:
    """Each setting under which marks, waiting events or letters would vanish, all at once."""
    kafka.create_topic("bad", 1, {"max.message.bytes": "500000", "retention.ms": f"{DAY}000"})
    early = {"retention.ms": f"{HOUR}000", "retention.bytes": "1000000"}
    kafka.create_topic(OWN.state_of("bad"), 1, {**early, "message.timestamp.type": "CreateTime"})
    kafka.create_topic(OWN.retry_of("bad"), 1, {**early, "max.message.bytes": "1000"})
    kafka.create_topic(
        OWN.dead_letter_of("bad"), 1, {"max.message.bytes": "1000", "cleanup.policy": "compact"}
    )
    found = await problems(kafka, "bad")
    assert [(p.topic, p.how_to_mend.rsplit(" ", 1)[1]) for p in found] == [
        ("grp.bad.dedup", "message.timestamp.type=LogAppendTime"),
        ("grp.bad.dedup", "retention.ms=259200000"),
        ("grp.bad.dedup", "retention.bytes=-1"),
        ("grp.bad.retry", "retention.ms=691200000"),
        ("grp.bad.retry", "retention.bytes=-1"),
        ("grp.bad.retry", "max.message.bytes=565536"),
        ("bad.dlq", "cleanup.policy=delete"),
        ("bad.dlq", "max.message.bytes=565536"),
    ]
    assert all(p.how_to_mend.startswith("kafka-configs.sh --bootstrap-server") for p in found)


async def test_own_topics_grow_with_their_source(kafka: RealKafka) -> None:
    """A source that grows while the consumer runs is told once, with its old and new count."""
    kafka.create_topic("grows", 2)
    running = keeper(kafka.bootstrap_servers, "grows")
    assert await running.ensure() == Ensured([], [])
    assert await running.ensure() == Ensured([], [])
    extend(kafka, "grows", 5)
    assert await running.ensure() == Ensured([], [Grown("grows", 2, 5)])
    assert [kafka.partitions(name) for name in OWN.of("grows").values()] == [5, 5, 5]
    assert await running.ensure() == Ensured([], [])


async def test_a_source_that_grew_while_nobody_ran_is_told_by_its_state_topic(
    kafka: RealKafka,
) -> None:
    """The first look finds fewer partitions there than the source has now."""
    kafka.create_topic("grew", 2)
    await keeper(kafka.bootstrap_servers, "grew").ensure()
    extend(kafka, "grew", 3)
    found = await keeper(kafka.bootstrap_servers, "grew").ensure()
    assert found == Ensured([], [Grown("grew", 2, 3)])


async def test_a_source_that_grew_is_told_although_an_operator_extended_the_state_topic(
    kafka: RealKafka,
) -> None:
    """Partitions that nobody has written to are new, where the others are not."""
    kafka.create_topic("mended", 2)
    await keeper(kafka.bootstrap_servers, "mended").ensure()
    state = OWN.state_of("mended")
    kafka.produce(state, [Record(state, p, 0, -1, None, b"v", ()) for p in range(2)])
    for name in ("mended", *OWN.of("mended").values()):
        extend(kafka, name, 4)
    young = await keeper(kafka.bootstrap_servers, "mended", create=False).ensure()
    assert young == Ensured([], [])
    kafka.delete_records(state, {0: 1, 1: 1})
    for _ in range(2):
        old = await keeper(kafka.bootstrap_servers, "mended", create=False).ensure()
        assert old == Ensured([], [Grown("mended", 2, 4)])
    kafka.produce(state, [Record(state, p, 0, -1, None, b"v", ()) for p in range(2, 4)])
    told = await keeper(kafka.bootstrap_servers, "mended", create=False).ensure()
    assert told == Ensured([], [])


async def test_topics_that_are_too_small_and_must_not_be_changed_are_refused_with_the_command(
    kafka: RealKafka,
) -> None:
    """State and retry need the source's partitions; dead letters find their place in any number."""
    kafka.create_topic("small", 3)
    for name in OWN.of("small").values():
        kafka.create_topic(name, 1, kafka_settings_of(name))
    found = await problems(kafka, "small", create=False)
    assert [p.how_to_mend for p in found] == [
        f"kafka-topics.sh --bootstrap-server {kafka.bootstrap_servers} --alter"
        f" --topic {name} --partitions 3"
        for name in ("grp.small.dedup", "grp.small.retry")
    ]


def kafka_settings_of(name: str) -> dict[str, str]:
    if name.endswith(".dedup"):
        return {"message.timestamp.type": "LogAppendTime", "retention.ms": "-1"}
    return {"retention.ms": "-1"}


async def test_a_state_topic_with_more_partitions_is_fine(kafka: RealKafka) -> None:
    """The numbers above the source's are never used."""
    kafka.create_topic("wide", 1)
    kafka.create_topic(OWN.state_of("wide"), 4, kafka_settings_of(".dedup"))
    assert await keeper(kafka.bootstrap_servers, "wide").ensure() == Ensured([], [])


async def test_a_new_topic_of_a_pattern_gets_its_own_topics_while_the_consumer_runs(
    kafka: RealKafka,
) -> None:
    """The next look finds it, without a restart."""
    kafka.create_topic("pattern-a", 1)
    running = keeper(kafka.bootstrap_servers, "^pattern-[a-z]$")
    assert await running.ensure() == Ensured([], [])
    kafka.create_topic("pattern-b", 2)
    assert await running.ensure() == Ensured([], [])
    assert [kafka.partitions(name) for name in OWN.of("pattern-b").values()] == [2, 2, 2]


@pytest.mark.parametrize("kind", ["dedup", "retry", "dlq"])
async def test_a_subscription_that_would_read_an_own_topic_is_refused(
    kafka: RealKafka, kind: str
) -> None:
    """A pattern that matches one would feed the consumer its own records; nothing is created."""
    source = f"loop-{kind}"
    own = OwnTopics("loop-group")
    name = {"dedup": own.state_of, "retry": own.retry_of, "dlq": own.dead_letter_of}[kind](source)
    kafka.create_topic(source, 1)
    pattern = f"^loop-.*{kind}$"
    found = await keeper(kafka.bootstrap_servers, pattern, own=own).ensure()
    assert name in [problem.topic for problem in found.problems]
    assert kafka.partitions(name) == 0


async def test_a_name_that_kafka_does_not_take_is_refused_before_anything_is_made(
    kafka: RealKafka,
) -> None:
    """The names of a pattern's topics are known only now: group and topic may be too long."""
    kafka.create_topic("named", 1)
    own = OwnTopics("g" * 240)
    found = await keeper(kafka.bootstrap_servers, "^named$", own=own).ensure()
    assert [p.topic for p in found.problems] == [own.state_of("named"), own.retry_of("named")]
    assert all("kafka.group_id" in problem.how_to_mend for problem in found.problems)
    assert kafka.partitions("named.dlq") == 0


async def test_a_name_that_a_patterns_topic_needs_is_refused_before_anything_is_made(
    kafka: RealKafka,
) -> None:
    """Receipts among accepted keys or dead letters would be read as some; seen only now."""
    kafka.create_topic("met", 1)
    for name in ("met.dlq", "grp.met.dedup", "grp.met.retry"):
        own = OwnTopics("grp", receipts=name)
        found = await keeper(kafka.bootstrap_servers, "^met$", own=own).ensure()
        assert [problem.topic for problem in found.problems] == [name]
        assert "and the receipts topic" in found.problems[0].what
        assert kafka.partitions(name) == 0


async def test_one_receipts_topic_serves_all_sources(kafka: RealKafka) -> None:
    """It is made as wide as the widest, and not made wider when that grows."""
    kafka.create_topic("sold", 1)
    kafka.create_topic("booked", 3)
    own = OwnTopics("grp", receipts="all.receipts")
    running = keeper(kafka.bootstrap_servers, "sold", "booked", own=own)
    assert await running.ensure() == Ensured([], [])
    assert kafka.partitions("all.receipts") == 3
    extend(kafka, "booked", 4)
    assert not (await running.ensure()).problems
    assert kafka.partitions("all.receipts") == 3


async def test_a_broker_without_topic_administration_turns_the_checks_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A broker that lacks the calls is no obstacle; each check that is off is said once."""
    with EmbeddedBroker() as broker, caplog.at_level(logging.WARNING, logger="consumer"):
        broker.produce("t", [NewRecord(b"k", b"v")])
        broker.produce("u", [NewRecord(b"k", b"v")])
        running = keeper(broker.bootstrap_servers, "t", "u")
        assert await running.ensure() == Ensured([], [])
        broker.produce(OWN.state_of("t"), [NewRecord(b"k", b"v")])
        assert await running.ensure() == Ensured([], [])
    assert len(caplog.messages) == 2
    assert all("left out" in message for message in caplog.messages)


async def test_a_broker_that_does_not_answer_is_an_error_that_may_pass() -> None:
    """Nothing listens there: the operator is told what to check."""
    with pytest.raises(StartError, match=r"kafka\.bootstrap_servers") as caught:
        await keeper("127.0.0.1:9", "t").ensure()
    assert caught.value.passing


@pytest.mark.parametrize(
    ("name", "value"), [("Sasl.Password", "CANARY"), ("security.protocol", 'CANARY" for')]
)
async def test_a_property_that_librdkafka_refuses_is_a_problem_of_the_configuration(
    name: str, value: str
) -> None:
    """A mistyped property is named with its key, not a traceback; its value is not quoted."""
    properties = {"bootstrap.servers": "localhost:1", name: value}
    with pytest.raises(ConfigError) as caught:
        await TopicKeeper(properties, ["t"], OWN, SPANS, create=True).ensure()
    (problem,) = caught.value.problems
    assert problem.path == "kafka.properties"
    assert name in problem.message
    assert "CANARY" not in problem.message
