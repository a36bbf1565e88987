"""The floor: the C libraries' calls that delivering takes, with nothing around them.

No mapping, no validation, no consent, no order of marks and offsets, no retry, no spans: it loses
events at the first fault. What it costs is what a program in Python on these libraries cannot get
below. Run as a process of its own, whose CPU time is measured from outside:
`python -m tests.bench.floor BOOTSTRAP_SERVERS TOPIC GROUP EVENTS ENDPOINT`.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import sys
from collections.abc import Callable
from typing import Any

import aiohttp
import fastavro
import orjson
from confluent_kafka import Consumer, Message
from rocksdict import Options, Rdict, WriteBatch

from consumer.schemas import load_schema
from tests.bench.data import PIXEL

CHUNK = 500
BODY_EVENTS = 1000
REQUESTS_IN_AIR = 32
MARK = bytes(8)

_CONFLUENT_START = 5
_HEAD = b'{"event_source":"web","event_source_id":"' + PIXEL.encode() + b'","data":['

Decode = Callable[[bytes], dict[str, Any]]


def _without_logical_types(schema: Any) -> Any:
    """Times stay integers: making `datetime` of them would make the floor slower than need be."""
    if isinstance(schema, dict):
        return {k: _without_logical_types(v) for k, v in schema.items() if k != "logicalType"}
    return [_without_logical_types(s) for s in schema] if isinstance(schema, list) else schema


def decoder() -> Decode:
    """Reads a value with its Confluent prefix."""
    schema = fastavro.parse_schema(_without_logical_types(load_schema("conversion_event")))

    def decode(value: bytes) -> dict[str, Any]:
        stream = io.BytesIO(value)
        stream.seek(_CONFLUENT_START)
        event: dict[str, Any] = fastavro.schemaless_reader(stream, schema, None)  # type: ignore[assignment]  # a record
        return event

    return decode


def element(event: dict[str, Any]) -> bytes:
    """A TikTok event of a decoded one, in as few steps as it takes; fit for these samples only."""
    user, properties = event["user"], event["properties"]
    made: dict[str, Any] = {
        "event": event["event"],
        "event_time": event["event_time"] // 1000,
        "event_id": event["event_id"],
        "page": event["page"],
        "user": {
            "email": _digest(user["email"]),
            "phone": _digest(user["phone"]),
            "external_id": _digest(user["external_id"]),
            "ttp": user["ttp"],
            "ip": user["ip"],
            "user_agent": user["user_agent"],
            "locale": user["locale"],
            "country": user["country"],
        },
    }
    if properties is not None:
        made["properties"] = {
            "value": properties["value"],
            "currency": properties["currency"],
            "content_type": properties["content_type"],
            "contents": properties["contents"],
            "content_ids": properties["content_ids"],
        }
    return orjson.dumps(made)


def key(event: dict[str, Any]) -> bytes:
    """What tells an event from others of its pixel."""
    return str(event["event"] + event["event_id"]).encode()


def _digest(text: str | None) -> str:
    return hashlib.sha256((text or "").encode()).hexdigest()


class Floor:
    """One pass over a topic."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: str) -> None:
        self._session = session
        self._endpoint = endpoint
        self._decode = decoder()
        self._accepted = Rdict("accepted", Options(raw_mode=True))
        self._waiting: list[bytes] = []
        self._in_air: set[asyncio.Task[None]] = set()
        self.posted = 0

    async def take(self, messages: list[Message]) -> None:
        """Everything that is to be done with a chunk."""
        values = [message.value() or b"" for message in messages]
        events = [self._decode(value) for value in values]
        keys: list[Any] = list(map(key, events))
        found = self._accepted.get(keys)
        fresh = {
            each: event
            for each, event, accepted in zip(keys, events, found or [], strict=True)
            if accepted is None
        }
        self._waiting += map(element, fresh.values())
        batch = WriteBatch(raw_mode=True)
        for each in fresh:
            batch.put(each, MARK)
        self._accepted.write(batch)
        while len(self._waiting) >= BODY_EVENTS:
            await self._post()
        await asyncio.sleep(0)

    async def finish(self) -> None:
        """Posts what is left and waits for all answers."""
        if self._waiting:
            await self._post()
        await asyncio.gather(*self._in_air)
        self._accepted.close()

    async def _post(self) -> None:
        if len(self._in_air) >= REQUESTS_IN_AIR:
            done, self._in_air = await asyncio.wait(
                self._in_air, return_when=asyncio.FIRST_COMPLETED
            )
            for request in done:
                request.result()
        events = self._waiting[:BODY_EVENTS]
        del self._waiting[:BODY_EVENTS]
        self.posted += len(events)
        self._in_air.add(asyncio.create_task(self._request(_HEAD + b",".join(events) + b"]}")))

    async def _request(self, body: bytes) -> None:
        headers = {"Access-Token": "any", "Content-Type": "application/json"}
        async with self._session.post(self._endpoint, data=body, headers=headers) as response:
            answer = orjson.loads(await response.read())
            if answer["code"] != 0:
                raise RuntimeError(f"TikTok answered {answer['code']}: {answer['message']}")


async def _run(servers: str, topic: str, group: str, count: int, endpoint: str) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "queued.max.messages.kbytes": 16384,
        }
    )
    consumer.subscribe([topic])
    connector = aiohttp.TCPConnector(limit=REQUESTS_IN_AIR)
    async with aiohttp.ClientSession(connector=connector) as session:
        floor = Floor(session, endpoint)
        read = 0
        while read < count:
            messages = consumer.consume(CHUNK, 0.05)
            read += len(messages)
            if messages:
                await floor.take(messages)
            else:
                await asyncio.sleep(0)
        await floor.finish()
    if count:
        consumer.commit(asynchronous=False)
    consumer.close()
    sys.stdout.write(json.dumps({"read": read, "posted": floor.posted}) + "\n")


if __name__ == "__main__":
    _servers, _topic, _group, _events, _endpoint = sys.argv[1:]
    asyncio.run(_run(_servers, _topic, _group, int(_events), _endpoint))
