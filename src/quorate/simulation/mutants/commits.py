"""Mutants of commitment and delivery: when an entry counts as decided, and who hears of it."""

from __future__ import annotations

from collections.abc import Mapping

from quorate.consensus.quorum import Quorum
from quorate.consensus.raft import follower, leader
from quorate.consensus.raft.state import RaftState, Role
from quorate.simulation.mutants.mutant import Group, Patches

GROUP = Group("commits")


@GROUP.mutant("Raft §5.3; known bug of hashicorp/raft")
def commits_with_less_than_a_majority(patches: Patches) -> None:
    """More than half of the voters have an entry on disk before it is committed."""

    def committed(self: Quorum, acks: Mapping[int, int]) -> int:
        values = sorted(acks.get(voter, 0) for voter in self.configuration.voters)
        return values[(len(values) + 1) // 2]

    patches.put(Quorum, "committed", committed)


@GROUP.mutant("Raft §5.4.2, Fig. 8; known bug of LogCabin", faults=("ambush:overwritten",))
def commits_old_terms_by_counting(patches: Patches) -> None:
    """Only entries of the leader's own term are committed by counting."""

    def advance(state: RaftState) -> None:
        index = min(state.quorum.committed(state.matches), state.log.last_index)
        if index > state.commit_index:
            state.commit_index = index
            state.is_term_committed |= index >= state.term_start_index

    patches.put(leader, "advance_commit", advance)


@GROUP.mutant("Raft §5.3; known bugs of ra, cowsql/raft and openraft")
def commits_beyond_what_is_verified(patches: Patches) -> None:
    """A follower commits only what it is known to share with the leader that commits it."""

    def advance(state: RaftState) -> None:
        state.commit_index = max(state.commit_index, min(state.leader_commit, state.log.last_index))

    patches.put(follower, "advance_commit", advance)


@GROUP.mutant("Raft Fig. 2; known bug of PySyncObj")
def lets_the_commit_index_fall(patches: Patches) -> None:
    """The commit index never falls, whatever a new leader knows so far."""

    def advance(state: RaftState) -> None:
        state.commit_index = min(state.leader_commit, state.verified_index)

    patches.put(follower, "advance_commit", advance)


@GROUP.mutant("Raft §5.3; ZooKeeper's dirty reads")
def delivers_what_is_only_verified(patches: Patches) -> None:
    """A follower applies what is committed, not all that its leader sent."""

    def advance(state: RaftState) -> None:
        state.commit_index = max(state.commit_index, state.verified_index)

    patches.put(follower, "advance_commit", advance)


@GROUP.mutant("Raft Fig. 3, State Machine Safety")
def delivers_twice(patches: Patches) -> None:
    """Each entry is delivered once, also across a change of leader."""

    def become_leader(state: RaftState) -> None:
        become(state)
        state.delivered_index = max(state.log.base_index, state.delivered_index - 1)

    become = patches.put(leader, "become_leader", become_leader)


@GROUP.mutant("Raft §8; ZAB, primary integrity")
def proposes_before_its_term_is_committed(patches: Patches) -> None:
    """Nothing is proposed before the term's first entry is committed, and with it all before it."""
    patches.put(
        RaftState,
        "is_established",
        property(lambda state: state.role is Role.LEADER and not state.transfer_target),
    )

    def append_first_entry(state: RaftState) -> None:
        append(state)
        state.is_term_committed = True

    append = patches.put(leader, "append_first_entry", append_first_entry)


@GROUP.mutant("Raft §8; known bug of redisraft")
def skips_the_no_op(patches: Patches) -> None:
    """A leader begins its term with an entry, which alone can commit those before it."""

    def no_entry(state: RaftState) -> None:
        state.is_term_committed = True

    patches.put(leader, "append_first_entry", no_entry)
