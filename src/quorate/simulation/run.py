"""One run: a scenario put on a virtual cluster, judged at every step and at the end.

Two halves (Paxos Made Live §5.1). While faults act, nothing bad may happen. Then everything is
mended, and something good must: within the scenario's bound all replicas are equal and every
request is answered.

Invariants: the same scenario gives the same Outcome, digest included, in any process; the only
way out other than an Outcome is a Violation, which carries the property that was broken.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from quorate.consensus.engine import Engine
from quorate.consensus.registry import check_steps
from quorate.errors import BadInput
from quorate.simulation.actions import Action, method_name
from quorate.simulation.cluster import VirtualCluster
from quorate.simulation.host import WrapEngine
from quorate.simulation.judges.court import Court
from quorate.simulation.properties import Violation
from quorate.simulation.scenario import Scenario, Step
from quorate.simulation.workloads.catalogue import workload_named
from quorate.simulation.workloads.workload import Stage, Workload
from quorate.simulation.world import World

CLUSTER_ID = b"simulated-cluste"
CALM_STEP_US = 200_000
FRAMES_SHOWN = 3


@dataclass(slots=True)
class Outcome:
    """What a run did.

    Attributes:
        seed: of the run.
        scenario: in a few words.
        digest: of everything that happened, and of the final state.
        events: things that happened in virtual time.
        virtual_us: how long the run was in virtual time.
        messages: sent between nodes.
        crashes: of processes and machines.
        stops: nodes that gave up because of their disk.
        partitions: of any kind.
        elections: won.
        changes: of members that came to their end.
        delivered: entries, each counted once.
        retired: nodes that could not be started again.
        figures: of the workload.
    """

    seed: int
    scenario: str
    digest: str = ""
    events: int = 0
    virtual_us: int = 0
    messages: int = 0
    crashes: int = 0
    stops: int = 0
    partitions: int = 0
    elections: int = 0
    changes: int = 0
    delivered: int = 0
    retired: int = 0
    figures: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


class Run:
    """A scenario in motion.

    Args:
        scenario: what happens.
        workload: instead of the scenario's by name, for a state machine of the user's own.
        wrap_engine: puts something around each engine: a mutation, for example.

    Attributes:
        world: virtual time.
        court: the judges.
        cluster: the nodes.
        workload: what runs on them.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        workload: Workload | None = None,
        wrap_engine: WrapEngine | None = None,
    ) -> None:
        self.scenario = scenario
        self.world = World(scenario.seed)
        self.court = Court()
        self.workload = workload_named(scenario.workload) if workload is None else workload
        for step in scenario.steps:
            wrong = self.workload.check_step(step)
            if wrong is not None:
                raise BadInput(
                    "scenario", 0, f"client {step.client}, {' '.join(step.words)}: {wrong}"
                )
        self.cluster = VirtualCluster(
            self.world,
            self.court,
            nodes=scenario.nodes,
            build=self.workload.build,
            cluster_id=CLUSTER_ID,
            hints=bool(scenario.settings.hints),
            spares=scenario.spares,
            wrap_engine=_wrapping(wrap_engine) if scenario.settings.checked else wrap_engine,
        )
        self.cluster.on_down = self.workload.on_down
        for host in self.cluster.hosts.values():
            host.on_turn = self.workload.on_turn
        self.workload.enter(Stage(scenario, self.world, self.cluster, self.court))
        self._seats: dict[int, deque[Step]] = {}
        self._acting: set[int] = set()

    def run(self) -> Outcome:
        """Run to the end.

        Raises:
            Violation: a property does not hold.
        """
        try:
            self._run()
        except Violation:
            raise
        except Exception as error:
            self.court.conduct.nothing_unexpected_happens(_where(error))
            raise
        return self._outcome()

    def _run(self) -> None:
        scenario, world = self.scenario, self.world
        for action in scenario.actions:
            world.at(action.at_us, partial(self._act, action))
        for step in scenario.steps:
            self._seats.setdefault(step.client, deque()).append(step)
        self.cluster.start()
        for client in self._seats:
            self._next_step(client)
        world.run(scenario.duration_us)
        for seat in self._seats.values():
            seat.clear()
        self.cluster.mend()
        self.workload.calm()
        end_us = world.now_us + scenario.calm_us
        while world.now_us < end_us and not self._is_settled():
            world.run(min(CALM_STEP_US, end_us - world.now_us))
        for host in self.cluster.hosts.values():
            self.court.conduct.damaged_nodes_are_repaired(
                host.node_id, is_repaired=not host.is_being_repaired
            )
        self.workload.judge()

    def _is_settled(self) -> bool:
        if self._acting or any(host.is_being_repaired for host in self.cluster.hosts.values()):
            return False
        return self.workload.is_settled()

    def _act(self, action: Action) -> None:
        if self.world.now_us <= self.scenario.duration_us:
            method: Callable[..., None] = getattr(self.cluster, method_name(action.name))
            method(*action.arguments)

    # ---- clients -------------------------------------------------------------------------------

    def _next_step(self, client: int) -> None:
        seat = self._seats[client]
        self._acting.discard(client)
        if seat:
            step = seat.popleft()
            self.world.at(step.at_us, partial(self._begin, step))

    def _begin(self, step: Step) -> None:
        if self.world.now_us >= self.scenario.duration_us:
            return
        self._acting.add(step.client)
        self.workload.begin(step, partial(self._next_step, step.client))

    # ---- the end -------------------------------------------------------------------------------

    def _outcome(self) -> Outcome:
        world, cluster, engine = self.world, self.cluster, self.court.engine
        digest = self.workload.digest() & 0xFFFFFFFFFFFFFFFF
        return Outcome(
            seed=self.scenario.seed,
            scenario=self.scenario.summary(),
            digest=f"{world.trace:08x}-{digest:016x}",
            events=world.events,
            virtual_us=world.now_us,
            messages=cluster.network.sent,
            crashes=cluster.crashes,
            stops=cluster.stops,
            partitions=cluster.partitions,
            elections=engine.elections,
            changes=self.court.membership.changes,
            delivered=engine.delivered_last,
            retired=len(cluster.hosts) - len(cluster.usable()),
            figures=self.workload.figures(),
        )


def _wrapping(wrap_engine: WrapEngine | None) -> WrapEngine:
    """The engine's own invariants around whatever else is put around it."""

    def wrap(engine: Engine) -> Engine:
        return check_steps("raft", engine if wrap_engine is None else wrap_engine(engine))

    return wrap


def _where(error: Exception) -> str:
    """What was raised, and where: the last frames say more than the message alone."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_SHOWN:]
    path = " > ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__}: {error} ({path})"
