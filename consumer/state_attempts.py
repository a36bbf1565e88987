"""Which keys TikTok may have although nobody has told so: attempts that have no outcome yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.state_records import Kind, split

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumer.event import Instant
    from consumer.state_records import StateValue


class Attempts:
    """The keys of one partition that were attempted, and of which nothing newer is announced.

    They are what earlier owners left without an outcome, and what we let go of without one. A key
    stays until the state topic has a later word of it: that TikTok has it, that it has not, or
    that we attempt it again. Until then a restart must find its attempt in the topic again.

    Args:
        member: Who we are in the log.
        window_ms: After so many milliseconds an event may count once more.
    """

    def __init__(self, member: bytes, window_ms: int) -> None:
        self._member = member
        self._window_ms = window_ms
        self._read_to = 0  # offsets below say nothing new, also when they are read again
        self._by: dict[bytes, bytes] = {}  # who attempted a key last: nobody else denies it
        self._left: dict[bytes, int] = {}  # what we let go of, as it was told: about by age
        self._latest = 0
        self.since: dict[bytes, int] = {}
        """When each key was first attempted, in milliseconds. To be read only."""

    # What is read of the log

    def another_log(self) -> None:
        """Offsets count from the beginning: this log is another one, or has lost records."""
        self._read_to = 0

    def read(self, offset: int, timestamp: int, value: StateValue, now: Instant) -> None:
        """The log says this at an offset. What it said before is no news, and has later words."""
        if offset < self._read_to:
            return
        self._read_to = offset + 1
        if value.kind is Kind.ATTEMPTED:
            if value.member != self._member:
                times = (ms for ms in (value.time_ms, timestamp) if ms > 0)
                since = min(times, default=now.wall_ms)
                self.found(split(value.keys), value.member, since, now)
        elif self.since and value.kind is Kind.ACCEPTED:
            self.forget(split(value.keys))
        elif self.since and value.kind is Kind.REFUSED:
            self.denied(split(value.keys), value.member)

    def said(self, offset: int, value: StateValue) -> None:
        """We said this, at an offset. A refusal denies our own attempts, which are not in here."""
        self._read_to = max(self._read_to, offset + 1)
        if self.since and value.kind is Kind.ACCEPTED:
            self.forget(split(value.keys))
        elif self.since and value.kind is Kind.ATTEMPTED:
            self.announced(split(value.keys), value.time_ms)

    def found(self, keys: Iterable[bytes], member: bytes, since: int, now: Instant) -> None:
        """Another member announced keys at this time; what is known from earlier on counts.

        They matter from now on, however old they are: their records may still be to be read.
        """
        self._latest = now.wall_ms
        for key in keys:
            self.since.setdefault(key, since)
            self._by[key] = member

    # What becomes of keys

    def left(self, key: bytes, since: int, now: Instant) -> None:
        """We let go of an event without an outcome; a record with its key counts from there."""
        self._latest = max(self._latest, since)
        self.since[key] = since
        self._left.pop(key, None)
        self._left[key] = since
        self.expire(now)

    def expire(self, now: Instant) -> None:
        """What we let go of longer ago than the window may count once more."""
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
        self.forget([key for key, since in self.since.items() if since <= oldest])
        for key, since in self.since.items():
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
