"""Protocol-aware recovery in whole clusters: a majority leans on what a damaged node has lost."""

import pytest

from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.properties import Violation
from quorate.simulation.run import Run
from quorate.simulation.workloads.catalogue import workload_named

SECOND = 1_000_000
SEEDS = 12
GROUP = 3
WISHES = Wishes(duration_us=15 * SECOND, faults=("repair",))


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_nothing_is_lost_when_a_majority_leans_on_a_damaged_node(first):
    """Every seed keeps all properties, though entries and votes are really lost."""
    for seed in range(first, first + GROUP):
        scenario = draw_scenario(seed, WISHES, workload_named)
        try:
            Run(scenario).run()
        except Violation as error:
            raise AssertionError(f"seed {seed}, {scenario.summary()}: {error}") from error


def test_entries_and_votes_are_really_lost():
    """Some starts miss entries that were durable, some miss the vote too."""
    known: list[bool] = []
    for seed in range(4):
        run = Run(draw_scenario(seed, WISHES, workload_named))
        check = run.court.conduct.damage_is_reported_only_if_there_is_some

        def note(node, damage, is_harmed, check=check):
            check(node, damage, is_harmed)
            if damage is not None:
                known.append(damage.is_hard_state_known)

        run.court.conduct.damage_is_reported_only_if_there_is_some = note
        run.run()
    assert {True, False} == set(known)
