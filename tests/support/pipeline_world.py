"""The whole path for a test: a topic on the real broker, TikTok's emulator, and consumers.

What was produced is kept with its place in the log, so that what comes out can be compared with
it record by record.
"""

from __future__ import annotations

import time
import uuid
import zlib
from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Any

import fastavro
import orjson
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, the stubs forget it
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from consumer.event import Outcome, Record
from consumer.sandbox.expectations import compare, expected_totals
from consumer.sandbox.faults import FaultKind
from consumer.sandbox.ground_truth import EventIdentity
from consumer.sandbox.samples import PIXELS, Sample
from consumer.schemas import load_schema
from tests.support.consumer_process import ConsumerProcess
from tests.support.events import SCHEMA, confluent, purchase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from consumer.event import Headers, Reason
    from consumer.sandbox.expectations import Totals
    from consumer.sandbox.ground_truth import RequestSeen
    from tests.support.kafka import RealKafka
    from tests.support.sandbox_threads import Emulator

TOKENS = {"TOKEN_ONE": "first-token-of-the-tests", "TOKEN_TWO": "second-token-of-the-tests"}
"""The variables the configuration names: the first two pixels share a token."""

SCHEMA_TEXT = orjson.dumps(SCHEMA).decode()
"""The event schema, as producers register it."""

TOPIC_SOON_MISSED = {
    "delivery.timeout.ms": "1000",
    "topic.metadata.refresh.interval.ms": "500",
}
"""librdkafka properties: that a topic is gone shows within a second or two."""

_RECEIPT = fastavro.parse_schema(load_schema("delivery_receipt"))

_TOLD = 20
_TIMEOUT = 20.0
_COUNTED: Mapping[str, str] = dict.fromkeys((Outcome.DELIVERED, Outcome.DUPLICATE), "counted")
_TAKEN_UNSEEN = frozenset({FaultKind.CLOSE_AFTER, FaultKind.LATE})


def fresh_purchase(number: int, event_source_id: str = PIXELS[0], **fields: Any) -> dict[str, Any]:
    """A decoded purchase of just now; `number` makes it another one."""
    now_ms = time.time_ns() // 1_000_000
    return purchase(number, event_source_id=event_source_id, event_time=now_ms, **fields)


class Ledger:
    """Every record produced, by partition and offset, and what must become of it."""

    def __init__(self, partitions: int) -> None:
        self._by_position: dict[tuple[int, int], Sample] = {}
        self.ends = dict.fromkeys(range(partitions), 0)
        """The next offset of each partition: what a group that is done has committed."""

    def enter(self, partition: int, sample: Sample) -> Sample:
        """Writes down the partition's next record; its time makes it tell from its neighbours."""
        offset = self.ends[partition]
        placed = sample._replace(timestamp=sample.timestamp - offset % 1000)
        self._by_position[partition, offset] = placed
        self.ends[partition] += 1
        return placed

    @property
    def samples(self) -> list[Sample]:
        """All of them."""
        return list(self._by_position.values())

    def expected(self) -> Totals:
        """The totals that a consumer must come to."""
        return expected_totals(self.samples)

    def letter_findings(self, letters: Iterable[Record], *, copies: bool = False) -> list[str]:
        """What is wrong with a dead-letter topic: byte for byte, in order, reason and source.

        `copies` allows several letters of one record, as a crash may leave them.
        """
        return list(islice(self._letter_findings(letters, copies=copies), _TOLD))

    def _letter_findings(self, letters: Iterable[Record], *, copies: bool) -> Iterator[str]:
        found: Counter[tuple[int, int]] = Counter()
        for letter in letters:
            own = dict(letter.headers)
            position = (
                int(own["dlq.source.partition"] or b"-1"),
                int(own["dlq.source.offset"] or b"-1"),
            )
            found[position] += 1
            sample = self._by_position.get(position)
            if sample is None or sample.reason is None:
                yield f"{position} is a dead letter and should be none: {own['dlq.reason']!r}"
                continue
            original = (sample.key, sample.value, sample.timestamp, sample.headers)
            headers = letter.headers[: len(sample.headers)]
            if (letter.key, letter.value, letter.timestamp, headers) != original:
                yield f"{position} is not byte for byte what was produced"
            added = {name for name, _ in letter.headers[len(sample.headers) :]}
            if any(not name.startswith(("dlq.", "__connect.errors.")) for name in added):
                yield f"{position} has foreign headers after the original's: {added}"
            if own["dlq.reason"] != sample.reason.value.encode():
                yield f"{position} has reason {own['dlq.reason']!r}, not {sample.reason}"
        for position, sample in self._by_position.items():
            wanted = sample.outcome is Outcome.DEAD_LETTERED
            if wanted and not found[position]:
                yield f"{position} must be a dead letter ({sample.reason}) and is none"
            elif found[position] > 1 and not copies:
                yield f"{position} is a dead letter {found[position]} times"

    def receipt_findings(
        self, receipts: Iterable[Mapping[str, Any]], *, copies: bool = False
    ) -> list[str]:
        """What is wrong with a receipts topic: one for each record, with its outcome and reason.

        `copies` allows several of one record, as a crash may leave them.
        """
        return list(islice(self._receipt_findings(receipts, copies=copies), _TOLD))

    def _receipt_findings(
        self, receipts: Iterable[Mapping[str, Any]], *, copies: bool
    ) -> Iterator[str]:
        found: Counter[tuple[int, int]] = Counter()
        for receipt in receipts:
            position = receipt["source_partition"], receipt["source_offset"]
            found[position] += 1
            sample = self._by_position.get(position)
            if sample is None:
                yield f"{position} has a receipt and is no record"
                continue
            # Of copies of an event any may be the one that was delivered.
            outcome = _COUNTED.get(receipt["outcome"], receipt["outcome"])
            if outcome != _COUNTED.get(sample.outcome, sample.outcome):
                yield f"{position} is {receipt['outcome']} by its receipt, not {sample.outcome}"
            if receipt["reason"] != (sample.reason and sample.reason.value):
                yield f"{position} has reason {receipt['reason']}, not {sample.reason}"
        for position in self._by_position:
            if not found[position]:
                yield f"{position} has no receipt"
            elif found[position] > 1 and not copies:
                yield f"{position} has {found[position]} receipts"


