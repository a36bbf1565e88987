"""A right configuration: what it means, where it comes from, and that its secrets stay hidden."""

from __future__ import annotations

import typing
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from consumer.config import Config, json_schema, parse
from consumer.configfile import read_tree
from consumer.event import EventSource
from tests.support.configuration import DESTINATION, config_of, problems_of


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
