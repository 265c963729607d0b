"""Plots of damage and repair: what was lost, and who comes for it at the worst moment.

Damage that is drawn by itself hits something old, on a node whose neighbours are well, and is
repaired before anybody asks. A repair is needed for safety only if what was lost is what a majority
stands on, just then. Each plot below is such a story, with everything else about it drawn; the
function names where it comes from. Drawn from dice of their own, so that a seed's other faults are
the same with and without them.

Invariant: only the draft's victims are harmed, so all plots together keep its budget.
"""

from __future__ import annotations

from quorate.simulation.actions import ROT_AT_END
from quorate.simulation.ambush import ELECTED
from quorate.simulation.draft import MS, SECOND, Draft
from quorate.simulation.plots import DEATHS
from quorate.simulation.world import Dice

SHARE = 0.25


def add_damage_plots(draft: Draft, dice: Dice, *, certain: bool) -> None:
    """Add plots to the draft, in all runs or in some."""
    if not (certain or dice.chance(SHARE)) or len(draft.nodes) < 3:
        return
    draft.dice = dice
    draft.victims = draft.victims or dice.some(draft.nodes, (len(draft.nodes) - 1) // 2)
    gap_us = dice.pick((500 * MS, 1500 * MS, 4 * SECOND))
    at_us = dice.between(200 * MS, 2 * SECOND)
    while at_us < draft.duration_us:
        at_us = max(at_us, dice.pick(PLOTS)(draft, at_us)) + dice.between(100 * MS, 2 * gap_us)


def _rot(draft: Draft, at_us: int, victim: int) -> None:
    for _ in range(1 + draft.dice.draw(4)):
        draft.add(at_us, "rot", victim, "wal")


def _lost_majority(draft: Draft, at_us: int) -> int:
    """Entries are on a bare majority; one of it loses them, and the others ask it for its vote.

    The rest of that majority is down meanwhile: whoever counts the damaged node's vote elects a
    leader that never had what was committed (protocol-aware recovery, FAST '18).
    """
    dice, nodes, election_us = draft.dice, draft.nodes, draft.election_us
    victim = dice.pick(draft.victims)
    others = dice.some([node for node in nodes if node != victim], len(nodes) - 1)
    split = (len(nodes) - 1) // 2
    late, rest = sorted(others[:split]), others[split:]
    draft.add(at_us, "partition", tuple(late), tuple(sorted([victim, *rest])))
    at_us += draft.span(2 * election_us, 6 * election_us)
    _rot(draft, at_us, victim)
    for node in (victim, *rest):
        draft.add(at_us, dice.pick(DEATHS), node)
    draft.add(at_us, "heal")
    draft.add(at_us + draft.span(MS, 100 * MS), "restart", victim)
    back_us = at_us + draft.span(3 * election_us, 8 * election_us)
    for node in rest:
        draft.add(back_us, "restart", node)
    return back_us


def _old_acknowledgements(draft: Draft, at_us: int) -> int:
    """A follower loses what its leader knows it had, and that leader leads on.

    Nobody sends again what was acknowledged, unless the leader is told (etcd #10166).
    """
    victim = draft.dice.pick(draft.victims)
    _rot(draft, at_us, victim)
    draft.add(at_us, draft.dice.pick(DEATHS), victim)
    back_us = at_us + draft.span(MS, 300 * MS)
    draft.add(back_us, "restart", victim)
    return back_us + draft.span(SECOND, 8 * SECOND)


def _forgotten_vote(draft: Draft, at_us: int) -> int:
    """A voter loses the vote that elected a leader, and meets the one before, who goes on.

    Leadership is handed over while the old leader hears nothing, so it does not notice; the new
    one is cut off at its election, by a majority that is one no more when its vote is forgotten
    (Paxos Made Live §5.1: a replica with a corrupted disk must not break its promises).
    """
    dice, election_us = draft.dice, draft.election_us
    if len(draft.nodes) != 3:
        return _lost_majority(draft, at_us)
    victim = dice.pick(draft.victims)
    for node in draft.nodes:
        draft.add(at_us, "transfer", node)
    deaf_us = draft.span(5 * MS, 40 * MS)
    draft.add(at_us + draft.span(50, 600), "strike-leader", "isolate-inbound", deaf_us)
    away_us = draft.span(3 * election_us, 6 * election_us)
    everybody = tuple(draft.nodes)
    draft.add(at_us, "strike-when", ELECTED, everybody, "isolate", dice.draw(200), away_us)
    lost_us = at_us + draft.span(3 * MS, deaf_us)
    draft.add(lost_us, "rot", victim, ROT_AT_END)
    draft.add(lost_us, "crash", victim)
    draft.add(lost_us + draft.span(MS, 50 * MS), "restart", victim)
    return lost_us + away_us


PLOTS = (_lost_majority, _old_acknowledgements, _forgotten_vote)
