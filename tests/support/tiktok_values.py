"""Events and TikTok's answers as short values for tests of the engine."""

from __future__ import annotations

from typing import Any

import orjson

from consumer.decode import Encoding, Undecodable, UnknownSchema
from consumer.schemas import load_schema
from consumer.verdict import Answer
from tests.support.events import FIELDS

START_MS = 1_790_000_000_000
"""The time of every event that names none, and of a world's beginning."""

_EMPTY: dict[str, Any] = {f["name"]: None for f in load_schema("conversion_event")["fields"]}
_EMPTY_PAGE = {"url": "https://shop.example/p/1", "referrer": None}
_NESTED = ("user", "page", "consent")


class JsonDecoder:
    """Stands in for Avro: values are JSON of the fields that matter, resolved to whole events.

    `b"?7"` needs schema 7, anything that is no JSON object is undecodable.
    """

    encoding = Encoding.RAW

    def __init__(self) -> None:
        self.learned: dict[int, tuple[str, ...]] = {}

    def learn(self, schema_id: int, schema_json: tuple[str, ...]) -> None:
        """As `Decoder.learn`; anything will do as a schema."""
        self.learned[schema_id] = schema_json

    def decode(self, value: bytes) -> dict[str, Any]:
        """As `Decoder.decode`."""
        if value.startswith(b"?"):
            schema_id, value = int(value[1:4]), value[4:]
            if schema_id not in self.learned:
                raise UnknownSchema(schema_id)
        try:
            given = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise Undecodable("no event") from None
        for name in _NESTED:
            if name in given:
                given[name] = dict.fromkeys(FIELDS[name.capitalize()]) | given[name]
        return {**_EMPTY, "page": _EMPTY_PAGE, "event_time": START_MS, **given}


def event(event_id: str = "e1", name: str = "purchase", **fields: Any) -> bytes:
    """A value for `JsonDecoder`."""
    return orjson.dumps({"event_id": event_id, "event": name, **fields})


def ok(request_id: str = "r") -> Answer:
    """TikTok took everything."""
    return code(0, "OK", request_id)


def code(number: int, message: str = "", request_id: str = "r", status: int = 200) -> Answer:
    """An answer of TikTok's with a code in the body."""
    body = {"code": number, "message": message, "request_id": request_id, "data": {}}
    return Answer(status, orjson.dumps(body))


TIMEOUT = Answer(None, b"", None, "timeout")
