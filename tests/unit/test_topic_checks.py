"""What the consumer's own topics are made with, and which settings of existing ones are refused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.own_topics import OwnTopics, Purpose, is_topic_name
from consumer.state_records import MOST_KEYS, Kind, StateValue, encode
from consumer.topic_checks import CheckRules, Cluster, OwnTopicCheck, Topic, TopicProblem
from consumer.topic_rules import (
    DAY_MS,
    RECEIPT_BYTES,
    STATE_RECORD_BYTES,
    Spans,
    faults,
    settings_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

HOUR_MS = 3600 * 1000
SPANS = Spans(window=48 * 3600.0, max_age=7 * 86_400.0)
SOURCE = {"max.message.bytes": "1048588", "retention.ms": str(3 * DAY_MS)}
SMALL = Topic(4, 1)
RULES = CheckRules("broker:9092", SPANS, create=True)


@dataclass
class Maker:
    """Notes what it is asked for; refuses with `error`, if there is one."""

    error: str | None = None
    made: dict[str, tuple[Topic, Mapping[str, str]]] = field(default_factory=dict)
    extended: dict[str, int] = field(default_factory=dict)

    def create(self, name: str, topic: Topic, config: Mapping[str, str]) -> str | None:
        """Notes a topic."""
        self.made[name] = topic, config
        return self.error

    def extend(self, name: str, partitions: int) -> str | None:
        """Notes a topic's new size."""
        self.extended[name] = partitions
        return self.error


def check(
    purpose: Purpose,
    *,
    source: Topic = SMALL,
    there: Topic | None = None,
    config: Mapping[str, str] | None = None,
    brokers: int = 1,
) -> OwnTopicCheck:
    topics = {"source": source} | ({} if there is None else {"own": there})
    configs = {"source": SOURCE} | ({} if config is None else {"own": config})
    return OwnTopicCheck("own", purpose, ["source"], RULES, Cluster(topics, brokers), configs)


def judged(one: OwnTopicCheck, maker: Maker) -> tuple[list[TopicProblem], list[str]]:
    warnings: list[str] = []
    found = list(one.problems(maker, lambda topic, what: warnings.append(f"{topic}: {what}")))
    return found, warnings


def fresh(purpose: Purpose, replicas: int = 1) -> dict[str, str]:
    return {s.name: s.value for s in settings_of(purpose, SPANS, [SOURCE], replicas)}


spans = st.builds(Spans, window=st.floats(0.001, 1e9), max_age=st.floats(0.001, 1e9))
source_settings = st.builds(
    lambda kept, size: {"retention.ms": str(kept), "max.message.bytes": str(size)},
    st.integers(-1, 2**62),
    st.integers(1, 2**30),
)


@pytest.mark.parametrize("purpose", Purpose)
@given(spans=spans, sources=st.lists(source_settings, max_size=3), replicas=st.integers(1, 5))
@settings(max_examples=60)
def test_a_topic_as_we_make_it_has_nothing_wrong_with_it(
    purpose: Purpose, spans: Spans, sources: list[Mapping[str, str]], replicas: int
) -> None:
    """The rules that make a topic and those that judge one agree, whatever is configured."""
    made = settings_of(purpose, spans, sources, replicas)
    assert list(faults(made, {setting.name: setting.value for setting in made})) == []
    assert len({setting.name for setting in made}) == len(made)


FAULTS = [
    (Purpose.STATE, "cleanup.policy", "compact,delete", "records without a key"),
    (Purpose.STATE, "message.timestamp.type", "CreateTime", "wrong clock"),
    (Purpose.STATE, "retention.ms", str(48 * HOUR_MS - 1), "before dedup.window"),
    (Purpose.STATE, "retention.bytes", "1073741824", "because they are many"),
    (Purpose.STATE, "max.message.bytes", str(STATE_RECORD_BYTES - 1), "records of 262144 bytes"),
    (Purpose.RETRY, "cleanup.policy", "compact", "delete events that wait"),
    (Purpose.RETRY, "message.timestamp.type", "LogAppendTime", "lose their timestamps"),
    (Purpose.RETRY, "retention.ms", str(8 * DAY_MS - 1), "events.max_age"),
    (Purpose.RETRY, "retention.bytes", "0", "because they are many"),
    (Purpose.RETRY, "max.message.bytes", "1048587", "smaller records than its source"),
    (Purpose.DEAD_LETTER, "cleanup.policy", "compact", "delete dead letters"),
    (Purpose.DEAD_LETTER, "max.message.bytes", "1048587", "smaller records than its source"),
    (Purpose.RECEIPTS, "cleanup.policy", "compact", "records without an event_id"),
    (Purpose.RECEIPTS, "max.message.bytes", str(RECEIPT_BYTES - 1), "records of 16384 bytes"),
]


