"""Mutants of log replication: what a follower takes over, removes and acknowledges."""

from __future__ import annotations

from dataclasses import replace

from quorate.consensus.entry import Entry
from quorate.consensus.raft import engine, follower, leader
from quorate.consensus.raft.messages import Append, AppendReply, Heartbeat
from quorate.consensus.raft.state import RaftState, Role
from quorate.simulation.mutants.mutant import Group, Patches

GROUP = Group("logs")


@GROUP.mutant("Raft §5.3; known bug of PySyncObj")
def truncates_without_a_conflict(patches: Patches) -> None:
    """Entries are removed only because of a real conflict: a late, short Append removes nothing."""

    def store_all(state: RaftState, entries: list[Entry]) -> None:
        if state.commit_index < entries[0].index <= state.log.last_index:
            state.truncate(entries[0].index)
        store(state, entries)

    store = patches.put(follower, "store", store_all)


@GROUP.mutant("Raft §5.3")
def keeps_conflicting_entries(patches: Patches) -> None:
    """An entry that conflicts with the leader's goes, and all that follow it."""

    def store(state: RaftState, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.index == state.log.last_index + 1:
                state.append_entry(entry)

    patches.put(follower, "store", store)


@GROUP.mutant("Raft §5.3")
def accepts_entries_without_the_consistency_check(patches: Patches) -> None:
    """Entries are accepted only if the entry before them is the leader's too."""

    def on_any(state: RaftState, sender: int, message: Append) -> None:
        known = state.log.epoch_at(message.prev_index)
        if known is not None:
            message = replace(message, prev_term=known)
        on_append(state, sender, message)

    on_append = patches.put_item(engine._ON_MESSAGE, Append, on_any)


@GROUP.mutant("Raft Fig. 2; known bug of PySyncObj")
def acknowledges_before_the_disk(patches: Patches) -> None:
    """An acknowledgement promises that the entries are on this node's disk."""

    def flush(state: RaftState) -> None:
        state.is_ack_due = False
        if state.leader and state.role is Role.FOLLOWER:
            state.send(state.leader, AppendReply(state.term, state.verified_index))

    def always_due(state: RaftState, sender: int, message: Append) -> None:
        on_append(state, sender, message)
        state.is_ack_due = True

    patches.put(follower, "flush", flush)
    on_append = patches.put_item(engine._ON_MESSAGE, Append, always_due)


@GROUP.mutant("Raft §5.3")
def acknowledges_what_no_leader_verified(patches: Patches) -> None:
    """An acknowledgement covers only what is known to be this leader's, not all that is here."""

    def flush(state: RaftState) -> None:
        state.is_ack_due = False
        if state.leader:
            state.send(state.leader, AppendReply(state.term, state.durable_index))

    def on_heartbeat(state: RaftState, sender: int, message: Heartbeat) -> None:
        original(state, sender, message)
        state.is_ack_due = True

    patches.put(follower, "flush", flush)
    original = patches.put_item(engine._ON_MESSAGE, Heartbeat, on_heartbeat)


@GROUP.mutant("dissertation §10.2.1")
def leader_counts_itself_before_its_disk(patches: Patches) -> None:
    """A leader counts itself by what is on its disk, like anybody else."""

    def advance_early(state: RaftState) -> None:
        state.matches[state.node_id] = state.log.last_index
        advance(state)

    advance = patches.put(leader, "advance_commit", advance_early)


@GROUP.mutant("known bug of ra")
def trusts_confirmations_of_truncated_entries(patches: Patches) -> None:
    """A write that the disk confirms late says nothing about entries that were truncated since."""

    def truncate_only(self: RaftState, index: int) -> None:
        steps = [list(step) for step in self.unconfirmed]
        durable = self.durable_index
        truncate(self, index)
        self.durable_index = durable
        for step, before in zip(self.unconfirmed, steps, strict=True):
            step[:] = before

    truncate = patches.put(RaftState, "truncate", truncate_only)
