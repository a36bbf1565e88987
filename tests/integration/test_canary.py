"""Nothing of a person's data and no secret comes out, whatever goes wrong around it."""

from __future__ import annotations

import itertools
import logging
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from consumer import logs
from consumer.decode import Decoder, Encoding, Undecodable, UnknownSchema
from consumer.errors import ConfigError
from consumer.event import Outcome, Reason
from consumer.messages import Acknowledged
from consumer.sandbox.faults import Fault, FaultKind, Scenario
from consumer.sandbox.registry import RegistryLogin
from consumer.sandbox.samples import PIXELS, Sample
from consumer.schemas import load_schema
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
from tests.support.events import avro, confluent
from tests.support.otlp import OtlpReceiver
from tests.support.sandbox_threads import run_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from consumer.messages import Produce
    from tests.support.consumer_process import ConsumerProcess
    from tests.support.pipeline_world import PipelineWorld

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
    once(FaultKind.CODE, code=40105, message=f"Access token {SECRETS['TOKEN_ONE']} is incorrect"),
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
    """One of each kind that is refused before it is sent."""
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


@pytest.fixture
def guarded_world(
    new_world: Callable[..., PipelineWorld], stack: ExitStack
) -> tuple[PipelineWorld, dict[str, Any]]:
    """A world whose registry asks for a password, and the configuration that has it."""
    login = RegistryLogin(REGISTRY_USER, SECRETS["REGISTRY_PASSWORD"])
    registry = stack.enter_context(run_registry(login))
    schema_id = registry.register("s", load_schema_text())
    registry.trouble.status = 503
    world = new_world(registry.url, schema_id)
    config = world.config(
        kafka={"properties": {"sasl.password": "${SASL_PASSWORD}"}},
        schema={
            "registry_auth": {"username": REGISTRY_USER, "password": {"env": "REGISTRY_PASSWORD"}}
        },
        batching={"max_events": 5, "max_bytes": MAX_BYTES},
    )
    stack.callback(setattr, registry.trouble, "status", None)
    config["_registry"] = registry
    return world, config
