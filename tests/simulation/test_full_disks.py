"""Disks that run full and get space again under virtual clusters: nobody stops, nothing is lost."""

from dataclasses import replace

import pytest

from quorate.simulation.actions import Action
from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.run import Run
from quorate.simulation.workloads.catalogue import workload_named

SECOND = 1_000_000


def story(seed, workload, nodes, *actions):
    """A calm run of three nodes, but for these actions."""
    wishes = Wishes(duration_us=12 * SECOND, faults=(), nodes=3, workload=workload)
    scenario = draw_scenario(seed, wishes, workload_named)
    filled = [Action(2 * SECOND + 1_000 * node, "fill", (node,)) for node in nodes]
    healed = [Action(7 * SECOND + 1_000 * node, "heal-disk", (node,)) for node in nodes]
    ordered = sorted([*filled, *actions, *healed])
    run = Run(replace(scenario, actions=tuple(ordered)))
    return run, run.run()


@pytest.mark.parametrize("workload", ["cells", "tree"])
@pytest.mark.parametrize("nodes", [(1,), (2,), (3,), (1, 2), (1, 2, 3)])
def test_full_disks_stop_nobody_and_lose_nothing(workload, nodes):
    """Whoever is full stays up and goes on by itself; all properties hold."""
    for seed in (1, 2):
        _, outcome = story(seed, workload, nodes)
        assert outcome.stops == 0
        assert outcome.figures["acknowledged"] > 20


@pytest.mark.parametrize("seed", range(3))
def test_a_leader_that_dies_while_all_disks_are_full_has_a_successor(seed):
    """Votes and a leader's first entry are what the reserve is for."""
    strike = Action(4 * SECOND, "strike-leader", ("kill", SECOND))
    _, outcome = story(seed, "cells", (1, 2, 3), strike)
    assert outcome.stops == 0
    assert outcome.elections >= 2


def test_clients_of_full_nodes_are_told():
    """The refusals really happen in these runs."""
    run, _ = story(3, "tree", (1, 2, 3))
    cores = [host.core for host in run.cluster.hosts.values()]
    assert sum(core.service.statistics().writes_refused for core in cores) > 0
