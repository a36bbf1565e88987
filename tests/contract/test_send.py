"""`send` writes what the consumer reads: both brokers, both registries, every encoding."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from consumer import compose
from consumer.cli import main
from consumer.config import load
from consumer.plain_json import PlainForm
from consumer.registry import Registry
from consumer.sandbox.registry import RegistryLogin
from consumer.schemas import load_schema
from tests.support.clusters import Cluster, Embedded
from tests.support.events import PIXEL, SCHEMA
from tests.support.sandbox_threads import run_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from consumer.event import Record
    from consumer.sandbox.broker import EmbeddedBroker

_NUMBERS = itertools.count()
EVENT: dict[str, Any] = {
    "event_id": "order-1",
    "event": "purchase",
    "event_time": "2026-01-31T16:20:00Z",
    "page": {"url": "https://shop.example/thanks"},
    "user": {"email": ["ada@mail.example", "a@mail.example"], "external_id": 77},
    "properties": {"value": 10, "currency": "EUR", "custom": {"n": 1, "ok": True, "x": 1.5}},
    "consent": {"marketing": "GRANTED", "ad_user_data": "GRANTED"},
}


@pytest.fixture
def registry_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The sandbox's registry, unless a test asks for the real one."""
    if getattr(request, "param", "sandbox") == "real":
        yield request.getfixturevalue("registry").url
        return
    with run_registry() as registry:
        yield registry.url


@dataclass
class Desk:
    """A person with a configuration, an event and the command."""

    folder: Path
    cluster: Cluster
    topic: str
    sections: dict[str, Any] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def config_file(self) -> str:
        """The configuration, written anew."""
        values = {
            "kafka": {
                "bootstrap_servers": self.cluster.bootstrap_servers,
                "topics": [self.topic],
            },
            "destinations": [{"event_source_id": PIXEL, "access_token": {"env": "NOT_SET"}}],
            **self.sections,
        }
        path = self.folder / "config.yaml"
        path.write_text(json.dumps(values), encoding="utf-8")
        return str(path)

    def send(self, *options: str, event: dict[str, Any] | None = None) -> Result:
        """Sends an event that happens now."""
        path = self.folder / "event.json"
        path.write_text(json.dumps(EVENT if event is None else event), encoding="utf-8")
        arguments = ["send", "-c", self.config_file, "--json", "--now", *options, str(path)]
        return CliRunner(env=self.environ).invoke(main, arguments)

    def records(self) -> list[Record]:
        """What stands in the topic."""
        return self.cluster.read_all(self.topic)


@pytest.fixture
def desk(tmp_path: Path, cluster: Cluster, registry_url: str) -> Desk:
    topic = f"send-{next(_NUMBERS)}"
    cluster.create(topic)
    return Desk(tmp_path, cluster, topic, {"schema": {"registry_url": registry_url}})


@pytest.fixture
def here(tmp_path: Path, embedded: EmbeddedBroker, registry_url: str) -> Desk:
    """On the embedded broker alone, for what does not depend on the broker."""
    cluster = Embedded(embedded)
    topic = f"send-{next(_NUMBERS)}"
    cluster.create(topic)
    return Desk(tmp_path, cluster, topic, {"schema": {"registry_url": registry_url}})


@pytest.mark.parametrize("registry_url", ["sandbox", "real"], indirect=True)
def test_an_event_sent_is_the_event_the_consumer_decodes(desk: Desk) -> None:
    """By both brokers and registries; keyed by its id, at the place that is printed."""
    result = desk.send("--test-event-code", "TEST1")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    (record,) = desk.records()
    assert (told["topic"], told["partition"], told["offset"]) == (
        desk.topic,
        record.partition,
        record.offset,
    )
    assert told["registered"] is True
    assert (told["outcome"], told["test_event_code"]) == ("send", "TEST1")
    assert (record.key, record.headers) == (b"order-1", ())
    decoder = compose.decoder(load(None, {"TIKTOK_EVENTS__DESTINATIONS": _PIXEL}, references=False))
    decoder.learn(told["schema_id"], [json.dumps(SCHEMA)])
    expected = PlainForm(load_schema("conversion_event")).read(EVENT).event
    decoded = decoder.decode(record.value or b"")
    assert expected is not None
    assert decoded == expected | {
        "test_event_code": "TEST1",
        "event_time": decoded["event_time"],
    }


