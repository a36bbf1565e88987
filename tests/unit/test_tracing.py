"""Identities of spans: drawn in place, decided as the SDK would."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import TraceState

from consumer.tracing import NO_TRACE, Tracer, thresholds

W3C = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
SAMPLERS = {
    "always_on": ALWAYS_ON,
    "always_off": ALWAYS_OFF,
    "ratio": TraceIdRatioBased(0.3),
    "parentbased_on": DEFAULT_ON,
    "parentbased_off": DEFAULT_OFF,
    "parentbased_ratio": ParentBasedTraceIdRatio(0.3),
    "parentbased_own": ParentBased(
        ALWAYS_OFF,
        remote_parent_sampled=TraceIdRatioBased(0.5),
        remote_parent_not_sampled=ALWAYS_ON,
    ),
}
hexes = st.text("0123456789abcdef", min_size=1, max_size=34)
traceparents = st.one_of(
    st.builds(
        "{}-{:032x}-{:016x}-{}".format,
        st.sampled_from(["00", "01", "ff"]),
        st.integers(0, 2**128 - 1),
        st.integers(0, 2**64 - 1),
        st.sampled_from(["00", "01", "03", "ff"]),
    ),
    st.builds("00-{}-{}-{}".format, hexes, hexes, hexes),
    st.builds("{}-{}".format, st.just("01-" + "a" * 32 + "-" + "b" * 16 + "-01"), hexes),
    st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=70),
)
tracestates = st.none() | st.sampled_from(["a=1", "a=1, b=2", "A=1", "a=1,a=2", "", "=", "a=ü"])


class OddSampler(Sampler):
    """Somebody's own: samples odd trace ids, and says so in the trace state."""

    def should_sample(
        self, parent_context: Context | None, trace_id: int, *_: object, **__: object
    ) -> SamplingResult:
        """Decides by the id alone."""
        del parent_context
        odd = trace_id % 2 == 1
        decision = Decision.RECORD_AND_SAMPLE if odd else Decision.RECORD_ONLY
        return SamplingResult(decision, None, TraceState([("odd", str(int(odd)))]))

    def get_description(self) -> str:
        """Who it is."""
        return "odd"


class CountingIds(IdGenerator):
    """Ids that a test can foresee."""

    def __init__(self) -> None:
        self.last = 0

    def generate_span_id(self) -> int:
        """The next number."""
        self.last += 1
        return self.last

    def generate_trace_id(self) -> int:
        """The next number, too."""
        return self.generate_span_id()


def headers(traceparent: str, tracestate: str | None) -> tuple[tuple[str, bytes | None], ...]:
    made: list[tuple[str, bytes | None]] = [("other", None), ("traceparent", traceparent.encode())]
    if tracestate is not None:
        made.append(("tracestate", tracestate.encode()))
    return tuple(made)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_sdks_samplers_are_numbers(name: str) -> None:
    """Each sampler that ships with the SDK is decided in place."""
    assert thresholds(SAMPLERS[name]) is not None


def test_a_foreign_sampler_is_no_number() -> None:
    """What we do not know is asked, a subclass of what we know included."""

    class Louder(ParentBased):
        """Might decide anything."""

    class Static(StaticSampler):
        """Might decide anything, but says who it is."""

        def get_description(self) -> str:
            return "mine"

    assert thresholds(OddSampler()) is None
    assert thresholds(Louder(ALWAYS_ON)) is None
    assert thresholds(ParentBased(OddSampler())) is None
    assert thresholds(Static(Decision.DROP)) is None


