"""Access tokens: one a destination, read where the configuration says, renewed while running.

A token that has expired is replaced by whoever runs the consumer, in a file as a rule (a mounted
secret). The new one is used for the next request, without a restart.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.errors import SecretError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from consumer.event import Destination
    from consumer.secret import Secret, SecretSource

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
"""How often a file is looked at, at most."""

Fingerprint = tuple[int, int, int]
"""Inode, time of change and size: a file replaced, rewritten or linked anew differs in one."""


@dataclass(slots=True, eq=False)
class _Held:
    """What is known of one destination's token."""

    source: SecretSource
    secret: Secret | None = None
    version: int = 0
    check_at: float = 0.0
    seen: Fingerprint | None = None
    problem: str | None = None


class Tokens:
    """The current token of every destination.

    Args:
        sources: where each token is read from, by (`event_source`, `event_source_id`).
        environ: the environment that `env` sources name.
        clock: seconds by a clock that never goes back.
    """

    def __init__(
        self,
        sources: Mapping[tuple[str, str], SecretSource],
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environ = environ
        self._clock = clock
        now = clock()
        self._held = {
            destination: _Held(source, check_at=now) for destination, source in sources.items()
        }

    def current(self, event_source: str, event_source_id: str) -> Secret | None:
        """The token to send with now; None while none could be read at all.

        While the file cannot be read, the last token read stays.
        """
        return self._fresh(event_source, event_source_id).secret

    def version(self, event_source: str, event_source_id: str) -> int:
        """Which token this is: a number that grows with every other token; 0 means none yet."""
        return self._fresh(event_source, event_source_id).version

    def in_use(self, event_source: str, event_source_id: str) -> int:
        """The version that was last read, without a look at its file."""
        return self._held[event_source, event_source_id].version

    def __repr__(self) -> str:
        """For how many destinations; never a token."""
        known = sum(held.secret is not None for held in self._held.values())
        return f"<Tokens {known} of {len(self._held)}>"

    def _fresh(self, event_source: str, event_source_id: str) -> _Held:
        held = self._held[event_source, event_source_id]
        now = self._clock()
        if now >= held.check_at:
            held.check_at = now + CHECK_SECONDS
            self._check(held, event_source_id)
        return held

    def _check(self, held: _Held, event_source_id: str) -> None:
        # On the loop's thread: one `stat` of a small local file a second, read only when changed.
        path = held.source.file
        seen = None if path is None else _fingerprint(path)
        if held.secret is not None and held.seen == seen:
            return
        try:
            secret = held.source.read(self._environ)
        except SecretError as error:
            # Not marked as seen, so that a file caught half written is read again.
            if held.problem != error.what:
                held.problem = error.what
                logger.warning("access token of %s: %s", event_source_id, error)
            return
        # The fingerprint is older than what was read: a change in between is seen next time.
        held.seen, held.problem = seen, None
        if secret != held.secret:
            held.secret = secret
            held.version += 1
            if held.version > 1:
                logger.info("access token of %s: a new one is in use", event_source_id)


class TokenWatch:
    """Notices another token while a destination is shut, and so sends nothing.

    A destination that sends reads its token with every request; one that is shut would find a new
    one only with its next probe, up to `retry.max` later.
    """

    def __init__(self, tokens: Tokens, destinations: Iterable[Destination]) -> None:
        self._tokens = tokens
        self._seen = dict.fromkeys(destinations, 0)

    def changed(self, shut: Collection[Destination]) -> list[Destination]:
        """Those of the shut destinations that have another token than at the last look.

        To be called about once a second. No file is looked at while nothing is shut.
        """
        changed = []
        for destination, seen in self._seen.items():
            name = destination.event_source.value, destination.event_source_id
            if destination not in shut:
                self._seen[destination] = self._tokens.in_use(*name)
            elif (version := self._tokens.version(*name)) != seen:
                self._seen[destination] = version
                changed.append(destination)
        return changed


def _fingerprint(path: Path) -> Fingerprint | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
