"""The schema registry: schemas by id over HTTP, by Confluent's API, and what else it may say.

The difference that matters is between a registry that says "there is no such schema" and anything
that merely fails to answer: only the former may make a dead letter in the end. So it takes the
registry's own error code in JSON; a proxy's 404 page is no answer.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import orjson
from yarl import URL

from consumer import __version__
from consumer.messages import (
    RegistryUnavailable,
    SchemaAnswer,
    SchemaFound,
    SchemaNotAvro,
    SchemaNotFound,
)
from consumer.outbound import describe, proxy_for, read_at_most

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping

Answer = TypeVar("Answer")

SCHEMA_NOT_FOUND = 40403
"""Confluent's error code, which other registries give too."""

NO_SCHEMA_YET = frozenset({40401, 40402})
"""Confluent's error codes for a subject that is not there, or has no version."""

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
"""The media type of Confluent's API."""

ANSWER_BYTES = 8 * 1024 * 1024
"""Read of an answer at most."""

MOST_REFERENCES = 256
"""Schemas that one schema may refer to, directly and through others."""

_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT = 200, 401, 403, 404, 409
_REDIRECTS = range(300, 400)
_IDS = range(2**32)
"""Confluent's wire format has four bytes for an id."""


@dataclass(frozen=True, slots=True)
class BasicAuth:
    """A user name and password."""

    username: str
    password: str = field(repr=False)

    def header(self) -> str:
        """The `Authorization` header."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


@dataclass(frozen=True, slots=True)
class BearerAuth:
    """A bearer token."""

    token: str = field(repr=False)

    def header(self) -> str:
        """The `Authorization` header."""
        return f"Bearer {self.token}"


class _Unavailable(Exception):  # noqa: N818  an answer on its way up, never seen outside
    """Nothing usable was said; the text tells what happened."""


class _Refused(Exception):  # noqa: N818  as above
    """The registry itself says in JSON that what was asked for is not there."""

    def __init__(self, error_code: int, detail: str) -> None:
        super().__init__(detail)
        self.error_code = error_code


class _NotAvro(Exception):  # noqa: N818  as above
    """What was found cannot be used as an Avro schema; the text says why."""


class Registry:
    """A client of one registry. To be built on the running event loop.

    Args:
        urls: the registry's address; several with commas are one registry's nodes, of which the
            next one is asked when one does not answer.
        auth: how to sign in.
        ssl_context: which authorities to trust; None means the system's.
        timeout: seconds for one request.

    Raises:
        StartError: the environment names a proxy that cannot be used.
    """

    def __init__(
        self,
        urls: str,
        auth: BasicAuth | BearerAuth | None,
        ssl_context: ssl.SSLContext | None,
        timeout: float,
    ) -> None:
        self._nodes = [url.strip().rstrip("/") for url in urls.split(",") if url.strip()]
        self._proxies = {node: proxy_for(node) for node in self._nodes}
        self._preferred = 0
        self._timeout = timeout
        headers = {
            "Accept": f"{CONTENT_TYPE}, application/json",
            "User-Agent": f"tiktok-events/{__version__}",
        }
        if auth is not None:
            headers["Authorization"] = auth.header()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=4, ssl=ssl_context or True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            headers=headers,
        )

    def __repr__(self) -> str:
        return f"<Registry {', '.join(map(_place, self._nodes))}>"

    async def fetch(self, schema_id: int) -> SchemaAnswer:
        """Asks once for a schema, with the schemas it refers to; never raises.

        Nodes are asked in turn until one answers, beginning with the last one that did.
        """
        return await self._in_turn(lambda node: self._fetch(node, schema_id))

    async def latest(self, subject: str) -> int | RegistryUnavailable | None:
        """Asks for the id of a subject's latest schema, None where it has none; never raises."""
        return await self._in_turn(lambda node: self._latest(node, subject))

    async def register(self, subject: str, schema: str) -> int | RegistryUnavailable:
        """Adds an Avro schema to a subject; its id, or why it was not taken. Never raises.

        A schema that the subject has already keeps its id; that takes no right to register.
        """
        return await self._in_turn(lambda node: self._register(node, subject, schema))

    async def ping(self) -> RegistryUnavailable | None:
        """Whether some node answers and lets us in: None, or what is wrong; never raises."""
        problems = []
        for node in self._nodes:
            try:
                await self._get(node, "/subjects?limit=1")
            except (_Unavailable, _Refused) as error:
                problems.append(str(error))
            else:
                return None
        return RegistryUnavailable("; ".join(problems))

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()

    async def _in_turn(
        self, ask: Callable[[str], Awaitable[Answer]]
    ) -> Answer | RegistryUnavailable:
        """The first node's answer; nodes that have none are skipped."""
        problems = []
        for number in range(len(self._nodes)):
            index = (self._preferred + number) % len(self._nodes)
            try:
                answer = await ask(self._nodes[index])
            except _Unavailable as error:
                problems.append(str(error))
                continue
            self._preferred = index
            return answer
        return RegistryUnavailable("; ".join(problems))

    async def _latest(self, node: str, subject: str) -> int | None:
        try:
            document = await self._get(node, f"/subjects/{quote(subject, safe='')}/versions/latest")
        except _Refused as error:
            if error.error_code in NO_SCHEMA_YET:
                return None
            raise _Unavailable(str(error)) from None
        return _id(node, document)

    async def _register(self, node: str, subject: str, schema: str) -> int:
        path, body = f"/subjects/{quote(subject, safe='')}", {"schema": schema}
        try:
            document = await self._ask(node, "POST", path, body)
        except (_Refused, _Unavailable):  # not there, or not told: then registering tells
            try:
                document = await self._ask(node, "POST", f"{path}/versions", body)
            except _Refused as error:
                raise _Unavailable(str(error)) from None
        return _id(node, document)

    async def _fetch(self, node: str, schema_id: int) -> SchemaAnswer:
        try:
            document = await self._get(node, f"/schemas/ids/{schema_id}")
        except _Refused as error:
            if error.error_code == SCHEMA_NOT_FOUND:
                return SchemaNotFound()
            raise _Unavailable(str(error)) from None
        try:
            schemas: list[str] = []
            await self._collect(node, document, set(), schemas)
        except _NotAvro as error:
            return SchemaNotAvro(str(error))
        except _Refused as error:
            # The schema is there and one that it refers to is not, which can be mended.
            raise _Unavailable(f"a schema that {schema_id} refers to is missing: {error}") from None
        return SchemaFound(tuple(schemas))

    async def _collect(
        self, node: str, document: Any, seen: set[tuple[str, int]], schemas: list[str]
    ) -> None:
        """Adds a schema to `schemas`, those it refers to before it, each of them once."""
        schema, references = _read(node, document)
        for subject, version in references:
            if (subject, version) in seen:
                continue
            seen.add((subject, version))
            if len(seen) > MOST_REFERENCES:
                raise _NotAvro(f"refers to more than {MOST_REFERENCES} other schemas")
            path = f"/subjects/{quote(subject, safe='')}/versions/{version}"
            await self._collect(node, await self._get(node, path), seen, schemas)
        schemas.append(schema)

    async def _get(self, node: str, path: str) -> Any:
        return await self._ask(node, "GET", path)

    async def _ask(self, node: str, method: str, path: str, body: object = None) -> Any:
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._session.request(
                    method,
                    URL(node + path, encoded=True),
                    data=None if body is None else orjson.dumps(body),
                    headers=None if body is None else {"Content-Type": CONTENT_TYPE},
                    proxy=self._proxies[node],
                    allow_redirects=False,
                ) as response,
            ):
                body = await read_at_most(response, ANSWER_BYTES)
                return _judge(_place(node), response.status, response.headers, body)
        except (_Unavailable, _Refused):
            raise
        except TimeoutError:
            raise _Unavailable(f"{_place(node)}: no answer within {self._timeout:g} s") from None
        except Exception as error:  # noqa: BLE001  whatever breaks, the registry said nothing
            raise _Unavailable(f"{_place(node)}: {describe(error)}") from None


