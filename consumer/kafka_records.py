"""From the Kafka client's messages to records."""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING, cast

from consumer.event import Record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Message

    from consumer.event import Headers

# For a header name that is no UTF-8 the client sets an exception and returns a broken list all the
# same. A call written out, `message.headers()`, is specialised by the interpreter once it is warm
# and does not look for that any more; a call made by C code always does.
_headers_of = methodcaller("headers")


def records_of(messages: Iterable[Message]) -> tuple[list[Record], list[Message]]:
    """Turn messages into records, and set those aside that carry an error instead."""
    records: list[Record] = []
    errors: list[Message] = []
    append = records.append
    make = tuple.__new__  # a third of the cost of the class's own constructor
    for message in messages:
        if message.error() is not None:
            errors.append(message)
            continue
        try:
            headers = _headers_of(message)
        except (UnicodeDecodeError, SystemError):
            headers = None  # a name that is no UTF-8: the client cannot tell any of them
        append(
            make(
                Record,
                (
                    message.topic(),
                    message.partition(),
                    message.offset(),
                    message.timestamp()[1],
                    message.key(),
                    message.value(),
                    tuple(cast("Headers", headers)) if headers else (),
                ),
            )
        )
    return records, errors
