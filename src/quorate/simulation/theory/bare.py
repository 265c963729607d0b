"""Engines alone: no replica, no disk, no network, so that a scheduler can own every step.

The theorems are about a scheduler that decides which message arrives next and whose clock moves.
Here it can: a cluster of real engines whose messages go to whoever holds ``post``, whose clocks
move only by ``tick``, and whose disk is instant and never fails. It refuses to know which engine
it runs, what a message says, and when it will arrive.

Invariants:
    * safety is judged at every effect (``judges/engine.py``)
    * a message that waits for persistence is posted after it, as the Engine interface demands
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from typing import NamedTuple

from quorate.consensus.engine import (
    Draw,
    Effects,
    Engine,
    Event,
    Leadership,
    Message,
    Persisted,
    Received,
    Tick,
)
from quorate.consensus.entry import Entry, Recovered
from quorate.consensus.membership import Configuration
from quorate.consensus.registry import EngineSettings, create_engine
from quorate.simulation.judges.engine import EngineJudge, ObservedEngine


class Letter(NamedTuple):
    """A message on its way."""

    sender: int
    receiver: int
    message: Message


class BareCluster:
    """Engines 1 .. ``nodes`` in the hands of a scheduler.

    Args:
        nodes: how many voters.
        settings: of every engine.
        draw_for: makes each node's source of randomness.
        post: takes every message that an engine sends; it may be called while a step runs, so it
            must only keep the letter.
    """

    def __init__(
        self,
        nodes: int,
        settings: EngineSettings,
        *,
        draw_for: Callable[[int], Draw],
        post: Callable[[Letter], None],
        engine: str = "raft",
    ) -> None:
        self.settings = settings
        self.judge = EngineJudge()
        self.post = post
        self.clocks: dict[int, int] = {}  # each node's own time, in the engine's milliseconds
        self.leaderships: dict[int, Leadership] = {}
        self.committed: dict[int, list[Entry]] = {}
        self.read_points: dict[Hashable, int] = {}
        self.reads_failed: list[Hashable] = []
        self.engines: dict[int, ObservedEngine] = {}
        configuration = Configuration.of(range(1, nodes + 1))
        for node in configuration.voters:
            recovered = Recovered()
            made = create_engine(
                engine,
                node_id=node,
                configuration=configuration,
                recovered=recovered,
                settings=settings,
                draw=draw_for(node),
                now_ms=0,
            )
            self.clocks[node] = 0
            self.leaderships[node] = Leadership(0, 0, established=False)
            self.committed[node] = []
            self.engines[node] = self.judge.observe(node, made, recovered)

    # ---- steps ---------------------------------------------------------------------------------

    def step(self, node: int, event: Event) -> None:
        """Give one event to a living node and carry out everything that follows from it."""
        engine = self.engines[node]
        engine.step(event)
        self._carry_out(node, engine)

    def deliver(self, letter: Letter) -> None:
        """Let a message arrive; at a dead node nothing happens."""
        if letter.receiver in self.engines:
            self.step(letter.receiver, Received(letter.sender, letter.message))

    def tick(self, node: int, now_ms: int) -> None:
        """Set a node's clock, as if it had ticked all the way.

        An engine distrusts a tick after a long gap (its own process may have stood still), so a
        long way is gone in two: to just before ``now_ms``, then to it. Nothing may be due between.
        """
        gap_ms = now_ms - self.clocks[node]
        assert gap_ms >= 0, "clocks do not go back"
        if gap_ms > 1:
            self.step(node, Tick(now_ms - 1))
        self.clocks[node] = now_ms
        if gap_ms > 0:
            self.step(node, Tick(now_ms))

    def kill(self, node: int) -> None:
        """End a node's process for good; what it sent still travels."""
        del self.engines[node]
        self.leaderships[node] = Leadership(0, 0, established=False)

    def _carry_out(self, node: int, engine: Engine) -> None:
        while True:
            effects = engine.take()
            self._note(node, effects)
            for receiver, message in effects.messages:
                self.post(Letter(node, receiver, message))
            if effects.persist is not None:
                engine.step(Persisted(effects.persist.sequence))
            for receiver, message in effects.messages_after_persist:
                self.post(Letter(node, receiver, message))
            if effects.persist is None:
                return

    def _note(self, node: int, effects: Effects) -> None:
        assert effects.install is None, "nothing takes snapshots here"
        self.committed[node] += effects.committed
        if effects.leadership is not None:
            self.leaderships[node] = effects.leadership
        for token, index in effects.barriers:
            self.read_points[token] = index
        self.reads_failed += effects.barriers_failed

    # ---- looking -------------------------------------------------------------------------------

    def leads(self, node: int) -> bool:
        """Whether this node believes that it leads."""
        return self.leaderships[node].leader == node

    def established(self) -> int:
        """Id of a node that leads and may propose; 0 when there is none."""
        for node in self.engines:
            if self.leaderships[node].established:
                return node
        return 0

    def epoch(self) -> int:
        """The highest epoch that any living node is in."""
        return max(engine.statistics().epoch for engine in self.engines.values())

    def would_lead(self, letter: Letter) -> bool:
        """Whether its receiver would lead after this message: tried on a copy.

        Engines are pure machines, so a copy is a crystal ball.
        """
        node = letter.receiver
        if node not in self.engines:
            return False
        engine = copy.deepcopy(self.engines[node].inner)
        engine.step(Received(letter.sender, letter.message))
        leadership = self.leaderships[node]
        while True:
            effects = engine.take()
            leadership = effects.leadership or leadership
            if effects.persist is None:
                return leadership.leader == node
            engine.step(Persisted(effects.persist.sequence))
