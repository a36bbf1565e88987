"""The identity of spans, drawn when a record is received or a request is made.

Whether a span is sampled, and under which ids, is decided before anything of it exists, so links
and headers can name a span that is written only when its event settles. The decision is the SDK's
sampler's; for the SDK's own samplers it is three numbers, compared in place.
"""

from __future__ import annotations

import re
from functools import lru_cache
from random import getrandbits
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanKind, get_current_span
from opentelemetry.trace.span import TraceState

from consumer.event import Headers, TraceIds

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.sdk.trace.id_generator import IdGenerator

NO_TRACE = TraceIds(0, 0, 0, sampled=False, trace_state="")
"""No span at all: tracing is off. Nothing carries such a context on."""

_LOW_64 = (1 << 64) - 1
_ALL = 1 << 64
_TRACEPARENT = re.compile(
    rb"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:(-.*)|[ \t]*)"
)
_LONGEST_TRACEPARENT = 512
_LONGEST_TRACESTATE = 8192
_W3C_FIELDS = frozenset({"traceparent", "tracestate", "baggage"})
_SAMPLER_ATTRIBUTES = {"messaging.system": "kafka", "messaging.operation.type": "process"}


class Thresholds(NamedTuple):
    """A sampler as numbers: a trace is sampled when the low 64 bits of its id are below.

    One number each for a root, for a remote parent that is sampled, and for one that is not.
    """

    root: int
    parent_sampled: int
    parent_not_sampled: int


def thresholds(sampler: Sampler) -> Thresholds | None:
    """The numbers of one of the SDK's samplers; None for any other sampler."""
    if type(sampler) in _PARENT_BASED:
        # The delegates have no public name; where a version calls them otherwise, the sampler
        # is asked for every record instead.
        delegates = tuple(
            _threshold(getattr(sampler, name, None))
            for name in ("_root", "_remote_parent_sampled", "_remote_parent_not_sampled")
        )
        root, sampled, not_sampled = delegates
        if root is None or sampled is None or not_sampled is None:
            return None
        return Thresholds(root, sampled, not_sampled)
    own = _threshold(sampler)
    return None if own is None else Thresholds(own, own, own)


def _parent_based_types() -> frozenset[type[Sampler]]:
    """`ParentBased` and the SDK's own subclasses, which change nothing but the constructor."""
    return frozenset({ParentBased}) | {
        kind for kind in ParentBased.__subclasses__() if kind.__module__ == ParentBased.__module__
    }


_PARENT_BASED = _parent_based_types()


def _threshold(sampler: Sampler | None) -> int | None:
    if isinstance(sampler, StaticSampler):
        by_description = {ALWAYS_ON.get_description(): _ALL, ALWAYS_OFF.get_description(): 0}
        return by_description.get(sampler.get_description())
    if type(sampler) is TraceIdRatioBased:
        return sampler.bound
    return None


