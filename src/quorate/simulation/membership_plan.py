"""Plans of changing members: which machines there are to add, and what the operator asks for.

Drawn from dice of their own, so that a seed's other faults are the same with and without them.
The operator comes again and again: adds one, adds several, replaces, removes (the leader too),
promotes and demotes, sets preferences, and hands leadership over in the middle of it. Some machines
that are added die, or are cut off, while they catch up. Some changes reach nobody but a leader that
is cut off, and are rolled back.

Invariant: the same dice give the same plan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quorate.simulation.actions import Action
from quorate.simulation.world import Dice

MS = 1_000
SECOND = 1_000_000
SPARES_MAX = 3


class _Visit:
    """The operator in front of one cluster."""

    def __init__(self, dice: Dice, nodes: int, spares: int, duration_us: int) -> None:
        self.dice = dice
        self.voters = list(range(1, nodes + 1))
        self.spares = list(range(nodes + 1, nodes + spares + 1))
        self.duration_us = duration_us
        self.actions: list[Action] = []
        self.busy_until_us = 0  # the operator asks for nothing else before

    def add(self, at_us: int, name: str, *arguments: Any) -> None:
        """Add an action."""
        if at_us < self.duration_us:
            self.actions.append(Action(at_us, name, arguments))

    def any(self) -> int:
        """Any machine."""
        return self.dice.pick([*self.voters, *self.spares])


def _grow(visit: _Visit, at_us: int) -> None:
    dice, node = visit.dice, visit.any()
    words = ("add-member", "add-member", "add-member", "add-learner", "add-witness")
    visit.add(at_us, dice.pick(words), node)
    if dice.chance(0.3):  # it does not live to see the end of it
        visit.add(at_us + dice.between(MS, 500 * MS), dice.pick(("crash", "kill", "pause")), node)
        back_us = at_us + dice.between(500 * MS, 6 * SECOND)
        visit.add(back_us, "restart", node)
        visit.add(back_us, "resume", node)


def _shrink(visit: _Visit, at_us: int) -> None:
    visit.add(at_us, "remove-member", visit.any())


def _replace(visit: _Visit, at_us: int) -> None:
    dice = visit.dice
    count = 1 + dice.draw(len(visit.spares))
    old, new = dice.some(visit.voters, count), dice.some(visit.spares, count)
    visit.add(at_us, "replace-members", tuple(sorted(old)), tuple(sorted(new)))
    back_us = at_us + dice.between(500 * MS, 6 * SECOND)
    if dice.chance(0.6):
        visit.add(back_us, "replace-members", tuple(sorted(new)), tuple(sorted(old)))


def _change_role(visit: _Visit, at_us: int) -> None:
    visit.add(at_us, visit.dice.pick(("promote-member", "demote-member")), visit.any())


def _prefer(visit: _Visit, at_us: int) -> None:
    visit.add(at_us, "prefer", visit.any(), visit.dice.draw(3))


def _transfer(visit: _Visit, at_us: int) -> None:
    for node in (*visit.voters, *visit.spares):
        visit.add(at_us, "transfer", node)


def _hand_over(visit: _Visit, at_us: int) -> None:
    """A change is asked for, and leadership moves or is lost while it is under way."""
    dice = visit.dice
    _replace(visit, at_us)
    soon_us = at_us + dice.between(MS, 200 * MS)
    if dice.chance(0.5):
        _transfer(visit, soon_us)
    else:
        blow = dice.pick(("crash", "kill", "isolate"))
        visit.add(soon_us, "strike-leader", blow, dice.between(50 * MS, 3 * SECOND))


def _insist(visit: _Visit, at_us: int) -> None:
    """The leader falls, and a script asks the next one for something again and again."""
    dice = visit.dice
    blow = dice.pick(("crash", "kill", "isolate", "isolate-outbound"))
    visit.add(at_us, "strike-leader", blow, dice.between(100 * MS, SECOND))
    old, new = dice.pick(visit.voters), dice.pick(visit.spares)
    for _ in range(10 + dice.draw(30)):
        at_us += dice.between(MS, 40 * MS)
        if dice.chance(0.7):
            visit.add(at_us, "remove-member", old)
        else:
            visit.add(at_us, "replace-members", (old,), (new,))


def _stillborn(visit: _Visit, at_us: int) -> None:
    """A change reaches only a leader that is cut off; rolled back, that node leads again (ra #609).

    Meanwhile nobody asks for anything else: no other configuration covers a mistake up.
    """
    dice = visit.dice
    away_us = dice.between(300 * MS, 2 * SECOND)
    visit.add(at_us, "strike-leader", dice.pick(("isolate", "isolate-outbound")), away_us)
    words = dice.pick(("remove-member", "remove-member", "demote-member"))
    visit.add(at_us + dice.between(MS, 50 * MS), words, visit.any())
    at_us += away_us
    for _ in range(2 + dice.draw(4)):
        at_us += dice.between(50 * MS, 800 * MS)
        if dice.chance(0.5):
            _transfer(visit, at_us)
        else:
            blow = dice.pick(("crash", "kill"))
            visit.add(at_us, "strike-leader", blow, dice.between(50 * MS, 500 * MS))
    visit.busy_until_us = at_us


_REQUESTS: tuple[Callable[[_Visit, int], None], ...] = (
    _grow, _grow, _grow, _shrink, _shrink, _replace, _replace, _change_role, _prefer, _hand_over,
    _insist, _stillborn,
)  # fmt: skip


def draw_membership(dice: Dice, nodes: int, duration_us: int) -> tuple[int, list[Action]]:
    """Draw how many spare machines there are, and what the operator does, by time."""
    spares = 1 + dice.draw(SPARES_MAX)
    visit = _Visit(dice, nodes, spares, duration_us)
    gap_us = dice.pick((300 * MS, SECOND, 3 * SECOND))
    at_us = dice.between(0, 2 * SECOND)
    while at_us < duration_us:
        dice.pick(_REQUESTS)(visit, at_us)
        at_us = max(at_us, visit.busy_until_us) + dice.between(50 * MS, 2 * gap_us)
    return spares, sorted(visit.actions, key=lambda action: action.at_us)
