"""Events whose time is over before TikTok has taken them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.event import Reason, Refused

if TYPE_CHECKING:
    from consumer.event import Instant, Item


def expiry(item: Item, now_ms: int, give_up_ms: float) -> Refused | None:
    """Whether an event's time is over.

    One that TikTok may have taken is repeated only while a repeat is surely within TikTok's own
    window; one that was only ever refused waits as long as it is not too old.
    """
    if item.first_unknown_ms is not None:
        if now_ms - item.first_unknown_ms >= give_up_ms:
            return Refused(
                Reason.RETRIES_EXHAUSTED,
                "no attempt had a known outcome within retry.give_up_after",
            )
        return None
    mapped = item.mapped
    if mapped is not None and now_ms - mapped.event_time_ms > mapped.destination.max_age_ms:
        return Refused(
            Reason.TOO_OLD,
            "the event became too old while its destination took nothing",
            "event_time",
        )
    return None


def take_out_expired(
    items: list[Item], now: Instant, give_up_after: float
) -> list[tuple[Item, Refused]]:
    """Takes those whose time is over out of the list (`give_up_after` in seconds)."""
    now_ms, give_up_ms = now.wall_ms, give_up_after * 1000
    expired = [
        (item, refused)
        for item in items
        if (refused := expiry(item, now_ms, give_up_ms)) is not None
    ]
    if expired:
        gone = {item for item, _ in expired}
        items[:] = [item for item in items if item not in gone]
    return expired
