"""How long a cluster is without a leader after its leader crashed (Raft paper §9.3, Fig. 16).

One trial: a leader of real engines, made to broadcast heartbeats that reach every follower at the
same time, crashes at a random moment of the heartbeat interval that follows. The downtime is the
time from the crash until another node leads. Closed connections are *not* reported to the engines
here, which is how the product usually notices a crash, within milliseconds: these are the
timeouts alone, the case of a machine that loses its power or its network.

To make it hard the followers' logs may differ (as in the paper), or be equal, which is harder for
an engine with pre-votes: then nobody is refused and everybody is a candidate.

Time is counted in ``resolution_us``: the engine's "milliseconds" stand for that much here, because
a range of one millisecond, on a clock of whole milliseconds, would be no range at all.

Invariants:
    * safety is judged throughout
    * one seed fixes a trial; skipping idle ticks (``next_wake``) changes no outcome
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from quorate.consensus.engine import Draw, Engine, Propose
from quorate.consensus.registry import EngineSettings
from quorate.simulation.theory.bare import BareCluster, Letter
from quorate.simulation.world import World

NextWake: TypeAlias = Callable[[Engine], int]
"""The earliest tick, in the engine's milliseconds, at which this engine may do something."""


@dataclass(frozen=True, slots=True)
class ElectionTrial:
    """What one trial looks like.

    Attributes:
        timeout_ms: election timeouts are drawn from this range; the ends may be equal.
        nodes: members; the leader is one of them.
        dead: how many are dead after the crash, the leader included.
        one_way_us: a message takes a time from this range.
        logs_differ: the followers' logs have different lengths, so that some cannot be elected.
        cap_us: without a leader, give up after this much virtual time.
        serving_cap_us: a leader that cannot serve by then is not waited for any longer.
        resolution_us: what the engine takes for a millisecond; clocks are this fine.
        retries: lost rounds that are tried again early; 0: none, as in the paper.
    """

    timeout_ms: tuple[int, int]
    nodes: int = 5
    dead: int = 1
    one_way_us: tuple[int, int] = (7_500, 7_500)
    logs_differ: bool = True
    cap_us: int = 60_000_000
    serving_cap_us: int = 500_000
    resolution_us: int = 10
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Downtime:
    """What came of one trial; None: not within the cap.

    Attributes:
        seed: fixes the trial.
        leader_us: from the crash until another node led: what the paper measures.
        serving_us: until it had confirmed that with a majority and took proposals.
        epochs: how many epochs were begun until then: 1 unless votes were split.
    """

    seed: int
    leader_us: int | None
    serving_us: int | None
    epochs: int


def crash_leader(
    trial: ElectionTrial, seed: int, *, next_wake: NextWake | None = None, engine: str = "raft"
) -> Downtime:
    """Run one trial.

    Args:
        trial: what it looks like.
        seed: fixes every choice.
        next_wake: lets idle ticks be skipped: same outcome, a hundred times sooner. Without it
            every engine ticks at every ``resolution_us``.
        engine: name of the engine in the registry.

    Raises:
        InvariantBroken: safety does not hold; the seed reproduces it.
    """
    return _Trial(trial, seed, next_wake, engine).run()


