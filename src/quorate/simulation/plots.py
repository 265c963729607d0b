"""Plots: stories of blows that wait for their moments, each aimed at one kind of mistake.

A random schedule rarely does five things in the right order. Each plot below is such an order,
with everything else about it drawn: who is struck, with what, how soon after, for how long. They
are stories that papers and bug reports tell; the function names the one it comes from.
"""

from __future__ import annotations

from quorate.simulation.ambush import (
    ASKS,
    COMMITS,
    ELECTED,
    FORWARDS,
    INSTALLS,
    PROMISED,
    PROMISES,
    SAVES,
)
from quorate.simulation.draft import MS, SECOND, Draft

LOSSES = ("crash", "kill", "isolate", "isolate-outbound")
DEATHS = ("crash", "kill")
MUTINGS = ("isolate", "isolate-outbound", "isolate-outbound")


def add_plot(draft: Draft, at_us: int) -> None:
    """Add one plot, drawn, to the draft."""
    draft.dice.pick(PLOTS)(draft, at_us)


def _lie_in_wait(
    draft: Draft, at_us: int, moment: str, blow: str, after_us: int, away_us: int, *nodes: int
) -> None:
    """One ambush, for these nodes or for all."""
    whom = tuple(sorted(nodes)) or tuple(draft.nodes)
    draft.add(at_us, "strike-when", moment, whom, blow, after_us, away_us)


def _soon_us(draft: Draft) -> int:
    """At the moment itself, or a few messages later."""
    return draft.span(100, 30 * MS) if draft.dice.chance(0.5) else draft.dice.draw(100)


def _succession(draft: Draft, at_us: int) -> None:
    """Leaders are lost one after the other, each at its election or its first commit."""
    dice = draft.dice
    draft.add(at_us, "strike-leader", dice.pick(LOSSES), draft.span(100 * MS, 2 * SECOND))
    for _ in range(2 + dice.draw(8)):
        moment, blow = dice.pick((ELECTED, ELECTED, COMMITS)), dice.pick(LOSSES)
        away_us = draft.span(50 * MS, 2 * SECOND)
        _lie_in_wait(draft, at_us, moment, blow, _soon_us(draft), away_us)


def _overwritten(draft: Draft, at_us: int) -> None:
    """Raft Fig. 8, as told: (a) leader 1 is lost with entries that only it has, (b) leader 2 too,
    (c) leader 1 is back, elected, shows its entry to a majority and is lost, (d) leader 2 is back.

    Each is away for as long as the others need to go on without it. If (b) is lost only when it
    has committed, leader 1's longer log stands against a newer one (§5.4.1); and if the only other
    node is lost for good then, these two must come to terms.
    """
    dice, election_us = draft.dice, draft.election_us
    away_us = draft.span(2 * election_us, 3 * election_us)
    draft.add(at_us, "strike-leader", dice.pick(MUTINGS), away_us)
    is_last = bool(draft.victims) and dice.chance(0.15)
    second = COMMITS if is_last else dice.pick((ELECTED, ELECTED, COMMITS))
    for moment in (second, COMMITS):
        away_us = draft.span(3 * election_us, 5 * election_us)
        _lie_in_wait(draft, at_us, moment, dice.pick(MUTINGS), dice.draw(100), away_us)
    if is_last:
        lost_us = at_us + draft.span(2 * election_us, 3 * election_us)
        draft.add(lost_us, "wipe", dice.pick(draft.victims))


def _rivals(draft: Draft, at_us: int) -> None:
    """Two candidates of one epoch, who do not hear each other, ask a third at the same time.

    The third has led both of them; when it is back both ask it in the same instant. Then either
    the third dies with its promise, and one candidate, whose disk is slow, asks its next life; or
    the winner dies before its own vote is on disk, and its next life hears the loser's question.
    """
    dice = draft.dice
    if len(draft.nodes) < 3:
        return
    voter, one, other = dice.some(draft.nodes, 3)
    is_winner_to_die = dice.chance(0.5)
    slow = (one, other) if is_winner_to_die else (other,)
    for node in slow:
        draft.add(at_us, "slow-disk", node, draft.span(2, 40))
    draft.add(at_us, "cut", one, other)
    draft.add(at_us, dice.pick(("clog", "clog", "cut")), other, one)
    at_us += draft.span(20 * MS, 100 * MS)
    for node in draft.nodes:
        if node != voter:
            draft.add(at_us, "transfer", node)
    at_us += draft.span(50 * MS, 200 * MS)
    draft.add(at_us, "kill", voter)
    # long enough for both to have begun to ask: after a hint, or after their timeouts
    is_noticed, election_us = dice.chance(0.6), draft.election_us
    low_us, high_us = (25 * MS, 80 * MS) if is_noticed else (2 * election_us, 3 * election_us)
    back_us = at_us + draft.span(low_us, high_us)
    draft.add(back_us, "restart", voter)
    for _ in range(1 + dice.draw(3)):
        moment = ELECTED if is_winner_to_die else dice.pick((PROMISES, PROMISED))
        whom = (one, other) if is_winner_to_die else (voter,)
        blow, again_us = dice.pick(DEATHS), draft.span(500, 5 * MS)
        _lie_in_wait(draft, back_us, moment, blow, dice.draw(150), again_us, *whom)
    over_us = back_us + draft.span(2 * MS, 60 * MS)
    draft.add(over_us, "heal")
    for node in slow:
        draft.add(over_us, "slow-disk", node, 1)