@pytest.mark.parametrize(("purpose", "name", "value", "why"), FAULTS)
def test_a_setting_that_breaks_a_promise_is_refused_with_the_command(
    purpose: Purpose, name: str, value: str, why: str
) -> None:
    """One wrong setting is one problem; the command sets what a new topic would have."""
    config = fresh(purpose) | {name: value}
    [problem], warnings = judged(check(purpose, there=SMALL, config=config), Maker())
    assert why in problem.what
    assert problem.how_to_mend == (
        "kafka-configs.sh --bootstrap-server broker:9092 --alter --entity-type topics"
        f" --entity-name own --add-config {name}={fresh(purpose)[name]}"
    )
    assert warnings == []


WARNINGS = [
    (Purpose.STATE, "retention.ms", str(72 * HOUR_MS - 1), "less than a day beyond"),
    (Purpose.STATE, "min.insync.replicas", "1", "a single broker"),
    (Purpose.RETRY, "min.insync.replicas", "1", "a single broker"),
    (Purpose.RETRY, "max.message.bytes", "1048588", "wait in memory alone"),
    (Purpose.DEAD_LETTER, "max.message.bytes", "1048588", "lose optional headers"),
]


@pytest.mark.parametrize(("purpose", "name", "value", "why"), WARNINGS)
def test_a_setting_that_is_only_not_good_is_a_warning(
    purpose: Purpose, name: str, value: str, why: str
) -> None:
    """The consumer starts; the operator reads what could be better, and how."""
    config = fresh(purpose, replicas=3) | {name: value}
    problems, [warning] = judged(check(purpose, there=Topic(4, 3), config=config), Maker())
    assert problems == []
    assert why in warning
    assert f"--add-config {name}={fresh(purpose, replicas=3)[name]}" in warning


@pytest.mark.parametrize("value", ["-1", str(2**63 - 1)])
def test_what_is_kept_for_ever_is_kept_long_enough(value: str) -> None:
    """-1 is Kafka's word for no limit, not a small number."""
    for purpose in (Purpose.STATE, Purpose.RETRY):
        config = fresh(purpose) | {"retention.ms": value}
        assert judged(check(purpose, there=SMALL, config=config), Maker()) == ([], [])


@pytest.mark.parametrize(("kept", "expected"), [(DAY_MS, 8 * DAY_MS), (90 * DAY_MS, 90 * DAY_MS)])
def test_an_event_that_waits_is_kept_at_least_as_long_as_in_its_source(
    kept: int, expected: int
) -> None:
    """Retention counts from the record's timestamp, which may be far older than the event."""
    source = {"retention.ms": str(kept)}
    made = {s.name: s.value for s in settings_of(Purpose.RETRY, SPANS, [source], 1)}
    assert made["retention.ms"] == str(expected)
    for_ever = [{"retention.ms": "-1"}, source]
    made = {s.name: s.value for s in settings_of(Purpose.RETRY, SPANS, for_ever, 1)}
    assert made["retention.ms"] == "-1"


def test_the_largest_state_record_fits_into_the_smallest_state_topic() -> None:
    """What the check lets pass takes every record that is written."""
    value = StateValue(Kind.ACCEPTED, b"m" * 16, b"b" * 16, 2**63, 2**60, b"k" * 16 * MOST_KEYS)
    overhead_of_a_record_batch = 200
    assert len(encode(value)) + overhead_of_a_record_batch < STATE_RECORD_BYTES


