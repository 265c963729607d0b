"""All mutants by name: the only place that knows which exist.

Not among them, and why:
    * leading on without a majority (check-quorum), forgetting a live leader (stickiness), taking
      over a pre-vote's term, proposals during a hand-over: they cost time and never an answer;
      the traces of the engine tell their stories
"""

from __future__ import annotations

from quorate.errors import SettingsError
from quorate.simulation.mutants import (
    commits,
    disks,
    elections,
    leases,
    logs,
    membership,
    once,
    reads,
    replicas,
    sessions,
    snapshots,
)
from quorate.simulation.mutants.mutant import Group, Mutant

GROUPS: tuple[Group, ...] = (
    elections.GROUP,
    logs.GROUP,
    commits.GROUP,
    reads.GROUP,
    leases.GROUP,
    snapshots.GROUP,
    replicas.GROUP,
    disks.GROUP,
    sessions.GROUP,
    once.GROUP,
    membership.GROUP,
)
_MUTANTS = {mutant.name: mutant for group in GROUPS for mutant in group.mutants}
assert len(_MUTANTS) == sum(len(group.mutants) for group in GROUPS), "two mutants share a name"


def mutants() -> list[Mutant]:
    """All mutants, group by group."""
    return list(_MUTANTS.values())


def mutant_named(name: str) -> Mutant:
    """The mutant called ``name``.

    Raises:
        SettingsError: no mutant has this name.
    """
    if name not in _MUTANTS:
        raise SettingsError(f"unknown mutant {name!r}; known: {', '.join(_MUTANTS)}")
    return _MUTANTS[name]
