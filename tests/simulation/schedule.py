"""A schedule: everything that is done to the consumers in one run, as plain data.

A run follows from its schedule alone, so a schedule is what is replayed, and what is made smaller
when a run fails. What happens in between (how long a request takes, say) is drawn while it runs,
from generators that the schedule's seed begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from consumer.lease import takeover_seconds


class Kind(StrEnum):
    """What becomes of a record's event, were there no faults."""

    GOOD = "good"
    BAD = "bad"  # TikTok never takes it
    TOMBSTONE = "tombstone"
    GARBAGE = "garbage"  # not an event
    DENIED = "denied"  # the person does not want it sent
    STRIPPED = "stripped"  # the person allows less
    SCHEMA = "of another schema"  # to be sent, once the registry has told how to read it


class Append(NamedTuple):
    """A record is produced: time in seconds, partition, number of the event in the partition."""

    at: float
    partition: int
    number: int
    kind: Kind


class Fault(StrEnum):
    """What goes wrong."""

    CRASH = "crash"
    MACHINE_CRASH = "machine crash"
    SUSPEND = "suspend"
    CUT = "cut off from Kafka"
    STOP = "stop"
    JOIN = "join"
    REPLACE = "replace"
    SHUFFLE = "rebalance"
    COORDINATOR_GONE = "coordinator gone"
    COMMITS_FAIL = "commits fail"
    COMMITS_UNANSWERED = "commits unanswered"
    RESET_OFFSETS = "offsets reset"
    FORGET_OFFSETS = "offsets forgotten"
    LEADER_CHANGE = "leader change"
    SLOW_REPLICAS = "slow replicas"
    PARTITION_DOWN = "partition down"
    PRODUCES_FAIL = "produces fail"
    PRODUCES_TWICE = "produces twice"
    LETTERS_FAIL = "dead letters and receipts fail"
    MARKERS = "transaction markers"
    SOURCE_RETENTION = "source retention"
    SOURCE_TRUNCATED = "source truncated"
    SOURCE_RECREATED = "source made again"
    STORE_FAILS = "store fails"
    STORE_WIPED = "store wiped"
    REGISTRY_AWAY = "registry away"
    TIKTOK = "TikTok"


class Weather(StrEnum):
    """What TikTok does to the requests of a pixel for a while."""

    SLOW = "slow"
    ACCEPT_HANG = "accepts and never answers"
    HANG = "takes nothing and never answers"
    ACCEPT_LATE = "accepts after the time-out"
    ACCEPT_BREAK = "accepts and breaks the connection"
    BREAK = "breaks the connection"
    ACCEPT_ERROR = "accepts and says 50000"
    ERROR = "says 50000"
    PAGE = "answers with a gateway's page"
    THROTTLE_APP = "throttles the app"
    THROTTLE_PIXEL = "throttles the pixel"
    HOLD_TOKEN = "refuses the token"
    HOLD_PIXEL = "refuses the pixel"
    MAINTENANCE = "is under maintenance"
    UNREACHABLE = "cannot be reached"
    PARTIAL = "takes a part"


class Trouble(NamedTuple):
    """A fault: when, what, for how long (seconds), to whom.

    `target` is a process, a partition or a pixel, whatever the fault is about; `share` of what it
    concerns meets it; `weather` is TikTok's.
    """

    at: float
    fault: Fault
    seconds: float = 0.0
    target: int = 0
    share: float = 1.0
    weather: Weather | None = None


@dataclass(frozen=True, slots=True)
class Setup:
    """How the consumers are configured, and what they meet all the time. Times in seconds."""

    processes: int = 2
    partitions: int = 2
    pixels: int = 2
    shared_token: bool = False
    session_timeout: float = 45.0
    request_timeout: float = 10.0
    drain_seconds: float = 10.0
    window: float = 48 * 3600.0
    give_up_after: float = 24 * 3600.0
    retry_max: float = 60.0
    park_after: float = 60.0
    max_in_flight_events: int = 100
    batch_events: int = 10
    concurrency: int = 4
    chunk: int = 16
    names_guilty: bool = True
    static_members: bool = False
    commits_renew_session: bool = True
    cooperative_pause: float = 1.0
    wall_skew: float = 0.0
    commit_interval: float = 1.0
    receipts: bool = False

    @property
    def takeover_wait(self) -> float:
        """How long a new owner waits for the requests of one that vanished."""
        return takeover_seconds(
            self.session_timeout, self.request_timeout, static=self.static_members
        )

    @property
    def settles_within(self) -> float:
        """How long after the last fault everything may take to settle."""
        return self.session_timeout + self.takeover_wait + 4 * self.retry_max + 200.0

    @property
    def heartbeat(self) -> float:
        """Seconds between two heartbeats."""
        return 1.5


@dataclass(frozen=True, slots=True)
class Schedule:
    """One run: the faults are over after `seconds`. With other `luck` it takes another course."""

    seed: int
    setup: Setup
    appends: tuple[Append, ...]
    troubles: tuple[Trouble, ...]
    seconds: float
    luck: int = 0
