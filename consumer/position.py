"""Where reading of a partition begins: the rules, without the broker.

The caller asks the broker for the group's committed offset and for the log's ends; the answer
here is a value. `auto.offset.reset` plays no part: it is always `error`, so that no client
library ever moves a position by itself.
"""

from __future__ import annotations

from typing import Final, NamedTuple

TRUNCATED: Final = "truncated"
"""Hold reason: the wanted offset lies above the log end, so records this group has read are gone.

Which of the records now in the log were read before cannot be known; going on anywhere could
skip or repeat, also when the log has grown past the offset again. The partition waits until
somebody has decided: stop the group, set its offset, start it.
"""


class Earliest(NamedTuple):
    """A group without an offset begins at the log start."""


class Latest(NamedTuple):
    """A group without an offset begins at the log end, with records produced from now on."""


class At(NamedTuple):
    """A group without an offset begins at this one, found by the broker for a point in time."""

    offset: int


class Position(NamedTuple):
    """Where to read from, and what is to be said about it.

    `offset` is the first record to read, and stays the wanted one while `hold` (a reason) keeps
    the partition from being read. `lost` is the half-open range of offsets that retention deleted
    before this group read them.
    """

    offset: int
    hold: str | None = None
    lost: tuple[int, int] | None = None


def start_position(
    committed: int | None, low: int, high: int, start: Earliest | Latest | At
) -> Position:
    """Say where to read from.

    Args:
        committed: The group's committed offset, or where reading got to; None where there is none.
        low: Offset of the oldest record in the log (log start).
        high: Offset the next record will get (log end).
        start: What the configuration says for a group that has no offset; unused otherwise.
    """
    if committed is None:
        match start:
            case Earliest():
                return Position(low)
            case Latest():
                return Position(high)
            case At(offset):
                return Position(min(max(offset, low), high))
    if committed < low:
        return Position(low, lost=(committed, low))
    if committed > high:
        return Position(committed, hold=TRUNCATED)
    return Position(committed)
