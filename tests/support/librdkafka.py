"""librdkafka itself, as C, from the library that the Python client brings along."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import confluent_kafka

_ERROR_BYTES = 512


def library() -> Any:
    """The library; functions that return a handle are told so, the others return an int."""
    folder = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
    (path,) = folder.glob("librdkafka-*")
    loaded = ctypes.CDLL(str(path))
    for handle in (
        loaded.rd_kafka_conf_new,
        loaded.rd_kafka_new,
        loaded.rd_kafka_mock_cluster_new,
    ):
        handle.restype = ctypes.c_void_p
    loaded.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    return loaded


def new_producer(loaded: Any, properties: dict[str, str]) -> ctypes.c_void_p:
    """A producer's handle.

    Raises:
        RuntimeError: librdkafka refused a property.
    """
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    config = ctypes.c_void_p(loaded.rd_kafka_conf_new())
    for name, value in properties.items():
        loaded.rd_kafka_conf_set(config, name.encode(), value.encode(), error, _ERROR_BYTES)
    producer = loaded.rd_kafka_new(0, config, error, _ERROR_BYTES)
    if error.value or not producer:
        raise RuntimeError(error.value.decode())
    return ctypes.c_void_p(producer)