@dataclass
class PipelineWorld:
    """One topic and what stands around it. Names are fresh, so that tests share a broker."""

    kafka: RealKafka
    emulator: Emulator
    registry_url: str
    schema_id: int
    folder: Path
    partitions: int = 4
    topic_config: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.topic = f"conversions-{uuid.uuid4().hex[:8]}"
        self.group = f"consumers-of-{self.topic}"
        self.ledger = Ledger(self.partitions)
        self.kafka.create_topic(self.topic, self.partitions, self.topic_config)

    # What goes in

    def produce(self, samples: Iterable[Sample], partition: int | None = None) -> None:
        """Writes samples, to one partition or by their key: a key always goes to the same one."""
        self.kafka.produce(self.topic, self.placed(samples, partition))

    def placed(self, samples: Iterable[Sample], partition: int | None = None) -> Iterator[Record]:
        """Samples as records of the topic, entered in the ledger: they must be written in order."""
        return (self._placed(sample, partition) for sample in samples)

    def _placed(self, sample: Sample, partition: int | None) -> Record:
        if partition is None:
            partition = zlib.crc32(sample.key) % self.partitions
        placed = self.ledger.enter(partition, sample)
        return Record(
            self.topic, partition, -1, placed.timestamp, placed.key, placed.value, placed.headers
        )

    def sample(
        self,
        event: Mapping[str, Any],
        reason: Reason | None = None,
        headers: Headers = (),
        *,
        event_as_sent: str = "CompletePayment",
    ) -> Sample:
        """A record of an event (decoded, complete): to be delivered, or dead-lettered for a reason.

        Its key is the event_id.
        """
        return Sample(
            event["event_id"].encode(),
            confluent(dict(event), self.schema_id),
            headers,
            time.time_ns() // 1_000_000,
            Outcome.DELIVERED if reason is None else Outcome.DEAD_LETTERED,
            reason,
            EventIdentity(event["event_source_id"], event_as_sent, event["event_id"]),
        )

    # Who reads

    def config(self, **over: Any) -> dict[str, Any]:
        """The configuration; sections given here are merged over it, key by key.

        Pauses and time-outs are short, since the emulator is near.
        """
        kafka = {
            "bootstrap_servers": self.kafka.bootstrap_servers,
            "group_id": self.group,
            "topics": [self.topic],
            "commit_interval": "200ms",
            "properties": {"session.timeout.ms": "6000", "heartbeat.interval.ms": "500"},
        }
        tokens = ("TOKEN_ONE", "TOKEN_ONE", "TOKEN_TWO")
        whole: dict[str, Any] = {
            "kafka": kafka,
            "schema": {"registry_url": self.registry_url, "unknown_after": "1s"},
            "destinations": [
                {"event_source_id": pixel, "access_token": {"env": token}}
                for pixel, token in zip(PIXELS, tokens, strict=True)
            ],
            "tiktok": {"endpoint": self.emulator.url, "timeout": "1s"},
            "batching": {"linger": "50ms"},
            "limits": {"requests_per_second": 500},
            "retry": {"initial": "50ms", "max": "1s"},
            "shutdown_timeout": "10s",
        }
        for section, values in over.items():
            merge = isinstance(whole.get(section), dict)
            whole[section] = merged(whole[section], values) if merge else values
        return whole

    def consumer(
        self,
        config: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        name: str = "consumer",
    ) -> ConsumerProcess:
        """Starts a consumer; one of the same name works in the same directory, state included."""
        return ConsumerProcess(
            self.folder / name, config or self.config(), {**TOKENS, **(environ or {})}
        )

    # What comes out

    @property
    def letters_topic(self) -> str:
        """The dead-letter topic."""
        return f"{self.topic}.dlq"

    def letters(self) -> list[Record]:
        """Every dead letter."""
        return self.kafka.read_all(self.letters_topic)

    @property
    def receipts_topic(self) -> str:
        """The receipts topic, where receipts are written."""
        return f"{self.topic}.receipts"

    def receipt_records(self) -> list[Record]:
        """Every record of the receipts topic."""
        return self.kafka.read_all(self.receipts_topic)

    def receipts(self) -> list[dict[str, Any]]:
        """Every receipt, read with our schema."""
        return [read_receipt(record.value) for record in self.receipt_records()]

    def letter_reasons(self) -> Counter[str]:
        """The dead letters, counted by reason."""
        return Counter(
            (dict(letter.headers)["dlq.reason"] or b"").decode() for letter in self.letters()
        )

    def committed(self) -> dict[int, int]:
        """The group's committed offsets."""
        found = self.kafka.committed(self.group, self.topic)
        return {partition: offset for partition, (offset, _) in found.items()}

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Sets the group's offsets, as an operator does while no member runs."""
        self.kafka.commit(self.group, self.topic, offsets)

    def delivery_findings(self) -> list[str]:
        """What TikTok has taken too much, too often or not at all."""
        return compare(self.emulator.accepted(), self.ledger.samples)

    def unexplained_repeats(
        self, explained: Callable[[RequestSeen], bool] = lambda _: False
    ) -> list[str]:
        """Events sent again although the consumer could have known that TikTok has them.

        The consumer cannot know it where the answer was late or the connection broke, or where
        `explained` says so of the earlier request.
        """
        requests = {seen.request_id: seen for seen in self.emulator.requests()}
        return [
            f"{event.identity} in {requests[request_id]}"
            for event in self.emulator.accepted()
            if event.deduplicated
            for request_id in event.request_ids[:-1]
            if requests[request_id].fault not in _TAKEN_UNSEEN
            and not explained(requests[request_id])
        ]

    def alter_topic(self, topic: str, **config: str) -> None:
        """Changes settings of a topic (dots as underscores); returns when they are in force."""
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap_servers, "log_level": 0})
        wanted = {name.replace("_", "."): value for name, value in config.items()}
        resource = ConfigResource(
            ResourceType.TOPIC,
            topic,
            incremental_configs=[
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                for name, value in wanted.items()
            ],
        )
        admin.incremental_alter_configs([resource])[resource].result(_TIMEOUT)
        deadline = time.monotonic() + _TIMEOUT
        while not wanted.items() <= self.kafka.topic_config(topic).items():
            assert time.monotonic() < deadline, f"{topic} does not take {wanted}"
            time.sleep(0.05)


def read_receipt(value: bytes | None) -> dict[str, Any]:
    """A receipt in Confluent's wire format, read with our schema."""
    found = fastavro.schemaless_reader(BytesIO((value or b"")[5:]), _RECEIPT, None)
    assert isinstance(found, dict)
    return found


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with another one laid over it, section by section."""
    both = dict(under)
    for key, value in over.items():
        held = both.get(key)
        if isinstance(held, dict) and isinstance(value, dict):
            both[key] = merged(held, value)
        else:
            both[key] = value
    return both
