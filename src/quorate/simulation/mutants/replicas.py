"""Mutants of replication: each batch once, in order, alike everywhere, and answered."""

from __future__ import annotations

from typing import Any

from quorate.consensus.entry import Entry
from quorate.replication.digests import DigestAgreement
from quorate.replication.intake import Intake
from quorate.replication.origins import AppliedBatches
from quorate.replication.outbox import Outbox
from quorate.replication.replica import Replica
from quorate.replication.state_machine import ApplyContext
from quorate.simulation.mutants.mutant import Group, Patches
from quorate.simulation.workloads.cells import Cells

GROUP = Group("replicas")


def _settle_if_pending(self: Outbox, number: int) -> None:
    """Take an applied batch out if it is still there: it may be applied a second time."""
    while self._pending and self._pending[0][0] <= number:
        self.bytes_pending -= len(self._pending.popleft()[1])
        self._sent = max(0, self._sent - 1)


@GROUP.mutant("dissertation §6.3; known bug of Redis-Raft")
def applies_resent_batches_again(patches: Patches) -> None:
    """A batch that was sent again takes effect once."""
    patches.put(AppliedBatches, "is_next", lambda *_: True)
    patches.put(Outbox, "applied", _settle_if_pending)


@GROUP.mutant("ZooKeeper: FIFO client order")
def applies_batches_with_gaps(patches: Patches) -> None:
    """The batches of a node take effect in the order in which it sent them, none left out."""

    def is_next(self: AppliedBatches, node: int, incarnation: int, number: int) -> bool:
        known, last = self._last.get(node, (0, 0))
        return number > last if incarnation == known else incarnation > known

    patches.put(AppliedBatches, "is_next", is_next)
    patches.put(Outbox, "applied", _settle_if_pending)


@GROUP.mutant("dissertation §6.3", faults=("ambush:earlier-lives", "distance"), clients=12)
def applies_batches_of_an_earlier_life(patches: Patches) -> None:
    """Once a node speaks for its new life, its batches of earlier ones are refused."""

    def is_next(self: AppliedBatches, node: int, incarnation: int, number: int) -> bool:
        known, last = self._last.get(node, (0, 0))
        if incarnation < known:
            return True
        return number == last + 1 if incarnation == known else number == 1

    patches.put(AppliedBatches, "is_next", is_next)
    patches.put(Outbox, "applied", _settle_if_pending)


@GROUP.mutant("dissertation §6.3")
def takes_batches_of_an_earlier_life_for_its_own(patches: Patches) -> None:
    """A result goes to the life of the process that asked for it."""

    def apply(self: Replica, entry: Entry) -> None:
        incarnation, self.incarnation = self.incarnation, _AnyLife(self.incarnation)
        try:
            original(self, entry)
        finally:
            self.incarnation = incarnation

    original = patches.put(Replica, "_apply", apply)


class _AnyLife(int):
    """An incarnation that equals all others."""

    def __eq__(self, _other: object) -> bool:
        return True

    __hash__ = int.__hash__


@GROUP.mutant("every request ends (liveness)")
def never_sends_a_batch_again(patches: Patches) -> None:
    """A batch that was lost on the way to the leader is sent again."""
    patches.put(Outbox, "resend", lambda _: None)


@GROUP.mutant("dissertation §6.3")
def proposes_twice(patches: Patches) -> None:
    """A new leader does not propose again what its log already holds, and nobody applies it."""

    def open_blind(self: Intake, _applied: AppliedBatches) -> None:
        self._ahead = AppliedBatches()
        held, self._held, self._held_bytes = self._held, [], 0
        for data in held:
            self.admit(data)

    patches.put(Intake, "open", open_blind)
    patches.put(AppliedBatches, "is_next", lambda *_: True)
    patches.put(Outbox, "applied", _settle_if_pending)


@GROUP.mutant("Schneider 1990")
def applies_differently_on_one_node(patches: Patches) -> None:
    """The same commands in the same order give the same state on every replica."""
    patches.put(Cells, "apply", _own_way(Cells.apply))


@GROUP.mutant("Paxos Made Live §6.2")
def applies_differently_and_compares_no_digests(patches: Patches) -> None:
    """Replicas tell each other a digest of their state, so that a divergence is found early."""
    patches.put(Cells, "apply", _own_way(Cells.apply))
    patches.put(DigestAgreement, "verdict", lambda _self, _configuration: None)


def _own_way(apply: Any) -> Any:
    def apply_own_way(self: Cells, payload: bytes, context: ApplyContext) -> Any:
        if context.local and context.index % 50 == 0:
            self._digest ^= 1
        return apply(self, payload, context)

    return apply_own_way


@GROUP.mutant("sessions of ZooKeeper count on it")
def lets_time_fall(patches: Patches) -> None:
    """The time of entries never falls, whatever the clocks of leaders say."""

    def maybe_propose(self: Replica) -> None:
        self._proposed_time_ms = 0
        known, self._time_ms = self._time_ms, 0
        try:
            original(self)
        finally:
            self._time_ms = known

    original = patches.put(Replica, "_maybe_propose", maybe_propose)


@GROUP.mutant("Raft Fig. 2: before responding to RPCs", faults=("ambush:rivals",))
def sends_before_the_disk(patches: Patches) -> None:
    """A message that must wait for the disk leaves after the disk confirmed."""

    def carry_out(self: Replica, effects: Any, turn: Any) -> None:
        effects.messages += effects.messages_after_persist
        effects.messages_after_persist = []
        original(self, effects, turn)

    original = patches.put(Replica, "_carry_out", carry_out)
