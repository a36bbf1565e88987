"""How comparable systems lost, repeated or stalled events: the same situation, the other result.

Each test names where it was seen. The engine alone is shown here; what takes a broker or a
restart is shown elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from consumer.batch import BatchLimits
from consumer.event import Destination, EventSource, Record, TopicPartition
from consumer.hold_gate import GateState
from consumer.limits import RetryPolicy
from consumer.messages import Acknowledged, Produce, SchemaFound
from consumer.settle import LETTER_REFUSED
from consumer.verdict import Answer
from tests.support.world import (
    OTHER_PIXEL,
    PIXEL,
    RETRY,
    START_MS,
    TIMEOUT,
    TOPIC,
    World,
    code,
    event,
    ok,
)

if TYPE_CHECKING:
    from consumer.event import Headers
    from consumer.requests import Request

FIRST = TopicPartition(TOPIC, 0)
ONE_BY_ONE = BatchLimits(max_events=1)


@pytest.mark.parametrize("refusal", [Answer(401, b""), Answer(403, b"<html>"), code(40105)])
def test_vector_24543_a_refused_token_holds_the_destination_and_keeps_its_events(
    refusal: Answer,
) -> None:
    """They stay for longer than any other trouble may last, until the token is replaced."""
    world = World(answer=lambda _request: refusal, retry=RetryPolicy(give_up_after=1800.0))
    world.assign(0)
    world.produce(event("a"), event("b"))
    world.run(3600.0)
    assert world.outcomes() == {}
    assert not world.letters
    assert world.committed() == 0
    hold = world.delivery.queues[world.destinations[0]].gates.hold
    assert hold.state is GateState.HELD
    assert hold.reason
    world.answer = lambda _request: ok()
    world.run(61.0)
    assert world.outcomes() == {0: "delivered", 1: "delivered"}
    assert world.committed() == 2


def test_vector_24215_the_committed_offset_never_passes_an_unsettled_record() -> None:
    """A rejected record whose dead letter is not in keeps all later offsets uncommitted."""
    world = World(
        answer=lambda request: (
            code(40002, "Invalid value for data.0.x: y") if b'"bad"' in request.events[0] else ok()
        ),
        batch=ONE_BY_ONE,
        letter_answer=lambda _produce: None,
    )
    world.assign(0)
    world.produce(event("a"), event("bad"), *(event(str(n)) for n in range(20)))
    world.run(60.0)
    assert len(world.outcomes()) == 21
    assert world.committed() == 1


def test_redpanda_connect_4010_a_revocation_in_mid_batch_loses_nothing() -> None:
    """Half of the batches are answered in time; the next owner reads the rest again."""
    world = World(answer=lambda _request: None, batch=BatchLimits(max_events=5))
    world.assign(0, 1)
    for partition in (0, 1):
        world.produce(*(event(f"{partition}-{n}") for n in range(20)), partition=partition)
    world.reply(ok())
    world.reply(ok())
    world.revoke(0, seconds=5.0)
    world.run(6.0)
    assert world.group_offset(0) == 10
    world.answer = lambda _request: ok()
    world.take_over(0)
    assert world.read(0) == 10
    while world.in_air:
        world.reply(TIMEOUT)
    world.run(20.0)
    assert sorted(world.outcomes(0)) == sorted(world.outcomes(1)) == list(range(20))
    assert set(world.outcomes(0).values()) == {"delivered"}


def test_redpanda_connect_4477_a_late_acknowledgement_commits_no_revoked_partition() -> None:
    """Nor does it mark: both would speak for the new owner."""
    letters: list[Produce] = []
    world = World(
        answer=lambda _request: None,
        batch=ONE_BY_ONE,
        letter_answer=letters.append,
    )
    world.assign(0)
    world.produce(event("a"), b"no event")
    world.run(2.0)
    commits = list(world.commits)
    world.revoke(0, seconds=1.0)
    world.run(2.0)
    world.reply(ok())
    world.acknowledge(Acknowledged(letters[0].handle))
    world.run(5.0)
    assert world.released == [{FIRST: None}]
    assert world.commits == commits
    assert not world.marks
    assert not world.settled


@pytest.mark.parametrize("issue", ["parallel-consumer#826", "parallel-consumer#827"])
def test_parallel_consumer_826_and_827_a_partition_is_handed_over_after_it_settled(
    issue: str,
) -> None:
    """On close (all partitions) and on revoke (one): drain, settle, commit, then let go."""
    partitions = (0, 1) if issue.endswith("826") else (0,)
    world = World(answer=lambda _request: None)
    world.assign(0, 1)
    world.produce(event("a"), event("b"), b"no event")
    world.revoke(*partitions)
    assert not world.released
    world.reply(ok())
    assert world.released[0][FIRST] == 3
    names = [type(action).__name__ for action in world.log]
    assert names.index("StoreMarks") < names.index("Settled", names.index("StoreMarks"))
    assert names[-1] == "Released"


def test_parallel_consumer_857_a_commit_error_of_a_rebalance_is_tried_again_after_it() -> None:
    """Nothing else stops while the membership is proven; then sending waits, and goes on."""
    world = World()
    world.assign(0)
    world.commit_error = "REBALANCE_IN_PROGRESS"
    world.produce(event("a"))
    world.run(20.0)
    world.produce(event("b"))
    world.run(5.0)
    assert len(world.outcomes()) == 2
    assert world.committed() == 0
    world.run(10.0)
    world.produce(event("c"))
    world.run(60.0)
    assert len(world.requests) == 2
    world.commit_error = None
    world.run(2.0)
    assert len(world.outcomes()) == 3
    assert world.committed() == 3


def test_parallel_consumer_546_and_894_no_progress_commits_no_other_offset() -> None:
    """A group that stands at 100 stands there after twenty rebalances, never at 0."""
    world = World()
    world.assign(0, position=100)
    world.run(2.0)
    assert world.group_offset() == 100
    for _ in range(20):
        world.revoke(0)
        world.take_over(0)
        world.lose(0)
        world.take_over(0)
        world.run(1.0)
    assert world.group_offset() == 100
    assert all(commit == {FIRST: 100} for commit in world.commits)
    assert all(offset in {None, 100} for released in world.released for offset in released.values())


def test_faust_216_a_record_skipped_or_settled_twice_does_not_stick_the_commit() -> None:
    """Offsets have gaps and results come twice: the watermark goes on by what was taken."""
    world = World(answer=lambda _request: None, batch=ONE_BY_ONE)
    world.assign(0)
    records = world.append(*(event(str(n)) for n in range(6)))
    world.give([records[0], records[3], records[5]])
    world.reply(ok())
    for _ in range(2):
        world.engine.marked(world.marks[0].handle, world.clock.now)
    world.reply(ok())
    world.reply(ok())
    world.run(2.0)
    assert sorted(world.outcomes()) == [0, 3, 5]
    assert len(world.settled) == 3
    assert world.committed() == 6


def test_arroyo_a_dead_letter_that_cannot_be_produced_is_not_dropped() -> None:
    """The offset waits until the broker has it, and the reason is visible."""
    world = World(letter_answer=lambda produce: Acknowledged(produce.handle, "retriable"))
    world.assign(0)
    world.produce(b"no event", event())
    world.run(3600.0)
    assert world.outcomes() == {1: "delivered"}
    assert world.committed() == 0
    assert world.holds() == {LETTER_REFUSED}
    world.letter_answer = lambda produce: Acknowledged(produce.handle)
    world.run(16.0)
    assert world.committed() == 2


def test_arroyo_405_buffers_of_a_revoked_partition_are_gone() -> None:
    """Nothing of it is sent later, and it counts in no limit."""
    world = World(
        answer=lambda _request: code(40101), retry=RetryPolicy(initial=30.0, maximum=30.0)
    )
    world.assign(0)
    world.produce(*(event(str(n)) for n in range(25)), b"?007" + event("waits"))
    world.run(0.3)
    sent = len(world.requests)
    world.lose(0)
    assert world.engine.in_flight.events == 0
    world.run(120.0)
    assert len(world.requests) == sent
    world.answer_schema(7, SchemaFound(("{}",)))
    assert world.idle()


def test_rudder_337_identity_is_the_offset_and_not_the_place_in_the_batch() -> None:
    """Of a batch with a duplicate in its middle, the duplicate is the later record."""
    world = World()
    world.assign(0)
    world.produce(event("a"), event("b"), event("a"), event("c"), event("b"))
    world.run(1.0)
    assert world.sent_ids() == ["a", "b", "c"]
    assert world.outcomes() == {
        0: "delivered",
        1: "delivered",
        2: "duplicate",
        3: "delivered",
        4: "duplicate",
    }


def test_vector_9026_retries_pass_the_same_gates() -> None:
    """A hundred batches that all have to be repeated never exceed the concurrency limit."""
    world = World(
        answer=lambda _request: None,
        batch=ONE_BY_ONE,
        max_concurrency=3,
        retry=RetryPolicy(initial=0.01, maximum=0.01),
    )
    world.assign(0)
    world.produce(*(event(str(n)) for n in range(100)))
    for _ in range(150):
        assert len(world.in_air) <= 3
        world.reply(TIMEOUT if world.clock.mono < 1020 else ok())
        world.run(0.2)
        assert world.in_air, "and there is always a next one"


def test_segment_braze_3929_an_error_by_index_hits_the_event_that_was_sent_there() -> None:
    """Duplicates were taken out and a guilty one before: indexes count in the request as sent."""

    def answer(request: Request) -> Answer:
        sent = [orjson.loads(body)["event_id"] for body in request.events]
        guilty = next((i for i, one in enumerate(sent) if one.startswith("bad")), None)
        return ok() if guilty is None else code(40002, f"Invalid value for data.{guilty}.x: y")

    world = World(answer=answer)
    world.assign(0)
    world.produce(event("a"), event("a"), event("bad1"), event("b"), event("bad2"), event("c"))
    world.run(1.0)
    rejected = [n for n, outcome in world.outcomes().items() if outcome == "dead_lettered:rejected"]
    assert sorted(rejected) == [2, 4]


def test_rudder_tiktok_http_200_with_code_50000_is_no_success_and_not_final() -> None:
    """The body's code decides: repeated, not dropped, not marked."""
    answers = [code(50000, status=200)]
    world = World(answer=lambda _request: answers.pop() if answers else ok())
    world.assign(0)
    world.produce(event())
    world.run(0.25)
    assert not world.marks
    world.run(5.0)
    assert world.outcomes() == {0: "delivered"}
    assert len(world.requests) == 2


