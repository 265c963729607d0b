"""RA-1: seeded fault schedules; the five properties of the paper's Fig. 3 at every step.

Loss, delay, duplication, reordering, crash, restart, partitions (two-way and one-way), and loss of
unsynced writes, in a mix that each seed draws. A failing seed is named in the message, and becomes
a test of its own.
"""

import pytest

from quorate.consensus.raft.invariants import check_step, snapshot_state
from quorate.errors import InvariantBroken
from quorate.simulation.cluster import Faults, SimulatedCluster

SEEDS = 200
GROUP = 10


class CheckedRaft:
    """A Raft engine whose own invariants, with deltas, are checked around every step."""

    def __init__(self, engine):
        self._engine = engine

    def step(self, event):
        before = snapshot_state(self._engine)
        self._engine.step(event)
        check_step(before, event, snapshot_state(self._engine))

    def __getattr__(self, name):
        return getattr(self._engine, name)


def run(seed):
    """One run of 3 or 5 nodes; on every fifth seed Raft's own invariants watch every step."""
    wrap = CheckedRaft if seed % 5 == 0 else None
    cluster = SimulatedCluster(seed, nodes=5 if seed % 3 == 0 else 3, wrap_engine=wrap)
    try:
        return cluster.run()
    except (InvariantBroken, AssertionError) as error:
        raise AssertionError(f"seed {seed}, {cluster.faults}: {error}") from error


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_ra_1_fig_3_holds_under_seeded_faults(first):
    """Every seed keeps the five properties, loses nothing acknowledged and comes to agree."""
    outcomes = [run(seed) for seed in range(first, first + GROUP)]
    assert sum(outcome.acknowledged for outcome in outcomes) > 100 * GROUP
    assert all(outcome.elections for outcome in outcomes)


def test_the_faults_really_happen():
    """The schedules are not idle: across some seeds every kind of fault and repair occurs."""
    outcomes = [run(seed) for seed in range(1_000, 1_010)]
    assert sum(outcome.crashes for outcome in outcomes) > 5
    assert sum(outcome.partitions for outcome in outcomes) > 5
    assert sum(outcome.installs for outcome in outcomes) > 0
    assert sum(outcome.reads for outcome in outcomes) > 50
    assert sum(outcome.elections for outcome in outcomes) > 1.5 * len(outcomes)


def test_same_seed_same_run():
    """One seed fixes everything, down to the number of events and messages."""
    assert run(7) == run(7)


def test_calm_cluster_elects_once_and_answers_everything():
    """Without faults there is one election and every write is acknowledged."""
    cluster = SimulatedCluster(1, faults=Faults())
    outcome = cluster.run()
    assert outcome.elections == 1
    assert outcome.acknowledged == outcome.submitted > 100
