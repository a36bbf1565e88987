"""The registry client understands the sandbox's registry and a real one alike, and trouble."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from aiohttp import web

from consumer.messages import (
    RegistryUnavailable,
    SchemaFound,
    SchemaNotFound,
)
from consumer.registry import BasicAuth, BearerAuth, Registry
from consumer.sandbox.registry import RegistryLogin, RunningRegistry, serve
from consumer.schemas import load_schema
from tests.support.registry_clients import client, reference, stub
from tests.support.tls import client_context, server_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

EVENT = json.dumps(load_schema("conversion_event"))
NO_SUCH_ID = 987_654
_NUMBERS = itertools.count()


class Server(Protocol):
    """What these tests ask of a registry."""

    @property
    def url(self) -> str:
        """Its address."""

    def register(self, subject: str, text: str, /) -> int:
        """Adds a schema."""


def record(name: str, *fields: str) -> str:
    typed = [{"name": f"f{n}", "type": type_} for n, type_ in enumerate(fields)]
    return json.dumps({"type": "record", "name": name, "namespace": "shop", "fields": typed})


@pytest.fixture
async def sandbox() -> AsyncIterator[RunningRegistry]:
    async with serve() as running:
        yield running


@pytest.fixture(params=["sandbox", "real"])
def server(request: pytest.FixtureRequest, sandbox: RunningRegistry) -> Server:
    if request.param == "sandbox":
        return sandbox
    real: Server = request.getfixturevalue("registry")
    return real


async def test_a_registered_schema_is_found_by_its_id(server: Server) -> None:
    """The text comes back whole, alone where it refers to nothing."""
    schema_id = server.register(f"conversions-{next(_NUMBERS)}-value", EVENT)
    async with client(server.url) as registry:
        found = await registry.fetch(schema_id)
    assert isinstance(found, SchemaFound)
    assert [json.loads(text) for text in found.schemas] == [json.loads(EVENT)]


async def test_a_schema_is_registered_once(server: Server) -> None:
    """The first time adds it; the second finds it."""
    subject = f"receipts-{next(_NUMBERS)}-value"
    async with client(server.url) as registry:
        first = await registry.register(subject, EVENT)
        assert isinstance(first, int)
        assert await registry.register(subject, EVENT) == first
        assert await registry.latest(subject) == first
        assert isinstance(await registry.fetch(first), SchemaFound)


async def test_a_schema_that_is_there_takes_no_right_to_register(sandbox: RunningRegistry) -> None:
    """Somebody else may have added it: it is only looked for."""
    schema_id = sandbox.register("receipts-value", EVENT)
    async with client(sandbox.url) as registry:
        assert await registry.register("receipts-value", EVENT) == schema_id
    assert sandbox.requests == ["/subjects/receipts-value"]


async def test_an_id_that_the_registry_does_not_know_is_not_found(server: Server) -> None:
    """The registry says so itself: the one answer that may end in a dead letter."""
    async with client(server.url) as registry:
        assert await registry.fetch(NO_SUCH_ID) == SchemaNotFound()


async def test_a_ping_finds_a_registry_that_answers(server: Server) -> None:
    """Nothing is wrong, and nothing needs to be registered for that."""
    async with client(server.url) as registry:
        assert await registry.ping() is None


async def test_a_path_that_is_no_registry_is_unavailable(server: Server) -> None:
    """A wrong address must not look like a schema that does not exist."""
    async with client(f"{server.url}/nowhere") as registry:
        answer = await registry.fetch(NO_SUCH_ID)
        assert isinstance(answer, RegistryUnavailable)
        assert "check schema.registry_url" in answer.detail
        assert isinstance(await registry.ping(), RegistryUnavailable)


async def test_referenced_schemas_come_first_and_once(registry: Any) -> None:
    """Each schema stands after those it refers to, as a parser needs them."""
    n = next(_NUMBERS)
    money, item, order = (f"{name}-{n}/a b" for name in ("money", "item", "order"))
    registry.register(money, record("Money", "long"))
    registry.register(item, record("Item", "shop.Money"), [reference("shop.Money", money)])
    schema_id = registry.register(
        order,
        record("Order", "shop.Item", "shop.Money"),
        [reference("shop.Item", item), reference("shop.Money", money)],
    )
    async with client(registry.url) as asked:
        found = await asked.fetch(schema_id)
    assert isinstance(found, SchemaFound)
    assert [json.loads(text)["name"] for text in found.schemas] == ["Money", "Item", "Order"]


@pytest.mark.parametrize(
    ("login", "auth"),
    [
        (RegistryLogin("reader", "s3cret"), BasicAuth("reader", "s3cret")),
        (RegistryLogin(token="b3arer"), BearerAuth("b3arer")),
    ],
)
async def test_a_registry_with_a_lock_opens_to_the_right_key_only(
    login: RegistryLogin, auth: BasicAuth | BearerAuth
) -> None:
    """Basic and bearer; without them the detail says what to check, and nothing is "not found"."""
    async with serve(login) as server:
        schema_id = server.register("conversions-value", EVENT)
        async with client(server.url, auth) as registry:
            assert isinstance(await registry.fetch(schema_id), SchemaFound)
        for wrong in (None, BasicAuth("reader", "wrong"), BearerAuth("wrong")):
            async with client(server.url, wrong) as registry:
                answer = await registry.fetch(schema_id)
                assert isinstance(answer, RegistryUnavailable)
                assert "HTTP 401, check schema.registry_auth" in answer.detail


async def test_a_registry_that_is_down_is_unavailable_until_it_is_up(
    sandbox: RunningRegistry,
) -> None:
    """The same client finds it again."""
    schema_id = sandbox.register("conversions-value", EVENT)
    async with client(sandbox.url) as registry:
        await sandbox.down()
        answer = await registry.fetch(schema_id)
        assert isinstance(answer, RegistryUnavailable)
        assert answer.detail.startswith("127.0.0.1:")
        assert "Connect" in answer.detail
        await sandbox.up()
        assert isinstance(await registry.fetch(schema_id), SchemaFound)


async def test_a_slow_registry_is_unavailable_after_the_time_out(sandbox: RunningRegistry) -> None:
    """A registry that hangs does not hang the client."""
    sandbox.trouble.delay = 5.0
    async with client(sandbox.url, patience=0.1) as registry:
        answer = await registry.fetch(1)
    assert isinstance(answer, RegistryUnavailable)
    assert "no answer within 0.1 s" in answer.detail


async def test_a_node_that_is_down_is_passed_over_when_registering(
    sandbox: RunningRegistry,
) -> None:
    """Any node of a registry takes a schema."""
    async with serve() as other:
        await other.down()
        async with client(f"{other.url},{sandbox.url}") as registry:
            assert isinstance(await registry.register("receipts-value", EVENT), int)
    assert sandbox.schemas.subjects() == ["receipts-value"]


@pytest.mark.parametrize("status", [200, 404, 500, 503])
async def test_a_gateways_page_is_no_answer(sandbox: RunningRegistry, status: int) -> None:
    """HTML says nothing about a schema, whatever its status: a 404 page least of all."""
    sandbox.trouble.status = status
    async with client(sandbox.url) as registry:
        answer = await registry.fetch(1)
    assert isinstance(answer, RegistryUnavailable)
    assert f"HTTP {status}" in answer.detail


async def test_the_next_node_is_asked_when_one_is_down(sandbox: RunningRegistry) -> None:
    """Fail-over by a list of addresses; the node that answered is asked first from then on."""
    schema_id = sandbox.register("conversions-value", EVENT)
    async with serve() as dead:
        await dead.down()
        async with client(f"{dead.url}, {sandbox.url}/") as registry:
            assert isinstance(await registry.fetch(schema_id), SchemaFound)
            assert await registry.ping() is None
            await dead.up()
            assert isinstance(await registry.fetch(schema_id), SchemaFound)
            assert dead.requests == []


async def test_every_node_that_is_down_is_named(sandbox: RunningRegistry) -> None:
    """The reader of the detail sees that all were tried."""
    await sandbox.down()
    port = sandbox.url.rpartition(":")[2]
    async with client(f"{sandbox.url},http://localhost:{port}") as registry:
        for answer in (await registry.fetch(1), await registry.ping()):
            assert isinstance(answer, RegistryUnavailable)
            assert f"127.0.0.1:{port}" in answer.detail
            assert f"localhost:{port}" in answer.detail


async def test_no_secret_is_in_reprs_and_details(sandbox: RunningRegistry) -> None:
    """Neither the configured credentials nor those in an address."""
    await sandbox.down()
    for auth in (BasicAuth("reader", "canary-1"), BearerAuth("canary-1")):
        address = sandbox.url.replace("//", "//user:canary-2@")
        async with client(address, auth) as registry:
            answer = await registry.fetch(1)
            for text in (repr(auth), repr(registry), repr(answer), str(await registry.ping())):
                assert "canary" not in text


async def test_tls_is_checked_against_the_authorities_given(tmp_path: Path) -> None:
    """Trusted it answers; else the reason is told, and nothing was asked."""

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"schema": "x"})

    async with stub(answer, server_context(tmp_path)) as url:
        trusting, strict = (
            Registry(url, None, context, 5.0) for context in (client_context(), None)
        )
        assert await trusting.fetch(1) == SchemaFound(("x",))
        told = await strict.fetch(1)
        assert isinstance(told, RegistryUnavailable)
        assert "certificate verify failed" in told.detail
        await trusting.close()
        await strict.close()
