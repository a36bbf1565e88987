"""Records of the state topic: who owns a partition, what is being tried, what was accepted.

A record is packed: version, kind, the member that wrote it, what ties it to the source topic, how
far the source was settled, then what the kind says. Numbers are big endian, times milliseconds
since the epoch; keys are 16 bytes each, without separators.

    open      | 1 | kind 1 | member 16 | binding 16 | settled through 8 |
    closed    | 1 | kind 2 | member 16 | binding 16 | settled through 8 |
    accepted  | 1 | kind 3 | member 16 | binding 16 | settled through 8 | time 8 | keys |
    attempted | 1 | kind 4 | member 16 | binding 16 | settled through 8 | time 8 | keys |
    refused   | 1 | kind 5 | member 16 | binding 16 | settled through 8 | time 8 | keys |
    grown     | 1 | kind 6 | member 16 | binding 16 | settled through 8 | time 8 | partitions 4 |

`open`: the member takes the partition over; the record's offset is its epoch. `closed`: it has
handed the partition over, with nothing in the air. `accepted`: TikTok took these keys; without
keys it only tells how far the source was settled. `attempted`: these keys are about to be sent, or
were once and have no outcome; until they are accepted or refused, TikTok may have them: since that
time, or since the record's own where that is 0. `refused`: all attempts that this member knows of
were refused for certain, so TikTok does not have them.

What is not a whole record of ours is ignored: it says nothing about keys.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

VERSION = 1
KEY_BYTES = 16
MEMBER_BYTES = 16
BINDING_BYTES = 16
UNBOUND = bytes(BINDING_BYTES)
"""The binding where the broker tells no ids."""

MOST_KEYS = 8192
"""Keys in one record that we write: 128 KiB, far below any broker's limit."""


MOST_PARTITIONS = 200_000
"""Of one topic: more than any cluster of Kafka has in all."""


class Kind(IntEnum):
    """What a state record says."""

    OPEN = 1
    CLOSED = 2
    ACCEPTED = 3
    ATTEMPTED = 4
    REFUSED = 5
    GROWN = 6


class StateValue(NamedTuple):
    """The value of a state record; what a kind does not have is empty or 0."""

    kind: Kind
    member: bytes
    bound_to: bytes
    settled_through: int
    time_ms: int = 0
    keys: bytes = b""
    partitions: int = 0

    def __repr__(self) -> str:
        """What it says and of how many keys."""
        return f"<StateValue {self.kind.name.lower()} keys={len(self.keys) // KEY_BYTES}>"


_HEAD = Struct(f">BB{MEMBER_BYTES}s{BINDING_BYTES}sQ")
_TIME = Struct(">Q")
_GROWN = Struct(">QI")
_CONTROLS = frozenset({Kind.OPEN, Kind.CLOSED})
_KINDS = {int(kind): kind for kind in Kind}


def encode(value: StateValue) -> bytes:
    """The bytes of a state record."""
    kind, member, bound_to, settled_through, time_ms, keys, partitions = value
    head = _HEAD.pack(VERSION, kind, member, bound_to, settled_through)
    if kind in _CONTROLS:
        return head
    if kind is Kind.GROWN:
        return head + _GROWN.pack(time_ms, partitions)
    return head + _TIME.pack(time_ms) + keys


def decode(value: bytes | None) -> StateValue | None:
    """What a state record says; None where it is none of ours, whole and of a known version."""
    if value is None or len(value) < _HEAD.size:
        return None
    version, number, member, bound_to, settled_through = _HEAD.unpack_from(value)
    kind = _KINDS.get(number)
    if version != VERSION or kind is None:
        return None
    said = _said(kind, value[_HEAD.size :])
    return None if said is None else StateValue(kind, member, bound_to, settled_through, *said)


def _said(kind: Kind, rest: bytes) -> tuple[int, bytes, int] | None:
    """Time, keys and partitions, from what follows the head; None where it is not whole."""
    if kind in _CONTROLS:
        return None if rest else (0, b"", 0)
    if kind is Kind.GROWN:
        if len(rest) != _GROWN.size:
            return None
        time_ms, partitions = _GROWN.unpack(rest)
        return (time_ms, b"", partitions) if partitions <= MOST_PARTITIONS else None
    if len(rest) < _TIME.size or (len(rest) - _TIME.size) % KEY_BYTES:
        return None
    return _TIME.unpack_from(rest)[0], rest[_TIME.size :], 0


def split(keys: bytes) -> list[bytes]:
    """The single keys."""
    return [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)]