def _broken_promises(draft: Draft, at_us: int) -> None:
    """Voters die when they have promised, or are about to, and are back in the same election."""
    dice = draft.dice
    for _ in range(1 + dice.draw(3)):
        draft.add(at_us, "strike-leader", dice.pick(DEATHS), draft.span(MS, SECOND))
        for _ in range(1 + dice.draw(4)):
            moment = dice.pick((PROMISES, PROMISES, PROMISED, ELECTED))
            after_us = dice.draw(200) if dice.chance(0.7) else _soon_us(draft)
            back_us = draft.span(MS, 40 * MS)
            _lie_in_wait(draft, at_us, moment, dice.pick(DEATHS), after_us, back_us)
        at_us += draft.span(20 * MS, 600 * MS)


def _behind_its_back(draft: Draft, at_us: int) -> None:
    """A leader hears nothing for a moment, is replaced meanwhile, then hears all of it at once.

    What confirms that it led was sent before it was replaced (dissertation §6.4).
    """
    dice, election_us = draft.dice, draft.election_us
    over_us = draft.span(election_us // 3, election_us)
    if dice.chance(0.1):  # somebody who perhaps does not lead
        node = draft.node()
        draft.add(at_us, "clog-inbound", node)
        draft.add(at_us + over_us // 2, "reset-links", node)
        draft.add(at_us + over_us, "heal")
        return
    draft.add(at_us, "strike-leader", "clog-inbound", over_us)
    at_us += draft.span(2 * MS, election_us // 3)
    if dice.chance(0.7):
        draft.add(at_us, "strike-leader", "reset-links", over_us)
        return
    for node in draft.nodes:
        draft.add(at_us, "transfer", node)


def _earlier_lives(draft: Draft, at_us: int) -> None:
    """Nodes die with questions and batches under way, and ask again at once in a new life."""
    dice = draft.dice
    for _ in range(2 + dice.draw(10)):
        moment, back_us = dice.pick((ASKS, FORWARDS)), draft.span(500, 5 * MS)
        _lie_in_wait(draft, at_us, moment, dice.pick(DEATHS), _soon_us(draft), back_us)


def _half_installed(draft: Draft, at_us: int) -> None:
    """A node falls far behind, and dies while it takes the others' snapshot over.

    If it was a leader whom nobody heard, it has entries where the snapshot has others (Raft
    Fig. 13, rule 7), as long as the others do not go on for long after the snapshot.
    """
    dice, node, election_us = draft.dice, draft.node(), draft.election_us
    if dice.chance(0.4):
        away_us = draft.span(300 * MS, 4 * SECOND)
        draft.add(at_us, "crash", node)
        draft.add(at_us + away_us, "restart", node)
    else:
        draft.add(at_us, "strike-leader", dice.pick(MUTINGS), draft.span(2, 4) * election_us)
        away_us = draft.span(election_us, 3 * election_us)
        _lie_in_wait(draft, at_us, SAVES, dice.pick(LOSSES), dice.draw(300), away_us)
    for _ in range(dice.draw(4)):
        after_us = dice.draw(300) if dice.chance(0.8) else _soon_us(draft)
        _lie_in_wait(draft, at_us, INSTALLS, "crash", after_us, draft.span(MS, 500 * MS))


PLOTS = (
    _succession,
    _overwritten,
    _overwritten,
    _rivals,
    _rivals,
    _broken_promises,
    _behind_its_back,
    _earlier_lives,
    _half_installed,
)
"""All of them; what needs the most luck stands twice."""
