"""Mutants of leases: what a leader and its voters must keep so that a read needs no round.

Their runs answer reads by leases, with clocks that drift within the bound.
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.consensus.entry import Recovered
from quorate.consensus.raft import election, follower, reads, state
from quorate.consensus.raft.leases import Lease, Promise
from quorate.consensus.raft.state import RaftState
from quorate.simulation.mutants.mutant import Group, Patches

GROUP = Group("leases", leases=True)


def _released(raft: RaftState) -> Promise:
    """A promise that is over."""
    return Promise(raft.promise.length_ms, raft.now_ms)


@GROUP.mutant("dissertation §6.4.1", faults=("ambush:clocks-apart",))
def leases_without_a_drift_bound(patches: Patches) -> None:
    """A lease is shorter than the promise, by as much as clocks may run apart."""
    patches.put(state, "lease_ms", lambda election_timeout_ms, _: election_timeout_ms)


@GROUP.mutant("dissertation §6.4.1", faults=("ambush:late-echoes",))
def leases_from_the_echo(patches: Patches) -> None:
    """A lease counts from when its round was sent, not from when a quorum had echoed it."""

    def renew(raft: RaftState) -> None:
        before = raft.lease._from_ms
        original(raft)
        if raft.lease._from_ms != before:
            raft.lease._from_ms = raft.now_ms

    original = patches.put(reads, "renew_lease", renew)


@GROUP.mutant(
    "dissertation §6.4.1; known bugs of etcd and braft", faults=("ambush:behind-its-back",)
)
def keeps_leases_across_a_hand_over(patches: Patches) -> None:
    """A leader gives its lease up before it tells another node to campaign."""
    patches.put(Lease, "bar", lambda _: None)


@GROUP.mutant(
    "DESIGN section 2: the exception",
    faults=("pause", "partition", "unrest", "clocks", "transfer"),
)
def hints_end_promises(patches: Patches) -> None:
    """A closed connection says nothing about a lease: voters keep what they promised."""

    def on_leader_closed(raft: RaftState) -> None:
        raft.promise = _released(raft)
        original(raft)

    original = patches.put(election, "on_leader_closed", on_leader_closed)


@GROUP.mutant("checklist item 33: restarts respect leases", faults=("crash", "unrest", "partition"))
def voters_start_without_a_promise(patches: Patches) -> None:
    """A voter that restarts votes for nobody until what its earlier life promised is over."""

    def recover(self: RaftState, recovered: Recovered) -> None:
        original(self, recovered)
        self.promise = _Silent(self.promise.length_ms, self.now_ms)

    original = patches.put(RaftState, "_recover", recover)


class _Silent(Promise):
    """Takes no notice of the first thing it is told, which is that the process starts."""

    __slots__ = ("_has_started",)

    def __init__(self, length_ms: int, now_ms: int) -> None:
        super().__init__(length_ms, now_ms)
        self._has_started = False

    def give(self) -> None:
        """Promise, but not at the start."""
        if self._has_started:
            super().give()
        self._has_started = True


@GROUP.mutant("known bug of etcd: a leader that stood still", faults=("pause", "unrest"))
def judges_leases_by_the_last_tick(patches: Patches) -> None:
    """A lease is judged by a clock that is read after the read came in."""

    def answer(raft: RaftState, clock_ms: int) -> None:
        del clock_ms
        if raft.reads_waiting and raft.is_term_committed and raft.lease.is_held(raft.now_ms):
            readers, raft.reads_waiting = raft.reads_waiting, []
            reads._answer(raft, raft.commit_index, readers)

    patches.put(reads, "answer_by_lease", answer)


@GROUP.mutant("a process that stood still echoes with an old time", faults=("ambush:stood-still",))
def promises_from_the_last_tick(patches: Patches) -> None:
    """A promise counts from a time that is surely after it was given."""

    def echo(raft: RaftState, sender: int, round_: int) -> None:
        original(raft, sender, round_)
        raft.promise.tick(raft.now_ms)

    original = patches.put(follower, "_echo", echo)


@GROUP.mutant("dissertation §6.4.1: all voters, the candidate too", faults=("ambush:stood-still",))
def candidates_are_not_bound(patches: Patches) -> None:
    """A node's own vote is promised like any other: it does not campaign before."""

    def unbound(act: Callable[[RaftState], None]) -> Callable[[RaftState], None]:
        def act_unbound(raft: RaftState) -> None:
            promise, raft.promise = raft.promise, Promise(0, raft.now_ms)
            act(raft)
            raft.promise = promise

        return act_unbound

    for name in ("on_election_timeout", "_tally"):
        patches.put(election, name, unbound(getattr(election, name)))
