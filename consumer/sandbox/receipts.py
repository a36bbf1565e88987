"""Receipts read back: what they say of each record of the source, and whether that is so.

Pure. Of copies of an event any may be the one that was delivered, and a crash may leave a record
whose only receipt calls it a duplicate: both count as delivered once.
"""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro

from consumer.event import Outcome
from consumer.schemas import load_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from consumer.event import Record
    from consumer.sandbox.expectations import Totals

COUNTED = "delivered or duplicate"
"""What becomes of every copy of a good event."""

_CONFLUENT_FRAMING = 5
_AS_SHOWN = {Outcome.DELIVERED.value: COUNTED, Outcome.DUPLICATE.value: COUNTED}

Position = tuple[int, int]
"""Partition and offset of a source record."""


def told(records: Iterable[Record]) -> dict[Position, str]:
    """What became of each source record by its last receipt: `COUNTED` or the outcome's name."""
    schema = fastavro.parse_schema(load_schema("delivery_receipt"))
    outcomes: dict[Position, str] = {}
    for record in records:
        value = BytesIO((record.value or b"")[_CONFLUENT_FRAMING:])
        receipt: Any = fastavro.schemaless_reader(value, schema, None)
        outcome: str = receipt["outcome"]
        position = receipt["source_partition"], receipt["source_offset"]
        outcomes[position] = _AS_SHOWN.get(outcome, outcome)
    return outcomes


def must_be(expected: Totals) -> dict[str, int]:
    """How many receipts must tell what."""
    return {
        COUNTED: expected.delivered + expected.duplicate,
        Outcome.SUPPRESSED.value: expected.suppressed,
        Outcome.DEAD_LETTERED.value: expected.dead_lettered,
    }


def compare(
    outcomes: Mapping[Position, str], ends: Mapping[int, int], expected: Totals
) -> list[str]:
    """Differences between the receipts and what was produced, as sentences."""
    records = {(partition, offset) for partition, end in ends.items() for offset in range(end)}
    missing, surplus = len(records - outcomes.keys()), len(outcomes.keys() - records)
    sentences = []
    if missing:
        sentences.append(f"{missing:,} records have no receipt")
    if surplus:
        sentences.append(f"{surplus:,} receipts are about no record")
    found = Counter(outcomes.values())
    sentences += [
        f"receipts call {found[outcome]:,} records {outcome.replace('_', '-')}, due were {due:,}"
        for outcome, due in must_be(expected).items()
        if found[outcome] != due
    ]
    return sentences
