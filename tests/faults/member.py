"""A consumer of a round: the installed command, and what can be done to it."""

from __future__ import annotations

import shutil
import signal
import time
from typing import TYPE_CHECKING, Any, Final

from consumer.sandbox.samples import PIXELS
from tests.faults.evidence import IncidentKind
from tests.support.consumer_process import ConsumerProcess

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.round import Round

MEMBERS: Final = 8
"""As many members as a round may have."""

TOKENS: Final = {pixel: f"TOKEN_{number}" for number, pixel in enumerate(PIXELS)}
"""The variable with each pixel's token."""


def tokens_of(app: str) -> dict[str, str]:
    """A member's token for each pixel, by which the emulator tells the members apart."""
    return {pixel: f"{app}-for-{pixel}" for pixel in PIXELS}


class Member:
    """A place for one consumer process after another: same folder, same token, same name.

    Args:
        round_: the round it takes part in.
        app: its name, also at the emulator.
        over: configuration over the round's own.
    """

    def __init__(self, round_: Round, app: str, over: dict[str, Any]) -> None:
        self._round = round_
        self._over = over
        self.app = app
        self.folder: Path = round_.folder / app
        self._process: ConsumerProcess | None = None
        self._killed = False
        self._stopped_at = 0.0

    def __repr__(self) -> str:
        return f"<Member {self.app} {self._process}>"

    @property
    def process(self) -> ConsumerProcess:
        """The process at work."""
        assert self._process is not None, f"{self.app} has not been started"
        return self._process

    @property
    def runs(self) -> bool:
        """Whether a process is at work, or stands still."""
        return self._process is not None

    @property
    def state(self) -> Path:
        """Where its store is, by default."""
        return self.folder / "state"

    def start(self) -> Member:
        """Starts a process; with others at work, and not in the place of a dead one, it joins."""
        others = any(member.runs for member in self._round.members.values())
        if self._round.under_way and others and not self._killed:
            self._round.note(IncidentKind.JOIN, self.app)
        self._killed = False
        config = self._round.config(self._over)
        environ = {TOKENS[pixel]: token for pixel, token in tokens_of(self.app).items()}
        self._process = ConsumerProcess(self.folder, config, environ)
        return self

    def kill(self) -> None:
        """Ends the process as `kill -9` does."""
        began = time.time()
        self.process.kill()
        self._process = None
        self._killed = True
        self._round.note(IncidentKind.KILL, self.app, began)

    def stop_for(self, seconds: float) -> None:
        """Lets the process stand still, as a suspended machine does, and then go on."""
        self.stand_still()
        time.sleep(seconds)
        self.go_on()

    def stand_still(self) -> None:
        """Stops the process where it is."""
        self._stopped_at = time.time()
        self.process.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Lets a process that stands still go on."""
        # Noted first: the process runs before the call returns.
        self._round.note(IncidentKind.STOP, self.app, self._stopped_at)
        self.process.signal(signal.SIGCONT)

    def leave(self) -> None:
        """Leaves the group by SIGTERM, in the middle of the work."""
        began = time.time()
        self.terminate()
        self._round.note(IncidentKind.LEAVE, self.app, began)

    def terminate(self) -> None:
        """Asks the process to end; anything but exit code 0 is a finding.

        One that had not come far enough to take signals may end by it.
        """
        process, self._process = self.process, None
        early = not process.listens
        ended = process.terminate()
        if ended.exit_code and not (early and ended.exit_code == -signal.SIGTERM):
            self._round.find(f"{process} ended with {ended.exit_code} when asked to stop")

    def wipe(self) -> None:
        """Deletes its state directory."""
        shutil.rmtree(self.state, ignore_errors=True)
        self._round.note(IncidentKind.WIPE, self.app)

    def owned(self) -> int:
        """How many partitions it has and reads."""
        return len(self.process.status().owned)

    def until_owning(self, partitions: int = 1, seconds: float = 40.0) -> None:
        """Waits until it has at least so many partitions."""
        self._round.until(
            lambda: self.owned() >= partitions, f"{self.app} owns {partitions} partitions", seconds
        )

    def check(self) -> None:
        """Fails where the process has ended by itself."""
        if self._process is not None and (ended := self._process.poll()) is not None:
            process, self._process = self._process, None
            raise AssertionError(f"{process} ended by itself: {ended}\n{process.log_end()}")

    def end(self) -> None:
        """Kills whatever still runs; the round is over."""
        if self._process is not None:
            self._process.signal(signal.SIGCONT)
            self._process.kill()
            self._process = None
