"""Which rounds the fault harness plays."""

from __future__ import annotations

from tests.faults.plan import SCENARIOS, plan

ALL = list(SCENARIOS.values())


def test_the_slice_touches_every_scenario_and_both_protocols() -> None:
    """The few minutes in which every change is tried leave none out."""
    rounds = list(plan(ALL, seed=1, brief=True))
    assert {round_id.scenario for round_id in rounds} == set(SCENARIOS)
    assert {round_id.protocol for round_id in rounds} == {"classic", "consumer"}
    scaled = {round_id.protocol for round_id in rounds if round_id.scenario == "scale"}
    assert scaled == {"classic", "consumer"}


def test_a_whole_run_has_five_million_events() -> None:
    """As many as the figures in the README speak of."""
    assert sum(round_id.events for round_id in plan(ALL, seed=1, brief=False)) > 5_000_000


def test_a_run_can_be_made_smaller_and_still_touches_everything() -> None:
    """`--events` changes how many rounds there are; of each scenario there is one at least."""
    rounds = list(plan(ALL, seed=1, brief=False, events=1_000_000))
    assert {round_id.scenario for round_id in rounds} == set(SCENARIOS)
    assert len(rounds) < len(list(plan(ALL, seed=1, brief=False)))


def test_a_round_is_the_same_whenever_it_is_planned() -> None:
    """So that a run can go on; another seed makes other rounds."""
    assert list(plan(ALL, seed=1, brief=True)) == list(plan(ALL, seed=1, brief=True))
    seeds = {round_id.seed for seed in (1, 2) for round_id in plan(ALL, seed=seed, brief=True)}
    assert len(seeds) == 2 * len(list(plan(ALL, seed=1, brief=True)))


def test_rounds_on_one_cluster_are_played_together() -> None:
    """A cluster is started once a run, not once a round."""
    nodes = [SCENARIOS[r.scenario].nodes for r in plan(ALL, seed=1, brief=False)]
    assert nodes == sorted(nodes)


def test_every_scenario_says_what_happens_in_it() -> None:
    """`--list` has a sentence for each."""
    assert all(scenario.says.endswith(".") for scenario in ALL)
