"""Which keys TikTok may have although nobody has told so: attempts that have no outcome yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumer.event import Instant


class Attempts:
    """The keys of one partition that were attempted, and of which nothing newer is announced.

    They are what earlier owners left without an outcome, and what we let go of without one. A key
    stays until the state topic has a later word of it: that TikTok has it, that it has not, or
    that we attempt it again. Until then a restart must find its attempt in the topic again.

    Args:
        window_ms: After so many milliseconds an event may count once more.
    """

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._by: dict[bytes, bytes] = {}  # who attempted a key last: nobody else denies it
        self._left: dict[bytes, int] = {}  # what we let go of, as it was told: about by age
        self._latest = 0
        self.since: dict[bytes, int] = {}
        """When each key was first attempted, in milliseconds. To be read only."""

    def found(self, keys: Iterable[bytes], member: bytes, since: int, now: Instant) -> None:
        """Another member announced keys at this time; what is known from earlier on counts.

        They matter from now on, however old they are: their records may still be to be read.
        """
        self._latest = now.wall_ms
        for key in keys:
            self.since.setdefault(key, since)
            self._by[key] = member

    def left(self, key: bytes, since: int, now: Instant) -> None:
        """We let go of an event without an outcome; a record with its key counts from there."""
        self._latest = max(self._latest, since)
        self.since[key] = since
        self._left.pop(key, None)
        self._left[key] = since
        oldest = now.wall_ms - self._window_ms
        while (first := next(iter(self._left), None)) is not None and self._left[first] <= oldest:
            self.forget((first,))

    def announced(self, keys: Iterable[bytes], since: int) -> None:
        """We announced keys anew, as attempted since then; 0: as never attempted.

        What was found after that had been decided is news that the announcement has not.
        """
        self.forget([key for key in keys if 0 < since <= self.since.get(key, -1)])

    def by_time(self, now: Instant) -> dict[int, list[bytes]]:
        """The keys by when they were first attempted; without those that count no more.

        They count for twice the window: their records may have stood still for days.
        """
        found: dict[int, list[bytes]] = {}
        oldest = now.wall_ms - 2 * self._window_ms
        for key, since in self.since.items():
            if since > oldest:
                found.setdefault(since, []).append(key)
        return found

    def forget(self, keys: Iterable[bytes]) -> None:
        """The state topic has a later word of these keys."""
        for key in keys:
            self.since.pop(key, None)
            self._by.pop(key, None)
            self._left.pop(key, None)

    def denied(self, keys: Iterable[bytes], member: bytes) -> None:
        """This member said that TikTok does not have these keys: true of its own attempts."""
        self.forget([key for key in keys if self._by.get(key) == member])

    def matter(self, now: Instant) -> bool:
        """Whether a restart has to find these attempts again. Where in doubt, yes."""
        return bool(self.since) and now.wall_ms - self._latest < self._window_ms
