"""Rules about the group and the topics: what is read, what is our own, how long a proof lasts."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from consumer.combinations import lease_findings
from consumer.own_topics import OwnTopics, is_topic_name
from tests.support.configuration import DESTINATION, config_of, problems_of

LONG = "a" * 243

TOPIC_PROBLEMS = [
    ("kafka: {topics: [a, a]}", "kafka.topics[1]", "listed twice"),
    ("kafka: {topics: [a/b]}", "kafka.topics[0]", "no topic name"),
    ("kafka: {topics: ['..']}", "kafka.topics[0]", "no topic name"),
    ("kafka: {topics: ['^(']}", "kafka.topics[0]", "no regular expression"),
    ("kafka: {topics: [a, a.dlq]}", "kafka.topics[1]", "own dead-letter topic"),
    ("kafka: {topics: ['^d']}\ndead_letter: {topic: dead}", "kafka.topics[0]", "own dead-letter"),
    ("kafka: {group_id: g, topics: [a, g.a.dedup]}", "kafka.topics[1]", "own state topic"),
    ("kafka: {group_id: g, topics: [g.a.retry, a]}", "kafka.topics[0]", "own retry topic"),
    ("kafka: {group_id: g, topics: [a, '^g[.]']}", "kafka.topics[1]", "own state topic"),
    ("kafka: {topics: [s]}\ndedup: {state_topic: s}", "kafka.topics[0]", "own state topic"),
    ("kafka: {topics: [r]}\nretry_topic: r", "kafka.topics[0]", "own retry topic"),
    ("kafka: {topics: [a, b]}\ndedup: {state_topic: s}", "dedup.state_topic", "one source topic"),
    ("kafka: {topics: ['^a']}\ndedup: {state_topic: s}", "dedup.state_topic", "one source topic"),
    ("kafka: {topics: [a, b]}\nretry_topic: r", "retry_topic", "one source topic"),
    ("kafka: {topics: ['^a']}\nretry_topic: r", "retry_topic", "one source topic"),
    ("dedup: {state_topic: x}\nretry_topic: x", "retry_topic", "own state topic as well"),
    ("retry_topic: x\ndead_letter: {topic: x}", "dead_letter.topic", "own retry topic as well"),
    ("retry_topic: conversions.dlq", "retry_topic", "own dead-letter topic as well"),
    (
        "kafka: {group_id: g}\ndead_letter: {topic: g.conversions.dedup}",
        "dead_letter.topic",
        "own state topic as well",
    ),
    (
        "kafka: {group_id: a b}",
        "kafka.group_id",
        "at most 249; set dedup.state_topic and retry_topic, or choose another group",
    ),
    ("kafka: {group_id: a b}\ndedup: {state_topic: s}", "kafka.group_id", "; set retry_topic, or"),
    ("kafka: {group_id: a b, topics: [a, b]}", "kafka.group_id", "249; choose another group"),
    ("kafka: {group_id: a b, topics: ['^a']}", "kafka.group_id", "249; choose another group"),
    (f"kafka: {{group_id: {LONG}, topics: ['^a']}}", "kafka.group_id", "at most 249"),
    (f"kafka: {{topics: [{LONG}]}}", "kafka.group_id", "at most 249"),
    (
        f"kafka: {{topics: [{LONG}aaa]}}\ndedup: {{state_topic: s}}\nretry_topic: r",
        "kafka.topics[0]",
        "set dead_letter.topic",
    ),
]


@pytest.mark.parametrize(("text", "path", "message"), TOPIC_PROBLEMS)
def test_a_topic_that_cannot_be_is_named_with_its_key_and_what_to_do(
    text: str, path: str, message: str
) -> None:
    """One thing wrong is one problem: at its key, with what to write instead."""
    problems = problems_of(text + DESTINATION)
    assert list(problems) == [path]
    assert message in problems[path]


def test_own_topics_are_named_by_the_configuration() -> None:
    """By the group and the source where it says nothing."""
    assert config_of("kafka: {group_id: g}").own_topics() == OwnTopics("g")
    given_names = config_of(
        "dedup: {state_topic: s}\nretry_topic: r\ndead_letter: {topic: d}"
    ).own_topics()
    assert list(given_names.of("conversions").values()) == ["s", "r", "d"]
    receipts = config_of("kafka: {group_id: g}\nreceipts: {topic: t}").own_topics()
    assert list(receipts.of("a").values()) == ["g.a.dedup", "g.a.retry", "a.dlq", "t"]


def test_any_group_will_do_where_the_topics_are_named() -> None:
    """Kafka itself takes any text as the name of a group."""
    text = "kafka: {group_id: 'Marketing / EU'}\ndedup: {state_topic: s}\nretry_topic: r"
    assert config_of(text).kafka.group_id == "Marketing / EU"


@given(st.text("aZ0._- /ü", min_size=1, max_size=120), st.text("ab.-", min_size=1, max_size=170))
@settings(max_examples=80)
def test_the_names_of_what_is_accepted_are_names_that_kafka_takes(group: str, topic: str) -> None:
    """Whatever group and topic are called: refused at the start, or usable."""
    assume(group.strip() and not re.fullmatch(r"[\s.]*", topic))
    text = f"kafka: {{group_id: '{group}', topics: ['{topic}']}}"
    own = OwnTopics(group.strip())
    usable = all(is_topic_name(name) for name in (topic, *own.of(topic).values()))
    if usable:
        assert config_of(text).own_topics() == own
    else:
        assert problems_of(text + DESTINATION).keys() <= {"kafka.group_id", "kafka.topics[0]"}


def test_the_longest_age_of_any_destination_counts() -> None:
    """An event may wait in the retry topic for as long as that."""
    assert config_of("events: {max_age: 3d}").longest_max_age == 3 * 86_400
    longer = config_of("events: {max_age: 3d}", TIKTOK_EVENTS__DESTINATIONS__0__MAX_AGE="28d")
    assert longer.longest_max_age == 28 * 86_400


LEASE_PROBLEMS = [
    ("tiktok: {timeout: 41s}", "tiktok.timeout", "session time-out (45s)"),
    ("kafka: {commit_interval: 16s}", "kafka.commit_interval", "at most half of 30500ms"),
    (
        "tiktok: {timeout: 10s}\nkafka: {properties: {session.timeout.ms: 12500}}",
        "kafka.commit_interval",
        "at most half of 1250ms",
    ),
]


@pytest.mark.parametrize(("text", "path", "message"), LEASE_PROBLEMS)
def test_a_configuration_that_leaves_no_lease_is_refused(
    text: str, path: str, message: str
) -> None:
    """Requests start only for a while after a commit: there must be such a while, all the time."""
    problems = problems_of(text + DESTINATION)
    assert list(problems) == [path]
    assert message in problems[path]


def test_the_lease_is_judged_when_the_broker_has_told_the_time_out_it_owns() -> None:
    """KIP-848: the session time-out is the group's, and is asked when the consumer runs."""
    config = config_of("kafka: {properties: {group.protocol: consumer}}\ntiktok: {timeout: 60s}")
    assert config.kafka.session_timeout is None
    [finding] = lease_findings(config, 45.0)
    assert finding.path == ("tiktok", "timeout")
    assert list(lease_findings(config, 120.0)) == []


def test_the_margin_of_the_lease_is_at_least_a_second() -> None:
    """A tenth of a short session time-out would be too little for a slow clock."""
    config = config_of("tiktok: {timeout: 2s}\nkafka: {properties: {session.timeout.ms: 6000}}")
    assert config.kafka.session_timeout == 6.0
    assert config.lease(6.0) == pytest.approx(3.0)
