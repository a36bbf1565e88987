"""The demo: a whole local world, the real consumer in it, and a verdict from outside.

Broker, registry and TikTok run in this process on free ports of the loopback interface; the
consumer is the installed command in a process of its own. It is killed (SIGKILL) in the middle and
started again, TikTok loses answers and throttles a pixel, and at the end everybody who was not the
consumer is asked whether each event was delivered once and each bad one put aside.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import yaml
from rich.console import Console

from consumer.sandbox import plot, receipts, registry, summary
from consumer.sandbox.broker import PARTITIONS, BrokerError, EmbeddedBroker
from consumer.sandbox.consumer_process import ConsumerError, ConsumerProcess
from consumer.sandbox.emulator import serve as serve_tiktok
from consumer.sandbox.evidence import Evidence, Run, due_after, findings
from consumer.sandbox.figures import Figures
from consumer.sandbox.narrator import narrator
from consumer.sandbox.paced_producer import PacedProducer
from consumer.sandbox.samples import generate
from consumer.schemas import load_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from consumer.sandbox.emulator import Running
    from consumer.sandbox.narrator import Narrator
    from consumer.sandbox.samples import Sample

_FAILED = 1
_WIDTH = 80
_LOOK_SECONDS = 0.1
_PATIENCE_SECONDS = 90.0


class DemoError(Exception):
    """The demo could not be played to its end; the text says why."""


def run(*, events: int, seed: int) -> int:
    """Plays the demo with so many events and prints its summary.

    Returns:
        0 if every promise held; 1 if one did not, the demo could not be played, or it was
        interrupted. All processes are gone then and all files too, except the consumer's log and
        configuration where something went wrong.
    """
    console = Console(width=min(Console().width, _WIDTH))
    folder = Path(tempfile.mkdtemp(prefix="tiktok-events-demo-"))
    try:
        with narrator(console, events) as tell:
            evidence = asyncio.run(_play(events, seed, folder, tell))
    except (KeyboardInterrupt, asyncio.CancelledError):
        shutil.rmtree(folder, ignore_errors=True)
        console.print("Interrupted: everything is stopped and cleaned up.")
        return _FAILED
    except (DemoError, ConsumerError, BrokerError, OSError) as error:
        console.print(f"The demo failed: {error}", markup=False, highlight=False, soft_wrap=True)
        _keep_log(console, folder)
        return _FAILED
    differences = findings(evidence)
    summary.show(console, summary.summarise(evidence), differences)
    if differences:
        _keep_log(console, folder)
        return _FAILED
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _keep_log(console: Console, folder: Path) -> None:
    shutil.rmtree(folder / "state", ignore_errors=True)
    text = f"The consumer's log and configuration: {folder}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


async def _play(events: int, seed: int, folder: Path, tell: Narrator) -> Evidence:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with AsyncExitStack() as stack:
        tell.now("starting a broker, a schema registry and TikTok's emulator")
        broker = EmbeddedBroker()
        await asyncio.to_thread(broker.start)
        stack.push_async_callback(asyncio.to_thread, broker.stop)
        schemas = await stack.enter_async_context(registry.serve())
        tiktok = await stack.enter_async_context(serve_tiktok())
        schema = orjson.dumps(load_schema("conversion_event")).decode()
        settings = plot.samples(
            time.time_ns() // 1_000_000, schemas.register(f"{plot.TOPIC}-value", schema)
        )
        # A topic of the mock cluster begins with whoever asks for it, if it may create topics.
        await asyncio.to_thread(broker.produce, plot.TOPIC, ())
        tell.say(f"Kafka at {broker.bootstrap_servers}, registry at {schemas.url},")
        tell.say(f"TikTok at {tiktok.url}")
        tell.now(f"inventing {events:,} events")
        samples = await asyncio.to_thread(lambda: list(generate(events, seed, settings)))
        config_file = folder / "tiktok-events.yaml"
        state = folder / "state"
        config = plot.configuration(broker.bootstrap_servers, schemas.url, tiktok.url, state)
        config_file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        demo = _Demo(
            samples=samples,
            seed=seed,
            config_file=config_file,
            broker=broker,
            tiktok=tiktok,
            tell=tell,
            stack=stack,
        )
        return await demo.play()


class _Demo:
    """The course of events, once the world stands."""

    def __init__(
        self,
        *,
        samples: Sequence[Sample],
        seed: int,
        config_file: Path,
        broker: EmbeddedBroker,
        tiktok: Running,
        tell: Narrator,
        stack: AsyncExitStack,
    ) -> None:
        self._samples = samples
        self._seed = seed
        self._config_file = config_file
        self._broker = broker
        self._tiktok = tiktok
        self._tell = tell
        self._stack = stack
        self._producer = PacedProducer(broker, samples)
        self._throttled: dict[str, float] = {}

    async def play(self) -> Evidence:
        """Plays it and collects what is known afterwards.

        Raises:
            DemoError: the consumer does not get to its end.
            ConsumerError: it ended by itself or does not answer.
            BrokerError: the embedded broker did not do its part.
        """
        tell = self._tell
        first = await self._start("consumer-1")
        began = time.time()
        await self._watch(first, lambda status: bool(status["partitions"]))
        self._tiktok.play(plot.rough_day(self._seed))
        tell.say(f"Consumer at work: {first.url}/ shows what it does")
        tell.say("TikTok fails at times, or loses its answer after it has counted")
        self._stack.push_async_callback(self._producer.stop)
        self._producer.start()
        await self._watch(first, self._in_the_middle)
        seen = await _look(first)
        exit_code = await first.kill()
        killed_run = (began, time.time(), True, exit_code)
        tell.say("Consumer killed (SIGKILL) with requests in the air; starting it again")
        before = await self._committed()

        second = await self._start("consumer-2")
        began = time.time()
        tell.now(f"the broker waits {plot.SESSION_SECONDS:.0f} s for the member that was killed")
        await self._watch(second, lambda status: bool(status["partitions"]))
        self._tiktok.play(plot.throttling(self._seed))
        tell.say(f"Consumer back at work: {second.url}/")
        await self._watch(second, self._all_settled)
        await self._producer.stop()
        last_seen = await _look(second)
        tell.say("Everything is settled and committed")
        tell.now("stopping the consumer (SIGTERM)")
        exit_code = await second.stop()
        tell.say(f"Consumer stopped with exit code {exit_code}")
        ended_run = (began, time.time(), False, exit_code)
        tell.now("asking TikTok, dead letters, receipts and the broker what they have")
        records = await asyncio.to_thread(self._broker.read_all, plot.TOPIC)
        ends = dict.fromkeys(range(PARTITIONS), 0)
        ends |= {record.partition: record.offset + 1 for record in records}
        return Evidence(
            self._samples,
            self._producer.began_at,
            (
                Run(*killed_run, due_after(records, self._samples, {}), *seen),
                Run(*ended_run, due_after(records, self._samples, before), *last_seen),
            ),
            list(self._tiktok.truth.events()),
            list(self._tiktok.truth.recent),
            self._tiktok.truth.summary(),
            await asyncio.to_thread(self._broker.read_all, plot.DEAD_LETTERS),
            receipts.told(await asyncio.to_thread(self._broker.read_all, plot.RECEIPTS)),
            ends,
            await self._committed(),
            self._throttled,
            plot.TIMEOUT_SECONDS,
        )

    async def _start(self, name: str) -> ConsumerProcess:
        self._tell.now("starting the consumer")
        log_file = self._config_file.with_name(f"{name}.log")
        consumer = ConsumerProcess(self._config_file, log_file, {plot.TOKEN_VARIABLE: "any"})
        self._stack.push_async_callback(consumer.kill)
        await consumer.start()
        return consumer

    async def _watch(
        self, consumer: ConsumerProcess, until: Callable[[Mapping[str, Any]], bool]
    ) -> None:
        """Tells how the consumer gets on, until something is so."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        looked = time.monotonic()
        while True:
            self._producer.check()
            status = await consumer.status()
            if until(status):
                return
            now = time.monotonic()
            self._tell_state(status, now - looked)
            looked = now
            if now > deadline:
                left = len(self._samples) - _settled(status)
                raise DemoError(
                    f"{left:,} events are not settled after {_PATIENCE_SECONDS:.0f} s;"
                    f" partitions are paused for {_pauses(status)}"
                )
            await asyncio.sleep(_LOOK_SECONDS)

    def _tell_state(self, status: Mapping[str, Any], elapsed: float) -> None:
        self._tell.produced(self._producer.produced)
        if not status["partitions"]:
            return
        self._tell.settled(_settled(status))
        throttled = [d["event_source_id"] for d in status["destinations"] if _is_throttled(d)]
        for name in throttled:
            self._throttled[name] = self._throttled.get(name, 0.0) + elapsed
        if throttled:
            names = ", ".join(throttled)
            self._tell.now(f"TikTok throttles {names}: its events wait, others go on")
        else:
            self._tell.now("delivering")

    def _in_the_middle(self, status: Mapping[str, Any]) -> bool:
        produced = self._producer.produced >= plot.KILLED_AFTER * len(self._samples)
        return produced and (status["in_flight"]["requests"] > 0 or self._producer.done)

    def _all_settled(self, status: Mapping[str, Any]) -> bool:
        """Whether nothing is left; a parked event is committed, and has its outcome later."""
        totals = dict(status["totals"])
        outcomes = sum(totals.values()) - totals["consumed"]
        parked = sum(one["lag"] or 0 for one in status["retry"])
        passed = self._producer.done and _settled(status) == len(self._samples)
        return passed and not parked and outcomes >= totals["consumed"]

    async def _committed(self) -> dict[int, int]:
        held = await asyncio.to_thread(self._broker.committed, plot.GROUP, plot.TOPIC)
        return {partition: offset for partition, (offset, _) in held.items()}


async def _look(consumer: ConsumerProcess) -> tuple[Mapping[str, int], Figures]:
    """The consumer's totals and figures as they are now."""
    figures = Figures.from_metrics(await consumer.metrics())
    return (await consumer.status())["totals"], figures


def _settled(status: Mapping[str, Any]) -> int:
    """Events below the committed offsets. Every partition of the mock cluster begins at 0."""
    return sum(partition["committed"] or 0 for partition in status["partitions"])


def _is_throttled(destination: Mapping[str, Any]) -> bool:
    return bool(destination["state"] == "throttled")


def _pauses(status: Mapping[str, Any]) -> str:
    reasons = {p["paused"] for p in status["partitions"] if p["paused"]}
    return ", ".join(sorted(reasons)) or "no reason"
