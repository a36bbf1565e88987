"""A steady load: records produced at a constant rate, by a thread, while a round is played."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.load import Mix
    from tests.faults.round import Round

_BEAT: Final = 0.1
"""Seconds between two portions."""


class Pace:
    """Produces `rate` records a second until it is told to stop, or has produced `most`."""

    def __init__(self, played: Round, rate: int, most: int, mix: Mix | None) -> None:
        self._played = played
        self._rate = rate
        self._most = most
        self._mix = mix
        self._stopped = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="pace", daemon=True)
        self.produced = 0

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; what was begun is written."""
        self._stopped.set()
        self._thread.join()
        if self._failed is not None:
            raise RuntimeError("the steady load has failed") from self._failed

    @property
    def is_over(self) -> bool:
        """Whether everything has been produced."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._produce()
        except BaseException as error:  # noqa: BLE001  told to the thread that asks for the end
            self._failed = error

    def _produce(self) -> None:
        played = self._played
        writer = played.cluster.kafka.writer()
        began = time.monotonic()
        while self.produced < self._most and not self._stopped.wait(_BEAT):
            due = min(int((time.monotonic() - began) * self._rate), self._most)
            numbers = played.load.more(due - self.produced, self._mix)
            writer.write(played.topic, played.load.records(numbers))
            self.produced = due
        writer.flush()


@contextmanager
def steady(played: Round, rate: int, most: int, mix: Mix | None = None) -> Iterator[Pace]:
    """A steady load for the length of the block; it may end earlier, with everything produced."""
    pace = Pace(played, rate, most, mix)
    pace.start()
    try:
        yield pace
    finally:
        pace.stop()
