"""What these tests share: worlds around the one broker, with a registry of either kind."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.pipeline_world import SCHEMA_TEXT, PipelineWorld
from tests.support.sandbox_threads import Registry, run_emulator, run_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.kafka import RealKafka


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Ends what a test has begun, the latest first."""
    with ExitStack() as entered:
        yield entered


@pytest.fixture
def new_world(kafka: RealKafka, stack: ExitStack, tmp_path: Path) -> Callable[..., PipelineWorld]:
    """Makes worlds: `new_world(registry_url, schema_id, settings=None, **of_the_world)`."""

    def make(registry_url: str, schema_id: int, settings: Any = None, **more: Any) -> PipelineWorld:
        emulator = stack.enter_context(run_emulator(settings))
        return PipelineWorld(kafka, emulator, registry_url, schema_id, tmp_path, **more)

    return make


@pytest.fixture
def sandbox_registry(stack: ExitStack) -> Registry:
    """The sandbox's registry."""
    return stack.enter_context(run_registry())


@pytest.fixture
def world(new_world: Callable[..., PipelineWorld], sandbox_registry: Registry) -> PipelineWorld:
    """A world with the sandbox's registry and an emulator that takes any token."""
    schema_id = sandbox_registry.register("conversions-value", SCHEMA_TEXT)
    return new_world(sandbox_registry.url, schema_id)


@pytest.fixture
def real_registry_world(new_world: Callable[..., PipelineWorld], registry: Any) -> PipelineWorld:
    """A world with the real registry."""
    schema_id = registry.register("conversions-value", SCHEMA_TEXT)
    return new_world(registry.url, schema_id)
