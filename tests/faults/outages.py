"""Kafka goes away: a broker dies, a leader moves, the network between is cut."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from tests.faults.evidence import IncidentKind
from tests.faults.round import SESSION
from tests.faults.scenario import Scenario
from tests.support.tcp_proxy import Cut

if TYPE_CHECKING:
    from tests.faults.round import Round

_BACK_SECONDS: Final = 40.0


def broker(played: Round) -> None:
    """The only broker is killed and started again, the members stay."""
    settings, draw = played.settings, played.draw
    played.produce(settings.events)
    played.start(0, 1)
    for moment in played.spread(1 if settings.brief else settings.events // 25_000):
        played.until_accepted(moment)
        began = time.time()
        played.cluster.kafka.kill()
        time.sleep(draw.uniform(0, 2 * SESSION) if draw.random() < 0.3 else draw.random())
        played.cluster.kafka.restart()
        played.note(IncidentKind.BROKER, None, began)
    played.finish()


def leader(played: Round) -> None:
    """One broker of three is killed, others lead; it comes back, and leads again."""
    settings, draw, cluster = played.settings, played.draw, played.cluster
    played.produce(settings.events)
    played.start(0, 1)
    for moment in played.spread(1 if settings.brief else settings.events // 30_000):
        played.until_accepted(moment)
        began = time.time()
        cluster.local.kill_node(draw.randint(1, cluster.nodes))
        played.until_accepted(min(played.accepted + 5_000, int(settings.events * 0.85)))
        cluster.local.restart()
        played.until(
            lambda: cluster.kafka.nodes == cluster.nodes, "every broker is back", _BACK_SECONDS
        )
        played.note(IncidentKind.BROKER, None, began)
        began = time.time()
        cluster.kafka.elect_preferred_leaders()
        played.note(IncidentKind.LEADER, None, began)
    played.finish()


def network(played: Round) -> None:
    """One member, or all, cannot reach the broker for a while; or only hear no answer of it."""
    settings, draw, proxy = played.settings, played.draw, played.cluster.proxy
    assert proxy is not None
    played.produce(settings.events)
    behind = {"kafka": {"bootstrap_servers": played.cluster.front}}
    played.member(0, behind)
    if everybody := draw.random() < 0.3:
        played.member(1, behind)
    played.start(0, 1)
    for moment in played.spread(1 if settings.brief else settings.events // 25_000):
        played.until_accepted(moment)
        began = time.time()
        proxy.cut(draw.choice(list(Cut)))
        long = settings.brief or draw.random() < 0.5
        time.sleep(SESSION + 2 if long else draw.uniform(0.5, SESSION - 1))
        if draw.random() < 0.3:
            proxy.drop()
        proxy.heal()
        played.note(IncidentKind.CUT, None if everybody else "member-0", began)
        played.member(0).until_owning()
    played.finish()


SCENARIOS: Final = (
    Scenario("broker", broker, rounds=5, events=150_000, brief_events=30_000),
    Scenario("network", network, rounds=6, events=150_000, brief_events=40_000),
    Scenario("leader", leader, rounds=4, events=150_000, brief_events=30_000, nodes=3),
)