@given(st.sampled_from(sorted(SAMPLERS)), traceparents, tracestates)
@settings(max_examples=400)
def test_parent_and_decision_are_the_sdks(
    name: str, traceparent: str, tracestate: str | None
) -> None:
    """For any header the parent, the trace state and the decision equal the SDK's own."""
    sampler = SAMPLERS[name]
    ids = Tracer(sampler, RandomIdGenerator(), W3C).begin(headers(traceparent, tracestate))
    carrier = {"traceparent": traceparent}
    if tracestate is not None:
        carrier["tracestate"] = tracestate
    context = W3C.extract(carrier, Context())
    parent = get_current_span(context).get_span_context()
    assert ids.parent_span_id == (parent.span_id if parent.is_valid else 0)
    if parent.is_valid:
        assert ids.trace_id == parent.trace_id
        assert ids.trace_state == parent.trace_state.to_header()
    result = sampler.should_sample(context, ids.trace_id, "process")
    assert ids.sampled is (result.decision is Decision.RECORD_AND_SAMPLE)
    assert ids.span_id != 0


def test_without_headers_each_span_is_a_root_of_its_own() -> None:
    """Two records without a parent share nothing."""
    begin = Tracer(ALWAYS_ON, RandomIdGenerator(), W3C).begin
    first, second = begin(()), begin((("other", b"x"),))
    assert first.trace_id != second.trace_id
    assert first.parent_span_id == second.parent_span_id == 0


def test_the_last_traceparent_speaks() -> None:
    """Who passed a record on appended its own header; Kafka reads the last of a name."""
    given_headers = headers(f"00-{1:032x}-{2:016x}-01", None) + headers(
        f"00-{3:032x}-{4:016x}-01", None
    )
    for sampler in (ALWAYS_ON, OddSampler()):
        ids = Tracer(sampler, RandomIdGenerator(), W3C).begin(given_headers)
        assert (ids.trace_id, ids.parent_span_id) == (3, 4)


def test_a_sampler_of_somebody_elses_is_asked() -> None:
    """Its decision and its trace state count; only recording is not sampling."""
    begin = Tracer(OddSampler(), RandomIdGenerator(), W3C).begin
    odd = begin(headers(f"00-{3:032x}-{4:016x}-00", None))
    even = begin(headers(f"00-{2:032x}-{4:016x}-01", None))
    assert (odd.sampled, odd.trace_state) == (True, "odd=1")
    assert (even.sampled, even.trace_state) == (False, "odd=0")


def test_an_id_generator_of_somebody_elses_is_used() -> None:
    """Ids that mean something to a vendor are drawn from the vendor's generator."""
    tracer = Tracer(ALWAYS_ON, CountingIds(), W3C)
    assert tracer.begin(())[:2] == (1, 2)
    assert tracer.request(sampled=True)[:2] == (3, 4)


def test_without_a_propagator_headers_are_not_read() -> None:
    """`OTEL_PROPAGATORS=none` makes every span a root."""
    begin = Tracer(ALWAYS_ON, RandomIdGenerator(), CompositePropagator([])).begin
    assert begin(headers(f"00-{1:032x}-{2:016x}-01", None)).parent_span_id == 0


def test_a_propagator_that_fails_costs_only_the_parent() -> None:
    """A defect of a plug-in must not stop an event."""

    class Broken(TraceContextTextMapPropagator):
        """Fails on every header."""

        @property
        def fields(self) -> set[str]:
            return {"x-own"}

        def extract(self, *_: object, **__: object) -> Context:
            raise RuntimeError("broken")

    ids = Tracer(ALWAYS_ON, RandomIdGenerator(), Broken()).begin((("x-own", b"1"),))
    assert (ids.parent_span_id, ids.sampled) == (0, True)


def test_a_request_has_a_trace_of_its_own() -> None:
    """An attempt serves many events: it is child of none, and sampled as its events are."""
    tracer = Tracer(ALWAYS_OFF, RandomIdGenerator(), W3C)
    assert tracer.request(sampled=True).sampled
    assert not tracer.request(sampled=False).sampled
    assert tracer.request(sampled=True).parent_span_id == 0


def test_when_tracing_is_off_there_is_no_identity() -> None:
    """Nothing is drawn, and nothing carries a context on."""
    tracer = Tracer(ALWAYS_ON, RandomIdGenerator(), W3C, enabled=False)
    assert tracer.begin(headers(f"00-{1:032x}-{2:016x}-01", None)) is NO_TRACE
    assert tracer.request(sampled=True) is NO_TRACE
