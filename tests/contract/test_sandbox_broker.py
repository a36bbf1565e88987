"""The embedded broker serves what the consumer needs, to other processes too."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from consumer.sandbox.broker import PARTITIONS, BrokerError, EmbeddedBroker, NewRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMBER = """
import json, sys, time
from confluent_kafka import Consumer, TopicPartition

bootstrap, topic, protocol, wanted = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
settings = {
    "bootstrap.servers": bootstrap,
    "group.id": f"members-{protocol}",
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "group.protocol": protocol,
}
if protocol == "classic":
    settings["partition.assignment.strategy"] = "cooperative-sticky"
consumer = Consumer(settings)
consumer.subscribe([topic])
read, deadline = [], time.monotonic() + 20
while len(read) < wanted and time.monotonic() < deadline:
    read += consumer.consume(100, 0.2)
ends = {}
for message in read:
    ends[message.partition()] = message.offset() + 1
offsets = [TopicPartition(topic, p, o, metadata=f"done-{p}") for p, o in ends.items()]
consumer.commit(offsets=offsets, asynchronous=False)
marks = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=5) for p in range(4)}
consumer.close()
print(json.dumps({"values": [m.value().decode() for m in read], "ends": ends, "marks": marks}))
"""


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


def member(broker: EmbeddedBroker, topic: str, protocol: str, wanted: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", MEMBER, broker.bootstrap_servers, topic, protocol, str(wanted)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_records_come_back_byte_for_byte(broker: EmbeddedBroker) -> None:
    """Key, value, headers, time and partition survive; nulls stay nulls and order holds."""
    headers = (("traceparent", b"00-01"), ("twice", b"1"), ("twice", b"2"), ("none", None))
    written = [
        NewRecord(b"k", b"\x00\xff", headers, timestamp=1_700_000_000_123, partition=2),
        NewRecord(None, None, timestamp=1_700_000_000_124, partition=2),
        NewRecord(b"k", b"", timestamp=1_700_000_000_125, partition=0),
    ]
    assert broker.produce("bytes", written) == 3
    read = broker.read_all("bytes")
    assert [(r.partition, r.offset) for r in read] == [(0, 0), (2, 0), (2, 1)]
    assert [r.value for r in read] == [b"", b"\x00\xff", None]
    assert [r.key for r in read] == [b"k", b"k", None]
    assert read[1].headers == headers
    assert [r.timestamp for r in read] == [1_700_000_000_000 + n for n in (125, 123, 124)]


def test_one_key_stays_in_one_partition(broker: EmbeddedBroker) -> None:
    """Copies of an event under its key meet in the same partition."""
    broker.produce("keys", [NewRecord(b"%d" % (n % 20), b"v") for n in range(200)])
    homes: dict[bytes | None, set[int]] = {}
    for record in broker.read_all("keys"):
        homes.setdefault(record.key, set()).add(record.partition)
    assert {len(partitions) for partitions in homes.values()} == {1}
    assert set.union(*homes.values()) == set(range(PARTITIONS))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_group_in_another_process_reads_commits_and_sees_watermarks(
    broker: EmbeddedBroker, protocol: str
) -> None:
    """Cooperative-sticky and KIP-848 groups join, and offsets and metadata stay with the broker."""
    topic = f"group-{protocol}"
    broker.produce(topic, [NewRecord(None, b"%d" % n, partition=n % 4) for n in range(40)])
    report = member(broker, topic, protocol, 40)
    assert sorted(report["values"], key=int) == [str(n) for n in range(40)]
    assert report["marks"] == {str(p): [0, 10] for p in range(4)}
    assert broker.committed(f"members-{protocol}", topic) == {
        p: (10, f"done-{p}") for p in range(4)
    }


def test_an_unread_topic_is_empty_and_uncommitted(broker: EmbeddedBroker) -> None:
    """Asking for what nobody wrote is no error."""
    assert broker.read_all("nothing") == []
    assert broker.committed("nobody", "nothing") == {}


def test_an_overflowing_partition_is_not_left_unnoticed(broker: EmbeddedBroker) -> None:
    """Records pushed out of the 5 MiB would be lost input: produce says so."""
    text = [NewRecord(None, b"again and again " * 50_000, partition=0) for _ in range(8)]
    assert broker.produce("roomy", text) == 8
    noise = random.Random(1)
    huge = [NewRecord(None, noise.randbytes(900_000), partition=0) for _ in range(8)]
    with pytest.raises(BrokerError, match="pushed out"):
        broker.produce("full", huge)


def test_a_stopped_broker_says_so() -> None:
    """Stopping twice is harmless, using it afterwards is an error with the remedy."""
    broker = EmbeddedBroker()
    broker.start()
    broker.stop()
    broker.stop()
    with pytest.raises(BrokerError, match="start"):
        broker.produce("t", [])