_PIXEL = '[{"event_source_id": "P", "access_token": {"env": "NOT_SET"}}]'


@pytest.mark.parametrize("registry_url", ["sandbox", "real"], indirect=True)
def test_the_schema_that_is_there_is_used_and_nothing_is_registered(here: Desk) -> None:
    """The producers' own schema carries the event, so the registry stays as it is."""
    first = json.loads(here.send("--live").stdout)
    second = json.loads(here.send("--live").stdout)
    assert [first["registered"], second["registered"]] == [True, False]
    assert first["schema_id"] == second["schema_id"]
    values = [record.value for record in here.records()]
    assert len(values) == 2


def test_the_partition_is_the_one_that_java_producers_choose(here: Desk) -> None:
    """Copies of an event have to share a partition: murmur2 of the key, as in Kafka's clients."""
    expected = {f"order-{n}": _murmur2(f"order-{n}".encode()) % 4 for n in range(6)}
    for event_id in expected:
        result = here.send("--live", event=EVENT | {"event_id": event_id})
        assert result.exit_code == 0, result.output
    assert {(r.key or b"").decode(): r.partition for r in here.records()} == expected


def _murmur2(data: bytes) -> int:
    """Kafka's hash of a key (`Utils.murmur2`), made positive as its partitioner does."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ (k >> 24)) * m & mask)
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return (h ^ (h >> 15)) & 0x7FFFFFFF


@pytest.mark.parametrize("encoding", ["single_object", "raw"])
def test_the_encodings_without_a_registry_ask_for_none(here: Desk, encoding: str) -> None:
    """The consumer's decoder for the same configuration reads the record."""
    here.sections = {"schema": {"encoding": encoding}}
    result = here.send("--live")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["schema_id"] is None
    (record,) = here.records()
    settings = {
        "TIKTOK_EVENTS__DESTINATIONS": _PIXEL,
        "TIKTOK_EVENTS__SCHEMA__ENCODING": encoding,
    }
    decoder = compose.decoder(load(None, settings, references=False))
    assert decoder.decode(record.value or b"")["user"]["external_id"] == "77"


def test_a_schema_that_would_lose_a_field_is_not_used(here: Desk, registry_url: str) -> None:
    """It says which field, and registers ours only when told to."""
    _register(registry_url, f"{here.topic}-value", _without("consent"))
    refused = here.send("--live")
    assert refused.exit_code == 1
    assert "consent" in refused.stderr
    assert "--register" in refused.stderr
    assert here.records() == []
    sent = here.send("--live", "--register")
    assert json.loads(sent.stdout)["registered"] is True
    less = {name: value for name, value in EVENT.items() if name != "consent"}
    narrow = here.send("--live", event=less)
    assert narrow.exit_code == 0, narrow.output


def _without(name: str) -> str:
    schema = load_schema("conversion_event")
    return json.dumps(
        {**schema, "fields": [field for field in schema["fields"] if field["name"] != name]}
    )


def _register(url: str, subject: str, text: str) -> None:
    async def add() -> None:
        registry = Registry(url, None, None, 5.0)
        assert isinstance(await registry.register(subject, text), int)
        await registry.close()

    asyncio.run(add())


def test_a_registry_that_asks_for_a_login_gets_the_configured_one(here: Desk) -> None:
    """Read from its place when it is needed; without it, a sentence that names the key."""
    login = RegistryLogin("reader", "canary-password")
    with run_registry(login) as registry:
        auth = {"username": "reader", "password": {"env": "REGISTRY_PASSWORD"}}
        schema = {"registry_url": registry.url, "registry_auth": auth}
        here.sections = {"schema": {"registry_url": registry.url}}
        refused = here.send("--live")
        here.sections, here.environ = {"schema": schema}, {}
        unset = here.send("--live")
        here.environ = {"REGISTRY_PASSWORD": "canary-password"}
        sent = here.send("--live")
    assert refused.exit_code == 1
    assert "schema.registry_auth" in refused.stderr
    assert unset.exit_code == 1
    assert "REGISTRY_PASSWORD" in unset.stderr
    assert sent.exit_code == 0, sent.output
    assert "canary-password" not in sent.output + refused.output