def test_segment_tiktok_success_is_the_bodys_code_and_events_share_requests() -> None:
    """HTTP 200 with a refusal is a refusal, HTTP 500 with code 0 is a success; ten in one."""
    world = World(answer=lambda _request: code(0, status=500))
    world.assign(0)
    world.produce(*(event(str(n)) for n in range(10)))
    world.run(1.0)
    assert len(world.requests) == 1
    assert set(world.outcomes().values()) == {"delivered"}
    world.answer = lambda _request: code(40002, "Invalid value for data.0.x: y", status=200)
    world.produce(event("bad"))
    world.run(1.0)
    assert world.outcomes()[10] == "dead_lettered:rejected"


def test_gtm_type_tags_the_time_sent_is_the_events_own() -> None:
    """Also after an hour of retries."""
    answers = [TIMEOUT] * 100
    world = World(answer=lambda _request: answers.pop() if answers else ok())
    world.assign(0)
    world.produce(event(event_time=START_MS - 3_600_000))
    world.run(2 * 3600.0)
    assert world.outcomes() == {0: "delivered"}
    times = {orjson.loads(body)["event_time"] for r in world.requests for body in r.events}
    assert times == {START_MS // 1000 - 3600}


@pytest.mark.parametrize("where", ["data.{}.", ""])
def test_rudder_tiktok_v2_one_bad_event_fails_no_other(where: str) -> None:
    """One of a thousand is refused, by index or by bisection, and 999 are delivered."""

    def answer(request: Request) -> Answer:
        events = request.events
        bad = next((i for i, body in enumerate(events) if b'"421"' in body), None)
        return ok() if bad is None else code(40002, f"Invalid value for {where.format(bad)}x: y")

    world = World(answer=answer, batch=BatchLimits(max_events=1000))
    world.assign(0)
    world.produce(*(event(str(n)) for n in range(1000)))
    world.run(1.0)
    outcomes = world.outcomes()
    assert outcomes.pop(421) == "dead_lettered:rejected"
    assert list(outcomes.values()) == ["delivered"] * 999
    assert len(world.requests) <= 2 * 10 + 4


def test_spring_kafka_4493_headers_that_came_back_are_untrusted() -> None:
    """Wrong types, nulls and bytes that are no text: carried along, believed in nothing."""
    hostile: Headers = (
        ("dlq.reason", b"delivered"),
        ("dlq.replay.count", b"\xff\xfe"),
        ("dlq.source.offset", None),
        ("retry.first_unknown_at", b"9" * 5000),
        ("traceparent", b"\x00"),
    )
    world = World()
    world.assign(0)
    good, bad = world.append(event(), b"no event")
    world.give([good._replace(headers=hostile), bad._replace(headers=hostile)])
    world.run(1.0)
    assert world.outcomes() == {0: "delivered", 1: "dead_lettered:undecodable"}
    (letter,) = world.letters
    assert letter.headers[:5] == hostile
    ours = dict(letter.headers)
    assert (ours["dlq.reason"], ours["dlq.source.offset"]) == (b"undecodable", b"1")
    assert ours["dlq.replay.count"] == b"0"


@pytest.mark.parametrize("value", [event(), b"no event"])
def test_spring_kafka_4493_headers_of_the_retry_topic_are_untrusted(value: bytes) -> None:
    """Whoever may write there cannot break the consumer, nor make it skip or give up an event."""
    hostile: Headers = (
        ("retry.source.topic", b"\xff\x00"),
        ("retry.source.offset", b"-9" * 3000),
        ("retry.first_unknown_at", b"0001-01-01T00:00:00.000Z"),
        ("retry.parked_at", None),
        ("retry.replay.count", b"9" * 500),
    )
    world = World(parks=True)
    world.take_over()
    retry = TopicPartition(RETRY, 0)
    world.topic[retry] = [Record(*retry, 0, -1, None, value, hostile)]
    world.read(topic=RETRY)
    world.run(1.0)
    expected = "delivered" if value == event() else "dead_lettered:undecodable"
    assert world.outcomes(topic=RETRY) == {0: expected}
    assert world.group_offset(topic=RETRY) == 1
    for letter in world.letters:
        assert not any(name.startswith("retry.") for name, _ in letter.headers)


def test_airbyte_70992_code_40100_is_a_throttle() -> None:
    """It slows the destinations of the app for a while, and nothing ends because of it."""
    answers = [code(40100, "Too many requests")] * 6
    world = World(
        answer=lambda _request: answers.pop() if answers else ok(),
        destinations=(
            Destination(EventSource.WEB, PIXEL),
            Destination(EventSource.WEB, OTHER_PIXEL),
        ),
        token_groups={PIXEL: 1, OTHER_PIXEL: 1},
    )
    world.assign(0)
    world.produce(event("a", event_source_id=PIXEL))
    world.run(0.25)
    for queue in world.delivery.queues.values():
        assert queue.gates.hold.state is GateState.THROTTLED
    world.run(120.0)
    assert world.outcomes() == {0: "delivered"}
    assert not world.letters
