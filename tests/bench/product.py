"""The product: the installed command `tiktok-events run`, in one way of tracing after another."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from tests.bench.data import PIXEL
from tests.bench.process import MeasuredProcess
from tests.bench.servers import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_COMMAND = Path(sys.executable).parent / "tiktok-events"
_CONFIG = "tiktok-events.yaml"
_TOKEN = "TIKTOK_ACCESS_TOKEN"
_START_SECONDS = 60.0
_START_LOOK_SECONDS = 0.1
_LOOK_SECONDS = 0.5
"""A look at `/status` costs the measured process something: not too often."""


class Tracing(NamedTuple):
    """A way of tracing, as OpenTelemetry's variables beside the receiver's address."""

    name: str
    exports: bool
    environ: Mapping[str, str]

    def variables(self, receiver: str) -> dict[str, str]:
        """The environment of a process that traces like this."""
        address = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver} if self.exports else {}
        return {**address, **self.environ}


SAMPLED = Tracing(
    "traces sampled at 1 %",
    exports=True,
    environ={"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
)
TRACED = Tracing("every event traced", exports=True, environ={})
OFF = Tracing("traces off", exports=False, environ={})


class Surroundings(NamedTuple):
    """Where everything is that the product talks to."""

    bootstrap_servers: str
    topic: str
    tiktok: Mapping[str, str]
    receiver: Mapping[str, str]


def product(
    folder: Path,
    around: Surroundings,
    tracing: Tracing,
    cores: frozenset[int],
    command: Sequence[str] = (str(_COMMAND), "run", "-c"),
) -> Product:
    """Starts the product in a folder of its own; `command` is given the configuration's name."""
    folder.mkdir()
    config = {
        "kafka": {
            "bootstrap_servers": around.bootstrap_servers,
            "group_id": f"bench-{folder.name}",
            "topics": [around.topic],
        },
        "schema": {"registry_url": around.tiktok["registry"]},
        "destinations": [{"event_source_id": PIXEL, "access_token": {"env": _TOKEN}}],
        "tiktok": {"endpoint": around.tiktok["endpoint"]},
        "limits": {"requests_per_second": 1000, "max_concurrency": 32},
        "admin": {"port": 0},
    }
    (folder / _CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
    environ = {_TOKEN: "any", **tracing.variables(around.receiver["endpoint"])}
    return Product([*command, _CONFIG], folder, cores, environ)


class Product(MeasuredProcess):
    """The product at work, asked by its admin server."""

    def until_it_reads(self, partitions: int) -> None:
        """Waits until it owns its partitions."""
        self._until(
            lambda: len(self._status()["partitions"]) == partitions,
            "had its partitions",
            _START_SECONDS,
            _START_LOOK_SECONDS,
        )

    def until_settled(self, records: int, seconds: float) -> dict[str, int]:
        """Waits until so many records have their outcome; the totals then."""

        def settled() -> bool:
            return sum(self._totals().values()) >= records

        self._until(settled, f"had settled {records} records", seconds, _LOOK_SECONDS)
        return self._totals()

    def _totals(self) -> dict[str, int]:
        """How many records had which outcome."""
        return {k: v for k, v in self._status()["totals"].items() if k != "consumed"}

    def _status(self) -> dict[str, Any]:
        return read_json(f"{self._admin()}/status")

    def _admin(self) -> str:
        for line in self.log_lines():
            if '"admin server listens"' in line:
                return f"http://127.0.0.1:{json.loads(line)['port']}"
        raise ConnectionRefusedError("the admin server does not listen yet")

    def _until(
        self, condition: Callable[[], bool], what: str, seconds: float, pause: float
    ) -> None:
        deadline = time.monotonic() + seconds
        while True:
            if not self.runs:
                raise self.failure(f"ended before it {what}")
            try:
                if condition():
                    return
            except OSError:
                pass  # not there yet
            self.look()
            if time.monotonic() > deadline:
                raise self.failure(f"has not {what} in {seconds:.0f} s")
            time.sleep(pause)
