"""A process whose CPU time and memory are measured, alone on a core where there is a second one."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
"""The checkout, from which `tests.bench` can be imported."""

_FOREIGN = ("OTEL_", "TIKTOK_", "PYTHON")
_LOOK_SECONDS = 0.1
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Cores(NamedTuple):
    """Which cores the measured process and everything else run on; the same where there is one."""

    measured: frozenset[int]
    others: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> Cores:
        """The first allowed core for what is measured, the second for the rest."""
        first, *rest = sorted(os.sched_getaffinity(0))
        return cls(frozenset({first}), frozenset(rest[:1] or {first}))


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Processes that are started in this block stay on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Usage(NamedTuple):
    """What a process used from its start to its end.

    `cpu_seconds` is user and system time of all its threads. `peak_rss` is in bytes.
    `threads` has the CPU seconds by kind of thread, as far as they were looked at.
    """

    cpu_seconds: float
    peak_rss: int
    threads: Mapping[str, float]


class MeasuredProcess:
    """A process at work in a folder of its own; killed with its block if it still runs.

    It inherits none of this process's OpenTelemetry, TikTok or Python settings.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        cores: frozenset[int],
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._command = " ".join(command)
        self._log = folder / "log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        with self._log.open("wb") as log, pinned(cores):
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**kept, "PYTHONPATH": str(ROOT), **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._proc = Path("/proc") / str(self._process.pid)
        self._peak_rss = 0
        self._threads: dict[str, tuple[str, float]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()

    def log_lines(self) -> list[str]:
        """What it has printed so far, whole lines only."""
        return self._log.read_text("utf-8", "replace").split("\n")[:-1]

    def look(self) -> None:
        """Takes the peak of its memory and its threads' CPU time as they are now.

        The peak is the process's own (`VmHWM`): what `wait4` reports as `ru_maxrss` begins with
        the parent's.
        """
        with suppress(FileNotFoundError, ProcessLookupError):  # it or a thread has just ended
            for line in (self._proc / "status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self._peak_rss = int(line.split()[1]) * 1024
            for task in (self._proc / "task").iterdir():
                self._threads[task.name] = _thread(task, is_main=task.name == self._proc.name)

    def terminate(self, seconds: float = 60.0) -> Usage:
        """Asks it to stop and waits for that.

        Raises:
            RuntimeError: it ended otherwise than with exit code 0.
        """
        self.look()
        self._process.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds: float) -> Usage:
        """Waits until it has ended by itself.

        Raises:
            RuntimeError: it ended otherwise than with exit code 0, or not in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pid, status, used = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                if self._process.returncode:
                    raise self.failure(f"ended with {self._process.returncode}")
                threads: dict[str, float] = {}
                for name, cpu in self._threads.values():
                    threads[name] = threads.get(name, 0.0) + cpu
                return Usage(used.ru_utime + used.ru_stime, self._peak_rss, threads)
            self.look()
            time.sleep(_LOOK_SECONDS)
        raise self.failure(f"still runs after {seconds:.0f} s")

    @property
    def runs(self) -> bool:
        """Whether it has not ended; its usage is still to be had from `wait`."""
        ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended is None

    def failure(self, what: str) -> RuntimeError:
        """An error that says what happened, and the end of what the process printed."""
        printed = "\n".join(self.log_lines()[-20:])
        return RuntimeError(f"{self._command} {what}:\n{printed}")


def _thread(task: Path, *, is_main: bool) -> tuple[str, float]:
    """A thread's kind and its CPU seconds."""
    # The name stands in brackets and may hold anything, brackets too.
    before, _, after = (task / "stat").read_text().rpartition(")")
    name = before.partition("(")[2]
    fields = after.split()
    seconds = (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND
    if is_main:
        return "main thread", seconds
    if name.startswith("rdk:"):
        return "librdkafka", seconds
    return ("RocksDB", seconds) if name.startswith("rocksdb") else ("other threads", seconds)
