"""Where the main thread's time goes: `python -m tests.bench.profiler OUTPUT CONFIG`.

The product runs in this process. A timer interrupts it every few milliseconds of CPU time, and
what the main thread has used since the last time goes to the function that it is in; so functions
cost what they cost without a profiler. What a C library takes counts for its caller. On SIGTERM
the product ends as ever, and OUTPUT gets the CPU seconds by module and function, as JSON.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from consumer.cli import main

if TYPE_CHECKING:
    from types import FrameType

_INTERVAL_SECONDS = 0.002


class Function(NamedTuple):
    """A function's own time on the main thread, in seconds."""

    module: str
    name: str
    seconds: float


class Sampler:
    """Samples the main thread while its block lasts."""

    def __init__(self) -> None:
        self._own: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._since = 0.0

    def __enter__(self) -> Self:
        signal.signal(signal.SIGPROF, self._take)
        signal.siginterrupt(signal.SIGPROF, False)
        self._since = time.thread_time()
        signal.setitimer(signal.ITIMER_PROF, _INTERVAL_SECONDS, _INTERVAL_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0.0)

    def functions(self) -> list[Function]:
        """Own times, longest first."""
        found = [Function(*where, seconds) for where, seconds in self._own.items()]
        return sorted(found, key=lambda function: function.seconds, reverse=True)

    def _take(self, _number: int, frame: FrameType | None) -> None:
        # The timer counts all threads' time; the main thread's own clock says what is its part.
        now = time.thread_time()
        if frame is not None:
            module = str(frame.f_globals.get("__name__", "?"))
            self._own[module, frame.f_code.co_qualname] += now - self._since
        self._since = time.thread_time()


def read(file: Path) -> list[Function]:
    """The functions that a profiled run has left, longest first."""
    return [Function(*fields) for fields in json.loads(file.read_text("utf-8"))]


def _run(output: Path, config: str) -> None:
    sampler = Sampler()
    try:
        with sampler:
            main(["run", "-c", config])
    finally:
        output.write_text(json.dumps(sampler.functions()), encoding="utf-8")


if __name__ == "__main__":
    _run(Path(sys.argv[1]), sys.argv[2])
