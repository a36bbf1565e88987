"""The sandbox's schema registry speaks the part of Confluent's API that it claims to."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest

from consumer.sandbox.registry import (
    Reference,
    RegistryLogin,
    RunningRegistry,
    serve,
)
from consumer.schemas import load_schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SCHEMA = json.dumps(load_schema("conversion_event"))
STRING = '"string"'
JSON_TYPE = "application/vnd.schemaregistry.v1+json"


@pytest.fixture
async def registry() -> AsyncIterator[RunningRegistry]:
    async with serve() as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as opened:
        yield opened


async def test_a_registered_schema_is_found_by_its_id(
    registry: RunningRegistry, session: aiohttp.ClientSession
) -> None:
    """What was posted comes back unchanged, as Confluent's client expects it."""
    url = f"{registry.url}/subjects/conversions-value/versions"
    async with session.post(url, json={"schema": SCHEMA}) as response:
        assert response.status == 200
        schema_id = (await response.json(content_type=JSON_TYPE))["id"]
    async with session.get(f"{registry.url}/schemas/ids/{schema_id}") as response:
        assert response.content_type == JSON_TYPE
        assert await response.json(content_type=JSON_TYPE) == {"schema": SCHEMA}
    async with session.get(f"{registry.url}/subjects") as response:
        assert await response.json(content_type=JSON_TYPE) == ["conversions-value"]


async def test_the_latest_version_is_the_last_one_registered(
    registry: RunningRegistry, session: aiohttp.ClientSession
) -> None:
    """Versions count within the subject; ids count over all."""
    registry.register("other", '"int"')
    registry.register("conversions-value", STRING)
    schema_id = registry.register("conversions-value", SCHEMA)
    url = f"{registry.url}/subjects/conversions-value/versions/latest"
    async with session.get(url) as response:
        assert await response.json(content_type=JSON_TYPE) == {
            "subject": "conversions-value",
            "version": 2,
            "id": schema_id,
            "schema": SCHEMA,
        }


async def test_the_same_schema_keeps_its_id(registry: RunningRegistry) -> None:
    """Registering twice makes neither a second id nor a second version."""
    first = registry.register("a", SCHEMA)
    assert registry.register("a", SCHEMA) == first
    assert registry.register("b", SCHEMA) == first
    assert registry.register("b", STRING) != first
    assert list(registry.schemas.versions("a")) == [first]


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("/schemas/ids/4711", 40403, "Schema not found"),
        ("/subjects/nobody/versions/latest", 40401, "Subject 'nobody' not found."),
        ("/schemas/ids/x", 404, "HTTP 404 Not Found"),
    ],
)
async def test_what_is_not_there_has_confluents_error_code(
    registry: RunningRegistry,
    session: aiohttp.ClientSession,
    path: str,
    code: int,
    message: str,
) -> None:
    """A client must be able to tell an unknown schema from a wrong address."""
    async with session.get(registry.url + path) as response:
        assert response.status == 404
        answer = await response.json(content_type=JSON_TYPE)
    assert answer == {"error_code": code, "message": message}


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"schema": '{"type": "recrd"}'}, 42201),
        ({"schema": "{"}, 42201),
        ({"schema": "{}", "schemaType": "JSON"}, 42201),
        ({"schema": SCHEMA, "references": [{"name": "x", "subject": "x", "version": 1}]}, 42201),
        ({}, 422),
        ([], 422),
    ],
)
async def test_what_is_no_schema_is_not_registered(
    registry: RunningRegistry, session: aiohttp.ClientSession, document: object, code: int
) -> None:
    """HTTP 422 with a code; nothing is kept."""
    async with session.post(f"{registry.url}/subjects/s/versions", json=document) as response:
        assert response.status == 422
        assert (await response.json(content_type=JSON_TYPE))["error_code"] == code
    assert registry.schemas.subjects() == []


async def test_references_are_given_back_with_the_schema(
    registry: RunningRegistry, session: aiohttp.ClientSession
) -> None:
    """A schema may name another subject's; a client follows the reference by itself."""
    page = {"type": "record", "name": "Page", "fields": [{"name": "url", "type": "string"}]}
    event = {"type": "record", "name": "Event", "fields": [{"name": "page", "type": "Page"}]}
    registry.register("page", json.dumps(page))
    reference = Reference("Page", "page", 1)
    schema_id = registry.register("event", json.dumps(event), [reference])
    async with session.get(f"{registry.url}/schemas/ids/{schema_id}") as response:
        answer = await response.json(content_type=JSON_TYPE)
    assert answer["references"] == [{"name": "Page", "subject": "page", "version": 1}]


@pytest.mark.parametrize(
    ("login", "header"),
    [
        (
            RegistryLogin(username="reader", password="made-up"),
            "Basic " + base64.b64encode(b"reader:made-up").decode(),
        ),
        (RegistryLogin(token="made-up"), "Bearer made-up"),
    ],
)
async def test_a_login_is_demanded_where_one_is_set(
    session: aiohttp.ClientSession, login: RegistryLogin, header: str
) -> None:
    """Basic and bearer: the right header opens, none and a wrong one do not."""
    async with serve(login) as registry:
        statuses = []
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": header}):
            async with session.get(f"{registry.url}/subjects", headers=headers) as response:
                statuses.append(response.status)
    assert statuses == [401, 401, 200]
    assert "made-up" not in repr(login)


async def test_a_registry_that_is_down_refuses_connections_and_comes_back(
    registry: RunningRegistry,
) -> None:
    """Down means nobody listens, open connections included; up is the same address again."""
    schema_id = registry.register("s", SCHEMA)
    url = f"{registry.url}/schemas/ids/{schema_id}"
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            assert response.status == 200
        await registry.down()
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(url)
        await registry.up()
        async with session.get(url) as response:
            assert response.status == 200


async def test_trouble_comes_and_goes(
    registry: RunningRegistry, session: aiohttp.ClientSession
) -> None:
    """A gateway's page and slowness strike every request until they are taken back."""
    registry.trouble.status = 503
    async with session.get(f"{registry.url}/subjects") as response:
        assert (response.status, response.content_type) == (503, "text/html")
    registry.trouble.status, registry.trouble.delay = None, 30.0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await session.get(f"{registry.url}/subjects")
    registry.trouble.delay = 0.0
    async with session.get(f"{registry.url}/subjects") as response:
        assert response.status == 200
    assert registry.requests == ["/subjects"] * 3
