"""The installed command `tiktok-events run`, as a process that a test starts, asks and ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

COMMAND = Path(sys.executable).parent / "tiktok-events"

_START_SECONDS = 30.0
_STOP_SECONDS = 40.0
_LOOK_SECONDS = 0.05
_FOREIGN = ("OTEL_", "TIKTOK_", "PYTHON")


class Ended(NamedTuple):
    """How a process ended: its exit code (negative: the signal) and the CPU time it took."""

    exit_code: int
    cpu_seconds: float


@dataclass(frozen=True)
class Status:
    """A `/status` document, with the questions that tests ask of it."""

    document: dict[str, Any]

    @property
    def totals(self) -> dict[str, int]:
        """Consumed, and settled by outcome."""
        totals: dict[str, int] = self.document["totals"]
        return totals

    @property
    def settled(self) -> int:
        """How many records have their outcome."""
        return sum(number for name, number in self.totals.items() if name != "consumed")

    @property
    def paused(self) -> dict[int, str]:
        """The reason by partition, of those that are paused."""
        return {p["partition"]: p["paused"] for p in self.document["partitions"] if p["paused"]}

    @property
    def owned(self) -> set[int]:
        """The partitions this member has."""
        return {p["partition"] for p in self.document["partitions"]}

    def partition(self, number: int) -> dict[str, Any]:
        """One partition's entry."""
        (found,) = (p for p in self.document["partitions"] if p["partition"] == number)
        entry: dict[str, Any] = found
        return entry

    def destination(self, event_source_id: str) -> dict[str, Any]:
        """One destination's entry."""
        (found,) = (
            d for d in self.document["destinations"] if d["event_source_id"] == event_source_id
        )
        entry: dict[str, Any] = found
        return entry


class ConsumerProcess:
    """A consumer at work in a directory of its own; ended, if need be killed, with its block.

    Args:
        folder: the working directory: holds configuration, log and, by default, the state.
        config: the configuration file's content; the admin server gets a free port.
        environ: variables over those of this process, which passes none of its own OpenTelemetry
            or TikTok settings on.
    """

    def __init__(
        self, folder: Path, config: Mapping[str, Any], environ: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        number = len(list(folder.glob("*.log")))
        self.log_file = folder / f"consumer-{number}.log"
        file = folder / "tiktok-events.yaml"
        file.write_text(
            yaml.safe_dump({**config, "admin": {**config.get("admin", {}), "port": 0}}),
            encoding="utf-8",
        )
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [COMMAND, "run", "-c", file],
                cwd=folder,
                env={**kept, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._port: int | None = None
        self._ended: Ended | None = None

    def __repr__(self) -> str:
        return f"<ConsumerProcess {self._process.pid} in {self.folder} {self._ended or 'runs'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.poll() is None:
            self.kill()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def listens(self) -> bool:
        """Whether its admin server has begun to listen; it takes signals since before that."""
        try:
            return bool(self._find_port())
        except ConnectionRefusedError:
            return False

    # What it says

    def wait_until_ready(self, seconds: float = _START_SECONDS) -> Self:
        """Returns when `/readyz` says so."""
        self.until(lambda: self._get("/readyz")[0] == http.HTTPStatus.OK, "ready", seconds)
        return self

    def status(self) -> Status:
        """What `/status` shows now."""
        return Status(json.loads(self.read("/status")))

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of `/metrics`, by its name and labels."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.read("/metrics").decode())
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        wanted = labels.items()
        return sum(v for (n, found), v in self.metrics().items() if n == name and wanted <= found)

    def read(self, path: str) -> bytes:
        """The body of a page of the admin server."""
        status, body = self._get(path)
        assert status == http.HTTPStatus.OK, f"{path} answers {status}: {body!r}"
        return body

    def peak_rss_bytes(self) -> int:
        """The most memory it has had so far.

        Linux tells; the usage that `wait` returns would count the test's own from before `exec`.
        """
        status = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        return int(kilobytes) * 1024

    def log_lines(self) -> list[dict[str, Any]]:
        """The log so far, line by line; a line that is no JSON fails the test."""
        return [json.loads(line) for line in self.log_file.read_text("utf-8").splitlines()]

    def until(
        self, condition: Callable[[], bool], what: str, seconds: float = _START_SECONDS
    ) -> None:
        """Waits for a condition while the process runs; says what was not reached and why."""
        deadline = time.monotonic() + seconds
        while True:
            assert self.poll() is None, f"{self} before it was {what}:\n{self.log_end()}"
            try:
                if condition():
                    return
            except (ConnectionError, http.client.HTTPException):
                pass
            assert time.monotonic() < deadline, f"not {what} in {seconds} s\n{self._evidence()}"
            time.sleep(_LOOK_SECONDS)

    def until_status(
        self, condition: Callable[[Status], bool], what: str, seconds: float = _START_SECONDS
    ) -> Status:
        """Waits until `/status` meets a condition; returns the status that did."""
        met: list[Status] = []

        def look() -> bool:
            status = self.status()
            if condition(status):
                met.append(status)
            return bool(met)

        self.until(look, what, seconds)
        return met[0]

    def until_settled(self, number: int, seconds: float = 60.0) -> Status:
        """Waits until this process has settled so many records; returns the status then."""
        return self.until_status(lambda s: s.settled >= number, f"done with {number}", seconds)

    # How it ends

    def poll(self) -> Ended | None:
        """How it ended; None while it runs."""
        return self._reap(os.WNOHANG)

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def kill(self) -> Ended:
        """Ends it as `kill -9` does."""
        self.signal(signal.SIGKILL)
        ended = self._reap(0)
        assert ended is not None
        return ended

    def terminate(self, seconds: float = _STOP_SECONDS) -> Ended:
        """Asks it to stop and waits for that."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds: float = _STOP_SECONDS) -> Ended:
        """Waits until it has ended by itself."""
        deadline = time.monotonic() + seconds
        while (ended := self.poll()) is None:
            assert time.monotonic() < deadline, f"still runs after {seconds} s\n{self._evidence()}"
            time.sleep(_LOOK_SECONDS)
        return ended

    def _reap(self, options: int) -> Ended | None:
        if self._ended is None:
            pid, status, usage = os.wait4(self._process.pid, options)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self._ended = Ended(
                    self._process.returncode,
                    usage.ru_utime + usage.ru_stime,
                )
        return self._ended

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._find_port(), timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _find_port(self) -> int:
        """The port that was taken, out of the log; the last line may be half written."""
        if self._port is None:
            for line in self.log_file.read_text("utf-8").split("\n")[:-1]:
                if '"admin server listens"' in line:
                    self._port = int(json.loads(line)["port"])
        if self._port is None:
            raise ConnectionRefusedError("the admin server does not listen yet")
        return self._port

    def _evidence(self) -> str:
        try:
            status = json.dumps(self.status().document, indent=1)
        except (ConnectionError, http.client.HTTPException) as error:
            status = repr(error)
        return f"{status}\n{self.log_end()}"

    def log_end(self) -> str:
        """The latest lines of its log."""
        return "\n".join(self.log_file.read_text("utf-8", "replace").splitlines()[-20:])