@pytest.mark.parametrize(
    ("replicas", "brokers", "expected"), [(1, 1, 1), (1, 2, 2), (1, 9, 3), (2, 3, 3), (5, 5, 5)]
)
def test_an_own_topic_is_kept_three_times_where_there_are_the_brokers(
    replicas: int, brokers: int, expected: int
) -> None:
    """And never less often than its source; with three, two must acknowledge."""
    maker = Maker()
    one = check(Purpose.STATE, source=Topic(6, replicas), brokers=brokers)
    assert judged(one, maker) == ([], [])
    topic, config = maker.made["own"]
    assert topic == Topic(6, expected)
    assert config.get("min.insync.replicas") == ("2" if expected >= 3 else None)


def test_a_topic_that_is_kept_less_often_than_possible_is_a_warning() -> None:
    """It cannot be changed by a setting: the operator decides."""
    one = check(Purpose.RETRY, there=SMALL, config=fresh(Purpose.RETRY), brokers=3)
    problems, [warning] = judged(one, Maker())
    assert problems == []
    assert "kafka-reassign-partitions.sh" in warning


def test_settings_that_an_older_broker_does_not_know_are_left_out() -> None:
    """It would refuse to make the topic; those every broker knows are always set."""
    maker = Maker()
    judged(check(Purpose.RETRY), maker)
    _, config = maker.made["own"]
    assert "message.timestamp.after.max.ms" not in config
    assert config["message.timestamp.type"] == "CreateTime"
    newer = replace(
        check(Purpose.RETRY),
        configs={"source": SOURCE | {"message.timestamp.after.max.ms": "3600000"}},
    )
    judged(newer, maker)
    _, config = maker.made["own"]
    assert config["message.timestamp.after.max.ms"] == str(2**63 - 1)


@pytest.mark.parametrize("purpose", Purpose)
def test_what_cannot_be_created_is_a_problem_with_the_command(purpose: Purpose) -> None:
    """The broker's reason and the command that somebody with the right can run."""
    [problem], _ = judged(check(purpose), Maker("TOPIC_AUTHORIZATION_FAILED: no"))
    assert "TOPIC_AUTHORIZATION_FAILED" in problem.what
    assert "kafka-topics.sh --bootstrap-server broker:9092 --create --topic own" in str(problem)


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("create", [True, False])
def test_only_topics_with_partition_numbers_must_not_stay_too_small(
    purpose: Purpose,
    create: bool,  # noqa: FBT001  a parameter of the table
) -> None:
    """Where extending is forbidden or fails, dead letters still have a partition to go to.

    Receipts are never extended: how many partitions they have is their readers' business.
    """
    maker = Maker("CLUSTER_AUTHORIZATION_FAILED: no")
    one = check(purpose, there=Topic(2, 1), config=fresh(purpose))
    problems, _ = judged(replace(one, rules=replace(RULES, create=create)), maker)
    extends = create and purpose is not Purpose.RECEIPTS
    assert maker.extended == ({"own": 4} if extends else {})
    told = [problem.how_to_mend for problem in problems]
    expected = "kafka-topics.sh --bootstrap-server broker:9092 --alter --topic own --partitions 4"
    numbered = purpose in {Purpose.STATE, Purpose.RETRY}
    assert told == ([expected] if numbered else [])


def test_nothing_is_made_for_a_source_that_is_not_there() -> None:
    """How many partitions it is going to have, nobody knows."""
    maker = Maker()
    one = replace(check(Purpose.STATE), cluster=Cluster({}, 1))
    assert judged(one, maker) == ([], [])
    assert maker.made == {}


topic_names = st.text("abz019._-", min_size=1, max_size=80).filter(is_topic_name)


@given(topic_names, topic_names, topic_names)
@settings(max_examples=100)
def test_default_names_never_meet(group: str, source: str, other: str) -> None:
    """Whatever group and sources are called, each own topic has a name of its own."""
    own = OwnTopics(group)
    of_both = [name for topic in {source, other} for name in own.of(topic).values()]
    assert len(set(of_both)) == len(of_both)