class Tracer:
    """Draws span identities.

    Args:
        sampler: decides which traces are written.
        id_generator: makes ids; the SDK's random one is done in place.
        propagator: reads the parent out of a record's headers.
        enabled: False where no exporter would take a span: every identity is `NO_TRACE`.
    """

    def __init__(
        self,
        sampler: Sampler,
        id_generator: IdGenerator,
        propagator: TextMapPropagator,
        *,
        enabled: bool = True,
    ) -> None:
        self.enabled = enabled
        self._sampler = sampler
        self._ids = id_generator
        self._propagator = propagator
        self._random = type(id_generator) is RandomIdGenerator
        self.begin: Callable[[Headers], TraceIds] = self._choose()
        """The identity of the span of a record with these headers.

        The parent is what the configured propagator finds, by default W3C Trace Context's last
        `traceparent` header; without one, or with a malformed one, the span is a root.
        """

    def request(self, sampled: bool) -> TraceIds:  # noqa: FBT001  it is the one thing asked
        """The identity of an HTTP attempt's span: a trace of its own, linked with its events.

        Args:
            sampled: whether any of the events in the request is.
        """
        if not self.enabled:
            return NO_TRACE
        return TraceIds(self._new_trace_id(), self._new_span_id(), 0, sampled, "")

    def _choose(self) -> Callable[[Headers], TraceIds]:
        if not self.enabled:
            return lambda _headers: NO_TRACE
        numbers = thresholds(self._sampler)
        fields = self._propagator.fields
        if numbers is None or not self._random or not fields <= _W3C_FIELDS:
            return self._ask
        return _inline(numbers, reads_parent="traceparent" in fields)

    def _ask(self, headers: Headers) -> TraceIds:
        """The long way: the SDK's parts are asked, whatever they are."""
        try:
            context = self._propagator.extract(headers, Context(), getter=_GETTER)
        except Exception:  # noqa: BLE001  a foreign propagator's fault must not stop an event
            context = Context()
        parent = get_current_span(context).get_span_context()
        trace_id = parent.trace_id if parent.is_valid else self._new_trace_id()
        result = self._sampler.should_sample(
            context, trace_id, "process", SpanKind.CONSUMER, _SAMPLER_ATTRIBUTES, ()
        )
        return TraceIds(
            trace_id,
            self._new_span_id(),
            parent.span_id if parent.is_valid else 0,
            result.decision is Decision.RECORD_AND_SAMPLE,
            result.trace_state.to_header() if result.trace_state else "",
        )

    def _new_trace_id(self) -> int:
        return self._ids.generate_trace_id()

    def _new_span_id(self) -> int:
        return self._ids.generate_span_id()


def _inline(numbers: Thresholds, *, reads_parent: bool) -> Callable[[Headers], TraceIds]:
    """`begin` for the SDK's samplers, random ids and W3C headers: no call that is not needed."""
    root, parent_sampled, parent_not_sampled = numbers
    match, new = _TRACEPARENT.fullmatch, tuple.__new__

    def begin(headers: Headers) -> TraceIds:
        traceparent = tracestate = None
        if reads_parent:
            for name, value in headers:
                if name == "traceparent":
                    traceparent = value
                elif name == "tracestate":
                    tracestate = value
        if traceparent is not None and len(traceparent) <= _LONGEST_TRACEPARENT:
            found = match(traceparent)
            if found is not None:
                version, trace, span, flags, rest = found.groups()
                trace_id, parent_id = int(trace, 16), int(span, 16)
                known = version != b"ff" and not (version == b"00" and rest)
                if known and trace_id and parent_id:
                    bound = parent_sampled if int(flags, 16) & 1 else parent_not_sampled
                    state = _trace_state(tracestate) if tracestate else ""
                    sampled = trace_id & _LOW_64 < bound
                    # 0 is no id: one in 2**64 draws becomes 1.
                    ids = (trace_id, getrandbits(64) or 1, parent_id, sampled, state)
                    return new(TraceIds, ids)
        trace_id = getrandbits(128) or 1
        # Building the tuple in place saves the named tuple's own constructor.
        return new(TraceIds, (trace_id, getrandbits(64) or 1, 0, trace_id & _LOW_64 < root, ""))

    return begin


@lru_cache(maxsize=1024)
def _trace_state(header: bytes) -> str:
    """A `tracestate` header as it is passed on; empty where it is not well-formed."""
    if len(header) > _LONGEST_TRACESTATE:
        return ""
    try:
        return TraceState.from_header([header.decode("ascii")]).to_header()
    except UnicodeDecodeError:
        return ""


class _HeaderGetter(Getter[Headers]):
    """Kafka headers for a propagator; of a repeated name the last speaks, as Kafka has it."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        for name, value in reversed(carrier):
            if name == key and value is not None:
                return [value.decode("utf-8", "replace")]
        return None

    def keys(self, carrier: Headers) -> list[str]:
        return [name for name, _ in carrier]


_GETTER = _HeaderGetter()