class _Trial:
    """One cluster, from its first election to its second."""

    def __init__(
        self, trial: ElectionTrial, seed: int, next_wake: NextWake | None, engine: str
    ) -> None:
        self.trial = trial
        self.seed = seed
        self.next_wake = next_wake
        self.world = World(seed)
        self.posted: list[Letter] = []
        low, high = (self._units(bound * 1_000) for bound in trial.timeout_ms)
        settings = EngineSettings(
            election_timeout_ms=low,
            election_timeout_spread_ms=high - low,
            election_retries=trial.retries,
            heartbeat_ms=low // 3,
        )
        # Each node has its own dice, so that an outcome hangs on no order among the nodes.
        self.dice = {node: self.world.dice(f"node {node}") for node in range(1, trial.nodes + 1)}
        self.cluster = BareCluster(
            trial.nodes, settings, draw_for=self._draw_for, post=self.posted.append, engine=engine
        )
        self.wakes: dict[int, int] = {}  # node -> the tick for which it is scheduled
        self.leader_us: int | None = None
        self.serving_us: int | None = None
        self.epoch = 0  # when the next leader was elected, or of the last attempt

    def _draw_for(self, node: int) -> Draw:
        return self.dice[node].draw

    def _units(self, duration_us: int) -> int:
        return duration_us // self.trial.resolution_us

    def run(self) -> Downtime:
        """Elect, part the logs, beat once, crash, wait."""
        trial, world, cluster = self.trial, self.world, self.cluster
        nodes = list(cluster.engines)
        leader = nodes[world.draw(trial.nodes)]
        self._elect(leader)
        followers = [node for node in nodes if node != leader]
        if trial.logs_differ:
            self._part_logs(leader, followers)
        for node in followers[: trial.dead - 1]:
            cluster.kill(node)
        self._beat(leader)
        cluster.kill(leader)
        epoch_before = cluster.epoch()
        crashed_us = world.now_us + world.between(0, trial.timeout_ms[0] * 1_000 // 2)
        for node in cluster.engines:
            self._arrange_wake(node)
        while self.serving_us is None and not self._is_over(crashed_us):
            world.run(5_000)
        return Downtime(
            self.seed,
            _since(crashed_us, self.leader_us),
            _since(crashed_us, self.serving_us),
            (self.epoch or cluster.epoch()) - epoch_before,
        )

    def _is_over(self, crashed_us: int) -> bool:
        now_us = self.world.now_us
        if self.leader_us is None:
            return now_us >= crashed_us + self.trial.cap_us
        return now_us >= self.leader_us + self.trial.serving_cap_us

    # ---- before the crash ----------------------------------------------------------------------

    def _elect(self, node: int) -> None:
        """Let only this node's clock run until it leads and all know."""
        cluster = self.cluster
        step = max(1, cluster.settings.election_timeout_ms // 8)
        while not cluster.leaderships[node].established:
            cluster.tick(node, cluster.clocks[node] + step)
            self._settle()
        cluster.tick(node, cluster.clocks[node] + cluster.settings.heartbeat_ms)
        self._settle()

    def _settle(self) -> None:
        while self.posted:
            letters, self.posted[:] = list(self.posted), []
            for letter in letters:
                self.cluster.deliver(letter)

    def _part_logs(self, leader: int, followers: list[int]) -> None:
        """Entries that ever fewer followers get: all end with logs of different length."""
        shuffled = self.world.dice("logs").some(followers, len(followers))
        for reached in range(len(shuffled) - 1, 0, -1):
            reachable = {leader, *shuffled[:reached]}
            self.cluster.step(leader, Propose(b"x"))
            while self.posted:
                letters, self.posted[:] = list(self.posted), []
                for letter in letters:
                    if letter.receiver in reachable:
                        self.cluster.deliver(letter)

    def _beat(self, leader: int) -> None:
        """One broadcast of heartbeats that reaches every follower at the same time."""
        cluster = self.cluster
        beat_ms = cluster.clocks[leader] + cluster.settings.heartbeat_ms
        cluster.tick(leader, beat_ms)
        self.world.now_us = beat_ms * self.trial.resolution_us
        letters, self.posted[:] = list(self.posted), []
        assert {letter.receiver for letter in letters} >= set(cluster.engines) - {leader}
        latency_us = self.world.between(*self.trial.one_way_us)
        for letter in letters:
            self.world.after(latency_us, partial(self._arrive, letter))

    # ---- after the crash -----------------------------------------------------------------------

    def _now(self) -> int:
        return self._units(self.world.now_us)

    def _arrive(self, letter: Letter) -> None:
        node = letter.receiver
        if node in self.cluster.engines:
            self.cluster.tick(node, self._now())
            self.cluster.deliver(letter)
            self._after_step(node)

    def _arrange_wake(self, node: int) -> None:
        wake = self._now() + 1
        if self.next_wake is not None:
            wake = max(wake, self.next_wake(self.cluster.engines[node].inner))
        if self.wakes.get(node) != wake:
            self.wakes[node] = wake
            delay_us = wake * self.trial.resolution_us - self.world.now_us
            self.world.after(delay_us, partial(self._wake, node, wake))

    def _wake(self, node: int, wake: int) -> None:
        if self.wakes.get(node) == wake:
            self.cluster.tick(node, wake)
            self._after_step(node)

    def _after_step(self, node: int) -> None:
        """Send what was said, note who leads, arrange the next tick."""
        letters, self.posted[:] = list(self.posted), []
        dice = self.dice[node]
        low_us, high_us = self.trial.one_way_us
        for letter in letters:
            # What leaves in the same instant arrives in no particular order.
            latency_us = dice.between(low_us, high_us) + dice.draw(self.trial.resolution_us)
            self.world.after(latency_us, partial(self._arrive, letter))
        if self.leader_us is None and self.cluster.leads(node):
            self.leader_us = self.world.now_us
            self.epoch = self.cluster.leaderships[node].epoch
        if self.serving_us is None and self.cluster.leaderships[node].established:
            self.serving_us = self.world.now_us
        self._arrange_wake(node)


def _since(start_us: int, at_us: int | None) -> int | None:
    return None if at_us is None else at_us - start_us
