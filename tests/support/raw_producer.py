"""Produces what the program itself never does.

A header whose name is no UTF-8: Kafka's protocol carries names as bytes, Python's client refuses
to send one, others check them less. And transactions, which leave markers in the log.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from tests.support.librdkafka import library, new_producer

if TYPE_CHECKING:
    from collections.abc import Iterable

_END, _TOPIC, _PARTITION, _VALUE, _COPY, _HEADER = 0, 1, 3, 4, 7, 9
_TIMEOUT = 15.0


def produce_with_header(
    bootstrap_servers: str, topic: str, partition: int, value: bytes, name: bytes
) -> None:
    """Writes one record that has one header, of this name; returns when the broker has it."""
    loaded = library()
    producer = new_producer(loaded, {"bootstrap.servers": bootstrap_servers})
    try:
        refused = loaded.rd_kafka_producev(
            producer,
            *(_TOPIC, ctypes.c_char_p(topic.encode())),
            *(_PARTITION, ctypes.c_int32(partition)),
            *(_VALUE, ctypes.c_char_p(value), ctypes.c_size_t(len(value))),
            *(_COPY, 2),
            *(_HEADER, ctypes.c_char_p(name), ctypes.c_char_p(b"v"), ctypes.c_ssize_t(1)),
            _END,
        )
        unsent = loaded.rd_kafka_flush(producer, int(_TIMEOUT * 1000))
    finally:
        loaded.rd_kafka_destroy(producer)
    if refused or unsent:
        raise RuntimeError(f"{topic}: librdkafka's error {refused or unsent}")


class TransactionalProducer:
    """Writes to one partition in transactions; each ends with a marker that takes an offset."""

    def __init__(self, bootstrap_servers: str, topic: str, partition: int) -> None:
        self._topic = topic
        self._partition = partition
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "transactional.id": f"transactions-of-{topic}-{partition}",
                "log_level": 0,
            }
        )
        self._producer.init_transactions(_TIMEOUT)

    def begin(self, values: Iterable[bytes]) -> None:
        """Writes records in a transaction that stays open; returns when the broker has them."""
        self._producer.begin_transaction()
        for value in values:
            self._producer.produce(self._topic, value, partition=self._partition)
        self._producer.flush(_TIMEOUT)

    def commit(self) -> None:
        """Ends the transaction."""
        self._producer.commit_transaction(_TIMEOUT)

    def abort(self) -> None:
        """Ends the transaction: its records stay in the log, for nobody who minds transactions."""
        self._producer.abort_transaction(_TIMEOUT)