def _judge(place: str, status: int, headers: Mapping[str, str], body: bytes) -> Any:
    """The JSON of a good answer; raises what any other answer means."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    if status == _OK:
        if document is None:
            raise _Unavailable(f"{place}: HTTP 200 without JSON, is this a schema registry?")
        return document
    code = document.get("error_code") if isinstance(document, dict) else None
    if status == _NOT_FOUND and type(code) is int and code > _NOT_FOUND:
        raise _Refused(code, f"{place}: HTTP 404, error code {code}")
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        raise _Unavailable(f"{place}: HTTP {status}, check schema.registry_auth")
    if status == _NOT_FOUND:
        raise _Unavailable(f"{place}: HTTP 404 not from a registry, check schema.registry_url")
    if status == _CONFLICT:
        raise _Unavailable(f"{place}: HTTP 409, it is not compatible with the subject's others")
    if status in _REDIRECTS:
        to = _place(headers.get("Location", ""))
        raise _Unavailable(f"{place}: HTTP {status} to {to}, correct schema.registry_url")
    raise _Unavailable(f"{place}: HTTP {status}")


def _read(node: str, document: Any) -> tuple[str, list[tuple[str, int]]]:
    """A schema's text and the (subject, version) of each schema that it refers to."""
    try:
        language = document.get("schemaType") or "AVRO"
        if language != "AVRO":
            raise _NotAvro(f"is {str(language)[:32]}, not Avro")
        schema = document["schema"]
        references = [(r["subject"], r["version"]) for r in document.get("references") or ()]
    except (AttributeError, KeyError, TypeError):
        raise _Unavailable(f"{_place(node)}: an answer that is no schema") from None
    names = itertools.chain([schema], (subject for subject, _ in references))
    if not all(isinstance(name, str) for name in names) or not all(
        type(version) is int for _, version in references
    ):
        raise _Unavailable(f"{_place(node)}: an answer that is no schema")
    return schema, references


def _id(node: str, document: Any) -> int:
    found = document.get("id") if isinstance(document, dict) else None
    if type(found) is not int or found not in _IDS:
        raise _Unavailable(f"{_place(node)}: an answer without an id")
    return found


def _place(url: str) -> str:
    """Host and port of an address: the rest may hold a password."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an unreadable address"
    return f"{parts.hostname or 'nowhere'}{port}"
