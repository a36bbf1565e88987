"""Receipts: one for each outcome, written before its offset is committed."""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.batch import BatchLimits
from consumer.encode import single_object_framing
from consumer.event import Origin, TopicPartition, TraceIds
from consumer.evolution import fingerprint
from consumer.messages import Acknowledged, Produce
from consumer.receipt import TRACE_STATE_BYTES, Receipts
from consumer.schemas import load_schema
from consumer.settle import RECEIPT_REFUSED
from consumer.topic_rules import RECEIPT_BYTES
from tests.support.items import items
from tests.support.world import PIXEL, START_MS, TIMEOUT, TOPIC, World, code, event, ok

if TYPE_CHECKING:
    from consumer.event import Item
    from consumer.verdict import Answer

FIRST = TopicPartition(TOPIC, 0)
SCHEMA = load_schema("delivery_receipt")
RECEIPTS = Receipts("receipts", SCHEMA, "group-1/0.1.0")
ONE_BY_ONE = BatchLimits(max_events=1)
PERSONAL = ("jane@example.com", "+14155550100", "Jane", "E.C.P.a-click")


def read(value: bytes | None) -> dict[str, Any]:
    """A bare receipt, as a reader with the schema has it; nothing may stand behind it."""
    stream = BytesIO(value or b"")
    found = fastavro.schemaless_reader(stream, fastavro.parse_schema(SCHEMA), None)
    assert stream.read() == b""
    assert isinstance(found, dict)
    return found


def acknowledged(produce: Produce) -> Acknowledged:
    """A broker that takes everything."""
    return Acknowledged(produce.handle)


def outcomes(world: World) -> Counter[str]:
    """The outcomes that the receipts tell."""
    return Counter(read(receipt.value)["outcome"] for receipt in world.receipts)


def test_every_outcome_has_its_receipt() -> None:
    """Delivered, duplicate (accepted before or on its way), suppressed, dead-lettered."""
    world = World(receipt_answer=acknowledged, batch=ONE_BY_ONE)
    world.assign(0)
    world.produce(event("a"), event("a"), None, b"no event")
    world.run(5.0)
    world.produce(event("a"))
    world.run(5.0)
    assert outcomes(world) == {
        "delivered": 1,
        "duplicate": 2,
        "suppressed": 1,
        "dead_lettered": 1,
    }
    places = {read(receipt.value)["source_offset"] for receipt in world.receipts}
    assert places == {0, 1, 2, 3, 4}
    assert world.committed() == 5
    assert world.idle()


def test_the_offset_waits_for_the_receipts_acknowledgement() -> None:
    """Whatever the outcome is: no record is passed whose receipt could be missing."""
    world = World(receipt_answer=lambda _: None, batch=ONE_BY_ONE)
    world.assign(0)
    world.produce(event("a"), None, b"no event", event("a"))
    world.run(30.0)
    assert len(world.receipts) == 4
    assert world.committed() == 0
    assert world.settled == []
    for receipt in world.receipts:
        world.acknowledge(Acknowledged(receipt.handle))
    world.run(2.0)
    assert world.committed() == 4
    assert len(world.settled) == 4


@pytest.mark.parametrize("error", ["retriable", "too_large"])
def test_a_receipt_that_the_broker_does_not_take_is_written_until_it_does(error: str) -> None:
    """Its partition is held with a reason meanwhile, the other one is not."""
    errors: list[Any] = [error] * 4

    def answer(produce: Produce) -> Acknowledged:
        return Acknowledged(produce.handle, errors.pop() if errors else None)

    world = World(receipt_answer=answer, batch=ONE_BY_ONE)
    world.assign(0, 1)
    world.produce(event("a"))
    world.run(0.3)
    assert world.holds() == {RECEIPT_REFUSED}
    assert world.paused == {FIRST}
    world.run(60.0)
    assert len({receipt.value for receipt in world.receipts}) == 1
    assert len(world.receipts) == 5
    assert world.holds() == set()
    assert world.paused == set()
    assert world.committed() == 1


