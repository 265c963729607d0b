"""Workload: what runs on the nodes of a simulated cluster, what clients do, and who judges them.

The run (``run.py``) knows time, faults and the judges of consensus; a workload knows everything
about commands and answers. The same run drives replicas of a small state machine, whole
coordination servers with clients that speak ZooKeeper's protocol, or a user's own state machine.

Invariant: whatever a workload does is decided by its scenario and the run's dice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from quorate.consensus.entry import Recovered
from quorate.simulation.cluster import VirtualCluster
from quorate.simulation.host import Host, MakeEngine
from quorate.simulation.judges.court import Court
from quorate.simulation.scenario import Scenario, Step
from quorate.simulation.world import Dice, World
from quorate.storage.store import Store


class Stage(NamedTuple):
    """What a workload acts on: handed to it once, when the run is put together."""

    scenario: Scenario
    world: World
    cluster: VirtualCluster
    court: Court


class Workload(Protocol):
    """What runs, what clients do, and how their answers are judged."""

    def plan(self, dice: Dice, scenario: Scenario) -> list[Step]:
        """Draw what the clients of a scenario do."""

    def check_step(self, step: Step) -> str | None:
        """What is wrong with a step read from a file, or None."""

    def enter(self, stage: Stage) -> None:
        """Get ready; the nodes have not started yet."""

    def build(self, host: Host, store: Store, recovered: Recovered, make_engine: MakeEngine) -> Any:
        """Make a node's core."""

    def begin(self, step: Step, done: Callable[[], None]) -> None:
        """A client does something; ``done`` is called when it may do the next thing."""

    def on_turn(self, host: Host, turn: Any) -> None:
        """A node took a turn."""

    def on_down(self, host: Host) -> None:
        """A node is down."""

    def calm(self) -> None:
        """Faults have stopped, all nodes that can be started are started."""

    def is_settled(self) -> bool:
        """Whether everything that must come to an end has: the liveness half."""

    def judge(self) -> None:
        """Judge the whole run; raises Violation."""

    def describe(self) -> str:
        """A picture of the state in a few lines, for failure messages."""

    def figures(self) -> dict[str, int]:
        """What was done, by name: for reports, and for tests that a run was not idle."""

    def digest(self) -> int:
        """Digest of the final state."""


WorkloadFactory = Callable[[], Workload]
