"""Source and emitter do the same on the embedded broker and on a real Kafka."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from consumer.emit import Emitter
from consumer.event import Headers, Record, TopicPartition
from consumer.messages import Acknowledged, Produce
from consumer.position import TRUNCATED, Latest
from consumer.sandbox.broker import EmbeddedBroker, NewRecord
from consumer.source import NOT_OWNED, SLICE, CommitOffset, SourceSettings, StartTime
from tests.support.listener import Listener, reading
from tests.support.raw_producer import produce_with_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.support.kafka import RealKafka

PARTITIONS = 4
_NUMBERS = itertools.count()


class Cluster(Protocol):
    """What these tests ask of a broker."""

    bootstrap_servers: str
    session_timeout_ms: str
    protocol: str

    def create(self, topic: str) -> None:
        """Create a topic with `PARTITIONS` partitions."""

    def produce(self, topic: str, records: list[Record]) -> None:
        """Write records to the partitions they name."""

    def read_all(self, topic: str) -> list[Record]:
        """Every record of a topic, by partition and offset."""

    def committed(self, group: str, topic: str) -> dict[int, tuple[int, str]]:
        """Offset and metadata the group has committed, by partition."""


class Embedded:
    """The broker of the demo: librdkafka's mock cluster."""

    # The mock cluster waits three seconds before a classic group's first assignment, and the
    # session time-out less a second in each further rebalance; under KIP-848 it does not wait.
    session_timeout_ms = "4500"
    protocol = "consumer"

    def __init__(self, broker: EmbeddedBroker) -> None:
        self._broker = broker
        self.bootstrap_servers = broker.bootstrap_servers

    def create(self, topic: str) -> None:
        """Create a topic."""
        self._broker.read_all(topic)  # asking creates it

    def produce(self, topic: str, records: list[Record]) -> None:
        """Write records."""
        self._broker.produce(
            topic,
            [NewRecord(r.key, r.value, r.headers, r.timestamp, r.partition) for r in records],
        )

    def read_all(self, topic: str) -> list[Record]:
        """Read everything."""
        return self._broker.read_all(topic)

    def committed(self, group: str, topic: str) -> dict[int, tuple[int, str]]:
        """Ask for the group's offsets."""
        found = self._broker.committed(group, topic)
        return {p: (offset, metadata or "") for p, (offset, metadata) in found.items()}


