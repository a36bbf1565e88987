"""Settled items and finished attempts of every kind, for hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from consumer.event import (
    Attempt,
    Consent,
    ConsentState,
    Destination,
    EventSource,
    FieldWarning,
    Instant,
    Item,
    Mapped,
    Outcome,
    Reason,
    Record,
    TopicPartition,
    TraceIds,
)
from tests.support.state_world import ready_partition

DESTINATION = Destination(EventSource.WEB, "C9ABC1234567890DEFGH")
START_NS = 1_700_000_000_000_000_000

times = st.integers(min_value=START_NS, max_value=START_NS + 10**13)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=150)
span_ids = st.integers(min_value=1, max_value=2**64 - 1)
trace_ids = st.integers(min_value=1, max_value=2**128 - 1)
trace_states = st.sampled_from(["", "vendor=1", "a=b,rojo=00f067aa0ba902b7"])
match_keys = st.lists(
    st.sampled_from(["email", "phone", "external_id", "ttclid", "ip"]), unique=True
).map(tuple)


@st.composite
def identities(draw: st.DrawFn, *, sampled: bool = True, remote: bool = True) -> TraceIds:
    """Span identities; `remote` ones may have a parent and a trace state."""
    return TraceIds(
        draw(trace_ids),
        draw(span_ids),
        draw(st.just(0) | span_ids) if remote else 0,
        sampled,
        draw(trace_states) if remote else "",
    )


consents = st.builds(
    Consent,
    marketing=st.sampled_from(ConsentState),
    ad_user_data=st.sampled_from(ConsentState),
    ad_personalization=st.sampled_from(ConsentState),
    region=st.none() | st.sampled_from(["US", "US-CA", "DE"]),
    cmp_version=st.none() | texts,
    send=st.booleans(),
    strip_user_data=st.booleans(),
    limited_data_use=st.none() | st.booleans(),
)

attempts = st.builds(
    Attempt,
    number=st.integers(min_value=1, max_value=20),
    destination=st.just(DESTINATION),
    test_event_code=st.none() | st.just("TEST1"),
    trace=identities(remote=False),
    started=st.builds(Instant, st.just(0.0), times),
    events=st.integers(min_value=1, max_value=1000),
    request_bytes=st.integers(min_value=0, max_value=10**6),
    linked=st.lists(identities(), max_size=4),
    ended=st.none() | st.builds(Instant, st.just(1.0), times),
    http_status=st.none() | st.sampled_from([200, 401, 429, 503]),
    code=st.none()
    | st.sampled_from([0, 20001, 40002, 40100, -1])
    | st.integers(min_value=0, max_value=2**63 - 1),
    request_id=st.none() | st.text("0123456789abcdef", min_size=1, max_size=40),
    verdict=st.none() | st.sampled_from(["accepted", "retry", "rejected", "held"]),
    error=st.none() | st.sampled_from(["timeout", "connection"]),
    repeats=st.dictionaries(
        st.sampled_from(["timeout", "50000", "unfinished"]), st.integers(min_value=1), max_size=2
    ),
)


@st.composite
def mapped(draw: st.DrawFn) -> Mapped:
    """A mapped event; its body is of no interest here."""
    return Mapped(
        destination=DESTINATION,
        event=draw(st.sampled_from(["Purchase", "ViewContent"])),
        event_id="",
        event_time_ms=0,
        test_event_code=None,
        body=b"",
        match_keys=draw(match_keys),
        consent=draw(consents),
        removed=draw(st.sampled_from([(), ("user.email", "user.phone")])),
        warnings=draw(st.sampled_from([(), (FieldWarning("user.phone", "not usable"),)])),
    )


@st.composite
def items(draw: st.DrawFn, /, **fixed: Any) -> Item:
    """A settled item; `fixed` sets fields of it."""
    made = draw(st.lists(attempts, max_size=3))
    item = Item(
        Record(
            draw(st.sampled_from(["conversions", "käufe"])),
            draw(st.integers(min_value=0, max_value=500)),
            draw(st.integers(min_value=0, max_value=2**62) | st.integers(0, 40_000)),
            draw(st.just(-1) | times.map(lambda ns: ns // 10**6)),
            None,
            b"",
            (),
        ),
        Instant(0.0, draw(times)),
        draw(identities()),
        ready_partition(TopicPartition("conversions", 0), 0, None),
    )
    item.event_id = draw(st.none() | texts)
    item.event = draw(st.none() | st.sampled_from(["Purchase", "own name"]))
    item.event_source_id = draw(st.none() | st.just(DESTINATION.event_source_id))
    item.mapped = draw(st.none() | mapped())
    item.consent = draw(st.none() | consents)
    item.decoded_ns = draw(st.just(0) | times)
    item.deduplicated_ns = draw(st.just(0) | times)
    item.batched = draw(st.none() | st.builds(Instant, st.just(0.5), times))
    item.attempts = tuple(made)
    item.attempt_count = draw(st.integers(min_value=len(made), max_value=40))
    item.outcome = draw(st.sampled_from(Outcome))
    item.reason = draw(st.none() | st.sampled_from(Reason))
    item.detail = draw(st.none() | texts)
    item.field = draw(st.none() | st.just("user.ip"))
    item.settled = Instant(1.0, draw(times))
    for name, value in fixed.items():
        setattr(item, name, value)
    return item
