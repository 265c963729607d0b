"""Partial synchrony: anything goes until a time unknown to all, then delays are bounded.

Dwork, Lynch and Stockmeyer's way around FLP, which is Raft's: safety never rests on time, and
liveness only on this, that from some moment on (GST, the global stabilisation time) messages and
clocks keep a bound. Before it, messages are lost or take seconds, nodes stand still, and the seed
draws how bad it is. What is measured is the time from GST until something that was proposed after
it is delivered everywhere.

Invariants:
    * safety is judged at every effect, before and after
    * what was sent before GST and not lost arrives within the bound after it
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from quorate.consensus.engine import Draw, Propose, Tick
from quorate.consensus.registry import EngineSettings
from quorate.errors import InvariantBroken
from quorate.simulation.theory.bare import BareCluster, Letter
from quorate.simulation.world import World

TIMEOUT_MS = 150
"""The shortest election timeout; the longest is twice that."""
BOUND_US = 15_000
"""No message takes longer after GST."""
TICK_US = 10_000
DECIDED_WITHIN = 10
"""The stated bound, in longest election timeouts; nobody can promise one for every draw."""


@dataclass(frozen=True, slots=True)
class Stabilised:
    """One seed's run.

    Attributes:
        seed: fixes everything.
        epochs_before: epochs begun before GST: how much turmoil there was.
        lost: messages lost before GST.
        serving_ms: from GST until some node led and took proposals.
        decided_ms: from GST until a proposal of that time was delivered on all nodes.
    """

    seed: int
    epochs_before: int
    lost: int
    serving_ms: float
    decided_ms: float


def stabilise(seed: int, *, nodes: int = 5, engine: str = "raft") -> Stabilised:
    """Run one seed through turmoil and stabilisation.

    Raises:
        InvariantBroken: nothing was decided within the stated bound, or safety does not hold.
    """
    return _Run(seed, nodes, engine).run()


class _Run:
    """One cluster on its way to GST and beyond."""

    def __init__(self, seed: int, nodes: int, engine: str) -> None:
        self.seed = seed
        self.world = world = World(seed)
        self.loss = world.draw(90) / 100
        self.delay_us = world.between(BOUND_US, 4_000_000)
        self.pause_us = world.between(TICK_US, 1_000_000)
        self.gst_us = world.between(1_000_000, 10_000_000)
        self.lost = 0
        self.proposed: set[int] = set()  # epochs that got a proposal after GST
        settings = EngineSettings(election_timeout_ms=TIMEOUT_MS, heartbeat_ms=TIMEOUT_MS // 5)
        self.cluster = BareCluster(
            nodes, settings, draw_for=self._draw_for, post=self._post, engine=engine
        )
        for node in self.cluster.engines:
            self._later(partial(self._tick, node), world.between(0, TICK_US))

    def _draw_for(self, node: int) -> Draw:
        return self.world.dice(f"node {node}").draw

    @property
    def is_stable(self) -> bool:
        return self.world.now_us >= self.gst_us

    def _later(self, action: partial[None], delay_us: int) -> None:
        """Do this later; what turmoil puts off beyond GST happens within the bound after it."""
        if not self.is_stable:
            latest_us = self.gst_us - self.world.now_us + self.world.between(0, BOUND_US)
            delay_us = min(delay_us, latest_us)
        self.world.after(delay_us, action)

    def _tick(self, node: int) -> None:
        now_ms = self.world.now_ms
        self.cluster.clocks[node] = now_ms
        self.cluster.step(node, Tick(now_ms))
        is_paused = not self.is_stable and self.world.chance(0.02)
        delay_us = self.world.between(0, self.pause_us) if is_paused else TICK_US
        self._later(partial(self._tick, node), delay_us)

    def _post(self, letter: Letter) -> None:
        world = self.world
        if self.is_stable:
            delay_us = world.between(100, BOUND_US)
        elif world.chance(self.loss):
            self.lost += 1
            return
        else:
            # Most are quick, so that leaders come and go; some take as long as the seed allows.
            delay_us = world.between(100, self.delay_us if world.chance(0.4) else BOUND_US)
        self._later(partial(self.cluster.deliver, letter), delay_us)

    def run(self) -> Stabilised:
        """Turmoil, then the clock that counts."""
        world, cluster = self.world, self.cluster
        while not self.is_stable:
            world.run(min(TICK_US, self.gst_us - world.now_us))
            self._propose(b"before")
        epochs_before = cluster.epoch()
        serving_us = 0
        limit_us = DECIDED_WITHIN * 2 * TIMEOUT_MS * 1_000
        while not self._is_decided():
            if world.now_us - self.gst_us > limit_us:
                raise InvariantBroken(
                    f"undecided {DECIDED_WITHIN} timeouts after stabilisation (seed {self.seed})"
                )
            world.run(1_000)
            leader = cluster.established()
            serving_us = serving_us or (world.now_us if leader else 0)
            self._propose(b"after")
        return Stabilised(
            self.seed,
            epochs_before,
            self.lost,
            (serving_us - self.gst_us) / 1_000,
            (world.now_us - self.gst_us) / 1_000,
        )

    def _propose(self, payload: bytes) -> None:
        """Propose through every node that takes proposals; once each epoch after GST."""
        cluster = self.cluster
        for node, leadership in cluster.leaderships.items():
            if leadership.established:
                if payload == b"after":
                    if leadership.epoch in self.proposed:
                        continue
                    self.proposed.add(leadership.epoch)
                cluster.step(node, Propose(payload))

    def _is_decided(self) -> bool:
        return all(
            any(entry.payload == b"after" for entry in entries)
            for entries in self.cluster.committed.values()
        )
