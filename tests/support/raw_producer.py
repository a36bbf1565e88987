"""Produces what Python's client refuses to: a header whose name is no UTF-8.

Kafka's protocol carries names as bytes, and other clients check them less. librdkafka itself
takes any; it is called here as C, from the library that the client brings along.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import confluent_kafka

_END, _TOPIC, _PARTITION, _VALUE, _COPY, _HEADER = 0, 1, 3, 4, 7, 9
_TIMEOUT_MS = 15_000
_ERROR_BYTES = 512


def produce_with_header(
    bootstrap_servers: str, topic: str, partition: int, value: bytes, name: bytes
) -> None:
    """Writes one record that has one header, of this name; returns when the broker has it."""
    library = _library()
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    config = ctypes.c_void_p(library.rd_kafka_conf_new())
    servers = bootstrap_servers.encode()
    library.rd_kafka_conf_set(config, b"bootstrap.servers", servers, error, _ERROR_BYTES)
    producer = ctypes.c_void_p(library.rd_kafka_new(0, config, error, _ERROR_BYTES))
    try:
        refused = library.rd_kafka_producev(
            producer,
            *(_TOPIC, ctypes.c_char_p(topic.encode())),
            *(_PARTITION, ctypes.c_int32(partition)),
            *(_VALUE, ctypes.c_char_p(value), ctypes.c_size_t(len(value))),
            *(_COPY, 2),
            *(_HEADER, ctypes.c_char_p(name), ctypes.c_char_p(b"v"), ctypes.c_ssize_t(1)),
            _END,
        )
        unsent = library.rd_kafka_flush(producer, _TIMEOUT_MS)
    finally:
        library.rd_kafka_destroy(producer)
    if refused or unsent:
        raise RuntimeError(f"{topic}: librdkafka's error {refused or unsent}")


def _library() -> Any:
    folder = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
    (path,) = folder.glob("librdkafka-*")
    library = ctypes.CDLL(str(path))
    for constructor in (library.rd_kafka_conf_new, library.rd_kafka_new):
        constructor.restype = ctypes.c_void_p
    return library
