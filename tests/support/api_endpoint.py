"""The emulator as a client sees it: requests over one connection, answers as they come."""

from __future__ import annotations

import http.client
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import orjson

from consumer.sandbox.tiktok import Access, EmulatorSettings
from tests.support.api_examples import EVENT_SOURCE_ID
from tests.support.sandbox_threads import run_emulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.sandbox_threads import Emulator

TOKEN: Final = "made-up-token"
FOREIGN_TOKEN: Final = "of-another-app"
"""A token that TikTok knows, for another destination."""

HEADERS: Final = {"Access-Token": TOKEN, "Content-Type": "application/json"}


class Said(NamedTuple):
    """An answer over HTTP. `document` is the body's JSON, None for anything else."""

    status: int
    document: dict[str, Any] | None
    retry_after: str | None
    body: bytes


class Endpoint:
    """The emulator as a client sees it, on one connection."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._address = urlsplit(emulator.url)
        self._connection = http.client.HTTPConnection(self._address.netloc, timeout=10)

    def close(self) -> None:
        """Hangs up."""
        self._connection.close()

    def send(
        self,
        body: object,
        headers: Mapping[str, str] = HEADERS,
        *,
        method: str = "POST",
        path: str | None = None,
    ) -> Said:
        """Sends a body, bytes as they are and anything else as JSON."""
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        where = path or self._address.path
        self._connection.request(method, where, content, dict(headers))
        answer = self._connection.getresponse()
        said = answer.read()
        is_json = answer.headers.get_content_type() == "application/json"
        document = orjson.loads(said) if is_json else None
        return Said(answer.status, document, answer.headers["Retry-After"], said)

    def code(self, body: object, headers: Mapping[str, str] = HEADERS) -> int:
        """The code of an answer that came with HTTP 200."""
        said = self.send(body, headers)
        assert said.status == 200
        assert said.document is not None
        return int(said.document["code"])

    def refusal(self, body: object) -> str:
        """The message of a request that is refused for a bad parameter."""
        said = self.send(body)
        assert said.document is not None
        assert (said.status, said.document["code"]) == (200, 40002), said.document
        return str(said.document["message"])


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """An emulator that knows two tokens, for the length of the block."""
    tokens = {
        TOKEN: Access("app-1", frozenset({EVENT_SOURCE_ID})),
        FOREIGN_TOKEN: Access("app-2", frozenset({"C_OTHER"})),
    }
    with run_emulator(EmulatorSettings(tokens)) as emulator:
        opened = Endpoint(emulator)
        yield opened
        opened.close()
