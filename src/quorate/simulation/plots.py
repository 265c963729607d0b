"""Plots: stories of blows that wait for their moments, each aimed at one kind of mistake.

A random schedule rarely does five things in the right order. Each plot below is such an order,
with everything else about it drawn: who is struck, with what, how soon after, for how long. They
are stories that papers and bug reports tell; the function names the one it comes from.
"""

from __future__ import annotations

from collections.abc import Callable

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
from quorate.simulation.clocks import DRIFT_PPM_MAX
from quorate.simulation.draft import MS, SECOND, Draft
from quorate.simulation.network import LinkQuality

LOSSES = ("crash", "kill", "isolate", "isolate-outbound")
DEATHS = ("crash", "kill")
MUTINGS = ("isolate", "isolate-outbound", "isolate-outbound")


def add_plot(draft: Draft, at_us: int, names: tuple[str, ...] = ()) -> None:
    """Add one plot, drawn from these or from all, to the draft."""
    PLOTS[draft.dice.pick(names or _ALL)](draft, at_us)


def claim(name: str) -> str:
    """What a plot tells, in a sentence."""
    return " ".join((PLOTS[name].__doc__ or "").split("\n\n")[0].split())


def _lie_in_wait(
    draft: Draft, at_us: int, moment: str, blow: str, after_us: int, away_us: int, *nodes: int
) -> None:
    """One ambush, for these nodes or for all."""
    whom = tuple(sorted(nodes)) or tuple(draft.nodes)
    draft.add(at_us, "strike-when", moment, whom, blow, after_us, away_us)


def _soon_us(draft: Draft) -> int:
    """At the moment itself, or a few messages later."""
    return draft.span(100, 30 * MS) if draft.dice.chance(0.5) else draft.dice.draw(100)


