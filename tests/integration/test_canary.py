"""Nothing of a person's data and no secret comes out, whatever goes wrong around it."""

from __future__ import annotations

import itertools
import logging
import time
import traceback
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from consumer import logs
from consumer.config import parse
from consumer.decode import Decoder, Encoding, Undecodable, UnknownSchema
from consumer.errors import ConfigError
from consumer.event import Outcome
from consumer.sandbox.faults import Fault, FaultKind, Scenario
from consumer.sandbox.registry import RegistryLogin
from consumer.sandbox.rules import REJECT_MARKER
from consumer.sandbox.samples import PIXELS, Sample
from consumer.verdict import judge
from tests.support import world as simulated
from tests.support.canary import (
    HEADERS,
    KEY,
    NUMBERS,
    REGISTRY_USER,
    SECRETS,
    STEM,
    canary_event,
    leaks,
    markers,
)
from tests.support.events import SCHEMA, confluent
from tests.support.otlp import OtlpReceiver
from tests.support.pipeline_world import SCHEMA_TEXT
from tests.support.sandbox_threads import run_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from consumer.requests import Request
    from consumer.verdict import Answer
    from tests.support.consumer_process import ConsumerProcess
    from tests.support.pipeline_world import PipelineWorld
    from tests.support.sandbox_threads import Registry

MAX_BYTES = 64 * 1024

MESSAGES = (
    f"Invalid value for data. 0 .user.email: '{STEM}@{STEM}.example' is not a SHA-256 hash.",
    f"Invalid value for data.0.user.phone: {NUMBERS['phone'][0]} ({STEM}) is no number",
    f"Batch.0.properties.{STEM}_note: {STEM} is not a valid string",
    f"Invalid value for user.first_name: {STEM} not valid, ip {NUMBERS['ip'][0]}",
    f"Invalid value for data.0.{STEM}: not a valid string.",
    f"{STEM} {SECRETS['TOKEN_ONE']}: data.0.user.email of {STEM}",
)
"""Refusals that quote what they refuse, with and without quotation marks, a path or an index."""


def once(kind: FaultKind, **shape: Any) -> Fault:
    return Fault(kind, times=1, **shape)


REFUSALS = (
    *(once(FaultKind.CODE, code=40002, message=message) for message in MESSAGES),
    # More than once, so that the hold lasts until somebody has looked.
    Fault(
        FaultKind.CODE,
        times=6,
        code=40105,
        message=f"Access token {SECRETS['TOKEN_ONE']} is incorrect",
        event_source_id=PIXELS[0],
    ),
    once(FaultKind.CODE, code=40002, message=f"Invalid value for event_source_id: '{STEM}'"),
    once(FaultKind.CODE, code=40100, message=f"Too many requests of {STEM}"),
    once(FaultKind.CODE, code=49999, message=f"Unheard of: {STEM}"),
    once(FaultKind.CODE, code=50000, message=f"System error at {STEM}@{STEM}.example"),
    once(FaultKind.CODE, code=20001, message=f"Partially successful for {STEM}"),
    once(FaultKind.PAGE, status=503),
    once(FaultKind.HANG, seconds=30),
    once(FaultKind.CLOSE_BEFORE),
    once(FaultKind.CLOSE_AFTER),
)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def good_events(count: int, pixel: str) -> list[dict[str, Any]]:
    return [
        canary_event(number, now_ms(), event_source_id=pixel, event_source="web")
        for number in range(count)
    ]


def bad_events() -> list[dict[str, Any]]:
    """One of each kind that is refused before it is sent, and one that TikTok refuses."""
    fresh, custom = {"event_source_id": PIXELS[0]}, {"custom": {"note": f"{STEM}\x01" * MAX_BYTES}}
    return [
        canary_event(900, now_ms(), **fresh, page=None),
        canary_event(901, now_ms(), **fresh, page={"url": STEM}),
        canary_event(902, now_ms(), **fresh, event_source="app"),
        canary_event(903, now_ms(), **fresh, limited_data_use=True, user={"ip": "10.0.0.7"}),
        canary_event(904, now_ms(), **fresh, properties={"value": 1.0, "currency": STEM}),
        canary_event(905, now_ms() - 30 * 86_400_000, **fresh),
        canary_event(906, now_ms() + 30 * 86_400_000, **fresh),
        canary_event(907, now_ms(), event_source_id="C9NOBODYS00000000000"),
        canary_event(908, now_ms(), **fresh, properties=custom),
        canary_event(909, now_ms(), **fresh, user={"email": STEM, "phone": STEM, "ip": STEM}),
        canary_event(910, now_ms(), **fresh, properties={"custom": {REJECT_MARKER: True}}),
    ]