def test_a_registry_that_is_away_is_a_sentence(here: Desk) -> None:
    """Nothing is produced, and the exit code is 1."""
    here.sections = {"schema": {"registry_url": "http://127.0.0.1:9"}}
    result = here.send("--live")
    assert result.exit_code == 1
    assert "127.0.0.1:9" in result.stderr
    assert here.records() == []


def test_a_topic_that_is_not_there_is_not_made(here: Desk) -> None:
    """A name written wrong must not become a topic nobody reads."""
    here.topic = "not-there"
    result = here.send("--live")
    assert result.exit_code == 1
    assert "topic not-there is not there" in result.stderr
    again = here.send("--live")
    assert "topic not-there is not there" in again.stderr


def test_the_topic_is_one_that_the_consumer_reads(here: Desk) -> None:
    """Of several one has to be chosen; a pattern covers what it matches."""
    servers = here.cluster.bootstrap_servers
    kafka = {"bootstrap_servers": servers, "topics": [here.topic, "other"]}
    here.sections |= {"kafka": kafka}
    undecided = here.send("--live")
    assert undecided.exit_code == 2
    assert "--topic: choose the source topic" in undecided.stderr
    foreign = here.send("--live", "--topic", "elsewhere")
    assert foreign.exit_code == 2
    assert "elsewhere is not read by this configuration" in foreign.stderr
    assert here.send("--live", "--topic", here.topic).exit_code == 0
    here.sections |= {"kafka": kafka | {"topics": [f"^{here.topic}$"]}}
    assert here.send("--live").exit_code == 0
    assert len(here.records()) == 2


def test_a_real_conversion_needs_to_be_meant(here: Desk) -> None:
    """TikTok's own endpoint: a test code or `--live`; another endpoint: a warning."""
    refused = here.send()
    assert refused.exit_code == 2
    assert "--test-event-code" in refused.stderr
    both = here.send("--live", "--test-event-code", "TEST1")
    assert both.exit_code == 2
    assert here.records() == []
    assert here.send(event=EVENT | {"test_event_code": "TEST1"}).exit_code == 0
    here.sections |= {"tiktok": {"endpoint": "http://127.0.0.1:8088/event/track/"}}
    warned = here.send()
    assert warned.exit_code == 0
    assert "Warning: without a test event code" in warned.stderr
    assert len(here.records()) == 2


def test_what_would_be_a_dead_letter_is_sent_only_by_force(here: Desk) -> None:
    """It says why; what cannot be an event at all is not sent even then."""
    nowhere = EVENT | {"event_source_id": "NOBODY"}
    refused = here.send("--live", event=nowhere)
    assert refused.exit_code == 1
    assert "unknown_destination" in refused.stderr
    assert "--force" in refused.stderr
    assert here.records() == []
    forced = here.send("--live", "--force", event=nowhere)
    assert (forced.exit_code, json.loads(forced.stdout)["outcome"]) == (0, "dead_lettered")
    no_event = here.send("--live", "--force", event=EVENT | {"page": "https://shop.example"})
    assert no_event.exit_code == 1
    assert len(here.records()) == 1


def test_a_suppressed_event_may_be_sent(here: Desk) -> None:
    """To see consent at work is a test as well; it counts nowhere."""
    result = here.send(event=EVENT | {"consent": {"marketing": "DENIED"}})
    assert result.exit_code == 0
    assert json.loads(result.stdout)["reason"] == "consent"


def test_a_broker_that_is_away_is_a_sentence(here: Desk) -> None:
    """It names the address and the key to check."""
    here.sections |= {"kafka": {"bootstrap_servers": "127.0.0.1:9"}}
    result = here.send("--live")
    assert result.exit_code == 1
    assert "127.0.0.1:9" in result.stderr
    assert "kafka.bootstrap_servers" in result.stderr
    assert "Traceback" not in result.output
