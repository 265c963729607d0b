"""RA-1, ZB-1, PL-9: seeded fault schedules; every declared property at every step, then calm.

Each seed draws which faults exist, how strong and when; the judges check Fig. 3, the broadcast
contract, durability, exactly-once and what clients saw. A failing seed is named in the message.
"""

import pytest

from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.properties import Violation
from quorate.simulation.run import Run
from quorate.simulation.workloads.catalogue import workload_named

SEEDS = 120
GROUP = 6
WISHES = Wishes(duration_us=15_000_000)


def run(seed, wishes=WISHES):
    """One run; every tenth seed has the engine's own invariants around every step."""
    scenario = draw_scenario(seed, wishes, workload_named)
    try:
        return Run(scenario).run()
    except Violation as error:
        raise AssertionError(f"seed {seed}, {scenario.summary()}: {error}") from error


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_ra_1_zb_1_properties_hold_under_seeded_faults(first):
    """Every seed keeps all safety properties, loses nothing acknowledged and comes to agree."""
    outcomes = [run(seed) for seed in range(first, first + GROUP)]
    assert sum(outcome.figures["acknowledged"] for outcome in outcomes) > 30 * GROUP
    assert all(outcome.elections for outcome in outcomes)


def test_the_faults_really_happen():
    """The schedules are not idle: across some seeds every kind of trouble and repair occurs."""
    outcomes = [run(seed) for seed in range(1_012, 1_032)]
    for name in ("crashes", "stops", "partitions", "retired"):
        assert sum(getattr(outcome, name) for outcome in outcomes) > 1, name
    for name in ("reads", "unknown"):
        assert sum(outcome.figures[name] for outcome in outcomes) > 5, name
    assert sum(outcome.elections for outcome in outcomes) > 1.5 * len(outcomes)


def test_pl_9_same_seed_same_run():
    """One seed fixes everything, down to the digest of every message and the final state."""
    assert run(7) == run(7)


def test_calm_cluster_elects_once_and_answers_everything():
    """Without faults there is one election and every request is answered."""
    outcome = run(1, Wishes(duration_us=5_000_000, faults=(), nodes=3))
    assert outcome.elections == 1
    assert outcome.figures["unknown"] == 0
    assert outcome.figures["acknowledged"] > 20
