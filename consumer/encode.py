"""Event to bytes: the way back from `consumer.decode`, for the few events that we write ourselves.

Nothing is written that would be read as something else: what comes out is decoded again, by the
consumer's own decoder, and has to be the event that went in. A writer's schema that lacks one of
its fields shows by that.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro
from fastavro.schema import SchemaParseException, UnknownType

from consumer.decode import Undecodable
from consumer.evolution import fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.decode import Decoder


class Unencodable(Exception):  # noqa: N818  the finding's own name, as in decode
    """A schema cannot carry an event whole. `detail` says why and quotes no value."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


def confluent_framing(schema_id: int) -> bytes:
    """What stands before a value in Confluent's wire format."""
    return b"\x00" + schema_id.to_bytes(4, "big")


def single_object_framing(schema: dict[str, Any]) -> bytes:
    """What stands before a value in Avro's single-object encoding."""
    return b"\xc3\x01" + fingerprint(schema)


def confluent(
    event: dict[str, Any], schema_id: int, schemas: Sequence[dict[str, Any]], decoder: Decoder
) -> bytes:
    """An event in Confluent's wire format; `decoder` knows the schema under its id.

    The schemas that the writer's one refers to come first, it comes last.

    Raises:
        Unencodable: the schema cannot carry the event whole.
    """
    return _checked(event, confluent_framing(schema_id), schemas, decoder)


def single_object(event: dict[str, Any], schema: dict[str, Any], decoder: Decoder) -> bytes:
    """An event in Avro's single-object encoding.

    Raises:
        Unencodable: the schema cannot carry the event whole.
    """
    return _checked(event, single_object_framing(schema), [schema], decoder)


def raw(event: dict[str, Any], schema: dict[str, Any], decoder: Decoder) -> bytes:
    """An event as a bare Avro value.

    Raises:
        Unencodable: the schema cannot carry the event whole.
    """
    return _checked(event, b"", [schema], decoder)


def _checked(
    event: dict[str, Any], prefix: bytes, schemas: Sequence[dict[str, Any]], decoder: Decoder
) -> bytes:
    stream = BytesIO()
    stream.write(prefix)
    names: dict[str, Any] = {}
    try:
        parsed = [fastavro.parse_schema(schema, names) for schema in schemas]
        fastavro.schemaless_writer(stream, parsed[-1], event)
    except (SchemaParseException, UnknownType) as error:
        raise Unencodable(f"it is no Avro schema ({type(error).__name__})") from None
    except Exception as error:  # noqa: BLE001  fastavro raises whatever a value runs into
        raise Unencodable(f"it does not take the event ({type(error).__name__})") from None
    value = stream.getvalue()
    try:
        read = decoder.decode(value)
    except Undecodable as error:
        raise Unencodable(error.detail) from None
    lost = next((path for path in _differences(event, read, "")), None)
    if lost is not None:
        raise Unencodable(f"{lost} would get lost")
    return value


def _differences(written: Any, read: Any, path: str) -> Sequence[str]:
    """Where two events differ, by their paths."""
    if isinstance(written, dict) and isinstance(read, dict):
        return [
            found
            for name, value in written.items()
            for found in _differences(value, read.get(name), f"{path}.{name}" if path else name)
        ]
    return [] if written == read else [path]
