"""What waits to be produced, topic by topic; no I/O.

All topics share one queue in librdkafka. Each gets a part of it, so that records for a topic that
is gone, which stay there until their time is over, do not keep the others out.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.messages import Produce

TOPIC_BYTES: Final = 8 << 20
"""What the queue holds of one topic, in bytes: a quarter of it, or one record that is larger."""


class Lane:
    """One topic: what waits for it here, and how many bytes of it are in the queue.

    Each counter has one writer: `given` whoever hands records over, `returned` the thread that
    takes the reports.
    """

    __slots__ = ("backlog", "given", "returned")

    def __init__(self) -> None:
        self.backlog: deque[Produce] = deque()
        self.given = 0
        self.returned = 0

    def takes(self, size: int) -> bool:
        """Whether so many bytes more go into the queue."""
        queued = self.given - self.returned
        return not queued or queued + size <= TOPIC_BYTES


def size_of(record: Produce) -> int:
    """Bytes of a record, as they count here."""
    return len(record.value or b"") + len(record.key or b"")


def hand_over(lanes: list[Lane], give: Callable[[Lane, Produce], bool]) -> None:
    """Give what waits, a record of each topic in turn, as far as `give` takes it."""
    while lanes:
        going_on = []
        for lane in lanes:
            if lane.backlog and give(lane, lane.backlog[0]):
                lane.backlog.popleft()
                going_on.append(lane)
        lanes = going_on
