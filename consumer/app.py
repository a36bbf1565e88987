"""The composition root: everything is built here, with constructor calls, from one configuration.

The lifecycle has three verbs, start, run and stop; one deadline is shared by all that stopping
takes, and a second signal ends the process at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import logging
import os
import signal
import ssl
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from consumer import __version__, compose, logs
from consumer.admin import Admin
from consumer.client import Client
from consumer.emit import Emitter
from consumer.errors import ConfigError, Problem, StartError, TikTokEventsError
from consumer.messages import RegistryUnavailable
from consumer.observer import Observer
from consumer.pipeline import Pipeline, clock
from consumer.position import Earliest, Latest
from consumer.registry import BasicAuth, BearerAuth, Registry
from consumer.source import Source
from consumer.source_events import SourceSettings, StartTime
from consumer.state_reader import StateReader
from consumer.status import WAITING_FOR_GROUP, Status
from consumer.store import Stores
from consumer.telemetry import Telemetry
from consumer.tokens import CHECK_SECONDS, Tokens, TokenWatch
from consumer.topic_rules import Spans
from consumer.topics import TopicKeeper

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from consumer.config import Config
    from consumer.receipt import Receipts
    from consumer.settings import SchemaSettings

logger = logging.getLogger(__name__)
T = TypeVar("T")

DRAIN_SHARE = 0.7
"""Of `shutdown_timeout`: for settling what is in flight. The rest commits, flushes, leaves."""

MOST_AT_ONCE = 500
"""Records in a chunk of the source; fewer where so many would be a large part of the bounds, so
that one chunk of the retry topic does not fill them with events of a destination that is shut."""

SAMPLE_SECONDS = 1.0

TOPICS_SECONDS = 60.0
"""Between two looks at the program's own topics: a source may have grown."""

START_PAUSE_SECONDS = 2.0
"""Between two questions to a broker or registry that was away at the start."""


def run(config: Config) -> int:
    """Delivers events until a signal says stop; the exit code.

    Raises:
        ConfigError: something the configuration names cannot be used.
    """
    _share_arenas()
    logs.configure()
    logger.info("tiktok-events %s", __version__, extra={"configuration": config.masked()})
    try:
        asyncio.run(App(config, os.environ).run())
    except ConfigError:
        raise
    except TikTokEventsError as error:
        logger.critical("%s", error)
        return 1
    logger.info("stopped")
    return 0


