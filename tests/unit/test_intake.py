"""A record becomes an event for TikTok or a reason why not, and its item says what was found."""

from __future__ import annotations

import pytest

from consumer.consent import ConsentRules, strictest
from consumer.dedup import Keys
from consumer.event import (
    ConsentState,
    Destination,
    EventSource,
    Instant,
    Item,
    Reason,
    Record,
    Refused,
    Suppressed,
    TopicPartition,
    TraceIds,
)
from consumer.identity import IdentityRules
from consumer.intake import Intake, SchemaNeeded
from consumer.offsets import CommitOffset
from consumer.payload import Mapper
from consumer.route import Routes
from tests.support.state_world import ready_partition
from tests.support.world import PIXEL, START_MS, JsonDecoder, event

TP = TopicPartition("conversions", 0)
GRANTED = {"marketing": "GRANTED", "ad_user_data": "GRANTED"}
EMAIL = {"email": "jane@shop.example"}


def intake(decoder: JsonDecoder | None = None) -> Intake:
    """An intake with one pixel that takes two event names."""
    pixel = Destination(
        EventSource.WEB,
        PIXEL,
        event_names={"purchase": "CompletePayment"},
        allow_events=frozenset({"CompletePayment", "Lead"}),
    )
    return Intake(
        decoder or JsonDecoder(),  # type: ignore[arg-type]  # stands in for Avro
        Routes((pixel,), None),
        Mapper(
            consent=ConsentRules(),
            identity=IdentityRules(),
            max_future_ms=600_000,
            max_body_bytes=10_000,
        ),
        Keys(),
    )


def item(value: bytes | None) -> Item:
    """An item that was just received."""
    record = Record(*TP, 0, -1, None, value, ())
    received = Instant(1.0, START_MS * 1_000_000)
    return Item(
        record, received, TraceIds(0, 0, 0, False, ""), ready_partition(TP, 0, CommitOffset(0))
    )


def test_a_good_event_is_ready_with_everything_that_later_steps_need() -> None:
    """Mapped, keyed, named as it is sent, with its consent."""
    made = item(event("order-1", "purchase", consent=GRANTED, user=EMAIL))
    assert intake().prepare(made, START_MS) is None
    assert made.mapped is not None
    assert (made.event_id, made.event, made.event_source_id) == (
        "order-1",
        "CompletePayment",
        PIXEL,
    )
    assert made.key == Keys().key(made.mapped)
    assert made.consent is made.mapped.consent
    assert made.decoded_ns == made.received.wall_ns
    assert b'"email"' in made.mapped.body


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param(None, Reason.TOMBSTONE, id="tombstone"),
        pytest.param(event(name="Search", consent=GRANTED), Reason.FILTER, id="filtered name"),
        pytest.param(event(consent={"marketing": "DENIED"}), Reason.CONSENT, id="denied"),
        pytest.param(event(), Reason.CONSENT, id="no consent record"),
    ],
)
def test_what_is_not_sent_on_purpose_is_suppressed(value: bytes | None, found: Reason) -> None:
    """Each with its reason, and without a key: nobody waits for it."""
    made = item(value)
    answer = intake().prepare(made, START_MS)
    assert isinstance(answer, Suppressed)
    assert answer.reason is found
    assert made.key == b""
    assert made.mapped is None
    assert (made.consent is not None) is (found is Reason.CONSENT)


@pytest.mark.parametrize(
    ("value", "reason", "event_id", "source_id"),
    [
        pytest.param(b"", Reason.UNDECODABLE, None, None, id="empty"),
        pytest.param(b"no event", Reason.UNDECODABLE, None, None, id="no event"),
        pytest.param(
            event(event_source_id="other"), Reason.UNKNOWN_DESTINATION, "e1", "other", id="other id"
        ),
        pytest.param(event(event_source="crm"), Reason.UNKNOWN_DESTINATION, "e1", None, id="crm"),
        pytest.param(event("", consent=GRANTED), Reason.INVALID, "", PIXEL, id="no event_id"),
        pytest.param(event(event_time=0), Reason.TOO_OLD, "e1", PIXEL, id="old"),
    ],
)
def test_what_cannot_be_sent_is_refused_and_named_as_far_as_it_is_known(
    value: bytes, reason: Reason, event_id: str | None, source_id: str | None
) -> None:
    """The dead letter needs id, name and destination wherever they could be read."""
    made = item(value)
    answer = intake().prepare(made, START_MS)
    assert isinstance(answer, Refused)
    assert answer.reason is reason
    assert (made.event_id, made.event_source_id) == (event_id, source_id)
    assert made.key == b""


def test_what_consent_decided_is_known_of_a_refused_event_too() -> None:
    """Its trace tells states, region and version, as that of any other."""
    asked = {**GRANTED, "region": "US-CA", "cmp_version": "2.1"}
    made = item(event(consent=asked, limited_data_use=True))
    answer = intake().prepare(made, START_MS)
    assert isinstance(answer, Refused)
    assert (answer.reason, answer.field) == (Reason.INVALID, "user.ip")
    assert made.consent is not None
    assert (made.consent.region, made.consent.cmp_version) == ("US-CA", "2.1")


def test_what_consent_decided_stays_known_when_a_later_attempt_comes_too_late() -> None:
    """An event may grow too old while it waits; that is found before its consent is asked."""
    station, made = intake(), item(event(consent=GRANTED))
    assert station.prepare(made, START_MS) is None
    decided = made.consent
    assert decided is not None
    answer = station.restrict(made, decided, START_MS + 30 * 86_400_000)
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.TOO_OLD
    assert made.consent is decided


def test_a_schema_that_is_not_known_is_asked_for_and_then_the_item_goes_on() -> None:
    """The same item, as if nothing had been missing."""
    decoder = JsonDecoder()
    station = intake(decoder)
    made = item(b"?007" + event(consent=GRANTED))
    assert station.prepare(made, START_MS) == SchemaNeeded(7)
    assert made.event_id is None
    decoder.learn(7, ("schema",))
    assert station.prepare(made, START_MS) is None
    assert made.event_id == "e1"


def test_an_item_can_be_restricted_to_a_stricter_consent_than_its_own() -> None:
    """The body loses the identifiers; key and bytes of the record stay."""
    station = intake()
    made = item(event(consent=GRANTED, user=EMAIL))
    denies = item(event(consent=GRANTED | {"ad_user_data": "DENIED"}, user=EMAIL))
    assert station.prepare(made, START_MS) is None
    assert station.prepare(denies, START_MS) is None
    assert made.consent is not None
    assert denies.consent is not None
    key = made.key
    assert station.restrict(made, strictest(made.consent, denies.consent), START_MS) is None
    assert made.mapped is not None
    assert b'"email"' not in made.mapped.body
    assert made.consent.ad_user_data is ConsentState.DENIED
    assert "user.email" in made.mapped.removed
    assert made.key == key


def test_a_decoder_that_forgets_a_schema_is_a_defect() -> None:
    """An item that was mapped once can be mapped again; anything else ends the process."""
    decoder = JsonDecoder()
    decoder.learn(7, ("schema",))
    station = intake(decoder)
    made = item(b"?007" + event(consent=GRANTED))
    assert station.prepare(made, START_MS) is None
    assert made.consent is not None
    decoder.learned.clear()
    with pytest.raises(TypeError, match="schema 7 is gone"):
        station.restrict(made, made.consent, START_MS)
