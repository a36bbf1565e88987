"""Look-ups: what is asked of the local stores, and what becomes of the events by their answers.

An event is looked up when the memory of its partition is complete; until then it waits with its
partition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.dedup import within_window
from consumer.event import Reason
from consumer.messages import LookUp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from consumer.deliver import Delivery
    from consumer.event import Instant, Item
    from consumer.messages import Action
    from consumer.offsets import Partition
    from consumer.settle import Settlement


class LookUps:
    """The look-ups under way; `out` takes the actions.

    `window` is in seconds. `resend_rewound`: what was settled longer ago than that and is read
    again is sent again.
    """

    def __init__(
        self,
        window: float,
        settlement: Settlement,
        delivery: Delivery,
        handles: Iterator[int],
        out: list[Action],
        *,
        resend_rewound: bool = False,
    ) -> None:
        self._window_ms = int(window * 1000)
        self._resend_rewound = resend_rewound
        self._settlement = settlement
        self._delivery = delivery
        self._handles = handles
        self._out = out
        self._asked: dict[int, tuple[LookUp, list[Item]]] = {}

    def ask(self, items_of: Mapping[Partition, list[Item]]) -> None:
        """These are to be looked up, each in its partition's store."""
        for partition, items in items_of.items():
            if not partition.state.ready:
                partition.waiting += items
                continue
            keys = [item.key for item in items]
            action = LookUp(next(self._handles), partition.source.tp, keys)
            self._asked[action.handle] = action, items
            self._out.append(action)

    def ask_waiting(self, partition: Partition) -> None:
        """The memory of a partition is complete: what waited for that is looked up."""
        waiting, partition.waiting = partition.waiting, []
        if waiting:
            self.ask({partition: waiting})

    def answered(
        self, handle: int, accepted_at: Sequence[int | None], now: Instant
    ) -> Partition | None:
        """The store said when each key was accepted (milliseconds), if it was. Whose it was."""
        asked = self._asked.pop(handle, None)
        if asked is None:
            return None
        items = asked[1]
        owner = items[0].owner
        if owner.state.ready:
            self._sort_out(owner, items, accepted_at, now)
        else:
            owner.waiting += items
        return owner

    def asked(self, handle: int) -> tuple[LookUp, Partition] | None:
        """What was asked with this handle and is not answered, and for which partition."""
        asked = self._asked.get(handle)
        return None if asked is None else (asked[0], asked[1][0].owner)

    def drop(self, owners: AbstractSet[Partition]) -> None:
        """These partitions are no longer ours."""
        self._asked = {
            handle: asked
            for handle, asked in self._asked.items()
            if asked[1][0].owner not in owners
        }

    def _sort_out(
        self, owner: Partition, items: list[Item], accepted_at: Sequence[int | None], now: Instant
    ) -> None:
        """What was accepted is a duplicate; the rest is to be sent."""
        wall_ns, wall_ms, window_ms = now.wall_ns, now.wall_ms, self._window_ms
        attempts = owner.state.attempts
        attempts.expire(now)
        rewound_below = 0 if owner.beside is not None else owner.state.rewound_below
        for item, accepted_ms in zip(items, accepted_at, strict=True):
            item.deduplicated_ns = wall_ns
            if within_window(accepted_ms, wall_ms, window_ms):
                if attempts.since:
                    attempts.forget((item.key,))
                self._settlement.duplicate(item, accepted_ms, now)
                continue
            if item.record.offset < rewound_below and self._is_rewound(item, wall_ms):
                self._settlement.suppress(item, Reason.REWOUND, now)
                continue
            since = attempts.since.get(item.key)
            if since is not None and not (item.replay_count and since <= wall_ms - window_ms):
                # It was sent before, and its outcome was not kept. Whoever replays it after the
                # window has decided that it may count.
                item.first_unknown_ms = min(since, item.first_unknown_ms or since)
            self._delivery.add(item, now)

    def _is_rewound(self, item: Item, wall_ms: int) -> bool:
        """Whether a record that was settled before is too old for its mark to be there still."""
        if self._resend_rewound or item.mapped is None:
            return False
        written_ms = item.record.timestamp
        if written_ms < 0:
            written_ms = item.mapped.event_time_ms
        return wall_ms - written_ms > self._window_ms