class App:
    """One consumer process. To be built and run on the event loop."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self._config = config
        self._environ = environ
        self._receipts = compose.receipts_of(config)
        self._properties = {
            **config.kafka.properties,
            "bootstrap.servers": config.kafka.bootstrap_servers,
        }

    async def run(self) -> None:
        """Starts, runs until a signal or a failure, and stops.

        Raises:
            TikTokEventsError: it could not start, or could not go on.
        """
        config = self._config
        loop = asyncio.get_running_loop()
        targets = compose.destinations(config)
        telemetry = Telemetry.from_environment(
            service_version=__version__,
            group=config.kafka.group_id,
            endpoint_url=config.tiktok.endpoint,
        )
        engine = compose.engine(
            config,
            targets,
            receipts=self._receipts,
            begin_trace=telemetry.tracer.begin,
            request_trace=telemetry.tracer.request,
        )
        stores = Stores(config.dedup.directory, config.kafka.group_id, config.dedup.window)
        status = Status(__version__, config.kafka.group_id, engine, stores, clock)
        observer = Observer(telemetry, status)
        tokens = Tokens(
            {
                (d.event_source.value, d.event_source_id): settings.access_token
                for d, settings in targets.items()
            },
            self._environ,
        )
        client = Client(
            config.tiktok.endpoint,
            config.tiktok.timeout,
            tokens,
            config.limits.max_concurrency * len(targets),
            may_send=lambda: engine.lease.holds(clock().mono),
        )
        registry = registry_of(config.schema_, self._environ)
        drain = config.shutdown_timeout * DRAIN_SHARE
        pipeline = Pipeline(
            engine,
            sender=client,
            schemas=registry,
            stores=stores,
            observer=observer,
            drain_seconds=drain,
        )
        emitter = Emitter(self._properties, pipeline.acknowledged, loop)
        source = Source(self._source_settings(drain), pipeline, loop)
        states = StateReader(
            self._properties,
            config.kafka.group_id,
            loop,
            pipeline.state_read,
            pipeline.state_unread,
        )
        pipeline.source, pipeline.producer, pipeline.state_source = source, emitter, states
        topics = self._topic_keeper()
        admin = Admin(
            status,
            telemetry.metrics,
            config.admin.host,
            config.admin.port,
            config.admin.token.read(self._environ).reveal() if config.admin.token else None,
        )
        stop = _stop_signals(loop)
        async with contextlib.AsyncExitStack() as stack:
            # What was begun last ends first.
            stack.push_async_callback(telemetry.close, config.shutdown_timeout * 0.1 + 0.5)
            stack.push_async_callback(client.close)
            stack.push_async_callback(registry.close)
            stack.callback(stores.close_all)
            stack.push_async_callback(pipeline.close)
            await admin.start()
            stack.push_async_callback(admin.stop)
            grown = await _unless_stopped(self._prepare(topics, registry, status), stop)
            if grown is not None:
                emitter.start()
                stack.push_async_callback(emitter.stop, config.shutdown_timeout * 0.1)
                states.start()
                stack.push_async_callback(states.stop, config.shutdown_timeout * 0.1)
                for topic, partitions in grown:
                    pipeline.topic_grown(topic, partitions)
                pipeline.source_partitions(topics.partitions)
                await source.start()
                stack.push_async_callback(source.stop, config.shutdown_timeout * 0.9)
                beside = [
                    asyncio.create_task(work)
                    for work in (
                        _sample(observer),
                        _keep(topics, pipeline),
                        _watch(TokenWatch(tokens, targets), pipeline),
                    )
                ]
                for task in beside:
                    stack.callback(task.cancel)
                status.not_ready = WAITING_FOR_GROUP
                _calm_garbage_collector()
                ends = {stop, pipeline.failed, *beside}
                ended, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for defect in ended.intersection(beside):
                    defect.result()  # they end by that alone
            status.not_ready = "stopping"
            logger.info("stopping", extra={"settling": engine.in_flight.events})
        if pipeline.failed.done():
            pipeline.failed.result()

    def _source_settings(self, drain: float) -> SourceSettings:
        kafka = self._config.kafka
        start: Earliest | Latest | StartTime
        if isinstance(kafka.start, datetime):
            start = StartTime(int(kafka.start.timestamp() * 1000))
        else:
            start = Latest() if kafka.start == "latest" else Earliest()
        return SourceSettings(
            topics=kafka.topics,
            group_id=kafka.group_id,
            own_topics=self._config.own_topics(),
            properties=self._properties,
            start=start,
            revoke_timeout=drain + self._config.shutdown_timeout * 0.1,
            chunk_size=max(1, min(MOST_AT_ONCE, self._config.limits.max_in_flight_events // 16)),
        )

    def _topic_keeper(self) -> TopicKeeper:
        config = self._config
        return TopicKeeper(
            self._properties,
            config.kafka.topics,
            config.own_topics(),
            Spans(config.dedup.window, config.longest_max_age),
            create=config.kafka.create_topics,
        )

    async def _prepare(
        self, topics: TopicKeeper, registry: Registry, status: Status
    ) -> list[tuple[str, int]]:
        """Makes sure of all that has to be there before the first record is read.

        Returns source topics that have grown while nobody looked, with their partitions now.
        """
        grown = await self._check_topics(topics, status)
        if self._receipts is not None and self._config.schema_.encoding == "confluent":
            await _register(self._receipts, registry, status)
        return grown

    async def _check_topics(self, topics: TopicKeeper, status: Status) -> list[tuple[str, int]]:
        """Makes sure of the program's own topics; waits for a broker that is away.

        Returns source topics that have grown while nobody looked, with their partitions now.
        """
        while True:
            try:
                problems, grown = await topics.ensure()
                break
            except StartError as error:
                if not error.passing:
                    raise
                logger.warning("waiting: %s", error)
                status.not_ready = error.what
                await asyncio.sleep(START_PAUSE_SECONDS)
        if problems:
            what = "; ".join(f"{problem.topic}: {problem.what}" for problem in problems)
            how = "; ".join(dict.fromkeys(problem.how_to_mend for problem in problems))
            raise StartError(what, how)
        return [(topic, partitions) for topic, _, partitions in grown]


async def _register(receipts: Receipts, registry: Registry, status: Status) -> None:
    """Registers the schema of receipts; waits for a registry that is away, or does not let it."""
    subject, schema = f"{receipts.topic}-value", json.dumps(receipts.schema)
    while isinstance(answer := await registry.register(subject, schema), RegistryUnavailable):
        what = f"the schema of receipts is not registered as {subject}: {answer.detail}"
        logger.warning("waiting: %s", what)
        status.not_ready = what
        await asyncio.sleep(START_PAUSE_SECONDS)
    receipts.registered(answer)


def registry_of(schema: SchemaSettings, environ: Mapping[str, str]) -> Registry:
    """The client of the schema registry, signed in as configured; on the running event loop.

    Raises:
        ConfigError: the file of authorities cannot be used.
        SecretError: the password or token cannot be read.
        StartError: the environment names a proxy that cannot be used.
    """
    auth: BasicAuth | BearerAuth | None = None
    given = schema.registry_auth
    if given is not None and given.token is not None:
        auth = BearerAuth(given.token.read(environ).reveal())
    elif given is not None and given.username is not None:
        password = given.password.read(environ).reveal() if given.password else ""
        auth = BasicAuth(given.username, password)
    context = None
    if schema.registry_ca is not None:
        try:
            context = ssl.create_default_context(cafile=schema.registry_ca)
        except (OSError, ssl.SSLError) as error:
            problem = Problem("schema.registry_ca", f"no usable PEM file: {error}")
            raise ConfigError((problem,)) from error
    return Registry(schema.registry_url, auth, context, schema.registry_timeout)


def _share_arenas() -> None:
    """Lets all threads share two of the C library's heaps, and gives large buffers back at once.

    librdkafka's and RocksDB's threads would get a heap each, and keep what was freed in it, whole
    fetches among it: a tenth of the process's memory. Does nothing where it is no glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, 256 * 1024)


