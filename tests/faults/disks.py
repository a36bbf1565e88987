"""The disk under a local store is full, and later it is not."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from tests.faults.evidence import IncidentKind
from tests.faults.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.member import Member
    from tests.faults.round import Round

_SIZE: Final = "64m"
_BLOCK: Final = bytes(1 << 16)


class Disk(Protocol):
    """Where a member has its store; it can be full. `kind` says how that is done."""

    kind: str

    def fill(self) -> None:
        """Leaves no room for another byte; if it is full, it stays so."""

    def free(self) -> None:
        """Makes room again."""


class _SmallDisk:
    """A file system in memory of a few megabytes, and a file that takes what is left."""

    kind = "a small tmpfs, filled"

    def __init__(self, folder: Path) -> None:
        self._filler = folder / "filler"

    def fill(self) -> None:
        with self._filler.open("ab", buffering=0) as filler:
            try:
                while filler.write(_BLOCK):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def free(self) -> None:
        self._filler.unlink()


class _FileLimit:
    """Where nothing may be mounted: the kernel refuses the process every write to a file."""

    kind = "RLIMIT_FSIZE of 0"

    def __init__(self, member: Member) -> None:
        self._member = member

    def fill(self) -> None:
        self._limit(0)

    def free(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        limits = (size, resource.RLIM_INFINITY)
        resource.prlimit(self._member.process.pid, resource.RLIMIT_FSIZE, limits)


@contextmanager
def _disk_of(member: Member) -> Iterator[Disk]:
    """The disk of a member that has not been started yet, for the length of the block."""
    folder = member.state
    folder.mkdir(parents=True)
    if not _mounted(folder):
        yield _FileLimit(member)
        return
    try:
        yield _SmallDisk(folder)
    finally:
        member.end()
        subprocess.run(["umount", "--lazy", folder], check=True)


def _mounted(folder: Path) -> bool:
    if os.geteuid() or shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "faults", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def disk(played: Round) -> None:
    """A member's disk is full for seconds; in half of the cases it is killed and starts so."""
    settings, draw = played.settings, played.draw
    played.produce(settings.events)
    victim = played.member(0)
    with _disk_of(victim) as its:
        played.remarks.append(f"disk full by {its.kind}")
        played.start(0, 1)
        for moment in played.spread(1 if settings.brief else settings.events // 30_000):
            played.until_accepted(moment)
            began = time.time()
            its.fill()
            time.sleep(draw.uniform(1, 4))
            if settings.brief or draw.random() < 0.5:
                victim.kill()
                victim.start()
                its.fill()  # a limit was the dead process's
                time.sleep(draw.uniform(1, 4))
            its.free()
            played.note(IncidentKind.DISK, victim.app, began)
        played.finish()


SCENARIOS: Final = (Scenario("disk", disk, rounds=4, events=150_000, brief_events=20_000),)