def test_what_waits_for_its_receipt_counts_in_the_limits() -> None:
    """A receipts topic that is gone stops the source at the limit, not the machine."""
    world = World(receipt_answer=lambda _: None)
    world.assign(0)
    world.produce(event("a"), event("b"))
    world.run(5.0)
    assert world.engine.in_flight.events == 2


def test_a_partition_that_is_lost_takes_its_receipts_with_it() -> None:
    """The next owner reads the records again; a late acknowledgement changes nothing."""
    world = World(receipt_answer=lambda _: None)
    world.assign(0)
    world.produce(event("a"))
    world.run(5.0)
    (receipt,) = world.receipts
    world.lose(0)
    world.acknowledge(Acknowledged(receipt.handle))
    world.run(5.0)
    assert world.settled == []
    assert world.engine.in_flight.events == 0
    assert world.committed() == 0


def test_a_duplicate_tells_when_its_event_was_accepted() -> None:
    """A crash between acceptance and receipt makes the record its own duplicate: that says so."""
    world = World(receipt_answer=lambda _: None)
    world.take_over()
    world.produce(event("a"))
    world.run(5.0)
    delivered = read(world.receipts[0].value)
    after_the_crash = world.successor(receipt_answer=acknowledged)
    after_the_crash.take_over()
    after_the_crash.read()
    after_the_crash.run(120.0)
    again = read(after_the_crash.receipts[0].value)
    assert again["outcome"] == "duplicate"
    assert again["source_offset"] == delivered["source_offset"]
    assert again["accepted_at"] == delivered["accepted_at"]


def test_a_receipt_says_what_tiktok_answered() -> None:
    """Code, request id, status, attempts and the size of the batch."""
    world = World(
        answer=lambda _: code(40002, "Invalid value for data.0.event_id: not valid."),
        receipt_answer=acknowledged,
        batch=ONE_BY_ONE,
    )
    world.assign(0)
    world.produce(event("a"))
    world.run(5.0)
    receipt = read(world.receipts[0].value)
    letter = dict(world.letters[0].headers)
    assert receipt["outcome"] == "dead_lettered"
    assert receipt["reason"] == "rejected"
    assert receipt["tiktok_code"] == 40002
    assert receipt["request_id"] == (letter["dlq.tiktok.request_id"] or b"").decode()
    assert receipt["http_status"] == 200
    assert receipt["attempts"] == receipt["batch_events"] == 1
    assert receipt["event_source_id"] == PIXEL
    assert receipt["source_topic"] == TOPIC


def test_a_receipt_shows_the_decision_about_consent_and_no_person() -> None:
    """States, region, CMP version and what was removed; no value of a person's."""
    world = World(receipt_answer=acknowledged)
    world.assign(0)
    consent = {
        "marketing": "GRANTED",
        "ad_user_data": "DENIED",
        "ad_personalization": "UNKNOWN",
        "region": "DE-BY",
        "cmp_version": "2.2",
        "collected_at": None,
    }
    email, phone, first_name, ttclid = PERSONAL
    user = {"email": email, "phone": phone, "first_name": first_name, "ttclid": ttclid}
    world.produce(event("a", consent=consent, user=user))
    world.run(5.0)
    (written,) = world.receipts
    receipt = read(written.value)
    assert receipt["consent"] == {
        "marketing": "GRANTED",
        "ad_user_data": "DENIED",
        "ad_personalization": "UNKNOWN",
        "region": "DE-BY",
        "cmp_version": "2.2",
        "limited_data_use": None,
        "fields_removed": ["user.email", "user.phone", "user.first_name"],
    }
    assert receipt["match_keys"] == ["ttclid"]
    assert receipt["event_time"].timestamp() * 1000 == pytest.approx(START_MS, abs=10_000)
    for value in PERSONAL:
        assert value.encode() not in (written.value or b"")


def test_a_receipts_key_is_the_event_id_and_carries_the_events_span_on() -> None:
    """All receipts of an event are in one partition; a record without an id has no key."""
    world = World(receipt_answer=acknowledged)
    world.assign(0)
    world.produce(event("a"), None)
    world.run(5.0)
    by_key = {receipt.key: receipt for receipt in world.receipts}
    assert set(by_key) == {b"a", None}
    assert by_key[b"a"].timestamp == read(by_key[b"a"].value)["settled_at"].timestamp() * 1000
    (trace,) = [item.trace for item in world.settled if item.event_id == "a"]
    assert dict(by_key[b"a"].headers) == {"traceparent": (trace.traceparent or "").encode()}


