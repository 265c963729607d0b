"""Convergence alone is worth nothing: a system that always answers 42 converges (TH-13).

Bailis' point: "all replicas end up equal" is a liveness property, and the emptiest system has it.
So the judges of the simulator are put before such a system, and must refuse it.
"""

import pytest

from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.properties import Kind, Violation
from quorate.simulation.run import Run
from quorate.simulation.workloads.catalogue import workload_named
from quorate.simulation.workloads.cells import Cells, CellsWorkload

CALM = Wishes(workload="cells", nodes=3, duration_us=5_000_000, faults=())
FAULTY = Wishes(workload="cells", nodes=3, duration_us=10_000_000)


class Always42(Cells):
    """A state machine that does nothing, alike on every node, and answers 42."""

    def apply(self, payload, context):
        return 42

    def snapshot(self):
        return iter([b"42"])

    def restore(self, chunks):
        for _ in chunks:
            pass

    def digest(self):
        return 42


class Workload42(CellsWorkload):
    """The usual clients and judges, before the emptiest system."""

    def machine(self):
        return Always42()

    def read(self, machine, words):
        return "42"


class Unjudged42(Workload42):
    """The same, asked for convergence alone."""

    def judge(self):
        self.replicas_come_to_agree()


def run(workload, seed, wishes):
    return Run(draw_scenario(seed, wishes, workload_named), workload=workload).run()


@pytest.mark.parametrize("wishes", [CALM, FAULTY], ids=["calm", "faults"])
def test_always_42_converges_th_13(wishes):
    """It passes the pure convergence property: all replicas equal, every request answered."""
    outcomes = [run(Unjudged42(), seed, wishes) for seed in range(3)]
    assert sum(outcome.delivered for outcome in outcomes) > 30
    assert sum(outcome.figures["acknowledged"] for outcome in outcomes) > 30


@pytest.mark.parametrize("wishes", [CALM, FAULTY], ids=["calm", "faults"])
def test_always_42_fails_safety_th_13(wishes):
    """The same system is refused as soon as somebody asks what became of a write."""
    for seed in range(3):
        with pytest.raises(Violation) as caught:
            run(Workload42(), seed, wishes)
        assert caught.value.property.kind is Kind.SAFETY
        assert caught.value.property.name == "nothing acknowledged is lost"


def test_always_42_is_not_linearizable_th_13():
    """Asked about the answers alone, the checker finds the read that no order explains."""
    workload = Workload42()
    workload.nothing_acknowledged_is_lost = lambda _: None
    with pytest.raises(Violation, match="answers are linearizable"):
        run(workload, 1, CALM)


def test_honest_registers_pass_both_th_13():
    """The judges are not simply against everything."""
    assert run(CellsWorkload(), 1, CALM).figures["acknowledged"] > 10
