"""The benchmark's records: a web shop's events, some of them twice, the same for every reader."""

from __future__ import annotations

import random
import zlib
from typing import TYPE_CHECKING, Any

from consumer.event import Record
from consumer.sandbox.shop import Shop
from consumer.sandbox.spoil import Encoder

if TYPE_CHECKING:
    from collections.abc import Iterator

PIXEL = "C9BENCHMARK000000001"
"""The one pixel that all events are for."""

DUPLICATE_EVERY = 20
"""Every 20th record repeats an earlier one: 5 %."""

_SEED = 1
_REMEMBERED = 5000


def distinct(count: int) -> int:
    """How many different events `count` records hold."""
    return count - count // DUPLICATE_EVERY


def records(
    topic: str, count: int, *, partitions: int, schema_id: int, now_ms: int
) -> Iterator[Record]:
    """The records, in the order in which they are to be produced.

    `now_ms` is the present, in milliseconds since the epoch: events are a few hours old at most.
    Each record has a `traceparent` of its own. A repeat is in its original's partition.
    """
    draw = random.Random(_SEED)
    shop = Shop(draw, (PIXEL,), now_ms)
    encoder = Encoder(schema_id)
    remembered: list[tuple[bytes, bytes]] = []
    for number in range(1, count + 1):
        if number % DUPLICATE_EVERY == 0:
            key, value = draw.choice(remembered)
        else:
            event = shop.event()
            _give_own_phone(event.fields["user"])
            key, value = event.key, encoder.encode(event.fields)
            if len(remembered) < _REMEMBERED:
                remembered.append((key, value))
            else:
                remembered[draw.randrange(_REMEMBERED)] = key, value
        headers = (("traceparent", _traceparent(draw)),)
        partition = zlib.crc32(key) % partitions
        yield Record(topic, partition, -1, now_ms, key, value, headers)


def _give_own_phone(user: dict[str, Any]) -> None:
    """A telephone number as good as this visitor's own.

    The sample shop has some hundred numbers, which a cache of digests would know by heart; what
    a number costs is to be paid once a visit here, as with real visitors. 555-0100 to 555-0199
    are kept for fiction in every area.
    """
    if "phone" in user:
        visitor = int(user["external_id"].removeprefix("user_"))
        user["phone"] = f"+1 ({200 + visitor % 800}) 555-01{visitor // 800 % 100:02d}"


def _traceparent(draw: random.Random) -> bytes:
    return b"00-%032x-%016x-01" % (draw.getrandbits(128) | 1, draw.getrandbits(64) | 1)
