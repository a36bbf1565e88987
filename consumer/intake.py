"""Intake: a record becomes an event for TikTok, or a reason why not.

The stations decode, route, consent, identity and payload in their order, for one item at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from consumer.decode import Decoder, Undecodable, UnknownSchema
from consumer.event import Consent, Item, Mapped, Reason, Refused, Suppressed

if TYPE_CHECKING:
    from consumer.dedup import Keys
    from consumer.payload import Mapper
    from consumer.route import Routes


class SchemaNeeded(NamedTuple):
    """The value cannot be read before the registry tells the schema."""

    schema_id: int


_TOMBSTONE = Suppressed(Reason.TOMBSTONE)


@dataclass(frozen=True, slots=True)
class Intake:
    """What makes events of records."""

    decoder: Decoder
    routes: Routes
    mapper: Mapper
    keys: Keys

    def prepare(self, item: Item, wall_ms: int) -> SchemaNeeded | Refused | Suppressed | None:
        """Decodes and maps an item; None when it is ready for deduplication."""
        return self._prepare(item, wall_ms, None)

    def restrict(self, item: Item, consent: Consent, wall_ms: int) -> Refused | Suppressed | None:
        """Maps an item anew under a stricter consent than its own."""
        found = self._prepare(item, wall_ms, consent)
        if isinstance(found, SchemaNeeded):
            # The schema was known when the item came; a decoder forgets none.
            msg = f"schema {found.schema_id} is gone from the decoder"
            raise TypeError(msg)
        return found

    def _prepare(
        self, item: Item, wall_ms: int, consent: Consent | None
    ) -> SchemaNeeded | Refused | Suppressed | None:
        value = item.record.value
        if value is None:
            return _TOMBSTONE
        try:
            event = self.decoder.decode(value)
        except UnknownSchema as unknown:
            return SchemaNeeded(unknown.schema_id)
        except Undecodable as error:
            return Refused(Reason.UNDECODABLE, error.detail)
        item.decoded_ns = item.received.wall_ns
        item.event_id, item.event = event["event_id"], event["event"]
        item.event_source_id = event["event_source_id"]
        destination = self.routes.route(event)
        if isinstance(destination, Refused):
            return destination
        item.event_source_id = destination.event_source_id
        mapped = self.mapper.map(event, destination, wall_ms, consent)
        if not isinstance(mapped, Mapped):
            item.consent = mapped.consent or item.consent
            return mapped
        item.mapped = mapped
        item.event = mapped.event
        item.consent = mapped.consent
        item.key = self.keys.key(mapped)
        return None
