"""Convergence alone is worth nothing: a system that always answers 42 converges (TH-13).

Bailis' point: "all replicas end up equal" is a liveness property, and the emptiest system has it.
So the judges of the simulator are put before such a system, and must refuse it.
"""

import pytest

from quorate.errors import InvariantBroken
from quorate.simulation import cluster as simulated
from quorate.simulation.cluster import Faults, SimulatedCluster
from quorate.simulation.ledger import Ledger

CALM = Faults()


class Always42(Ledger):
    """A state machine that does nothing, alike on every node."""

    def __init__(self):
        self.lines = [b"42"] * 42

    def apply(self, payload, context):
        return 42

    def snapshot(self):
        return iter([b"42"])

    def restore(self, chunks):
        for _ in chunks:
            pass

    def digest(self):
        return 42


def converged(cluster):
    """The pure convergence property: every node is in the same state."""
    return len({host.core.machine.digest() for host in cluster.hosts.values()}) == 1


def written_without_judges(seed):
    """A cluster that took ten writes, its clients' judges switched off."""
    cluster = SimulatedCluster(seed, nodes=3, faults=CALM)
    for host in cluster.hosts.values():
        host.on_turn = lambda *_: None
        host.start()
    cluster.world.run(2_000_000)
    for number in range(10):
        cluster.hosts[1].core.submit(b"line %d" % number)
        cluster.hosts[1].drive()
    cluster.world.run(2_000_000)
    return cluster


def test_always_42_converges_th_13(monkeypatch):
    """It agrees on everything, digests and log positions included."""
    monkeypatch.setattr(simulated, "Ledger", Always42)
    cluster = written_without_judges(1)
    assert converged(cluster)
    positions = {host.core.statistics().applied_index for host in cluster.hosts.values()}
    assert len(positions) == 1
    assert positions.pop() > 1
    assert all(host.fatal is None for host in cluster.hosts.values())


@pytest.mark.parametrize("faults", [CALM, None], ids=["calm", "faults"])
def test_always_42_fails_the_safety_judges_th_13(monkeypatch, faults):
    """The same system is refused as soon as somebody asks what became of a write."""
    monkeypatch.setattr(simulated, "Ledger", Always42)
    for seed in range(3):
        with pytest.raises(InvariantBroken, match=r"wrong result|stale read|lost"):
            SimulatedCluster(seed, nodes=3, faults=faults).run()


def test_a_ledger_passes_both_th_13():
    """The judges are not simply against everything."""
    assert converged(written_without_judges(1))
    assert SimulatedCluster(1, nodes=3).run().acknowledged > 0
