from __future__ import annotations

import typing
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from consumer.config import Config, json_schema, parse
from consumer.configfile import read_tree
from consumer.errors import ConfigError
from consumer.event import EventSource
from consumer.kafka_properties import FORBIDDEN_PROPERTIES

DESTINATION = """
destinations:
  - event_source_id: PIXEL
    access_token: {env: TOKEN}
"""


def config_of(text: str = "", **environ: str) -> Config:
    return parse(text + DESTINATION, environ, references=False)


def problems_of(text: str, *, references: bool = False, **environ: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        parse(text, environ, references=references)
    return dict(refused.value.problems)


def test_defaults_are_those_of_the_contract() -> None:
    """Every documented default, in seconds and bytes."""
    config = config_of()
    assert config.kafka.bootstrap_servers == "localhost:9092"
    assert config.kafka.group_id == "tiktok-events"
    assert config.kafka.topics == ("conversions",)
    assert config.kafka.start == "earliest"
    assert config.kafka.create_topics is True
    assert config.schema_.encoding == "confluent"
    assert config.schema_.registry_url == "http://localhost:8081"
    assert config.destinations[0].event_source is EventSource.WEB
    assert config.tiktok.endpoint.endswith("/open_api/v1.3/event/track/")
    assert config.tiktok.timeout == 10.0
    assert (config.batching.max_events, config.batching.max_bytes) == (1000, 1024**2)
    assert config.batching.linger == 0.25
    assert config.limits.requests_per_second == 50.0
    assert (config.limits.max_concurrency, config.limits.max_in_flight_events) == (32, 20_000)
    assert config.limits.max_in_flight_bytes == 64 * 1024**2
    assert (config.retry.initial, config.retry.max) == (0.5, 60.0)
    assert (config.retry.give_up_after, config.dedup.window) == (86_400.0, 172_800.0)
    assert (config.events.max_age, config.events.max_future) == (604_800.0, 600.0)
    assert (config.consent.missing, config.consent.on_marketing_denied) == ("denied", "suppress")
    assert config.consent.on_ad_user_data_denied == "strip"
    assert config.consent.forward_signals is True
    assert (config.admin.host, config.admin.port) == ("127.0.0.1", 8080)
    assert (config.workers, config.shutdown_timeout) == (1, 25.0)


ONE_PROBLEM = [
    ("kafka: {bootstrap_server: x}", "kafka.bootstrap_server", "did you mean bootstrap_servers?"),
    ("shema: {}", "shema", "did you mean schema?"),
    ("window: 3h", "window", "did you mean dedup.window?"),
    ("nonsense: 1", "nonsense", "known here: kafka, schema"),
    ("kafka: {group_id: 5}", "kafka.group_id", "put it in quotes"),
    ("kafka: {group_id: ''}", "kafka.group_id", "must not be empty"),
    ("kafka: {group_id: a b}", "kafka.group_id", "letters, digits, dot"),
    ("kafka: {topics: a}", "kafka.topics", "must be a list"),
    ("kafka: {topics: []}", "kafka.topics", "at least one"),
    ("kafka: {topics: [a, a]}", "kafka.topics[1]", "listed twice"),
    ("kafka: {topics: [a/b]}", "kafka.topics[0]", "no topic name"),
    ("kafka: {topics: ['^(']}", "kafka.topics[0]", "no regular expression"),
    ("kafka: {topics: [a, a.dlq]}", "kafka.topics[1]", "own dead-letter topic"),
    ("kafka: {topics: ['^d'], }\ndead_letter: {topic: dead}", "kafka.topics[0]", "own dead-letter"),
    ("kafka: {start: yesterday}", "kafka.start", "a time with its zone"),
    ("kafka: {start: 2026-01-01T00:00:00}", "kafka.start", "a time with its zone"),
    ("kafka: {create_topics: 1}", "kafka.create_topics", "true or false"),
    ("kafka: {commit_interval: 15s}", "kafka.commit_interval", "a third of"),
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
    ("tiktok: {timeout: 41s}", "tiktok.timeout", "session time-out (45s)"),
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
    ("dedup: {state_topic: t}", "dedup.state_topic", "not supported yet"),
    ("dedup: {rekey: true}", "dedup.rekey", "not supported yet"),
    ("retry_topic: t", "retry_topic", "not supported yet"),
    ("receipts: {topic: t}", "receipts.topic", "not supported yet"),
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
        "[{event_source_id: P, event_source: app, access_token: {env: A}}]",
        "destinations[0].event_source",
        "so far only web is mapped",
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


def test_the_lease_is_not_judged_under_the_protocol_where_the_broker_owns_the_time_out() -> None:
    """KIP-848: the session time-out is the group's and has to be asked from the broker."""
    config = config_of("kafka: {properties: {group.protocol: consumer}}\ntiktok: {timeout: 60s}")
    assert config.kafka.session_timeout is None
    assert config.lease(45.0) == pytest.approx(45 - 60 - 4.5)


def test_the_margin_of_the_lease_is_at_least_a_second() -> None:
    """A tenth of a short session time-out would be too little for a slow clock."""
    config = config_of("tiktok: {timeout: 2s}\nkafka: {properties: {session.timeout.ms: 6000}}")
    assert config.kafka.session_timeout == 6.0
    assert config.lease(6.0) == pytest.approx(3.0)


def test_yaml_is_read_as_a_person_means_it() -> None:
    """Norway is a country, a time is text, and a number with a leading zero is decimal."""
    tree = read_tree("a: [NO, on, 10:30, 2026-01-01, 010, 1e3, null, true]", {})
    assert tree.values == {
        "a": ["NO", "on", "10:30", "2026-01-01", 10, 1000.0, None, True],
    }


def test_a_time_to_start_from_keeps_its_zone() -> None:
    """RFC 3339, with Z or an offset."""
    start = config_of("kafka: {start: 2026-01-31T00:00:00+02:00}").kafka.start
    assert not isinstance(start, str)
    assert start.isoformat() == "2026-01-31T00:00:00+02:00"


def test_what_is_no_yaml_is_said_with_line_and_column_alone() -> None:
    """The text at fault may be a secret: it is not quoted."""
    problems = problems_of("admin:\n  token: 's3cret\n")
    assert list(problems) == ["configuration"]
    assert "is no YAML: line 3, column 1" in problems["configuration"]
    assert "s3cret" not in problems["configuration"]


def test_a_file_that_is_no_mapping_is_refused() -> None:
    """A list or a bare word at the top is not a configuration."""
    assert "must be a mapping" in problems_of("- kafka")["configuration"]


def test_references_in_the_file_are_replaced_by_the_environment() -> None:
    """Whole values, parts of values, defaults, lists, and the escape for a plain `${`."""
    config = config_of(
        """
kafka:
  bootstrap_servers: ${HOST}:${PORT:-9092}
  topics: ${TOPICS}
  group_id: ${GROUP:-events}
  properties: {sasl.password: "${PASSWORD}", client.id: '$${x}'}
limits: {requests_per_second: ${RPS}, max_concurrency: ${CONCURRENCY:-7}}
dead_letter: {topic: ${DLQ:-}}
""",
        HOST="broker",
        TOPICS="[a, b]",
        GROUP="",
        PASSWORD="[not: yaml",
        RPS="2.5",
    )
    assert config.kafka.bootstrap_servers == "broker:9092"
    assert config.kafka.topics == ("a", "b")
    assert config.kafka.group_id == "events"
    assert config.kafka.properties == {"sasl.password": "[not: yaml", "client.id": "${x}"}
    assert config.limits.requests_per_second == 2.5
    assert config.limits.max_concurrency == 7
    assert config.dead_letter.topic is None


def test_an_unset_reference_is_a_problem_of_its_key() -> None:
    """It names the variable and the way to give a default."""
    problems = problems_of("kafka: {group_id: ${GROUP}}" + DESTINATION)
    assert list(problems) == ["kafka.group_id"]
    assert "${GROUP:-default}" in problems["kafka.group_id"]


def test_the_environment_stands_over_the_file() -> None:
    """Keys, sections, lists, list entries, mappings and properties."""
    config = config_of(
        "kafka: {bootstrap_servers: a, properties: {client.id: x}}\nbatching: {linger: 1s}",
        TIKTOK_EVENTS__KAFKA__BOOTSTRAP_SERVERS="b",
        TIKTOK_EVENTS__KAFKA__TOPICS='["x", "y"]',
        TIKTOK_EVENTS__KAFKA__PROPERTIES__SASL_PASSWORD="null",
        TIKTOK_EVENTS__BATCHING__LINGER="2s",
        TIKTOK_EVENTS__LIMITS="{max_concurrency: 3}",
        TIKTOK_EVENTS__LIMITS__MAX_IN_FLIGHT_EVENTS="5000",
        TIKTOK_EVENTS__DESTINATIONS__0__TEST_EVENT_CODE="TEST1",
        TIKTOK_EVENTS__DESTINATIONS__0__EVENT_NAMES="purchase: Purchase",
        TIKTOK_EVENTS__DESTINATIONS__1='{event_source_id: Q, access_token: {env: "Q_TOKEN"}}',
        TIKTOK_EVENTS__DEFAULT_DESTINATION="null",
        TIKTOK_EVENTS__CONSENT__FORWARD_SIGNALS="false",
    )
    assert config.kafka.bootstrap_servers == "b"
    assert config.kafka.topics == ("x", "y")
    assert config.kafka.properties == {"client.id": "x", "sasl.password": "null"}
    assert config.batching.linger == 2.0
    assert config.limits.max_concurrency == 3
    assert config.limits.max_in_flight_events == 5000
    assert config.destinations[0].test_event_code == "TEST1"
    assert config.destinations[0].event_names == {"purchase": "Purchase"}
    assert config.destinations[1].event_source_id == "Q"
    assert config.default_destination is None
    assert config.consent.forward_signals is False


def test_a_wrong_value_of_the_environment_names_the_variable() -> None:
    """The operator looks in the right place."""
    problems = problems_of(
        DESTINATION,
        TIKTOK_EVENTS__ADMIN__PROT="1",
        TIKTOK_EVENTS__WORKERS="many",
        TIKTOK_EVENTS__DESTINATIONS__7__MAX_AGE="1d",
    )
    assert (
        "did you mean port? (environment variable TIKTOK_EVENTS__ADMIN__PROT)"
        in (problems["admin.prot"])
    )
    assert "TIKTOK_EVENTS__WORKERS" in problems["workers"]
    assert "no entry of a list of 1" in problems["destinations[7].max_age"]


def leaves(model: type[BaseModel], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, field in model.model_fields.items():
        key = (*path, field.alias or name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += leaves(inner, key)
        else:
            found.append(key)
    return found


@pytest.mark.parametrize("path", leaves(Config), ids=".".join)
def test_every_key_can_be_given_by_the_environment(path: tuple[str, ...]) -> None:
    """Its default, written as text into the variable, is understood as the same."""
    default = config_of()
    value: Any = default.masked()
    for key in path:
        value = value[key]
    text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True)
    name = "__".join(("TIKTOK_EVENTS", *path)).upper()
    assert config_of("", **{name: text.removesuffix("\n...\n").strip()}) == default


def test_a_token_that_cannot_be_read_is_a_problem_to_run_but_not_to_show() -> None:
    """`config show` works on a machine without the secrets."""
    assert (
        "environment variable TOKEN is not set"
        in (problems_of(DESTINATION, references=True)["destinations[0].access_token"])
    )
    assert config_of().destinations[0].access_token.env == "TOKEN"


def test_a_secret_is_shown_nowhere() -> None:
    """Neither by the configuration's repr, nor masked, nor by the secret's own repr or format."""
    config = config_of(
        "kafka: {properties: {sasl.password: CANARY, ssl.key.pem: CANARY, "
        "Sasl.Password: CANARY, sasl.oauthbearer.client.secret: CANARY, client.id: seen}}"
    )
    secret = config.destinations[0].access_token.read({"TOKEN": " CANARY\n"})
    assert secret.reveal() == "CANARY"
    shown = f"{config!r} {config} {config.kafka} {config.masked()} {secret!r} {secret} {secret:>9}"
    assert "seen" in shown
    assert "{env: TOKEN}" in shown
    assert "CANARY" not in shown
    assert config.kafka.properties["sasl.password"] == "CANARY"


@pytest.mark.parametrize("token", ["", " \n", "two\nlines", "naïve", "null\x00"])
def test_a_token_that_cannot_stand_in_a_header_is_refused_without_quoting_it(token: str) -> None:
    """An empty file or a whole certificate is no token."""
    message = problems_of(DESTINATION, references=True, TOKEN=token)["destinations[0].access_token"]
    assert "environment variable TOKEN" in message
    assert not token.strip() or token not in message


def test_the_masked_configuration_can_be_read_again() -> None:
    """What `config show` prints is a configuration with the same meaning."""
    config = config_of("kafka: {start: 2026-01-31T00:00:00Z}\nevents: {max_age: 36h}")
    assert parse(yaml.safe_dump(config.masked()), {}, references=False) == config


def walk(schema: Any) -> typing.Iterator[tuple[str, dict[str, Any]]]:
    for key, value in schema.items() if isinstance(schema, dict) else ():
        if key in ("properties", "$defs"):
            for name, child in value.items():
                if key == "properties":
                    yield name, child
                yield from walk(child)


def test_the_json_schema_describes_every_key() -> None:
    """Editors show the description; a key without one would be a riddle."""
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False
    keys = list(walk(schema))
    assert len(keys) > 70
    sections = {f"#/$defs/{name}": section for name, section in schema["$defs"].items()}
    # A reference to a section with the same description does not repeat it.
    described = [
        name
        for name, key in keys
        if (key | sections.get(key.get("$ref", ""), {})).get("description")
    ]
    assert described == [name for name, _ in keys]
    window = schema["$defs"]["DedupSettings"]["properties"]["window"]
    assert (window["type"], window["default"]) == ("string", "48h")


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
