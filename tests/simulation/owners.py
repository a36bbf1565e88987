"""Who owns what: the memories of all partitions, and when each became the one that counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.state_phases import Phase

if TYPE_CHECKING:
    from consumer.state_log import StateLog
    from tests.simulation.process import Process
    from tests.simulation.verdicts import Notes
    from tests.simulation.world import World


class Owners:
    """The phases of all memories, as last seen after a step."""

    def __init__(self, world: World, notes: Notes) -> None:
        self._world = world
        self._notes = notes
        self._ready: dict[int, StateLog] = {}
        self._epochs: dict[int, int] = {}
        self._phases: dict[StateLog, Phase] = {}
        self._ever_ready: set[StateLog] = set()

    def look(self, process: Process, state: StateLog) -> None:
        """A process has made a step with the memory of one of its partitions."""
        if self._phases.get(state) is not state.phase:
            self._phases[state] = state.phase
            if state.phase is Phase.READY:
                self._became_ready(process, state)

    def may_send(self, state: StateLog) -> bool:
        """Whether a memory is complete, or was when the step began."""
        return Phase.READY in {state.phase, self._phases.get(state)}

    def was_ready(self, state: StateLog) -> bool:
        """Whether a memory was ever complete."""
        return state in self._ever_ready

    def is_replaced(self, partition: int, state: StateLog) -> bool:
        """Whether a memory that is complete was opened after this one: its owner took over."""
        newest = self._ready.get(partition, state)
        return newest is not state and self._epochs[partition] > (state._epoch or 0)

    def _became_ready(self, process: Process, state: StateLog) -> None:
        """Nothing that an earlier owner sent may be in the air any more.

        A later one's may: this one was replaced while it read, and learns so from the log before
        it sends (a static member that was cut off and whose place another machine has taken).
        """
        partition = state.tp.partition
        epoch = state._epoch or 0
        if epoch >= self._epochs.get(partition, 0):  # one that woke up late reads to its own only
            self._ready[partition], self._epochs[partition] = state, epoch
        self._ever_ready.add(state)
        self._world.tell(f"{process.name} is ready with partition {partition}")
        earliest = self._world.clock.now - self._world.setup.request_timeout
        for other in self._world.processes:
            for call in other.calls.values():
                of = call.states.get(partition)
                if of is None or of is state or call.ended or call.began <= earliest:
                    continue
                if (of._epoch or 0) > (state._epoch or 0):
                    continue
                self._notes.fail(
                    "in the air",
                    f"{process.name} is ready with partition {partition} while request "
                    f"{call.serial} of {other.name} is in the air",
                )
