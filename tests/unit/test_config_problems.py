"""A wrong configuration: every problem at its key, with what to write instead, never the value."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.config import parse
from consumer.errors import ConfigError
from consumer.kafka_properties import FORBIDDEN_PROPERTIES
from tests.support.configuration import DESTINATION, problems_of

ONE_PROBLEM = [
    ("kafka: {bootstrap_server: x}", "kafka.bootstrap_server", "did you mean bootstrap_servers?"),
    ("shema: {}", "shema", "did you mean schema?"),
    ("window: 3h", "window", "did you mean dedup.window?"),
    ("nonsense: 1", "nonsense", "known here: kafka, schema"),
    ("kafka: {group_id: 5}", "kafka.group_id", "put it in quotes"),
    ("kafka: {group_id: ''}", "kafka.group_id", "must not be empty"),
    ("kafka: {topics: a}", "kafka.topics", "must be a list"),
    ("kafka: {topics: []}", "kafka.topics", "at least one"),
    ("kafka: {start: yesterday}", "kafka.start", "a time with its zone"),
    ("kafka: {start: 2026-01-01T00:00:00}", "kafka.start", "a time with its zone"),
    ("kafka: {create_topics: 1}", "kafka.create_topics", "true or false"),
    ("kafka: {properties: {acks: 1}}", "kafka.properties.acks", "may not be set"),
    ("kafka: {properties: {sasl: {password: x}}}", "kafka.properties.sasl", "whole name"),
    ("kafka: {properties: {group.protocol: x}}", "kafka.properties.group.protocol", "classic or"),
    (
        "kafka: {properties: {session.timeout.ms: 10s}}",
        "kafka.properties.session.timeout.ms",
        "whole number of milliseconds",
    ),
    ("schema: {encoding: json}", "schema.encoding", "'confluent', 'single_object' or 'raw'"),
    ("schema: {registry_url: 'localhost:8081'}", "schema.registry_url", "begins with http"),
    ("schema: {registry_url: 'http://u:p@r'}", "schema.registry_url", "set schema.registry_auth"),
    ("schema: {registry_url: 'http://r/?key=K'}", "schema.registry_url", "end with its path"),
    ("tiktok: {endpoint: 'http://t/?token=T'}", "tiktok.endpoint", "end with its path"),
    ("schema: {registry_url: 'http://a,ftp://b'}", "schema.registry_url", "begins with http"),
    ("schema: {registry_auth: {username: u}}", "schema.registry_auth", "username and password"),
    ("schema: {registry_auth: {}}", "schema.registry_auth", "username and password"),
    ("schema: {file: x.avsc}", "schema.file", "only with schema.encoding: raw"),
    ("schema: {files: [x.avsc]}", "schema.files", "only with schema.encoding: single_object"),
    ("schema: {encoding: raw, registry_ca: x}", "schema.registry_ca", "schema.encoding: confluent"),
    ("default_destination: OTHER", "default_destination", "no event_source_id"),
    ("tiktok: {timeout: 10}", "tiktok.timeout", "with its unit"),
    ("tiktok: {endpoint: 'https://x/event/track'}", "tiktok.endpoint", "end with a slash"),
    ("tiktok: {endpoint: 'https://u:p@x/'}", "tiktok.endpoint", "user or password"),
    ("tiktok: {endpoint: 'http://business-api.tiktok.com/'}", "tiktok.endpoint", "must use https"),
    ("batching: {max_events: 1001}", "batching.max_events", "less than or equal to 1000"),
    ("batching: {max_events: true}", "batching.max_events", "must be a number"),
    ("batching: {max_events: 1.5}", "batching.max_events", "whole number"),
    ("batching: {linger: 0s}", "batching.linger", "longer than nothing"),
    ("batching: {max_bytes: 1MB}", "batching.max_bytes", "KiB"),
    ("batching: {max_bytes: 0}", "batching.max_bytes", "more than nothing"),
    ("limits: {max_in_flight_events: 999}", "batching.max_events", "could never fill"),
    ("limits: {max_in_flight_bytes: 1KiB}", "batching.max_bytes", "could never fill"),
    ("limits: {requests_per_second: 0}", "limits.requests_per_second", "greater than 0"),
    ("limits: {requests_per_second: .inf}", "limits.requests_per_second", "number"),
    ("retry: {give_up_after: 48h}", "retry.give_up_after", "below dedup.window (2d)"),
    (
        "retry: {give_up_after: 48h}\ndedup: {window: 72h}",
        "retry.give_up_after",
        "below TikTok's own window (2d)",
    ),
    ("retry: {initial: 61s}", "retry.initial", "above retry.max"),
    ("identity: {default_phone_region: de}", "identity.default_phone_region", "for example DE"),
    ("identity: {default_phone_region: XX}", "identity.default_phone_region", "no country"),
    ("consent: {missing: deny}", "consent.missing", "'denied' or 'granted'"),
    (
        "consent: {limited_data_use_regions: [us]}",
        "consent.limited_data_use_regions[0]",
        "US or US-CA",
    ),
    ("dead_letter: {topic: a b}", "dead_letter.topic", "letters, digits"),
    ("admin: {port: 65536}", "admin.port", "less than or equal to 65535"),
    ("admin: {token: s3cret}", "admin.token", "name its place"),
    ("shutdown_timeout: 5m", "shutdown_timeout", "below max.poll.interval.ms (5m)"),
    ("dedup: {rekey: true}", "dedup.rekey", "not supported yet"),
    ("receipts: {topic: conversions.dlq}", "receipts.topic", "own dead-letter topic as well"),
    ("dead_letter: {max_ratio: 0.1}", "dead_letter.max_ratio", "not supported yet"),
    ("workers: 2", "workers", "not supported yet"),
    ("batching: []", "batching", "mapping of keys"),
    ("tiktok: {timeout: 5s}\ntiktok: {timeout: 6s}", "tiktok", "twice, in lines 1 and 2"),
    ("kafka: {topics: [${TOPIC]}", "kafka.topics[0]", "${ without an end"),
]


@pytest.mark.parametrize(("text", "path", "message"), ONE_PROBLEM, ids=[r[0] for r in ONE_PROBLEM])
def test_what_is_wrong_is_named_with_its_key_and_what_to_do(
    text: str, path: str, message: str
) -> None:
    """One thing wrong is one problem: at its key, with what to write instead."""
    problems = problems_of(text + DESTINATION)
    assert list(problems) == [path]
    assert message in problems[path]


OFFLINE = "[{event_source_id: P, event_source: offline, access_token: {env: A}"
DESTINATION_PROBLEMS = [
    ("[]", "destinations", "at least one entry"),
    ("[{access_token: {env: A}}]", "destinations[0].event_source_id", "is missing"),
    ("[{event_source_id: P}]", "destinations[0].access_token", "is missing"),
    (
        "[{event_source_id: 712, access_token: {env: A}}]",
        "destinations[0].event_source_id",
        "put it in quotes",
    ),
    (
        "[{event_source_id: P, access_token: s3cret}]",
        "destinations[0].access_token",
        "{env: NAME} or {file: PATH}",
    ),
    (
        "[{event_source_id: P, access_token: {env: A, file: B}}]",
        "destinations[0].access_token",
        "exactly one",
    ),
    ("[{event_source_id: P, access_token: {}}]", "destinations[0].access_token", "exactly one"),
    (
        "[{event_source_id: P, access_token: {env: 0123456789abcdef0123456789abcdef01234567}}]",
        "destinations[0].access_token",
        "not the secret",
    ),
    (
        "[{event_source_id: P, access_token: {file: a123456789abcdef0123456789abcdef01234567}}]",
        "destinations[0].access_token",
        "not the secret",
    ),
    (
        "[{event_source_id: P, event_source: shop, access_token: {env: A}}]",
        "destinations[0].event_source",
        "'web', 'app', 'offline' or 'crm'",
    ),
    (
        f"{OFFLINE}, event_names: {{purchase: Purchase, sign_up: Register}}}}]",
        "destinations[0].event_names.sign_up",
        "Register is no standard event of TikTok's, and offline events take no others",
    ),
    (
        f"{OFFLINE}, allow_events: [Purchase, Pageview]}}]",
        "destinations[0].allow_events[1]",
        "Pageview is no standard event",
    ),
    (
        f"{OFFLINE}, event_names: {{bought: Purchase}}, allow_events: [bought, quiz]}}]",
        "destinations[0].allow_events[1]",
        "quiz is no standard event",
    ),
    (
        "[&p {event_source_id: P, access_token: {env: A}}, *p]",
        "destinations[1].event_source_id",
        "same web destination as destinations[0]",
    ),
]


@pytest.mark.parametrize(("entries", "path", "message"), DESTINATION_PROBLEMS)
def test_a_wrong_destination_is_named_with_its_index(entries: str, path: str, message: str) -> None:
    """An operator with thirty pixels sees which one it is."""
    problems = problems_of(f"destinations: {entries}")
    assert list(problems) == [path]
    assert message in problems[path]


def test_all_problems_come_at_once() -> None:
    """Unknown keys, wrong types, impossible combinations and unset tokens, in one go."""
    problems = problems_of(
        """
        kafka: {bootstrap_server: x, topics: [a, 5]}
        tiktok: {timeout: 10}
        retry: {give_up_after: 72h}
        limits: {requests_per_second: ${RPS}}
        default_destination: OTHER
        destinations:
          - {event_source_id: P, access_token: {env: UNSET}}
          - {event_source_id: Q}
        """,
        references=True,
    )
    assert set(problems) == {
        "kafka.bootstrap_server",
        "kafka.topics[1]",
        "tiktok.timeout",
        "retry.give_up_after",
        "limits.requests_per_second",
        "default_destination",
        "destinations[0].access_token",
        "destinations[1].access_token",
    }


def test_a_rule_says_nothing_about_a_key_that_is_wrong_in_itself() -> None:
    """The lease cannot be judged while the time-out is no duration: no second, false complaint."""
    assert list(
        problems_of("dedup: {window: soon}\nretry: {give_up_after: 72h}" + DESTINATION)
    ) == ["dedup.window"]


@pytest.mark.parametrize("name", sorted(FORBIDDEN_PROPERTIES))
def test_a_property_that_would_break_a_promise_is_refused_with_the_reason(name: str) -> None:
    """Whatever its value: the promise is not the operator's to trade."""
    path = f"kafka.properties.{name}"
    problems = problems_of(f"kafka: {{properties: {{{name}: x}}}}" + DESTINATION)
    assert FORBIDDEN_PROPERTIES[name] in problems[path]


