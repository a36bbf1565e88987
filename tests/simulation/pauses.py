"""Every pause ends when its cause does: what is paused, since when, and how long that may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.retry_partition import RETRY_WAITING

if TYPE_CHECKING:
    from consumer.offsets import Partition
    from tests.simulation.clock import Clock
    from tests.simulation.process import Process
    from tests.simulation.schedule import Setup
    from tests.simulation.verdicts import Notes

_PATIENCE = 60.0
"""Seconds that the tries of what failed may be apart and take, a few of them together."""

_PROBES = 3
"""Longest pauses of a destination that may pass until it is found to be well."""


class Pauses:
    """The pauses of all processes, against the last fault or assignment, which may explain them."""

    def __init__(self, clock: Clock, setup: Setup, notes: Notes) -> None:
        self._clock = clock
        self._notes = notes
        self._longest = setup.session_timeout + setup.takeover_wait + _PATIENCE
        self._longest_shut = self._longest + _PROBES * setup.retry_max
        self._disturbed_until = 0.0
        self._held: dict[Partition, dict[str, float]] = {}
        self._full: dict[Process, float] = {}

    def disturbed(self, seconds: float) -> None:
        """Something may cause pauses for so many seconds from now on."""
        self._disturbed_until = max(self._disturbed_until, self._clock.now + seconds)

    def look(self, process: Process) -> None:
        """After a step of a process: what is read is what the engine would have read."""
        engine, readings = process.engine, process.member.readings
        for partition in engine.partitions.values():
            if readings.is_paused(partition.tp) is not bool(partition.holds):
                self._notes.fail("pause", f"{process.name} reads {partition!r}, or does not")
            if partition.holds or partition in self._held:
                self._look_at(process, partition)
        if readings.is_open is not engine.reading.flowing:
            self._notes.fail("pause", f"{process.name} reads, or does not: {engine.in_flight}")
        if engine.reading.flowing:
            self._full.pop(process, None)
        else:
            since = self._full.setdefault(process, self._clock.now)
            self._explain(process, "everything", "full", since, self._longest_shut)

    def _look_at(self, process: Process, partition: Partition) -> None:
        before = self._held.get(partition, {})
        self._held[partition] = held = {
            reason: before.get(reason, self._clock.now) for reason in partition.holds
        }
        for reason, since in held.items():
            longest = self._longest_shut if reason == RETRY_WAITING else self._longest
            self._explain(process, repr(partition), reason, since, longest)
        if not held:
            del self._held[partition]

    def _explain(
        self, process: Process, what: str, reason: str, since: float, longest: float
    ) -> None:
        quiet = self._clock.now - max(since, self._disturbed_until)
        if quiet > longest:
            self._notes.fail("pause", f"{process.name} pauses {what} for ever: {reason}")