def corrupt_values(schema_id: int) -> Iterator[bytes]:
    """Values that no reader can make sense of, markers in them."""
    whole = confluent(canary_event(990, now_ms()), schema_id)
    yield STEM.encode()
    yield b"{" + STEM.encode()
    yield whole[:5] + b"\x10" + STEM.encode() * 20
    yield whole + STEM.encode()
    yield from (whole[:length] for length in range(6, len(whole), 37))
    yield whole.replace(b"\x02\x02", b"\x7e\x02")
    yield whole[:5] + whole[5:].replace(STEM.encode(), b"\xff" * len(STEM))
    yield (2_000_000_000).to_bytes(5, "big") + STEM.encode()


def record(value: bytes) -> Sample:
    return Sample(KEY, value, HEADERS, now_ms(), Outcome.DELIVERED, None, None)


class Run:
    """A world where everything goes wrong once, and what came out of it by then."""

    def __init__(self, world: PipelineWorld, registry: Registry, receiver: OtlpReceiver) -> None:
        self.world = world
        self.registry = registry
        self.receiver = receiver
        self.events = good_events(60, PIXELS[0]) + good_events(20, PIXELS[2]) + bad_events()
        self.places: dict[str, bytes | str] = {}

    def start(self, **environ: str) -> ConsumerProcess:
        """A consumer with a marked secret wherever one can be; `environ` is over the rest."""
        password: dict[str, Any] = {"env": "REGISTRY_PASSWORD"}
        config = self.world.config(
            kafka={"properties": {"sasl.password": "${SASL_PASSWORD}"}},
            schema={"registry_auth": {"username": REGISTRY_USER, "password": password}},
            batching={"max_events": 5, "max_bytes": MAX_BYTES},
            admin={"token": {"env": "ADMIN_TOKEN"}},
        )
        telemetry = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.receiver.endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
        }
        return self.world.consumer(config, SECRETS | telemetry | environ)

    def produce(self) -> None:
        """Writes all events, and values that are none."""
        values = [confluent(event, self.world.schema_id) for event in self.events]
        values += corrupt_values(self.world.schema_id)
        self.produced = len(values)
        self.world.produce([record(value) for value in values])

    def look(self, consumer: ConsumerProcess, when: str) -> None:
        """Keeps what the admin server shows now."""
        for page in ("/status", "/metrics", "/"):
            self.places[f"{page} {when}"] = consumer.read(page)

    def keep(self, consumer: ConsumerProcess) -> None:
        """Keeps what it has left behind."""
        self.places["log"] = consumer.log_file.read_bytes()
        for number, body in enumerate(self.receiver.bodies):
            self.places[f"OTLP request {number}"] = body
        for letter in self.world.letters():
            for name, value in letter.headers[len(HEADERS) :]:
                self.places[f"{name} of offset {letter.offset}"] = value or b""
        for file in self.world.folder.rglob("*"):
            if file.is_file() and file.suffix != ".log":
                self.places[f"file {file.name}"] = file.read_bytes()


@pytest.fixture
def run(new_world: Callable[..., PipelineWorld], stack: ExitStack) -> Run:
    login = RegistryLogin(REGISTRY_USER, SECRETS["REGISTRY_PASSWORD"])
    registry = stack.enter_context(run_registry(login))
    schema_id = registry.register("conversions-value", SCHEMA_TEXT)
    receiver = stack.enter_context(OtlpReceiver())
    return Run(new_world(registry.url, schema_id), registry, receiver)


def test_no_marker_leaves_the_process(run: Run) -> None:
    """Logs, spans, metrics, headers, pages and files are clean after everything went wrong."""
    run.produce()
    run.registry.trouble.status = 503
    run.world.emulator.play(Scenario(faults=REFUSALS))

    with run.start() as consumer:
        consumer.until_status(lambda s: "registry_unavailable" in s.paused.values(), "waiting")
        run.look(consumer, "without a registry")
        run.registry.trouble.status = None
        consumer.until_status(
            lambda s: s.destination(PIXELS[0])["state"] == "held", "refused for its token"
        )
        run.look(consumer, "while held")
        consumer.until_settled(run.produced)
        run.look(consumer, "at the end")
        assert consumer.terminate().exit_code == 0
    run.keep(consumer)

    # The canaries flew: the letters' values are full of them, and TikTok refused what it should.
    wanted = markers(run.events)
    assert leaks({"value": b"".join(letter.value or b"" for letter in run.world.letters())}, wanted)
    codes = {str(seen.code) for seen in run.world.emulator.requests()}
    assert {"40002", "40105", "40100", "49999", "50000", "20001"} <= codes
    assert set(run.world.letter_reasons()) >= {
        "undecodable", "schema_unknown", "invalid", "unknown_destination", "too_old", "in_future",
        "too_large", "rejected",
    }  # fmt: skip
    assert run.receiver.spans
    assert run.receiver.metrics
    assert leaks(run.places, wanted) == []


