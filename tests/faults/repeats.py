"""Why an event came to TikTok more than once: each time, an excuse or a broken promise.

A request whose events were sent again is excused where the consumer could not know that TikTok had
taken them: the answer was withheld or came to nobody, or the process ended, stood still or was cut
off between the answer and the mark. Whatever the excuse, what stood marked in the state topic when
the sender took the partition over was known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from consumer.sandbox.faults import FaultKind
from tests.faults.evidence import IncidentKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.sandbox.ground_truth import RequestSeen
    from tests.faults.evidence import Evidence, Incident

GRACE: Final = 3.0
"""Seconds that an answer may take to become a mark, on a machine whose two cores are all busy.

A process that lived on for longer, undisturbed, knew what TikTok had taken.
"""

RECOVERY: Final = 15.0
"""Seconds after an outage of the broker in which its clients may still be finding it again."""

_BEFORE_THE_MARK: Final = {
    IncidentKind.KILL: "killed between answer and mark",
    IncidentKind.STOP: "stopped between answer and mark",
    IncidentKind.CUT: "cut off from the broker between answer and mark",
    IncidentKind.BROKER: "broker away between answer and mark",
}
_IN_THE_AIR: Final = {
    IncidentKind.KILL: "killed while waiting for the answer",
    IncidentKind.STOP: "stopped while waiting for the answer",
}
_OUTAGES: Final = frozenset({IncidentKind.CUT, IncidentKind.BROKER})


def excuse(evidence: Evidence, number: int) -> str | None:
    """Why the consumer could not know that a request had been accepted; None: it knew."""
    request = evidence.answers.requests[number]
    answered = evidence.answers.answered_at[number]
    if request.fault == FaultKind.CLOSE_AFTER:
        return "answer withheld: connection broken"
    late = answered is None or answered - request.at > evidence.timeout - 0.1
    if request.fault == FaultKind.LATE and late:
        return "answer withheld: too late"
    mine = [i for i in evidence.incidents if i.app is None or i.app == request.app]
    if answered is None:
        return _hung_up(request, mine, evidence.timeout)
    for incident in mine:
        why = _BEFORE_THE_MARK.get(incident.kind)
        if why is not None and _disturbs(incident, answered):
            return why
    return None


def _hung_up(request: RequestSeen, incidents: Sequence[Incident], timeout: float) -> str:
    for incident in incidents:
        why = _IN_THE_AIR.get(incident.kind)
        began, ended = incident.began, incident.ended
        if why is not None and began - timeout - GRACE <= request.at <= ended + GRACE:
            return why
    return "the client hung up before the answer"


def _disturbs(incident: Incident, answered: float) -> bool:
    """Whether an answer that went out then may have met with the incident before its mark."""
    after = RECOVERY if incident.kind in _OUTAGES else GRACE
    if incident.kind is IncidentKind.KILL:
        after = 0.1  # nobody was there to read it
    return incident.began - GRACE <= answered <= incident.ended + after


def was_marked(evidence: Evidence, event: int, repeat: RequestSeen) -> bool:
    """Whether the sender of a repeat must have known the event's mark when it began to send.

    It must where the mark stands before the record by which the partition's owner of that time
    has taken it over, and where that owner wrote the mark itself. An earlier owner's mark that
    came only after the take-over need not be known.
    """
    history = evidence.history
    began = repeat.at - repeat.upload_seconds
    marks = [m for m in history.marks.get(evidence.keys[event], ()) if m.at < began]
    opens = history.opens.get(event % evidence.load.partitions, ())
    owner = max((o for o in opens if o.at <= began), default=None)
    if owner is None:
        return bool(marks)
    return any(mark.offset < owner.offset or mark.process == owner.process for mark in marks)
