"""A real schema registry for the tests: the one given, else Apicurio Registry with local Java.

`SCHEMA_REGISTRY_URL` if set; else Apicurio Registry, from Maven Central, in memory, with its
Confluent-compatible API. A missing registry fails the run.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

VERSION = "3.0.9"
_ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "apicurio" / VERSION
_JAR = f"apicurio-registry-app-{VERSION}-runner.jar"
_API = "/apis/ccompat/v7"
_START_TIMEOUT = 60.0
_TIMEOUT = 20.0


class RealRegistry:
    """A registry that runs, and what tests ask of it. `url` is the root of Confluent's API."""

    def __init__(
        self, url: str, description: str, process: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self.description = description
        self._process = process

    def __repr__(self) -> str:
        return f"<RealRegistry {self.description}>"

    def register(
        self, subject: str, schema: str, references: Sequence[Mapping[str, Any]] = ()
    ) -> int:
        """Adds an Avro schema to a subject; returns its id.

        `references` are Confluent's: `name`, `subject` and `version` of each.
        """
        body = {"schema": schema, "schemaType": "AVRO", "references": list(references)}
        request = urllib.request.Request(  # noqa: S310  an address of this machine or the user's
            f"{self.url}/subjects/{quote(subject, safe='')}/versions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
        )
        with _OPENER.open(request, timeout=_TIMEOUT) as response:
            return int(json.load(response)["id"])

    def stop(self) -> None:
        """Ends a registry that was started here."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def start() -> RealRegistry:
    """Starts or finds a registry.

    Raises:
        RuntimeError: there is none to be had; the text says what is missing.
    """
    if url := os.environ.get("SCHEMA_REGISTRY_URL"):
        registry = RealRegistry(url, f"the given schema registry at {url}")
        _wait_until_it_answers(registry.url, None)
        return registry
    return _start_apicurio()


@contextmanager
def real_registry() -> Iterator[RealRegistry]:
    """A registry for the length of a context."""
    registry = start()
    try:
        yield registry
    finally:
        registry.stop()


def choice() -> str:
    """Which registry `start` is going to use."""
    if url := os.environ.get("SCHEMA_REGISTRY_URL"):
        return f"given, {url}"
    return f"Apicurio Registry {VERSION} from Maven Central, with this machine's Java"


# A proxy in the environment is for the world outside.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _start_apicurio() -> RealRegistry:
    java = shutil.which("java")
    if java is None:
        raise RuntimeError("no java: install Java 17, or set SCHEMA_REGISTRY_URL")
    home = _unpacked()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tempfile.TemporaryFile()  # noqa: SIM115  belongs to the process, gone when that ends
    process = subprocess.Popen(
        [
            java,
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dquarkus.http.host=127.0.0.1",
            f"-Dquarkus.http.port={port}",
            "-Dquarkus.http.access-log.enabled=false",
            "-Dquarkus.log.level=WARN",
            "-jar",
            str(home / _JAR),
        ],
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    url = f"http://127.0.0.1:{port}{_API}"
    registry = RealRegistry(url, f"Apicurio Registry {VERSION} on port {port}", process)
    try:
        _wait_until_it_answers(url, process)
    except BaseException as error:
        registry.stop()
        log.seek(0)
        text = log.read()[-2000:].decode(errors="replace")
        raise RuntimeError(f"Apicurio Registry did not start:\n{text}") from error
    finally:
        log.close()
    return registry


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes] | None) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        try:
            with _OPENER.open(f"{url}/subjects", timeout=_TIMEOUT):
                return
        except urllib.error.HTTPError as error:
            with error:
                status = error.code
            if status in (401, 403):
                return
        except OSError:
            pass
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"no schema registry answers at {url} after {_START_TIMEOUT:g} s")
        time.sleep(0.1)


def _unpacked() -> Path:
    """The registry's directory; fetched and unpacked when it is not there yet."""
    home = _CACHE / "app"
    if home.exists():
        return home
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs may start at once
        if not home.exists():
            # `copy` alone would ask for the parent POM, which is not published.
            _maven("get", "-Dtransitive=false")
            _maven("copy", f"-DoutputDirectory={_CACHE}")
            archive = next(_CACHE.glob("*.tar.gz"))
            fresh = _CACHE / "unpacking"
            shutil.rmtree(fresh, ignore_errors=True)
            with tarfile.open(archive) as tar:
                tar.extractall(fresh, filter="data")
            archive.unlink()
            fresh.rename(home)
    return home


def _maven(goal: str, *arguments: str) -> None:
    if shutil.which("mvn") is None:
        raise RuntimeError("no mvn: install Maven, or set SCHEMA_REGISTRY_URL")
    done = subprocess.run(
        ["mvn", "-q", "-B", f"dependency:{goal}", f"-Dartifact={_ARTIFACT}", *arguments],
        cwd=_CACHE,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        raise RuntimeError(f"Maven could not fetch {_ARTIFACT}:\n{done.stdout[-2000:]}")
