"""The engine of a simulated process, built of the very parts that `consumer.compose` takes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, cast

from consumer.batch import BatchLimits
from consumer.consent import ConsentRules, OnDenied
from consumer.deadletter import DeadLetters
from consumer.dedup import Keys
from consumer.deliver import Delivery
from consumer.engine import Engine, EngineSettings
from consumer.event import ConsentState, Destination, EventSource, Headers, Mapped, TraceIds
from consumer.identity import IdentityRules
from consumer.intake import Intake
from consumer.limits import RetryPolicy
from consumer.memory import Memory
from consumer.park_choice import ParkingSettings
from consumer.parking import Parking
from consumer.payload import Mapper
from consumer.queues import DeliverySettings
from consumer.receipt import Receipts
from consumer.route import Routes
from consumer.schema_wait import SchemaWaits
from consumer.schemas import load_schema
from consumer.settle import Settlement
from consumer.state_phases import StateRules
from tests.simulation.broker import OWN_TOPICS, RECEIPTS
from tests.support.world import START_MS, JsonDecoder, event

if TYPE_CHECKING:
    import random

    from consumer.decode import Decoder
    from consumer.event import Item
    from consumer.messages import Produce
    from tests.simulation.schedule import Setup

PIXELS = ("C9ABC1234567890DEFGH", "C9OTHER4567890DEFGHIJ", "C9THIRD4567890DEFGHIJ")


class Values(JsonDecoder):
    """Decodes the values of the simulation; one that was seen before costs next to nothing."""

    _seen: dict[bytes, dict[str, Any]] = {}  # noqa: RUF012  shared: values follow from schedules

    def decode(self, value: bytes) -> dict[str, Any]:
        """As `Decoder.decode`."""
        if value.startswith(b"?"):  # it depends on what this process knows of schemas
            return super().decode(value)
        found = self._seen.get(value)
        if found is None:
            if len(self._seen) > _VALUES_KEPT:
                self._seen.clear()
            found = self._seen[value] = super().decode(value)
        return found


_VALUES_KEPT = 10_000
_MAPPER = Mapper(
    consent=ConsentRules(missing=ConsentState.GRANTED, on_marketing_denied=OnDenied.SUPPRESS),
    identity=IdentityRules(),
    max_future_ms=600_000,
    max_body_bytes=100_000,
)
_DESTINATIONS = tuple(Destination(EventSource.WEB, pixel) for pixel in PIXELS)
_KEYS = Keys()
_TRACE = TraceIds(1, 1, 0, sampled=False, trace_state="")


def build_engine(setup: Setup, process: bytes, rng: random.Random) -> Engine:
    """An engine as a process has it; `process` are bytes that no other one has."""
    destinations = _DESTINATIONS[: setup.pixels]
    handles = itertools.count(1)
    retry = RetryPolicy(maximum=setup.retry_max, give_up_after=setup.give_up_after)
    values = cast("Decoder", Values())  # stands in for Avro
    return Engine(
        EngineSettings(
            window=setup.window,
            max_in_flight_events=setup.max_in_flight_events,
            commit_interval=setup.commit_interval,
            session_timeout=setup.session_timeout,
            request_timeout=setup.request_timeout,
            static_member=setup.static_members,
        ),
        intake=Intake(values, Routes(destinations, None), _MAPPER, Keys()),
        schemas=SchemaWaits(values, unknown_after=300.0),
        delivery=Delivery(
            destinations,
            DeliverySettings(
                BatchLimits(max_events=setup.batch_events), retry, 50.0, setup.concurrency
            ),
            token_group={d: 0 if setup.shared_token else n for n, d in enumerate(destinations)},
            draw=_draw,
            rng=rng,
        ),
        settlement=Settlement(
            DeadLetters("tiktok-events/simulated"), handles, _RECEIPTS if setup.receipts else None
        ),
        memory=Memory(
            OWN_TOPICS,
            StateRules(int(setup.window * 1000), setup.takeover_wait, say_again_after=10),
            process,
            handles,
        ),
        parking=Parking(
            ParkingSettings(
                setup.max_in_flight_events,
                park_after=setup.park_after,
                tail_after=setup.retry_max,
            ),
            len(destinations),
            handles,
        ),
        handles=handles,
        begin_trace=_begin_trace,
        rng=rng,
    )


def key_of(event_id: str, pixel: int) -> bytes:
    """The key of an event of the simulation."""
    mapped = _MAPPER.map(
        JsonDecoder().decode(event(event_id)), _DESTINATIONS[pixel], wall_ms=START_MS
    )
    assert isinstance(mapped, Mapped)
    return _KEYS.key(mapped)


class _Receipts(Receipts):
    """Receipts that the judge knows the source record of, as it knows every record: by its key."""

    def receipt(self, item: Item, handle: int) -> Produce:
        """As the real one, with another key, and the outcome in a header."""
        told = (("outcome", f"{item.outcome}".encode()),)
        return super().receipt(item, handle)._replace(key=item.record.key, headers=told)


_RECEIPTS = _Receipts(RECEIPTS, load_schema("delivery_receipt"), "tiktok-events/simulated")


def _draw(_sampled: bool) -> TraceIds:  # noqa: FBT001  the engine's own signature
    return _TRACE


def _begin_trace(_headers: Headers) -> TraceIds:
    return _TRACE
