"""The scheduler of the FLP theorem against real engines: it only delays, and nobody ever leads.

It sees everything and may choose, at every step, which message arrives next or whose clock moves
on. It loses nothing and kills nobody. Before a message arrives it tries it on a copy of the engine
(engines are pure machines, so a copy is a crystal ball); if its receiver would then lead, the
message is withheld, and another node's clock moves on until its campaign has made that message
harmless. Then it arrives: late, once, as an asynchronous network may do.

Turned fair, the same scheduler moves all clocks together and delivers everything within one step
of the clocks: then a leader and a decision follow.

Source: Fischer, Lynch and Paterson 1985 (the scheduler); Dwork, Lynch and Stockmeyer 1988 (why
fairness in time is enough).

Invariants:
    * every message arrives exactly once, or is still under way
    * safety is judged at every effect
"""

from __future__ import annotations

from dataclasses import dataclass

from quorate.consensus.engine import Draw, Propose
from quorate.consensus.registry import EngineSettings
from quorate.errors import InvariantBroken
from quorate.simulation.theory.bare import BareCluster, Letter
from quorate.simulation.world import Dice

PAYLOAD = b"decided"


@dataclass(slots=True)
class Withheld:
    """A message under way, and what is known about its arrival."""

    letter: Letter
    sent_step: int
    is_decisive: bool = False  # its receiver would lead
    tried_at: int = -1  # the receiver's step count when this was last tried


@dataclass(slots=True)
class AdversaryReport:
    """What the scheduler did.

    Attributes:
        steps: arrivals and clock steps under its hostile rule.
        delivered: messages that arrived.
        epochs: epochs that were begun.
        depositions: elections that were one message from being won.
        withheld_most: most messages withheld at one time.
        delay_most: longest delay of a message that arrived, in steps.
        fair_ticks_ms: once fair, virtual time until an entry was decided; 0 before.
    """

    steps: int = 0
    delivered: int = 0
    epochs: int = 0
    depositions: int = 0
    withheld_most: int = 0
    delay_most: int = 0
    fair_ticks_ms: int = 0


class Adversary:
    """A scheduler over a cluster of bare engines.

    Args:
        seed: fixes the engines' dice; the scheduler itself has none.
        nodes: voters.
    """

    def __init__(self, seed: int, *, nodes: int = 3, engine: str = "raft") -> None:
        self.settings = EngineSettings(election_timeout_ms=150, heartbeat_ms=30)
        self.report = AdversaryReport()
        self.under_way: list[Withheld] = []
        self._seed = seed
        self.cluster = BareCluster(
            nodes, self.settings, draw_for=self._draw_for, post=self._post, engine=engine
        )
        self._changes = dict.fromkeys(self.cluster.engines, 0)  # steps that each node made

    def _draw_for(self, node: int) -> Draw:
        return Dice(self._seed, f"node {node}").draw

    def _post(self, letter: Letter) -> None:
        self.under_way.append(Withheld(letter, self.report.steps))

    # ---- hostile -------------------------------------------------------------------------------

    def keep_undecided(self, steps: int) -> AdversaryReport:
        """Go on for so many steps; nobody leads in any of them.

        Raises:
            InvariantBroken: somebody led all the same, or safety does not hold.
        """
        report = self.report
        for _ in range(steps):
            report.steps += 1
            place = self._harmless()
            if place is not None:
                self._deliver(place)
            else:
                self._tick_somebody_else()
            if any(self.cluster.leads(node) for node in self.cluster.engines):
                raise InvariantBroken(f"a leader in spite of the scheduler (seed {self._seed})")
        report.epochs = self.cluster.epoch()
        return report

    def _harmless(self) -> int | None:
        """Place of the oldest message whose arrival makes nobody lead."""
        decisive = 0
        found = None
        for place, one in enumerate(self.under_way):
            if not self._is_decisive(one):
                found = place
                break
            decisive += 1
        self.report.withheld_most = max(self.report.withheld_most, decisive)
        return found

    def _is_decisive(self, one: Withheld) -> bool:
        changes = self._changes[one.letter.receiver]
        if one.tried_at != changes:
            was_decisive = one.is_decisive
            one.tried_at = changes
            one.is_decisive = self.cluster.would_lead(one.letter)
            self.report.depositions += was_decisive and not one.is_decisive
        return one.is_decisive

    def _deliver(self, place: int) -> None:
        one = self.under_way.pop(place)
        self.report.delivered += 1
        self.report.delay_most = max(self.report.delay_most, self.report.steps - one.sent_step)
        self._changes[one.letter.receiver] += 1
        self.cluster.deliver(one.letter)

    def _tick_somebody_else(self) -> None:
        """Move the clock that is furthest behind, but not that of a node about to win."""
        winners = {one.letter.receiver for one in self.under_way}
        others = [node for node in self.cluster.engines if node not in winners]
        clocks = self.cluster.clocks
        node = min(others or self.cluster.engines, key=lambda one: (clocks[one], one))
        self._changes[node] += 1
        self.cluster.tick(node, clocks[node] + self.settings.election_timeout_ms // 3)

    # ---- fair ----------------------------------------------------------------------------------

    def decide_fairly(self, *, limit_ms: int, step_ms: int = 5) -> AdversaryReport:
        """Let all clocks run together and everything arrive within one step, until a decision.

        Raises:
            InvariantBroken: nothing was decided within the limit, or safety does not hold.
        """
        cluster = self.cluster
        has_proposed = False
        while not self._is_decided():
            if self.report.fair_ticks_ms >= limit_ms:
                raise InvariantBroken(f"undecided after {limit_ms} fair ms (seed {self._seed})")
            self.report.fair_ticks_ms += step_ms
            for node in cluster.engines:
                cluster.tick(node, cluster.clocks[node] + step_ms)
            arriving, self.under_way = self.under_way, []
            for one in arriving:
                cluster.deliver(one.letter)
            leader = cluster.established()
            if leader and not has_proposed:
                has_proposed = True
                cluster.step(leader, Propose(PAYLOAD))
        return self.report

    def _is_decided(self) -> bool:
        return all(
            any(entry.payload == PAYLOAD for entry in entries)
            for entries in self.cluster.committed.values()
        )