class Real:
    """A real Kafka."""

    session_timeout_ms = "6000"
    protocol = "classic"

    def __init__(self, kafka: RealKafka) -> None:
        self._kafka = kafka
        self.bootstrap_servers = kafka.bootstrap_servers

    def create(self, topic: str) -> None:
        """Create a topic."""
        self._kafka.create_topic(topic, PARTITIONS)

    def produce(self, topic: str, records: list[Record]) -> None:
        """Write records."""
        self._kafka.produce(topic, records)

    def read_all(self, topic: str) -> list[Record]:
        """Read everything."""
        return self._kafka.read_all(topic)

    def committed(self, group: str, topic: str) -> dict[int, tuple[int, str]]:
        """Ask for the group's offsets."""
        return self._kafka.committed(group, topic)


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(params=["embedded", "real"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    if request.param == "embedded":
        return Embedded(request.getfixturevalue("embedded"))
    return Real(request.getfixturevalue("kafka"))


@pytest.fixture(params=["embedded-consumer", "real-classic", "real-consumer"])
def hand_over(request: pytest.FixtureRequest) -> tuple[Cluster, str]:
    """A broker and a protocol whose rebalances take no more than a few seconds."""
    name, protocol = request.param.split("-")
    if name == "embedded":
        return Embedded(request.getfixturevalue("embedded")), protocol
    return Real(request.getfixturevalue("kafka")), protocol


@pytest.fixture
def topic(cluster: Cluster) -> str:
    name = f"edges-{next(_NUMBERS)}"
    cluster.create(name)
    return name


@pytest.fixture(params=["classic", "consumer"])
def protocol(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def records(topic: str, number: int, first: int = 0) -> list[Record]:
    return [
        Record(topic, i % PARTITIONS, 0, 1_750_000_000_000 + i, b"k%d" % i, b"v%d" % i, ())
        for i in range(first, first + number)
    ]


def member(
    cluster: Cluster, topic: str, *, protocol: str | None = None, **more: Any
) -> SourceSettings:
    more.setdefault("group_id", f"readers-of-{topic}")
    properties = {
        "bootstrap.servers": cluster.bootstrap_servers,
        "group.protocol": protocol or cluster.protocol,
        "session.timeout.ms": cluster.session_timeout_ms,
        "heartbeat.interval.ms": "300",
    }
    return SourceSettings(topics=[topic], properties=properties, **more)


def values(read: Iterable[Record]) -> list[bytes]:
    return sorted(record.value or b"" for record in read)


async def test_every_record_is_read_once_and_in_order(
    cluster: Cluster, topic: str, protocol: str
) -> None:
    """All records of all partitions come, those of a partition in the order of its offsets."""
    cluster.produce(topic, records(topic, 2000))
    async with reading(member(cluster, topic, protocol=protocol, chunk_size=100)) as (_, heard):
        await heard.until(lambda: len(heard.records) >= 2000)
        await heard.until(lambda: sum(heard.highs.values()) == 2000)
    for partition in range(PARTITIONS):
        offsets = [r.offset for r in heard.records if r.partition == partition]
        assert offsets == list(range(500))
    assert values(heard.records) == values(records(topic, 2000))


async def test_a_header_name_that_is_no_text_costs_the_headers_and_not_the_source(
    cluster: Cluster, topic: str
) -> None:
    """Anybody may write such a record; it must not end every consumer that comes to it."""
    # Enough before it that the interpreter has specialised what it runs for every record.
    cluster.produce(topic, records(topic, 400))
    produce_with_header(cluster.bootstrap_servers, topic, 0, b"odd", b"bad\xff")
    cluster.produce(topic, records(topic, 1))
    async with reading(member(cluster, topic)) as (_, heard):
        await heard.until(lambda: len(heard.records) == 402)
    assert [r.headers for r in heard.records] == [()] * 402
    after = [r.value for r in heard.records if r.partition == 0][-2:]
    assert after == [b"odd", b"v0"]


async def test_a_restarted_member_goes_on_where_the_group_had_committed(
    cluster: Cluster, topic: str, protocol: str
) -> None:
    """What the stop commits is where the next start begins, and its metadata comes back."""
    cluster.produce(topic, records(topic, 40))
    settings = member(cluster, topic, protocol=protocol)
    async with reading(settings) as (_, first):
        await first.until(lambda: len(first.records) == 40)
    assert cluster.committed(settings.group_id, topic) == dict.fromkeys(range(4), (10, "drained"))
    cluster.produce(topic, records(topic, 8, first=40))
    async with reading(settings) as (_, second):
        await second.until(lambda: len(second.records) == 8)
        assert {(a.position, a.committed, a.metadata) for a in second.assigned} == {
            (10, 10, "drained")
        }
    assert values(second.records) == values(records(topic, 8, first=40))


async def test_a_second_member_takes_partitions_over_after_they_drained(
    hand_over: tuple[Cluster, str],
) -> None:
    """Revoked partitions are committed before they move, so that nothing is read twice or never."""
    cluster, protocol = hand_over
    topic = f"edges-{next(_NUMBERS)}"
    cluster.create(topic)
    cluster.produce(topic, records(topic, 400))
    settings = member(cluster, topic, protocol=protocol)
    slow = Listener()
    slow.drain_seconds = 0.3
    async with reading(settings, slow) as (_, first):
        await first.until(lambda: len(first.records) == 400)
        async with reading(settings) as (_, second):
            await second.until(lambda: len(second.owned) == 2, timeout=30)
            assert len(first.revoked) == 2
            assert first.owned.keys().isdisjoint(second.owned)
            cluster.produce(topic, records(topic, 400, first=400))
            await first.until(lambda: len(first.records) == 600)
            await second.until(lambda: len(second.records) == 200)
    assert values([*first.records, *second.records]) == values(records(topic, 800))


async def test_commits_report_their_results_and_keep_their_metadata(
    cluster: Cluster, topic: str
) -> None:
    """An asynchronous commit comes back as a result, and the broker keeps offset and metadata."""
    cluster.produce(topic, records(topic, 40))
    settings = member(cluster, topic)
    tp = TopicPartition(topic, 1)
    async with reading(settings) as (source, heard):
        await heard.until(lambda: len(heard.records) == 40)
        source.commit({tp: CommitOffset(7, "v1:3+2")})
        await heard.until(lambda: (tp, 7, None, False) in heard.results)
        assert cluster.committed(settings.group_id, topic)[1] == (7, "v1:3+2")


async def test_a_commit_for_a_partition_that_is_not_owned_is_refused(
    cluster: Cluster, topic: str
) -> None:
    """A late result of an assignment that has ended moves no offset of the group."""
    settings = member(cluster, topic)
    foreign = TopicPartition(topic, 99)
    async with reading(settings) as (source, heard):
        await heard.until(lambda: len(heard.owned) == PARTITIONS)
        source.commit({foreign: CommitOffset(5)})
        await heard.until(lambda: (foreign, 5, NOT_OWNED, False) in heard.results)


async def test_a_paused_partition_stands_still_and_loses_nothing(
    cluster: Cluster, topic: str
) -> None:
    """While one partition is paused the others flow; resumed, it goes on where it stopped."""
    cluster.produce(topic, records(topic, 400))
    paused = TopicPartition(topic, 2)
    async with reading(member(cluster, topic)) as (source, heard):
        await heard.until(lambda: len(heard.records) == 400)
        source.pause([paused])
        await asyncio.sleep(0.7)
        cluster.produce(topic, records(topic, 400, first=400))
        await heard.until(lambda: len(heard.records) == 700)
        await asyncio.sleep(0.3)
        assert heard.next[paused] == 100
        source.resume([paused])
        await heard.until(lambda: len(heard.records) == 800)
    assert values(heard.records) == values(records(topic, 800))


@pytest.mark.parametrize("closed_for", [0.3, 1.5])
async def test_a_closed_flow_stands_still_and_loses_nothing(
    cluster: Cluster, topic: str, closed_for: float
) -> None:
    """Neither a short shortage nor one long enough to pause everything loses or repeats."""
    async with reading(member(cluster, topic)) as (source, heard):
        await heard.until(lambda: len(heard.owned) == PARTITIONS)
        source.flow(open=False)
        await asyncio.sleep(0.1)
        cluster.produce(topic, records(topic, 400))
        await asyncio.sleep(closed_for)
        assert len(heard.records) == 0
        source.flow(open=True)
        await heard.until(lambda: len(heard.records) >= 400)
        await asyncio.sleep(0.2)
    assert values(heard.records) == values(records(topic, 400))


async def test_a_partition_that_was_paused_reads_again_after_it_returned(kafka: RealKafka) -> None:
    """A pause ends with the assignment it was ordered for."""
    cluster = Real(kafka)
    topic = "edges-paused-and-back"
    cluster.create(topic)
    settings = member(cluster, topic)
    async with reading(settings) as (source, first):
        await first.until(lambda: len(first.owned) == PARTITIONS)
        await asyncio.sleep(0.6)
        source.pause(list(first.owned))
        async with reading(settings) as (_, second):
            await second.until(lambda: len(second.owned) == 2, timeout=30)
        await first.until(lambda: len(first.owned) == PARTITIONS, timeout=30)
        returned = set(first.revoked)
        cluster.produce(topic, records(topic, 40))
        await first.until(lambda: len(first.records) == 20)
        assert {TopicPartition(r.topic, r.partition) for r in first.records} == returned


async def test_a_new_group_that_starts_at_the_end_commits_that_at_once(
    cluster: Cluster, topic: str
) -> None:
    """A crash before the first settled record must not move the start to a later log end."""
    cluster.produce(topic, records(topic, 40))
    settings = member(cluster, topic, start=Latest())
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.results) >= PARTITIONS)
        assert cluster.committed(settings.group_id, topic) == dict.fromkeys(range(4), (10, ""))
        cluster.produce(topic, records(topic, 4, first=40))
        await heard.until(lambda: len(heard.records) == 4)
    assert values(heard.records) == values(records(topic, 4, first=40))


async def test_an_offset_above_the_log_end_is_held_until_somebody_sets_another(
    cluster: Cluster, topic: str
) -> None:
    """A truncated partition is not read, also not when its log has grown past the offset again."""
    cluster.produce(topic, records(topic, 40))
    settings = member(cluster, topic, recheck_interval=0.2)
    tp = TopicPartition(topic, 3)
    async with reading(settings) as (source, heard):
        await heard.until(lambda: len(heard.records) == 40)
        heard.next[tp] = 15  # what the stop commits
    async with reading(settings) as (source, heard):
        await heard.until(lambda: len(heard.owned) == PARTITIONS)
        assert {a.tp: a.hold for a in heard.assigned if a.hold} == {tp: TRUNCATED}
        source.pause([])
        cluster.produce(topic, records(topic, 40, first=40))
        await heard.until(lambda: len(heard.records) == 30)
        await asyncio.sleep(1.0)
        assert not heard.changes
        heard.next[tp] = 10  # what the stop commits: somebody has decided
    async with reading(settings) as (source, heard):
        await heard.until(lambda: len(heard.records) == 10)
        assert {r.offset for r in heard.records if r.partition == 3} == set(range(10, 20))


async def test_a_topic_that_is_made_again_is_read_from_its_start(kafka: RealKafka) -> None:
    """Offsets of a deleted topic say nothing about the new one, however far it has grown."""
    real, name = Real(kafka), f"edges-{next(_NUMBERS)}"
    real.create(name)
    real.produce(name, records(name, 20))
    async with reading(member(real, name, recheck_interval=0.2)) as (_, heard):
        await heard.until(lambda: len(heard.records) == 20)
        heard.records.clear()
        kafka.delete_topic(name)
        real.create(name)
        real.produce(name, records(name, 8))
        await heard.until(lambda: len(heard.records) == 8)
        assert heard.lost, "what was read of the old topic is nobody's any more"


async def test_a_defect_of_the_listener_stops_the_source(cluster: Cluster, topic: str) -> None:
    """Records that could not be taken are not followed by others, and nothing is committed."""
    cluster.produce(topic, records(topic, 40))
    settings = member(cluster, topic)
    listener = Listener()
    listener.refuse_records = True
    async with reading(settings, listener) as (_, heard):
        await heard.until(lambda: bool(heard.errors))
        assert isinstance(heard.errors[0].__cause__, ValueError)
    # The start of a group without an offset, and nothing of the records that were refused.
    assert cluster.committed(settings.group_id, topic) == dict.fromkeys(range(4), (0, ""))


async def test_an_emitted_record_is_the_same_byte_for_byte(cluster: Cluster, topic: str) -> None:
    """Key, value, headers (repeated, empty, null) and timestamp arrive as they were given."""
    headers: Headers = (("h", b"1"), ("h", b""), ("n", None), ("ü", b"\x00\xff"))
    letters = [
        Produce(1, topic, b"\x00key", b"\x00\xffvalue", headers, 1_700_000_000_123),
        Produce(2, topic, None, None, (), 1_700_000_000_456),
        Produce(3, topic, b"", b"", (), 1_700_000_000_789),
    ]
    acknowledged = await emitted(cluster, letters)
    assert sorted(acknowledged) == [Acknowledged(n) for n in (1, 2, 3)]
    read = {r.timestamp: (r.key, r.value, r.headers) for r in cluster.read_all(topic)}
    assert read == {
        letter.timestamp: (letter.key, letter.value, letter.headers) for letter in letters
    }


async def test_more_records_than_the_queue_takes_are_all_acknowledged(
    cluster: Cluster, topic: str
) -> None:
    """A full queue keeps records waiting; none is dropped and the loop is never blocked."""
    letters = [Produce(n, topic, b"%d" % n, b"x" * 100, (), -1) for n in range(2000)]
    acknowledged = await emitted(cluster, letters, **{"queue.buffering.max.messages": "100"})
    assert sorted(acknowledged) == [Acknowledged(n) for n in range(2000)]
    assert len(cluster.read_all(topic)) == 2000


async def test_a_record_that_is_too_large_fails_alone(cluster: Cluster, topic: str) -> None:
    """A record above the size limit comes back as `too_large`; its neighbours arrive."""
    letters = [
        Produce(1, topic, None, b"small", (), -1),
        Produce(2, topic, None, b"x" * 20_000_000, (), -1),
        Produce(3, topic, None, b"small", (), -1),
    ]
    by_handle = {each.handle: each.error for each in await emitted(cluster, letters)}
    assert by_handle == {1: None, 2: "too_large", 3: None}
    assert len(cluster.read_all(topic)) == 2


async def emitted(
    cluster: Cluster, letters: list[Produce], **properties: str
) -> list[Acknowledged]:
    acknowledged: list[Acknowledged] = []
    emitter = Emitter(
        {"bootstrap.servers": cluster.bootstrap_servers, **properties},
        acknowledged.extend,
        asyncio.get_running_loop(),
    )
    emitter.start()
    emitter.produce(letters)
    assert await emitter.stop(20.0)
    return acknowledged


async def test_a_record_for_a_topic_that_does_not_exist_is_reported(kafka: RealKafka) -> None:
    """An unknown topic is a result to try again, never an exception, and blames no neighbour."""
    cluster = Real(kafka)
    topic = "edges-known"
    cluster.create(topic)
    letters = [
        Produce(1, "edges-unknown", None, b"v", (), -1),
        Produce(2, topic, None, b"v", (), -1),
    ]
    by_handle = {
        a.handle: a for a in await emitted(cluster, letters, **{"delivery.timeout.ms": "3000"})
    }
    assert by_handle[2] == Acknowledged(2)
    assert by_handle[1].error == "retriable"


async def test_a_new_group_can_start_at_a_time(kafka: RealKafka) -> None:
    """`kafka.start` as a time begins with the first record of that time (mock clusters cannot)."""
    cluster = Real(kafka)
    topic = "edges-start-time"
    cluster.create(topic)
    cluster.produce(topic, records(topic, 40))
    settings = member(cluster, topic, start=StartTime(1_750_000_000_000 + 32))
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.records) == 8)
    assert values(heard.records) == values(records(topic, 8, first=32))


