"""The consumer as the demo runs it: the installed command, in a process of its own.

It is started with a configuration file, watched through its admin server, killed or stopped by
signals; nothing of it is reached in any other way. Its log goes to a file.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

_COMMAND = "tiktok-events"
_READY_SECONDS = 30.0
_STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.05
_ANSWER_SECONDS = 5.0
_SETTINGS = "TIKTOK_EVENTS_"


class ConsumerError(Exception):
    """The consumer could not be started, has ended by itself, or does not answer."""


class ConsumerProcess:
    """One life of the consumer: `start`, look, then `kill` or `stop`.

    Args:
        config_file: its configuration, with `admin.port: 0`.
        log_file: where its log goes.
        secrets: environment variables it is given beside our own.
    """

    def __init__(self, config_file: Path, log_file: Path, secrets: Mapping[str, str]) -> None:
        self._config_file = config_file
        self.log_file = log_file
        self._secrets = secrets
        self._process: asyncio.subprocess.Process | None = None
        self._http: aiohttp.ClientSession | None = None
        self.url = ""

    async def start(self) -> None:
        """Starts it and returns once its admin server listens.

        Raises:
            ConsumerError: it does not.
        """
        # What configures a consumer of the user's must not reach this one.
        environ = {k: v for k, v in os.environ.items() if not k.startswith(_SETTINGS)}
        with self.log_file.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                _installed_command(),
                "run",
                "-c",
                str(self._config_file),
                env=environ | dict(self._secrets),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C on the terminal is ours alone: we say when and how it ends.
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(_READY_SECONDS):
                while (port := self._admin_port()) is None:
                    self._check_alive()
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            raise ConsumerError(
                f"the consumer is not up after {_READY_SECONDS:.0f} s{self._last_words()}"
            ) from None
        self.url = f"http://127.0.0.1:{port}"
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_ANSWER_SECONDS))

    async def status(self) -> dict[str, Any]:
        """What `/status` says.

        Raises:
            ConsumerError: it has ended, or does not answer.
        """
        status: dict[str, Any] = orjson.loads(await self._get("/status"))
        return status

    async def metrics(self) -> str:
        """What `/metrics` says, as Prometheus text.

        Raises:
            ConsumerError: it has ended, or does not answer.
        """
        return (await self._get("/metrics")).decode()

    async def kill(self) -> int:
        """Ends it as a crash would (SIGKILL), where it still runs; the exit code."""
        return await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Asks it to end (SIGTERM) and waits; the exit code. One that does not end is killed."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        if self._http is not None:
            await self._http.close()
        process = self._process
        if process is None:
            return 0
        with suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                return await process.wait()
        except TimeoutError:
            process.kill()
            return await process.wait()

    async def _get(self, path: str) -> bytes:
        if self._http is None:
            raise ConsumerError("the consumer has not been started")
        self._check_alive()
        try:
            async with self._http.get(self.url + path) as response:
                response.raise_for_status()
                return await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._check_alive()
            raise ConsumerError(f"the consumer does not answer {path}: {error!r}") from error

    def _check_alive(self) -> None:
        code = None if self._process is None else self._process.returncode
        if code is not None:
            raise ConsumerError(f"the consumer ended with exit code {code}{self._last_words()}")

    def _admin_port(self) -> int | None:
        for line in self._log():
            if line.get("logger") == "consumer.admin" and "port" in line:
                return int(line["port"])
        return None

    def _last_words(self) -> str:
        messages = [str(line["message"]) for line in self._log() if "message" in line]
        return f"; its last words: {messages[-1]}" if messages else ""

    def _log(self) -> list[dict[str, Any]]:
        lines = []
        for text in self.log_file.read_bytes().splitlines():
            try:
                line = orjson.loads(text)
            except orjson.JSONDecodeError:  # a line half written, or one of Python's own
                line = {"message": text.decode("utf-8", "replace")}
            if isinstance(line, dict):
                lines.append(line)
        return lines


def _installed_command() -> str:
    """The console script beside this interpreter, else the one on the path.

    Raises:
        ConsumerError: it is nowhere.
    """
    beside = Path(sys.executable).with_name(_COMMAND)
    found = str(beside) if beside.exists() else shutil.which(_COMMAND)
    if found is None:
        raise ConsumerError(f"the command {_COMMAND} is not installed beside {sys.executable}")
    return found
