"""Mutants of linearizable reads: when a leader may believe that it still leads."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from quorate.consensus.raft import reads
from quorate.consensus.raft.state import RaftState
from quorate.replication.replica import Replica
from quorate.replication.turn import Turn
from quorate.simulation.mutants.mutant import Group, Patches

GROUP = Group("reads")
_REPLACED = ("ambush:behind-its-back",)


@GROUP.mutant("dissertation §6.4; ZooKeeper answers reads so")
def reads_whatever_is_here(patches: Patches) -> None:
    """A read point comes from the leader, not from the node that was asked."""

    def read_barrier(self: Replica, token: Hashable) -> None:
        self._out.released.append(token)

    patches.put(Replica, "read_barrier", read_barrier)


@GROUP.mutant("dissertation §6.4, step 3", faults=_REPLACED, clients=12)
def reads_without_a_quorum(patches: Patches) -> None:
    """A leader answers a read after a quorum confirmed that it still leads."""
    patches.put(reads, "confirmed_round", lambda state: state.round)


@GROUP.mutant("dissertation §6.4, step 3; known bug of etcd", faults=_REPLACED, clients=12)
def lets_reads_join_a_round_under_way(patches: Patches) -> None:
    """A read is confirmed by a round that was sent after the read came."""

    def begin_round(state: RaftState) -> None:
        if state.read_rounds and state.reads_waiting and state.is_term_committed:
            number, index, readers = state.read_rounds.pop()
            readers = readers + state.reads_waiting
            state.read_rounds.append((number, max(index, state.commit_index), readers))
            state.reads_waiting = []
        begin(state)

    begin = patches.put(reads, "begin_round", begin_round)


@GROUP.mutant("dissertation §6.4; known bug of etcd", faults=_REPLACED, clients=12)
def uses_a_round_twice(patches: Patches) -> None:
    """A round has a number of its own: an echo of an earlier one confirms nothing later."""

    def begin_round(state: RaftState) -> None:
        if state.reads_waiting and state.is_term_committed and state.round:
            state.round -= 1
        begin(state)

    begin = patches.put(reads, "begin_round", begin_round)


@GROUP.mutant("dissertation §6.4, step 1; known bug of etcd")
def reads_before_its_term_is_committed(patches: Patches) -> None:
    """A leader knows what is committed only after an entry of its own term is."""

    def begin_round(state: RaftState) -> None:
        known = state.is_term_committed, state.term_start_index
        state.is_term_committed, state.term_start_index = True, 0  # nor does an assertion help
        try:
            begin(state)
        finally:
            state.is_term_committed, state.term_start_index = known

    def release_confirmed(state: RaftState) -> None:
        start, state.term_start_index = state.term_start_index, 0
        try:
            release(state)
        finally:
            state.term_start_index = start

    begin = patches.put(reads, "begin_round", begin_round)
    release = patches.put(reads, "release_confirmed", release_confirmed)


@GROUP.mutant("dissertation §6.4, step 4")
def reads_before_the_read_point_is_applied(patches: Patches) -> None:
    """A read waits until its read point is applied where it is answered."""

    def release(self: Replica, turn: Turn) -> None:
        waiting = self._barriers_waiting
        turn.released += [token for _, _, token in sorted(waiting, key=_number)]
        waiting.clear()

    patches.put(Replica, "_release_barriers", release)


def _number(waiting: tuple[int, int, Any]) -> int:
    return waiting[1]


@GROUP.mutant("dissertation §6.4", faults=("ambush:earlier-lives", "distance"), clients=12)
def numbers_read_requests_from_zero(patches: Patches) -> None:
    """An answer to a read of an earlier life of the process matches no read of this one."""

    def build(self: RaftState, **arguments: Any) -> None:
        original(self, **arguments)
        self.read_number = 0

    original = patches.put(RaftState, "__init__", build)


@GROUP.mutant("every request ends (liveness)")
def forgets_reads_that_failed(patches: Patches) -> None:
    """A read that lost its leader is asked again of the next one."""

    def retry(self: Replica) -> None:
        self._barriers_retry.clear()

    patches.put(Replica, "_retry_barriers", retry)
