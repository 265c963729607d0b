"""Ambushes: blows that wait for their moment.

Some mistakes show only if power goes at one instant: after a vote was handed to the disk and
before the disk has it, or after a leader committed and before it told anybody. A plan that draws
times meets such an instant once in thousands of runs. So a blow may be laid in wait for a moment
instead; whoever comes to that moment next is struck.

Blows that are laid at the same time wait in a row, of which only the first one is armed: so the
plan writes stories (the next leader is lost at its election, the one after it when it commits,
...), Raft Fig. 8 among them. This module knows neither hosts nor engines; moments are stated on
effects, so they exist for every engine.

Invariants:
    * an ambush strikes once, whatever else happens to the node meanwhile
    * nobody waits for ever: a row is given up when its moments do not come
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from quorate.simulation.world import World

PATIENCE_US = 6_000_000
"""A row is given up so long after it was laid."""

ASKS = "asks"
COMMITS = "commits"
ELECTED = "elected"
FORWARDS = "forwards"
INSTALLS = "installs"
PROMISES = "promises"
PROMISED = "promised"
SAVES = "saves"

MOMENTS = {
    ASKS: "asks its leader for a read point",
    COMMITS: "is the first to know that an entry is committed",
    ELECTED: "is elected",
    FORWARDS: "forwards a batch of its clients",
    INSTALLS: "hands the end of a received snapshot to its disk",
    PROMISES: "hands a promise (Raft: term and vote) to its disk",
    PROMISED: "has a promise on disk",
    SAVES: "has saved a snapshot of its own",
}
"""What a node can come to, with a word on each."""


class Ambush(NamedTuple):
    """A blow in wait.

    Attributes:
        moment: one of MOMENTS.
        nodes: who may be struck; others come to the moment unharmed.
        blow: what happens to whoever comes to it.
        delay_us: how long after the moment.
        duration_us: how long until the node gets over it.
    """

    moment: str
    nodes: tuple[int, ...]
    blow: str
    delay_us: int
    duration_us: int


class Ambushes:
    """The blows in wait for one cluster, in rows.

    Args:
        world: virtual time.
        strike: called as ``strike(blow, node, duration_us)``.
    """

    def __init__(self, world: World, strike: Callable[[str, int, int], None]) -> None:
        self._world = world
        self._strike = strike
        self._rows: list[tuple[int, deque[Ambush]]] = []  # when laid, and what still waits

    def lay(self, ambush: Ambush) -> None:
        """Add a blow: to the row that is being laid in this instant, or in a row of its own."""
        assert ambush.moment in MOMENTS, f"{ambush.moment} never comes"
        now_us, rows = self._world.now_us, self._rows
        rows[:] = [row for row in rows if row[1] and now_us - row[0] < PATIENCE_US]
        if not rows or rows[-1][0] != now_us:
            rows.append((now_us, deque()))
        rows[-1][1].append(ambush)

    def lift(self) -> None:
        """Nobody waits for anybody any more."""
        self._rows.clear()

    def reached(self, moment: str, node: int) -> None:
        """A node comes to a moment; the blow falls after everything of this instant."""
        for laid_us, row in self._rows:
            if not row or row[0].moment != moment or node not in row[0].nodes:
                continue
            if self._world.now_us - laid_us < PATIENCE_US:
                ambush = row.popleft()
                blow = partial(self._strike, ambush.blow, node, ambush.duration_us)
                self._world.after(ambush.delay_us, blow)
                return