GRANTED = {"marketing": "GRANTED", "ad_user_data": "GRANTED", "region": "US"}
STRIPPED = GRANTED | {"ad_user_data": "DENIED"}
LIMITED = GRANTED | {"ad_personalization": "DENIED"}
USER = {"email": PERSONAL[0]}
TAKEN = ok()
REFUSED = code(40002, "Invalid value for data.0.event_id: not valid.")


def in_the_air() -> World:
    """An event whose consent allows all is in a request that is not answered yet."""
    world = World(
        answer=lambda _: None,
        receipt_answer=acknowledged,
        batch=ONE_BY_ONE,
        limited_data_use_regions=frozenset({"US"}),
    )
    world.assign(0)
    world.produce(event("a", consent=GRANTED, user=USER))
    return world


def deny(world: World, consent: dict[str, str]) -> None:
    """The same event comes again, and allows less."""
    world.produce(event("a", consent=consent, user=USER | {"ip": "8.8.8.8"}))


@pytest.mark.parametrize("consent", [STRIPPED, LIMITED], ids=["stripped", "cannot be sent so"])
@pytest.mark.parametrize("answer", [TAKEN, REFUSED], ids=["taken", "refused"])
def test_a_receipt_shows_the_consent_that_the_last_request_was_made_by(
    consent: dict[str, str], answer: Answer
) -> None:
    """What a later record denies counts for the next attempt: it undoes none that was made."""
    world = in_the_air()
    deny(world, consent)
    world.reply(answer)
    world.run(1.0)
    receipt = read(world.receipts[0].value)
    assert receipt["source_offset"] == 0
    assert receipt["match_keys"] == ["email"]
    assert receipt["consent"]["ad_user_data"] == "GRANTED"
    assert receipt["consent"]["ad_personalization"] == "UNKNOWN"
    assert receipt["consent"]["fields_removed"] == []


def test_a_denial_that_comes_after_the_acceptance_is_not_in_the_receipt() -> None:
    """Its mark is on the way, and nothing of the event will be sent any more."""
    world = in_the_air()
    world.marks_fail = True
    world.reply(TAKEN)
    deny(world, STRIPPED)
    world.marks_fail = False
    world.run(30.0)
    first, second = (read(receipt.value) for receipt in world.receipts)
    assert (first["outcome"], second["outcome"]) == ("delivered", "duplicate")
    assert first["consent"]["ad_user_data"] == "GRANTED"
    assert first["match_keys"] == ["email"]
    assert second["consent"]["ad_user_data"] == "DENIED"


def test_a_receipt_shows_the_stricter_consent_that_a_later_attempt_was_made_by() -> None:
    """The first attempt came to nothing that is known; the second left the identifiers out."""
    world = in_the_air()
    deny(world, STRIPPED)
    world.reply(TIMEOUT)
    world.run(5.0)
    world.reply(TAKEN)
    world.run(1.0)
    receipt = read(world.receipts[0].value)
    assert receipt["outcome"] == "delivered"
    assert receipt["consent"]["fields_removed"] == ["user.email"]
    assert receipt["match_keys"] == []


def test_a_drain_waits_for_receipts() -> None:
    """They are part of settling: handed over only when acknowledged."""
    world = World(receipt_answer=lambda _: None, batch=ONE_BY_ONE)
    world.assign(0)
    world.produce(event("a"), None)
    world.run(1.0)
    world.revoke(0, seconds=60.0)
    world.run(5.0)
    assert not world.released
    world.acknowledge(*(Acknowledged(receipt.handle) for receipt in world.receipts))
    world.run(1.0)
    assert world.released == [{FIRST: 2}]
    assert world.idle()


