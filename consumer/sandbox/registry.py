"""A schema registry over HTTP with the part of Confluent's API that a Kafka client needs.

`GET /schemas/ids/{id}` · `GET /subjects` · `POST /subjects/{subject}` ·
`POST /subjects/{subject}/versions` · `GET /subjects/{subject}/versions/latest`, with Confluent's
error codes, and Basic or bearer authentication on demand. It can be down, slow or answer with a
gateway's page.
"""

from __future__ import annotations

import asyncio
import base64
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from aiohttp import web
from fastavro.schema import SchemaParseException, UnknownType, parse_schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

SUBJECT_NOT_FOUND = 40401
SCHEMA_NOT_FOUND = 40403
INVALID_SCHEMA = 42201
UNAUTHORIZED = 40101

_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


class Reference(NamedTuple):
    """A schema that another one names: Confluent's `references`."""

    name: str
    subject: str
    version: int


class RegisteredSchema(NamedTuple):
    """A schema as the registry keeps it."""

    text: str
    references: tuple[Reference, ...] = ()


class InvalidSchema(ValueError):  # noqa: N818  named for what it says, as the error code is
    """What was to be registered is no Avro schema, or names one the registry lacks."""


class Schemas:
    """Schemas by id and subject. The same schema has the same id under every subject."""

    def __init__(self) -> None:
        self._by_id: dict[int, RegisteredSchema] = {}
        self._subjects: dict[str, list[int]] = {}

    def register(self, subject: str, text: str, references: Sequence[Reference] = ()) -> int:
        """Adds a version to a subject and returns the schema's id; a known one keeps its own.

        Raises:
            InvalidSchema: it is no Avro, or a reference leads nowhere.
        """
        schema = RegisteredSchema(text, tuple(references))
        self._parse(schema, {})
        known = next((n for n, held in self._by_id.items() if held == schema), None)
        schema_id = len(self._by_id) + 1 if known is None else known
        self._by_id[schema_id] = schema
        versions = self._subjects.setdefault(subject, [])
        if schema_id not in versions:
            versions.append(schema_id)
        return schema_id

    def by_id(self, schema_id: int) -> RegisteredSchema | None:
        """The schema of this id, if there is one."""
        return self._by_id.get(schema_id)

    def subjects(self) -> list[str]:
        """The names of all subjects, sorted."""
        return sorted(self._subjects)

    def versions(self, subject: str) -> Sequence[int]:
        """The ids of a subject's versions, oldest first; none for an unknown subject."""
        return self._subjects.get(subject, ())

    def _parse(self, schema: RegisteredSchema, named: dict[str, Any]) -> None:
        for reference in schema.references:
            versions = self.versions(reference.subject)
            if not 1 <= reference.version <= len(versions):
                raise InvalidSchema(f"no version {reference.version} of {reference.subject}")
            self._parse(self._by_id[versions[reference.version - 1]], named)
        try:
            parse_schema(orjson.loads(schema.text), named_schemas=named)
        except (orjson.JSONDecodeError, SchemaParseException, UnknownType) as error:
            raise InvalidSchema(f"not a valid Avro schema: {error}") from error


@dataclass(slots=True)
class Trouble:
    """What is wrong with the registry; may be changed while it runs.

    `status` answers every request with that HTTP status and a gateway's HTML page; `delay` is in
    seconds and comes before every answer.
    """

    status: int | None = None
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """What a client must show: a user name with a password, or a bearer token."""

    username: str | None = None
    password: str = field(default="", repr=False)
    token: str | None = field(default=None, repr=False)

    def header(self) -> str:
        """The `Authorization` header that opens the registry."""
        if self.token is not None:
            return f"Bearer {self.token}"
        pair = f"{self.username or ''}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


