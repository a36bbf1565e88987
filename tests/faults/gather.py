"""From a round that is over to its evidence: asks the emulator and reads the round's topics."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from consumer.dedup import Keys
from consumer.event import Consent, ConsentState, Destination, EventSource, Mapped
from consumer.sandbox.receipts import told
from tests.faults.evidence import (
    NEVER,
    Acceptances,
    Answers,
    Evidence,
    IncidentKind,
    StateHistory,
)
from tests.faults.round import SESSION, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumer.event import Record
    from tests.faults.load import Load
    from tests.faults.round import Round

_GRANTED: Final = ConsentState.GRANTED
_CONSENT: Final = Consent(
    _GRANTED, _GRANTED, _GRANTED, None, None, send=True, strip_user_data=False,
    limited_data_use=None,
)  # fmt: skip


def gather(played: Round) -> Evidence:
    """The evidence of a round in which nobody sends any more; its topics still exist."""
    load, truth = played.load, played.emulator.truth
    taken = Acceptances.read(load, truth.events())
    answers = Answers.read(truth)
    keys = _keys(load, taken.requests)
    evidence = Evidence(
        load,
        taken,
        answers,
        tuple(played.incidents),
        StateHistory.read(_read(played, played.state_topic), frozenset(keys.values())),
        keys,
        [*played.letters_saved, *_read(played, played.letter_topic)],
        played.committed(),
        receipts=told(_read(played, topic)) if (topic := played.receipt_topic) else None,
        timeout=TIMEOUT,
        session=SESSION,
        findings=played.findings,
    )
    if any(incident.kind is IncidentKind.STOP for incident in played.incidents):
        evidence.app_of_key = _apps(load, taken, answers)
    return evidence


def _read(played: Round, topic: str) -> list[Record]:
    kafka = played.cluster.kafka
    return kafka.read_all(topic) if kafka.partitions(topic) else []


def _apps(load: Load, taken: Acceptances, answers: Answers) -> dict[bytes, str | None]:
    """Who sent an event, by its key, of those that were sent once."""
    once = array(
        "l",
        (
            event
            for event, number in enumerate(taken.first)
            if number != NEVER and event not in taken.requests
        ),
    )
    return {
        key: answers.requests[taken.first[event]].app for event, key in _keys(load, once).items()
    }


def _keys(load: Load, events: Iterable[int]) -> dict[int, bytes]:
    """The deduplication keys of delivered events."""
    keys = Keys()
    destinations: dict[str, Destination] = {}
    found = {}
    for event in events:
        source, name, event_id, _ = load.identity(event)
        destination = destinations.setdefault(source, Destination(EventSource.WEB, source))
        found[event] = keys.key(
            Mapped(destination, name, event_id, 0, None, b"", (), _CONSENT, (), ())
        )
    return found
