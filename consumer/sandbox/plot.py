"""The plot of the demo: what is produced, how the consumer is set up, what goes wrong and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from consumer.sandbox.faults import Fault, FaultKind, Scenario
from consumer.sandbox.samples import PIXELS, POISONS, SampleSettings

if TYPE_CHECKING:
    from pathlib import Path

TOPIC: Final = "conversions"
"""The source topic."""

DEAD_LETTERS: Final = "conversions.dlq"
"""The dead-letter topic: the consumer's default for the source topic."""

RECEIPTS: Final = "conversions.receipts"
"""The topic of the receipts."""

GROUP: Final = "tiktok-events-demo"
"""The consumer group."""

TOKEN_VARIABLE: Final = "TIKTOK_ACCESS_TOKEN"  # noqa: S105  the variable's name, not a token
"""Where the consumer finds its access token."""

PRODUCING_SECONDS: Final = 10.0
"""How long producing takes, whatever the number of events: the consumer is seen at work."""

KILLED_AFTER: Final = 0.4
"""The share of the events that is produced when the consumer is killed."""

SESSION_SECONDS: Final = 4.0
"""How long the broker waits for a member that is gone before it gives its partitions away."""

TIMEOUT_SECONDS: Final = 1.5
"""How long the consumer waits for TikTok's answer."""

THROTTLED_PIXEL: Final = PIXELS[1]
"""The pixel that TikTok throttles once the consumer is back."""

THROTTLED_SECONDS: Final = 7.0
"""For how long it does."""

_POISON_SHARE = 0.002
_TOMBSTONE_SHARE = 0.005


def samples(now_ms: int, schema_id: int) -> SampleSettings:
    """What is produced: a tenth twice, some without consent, some for each dead-letter reason."""
    return SampleSettings(
        now_ms=now_ms,
        schema_id=schema_id,
        tombstones=_TOMBSTONE_SHARE,
        poison=dict.fromkeys(POISONS, _POISON_SHARE),
    )


def configuration(
    bootstrap_servers: str, registry_url: str, endpoint: str, state: Path
) -> dict[str, Any]:
    """The consumer's configuration file, before it is written as YAML.

    Only times are shorter than one would choose in earnest, so that nobody waits for minutes.
    """
    return {
        "kafka": {
            "bootstrap_servers": bootstrap_servers,
            "group_id": GROUP,
            "topics": [TOPIC],
            "commit_interval": "500ms",
            "properties": {
                "session.timeout.ms": str(round(SESSION_SECONDS * 1000)),
                "heartbeat.interval.ms": "1000",
            },
        },
        "schema": {"registry_url": registry_url, "unknown_after": "3s"},
        "destinations": [
            {"event_source_id": pixel, "access_token": {"env": TOKEN_VARIABLE}} for pixel in PIXELS
        ],
        "tiktok": {"endpoint": endpoint, "timeout": f"{round(TIMEOUT_SECONDS * 1000)}ms"},
        "retry": {"initial": "250ms", "max": "2s"},
        "dedup": {"directory": str(state)},
        "receipts": {"topic": RECEIPTS},
        "admin": {"port": 0},
        "shutdown_timeout": "10s",
    }


def rough_day(seed: int) -> Scenario:
    """TikTok's usual answer times; failures, and answers that get lost after TikTok has counted."""
    return Scenario(seed=seed, latency_ms=120, latency_jitter_ms=110, faults=_lost_and_failed())


def throttling(seed: int) -> Scenario:
    """The same day, and one pixel gets too many requests for TikTok's taste for a while."""
    throttle = Fault(
        FaultKind.CODE,
        code=40132,
        event_source_id=THROTTLED_PIXEL,
        retry_after="1",
        lasting=THROTTLED_SECONDS,
    )
    return Scenario(
        seed=seed + 1,
        latency_ms=120,
        latency_jitter_ms=110,
        faults=(throttle, *_lost_and_failed()),
    )


def _lost_and_failed() -> tuple[Fault, ...]:
    """Each a given number of times, so that the run shows all of them; when is left to chance."""
    return (
        Fault(FaultKind.LATE, seconds=TIMEOUT_SECONDS + 2, probability=0.2, times=1),
        Fault(FaultKind.CLOSE_AFTER, probability=0.1, times=2),
        Fault(FaultKind.PAGE, status=502, probability=0.1, times=2),
        Fault(FaultKind.CODE, code=50000, probability=0.1, times=2),
        Fault(FaultKind.HANG, seconds=TIMEOUT_SECONDS + 2, probability=0.2, times=1),
    )