def _fence_leader_off(draft: Draft, at_us: int, away_us: int) -> None:
    """Nobody hears the leader, and before it can hear of the next one it hears nobody.

    Until then it takes in what its own clients and those of the others ask for, so that it has
    many entries that only it has, and keeps them.
    """
    draft.add(at_us, "strike-leader", "isolate-outbound", away_us)
    hears_us = min(away_us - 1, draft.span(draft.election_us // 4, draft.election_us))
    draft.add(at_us + hears_us, "strike-leader", "isolate", away_us - hears_us)


def _succession(draft: Draft, at_us: int) -> None:
    """Leaders are lost one after the other, each at its election or its first commit.

    Raft §5.4.2: what a leader of an earlier term left behind is settled by a later one.
    """
    dice = draft.dice
    draft.add(at_us, "strike-leader", dice.pick(LOSSES), draft.span(100 * MS, 2 * SECOND))
    for _ in range(2 + dice.draw(8)):
        moment, blow = dice.pick((ELECTED, ELECTED, COMMITS)), dice.pick(LOSSES)
        away_us = draft.span(50 * MS, 2 * SECOND)
        _lie_in_wait(draft, at_us, moment, blow, _soon_us(draft), away_us)


def _overwritten(draft: Draft, at_us: int) -> None:
    """Entries of a lost leader are shown to a majority by that leader, and overwritten by another.

    Raft Fig. 8, as told: (a) leader 1 is lost with entries that only it has, (b) leader 2 too,
    (c) leader 1 is back, elected, shows its entry to a majority and is lost, (d) leader 2 is back.
    Each is away for as long as the others need to go on without it. If (b) is lost only when it
    has committed, leader 1's longer log stands against a newer one (§5.4.1); and if the only other
    node is lost for good then, these two must come to terms.
    """
    dice, election_us = draft.dice, draft.election_us
    away_us = draft.span(2 * election_us, 3 * election_us)
    if dice.chance(0.5):
        _fence_leader_off(draft, at_us, away_us)
    else:
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
    """Voters die when they have promised, or are about to, and are back in the same election.

    Raft Fig. 2: term and vote are on disk before anybody learns of them.
    """
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

    What confirms that it led was sent before it was replaced (dissertation §6.4). It is replaced
    because its connections closed, or on its own order, given just before or in the meantime.
    """
    dice, election_us = draft.dice, draft.election_us
    over_us = draft.span(election_us // 3, election_us)
    if dice.chance(0.1):  # somebody who perhaps does not lead
        node = draft.node()
        draft.add(at_us, "clog-inbound", node)
        draft.add(at_us + over_us // 2, "reset-links", node)
        draft.add(at_us + over_us, "heal")
        return
    order_us = at_us + draft.span(2 * MS, election_us // 3)
    way = dice.draw(10)
    if way < 5:
        draft.add(order_us, "strike-leader", "reset-links", over_us)
    else:
        for node in draft.nodes:
            draft.add(order_us if way < 7 else at_us, "transfer", node)
    if way >= 7:
        at_us += draft.span(100, 3 * MS)
    draft.add(at_us, "strike-leader", "clog-inbound", over_us)


def _earlier_lives(draft: Draft, at_us: int) -> None:
    """Nodes die with questions and batches under way, and ask again at once in a new life.

    What arrives late is of a life that is over (dissertation §6.3 and §6.4).
    """
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
        _fence_leader_off(draft, at_us, draft.span(2 * election_us, 4 * election_us))
        away_us = draft.span(election_us, 3 * election_us)
        _lie_in_wait(draft, at_us, SAVES, dice.pick(LOSSES), dice.draw(300), away_us)
    for _ in range(dice.draw(4)):
        after_us = dice.draw(300) if dice.chance(0.8) else _soon_us(draft)
        _lie_in_wait(draft, at_us, INSTALLS, "crash", after_us, draft.span(MS, 500 * MS))


def _last_two(draft: Draft, at_us: int) -> None:
    """Of the last two nodes one has the longer log and the other the newer one (§5.4.1).

    A leader is fenced off with entries that only it has. The next one gets the vote of a third
    node, which is lost for good with its disk before there is much to agree on (hashicorp/raft
    lets such clusters stand still).
    """
    election_us = draft.election_us
    voter = draft.dice.pick(draft.victims or draft.nodes)
    draft.add(at_us, "transfer", voter)
    at_us += draft.span(5 * MS, 100 * MS)
    _fence_leader_off(draft, at_us, draft.span(5 * election_us, 8 * election_us))
    soon_us = draft.span(500, 30 * MS)
    _lie_in_wait(draft, at_us, PROMISED, "crash", soon_us, 10 * election_us, voter)
    if draft.victims:
        draft.add(at_us + 4 * election_us, "wipe", voter)


def _told_twice(draft: Draft, at_us: int) -> None:
    """Many messages arrive twice while the cluster is in two parts.

    One voter of a minority that answers twice is still one voter (known bug of PySyncObj).
    """
    if len(draft.nodes) == 1:
        return
    over_us = at_us + draft.span(2 * draft.election_us, 8 * draft.election_us)
    twice = LinkQuality(duplication=draft.dice.pick((0.3, 0.6)), delay_us=draft.span(1, 20 * MS))
    draft.add(at_us, "link-quality", twice)
    draft.add(at_us, "partition", *draft.halves())
    draft.add(over_us, "link-quality", LinkQuality())
    draft.add(over_us, "heal")


def _stood_still(draft: Draft, at_us: int) -> None:
    """All processes stand still at once, as virtual machines of one host, and go on one by one.

    What they find waiting was sent a moment ago, and the time they know is old (etcd #20418). The
    leader goes on first, and is lost when somebody may have answered it.
    """
    dice, election_us = draft.dice, draft.election_us
    on_us = at_us + draft.span(election_us // 3, 4 * election_us)
    draft.add(at_us, "strike-leader", "pause", on_us - at_us)
    late_us = [draft.span(300, 15 * MS) for _ in draft.nodes]
    for node, after_us in zip(draft.nodes, late_us, strict=True):
        draft.add(at_us, "pause", node)
        draft.add(on_us + after_us, "resume", node)
    if dice.chance(0.6):
        draft.add(at_us, "partial", *draft.pair())
    lost_us = on_us + max(late_us) + draft.span(400, 10 * MS)
    draft.add(lost_us, "strike-leader", dice.pick(("isolate", "isolate", "pause")), 3 * election_us)
    draft.add(lost_us + 3 * election_us, "heal")


def _late_echoes(draft: Draft, at_us: int) -> None:
    """The echoes of a leader's last round reach it late, and after them nothing does.

    They say that a quorum promised when it was sent, and nothing of now (dissertation §6.4.1).
    """
    election_us = draft.election_us
    late_us = draft.span(election_us // 3, election_us * 4 // 5)
    mute_us = min(late_us, draft.span(15 * MS, 60 * MS))
    alone_us = draft.span(2 * election_us, 4 * election_us)
    draft.add(at_us, "strike-leader", "clog-inbound", late_us)
    draft.add(at_us + mute_us, "strike-leader", "isolate-outbound", alone_us)
    draft.add(at_us + late_us + draft.span(400, 5 * MS), "strike-leader", "isolate", alone_us)


def _clocks_apart(draft: Draft, at_us: int) -> None:
    """One clock runs as slow and the others as fast as clocks may, while leaders are lost.

    Whoever is slow when it leads believes for longest that it does (dissertation §6.4.1).
    """
    dice, election_us, slow = draft.dice, draft.election_us, draft.node()
    for node in draft.nodes:
        ppm = -DRIFT_PPM_MAX if node == slow else DRIFT_PPM_MAX
        draft.add(at_us, "drift-clock", node, ppm)
    for _ in range(2 + dice.draw(6)):
        at_us += draft.span(election_us, 4 * election_us)
        away_us = draft.span(2 * election_us, 3 * election_us)
        draft.add(at_us, "strike-leader", "reset-links", away_us)
        draft.add(at_us, "strike-leader", dice.pick(("isolate", "isolate", "pause")), away_us)
    for node in draft.nodes:
        draft.add(at_us + 3 * election_us, "drift-clock", node, 0)


PLOTS: dict[str, Callable[[Draft, int], None]] = {
    "succession": _succession,
    "overwritten": _overwritten,
    "rivals": _rivals,
    "broken-promises": _broken_promises,
    "behind-its-back": _behind_its_back,
    "earlier-lives": _earlier_lives,
    "half-installed": _half_installed,
    "last-two": _last_two,
    "told-twice": _told_twice,
    "stood-still": _stood_still,
    "late-echoes": _late_echoes,
    "clocks-apart": _clocks_apart,
}
"""All of them, by name."""

_ALL = (*PLOTS, "overwritten", "rivals")
"""What needs the most luck stands twice."""
