"""Bugs to plant: each breaks the engine in one small way, for as long as a run lasts.

What the simulation is worth shows in that it catches every one of them. `PLANTED` says what each
one is; the seeds that catch them are in `caught.txt`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.simulation import bugs_of_delivery, bugs_of_memory, bugs_of_offsets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.bug import Bug

PLANTED: dict[str, Bug] = bugs_of_memory.BUGS | bugs_of_offsets.BUGS | bugs_of_delivery.BUGS


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Plants a bug while the context lasts; None plants nothing."""
    if name is None:
        yield
        return
    bug = PLANTED[name]
    original = bug.owner.__dict__[bug.name]
    setattr(bug.owner, bug.name, bug.broken(original))
    try:
        yield
    finally:
        setattr(bug.owner, bug.name, original)
