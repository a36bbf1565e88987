"""One round: a fresh topic, group and emulator, a known load, members, and what is done to them."""

from __future__ import annotations

import random
import time
import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from confluent_kafka import KafkaException

from consumer.own_topics import OwnTopics
from consumer.sandbox.faults import Scenario as Weather
from consumer.sandbox.samples import PIXELS
from consumer.sandbox.tiktok import Access, EmulatorSettings
from tests.faults.evidence import Incident, IncidentKind
from tests.faults.load import Load
from tests.faults.member import MEMBERS, TOKENS, Member, tokens_of
from tests.support.pipeline_world import merged
from tests.support.sandbox_threads import run_emulator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from consumer.event import Record
    from tests.faults.arena import Arena, Cluster
    from tests.faults.load import Mix

SESSION: Final = 6.0
"""Seconds without a heartbeat after which the broker takes a member for dead."""

TIMEOUT: Final = 2.0
"""Seconds that a request to TikTok may take. Lease: session - this - margin = 3 s."""

STALLED: Final = 60.0
"""Seconds without any progress after which a round is given up."""

RECEIPTS_UPTO: Final = 200_000
"""Events of a round: of more of them no receipts are written, which would all have to be read."""

_LOOK: Final = 0.02
_LOOK_AT_STATUS: Final = 0.1
_LOOK_AT_COMMITS: Final = 0.3
_CLASSIC: Final = {"session.timeout.ms": f"{SESSION * 1000:.0f}", "heartbeat.interval.ms": "500"}
_QUICK: Final = {"reconnect.backoff.ms": "50", "reconnect.backoff.max.ms": "500"}


@dataclass(frozen=True)
class RoundSettings:
    """What a round is like.

    `events` records are to be produced; a scenario may produce some of them twice. `brief` asks
    for as little as touches everything. `protocol` is the group's: classic or consumer.
    """

    name: str
    events: int
    seed: int
    brief: bool = False
    protocol: str = "classic"
    partitions: int = 4
    nodes: int = 1


