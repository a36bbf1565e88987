"""How far a local store has come in the state topic, as it stands among the marks it belongs to.

A store without a position that can be believed is read from the state topic again, which has
everything; so whatever is doubtful is not believed. Believed is a position of the same state topic
that was written

- by an orderly end, with everything on the disk; or
- in the very directory it is read from, since the machine last started: RocksDB's log outlives the
  process then, however that ended. After a crash of the machine nobody knows which of the files
  reached the disk, and a copy of a directory in use holds files of different times.

Not noticed: in the directory of a process that was killed, one of RocksDB's log files deleted, or
the end of its MANIFEST cut off, and nothing else. RocksDB takes both for an earlier end.

The value, numbers big endian:

    | version 1 | state topic's binding 16 | written on 16 | next offset 8 | floor 8 |
    | settled through 8 | source topic's binding 16 | unclosed members 16 each | CRC-32 4 |
"""

from __future__ import annotations

from binascii import crc32
from enum import Enum
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

from consumer.commit_metadata import is_recreated
from consumer.messages import Reached
from consumer.state_records import BINDING_BYTES, MEMBER_BYTES, UNBOUND

KEY = b"reached"
"""Where the value stands. No event's key has this length."""

CLEAN = bytes(16)
"""What a position was written on by an orderly end."""

_VERSION = 1
_HEAD = Struct(f">B{BINDING_BYTES}s{len(CLEAN)}sQQQ{BINDING_BYTES}s")
_CHECKSUM_BYTES = 4


class Standing(Enum):
    """What is to be thought of a directory, by the position in it."""

    NEW = "holds no position"
    VALID = "holds everything below its position"
    FOREIGN = "belongs to another Kafka cluster"
    OTHER_TOPIC = "was filled from a state topic that is not known to be the one of today"
    UNCERTAIN = "was in use when the machine went down, or when it was copied"
    DAMAGED = "is damaged"


class Position(NamedTuple):
    """A position, the state topic it counts in, and what it was written on: `CLEAN` or a place."""

    state_bound_to: bytes
    written_on: bytes
    reached: Reached


def place(boot_id: str, device: int, inode: int) -> bytes:
    """What tells a directory in use, since the last start of this machine, from any other."""
    return blake2b(f"{boot_id} {device} {inode}".encode(), digest_size=len(CLEAN)).digest()


def encode(position: Position) -> bytes:
    """The value to be stored."""
    state_bound_to, written_on, reached = position
    next_offset, floor, settled_through, bound_to, unclosed = reached
    head = _HEAD.pack(
        _VERSION, state_bound_to, written_on, next_offset, floor, settled_through, bound_to
    )
    content = head + b"".join(unclosed)
    return content + crc32(content).to_bytes(_CHECKSUM_BYTES, "big")


def decode(raw: bytes) -> Position | None:
    """What a stored value says; None where it is damaged, or of a version that is not known."""
    content, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
    members = len(content) - _HEAD.size
    if members < 0 or members % MEMBER_BYTES:
        return None
    if crc32(content).to_bytes(_CHECKSUM_BYTES, "big") != checksum:
        return None
    version, state_bound_to, written_on, *numbers = _HEAD.unpack_from(content)
    next_offset, floor, settled_through, bound_to = numbers
    if version != _VERSION:
        return None
    unclosed = tuple(
        content[at : at + MEMBER_BYTES] for at in range(_HEAD.size, len(content), MEMBER_BYTES)
    )
    reached = Reached(next_offset, floor, settled_through, bound_to, unclosed)
    return Position(state_bound_to, written_on, reached)


def judge(raw: bytes | None, state_bound_to: bytes, here: bytes) -> tuple[Standing, Reached | None]:
    """What to think of a directory with this value in it; the position only where it is valid.

    Args:
        raw: The stored value, None where there is none.
        state_bound_to: What ties positions to the state topic of today.
        here: The directory's `place`.
    """
    if raw is None:
        return Standing.NEW, None
    position = decode(raw)
    if position is None:
        return Standing.DAMAGED, None
    if position.state_bound_to != state_bound_to:
        known = UNBOUND not in (position.state_bound_to, state_bound_to)
        if known and not is_recreated(position.state_bound_to, state_bound_to):
            return Standing.FOREIGN, None
        return Standing.OTHER_TOPIC, None
    if position.written_on not in (CLEAN, here):
        return Standing.UNCERTAIN, None
    return Standing.VALID, position.reached