_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8


def _calm_garbage_collector() -> None:
    """Lets the collector look seldom, and not at what lives to the end anyway.

    The path makes many objects and no cycles: reference counting frees them. Looking for cycles
    after every 700 of them cost a tenth of the CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _unless_stopped(work: Coroutine[Any, Any, T], stop: asyncio.Future[None]) -> T | None:
    """Does a part of the start; None when a signal came before it was done."""
    task = asyncio.create_task(work)
    waited: set[asyncio.Future[Any]] = {task, stop}
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        return None
    return task.result()


async def _sample(observer: Observer) -> None:
    while True:
        observer.sample()
        await asyncio.sleep(SAMPLE_SECONDS)


async def _keep(topics: TopicKeeper, pipeline: Pipeline) -> None:
    """Extends the program's own topics while their sources grow."""
    while True:
        await asyncio.sleep(TOPICS_SECONDS)
        try:
            problems, grown = await topics.ensure()
        except StartError as error:
            logger.warning("own topics were not looked at: %s", error)
            continue
        for problem in problems:
            logger.error("%s", problem)
        for topic, _, partitions in grown:
            pipeline.topic_grown(topic, partitions)
        pipeline.source_partitions(topics.partitions)


async def _watch(tokens: TokenWatch, pipeline: Pipeline) -> None:
    """Lets destinations that are shut try another token as soon as it is there."""
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        queues = pipeline.engine.delivery.queues
        shut = {d for d, queue in queues.items() if not queue.gates.hold.is_open}
        if changed := tokens.changed(shut):
            pipeline.token_changed(changed)


def _stop_signals(loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    """Ends with the first SIGTERM or SIGINT; the second one ends the process at once."""
    stop: asyncio.Future[None] = loop.create_future()

    def on_signal(number: int) -> None:
        if stop.done():
            logger.warning("second signal: ending at once; what is in flight is read again")
            os._exit(128 + number)
        stop.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop
