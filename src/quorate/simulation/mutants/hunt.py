"""Hunting a mutant: ordinary seeds, one after the other, until a property is broken.

It measures the strength of everything at once: of the plan (does the fault that matters get drawn,
in time?), of the workload (does anybody ask what would give the mistake away?) and of the judges.
The same hunt over the code as it is must end empty-handed.

A mutant may also break the run in a way that no judge expects (an assertion of the code under
test, an exception): the run reports that as a property too.

Invariant: equal arguments give an equal result, in any process.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from quorate.simulation.mutants.mutant import Mutant, Patches
from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.properties import Violation
from quorate.simulation.run import Run
from quorate.simulation.workloads.catalogue import workload_named

UNMUTATED = "none"
"""Name of the code as it is, in reports."""


class Caught(NamedTuple):
    """A property was broken.

    Attributes:
        mutant: its name.
        property: name of the property.
        kind: safety or liveness.
        seeds: how many were needed.
        seed: the one that showed it.
        detail: what was seen.
    """

    mutant: str
    property: str
    kind: str
    seeds: int
    seed: int
    detail: str


class Survived(NamedTuple):
    """All properties held in every run: right for the code as it is, and for nothing else."""

    mutant: str
    seeds: int


Verdict: TypeAlias = Caught | Survived


def hunt(mutant: Mutant | None, wishes: Wishes, first_seed: int, seeds_max: int) -> Verdict:
    """Run seeds with the rule removed until one shows it.

    Args:
        mutant: None: the code as it is.
        wishes: what runs are like; the mutant's own wishes come on top.
        first_seed: where to begin.
        seeds_max: how many to try at most.
    """
    name = UNMUTATED
    with Patches() as patches:
        if mutant is not None:
            name = mutant.name
            wishes = mutant.narrowed(wishes)
            mutant.patch(patches)
        for seed in range(first_seed, first_seed + seeds_max):
            broken = try_seed(seed, wishes)
            if broken is not None:
                known = broken.property
                seeds = seed - first_seed + 1
                return Caught(name, known.name, known.kind.value, seeds, seed, broken.detail)
    return Survived(name, seeds_max)


def try_seed(seed: int, wishes: Wishes) -> Violation | None:
    """Run one seed; what it broke, or None."""
    try:
        Run(draw_scenario(seed, wishes, workload_named)).run()
    except Violation as violation:
        return violation
    return None
