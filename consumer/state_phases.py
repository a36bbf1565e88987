"""Where the memory of a partition stands between its assignment and its hand-over."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

REBUILDING = "dedup_rebuilding"
"""Hold reason: what was accepted before is being read from the state topic."""

TAKEOVER = "takeover"
"""Hold reason: the owner before left without a word; its requests may still be in the air."""

SUPERSEDED = "superseded"
"""Hold reason: another member has opened the partition; this one must prove its membership."""


class Phase(StrEnum):
    """Where the memory of a partition stands."""

    LOADING = "loading"
    OPENING = "opening"
    REBUILDING = "rebuilding"
    TAKEOVER = "takeover"
    READY = "ready"
    SUPERSEDED = "superseded"
    CLOSED = "closed"


HOLDS = {
    Phase.LOADING: REBUILDING,
    Phase.OPENING: REBUILDING,
    Phase.REBUILDING: REBUILDING,
    Phase.TAKEOVER: TAKEOVER,
    Phase.SUPERSEDED: SUPERSEDED,
}
"""For which reason a partition is held in which phase; in the others it is not."""


@dataclass(frozen=True, slots=True)
class StateRules:
    """For how long things count.

    `window_ms`: an acceptance that is older is forgotten. `takeover_wait`: seconds after which a
    request of an owner that vanished has surely ended (`tiktok.timeout` and a margin).
    `say_again_after`: as many records would a restart read again for attempts that ended without
    an outcome, before these are announced once more.
    """

    window_ms: int = 48 * 3600 * 1000
    takeover_wait: float = 11.0
    say_again_after: int = 1000
