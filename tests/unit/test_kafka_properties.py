from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.kafka_properties import (
    FORBIDDEN_PROPERTIES,
    admin_properties,
    consumer_properties,
    producer_properties,
)
from consumer.topics import subscription_problems

PROTOCOLS = st.sampled_from(["classic", "consumer"])


@given(
    protocol=PROTOCOLS,
    user=st.dictionaries(st.sampled_from(sorted(FORBIDDEN_PROPERTIES)), st.just("x")),
)
@settings(max_examples=100)
def test_what_the_promises_rest_on_cannot_be_changed(protocol: str, user: dict[str, str]) -> None:
    """Even a property that slipped past the configuration's check does not reach the client."""
    user = {**user, "group.protocol": protocol}
    consumer = consumer_properties(user, "g")
    assert consumer["group.id"] == "g"
    assert consumer["enable.auto.commit"] == consumer["enable.auto.offset.store"] == "false"
    assert consumer["auto.offset.reset"] == "error"
    producer = producer_properties(user)
    assert (producer["acks"], producer["enable.idempotence"]) == ("all", "true")


@pytest.mark.parametrize(
    "name",
    ["session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"],
)
def test_settings_of_the_classic_protocol_are_left_out_under_kip_848(name: str) -> None:
    """The client refuses them there; the same file serves both protocols."""
    user = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "500"}
    assert name in consumer_properties(user, "g")
    assert name not in consumer_properties({**user, "group.protocol": "consumer"}, "g")


def test_each_client_gets_only_what_it_knows() -> None:
    """Connection and security go to all, the rest to the client it is meant for."""
    user = {
        "bootstrap.servers": "h:1",
        "sasl.password": "p",
        "fetch.min.bytes": "9",
        "group.instance.id": "i",
        "linger.ms": "7",
    }
    shared = {"bootstrap.servers": "h:1", "sasl.password": "p"}
    assert admin_properties(user) == shared
    consumer, producer = consumer_properties(user, "g"), producer_properties(user)
    assert shared.items() <= consumer.items()
    assert shared.items() <= producer.items()
    assert (consumer["fetch.min.bytes"], consumer["group.instance.id"]) == ("9", "i")
    assert "linger.ms" not in consumer
    assert producer["linger.ms"] == "7"
    assert not {"fetch.min.bytes", "group.instance.id"} & producer.keys()


def test_every_refusal_has_its_reason() -> None:
    """A refused property is refused with a sentence."""
    assert all(reason.strip() for reason in FORBIDDEN_PROPERTIES.values())


def test_an_own_topic_is_found_by_name_and_by_pattern() -> None:
    """A subscription reads an own topic when it names it or matches it."""
    assert [p.topic for p in subscription_problems(["a", "a.dlq"], ["a.dlq"])] == ["a.dlq"]
    assert [p.topic for p in subscription_problems(["^a"], ["a.dlq"])] == ["a.dlq"]
    assert subscription_problems(["a", "^b"], ["a.dlq"]) == []