class RunningRegistry:
    """A registry at work: its address, its schemas, its trouble, and the paths it was asked for."""

    def __init__(self, host: str, port: int, login: RegistryLogin | None) -> None:
        self._host = host
        self._port = port
        self._login = login
        self._runner: web.AppRunner | None = None
        self.schemas = Schemas()
        self.trouble = Trouble()
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        """Where clients find it; the same after `down` and `up`."""
        return f"http://{self._host}:{self._port}"

    def register(self, subject: str, text: str, references: Sequence[Reference] = ()) -> int:
        """Registers a schema without the detour over HTTP; returns its id."""
        return self.schemas.register(subject, text, references)

    async def up(self) -> None:
        """Listens, again on its own port if it has been down."""
        front = _Front(self.schemas, self.trouble, self._login, self.requests)
        self._runner = web.AppRunner(
            front.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        self._port = self._runner.addresses[0][1]

    async def down(self) -> None:
        """Closes every connection and refuses new ones; the schemas stay. Twice does no harm."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()


@asynccontextmanager
async def serve(
    login: RegistryLogin | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[RunningRegistry]:
    """Runs a registry on this event loop for the length of the context; port 0 picks one.

    Raises:
        OSError: the address cannot be listened on.
    """
    running = RunningRegistry(host, port, login)
    try:
        await running.up()
        yield running
    finally:
        await running.down()


class _Front:
    """The HTTP side of `Schemas`."""

    def __init__(
        self, schemas: Schemas, trouble: Trouble, login: RegistryLogin | None, requests: list[str]
    ) -> None:
        self._schemas = schemas
        self._trouble = trouble
        self._expected = None if login is None else login.header()
        self._requests = requests

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._gate])
        router = application.router
        router.add_get("/schemas/ids/{id:[0-9]+}", self._schema)
        router.add_get("/subjects", self._subjects)
        router.add_post("/subjects/{subject}", self._find)
        router.add_post("/subjects/{subject}/versions", self._register)
        router.add_get("/subjects/{subject}/versions/latest", self._latest)
        router.add_route("*", "/{path:.*}", self._nothing)
        return application

    @property
    def _gate(self) -> Any:
        @web.middleware
        async def gate(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            self._requests.append(request.path)
            if self._trouble.delay:
                await asyncio.sleep(self._trouble.delay)
            if self._trouble.status is not None:
                page = f"<html><h1>{self._trouble.status}</h1></html>"
                return web.Response(
                    status=self._trouble.status, text=page, content_type="text/html"
                )
            shown = request.headers.get("Authorization")
            if self._expected is not None and shown != self._expected:
                return _error(401, UNAUTHORIZED, "Unauthorized")
            return await handler(request)

        return gate

    async def _schema(self, request: web.Request) -> web.StreamResponse:
        schema = self._schemas.by_id(int(request.match_info["id"]))
        if schema is None:
            return _error(404, SCHEMA_NOT_FOUND, "Schema not found")
        return _json(_document(schema))

    async def _subjects(self, _: web.Request) -> web.StreamResponse:
        return _json(self._schemas.subjects())

    async def _register(self, request: web.Request) -> web.StreamResponse:
        schema = await _given(request)
        if isinstance(schema, web.Response):
            return schema
        try:
            schema_id = self._schemas.register(request.match_info["subject"], *schema)
        except InvalidSchema as error:
            return _error(422, INVALID_SCHEMA, str(error))
        return _json({"id": schema_id})

    async def _find(self, request: web.Request) -> web.StreamResponse:
        schema = await _given(request)
        if isinstance(schema, web.Response):
            return schema
        subject = request.match_info["subject"]
        versions = self._schemas.versions(subject)
        if not versions:
            return _error(404, SUBJECT_NOT_FOUND, f"Subject '{subject}' not found.")
        for number, schema_id in enumerate(versions, 1):
            if self._schemas.by_id(schema_id) == schema:
                found = {"subject": subject, "version": number, "id": schema_id}
                return _json({**found, **_document(schema)})
        return _error(404, SCHEMA_NOT_FOUND, "Schema not found")

    async def _latest(self, request: web.Request) -> web.StreamResponse:
        subject = request.match_info["subject"]
        versions = self._schemas.versions(subject)
        schema = self._schemas.by_id(versions[-1]) if versions else None
        if schema is None:
            return _error(404, SUBJECT_NOT_FOUND, f"Subject '{subject}' not found.")
        return _json(
            {
                "subject": subject,
                "version": len(versions),
                "id": versions[-1],
                **_document(schema),
            }
        )

    async def _nothing(self, _: web.Request) -> web.StreamResponse:
        return _error(404, 404, "HTTP 404 Not Found")


async def _given(request: web.Request) -> RegisteredSchema | web.Response:
    """The schema in the request's body, or what is wrong with it."""
    try:
        document = orjson.loads(await request.read())
        references = tuple(
            Reference(r["name"], r["subject"], r["version"]) for r in document.get("references", ())
        )
        if document.get("schemaType", "AVRO") != "AVRO":
            return _error(422, INVALID_SCHEMA, "only Avro schemas are supported")
        return RegisteredSchema(document["schema"], references)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return _error(422, 422, "A JSON object with the key schema is expected")


def _document(schema: RegisteredSchema) -> Mapping[str, object]:
    """Confluent leaves `references` out where there are none."""
    references = [reference._asdict() for reference in schema.references]
    return {"schema": schema.text, **({"references": references} if references else {})}


def _json(document: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(document), content_type=_CONTENT_TYPE)


def _error(status: int, code: int, message: str) -> web.Response:
    return _json({"error_code": code, "message": message}, status)
