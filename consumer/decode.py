"""Bytes to event: a record's value by the source's encoding, resolved to our schema.

An event is a plain dict with every field of the schema in it, null where the record says nothing;
times are integers in milliseconds. `Decoder.decode` is the only way in, so another reader can
take its place.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from io import BytesIO
from typing import TYPE_CHECKING, Any

from fastavro import schemaless_reader
from fastavro.read import SchemaResolutionError

from consumer.evolution import Evolution, Reading, UnusableSchema, fingerprint, parse
from consumer.reader_code import Unresolvable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Decoder", "Encoding", "Undecodable", "UnknownSchema", "UnusableSchema"]

_CONFLUENT_MAGIC = 0
_CONFLUENT_START = 5
_SINGLE_OBJECT_MAGIC = b"\xc3\x01"
_SINGLE_OBJECT_START = 10
_TOO_SHORT = "the Avro value ends too early"


class Encoding(StrEnum):
    """How a value says which schema wrote it.

    `CONFLUENT`: a zero byte, the registry's schema id in 4 bytes (big endian), the Avro value.
    `SINGLE_OBJECT`: C3 01, the schema's CRC-64-AVRO fingerprint in 8 bytes (little endian), the
    value (Avro specification, "Single-object encoding"). `RAW`: the value alone.
    """

    CONFLUENT = "confluent"
    SINGLE_OBJECT = "single_object"
    RAW = "raw"


class Undecodable(Exception):  # noqa: N818  the outcome's own name
    """A value that is no event. `detail` says why and never quotes the value."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class UnknownSchema(Exception):  # noqa: N818  a question, no failure
    """The value names a registry id that has not been learned yet."""

    def __init__(self, schema_id: int) -> None:
        self.schema_id = schema_id
        super().__init__(f"schema id {schema_id} is not known yet")


class Decoder:
    """Decodes values of one source.

    `reader_schema` is what events are read as. `writer_schemas`: for `RAW` the one schema that
    wrote the values (ours by default); for `SINGLE_OBJECT` those to be recognised by fingerprint
    besides ours; none for `CONFLUENT`, whose schemas are learned from the registry.

    Raises:
        UnusableSchema: a given writer schema cannot be read as ours.
        ValueError: the writer schemas do not fit the encoding.
    """

    def __init__(
        self,
        encoding: Encoding,
        reader_schema: dict[str, Any],
        writer_schemas: Sequence[dict[str, Any]] = (),
    ) -> None:
        if encoding is Encoding.RAW and len(writer_schemas) > 1:
            raise ValueError("raw values have exactly one writer schema")
        if encoding is Encoding.CONFLUENT and writer_schemas:
            raise ValueError("confluent values name their schema: writer schemas are learned")
        self._encoding = encoding
        self._evolution = Evolution(reader_schema)
        self._by_id: dict[int, Reading] = {}
        self._by_fingerprint = {
            fingerprint(schema): self._evolution.reading([schema])
            for schema in (reader_schema, *writer_schemas)
        }
        raw = writer_schemas[0] if writer_schemas else reader_schema
        self._raw = self._by_fingerprint[fingerprint(raw)]

    def learn(self, schema_id: int, schema_json: Sequence[str]) -> None:
        """Take the registry's answer for an id: referenced schemas first, the schema itself last.

        Raises:
            UnusableSchema: the schema is not Avro, not safe to read or does not resolve to ours.
        """
        self._by_id[schema_id] = self._evolution.reading([parse(text) for text in schema_json])

    def decode(self, value: bytes) -> dict[str, Any]:
        """Read one record's value.

        Raises:
            Undecodable: the value is no event in this encoding.
            UnknownSchema: the schema id has to be learned first.
        """
        if self._encoding is Encoding.CONFLUENT:
            if len(value) < _CONFLUENT_START or value[0] != _CONFLUENT_MAGIC:
                raise Undecodable("not in Confluent's wire format: no magic byte and schema id")
            schema_id = int.from_bytes(value[1:_CONFLUENT_START], "big")
            reading = self._by_id.get(schema_id)
            if reading is None:
                raise UnknownSchema(schema_id)
            return _read(reading, value, _CONFLUENT_START)
        if self._encoding is Encoding.RAW:
            return _read(self._raw, value, 0)
        if len(value) < _SINGLE_OBJECT_START or value[:2] != _SINGLE_OBJECT_MAGIC:
            raise Undecodable("not in Avro single-object encoding: no C3 01 and fingerprint")
        print_ = value[2:_SINGLE_OBJECT_START]
        known = self._by_fingerprint.get(print_)
        if known is None:
            raise Undecodable(f"no configured schema has the fingerprint {print_.hex()}")
        return _read(known, value, _SINGLE_OBJECT_START)


def _read(reading: Reading, value: bytes, start: int) -> dict[str, Any]:
    try:
        event, end = (
            _by_fastavro(reading, value, start)
            if reading.read is None
            else reading.read(value, start)
        )
    except (SchemaResolutionError, Unresolvable):
        failure = "a value in it does not resolve to the event schema"
    except (EOFError, IndexError, struct.error):
        failure = _TOO_SHORT
    except Exception as error:  # noqa: BLE001  hostile bytes raise whatever they hit
        failure = f"the Avro value is corrupt ({type(error).__name__})"
    else:
        extra = len(value) - end
        if not extra:
            return event
        failure = f"{extra} bytes after the end of the Avro value" if extra > 0 else _TOO_SHORT
    # Raised outside the handler: the failed read's exception holds pieces of the value.
    raise Undecodable(failure)


def _by_fastavro(reading: Reading, value: bytes, start: int) -> tuple[dict[str, Any], int]:
    stream = BytesIO(value)
    stream.seek(start)
    event: dict[str, Any] = schemaless_reader(stream, reading.writer, reading.reader)  # type: ignore[assignment]  # our reader schema is a record
    return event, stream.tell()
