"""Which destination an event goes to, by its `event_source_id` and `event_source`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumer.event import Destination, EventSource, Reason, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNKNOWN_ID = Refused(
    Reason.UNKNOWN_DESTINATION,
    "no destination has this event_source_id",
    "event_source_id",
)
_NO_DEFAULT = Refused(
    Reason.UNKNOWN_DESTINATION,
    "the event has no event_source_id, and its event_source does not tell the destination",
    "event_source_id",
)
_DISAGREES = Refused(
    Reason.INVALID,
    "event_source disagrees with the destination's",
    "event_source",
)
_AMBIGUOUS = Refused(
    Reason.INVALID,
    "destinations of several event sources share this event_source_id: event_source must choose",
    "event_source",
)


class Routes:
    """The destinations, found by what an event says of them.

    A null `event_source_id` means the only destination with the event's `event_source` (of all,
    where that is null too), else `default`, an id that is taken as if it had come with the event. A
    null `event_source` puts no condition on the destination; any other must agree with it. An empty
    id is an unknown one, not a null.

    Every case is worked out at construction, so that an event costs one look-up.

    Raises:
        ValueError: two destinations share both event source and id.
        KeyError: no destination has the default's id.
    """

    def __init__(self, destinations: Sequence[Destination], default: str | None) -> None:
        self._table: dict[tuple[str | None, str | None], Destination | Refused] = {}
        by_id: dict[str, list[Destination]] = {}
        for destination in destinations:
            key = (destination.event_source_id, destination.event_source.value)
            if key in self._table:
                raise ValueError(f"two {key[1]} destinations have event_source_id {key[0]}")
            self._table[key] = destination
            by_id.setdefault(destination.event_source_id, []).append(destination)
        for source_id, sharing in by_id.items():
            self._table[source_id, None] = sharing[0] if len(sharing) == 1 else _AMBIGUOUS
            for source in EventSource:
                self._table.setdefault((source_id, source.value), _DISAGREES)
        for name in (None, *(source.value for source in EventSource)):
            only = _only([d for d in destinations if name in (None, d.event_source.value)])
            self._table[None, name] = only or self._by_default(default, name)

    def route(self, event: dict[str, Any]) -> Destination | Refused:
        """Find the destination of a decoded event, or say why it has none."""
        return self._table.get((event["event_source_id"], event["event_source"]), _UNKNOWN_ID)

    def _by_default(self, default: str | None, source: str | None) -> Destination | Refused:
        """What becomes of an event as if it had brought the default's id."""
        return _NO_DEFAULT if default is None else self._table[default, source]


def _only(destinations: Sequence[Destination]) -> Destination | None:
    return destinations[0] if len(destinations) == 1 else None
