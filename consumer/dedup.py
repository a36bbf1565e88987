"""Deduplication: which events are the same, which are on their way, which were accepted.

Two records are the same event when destination, event name as sent, event_id and test code agree
(TikTok's own key is event_source_id + event + event_id; a test event is none of the real ones).
A key is *in flight* in memory only; *accepted* is durable, and never written before TikTok
accepted. Rejected and suppressed events leave no mark, so a corrected replay is delivered.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.event import Item, Mapped

KEY_BYTES = 16


class Keys:
    """Digests of events. The constant part of a key is hashed once for each name and destination.

    Lengths are part of what is hashed, so no two different events have the same input.
    """

    def __init__(self) -> None:
        self._prefixes: dict[tuple[str, str, str, str | None], hashlib.blake2b] = {}

    def key(self, mapped: Mapped) -> bytes:
        """The 128-bit key of an event."""
        destination = mapped.destination
        name = (
            destination.event_source,
            destination.event_source_id,
            mapped.event,
            mapped.test_event_code,
        )
        prefix = self._prefixes.get(name)
        if prefix is None:
            prefix = self._prefix(name[1:])
            if len(self._prefixes) >= _PREFIXES_KEPT:
                self._prefixes.clear()
            self._prefixes[name] = prefix
        digest = prefix.copy()
        digest.update(mapped.event_id.encode())
        return digest.digest()

    @staticmethod
    def _prefix(parts: Sequence[str | None]) -> hashlib.blake2b:
        digest = hashlib.blake2b(digest_size=KEY_BYTES)
        for part in parts:
            encoded = b"" if part is None else part.encode()
            digest.update(b"%d:" % (-1 if part is None else len(encoded)))
            digest.update(encoded)
        return digest


_PREFIXES_KEPT = 4096
"""Event names and test codes come from outside: their number is bounded."""


class InFlight:
    """The keys on their way. The first record with a key goes; later ones wait for its outcome."""

    def __init__(self) -> None:
        self._first: dict[bytes, Item] = {}

    def __len__(self) -> int:
        return len(self._first)

    def enter(self, item: Item) -> Item | None:
        """Enters an item by its key. None: it is the first. Else the one it now waits for."""
        first = self._first.setdefault(item.key, item)
        if first is item:
            return None
        if first.waiters is None:
            first.waiters = [item]
        else:
            first.waiters.append(item)
        return first

    def leave(self, item: Item) -> list[Item]:
        """Takes a first item out with its outcome known; those that waited come back."""
        if self._first.get(item.key) is not item:
            return []
        del self._first[item.key]
        waiters, item.waiters = item.waiters, None
        return waiters or []

    def first(self, key: bytes) -> Item | None:
        """The item on its way with this key."""
        return self._first.get(key)


def within_window(accepted_ms: int | None, now_ms: int, window_ms: int) -> bool:
    """Whether an acceptance still counts: the window runs from the acceptance, read by read.

    An acceptance from the future (a clock was set back) counts: sending again would be worse.
    """
    return accepted_ms is not None and now_ms - accepted_ms < window_ms
