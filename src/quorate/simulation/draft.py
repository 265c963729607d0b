"""A schedule of faults in the making: what kinds of fault draw from and write to.

Knows the nodes, the time there is and who may be harmed for good; nothing of kinds and seeds.

Invariant: nothing is added at or after the end of the faults.
"""

from __future__ import annotations

from typing import Any

from quorate.simulation.actions import Action
from quorate.simulation.world import Dice

MS = 1_000
SECOND = 1_000_000


class Draft:
    """A schedule in the making.

    Attributes:
        dice: what is drawn from.
        nodes: all nodes.
        duration_us: how long faults act.
        election_us: the election timeout: what an election takes, at least, without a hint.
        victims: the nodes that may be harmed for good.
    """

    def __init__(self, dice: Dice, nodes: int, duration_us: int, election_us: int) -> None:
        self.dice = dice
        self.nodes = list(range(1, nodes + 1))
        self.duration_us = duration_us
        self.election_us = election_us
        self.actions: list[Action] = []
        self.victims = dice.some(self.nodes, dice.draw((nodes - 1) // 2 + 1))

    def add(self, at_us: int, name: str, *arguments: Any) -> None:
        """Add an action."""
        if at_us < self.duration_us:
            self.actions.append(Action(at_us, name, arguments))

    def node(self) -> int:
        """Any node."""
        return self.dice.pick(self.nodes)

    def pair(self) -> tuple[int, int]:
        """Two different nodes; the same one twice when there is only one."""
        one, other = (*self.dice.some(self.nodes, 2), self.nodes[0])[:2]
        return one, other

    def halves(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The nodes in two groups, neither empty if there are two nodes."""
        nodes = self.dice.some(self.nodes, len(self.nodes))
        split = 1 + self.dice.draw(max(1, len(nodes) - 1))
        return tuple(sorted(nodes[:split])), tuple(sorted(nodes[split:]))

    def span(self, low_us: int, high_us: int) -> int:
        """A duration: short ones are as likely as long ones."""
        factor = self.dice.draw(1001) / 1000
        return int(low_us * (high_us / low_us) ** factor)
