"""RA-5, RF-4: members come and go in whole clusters, under load and under faults."""

from dataclasses import replace

import pytest

from quorate.consensus.change import Change
from quorate.simulation.actions import Action
from quorate.simulation.ensemble import SimulatedEnsemble
from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.properties import Violation
from quorate.simulation.run import Run
from quorate.simulation.workloads.catalogue import workload_named

SECOND = 1_000_000
SEEDS = 18
GROUP = 3
WISHES = Wishes(duration_us=15 * SECOND, faults=("membership", "crash", "partition", "unrest"))


def calm_scenario(workload, *actions):
    """Three nodes and three spare machines, clients at work, and nothing else but ``actions``."""
    wishes = Wishes(workload=workload, nodes=3, duration_us=12 * SECOND, faults=())
    return replace(draw_scenario(1, wishes, workload_named), spares=3, actions=actions)


@pytest.mark.parametrize("workload", ["cells", "tree"])
def test_ra_5_three_of_three_are_replaced_one_at_a_time_under_load(workload):
    """No acknowledged write is lost, nobody else has to lead than who must, and 4, 5, 6 remain."""
    actions = [
        Action((2 + 3 * number) * SECOND, "replace-members", ((old,), (new,)))
        for number, (old, new) in enumerate(((1, 4), (2, 5), (3, 6)))
    ]
    run = Run(calm_scenario(workload, *actions))
    outcome = run.run()
    members = [run.court.membership.in_force(node) for node in (4, 5, 6)]
    assert [(each.voters, each.members) for each in members] == [((4, 5, 6), (4, 5, 6))] * 3
    assert outcome.elections <= 4, "the first leader, and one for each that was removed"
    assert outcome.figures["acknowledged"] > 30


def test_ra_5_all_three_are_replaced_at_once_and_come_back():
    """There and back again, by two joint configurations that have no member in common."""
    there = Action(2 * SECOND, "replace-members", ((1, 2, 3), (4, 5, 6)))
    back = Action(6 * SECOND, "replace-members", ((4, 5, 6), (1, 2, 3)))
    run = Run(calm_scenario("cells", there, back))
    outcome = run.run()
    assert run.court.membership.in_force(1).members == (1, 2, 3)
    assert outcome.changes == 3, "the bootstrap configuration, and two changes"


def test_the_operator_asks_again_at_the_moment_of_an_election():
    """Too early, so it is refused: a leader that has committed nothing changes no members."""
    actions = (
        Action(2 * SECOND, "strike-leader", ("kill", 3 * SECOND)),
        Action(2 * SECOND + 1, "remove-member", (3,)),
    )
    run = Run(calm_scenario("cells", *actions))
    run.run()
    assert run.cluster.operator.asked == 1
    assert run.court.membership.in_force(1).members == (1, 2, 3)


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_rf_4_members_change_under_faults(first):
    """Every seed keeps all properties while members change, and the last change is completed."""
    changes = 0
    for seed in range(first, first + GROUP):
        scenario = draw_scenario(seed, replace(WISHES), workload_named)
        try:
            changes += Run(scenario).run().changes
        except Violation as error:
            raise AssertionError(f"seed {seed}, {scenario.summary()}: {error}") from error
    assert changes >= GROUP


def test_changes_of_members_leave_the_other_draws_alone():
    """A seed's other faults and clients are the same with and without them."""
    others = ("crash", "partition", "links", "disk")
    for seed in range(20):
        without = draw_scenario(seed, Wishes(faults=others), workload_named)
        with_them = draw_scenario(seed, Wishes(faults=(*others, "membership")), workload_named)
        kept = [action for action in with_them.actions if action in without.actions]
        assert kept == list(without.actions)
        assert with_them.steps == without.steps


def test_a_removed_server_serves_nobody_and_says_what_it_is():
    """Its clients are let go, its status says that it was removed, and the others go on."""
    ensemble = SimulatedEnsemble(3)
    ensemble.start()
    ensemble.run_until(ensemble.leader)
    leader = ensemble.leader()
    gone = leader % 3 + 1
    change = Change(remove=(gone,))
    ensemble.hosts[leader].call(lambda core: core.change_membership("token", change))
    server = ensemble.hosts[gone].core
    ensemble.run_until(lambda: server.status()["standing"] == "removed")
    assert not server.is_serving()
    status = ensemble.hosts[leader].core.status()
    assert status["voters"] == sorted({1, 2, 3} - {gone})
    assert (status["failures_tolerated"], status["change_under_way"]) == (0, "")
    assert ensemble.hosts[leader].core.is_serving()


@pytest.mark.parametrize(("added", "is_allowed"), [("add-witness", False), ("add-member", True)])
def test_no_disk_is_lost_for_good_beside_a_witness(added, is_allowed):
    """Of two that keep data one may alone have what is committed, when the third is a witness."""
    come, go = Action(2 * SECOND, added, (4,)), Action(6 * SECOND, "remove-member", (3,))
    run = Run(calm_scenario("cells", come, go))
    run.run()
    voters = {node for half in run.court.membership.halves() for node in half}
    assert {1, 2, 4} <= voters
    assert run.cluster.operator.may_harm(1) is is_allowed
