"""Valence made visible: every configuration of the toy protocol, and what it can still become.

Fischer, Lynch and Paterson call a configuration *bivalent* when both values can still be decided
from it, and 0- or 1-valent when only one can. Their theorem: a bivalent configuration exists at
the start, and from a bivalent one a scheduler can always reach another; so a run without decision
exists. Here the graph is finite (``single_decree.py``), so all of it is explored and the claims are
looked up instead of believed.

Invariants:
    * valence only ever loses values along a step: what cannot be decided stays so
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from quorate.simulation.theory.single_decree import (
    Configuration,
    Move,
    apply,
    canonical,
    initial,
    moves,
)

NAMES = {0: "undecidable", 1: "0-valent", 2: "1-valent", 3: "bivalent"}
BIVALENT = 3
"""Valences are sets of values as bits: 1 for value 0, 2 for value 1."""


@dataclass(slots=True)
class ValenceGraph:
    """All reachable configurations, up to the names of acceptors; 0 is the initial one."""

    configurations: list[Configuration] = field(default_factory=list)
    successors: list[list[tuple[Move, int]]] = field(default_factory=list)
    valence: list[int] = field(default_factory=list)
    places: dict[Configuration, int] = field(default_factory=dict)

    def valence_of(self, configuration: Configuration) -> int:
        """Valence of a reachable configuration."""
        return self.valence[self.places[canonical(configuration)]]

    def counts(self) -> dict[str, int]:
        """How many configurations have which valence."""
        counted = Counter(self.valence)
        return {NAMES[bits]: counted[bits] for bits in sorted(counted)}


def explore(wishes: tuple[int, int] = (0, 1)) -> ValenceGraph:
    """Visit everything that is reachable and compute what each configuration can become."""
    graph = ValenceGraph()
    start = canonical(initial(wishes))
    graph.configurations.append(start)
    graph.places[start] = 0
    at = 0
    while at < len(graph.configurations):
        graph.successors.append(_successors(graph, graph.configurations[at]))
        at += 1
    graph.valence = _valences(graph)
    return graph


def _successors(graph: ValenceGraph, configuration: Configuration) -> list[tuple[Move, int]]:
    found: dict[int, Move] = {}
    acceptors = configuration.acceptors
    for move in moves(configuration):
        place = move.acceptor
        if place > 0 and acceptors[place] == acceptors[place - 1]:
            continue  # the same step as with its twin
        following = canonical(apply(configuration, move))
        known = graph.places.setdefault(following, len(graph.configurations))
        if known == len(graph.configurations):
            graph.configurations.append(following)
        found.setdefault(known, move)
    return [(move, known) for known, move in found.items()]


def _valences(graph: ValenceGraph) -> list[int]:
    """Carry every decision back to all configurations from which it can be reached."""
    predecessors: list[list[int]] = [[] for _ in graph.configurations]
    for at, steps in enumerate(graph.successors):
        for _, following in steps:
            predecessors[following].append(at)
    valence = [
        sum(1 << value for value in configuration.decided())
        for configuration in graph.configurations
    ]
    changed = [at for at, bits in enumerate(valence) if bits]
    while changed:
        at = changed.pop()
        for before in predecessors[at]:
            if valence[before] | valence[at] != valence[before]:
                valence[before] |= valence[at]
                changed.append(before)
    return valence
