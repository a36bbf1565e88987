"""What a scenario is: a name, a sentence, sizes, and how it is played."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.round import Round


@dataclass(frozen=True)
class Scenario:
    """One way to trouble the consumer.

    Args:
        name: as the command line takes it.
        play: produces the load, troubles the consumer and returns when everything is done.
        rounds: how many a whole run plays.
        events: records in each of them.
        brief_events: records in each of the `brief_rounds` rounds of the slice.
        protocols: of the group, one after the other from round to round.
        partitions: of the source topic.
        nodes: of the Kafka cluster.
        strict: nothing in it excuses a repeat or a second letter.
        longest_pause: seconds for which a partition may stand still, where that is promised.
    """

    name: str
    play: Callable[[Round], None]
    rounds: int
    events: int
    brief_events: int
    brief_rounds: int = 1
    protocols: tuple[str, ...] = ("classic", "consumer")
    partitions: int = 4
    nodes: int = 1
    strict: bool = False
    longest_pause: float | None = None

    @property
    def says(self) -> str:
        """What happens in it, in a sentence."""
        return (self.play.__doc__ or "").strip().partition("\n")[0]
