"""The judge of replicas: each batch is applied once, in order, at the same place everywhere.

It wraps a state machine and sees what the replica hands to it. It knows nothing of what a batch
means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from quorate.replication.state_machine import ApplyContext, StateMachine
from quorate.simulation.properties import safety

Origin = tuple[int, int]
"""(node, incarnation) whose clients sent a batch."""


class ApplicationJudge:
    """Judge of what all replicas apply.

    Attributes:
        on_first: hears of each batch when it is applied for the first time anywhere, just before:
            so of all batches, once, in the order of the log.
    """

    def __init__(self) -> None:
        self.on_first: Callable[[bytes, ApplyContext], None] = _nobody
        self.applied = 0  # batches, each counted once
        self._places: dict[tuple[int, int, int], tuple[int, int]] = {}
        self._last: dict[Origin, int] = {}  # number of the newest batch applied anywhere

    def observe(self, node_id: int, machine: StateMachine) -> JudgedMachine:
        """Wrap a node's state machine (again after each restart)."""
        return JudgedMachine(node_id, machine, self)

    def on_apply(self, node_id: int, payload: bytes, context: ApplyContext) -> None:
        """A replica applies a batch."""
        origin = (context.node, context.incarnation)
        identity = (*origin, context.number)
        place = (context.index, len(payload))
        known = self._places.get(identity)
        if known is not None:
            self.exactly_once(node_id, identity, place, known)
            return
        self.batches_in_order(node_id, origin, context.number)
        self._places[identity] = place
        self._last[origin] = context.number
        self.applied += 1
        self.on_first(payload, context)

    @safety("dissertation §6.3")
    def exactly_once(
        self,
        node_id: int,
        identity: tuple[int, int, int],
        place: tuple[int, int],
        known: tuple[int, int],
    ) -> str | None:
        """A batch takes effect at one place in the order, however often it was sent."""
        if place == known:
            return None
        return f"node {node_id} applies batch {identity} at {place[0]}, it belongs at {known[0]}"

    @safety("ZooKeeper: FIFO client order")
    def batches_in_order(self, node_id: int, origin: Origin, number: int) -> str | None:
        """The batches of one start of a node take effect in the order in which they were sent."""
        last = self._last.get(origin, 0)
        if number == last + 1:
            return None
        return f"node {node_id} applies batch {number} of {origin} after batch {last}"


class JudgedMachine:
    """A state machine with the judge looking over its shoulder."""

    def __init__(self, node_id: int, machine: StateMachine, judge: ApplicationJudge) -> None:
        self.inner = machine
        self._node_id = node_id
        self._judge = judge
        self._index = 0
        self._apply = machine.apply
        self.digest: Callable[[], int] = machine.digest

    def apply(self, payload: bytes, context: ApplyContext) -> Any:
        """Pass the batch in, judged."""
        self._judge.on_apply(self._node_id, payload, context)
        return self._apply(payload, context)

    def snapshot(self) -> Iterator[bytes]:
        """Pass through."""
        return self.inner.snapshot()

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Pass through."""
        self.inner.restore(chunks)


def _nobody(payload: bytes, context: ApplyContext) -> None:
    """Nobody wants to know."""