def test_a_drain_ends_before_receipts_that_nobody_takes() -> None:
    """A stop is not held up by a receipts topic that is gone, and passes no offset for it."""
    world = World(
        receipt_answer=lambda produce: Acknowledged(produce.handle, "retriable"),
        batch=ONE_BY_ONE,
    )
    world.assign(0)
    world.produce(event("a"), None)
    world.run(60.0)
    world.revoke(0, seconds=1.0)
    world.run(1.0)
    assert world.released == [{FIRST: None}]
    assert world.settled == []
    assert world.idle()


@pytest.mark.parametrize("encoding", ["single_object", "raw"])
def test_receipts_without_a_registry_stand_as_their_source_does(encoding: str) -> None:
    """Behind the fingerprint of their schema, or bare."""
    receipts = Receipts(
        "receipts", SCHEMA, "group", single_object_framing(SCHEMA) if encoding != "raw" else b""
    )
    world = World(receipt_answer=acknowledged)
    world.assign(0)
    world.produce(None)
    world.run(1.0)
    value = receipts.receipt(world.settled[0], 1).value or b""
    if encoding == "single_object":
        assert value[:2] == b"\xc3\x01"
        assert value[2:10] == fingerprint(SCHEMA)
        value = value[10:]
    assert read(value)["reason"] == "tombstone"


@given(items())
def test_any_settled_item_makes_a_small_receipt_that_can_be_read(item: Item) -> None:
    """Whatever came with the event: its texts are cut, and the topic's least size is enough."""
    item.event_id, item.event = "é" * 100_000, "x" * 2_000
    item.event_source_id = item.field = item.detail = "é" * 2_000
    if item.consent is not None:
        item.consent = item.consent._replace(region="é" * 2_000, cmp_version="é" * 2_000)
    item.origin = Origin("first", 3, 9, (), 0)
    item.trace = TraceIds(1, 2, 0, sampled=True, trace_state="a=1")
    made = RECEIPTS.receipt(item, 5)
    receipt = read(made.value)
    assert receipt["event_id"] == "é" * 512
    assert made.key == receipt["event_id"].encode()
    assert receipt["event"] == "x" * 1024
    assert receipt["detail"] == receipt["event_source_id"] == "é" * 512
    assert (receipt["source_topic"], receipt["source_offset"]) == ("first", 9)
    assert receipt["attempts"] == item.attempt_count
    assert receipt["consumer"] == "group-1/0.1.0"
    assert dict(made.headers)["tracestate"] == b"a=1"
    size = len(made.value or b"") + len(made.key or b"") + sum(map(_size, made.headers))
    assert size < RECEIPT_BYTES


@given(items(), st.integers(0, 2**64 - 1))
def test_no_event_is_accepted_after_its_outcome(item: Item, accepted_ms: int) -> None:
    """A state record may tell of any time, and an acceptance from the future counts."""
    item.accepted_ms = accepted_ms
    receipt = read(RECEIPTS.receipt(item, 5).value)
    assert receipt["accepted_at"] <= receipt["settled_at"]


def test_a_trace_state_as_long_as_a_receipt_stays_behind() -> None:
    """Whoever makes records chooses it; the topic need not take more for it."""
    world = World(receipt_answer=acknowledged)
    world.assign(0)
    world.produce(None)
    world.run(1.0)
    (item,) = world.settled
    names = {}
    for size in (TRACE_STATE_BYTES, TRACE_STATE_BYTES + 1):
        item.trace = TraceIds(1, 2, 3, sampled=True, trace_state="a=" + "1" * (size - 2))
        names[size] = [name for name, _ in RECEIPTS.receipt(item, 1).headers]
    assert names == {
        TRACE_STATE_BYTES: ["traceparent", "tracestate"],
        TRACE_STATE_BYTES + 1: ["traceparent"],
    }


def _size(header: tuple[str, bytes | None]) -> int:
    return len(header[0]) + len(header[1] or b"")


def test_without_a_topic_no_receipts_are_made() -> None:
    """Then an outcome is an outcome at once."""
    world = World(answer=lambda _: ok())
    world.assign(0)
    world.produce(event("a"))
    world.run(5.0)
    assert world.receipts == world.letters == []
    assert world.committed() == 1
