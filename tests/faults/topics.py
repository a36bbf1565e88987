"""The dead-letter topic is gone, and later it is back."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException

from tests.faults.evidence import IncidentKind
from tests.faults.load import Fate, Mix
from tests.faults.scenario import Scenario

if TYPE_CHECKING:
    from tests.faults.round import Round

_MANY_LETTERS: Final[Mix] = {
    Fate.DELIVERED: 0.91,
    Fate.UNDECODABLE: 0.03,
    Fate.INVALID: 0.03,
    Fate.NOWHERE: 0.03,
}


def letters(played: Round) -> None:
    """The dead-letter topic is deleted while there are dead letters; a member dies meanwhile."""
    settings, kafka = played.settings, played.cluster.kafka
    part = settings.events // 3
    members = played.start(0, 1)
    played.produce(part, _MANY_LETTERS)
    played.until_done()
    # What has been written is read first: it goes with the topic.
    played.letters_saved += kafka.read_all(played.letter_topic)
    began = time.time()
    kafka.delete_topic(played.letter_topic)
    played.produce(part, _MANY_LETTERS)
    time.sleep(2 if settings.brief else 20)
    members[0].kill()
    members[0].start()
    time.sleep(2 if settings.brief else 20)
    with suppress(KafkaException):  # a member may have made it anew by itself
        kafka.create_topic(played.letter_topic, settings.partitions)
    played.note(IncidentKind.TOPIC, None, began)
    played.produce(part, _MANY_LETTERS)
    played.finish()


SCENARIOS: Final = (Scenario("letters", letters, rounds=4, events=90_000, brief_events=9_000),)
