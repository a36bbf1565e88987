"""TikTok's emulator and the sandbox's registry, each on an event loop of a thread of its own.

A test that waits for another process cannot run their loop itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

from consumer.sandbox import emulator, registry

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from contextlib import AbstractAsyncContextManager

    from consumer.sandbox.emulator import Running
    from consumer.sandbox.faults import Scenario
    from consumer.sandbox.ground_truth import AcceptedEvent, GroundTruth, RequestSeen
    from consumer.sandbox.registry import RegistryLogin, RunningRegistry, Trouble
    from consumer.sandbox.tiktok import EmulatorSettings

_SECONDS = 30.0
_T = TypeVar("_T")


class LoopThread:
    """An event loop that runs while its block lasts; calls into it wait for their result."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Runs a coroutine there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_SECONDS)

    def call(self, function: Callable[[], _T]) -> _T:
        """Calls a function there, so that it meets no other in the middle."""

        async def called() -> _T:
            return function()

        return self.run(called())

    @contextmanager
    def entered(self, context: AbstractAsyncContextManager[_T]) -> Iterator[_T]:
        """Enters an asynchronous context there, and leaves it there."""
        value = self.run(context.__aenter__())
        try:
            yield value
        finally:
            self.run(context.__aexit__(None, None, None))


class Emulator:
    """TikTok's emulator. Remembers every request, not only the latest."""

    def __init__(self, thread: LoopThread, running: Running) -> None:
        self._thread = thread
        self._running = running
        running.truth.recent = deque()

    @property
    def url(self) -> str:
        """The endpoint, for `tiktok.endpoint`."""
        return self._running.url

    def play(self, scenario: Scenario) -> None:
        """Puts a scenario in force."""
        self._thread.call(lambda: self._running.play(scenario))

    @property
    def truth(self) -> GroundTruth:
        """What it has taken; to be read in whole when nobody sends any more."""
        return self._running.truth

    def accepted(self) -> list[AcceptedEvent]:
        """Every event it has taken."""
        return self._thread.call(lambda: list(self._running.truth.events()))

    def requests(self) -> list[RequestSeen]:
        """Every request it has dealt with, oldest first."""
        return self._thread.call(lambda: list(self._running.truth.recent))

    @property
    def events_accepted(self) -> int:
        """How many events have counted."""
        return self._running.truth.events_accepted

    @property
    def events_deduplicated(self) -> int:
        """How many repeats were dropped."""
        return self._running.truth.events_deduplicated

    @property
    def requests_by_fault(self) -> dict[str, int]:
        """How many requests each kind of fault has struck."""
        return self._running.truth.requests_by_fault


class Registry:
    """The sandbox's schema registry, which can be down, slow, or ask for a login."""

    def __init__(self, thread: LoopThread, running: RunningRegistry) -> None:
        self._thread = thread
        self._running = running

    @property
    def url(self) -> str:
        """Where clients find it; the same after `down` and `up`."""
        return self._running.url

    @property
    def trouble(self) -> Trouble:
        """What is wrong with it."""
        return self._running.trouble

    @property
    def requests(self) -> list[str]:
        """The paths it was asked for."""
        return self._running.requests

    def register(self, subject: str, text: str) -> int:
        """Registers a schema; returns its id."""
        return self._thread.call(lambda: self._running.register(subject, text))

    def down(self) -> None:
        """Refuses connections from now on."""
        self._thread.run(self._running.down())

    def up(self) -> None:
        """Answers again."""
        self._thread.run(self._running.up())


@contextmanager
def run_emulator(settings: EmulatorSettings | None = None) -> Iterator[Emulator]:
    """An emulator for the length of the block."""
    with ExitStack() as stack:
        thread = stack.enter_context(LoopThread())
        yield Emulator(thread, stack.enter_context(thread.entered(emulator.serve(settings))))


@contextmanager
def run_registry(login: RegistryLogin | None = None) -> Iterator[Registry]:
    """A registry for the length of the block."""
    with ExitStack() as stack:
        thread = stack.enter_context(LoopThread())
        yield Registry(thread, stack.enter_context(thread.entered(registry.serve(login))))
