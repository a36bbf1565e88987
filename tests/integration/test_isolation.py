"""A refused token for one of two pixels under load: the other one does not notice."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from consumer.sandbox.faults import Scenario
from consumer.sandbox.samples import PIXELS
from consumer.sandbox.tiktok import Access, EmulatorSettings
from tests.support.pipeline_world import SCHEMA_TEXT, TOKENS, PipelineWorld, fresh_purchase

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.consumer_process import ConsumerProcess
    from tests.support.sandbox_threads import Registry

SECONDS = float(os.environ.get("TIKTOK_EVENTS_HELD_SECONDS", "12"))
"""For how long the token is refused: 12, or as long as asked for (`TIKTOK_EVENTS_HELD_SECONDS`)."""

HELD, OTHER = PIXELS[0], PIXELS[2]
OLD, NEW = "the-old-token", "the-new-token"
RATE = 400
"""Events a second of each pixel."""

BOUND = 400
"""Events in flight: a twentieth of the backlog and less."""

SHARE = 0.95
MOST_RSS = 300 << 20
TICK = 0.1
WEATHER = Scenario(latency_ms=30, latency_jitter_ms=30)


class Load:
    """A steady stream of events for both pixels, and what became of them."""

    def __init__(self, world: PipelineWorld) -> None:
        self._world = world
        self._writer = world.kafka.writer()
        self.produced = 0

    def run(self, seconds: float) -> float:
        """Produces for so long; the share of the other pixel's events that TikTok had by then."""
        before, taken = self.produced, self.taken(OTHER)
        began = now = time.monotonic()
        while now < began + seconds:
            time.sleep(TICK)
            now = time.monotonic()
            due = before + int((now - began) * RATE)
            samples = [
                self._world.sample(fresh_purchase(number, pixel))
                for number in range(self.produced, due)
                for pixel in (HELD, OTHER)
            ]
            self._writer.write(self._world.topic, self._world.placed(samples))
            self.produced = due
        self._writer.flush()
        return (self.taken(OTHER) - taken) / (self.produced - before)

    def taken(self, pixel: str) -> int:
        """How many events of a pixel TikTok has."""
        seen = self._world.emulator.requests()
        return sum(request.accepted for request in seen if request.event_source_id == pixel)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(OLD)
    return file


@pytest.fixture
def two_pixels(
    new_world: Callable[..., PipelineWorld], sandbox_registry: Registry
) -> PipelineWorld:
    """A world in which each pixel has an app and a token of its own."""
    tokens = {
        OLD: Access("one", frozenset({HELD})),
        NEW: Access("one", frozenset({HELD})),
        TOKENS["TOKEN_TWO"]: Access("two", frozenset({OTHER})),
    }
    schema_id = sandbox_registry.register("conversions-value", SCHEMA_TEXT)
    world = new_world(sandbox_registry.url, schema_id, EmulatorSettings(tokens))
    world.emulator.play(WEATHER)
    return world


def config_of(world: PipelineWorld, token_file: Path) -> dict[str, object]:
    """The defaults of back-off: probes as far apart as in production."""
    return world.config(
        destinations=[
            {"event_source_id": HELD, "access_token": {"file": str(token_file)}},
            {"event_source_id": OTHER, "access_token": {"env": "TOKEN_TWO"}},
        ],
        limits={"max_in_flight_events": BOUND},
        batching={"max_events": 50},
        retry={"initial": "500ms", "max": "60s"},
        tiktok={"timeout": "3s"},  # no answer is given up on a busy machine
        kafka={"properties": {"session.timeout.ms": "9000"}},
    )


def refuse_the_old(world: PipelineWorld) -> None:
    """From now on the old token is expired."""
    world.emulator.play(
        Scenario(latency_ms=30, latency_jitter_ms=30, expired_tokens=frozenset({OLD}))
    )


def all_flows_with_a_new_token(
    world: PipelineWorld, consumer: ConsumerProcess, load: Load, token_file: Path
) -> None:
    """Within seconds the first goes, and in the end each has gone once."""
    assert load.produced - load.taken(HELD) > 10 * BOUND, "it was no backlog worth the name"
    before = load.taken(HELD)
    token_file.write_text(NEW)
    consumer.until(lambda: load.taken(HELD) > before, "the first with the new token", 5.0)
    consumer.until(lambda: load.taken(HELD) >= load.produced, "all with the new token", 120.0)
    assert consumer.status().destination(HELD)["state"] == "open"
    assert consumer.peak_rss_bytes() < MOST_RSS
    consumer.until(lambda: load.taken(OTHER) >= load.produced, "all of the other pixel")
    assert consumer.terminate().exit_code == 0
    assert world.letters() == []
    assert world.delivery_findings() == []
    assert world.unexplained_repeats() == []
    assert world.committed() == world.ledger.ends


def test_a_refused_token_costs_the_other_pixel_nothing(
    two_pixels: PipelineWorld, token_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It keeps its throughput; the backlog waits in the retry topic; the new token frees it."""
    load = Load(two_pixels)
    with two_pixels.consumer(config_of(two_pixels, token_file)) as consumer:
        consumer.wait_until_ready()
        load.run(3.0)
        healthy = load.run(5.0)
        refuse_the_old(two_pixels)
        held = load.run(SECONDS)
        assert consumer.status().destination(HELD)["state"] == "held"
        with capsys.disabled():
            print(f"\nthe other pixel: {healthy:.1%} before, {held:.1%} while one was held")  # noqa: T201  figures for the reader
        assert held >= SHARE * healthy
        assert consumer.status().document["in_flight"]["events"] <= 2 * BOUND
        all_flows_with_a_new_token(two_pixels, consumer, load, token_file)


def test_a_restart_in_the_middle_changes_nothing(
    two_pixels: PipelineWorld, token_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process that comes after finds the backlog where it was, and holds the same pixel."""
    load = Load(two_pixels)
    config = config_of(two_pixels, token_file)
    refuse_the_old(two_pixels)
    with two_pixels.consumer(config) as consumer:
        consumer.wait_until_ready()
        load.run(SECONDS / 2)
        assert consumer.status().destination(HELD)["state"] == "held"
        assert consumer.terminate().exit_code == 0
    with two_pixels.consumer(config) as consumer:
        load.run(SECONDS / 2)
        load.run(2.0)  # what came while nobody was there is made good
        share = load.taken(OTHER) / load.produced
        with capsys.disabled():
            print(f"\nthe other pixel: {share:.1%} by the end of the hold")  # noqa: T201  figures for the reader
        assert share >= SHARE
        all_flows_with_a_new_token(two_pixels, consumer, load, token_file)
