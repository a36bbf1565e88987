"""What the registry's client makes of answers that no sound registry gives, word by word."""

from __future__ import annotations

import itertools
import json

import pytest
from aiohttp import web

from consumer.messages import RegistryUnavailable, SchemaFound, SchemaNotAvro
from consumer.registry import MOST_REFERENCES
from consumer.schemas import load_schema
from tests.support.registry_clients import client, reference, stub

EVENT = json.dumps(load_schema("conversion_event"))


async def test_a_schema_that_may_not_be_registered_says_so() -> None:
    """What is missing is a right: nothing tells that the schema is there."""

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"error_code": 40301}, status=403)

    async with stub(answer) as url, client(url) as registry:
        told = await registry.register("receipts-value", EVENT)
    assert isinstance(told, RegistryUnavailable)
    assert "HTTP 403, check schema.registry_auth" in told.detail


async def test_a_schema_that_the_subject_cannot_take_says_so() -> None:
    """Its others were made by somebody else."""

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/versions"):
            return web.json_response({"error_code": 409}, status=409)
        return web.json_response({"error_code": 40403}, status=404)

    async with stub(answer) as url, client(url) as registry:
        told = await registry.register("receipts-value", EVENT)
    assert isinstance(told, RegistryUnavailable)
    assert "HTTP 409, it is not compatible" in told.detail


@pytest.mark.parametrize("schema_id", [-1, 2**32, "7", True, None, 7.0])
async def test_an_id_that_no_record_can_carry_is_none(schema_id: object) -> None:
    """Four bytes stand for it in Confluent's wire format."""

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"id": schema_id})

    async with stub(answer) as url, client(url) as registry:
        for told in (await registry.register("a", EVENT), await registry.latest("a")):
            assert isinstance(told, RegistryUnavailable)
            assert told.detail.endswith("an answer without an id")


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (404, {"error_code": 404, "message": "HTTP 404 Not Found"}),
        (404, {"error_code": 40401, "message": "Subject not found"}),
        (404, {"error_code": "40403"}),
        (404, ["40403"]),
        (200, {}),
        (200, {"schema": None}),
        (200, ["string"]),
        (200, "string"),
        (200, {"schema": "{}", "references": [{"subject": 1, "version": 1}]}),
        (200, {"schema": "{}", "references": [{"subject": "a", "version": "1"}]}),
        (200, {"schema": "{}", "references": "a"}),
        (500, {"error_code": 40403}),
        (401, {"error_code": 40403}),
    ],
)
async def test_only_the_registrys_own_words_make_a_schema_unknown(
    status: int, document: object
) -> None:
    """Anything but a 404 with Confluent's code for an unknown schema leaves it open."""

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(document, status=status)

    async with stub(answer) as url, client(url) as registry:
        assert isinstance(await registry.fetch(1), RegistryUnavailable)


async def test_a_redirect_is_not_followed_and_tells_where_it_leads() -> None:
    """Credentials go to the configured address only."""

    async def answer(_request: web.Request) -> web.Response:
        raise web.HTTPMovedPermanently("https://user:pw@elsewhere.example.com/x")

    async with stub(answer) as url, client(url) as registry:
        told = await registry.fetch(1)
    assert isinstance(told, RegistryUnavailable)
    assert told.detail.endswith("HTTP 301 to elsewhere.example.com, correct schema.registry_url")


@pytest.mark.parametrize("language", ["PROTOBUF", "JSON"])
async def test_a_schema_in_another_language_is_told_apart(language: str) -> None:
    """A record with such an id can never be read, however long one waits."""

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"schema": "message A {}", "schemaType": language})

    async with stub(answer) as url, client(url) as registry:
        assert await registry.fetch(1) == SchemaNotAvro(f"is {language}, not Avro")


async def test_references_in_a_circle_end() -> None:
    """Each subject and version is asked for once, whoever refers to it."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        name = request.path.split("/")[2] if "subjects" in request.path else "root"
        other = {"a": "b"}.get(name, "a")
        return web.json_response({"schema": name, "references": [reference(other, other)]})

    async with stub(answer) as url, client(url) as registry:
        found = await registry.fetch(1)
    assert found == SchemaFound(("b", "a", "root"))
    assert asked == ["/schemas/ids/1", "/subjects/a/versions/1", "/subjects/b/versions/1"]


async def test_references_without_end_are_given_up() -> None:
    """One schema cannot keep the client busy for ever, nor make everybody wait."""
    asked = itertools.count(1)

    async def answer(_request: web.Request) -> web.Response:
        number = next(asked)
        return web.json_response({"schema": "x", "references": [reference("n", f"next-{number}")]})

    async with stub(answer) as url, client(url) as registry:
        told = await registry.fetch(1)
    assert told == SchemaNotAvro(f"refers to more than {MOST_REFERENCES} other schemas")
    assert next(asked) == MOST_REFERENCES + 2


async def test_a_reference_that_leads_nowhere_is_waited_for() -> None:
    """The schema is there and what it needs can be registered again: no dead letter."""

    async def answer(request: web.Request) -> web.Response:
        if "subjects" in request.path:
            return web.json_response({"error_code": 40402, "message": "no version"}, status=404)
        return web.json_response({"schema": "x", "references": [reference("n", "gone")]})

    async with stub(answer) as url, client(url) as registry:
        told = await registry.fetch(7)
    assert isinstance(told, RegistryUnavailable)
    assert told.detail.startswith("a schema that 7 refers to is missing")
