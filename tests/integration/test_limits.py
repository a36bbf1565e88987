"""The installed command finds what TikTok takes, pixel by pixel, below too high a ceiling."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from consumer.sandbox.answers import PIXEL_THROTTLED
from consumer.sandbox.faults import Scenario
from consumer.sandbox.samples import PIXELS
from tests.support.pipeline_world import PipelineWorld, fresh_purchase

if TYPE_CHECKING:
    from consumer.sandbox.ground_truth import RequestSeen

RATES = {PIXELS[0]: 20.0, PIXELS[2]: 35.0}
"""What each pixel takes; the configuration says 200."""

WARM_UP, MEASURED = 20.0, 20.0
USED, THROTTLED = 0.85, 0.03
"""Nine tenths and two of a hundred on a quiet machine, as the unit tests ask for; on a busy one
either side may stand still for a moment."""
EACH = 2
"""Events of a request, so that a few thousand are many requests."""


@pytest.mark.parametrize("retry_after", [None, "1"], ids=["without", "with Retry-After"])
def test_hidden_limits_of_two_pixels_are_used_and_kept(
    world: PipelineWorld,
    retry_after: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After twenty seconds nearly all of each is used, and hardly an answer throttles."""
    world.emulator.play(
        Scenario(
            latency_ms=120,
            latency_jitter_ms=110,
            pixel_rates=RATES,
            retry_after=retry_after,
        )
    )
    for pixel, rate in RATES.items():
        number = round(rate * (WARM_UP + MEASURED + 5.0) * EACH)
        world.produce(world.sample(fresh_purchase(n, pixel)) for n in range(number))
    config = world.config(
        batching={"max_events": EACH},
        limits={"requests_per_second": 200},
        retry={"initial": "500ms", "max": "60s"},
    )
    with world.consumer(config) as consumer:
        consumer.until(lambda: bool(world.emulator.requests()), "sending")
        time.sleep(WARM_UP + MEASURED)
        status = consumer.status()
        limits = {
            pixel: consumer.metric("tiktok_events_rate_limit", event_source_id=pixel)
            for pixel in RATES
        }
        consumer.kill()

    requests = world.emulator.requests()
    since = requests[0].at + WARM_UP
    for pixel, rate in RATES.items():
        seen = [r for r in requests if r.event_source_id == pixel]
        used, throttled = shares(seen, since, rate)
        with capsys.disabled():
            print(f"\n{pixel}: {used:.1%} of {rate:g}/s used, {throttled:.2%} throttled")  # noqa: T201  figures for the reader
        assert used >= USED
        assert throttled <= THROTTLED
        told = status.destination(pixel)
        assert told["learned"]
        assert 0.7 * rate < limits[pixel] < 1.4 * rate


def shares(seen: list[RequestSeen], since: float, rate: float) -> tuple[float, float]:
    """Of the limit that was used, and of the answers that were throttles, in the time measured."""
    measured = [r for r in seen if since <= r.at < since + MEASURED - 1.0]
    throttled = sum(r.code == PIXEL_THROTTLED for r in measured)
    return (len(measured) - throttled) / (rate * (MEASURED - 1.0)), throttled / len(measured)
