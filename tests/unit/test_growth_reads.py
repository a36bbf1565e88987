"""A source that got more partitions: several owners in one process read the same partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.event import TopicPartition
from consumer.messages import Action, GiveUp, ReadState
from tests.support.world import STATE, TOPIC, World, event

if TYPE_CHECKING:
    from collections.abc import Iterable


class OneReadEach(World):
    """Reads the state topic as the real reader does: a read takes the place of one before it.

    A partition that is given up is answered no more.
    """

    asked: dict[TopicPartition, ReadState]

    def __post_init__(self) -> None:
        """Nothing is asked for."""
        super().__post_init__()
        self.asked = {}

    def _carry_out(self, action: Action) -> list[Action]:
        if isinstance(action, ReadState):
            self.asked[action.tp] = action
            return []
        if isinstance(action, GiveUp):
            self.asked.pop(action.state_tp, None)
        return super()._carry_out(action)

    def answer_reads(self, until: TopicPartition | None = None) -> None:
        """Answers all reads and those that follow; or until the first owner reads this one."""
        while self.asked:
            tp, read = next(iter(self.asked.items()))
            owner, _ = self.engine._memory.waited_for(read.handle) or (None, None)
            if owner is self.partition(0).state and tp == until:
                return
            del self.asked[tp]
            chunk = self.state_topic.chunk(read)
            self._do(self.engine.state_read(read.handle, chunk, self.clock.now))


def grown_world(owned: Iterable[int]) -> OneReadEach:
    """A world that owns these of four partitions when its source has grown."""
    world = OneReadEach()
    world.take_over(*owned)
    world.answer_reads()
    for partition in owned:
        world.produce(event(f"before-{partition}"), partition=partition)
    world.run(1.0)
    world._do(world.engine.grown(TOPIC, 4, world.clock.now))
    for partition in owned:
        world.produce(event(f"after-{partition}"), partition=partition)
    world.run(1.0)
    return world


def test_owners_of_one_process_read_the_grown_source_one_after_the_other() -> None:
    """All of them read all partitions; a read that another one replaces is never answered."""
    world = grown_world(range(3))
    for _ in range(20):
        world.answer_reads()
        world.run(1.0)
    assert {partition: world.holds(partition) for partition in range(3)} == {
        0: set(),
        1: set(),
        2: set(),
    }
    assert all(len(world.outcomes(partition)) == 2 for partition in range(3))


def test_a_partition_that_goes_does_not_end_the_reads_of_those_that_stay() -> None:
    """Its state partition is read by the others, too."""
    world = grown_world(range(2))
    world.answer_reads(until=TopicPartition(STATE, 1))
    assert world.holds(0)
    world.lose(1)
    for _ in range(20):
        world.answer_reads()
        world.run(1.0)
    assert world.holds(0) == set()
