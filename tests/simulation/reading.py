"""Reading of a process's Kafka consumer: positions, pauses, chunks of records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.event import Record
from consumer.position import Earliest, start_position
from consumer.source_events import PositionChange

if TYPE_CHECKING:
    from consumer.event import TopicPartition
    from tests.simulation.process import Process
    from tests.simulation.session import Reading, Session


class Readings:
    """What a consumer reads. Nothing of a partition before it is resumed for the first time."""

    def __init__(self, process: Process, session: Session) -> None:
        self._process = process
        self._session = session
        self._flow = True
        self._fetching = False
        self._on_their_way = False

    @property
    def is_open(self) -> bool:
        """Whether anything is read at all."""
        return self._flow

    def is_paused(self, tp: TopicPartition) -> bool:
        """Whether a partition is paused, by the engine's orders."""
        reading = self._session.reading.get(tp)
        return reading is None or reading.paused

    def pause(self, tp: TopicPartition) -> None:
        """Reads no more of a partition."""
        reading = self._session.reading.get(tp)
        if reading is not None:
            reading.paused = True

    def resume(self, tp: TopicPartition, position: int) -> None:
        """Reads a partition, for the first time from a position."""
        reading = self._session.reading.get(tp)
        if reading is not None:
            reading.paused = False
            if not reading.started:
                reading.started, reading.position = True, position
            self.poke()

    def flow(self, *, is_open: bool) -> None:
        """Reads at all, or not."""
        self._flow = is_open
        self.poke()

    def highs(self) -> dict[TopicPartition, int]:
        """How far the partitions reach that are read."""
        broker = self._session.broker
        return {tp: broker.log(tp).high for tp in self._session.reading}

    def move(
        self, reading: Reading, position: int, hold: str | None, lost: tuple[int, int] | None
    ) -> None:
        """A partition is read from elsewhere, or held."""
        reading.position, reading.hold = position, hold
        self._process.position_changed(PositionChange(reading.tp, position, hold, lost))
        self.poke()

    def poke(self) -> None:
        """There may be something to read."""
        if not self._fetching and self._flow and self._process.alive:
            self._fetching = True
            session = self._session
            session.clock.after(0.02 + 0.15 * session.rng.random(), self._fetch)

    def _fetch(self) -> None:
        self._fetching = False
        session, process = self._session, self._process
        if self._on_their_way or not self._flow:
            return  # what was read before comes first
        if session.revoking is not None or session.link.cut:
            return
        if process.suspended or not process.alive:
            return
        records, more = self._next_records()
        if records and session.rng.random() < _LATE_RECORDS:
            # Nothing else is read before they are there: a partition's records keep their order.
            self._on_their_way = True
            epochs = dict(session.owned)
            give = lambda: self._give(records, epochs)  # noqa: E731  delivered below
            session.clock.after(0.05 * session.rng.random(), lambda: process.deliver(give))
            return
        if records:
            process.records(records)
        if more:
            self.poke()

    def _next_records(self) -> tuple[list[Record], bool]:
        """A chunk of what can be read, and whether there may be more."""
        session = self._session
        records: list[Record] = []
        share = max(1, session.setup.chunk // max(1, len(session.reading)))
        more = False
        for reading in list(session.reading.values()):
            if reading.paused or reading.hold is not None or session.broker.is_down(reading.tp):
                continue
            log = session.broker.log(reading.tp)
            if not log.start <= reading.position <= log.high:
                position = start_position(reading.position, log.start, log.high, Earliest())
                self.move(reading, *position)
                continue
            topic, partition = reading.tp
            entries, reading.position = log.read(reading.position, log.high, share)
            more = more or reading.position < log.high
            records += [
                Record(topic, partition, e.offset, e.timestamp, e.key, e.value, e.headers)
                for e in entries
            ]
        return records, more

    def _give(self, records: list[Record], epochs: dict[int, int]) -> None:
        """Records that were on their way to the engine; not those of partitions that went."""
        self._on_their_way = False
        gone, owned = self._session.revoking or (), self._session.owned
        left = [
            record
            for record in records
            if record.partition not in gone
            and owned.get(record.partition, -1) == epochs.get(record.partition)
        ]
        if left:
            self._process.records(left)
        self.poke()


_LATE_RECORDS = 0.2
