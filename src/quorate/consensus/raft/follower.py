"""Following: take over the leader's log, say what is on disk, learn what is committed.

What the leader of this term has shown us is kept in two numbers: ``verified_index`` (our log equals
its log up to here) and ``leader_commit`` (it told us this much is committed). We commit the smaller
of the two and never look at our own last index: a tail of an older term that nobody verified is
not committed, however high the leader's commit index is (§5.3). Because a leader only appends to
its log, both numbers may be collected from different messages in any order.

An acknowledgement promises durability: it is the smaller of ``verified_index`` and
``durable_index``, computed when it is sent, one per turn however many Appends came.

Invariants:
    * entries are removed only because of a real conflict: a delayed, shorter Append removes nothing
    * nothing at or below the commit index is ever removed
    * the election timer is reset only by the leader of the current term
"""

from __future__ import annotations

from quorate.consensus.entry import Entry
from quorate.consensus.raft import space
from quorate.consensus.raft.messages import (
    Append,
    AppendRejected,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    LeasePromise,
)
from quorate.consensus.raft.state import RaftState, Role
from quorate.errors import InvariantBroken


def hear_leader(state: RaftState, sender: int) -> None:
    """A message of this term's leader arrived: follow it and wait a full timeout again."""
    if state.role is Role.LEADER:
        raise InvariantBroken(
            f"nodes {state.node_id} and {sender} both lead in term {state.term} (Election Safety)"
        )
    if state.role is not Role.FOLLOWER or state.leader != sender:
        if state.leader not in (0, sender):
            raise InvariantBroken(
                f"nodes {state.leader} and {sender} both lead in term {state.term} "
                f"(Election Safety), as seen by node {state.node_id}"
            )
        state.become_follower(state.term, sender)
    state.hurry = 0
    state.is_fresh = False
    state.is_leader_gone = False
    state.heard_leader_ms = state.now_ms
    state.election_deadline_ms = state.now_ms + state.election_timeout_ms


def on_append(state: RaftState, sender: int, message: Append) -> None:
    """A leader offers entries (AppendEntries); doubled and reordered offers are harmless."""
    assert message.term == state.term, "terms are settled before"
    hear_leader(state, sender)
    if state.installing is not None:
        state.ignore("append while a snapshot is being stored")
        return
    log = state.log
    previous = message.prev_index
    entries = message.entries
    last = previous + len(entries)
    if previous < log.base_index:
        # Compacted here, so committed, so equal in every leader's log: no conflict to look for.
        entries = entries[log.base_index - previous :]
    elif log.epoch_at(previous) != message.prev_term:
        if previous <= log.last_index or space.may_ask_for_more(state):
            _reject(state, sender, previous)
        return
    if state.is_disk_full:
        fitting = space.what_fits(state, entries)
        last -= len(entries) - fitting
        entries = entries[:fitting]
    if entries:
        store(state, entries)
    assert log.last_index >= last, "what was offered is in the log"
    state.verified_index = max(state.verified_index, last)
    state.leader_commit = max(state.leader_commit, message.commit_index)
    advance_commit(state)
    if last <= state.durable_index:
        state.is_ack_due = True  # otherwise Persisted will make it so


def store(state: RaftState, entries: list[Entry]) -> None:
    """Add what is new, keep what is already there, remove what conflicts (§5.3)."""
    log = state.log
    first = entries[0].index
    if first <= log.last_index:
        fresh = first_difference(state, entries)
        if fresh == len(entries):
            return
        first = entries[fresh].index
        entries = entries[fresh:]
        if first <= log.last_index:
            state.truncate(first)
    assert first == log.last_index + 1, "new entries follow the log without a gap"
    for entry in entries:
        state.append_entry(entry)


def first_difference(state: RaftState, entries: list[Entry]) -> int:
    """Return the position of the first entry that our log does not have with the same term."""
    log = state.log
    for position, entry in enumerate(entries):
        if log.epoch_at(entry.index) != entry.epoch:
            return position
    return len(entries)


def advance_commit(state: RaftState) -> None:
    """Commit what the leader has committed *and* our log is known to share with it."""
    index = min(state.leader_commit, state.verified_index)
    if index > state.commit_index:
        assert index <= state.log.last_index, "verified entries are in the log"
        state.commit_index = index


def _reject(state: RaftState, sender: int, index: int) -> None:
    """Say that the logs differ at ``index``, with enough for one step back per term."""
    log = state.log
    conflict_term = log.epoch_at(index)
    if conflict_term is None:
        assert index > log.last_index, "compacted entries never conflict"
        reply = AppendRejected(state.term, index, 0, log.last_index + 1)
    else:
        first = log.first_index_of_epoch_at(index) if index > log.base_index else index
        reply = AppendRejected(state.term, index, conflict_term, first)
    state.send(sender, reply)


def on_heartbeat(state: RaftState, sender: int, message: Heartbeat) -> None:
    """The leader is there, and says how much is committed."""
    assert message.term == state.term, "terms are settled before"
    hear_leader(state, sender)
    if message.round:
        _echo(state, sender, message.round)
    if state.installing is None and message.commit_index > state.leader_commit:
        state.leader_commit = message.commit_index
        advance_commit(state)


def _echo(state: RaftState, sender: int, round_: int) -> None:
    promise = state.promise
    if promise.length_ms:
        promise.give()  # before anybody may rely on it
        state.send(sender, LeasePromise(state.term, round_, promise.length_ms))
    else:
        state.send(sender, HeartbeatReply(state.term, round_))


def on_durable(state: RaftState) -> None:
    """Our disk has more: acknowledge it, if the leader has verified it."""
    if min(state.verified_index, state.durable_index) > state.acknowledged_index:
        state.is_ack_due = True


def flush(state: RaftState) -> None:
    """Once per turn: acknowledge everything that is verified and durable."""
    if not state.is_ack_due:
        return
    state.is_ack_due = False
    leader = state.leader
    if leader == 0:
        return
    assert leader != state.node_id, "a leader does not follow itself"
    match = min(state.verified_index, state.durable_index)
    state.acknowledged_index = max(state.acknowledged_index, match)
    state.send(leader, AppendReply(state.term, match))