def test_a_wrong_password_is_named_by_its_place(run: Run) -> None:
    """The registry refuses it; the log says where to look and not what was tried."""
    run.produce()

    with run.start(REGISTRY_PASSWORD=f"{STEM}AnotherPassword") as consumer:
        consumer.until_status(lambda s: "registry_unavailable" in s.paused.values(), "waiting")
        run.look(consumer, "with a wrong password")
        assert consumer.terminate().exit_code == 0
    run.keep(consumer)

    assert "schema.registry_auth" in consumer.log_file.read_text("utf-8")
    assert leaks(run.places, markers(run.events)) == []


def test_no_value_shows_a_marker() -> None:
    """`repr` of everything that travels between the engine and the world."""
    answers = itertools.cycle(
        [*(simulated.code(40002, message) for message in MESSAGES), simulated.TIMEOUT]
    )
    shown: dict[str, str] = {}

    def answer(request: Request) -> Answer:
        given = next(answers)
        shown[f"answer {len(shown)}"] = repr((given, judge(given, len(request.events))))
        return given

    world = simulated.World(answer)
    event = canary_event(1, simulated.START_MS)
    del event["event_source_id"], event["event_source"]
    world.assign(0)
    for number in range(60):
        world.produce(orjson.dumps(event | {"event_id": f"canary-{number}"}), STEM.encode())
    world.run(60)

    shown |= {f"action {number}": repr(action) for number, action in enumerate(world.log)}
    shown |= {f"item {number}": repr(item) for number, item in enumerate(world.settled)}
    shown |= {f"attempt {number}": repr(attempt) for number, attempt in enumerate(world.attempts)}
    shown |= {f"mapped {n}": repr(item.mapped) for n, item in enumerate(world.settled)}
    shown |= {f"record {n}": repr(item.record) for n, item in enumerate(world.settled)}
    assert {"item 0", "action 0", "attempt 0"} <= shown.keys()
    assert leaks(shown, markers([event])) == []


def test_no_exception_quotes_a_value() -> None:
    """Neither the text of a failed read nor those it came from."""
    decoder = Decoder(Encoding.CONFLUENT, SCHEMA)
    decoder.learn(1, [SCHEMA_TEXT])
    told: dict[str, str] = {}
    for number, value in enumerate(corrupt_values(1)):
        try:
            decoder.decode(value)
        except (Undecodable, UnknownSchema) as error:
            told[f"text {number}"] = f"{error} {error!r}"
            told[f"traceback {number}"] = "".join(traceback.format_exception(error))
    assert len(told) > 20
    assert leaks(told, markers()) == []


def test_a_foreign_exception_is_logged_without_its_values() -> None:
    """What a library says about the value it stumbled over stays out of the log."""
    handler = logs.JsonHandler()
    try:
        int(f"{STEM}@{STEM}.example")
    except ValueError as error:
        record = logging.LogRecord(
            "consumer", logging.ERROR, "f.py", 1, "failed", (), (type(error), error, None)
        )
        line = handler.format(record)
    assert "ValueError" in line
    assert leaks({"line": line}, markers()) == []


def test_a_refused_configuration_does_not_quote_secrets() -> None:
    """A token written where only its place may stand is not repeated in the complaint."""
    text = f"""
        destinations:
          - {{event_source_id: {PIXELS[0]}, access_token: {SECRETS["TOKEN_ONE"]}}}
          - {{event_source_id: {PIXELS[1]}, access_token: {{file: {SECRETS["TOKEN_TWO"]}}}}}
        schema: {{registry_url: "http://reader:{SECRETS["REGISTRY_PASSWORD"]}@registry:8081"}}
        admin: {{token: "{SECRETS["ADMIN_TOKEN"]}"}}
    """
    with pytest.raises(ConfigError) as refused:
        parse(text, {}, references=False)
    told = "".join(traceback.format_exception(refused.value))
    assert "destinations[0].access_token" in told
    assert leaks({"told": f"{refused.value!r} {told}"}, markers()) == []
