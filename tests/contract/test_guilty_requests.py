"""A batch with bad events over a real socket: what the emulator says is enough to find them."""

from __future__ import annotations

import random

import pytest

from consumer.batch import BatchLimits
from consumer.client import Client
from consumer.sandbox.emulator import serve
from consumer.sandbox.faults import Scenario
from consumer.sandbox.rules import IndexWording
from consumer.sandbox.tiktok import EmulatorSettings
from consumer.secret import SecretSource
from consumer.tokens import Tokens
from tests.support.emulated import bad_event
from tests.support.world import PIXEL, World, event

EVENTS = 1000


@pytest.mark.parametrize("wording", IndexWording)
async def test_of_a_thousand_events_only_the_bad_ones_are_refused(wording: IndexWording) -> None:
    """Every good one is accepted once; every bad one is dead-lettered with code and request id."""
    bad = set(random.Random(str(wording)).sample(range(EVENTS), 3))
    world = World(
        answer=lambda _request: None,
        batch=BatchLimits(max_events=EVENTS, linger=1.0),
        requests_per_second=1e6,
    )
    world.assign(0)
    world.produce(*(bad_event(str(n)) if n in bad else event(str(n)) for n in range(EVENTS)))
    tokens = Tokens({("web", PIXEL): SecretSource(env="TOKEN")}, {"TOKEN": "made-up-token"})
    async with serve(EmulatorSettings(scenario=Scenario(wording=wording))) as running:
        client = Client(running.url, 5.0, tokens, 4)
        try:
            while world.in_air:
                request = world.in_air[0]
                world.reply(await client.send(request), request)
                world.run(0.0)
        finally:
            await client.close()
        taken = list(running.truth.events())

    assert {one.identity.event_id for one in taken} == {
        str(n) for n in range(EVENTS) if n not in bad
    }
    assert {(one.accepted, one.deduplicated) for one in taken} == {(1, 0)}
    letters = {
        int(dict(letter.headers)["dlq.source.offset"] or b"-1"): letter for letter in world.letters
    }
    assert letters.keys() == bad
    for letter in letters.values():
        headers = dict(letter.headers)
        assert headers["dlq.tiktok.code"] == b"40002"
        assert headers["dlq.tiktok.request_id"]
    assert world.idle()
