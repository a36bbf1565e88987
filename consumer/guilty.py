"""The search for the guilty events of a refused request.

One bad event makes TikTok refuse all of a request. Its message may name the first bad one by its
place, or nobody. Named: the event is sent again alone and the rest without it. Nobody: each half
goes by itself. So an event is dead-lettered only on a refusal of a request that held nothing else:
a place that is off by one, or that somebody made up in a value which TikTok quotes, costs a request
and never a good event. Once an event that was named has been accepted, no place is believed any
more in what is left of that request.

A bad event costs two requests where places are right, and at most 2 * log2(n) + 4 without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from consumer.event import Item, Reason, Refused
from consumer.redact import redact
from consumer.verdict import Kind, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.batch import Batch


class Search(NamedTuple):
    """What a refusal settles: events that are refused for good, and what is to be sent next."""

    refused: Sequence[tuple[Item, Refused]] = ()
    again: Sequence[Batch] = ()


def hold_if_envelope(batch: Batch, verdict: Verdict) -> Verdict:
    """The verdict; a hold, with an alert, where it means the destination and none of its events.

    A test code that came with the events is theirs; the destination's is its set-up.
    """
    blame = verdict.blame
    theirs = blame.field == "test_event_code" and (
        batch.test_event_code != batch.destination.test_event_code
    )
    if not blame.envelope or theirs:
        return verdict
    why = f"TikTok refuses {blame.field}: check the destination"
    rule = verdict.rule._replace(kind=Kind.HELD, why=why, alert=True)
    return verdict._replace(kind=Kind.HELD, rule=rule)


def search(batch: Batch, verdict: Verdict) -> Search:
    """Goes on with a batch that was refused because of its events."""
    blame, items = verdict.blame, batch.items
    if len(items) == 1 or blame.envelope:
        return Search([(item, refusal(verdict)) for item in items])
    if blame.event is None or batch.trail.misled:
        return Search(again=batch.halves())
    named, rest = items[blame.event], items[: blame.event] + items[blame.event + 1 :]
    alone = batch.part([named])
    alone.named = True
    return Search(again=(alone, batch.part(rest)))


def accepted(batch: Batch, verdict: Verdict) -> tuple[Sequence[Item], list[tuple[Item, Refused]]]:
    """Which events of an accepted batch were taken, and which a partial success names as not."""
    if batch.named:
        batch.trail.misled = True
    if not verdict.failed:
        return batch.items, []
    failed = set(verdict.failed)
    taken: list[Item] = []
    refused: list[tuple[Item, Refused]] = []
    for index, item in enumerate(batch.items):
        if index in failed or item.event_id in failed:
            refused.append((item, refusal(verdict)))
        else:
            taken.append(item)
    return taken, refused


def refusal(verdict: Verdict) -> Refused:
    """TikTok's refusal of one event; its text may quote the value, so it is redacted."""
    if verdict.code is None and verdict.http_status == 413:  # noqa: PLR2004  HTTP: content too large
        return Refused(Reason.TOO_LARGE, "TikTok refuses a request of this size (HTTP 413)")
    detail = redact(verdict.message or "") or verdict.rule.why
    return Refused(Reason.REJECTED, detail, verdict.blame.field)
