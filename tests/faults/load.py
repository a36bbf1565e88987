"""Records by the million whose fate is known: encoded once, and patched.

An event is one of a few dozen of the sample shop's, encoded by Avro with a placeholder in the place
of its id; every record is made by joining three pieces. So a record can be made again at any time,
byte for byte, from nothing but its number, and a round's ground truth is a few arrays.
"""

from __future__ import annotations

import random
from array import array
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from consumer.event import Headers, Reason, Record
from consumer.sandbox.ground_truth import EventIdentity
from consumer.sandbox.samples import PIXELS, SampleSettings
from consumer.sandbox.shop import Shop
from consumer.sandbox.spoil import Encoder, spoil

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

ID_LENGTH: Final = 16
_PLACEHOLDER: Final = "@" * ID_LENGTH
_TEMPLATES: Final = 47  # no divisor in common with a number of partitions
_NEAR, _FAR = 200, 20_000
"""How far back the original of a repeat stands: often still on its way, else long done."""


class Fate(IntEnum):
    """What must become of a record."""

    DELIVERED = 0
    REPEAT = 1
    """A copy of an earlier delivered one: to be left out."""
    DENIED = 2
    TOMBSTONE = 3
    UNDECODABLE = 4
    INVALID = 5
    NOWHERE = 6
    """For a pixel that is not configured."""


LETTERS: Final[Mapping[Fate, Reason]] = {
    Fate.UNDECODABLE: Reason.UNDECODABLE,
    Fate.INVALID: Reason.INVALID,
    Fate.NOWHERE: Reason.UNKNOWN_DESTINATION,
}
"""Which fates end in the dead-letter topic, and for what reason."""

Mix = dict[Fate, float]

USUAL: Final[Mix] = {
    Fate.DELIVERED: 0.92,
    Fate.REPEAT: 0.05,
    Fate.DENIED: 0.01,
    Fate.TOMBSTONE: 0.005,
    Fate.UNDECODABLE: 0.005,
    Fate.INVALID: 0.005,
    Fate.NOWHERE: 0.005,
}
"""The share of each fate in an ordinary round."""


class _Template(NamedTuple):
    """An event's value but for its id, and as what TikTok gets it."""

    before: bytes
    after: bytes
    event_source_id: str
    name: str


class Load:
    """The records of one topic, in the order in which they are produced.

    Args:
        seed: the same seed, schema and time give the same records.
        schema_id: under which the registry has the event's schema.
        partitions: of the topic; a record's partition follows from the event it carries.
        now_ms: the present, in milliseconds since the epoch.
    """

    def __init__(self, seed: int, schema_id: int, partitions: int, now_ms: int) -> None:
        self._random = random.Random(seed)
        self._now_ms = now_ms
        self._templates = _templates(schema_id, now_ms)
        self.partitions = partitions
        self.fates = bytearray()
        """By record number."""
        self.originals = array("L")
        """By record number: the number of the record whose event it carries."""
        self.log = tuple(array("L") for _ in range(partitions))
        """The numbers of the records in each partition, by offset."""

    def more(self, count: int, mix: Mix | None = None) -> range:
        """Decides on more records, a usual mix or another one; their numbers."""
        first = len(self.fates)
        fates, shares = zip(*(mix or USUAL).items(), strict=True)
        self.fates += bytes(self._random.choices(fates, shares, k=count))
        repeat, delivered = Fate.REPEAT, Fate.DELIVERED
        for number in range(first, first + count):
            original = number
            if self.fates[number] == repeat:
                back = self._random.randrange(1, self._random.choice((_NEAR, _FAR)))
                original = max(number - back, 0)
                while original and self.fates[original] != delivered:
                    original -= 1
                if self.fates[original] != delivered:  # nothing yet to repeat
                    self.fates[number], original = delivered, number
            self.originals.append(original)
        return range(first, first + count)

    def records(self, numbers: Iterable[int]) -> Iterator[Record]:
        """The records of these numbers, for the topic's producer, who keeps their order.

        Each is entered into the log as it is taken: what is taken must be produced.
        """
        for number in numbers:
            record = self.record(number)
            self.log[record.partition].append(number)
            yield record

    def record(self, number: int) -> Record:
        """The record of this number, without a topic or an offset."""
        event = self.originals[number]
        fate = Fate(self.fates[number])
        if fate is Fate.REPEAT:
            fate = Fate.DELIVERED
        event_id = event_id_of(event)
        if fate is Fate.TOMBSTONE:
            value: bytes | None = None
        else:
            templates = self._templates[fate]
            template = templates[event % len(templates)]
            value = template.before + event_id + template.after
        headers: Headers = ()
        if not number % 4:
            headers = (
                ("traceparent", b"00-%032x-%016x-01" % (number + 1, number + 1)),
                ("origin", b"\x00\xffshop"),
                ("origin", None),
            )
        timestamp = self._now_ms - number % 1000
        return Record("", event % self.partitions, -1, timestamp, event_id, value, headers)

    def identity(self, event: int) -> EventIdentity:
        """A delivered event, as TikTok knows it."""
        templates = self._templates[Fate.DELIVERED]
        template = templates[event % len(templates)]
        return EventIdentity(template.event_source_id, template.name, event_id_of(event).decode())

    def source_of(self, event: int) -> str:
        """The event source id that a delivered event goes to."""
        templates = self._templates[Fate.DELIVERED]
        return templates[event % len(templates)].event_source_id

    def with_fate(self, fate: Fate) -> Iterator[int]:
        """The numbers of all records of a fate."""
        found = self.fates.find(fate)
        while found >= 0:
            yield found
            found = self.fates.find(fate, found + 1)

    @property
    def delivered(self) -> int:
        """How many events TikTok has to get."""
        return self.fates.count(Fate.DELIVERED)

    @property
    def ends(self) -> dict[int, int]:
        """The next offset of each partition: what a group that is done has committed."""
        return {partition: len(log) for partition, log in enumerate(self.log)}


def event_id_of(event: int) -> bytes:
    """The id of an event; also its record's key."""
    return b"event-%010d" % event


def event_of(event_id: str) -> int:
    """The event of an id."""
    return int(event_id[6:])


@lru_cache(maxsize=8)
def _templates(schema_id: int, now_ms: int) -> Mapping[Fate, Sequence[_Template]]:
    draw = random.Random(schema_id)
    shop = Shop(draw, PIXELS, now_ms)
    encoder = Encoder(schema_id)
    limits = SampleSettings(now_ms=now_ms)

    def template(fate: Fate) -> _Template:
        event = shop.event()
        fields: dict[str, Any] = {**event.fields, "event_id": _PLACEHOLDER}
        if fate is Fate.DENIED:
            fields["consent"] = {**fields["consent"], "marketing": "DENIED"}
        if fate is Fate.INVALID:
            fields["page"] = None
        value = (
            spoil(fields, Reason.UNKNOWN_DESTINATION, limits, encoder, draw)
            if fate is Fate.NOWHERE
            else encoder.encode(fields)
        )
        before, _, after = value.partition(_PLACEHOLDER.encode())
        if fate is Fate.UNDECODABLE:
            after = after[: len(after) // 2]
        return _Template(before, after, fields["event_source_id"], event.name_as_sent)

    return {
        fate: [template(fate) for _ in range(_TEMPLATES)]
        for fate in Fate
        if fate not in (Fate.REPEAT, Fate.TOMBSTONE)
    }
