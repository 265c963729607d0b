"""Snapshots: sending ours to a member that is too far behind, and taking one over (§7, Fig. 13).

A snapshot travels in pieces, one at a time: the next piece is read from disk when the one before
is stored at the other side, so that no memory depends on the snapshot's size. Each piece resets
the receiver's election timer. A piece says which snapshot it is of, to the byte (its identity), and
its offset; whatever does not continue what we have is answered with where we are. So a receiver
that restarts, or gets another leader, goes on with what it has if the snapshot is the same one, and
from the beginning if not. How much a leader sends in a second is bounded, for all members together.

The last piece is special. Until the disk confirms it, the receiver's log stands still: Appends are
ignored, and the node does not campaign. Then the snapshot replaces state and log together; entries
behind it are kept only if the log agrees with it (Fig. 13 rules 6 and 7).

Invariants:
    * a snapshot that covers less than what is committed here changes nothing
    * the log on disk is dropped only by the step that makes the snapshot durable
    * at most one snapshot is taken over at a time, and at most one piece per turn
    * pieces of two snapshots are never put together, not even of the same index
"""

from __future__ import annotations

from quorate.consensus.engine import ReadSnapshot, SnapshotRead, SnapshotSaved
from quorate.consensus.entry import WITHHELD_BODY, SnapshotChunk, SnapshotMeta
from quorate.consensus.progress import SNAPSHOT, Progress
from quorate.consensus.raft import follower
from quorate.consensus.raft.messages import InstallChunk, InstallReply
from quorate.consensus.raft.state import IncomingSnapshot, Installing, RaftState, Role

BUDGET_MS_MAX = 100
"""How much time's worth of sending may be saved up."""

# ---- our own snapshots -------------------------------------------------------------------------


def meta_at(state: RaftState, index: int) -> SnapshotMeta:
    """Describe a snapshot of the state at the applied ``index``."""
    assert state.log.base_index <= index <= state.delivered_index, "only what was delivered"
    epoch = state.log.epoch_at(index)
    assert epoch is not None, "delivered entries are in the log or its base"
    return SnapshotMeta(index, epoch, state.configuration_at(index).encode())


def on_saved(state: RaftState, event: SnapshotSaved) -> None:
    """Our own snapshot is durable: forget the log before it, but for a few entries."""
    meta = event.meta
    if state.snapshot is not None and meta.index <= state.snapshot.index:
        state.ignore("snapshot saved that is not newer")
        return
    assert meta.index <= state.delivered_index, "a snapshot holds delivered entries only"
    state.snapshot = meta
    if meta.index <= state.log.base_index or state.installing is not None:
        return
    settings = state.settings
    to = state.log.compactable_to(
        meta.index, keep_entries=settings.log_keep_entries, keep_bytes=settings.log_keep_bytes
    )
    if to > state.log.base_index:
        state.compact(to)


# ---- sending (leader) --------------------------------------------------------------------------


def begin_sending(state: RaftState, peer: Progress) -> None:
    """The entries this member needs are compacted: send our newest snapshot."""
    meta = state.snapshot
    assert meta is not None, "a compacted log has a snapshot"
    assert meta.index >= state.log.base_index, "the snapshot covers what is compacted"
    peer.become_snapshot(meta)
    _read_next(state, peer)


def _read_next(state: RaftState, peer: Progress) -> None:
    """Ask for the next piece, now or when the budget allows."""
    assert peer.snapshot is not None, "a snapshot is being sent"
    peer.snapshot_sent_ms = state.now_ms
    if peer.is_witness:  # it keeps no data: the position and the configuration are all it needs
        chunk = InstallChunk(state.term, peer.snapshot, 0, WITHHELD_BODY, is_last=True)
        state.out.messages.append((peer.node_id, chunk))
        return
    if state.settings.snapshot_send_bytes_per_second:
        if state.snapshot_budget_millibytes <= 0:
            state.snapshots_waiting[peer.node_id] = None
            return
        state.snapshot_budget_millibytes -= state.settings.snapshot_chunk_bytes * 1000
    request = ReadSnapshot(
        peer.node_id, peer.snapshot, peer.snapshot_offset, state.settings.snapshot_chunk_bytes
    )
    state.out.read_snapshot.append(request)


def on_tick(state: RaftState) -> None:
    """A leader's time passed: let those go on who waited for it, in the order they came."""
    rate = state.settings.snapshot_send_bytes_per_second
    elapsed_ms = state.now_ms - state.snapshot_budget_ms
    state.snapshot_budget_ms = state.now_ms
    # Not saved up for long, and a leader that was held up does not make up for it: no bursts.
    earned = rate * min(elapsed_ms, BUDGET_MS_MAX)
    budget = min(state.snapshot_budget_millibytes + earned, rate * BUDGET_MS_MAX)
    state.snapshot_budget_millibytes = budget
    waiting = state.snapshots_waiting
    while waiting and state.snapshot_budget_millibytes > 0:
        node_id = next(iter(waiting))
        del waiting[node_id]
        peer = state.progress.get(node_id)
        if peer is not None and peer.state is SNAPSHOT:
            _read_next(state, peer)


