"""What a process may send when it has stood still for longer than its session: nothing, but...

It owns nothing any more, whatever it thinks, until it has taken a partition over again. Only what
it was sending at the very moment when it was stopped goes out with its first breath: no check can
stand between the last check and the kernel.

Where nobody else has taken anything over meanwhile, it may not have lost anything: the broker ends
sessions by its own clock, and may have stood still, too.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from tests.faults.evidence import IncidentKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.evidence import Evidence, Incident

BREATH: Final = 0.2
"""Seconds within which a request that was being sent arrives after the process goes on."""

_ENDS: Final = frozenset({IncidentKind.KILL, IncidentKind.LEAVE})


def being_sent(evidence: Evidence) -> frozenset[int]:
    """The requests that were being sent when their process was stopped.

    Those whose head had arrived; and, as a process writes one request after the other, at most one
    for each stop that arrives whole right after it.
    """
    numbers = set()
    for stop in _long_stops(evidence):
        whole = []
        for number in _after_waking(evidence, stop):
            request = evidence.answers.requests[number]
            if request.at - request.upload_seconds < stop.ended:
                numbers.add(number)
            elif request.at < stop.ended + BREATH:
                whole.append(number)
        numbers.update(whole[:1])
    return frozenset(numbers)


def unproven(evidence: Evidence) -> list[str]:
    """What was sent by a process that woke up and had not taken any partition over again."""
    excused = being_sent(evidence)
    return [
        f"{request.app} sent {request.events} events {request.at - stop.ended:.3f} s after it"
        f" woke up from {stop.ended - stop.began:.1f} s, before it owned a partition again"
        for stop in _long_stops(evidence)
        for number in _after_waking(evidence, stop)
        if number not in excused
        for request in (evidence.answers.requests[number],)
    ]


def _long_stops(evidence: Evidence) -> Iterator[Incident]:
    return (
        incident
        for incident in evidence.incidents
        if incident.kind is IncidentKind.STOP
        and incident.ended - incident.began > evidence.session + 1.0
    )


def _after_waking(evidence: Evidence, stop: Incident) -> Iterator[int]:
    """The requests of the stopped process between its waking up and its next take-over.

    None where no other process has taken anything over while it stood still.
    """
    process = _process_of(evidence, stop)
    if process is None:
        return
    opens = [o for owners in evidence.history.opens.values() for o in owners]
    again = min(
        (o.at for o in opens if o.process == process and o.at > stop.ended), default=float("inf")
    )
    if not any(o.process != process and stop.began < o.at <= stop.ended for o in opens):
        return
    lived_until = min(
        (
            incident.began
            for incident in evidence.incidents
            if incident.kind in _ENDS and incident.app == stop.app and incident.began >= stop.ended
        ),
        default=float("inf"),
    )
    for number, request in enumerate(evidence.answers.requests):
        if request.app == stop.app and stop.ended < request.at < min(again, lived_until):
            yield number


def _process_of(evidence: Evidence, stop: Incident) -> bytes | None:
    """Which process of this member was the last to mark something before it was stopped."""
    found = [
        (at, process)
        for process, marks in evidence.history.first_keys.items()
        if _app_of(evidence, process) == stop.app
        for at, _ in marks
        if at < stop.began
    ]
    return max(found)[1] if found else None


def _app_of(evidence: Evidence, process: bytes) -> str | None:
    """Whose process it was: of most of what it marked. The rest others had sent before it."""
    apps = Counter(
        app
        for _, key in evidence.history.first_keys[process]
        if (app := evidence.app_of_key.get(key)) is not None
    )
    return apps.most_common(1)[0][0] if apps else None