class Round:
    """A round under way; a scenario plays it, and `evidence` is gathered from it afterwards."""

    def __init__(
        self, arena: Arena, settings: RoundSettings, progress: Callable[[int, int], object]
    ) -> None:
        self.settings = settings
        self.draw = random.Random(settings.seed)
        self.cluster: Cluster = arena.cluster(settings.nodes)
        self.topic = f"faults-{uuid.uuid4().hex[:8]}"
        self.group = f"group-of-{self.topic}"
        own = OwnTopics(self.group)
        self.state_topic = own.state_of(self.topic)
        self.retry_topic = own.retry_of(self.topic)
        self.letter_topic = own.dead_letter_of(self.topic)
        self.receipt_topic = f"{self.topic}.receipts" if settings.events <= RECEIPTS_UPTO else None
        self.folder: Path = arena.folder / self.topic
        self.load = Load(
            settings.seed, arena.schema_id, settings.partitions, time.time_ns() // 1_000_000
        )
        self.incidents: list[Incident] = []
        self.findings: list[str] = []
        self.remarks: list[str] = []
        self.letters_saved: list[Record] = []
        """Dead letters that were read before their topic was deleted."""
        self.members: dict[str, Member] = {}
        self._registry_url = arena.registry_url
        self._progress = progress
        self._stack = ExitStack()
        self._interrupted = False

    def __enter__(self) -> Self:
        with self._stack:
            self._set_up()
            self._stack = self._stack.pop_all()
        return self

    def _set_up(self) -> None:
        apps = [f"member-{number}" for number in range(MEMBERS)]
        self.emulator = self._stack.enter_context(
            run_emulator(
                EmulatorSettings(
                    tokens={
                        token: Access(app, frozenset({pixel}))
                        for app in apps
                        for pixel, token in tokens_of(app).items()
                    },
                    strict=False,
                    scenario=Weather(self.settings.seed, latency_ms=30, latency_jitter_ms=30),
                )
            )
        )
        kafka, settings = self.cluster.kafka, self.settings
        replicas = {"min.insync.replicas": "2"} if settings.nodes > 1 else {}
        kafka.create_topic(self.topic, settings.partitions, replicas, min(settings.nodes, 3))
        self._stack.callback(self._delete_topics)
        if settings.protocol == "consumer":
            kafka.set_group_config(
                self.group, consumer_session_timeout_ms=_CLASSIC["session.timeout.ms"]
            )
        self._stack.callback(self.end_members)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After Ctrl-C the broker is gone as well, and so are its topics.
        self._interrupted = kind is not None
        self._stack.close()

    @property
    def under_way(self) -> bool:
        """Whether TikTok has taken anything yet."""
        return self.accepted > 0

    @property
    def accepted(self) -> int:
        """How many different events TikTok has taken."""
        return self.emulator.events_accepted

    def find(self, finding: str) -> None:
        """Writes down that something is wrong."""
        self.findings.append(finding)

    def note(self, kind: IncidentKind, app: str | None = None, began: float | None = None) -> None:
        """Writes down what was done, from `began` (seconds since the epoch) until now."""
        now = time.time()
        self.incidents.append(Incident(kind, app, now if began is None else began, now))

    # What goes in

    def produce(self, count: int, mix: Mix | None = None) -> range:
        """Produces new records; their numbers."""
        return self.produce_again(self.load.more(count, mix))

    def produce_again(self, numbers: range) -> range:
        """Produces records of these numbers, for the first time or once more."""
        self.cluster.kafka.produce(self.topic, self.load.records(numbers))
        return numbers

    # Who reads

    def config(self, over: dict[str, Any]) -> dict[str, Any]:
        """A member's configuration: short times, since everything is near, and `over` over it."""
        whole: dict[str, Any] = {
            "kafka": {
                "bootstrap_servers": self.cluster.kafka.bootstrap_servers,
                "group_id": self.group,
                "topics": [self.topic],
                "commit_interval": "500ms",
                "properties": {**_CLASSIC, **_QUICK, "group.protocol": self.settings.protocol},
            },
            "schema": {"registry_url": self._registry_url, "unknown_after": "1s"},
            "destinations": [
                {"event_source_id": pixel, "access_token": {"env": TOKENS[pixel]}}
                for pixel in PIXELS
            ],
            "tiktok": {"endpoint": self.emulator.url, "timeout": f"{TIMEOUT:.0f}s"},
            "batching": {"max_events": 200, "linger": "50ms"},
            "limits": {
                "requests_per_second": 500,
                "max_concurrency": 4,
                "max_in_flight_events": 6000,
            },
            "retry": {"initial": "50ms", "max": "1s"},
            "receipts": {"topic": self.receipt_topic},
            "shutdown_timeout": "12s",
        }
        return merged(whole, over)

    def member(self, number: int = 0, over: dict[str, Any] | None = None) -> Member:
        """The member of this number, made when it is first asked for; not yet started."""
        app = f"member-{number}"
        if app not in self.members:
            self.members[app] = Member(self, app, over or {})
        return self.members[app]

    def start(self, *numbers: int, over: dict[str, Any] | None = None) -> list[Member]:
        """Starts members and waits until each of them has partitions."""
        members = [self.member(number, over).start() for number in numbers]
        for member in members:
            member.until_owning()
        return members

    def restore(self) -> None:
        """Brings back what a scenario that has failed may have left away."""
        self.cluster.restore()

    # How it goes

    def until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Waits for a condition while every member runs."""
        deadline = time.monotonic() + seconds
        while True:
            self._look()
            with suppress(OSError):  # a member's admin server does not listen yet
                if condition():
                    return
            if time.monotonic() > deadline:
                raise AssertionError(f"not in {seconds:.0f} s: {what}\n{self._evidence()}")
            time.sleep(_LOOK_AT_STATUS)

    def until_accepted(self, number: int) -> None:
        """Waits until TikTok has taken so many different events; fails where nothing moves."""
        self._until_moving(lambda: self.accepted >= number, f"{number} events are accepted", _LOOK)

    def spread(self, count: int, upto: float = 0.9) -> list[int]:
        """Moments of a round: numbers of accepted events, drawn at random, in their order."""
        good = len(self.load.fates) * upto
        return sorted(self.draw.randrange(int(good * 0.02), int(good)) for _ in range(count))

    def until_done(self) -> None:
        """Waits until the group has committed everything, what was parked included."""
        self._until_moving(self._is_done, "everything is committed", _LOOK_AT_COMMITS)

    def finish(self) -> None:
        """Waits until everything is done and lets the members go, each with exit code 0."""
        self.until_done()
        for member in self.members.values():
            if member.runs:
                member.terminate()

    def committed(self) -> dict[int, int]:
        """The group's offsets in the source topic."""
        found = self.cluster.kafka.committed(self.group, self.topic)
        return {partition: offset for partition, (offset, _) in found.items()}

    def _is_done(self) -> bool:
        kafka = self.cluster.kafka
        if self.accepted < self.load.delivered or self.committed() != self.load.ends:
            return False
        parked = {p: end for p, end in kafka.ends(self.retry_topic).items() if end}
        found = kafka.committed(self.group, self.retry_topic) if parked else {}
        return all(found.get(p, (0, ""))[0] == end for p, end in parked.items())

    def _until_moving(self, condition: Callable[[], bool], what: str, pause: float) -> None:
        seen, since = -1, time.monotonic()
        while True:
            self._look()
            with suppress(KafkaException):  # the broker may be away
                if condition():
                    return
            if (accepted := self.accepted) != seen:
                seen, since = accepted, time.monotonic()
            if time.monotonic() - since > STALLED:
                raise AssertionError(f"nothing moves any more before {what}\n{self._evidence()}")
            time.sleep(pause)

    def _look(self) -> None:
        self._progress(self.accepted, len(self.load.fates))
        for member in self.members.values():
            member.check()

    def _evidence(self) -> str:
        told = [f"accepted {self.accepted} of {self.load.delivered}, logs end at {self.load.ends}"]
        for member in self.members.values():
            if member.runs:
                with suppress(OSError):
                    told.append(f"{member.app}: {member.process.status().document}")
        return "\n".join(told)

    def end_members(self) -> None:
        """Kills every member that still runs."""
        for member in self.members.values():
            member.end()

    def _delete_topics(self) -> None:
        if self._interrupted:
            return
        own = (self.state_topic, self.retry_topic, self.letter_topic, self.receipt_topic)
        for name in filter(None, (self.topic, *own)):
            with suppress(KafkaException):
                if self.cluster.kafka.partitions(name):
                    self.cluster.kafka.delete_topic(name)