def on_read(state: RaftState, event: SnapshotRead) -> None:
    """A piece of our snapshot was read for a member: send it on."""
    peer = state.progress.get(event.peer)
    if peer is None or peer.snapshot != event.meta or peer.snapshot_offset != event.offset:
        state.ignore("piece of a snapshot that nobody waits for")
        return
    if event.data is None:
        if state.snapshot is not None and state.snapshot != event.meta:
            begin_sending(state, peer)  # replaced by a newer one: start over with that
        else:
            # Tried again after a timeout, and from the beginning, whatever was asked for.
            state.ignore("our newest snapshot cannot be read")
            peer.snapshot_offset = 0
        return
    peer.snapshot_sent_ms = state.now_ms
    chunk = InstallChunk(
        state.term, event.meta, event.offset, event.data, event.last, event.identity
    )
    state.out.messages.append((peer.node_id, chunk))


def stored_up_to(state: RaftState, peer: Progress, index: int, next_offset: int) -> None:
    """A member says how much it has of the snapshot at ``index``: go on from there."""
    if peer.state is not SNAPSHOT or peer.snapshot is None or index != peer.snapshot.index:
        state.ignore("answer about a snapshot that is not being sent")
        return
    if next_offset != peer.snapshot_offset:
        peer.snapshot_offset = next_offset
        _read_next(state, peer)


def resend_if_silent(state: RaftState, peer: Progress) -> None:
    """Once per heartbeat: repeat a piece that was not answered for an election timeout."""
    if state.now_ms - peer.snapshot_sent_ms < state.settings.election_timeout_ms:
        return
    if peer.node_id in state.snapshots_waiting:
        return  # it is we who let it wait
    if state.snapshot is not None and state.snapshot != peer.snapshot:
        begin_sending(state, peer)
    else:
        _read_next(state, peer)


# ---- taking over (follower) --------------------------------------------------------------------


def on_chunk(state: RaftState, sender: int, message: InstallChunk) -> None:
    """The leader sends a piece of its snapshot (InstallSnapshot)."""
    assert message.term == state.term, "terms are settled before"
    follower.hear_leader(state, sender)
    meta = message.meta
    if state.installing is not None or state.pending_chunk is not None:
        state.ignore("piece of a snapshot while another is being stored")
        return
    if meta.index <= state.commit_index:
        # Everything it covers is committed here, so our log agrees with the leader's so far.
        state.verified_index = max(state.verified_index, meta.index)
        # Committed by the others' disks is not stored on ours: until it is, Persisted answers.
        if meta.index <= state.durable_index:
            state.send(sender, InstallReply(state.term, meta.index, 0, is_done=True))
        return
    if state.is_disk_full:
        state.ignore("piece of a snapshot for which the disk has no space")
        return
    incoming = _same_snapshot(state, message)
    if incoming is None:
        incoming = IncomingSnapshot(meta, message.identity, state.term, sender)
        state.incoming = incoming
    incoming.term = state.term
    incoming.sender = sender
    if message.offset != incoming.next_offset:
        state.ignore("piece of a snapshot that does not follow")
        state.send(
            sender, InstallReply(state.term, meta.index, incoming.next_offset, is_done=False)
        )
        return
    _store_chunk(state, incoming, message)


def _same_snapshot(state: RaftState, message: InstallChunk) -> IncomingSnapshot | None:
    """What is here already of the very bytes that this piece belongs to."""
    incoming = state.incoming
    if incoming is None or (incoming.meta, incoming.identity) != (message.meta, message.identity):
        return None
    # Without an identity only one leader's word says that the bytes are the same.
    return incoming if message.identity or incoming.term == state.term else None


def _store_chunk(state: RaftState, incoming: IncomingSnapshot, message: InstallChunk) -> None:
    meta = message.meta
    incoming.next_offset += len(message.data)
    discard_log = state.log.epoch_at(meta.index) != meta.epoch
    state.pending_chunk = SnapshotChunk(
        meta, message.offset, message.data, message.is_last, discard_log, message.identity
    )
    if message.is_last:
        state.incoming = None
        sequence = state.sequence + 1  # hand_to_disk of this turn carries the piece
        state.installing = Installing(meta, sequence, discard_log, incoming.sender)
    else:
        reply = InstallReply(state.term, meta.index, incoming.next_offset, is_done=False)
        state.out.messages_after_persist.append((incoming.sender, reply))


def on_durable(state: RaftState) -> None:
    """The last piece is on disk: the snapshot takes the place of state and log."""
    installing = state.installing
    assert installing is not None, "a snapshot is being stored"
    if state.persisted_sequence < installing.sequence:
        return
    state.installing = None
    meta = installing.meta
    assert meta.index > state.commit_index, "a snapshot never takes back what is committed"
    if installing.discard_log:
        _replace_log(state, meta)
    else:
        state.log.compact(meta.index)
        state.configurations.forget_before(meta.index)
        state.durable_index = max(state.durable_index, meta.index)
    state.snapshot = meta
    state.commit_index = state.delivered_index = meta.index
    state.out.install = meta
    if state.role is Role.FOLLOWER and state.leader == installing.sender:
        state.verified_index = max(state.verified_index, meta.index)
        state.send(state.leader, InstallReply(state.term, meta.index, 0, is_done=True))


def _replace_log(state: RaftState, meta: SnapshotMeta) -> None:
    assert state.handed_index == state.log.last_index, "the log stood still meanwhile"
    state.log.reset(meta.index, meta.epoch)
    state.handed_index = state.durable_index = meta.index
    for step in state.unconfirmed:
        step[1] = meta.index
    state.restart_configurations(meta)