def test_what_is_no_yaml_is_said_with_line_and_column_alone() -> None:
    """The text at fault may be a secret: it is not quoted."""
    problems = problems_of("admin:\n  token: 's3cret\n")
    assert list(problems) == ["configuration"]
    assert "is no YAML: line 3, column 1" in problems["configuration"]
    assert "s3cret" not in problems["configuration"]


def test_a_file_that_is_no_mapping_is_refused() -> None:
    """A list or a bare word at the top is not a configuration."""
    assert "must be a mapping" in problems_of("- kafka")["configuration"]


@settings(max_examples=60)
@given(st.text(max_size=60))
def test_any_other_text_is_a_list_of_problems(text: str) -> None:
    """Nothing but ConfigError comes out of a short file, which cannot hold a destination."""
    with pytest.raises(ConfigError) as refused:
        parse(text, {}, references=False)
    assert all(problem.message for problem in refused.value.problems)


PLACES = [
    "admin: {{port: {0}, host: {0}, token: {0}}}",
    "kafka: {{topics: [{0}], start: {0}, group_id: {0}, properties: {{acks: {0}}}}}",
    "limits: {{max_in_flight_bytes: {0}, requests_per_second: {0}}}",
    "tiktok: {{timeout: {0}, endpoint: {0}}}\nconsent: {{missing: {0}, forward_signals: {0}}}",
    "destinations: [{{access_token: {0}}}, {{access_token: {{env: {0}}}}}, {0}]\nretry: {0}",
    "schema: {{registry_url: {0}, encoding: {0}, registry_auth: {0}, file: {{a: {0}}}}}",
    "identity: {{default_phone_region: {0}}}\ndefault_destination: {0}",
]


@pytest.mark.parametrize("place", PLACES)
def test_a_wrong_value_is_never_quoted(place: str) -> None:
    """A token may stand at any wrong place: no problem's text repeats it."""
    token = "0123456789abcdef0123456789abcdef01234567"
    problems = problems_of(place.format(f'"{token}"'))
    assert problems
    assert token not in repr(problems)