async def test_records_deleted_before_they_were_read_are_reported(kafka: RealKafka) -> None:
    """Retention that overtakes the group is named with its range, and reading goes on."""
    cluster = Real(kafka)
    topic = "edges-retention"
    cluster.create(topic)
    cluster.produce(topic, records(topic, 40))
    settings = member(cluster, topic)
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.records) == 40)
    cluster.produce(topic, records(topic, 40, first=40))
    kafka.delete_records(topic, {0: 14})
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.records) == 36)
        assert {a.tp.partition: a.lost for a in heard.assigned if a.lost} == {0: (10, 14)}


async def test_retention_that_overtakes_a_running_member_is_reported(kafka: RealKafka) -> None:
    """A paused partition whose records were deleted goes on at the log start and says so."""
    cluster = Real(kafka)
    topic = "edges-overtaken"
    cluster.create(topic)
    tp = TopicPartition(topic, 0)
    cluster.produce(topic, records(topic, 40))
    async with reading(member(cluster, topic)) as (source, heard):
        await heard.until(lambda: len(heard.records) == 40)
        source.pause([tp])
        await asyncio.sleep(0.7)
        cluster.produce(topic, records(topic, 40, first=40))
        kafka.delete_records(topic, {0: 15})
        source.resume([tp])
        await heard.until(lambda: bool(heard.changes))
        assert heard.changes == [(tp, 15, None, (10, 15))]
        await heard.until(lambda: len(heard.records) == 75)


async def test_a_read_reaches_the_loop_in_slices_in_order(cluster: Cluster, topic: str) -> None:
    """The loop gets its turn between slices of one read, however many records that read had."""
    cluster.produce(topic, records(topic, 1000))
    listener = Listener()
    async with reading(member(cluster, topic, chunk_size=500), listener) as (_, heard):
        await heard.until(lambda: len(heard.records) == 1000)
    assert max(listener.slices) == SLICE
    assert sum(listener.slices) == 1000
