"""Leading: replicate, commit, stay leader only with a majority.

A leader ships entries before its own disk has them and counts itself by its durable index like
anybody else; it may commit before its own write is done (dissertation §10.2.1). Members that are
known to agree get a pipelined stream, bounded in bytes and messages (§10.2.2). Progress never
waits for a timer while messages are answered: every acknowledgement leads to ``flush`` in the same
turn, which sends until the member has everything or its window is full. Timers only repair loss.

Cost sketch: one proposal = one Append per member, one acknowledgement each, one commit notice each
(none if the next proposal is already there to carry it).

Invariants:
    * a leader only appends to its own log (Fig. 3: Leader Append-Only)
    * only entries of its own term are committed by counting (§5.4.2, Fig. 8)
    * nothing is proposed before the term's first entry is committed, nor during a hand-over
"""

from __future__ import annotations

from quorate.consensus.engine import NO_LEADER
from quorate.consensus.entry import Entry, EntryKind
from quorate.consensus.progress import PROBE, REPLICATE, SNAPSHOT, Progress
from quorate.consensus.raft import membership, reads, snapshots, transfer
from quorate.consensus.raft.messages import (
    Append,
    AppendRejected,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallReply,
    LeasePromise,
)
from quorate.consensus.raft.state import RaftState, Role

# ---- becoming and ceasing ----------------------------------------------------------------------


def become_leader(state: RaftState) -> None:
    """An election is won: set up progress and append the term's first entry (§8)."""
    assert state.role is Role.CANDIDATE, "only a candidate is elected"
    assert state.is_hard_durable, "term and vote are on disk before we act on them"
    state.role = Role.LEADER
    state.set_leader(state.node_id)
    state.hurry = 0
    state.note_role("leader", state.campaign_cause)
    now, node_id = state.now_ms, state.node_id
    following = state.log.last_index + 1
    state.hand_over.durable_mark = (state.durable_index, now)
    membership.take_over(state)
    state.matches[node_id] = state.durable_index
    state.lease.begin_term()
    state.term_start_index = following
    state.is_heartbeat_due = True
    state.heartbeat_deadline_ms = now + state.settings.heartbeat_ms
    append_first_entry(state)


def append_first_entry(state: RaftState) -> None:
    """Append the entry that, once committed, commits everything before it.

    A no-op; but the first leader of all writes down the bootstrap configuration instead, so that
    whoever is given the log knows who belonged from the beginning (dissertation §4.4).
    """
    index = state.log.last_index + 1
    since, configuration = state.configurations[-1]
    if since:
        state.append_entry(Entry(index, state.term, EntryKind.NOOP, b""))
    else:
        first = configuration.encode()
        state.append_entry(Entry(index, state.term, EntryKind.CONFIGURATION, first))


def on_propose(state: RaftState, payload: bytes) -> None:
    """Append one entry; ``flush`` ships it in this turn."""
    if state.role is not Role.LEADER or not state.is_term_committed or state.transfer_target:
        state.ignore("proposal without established leadership")
        return
    if state.is_disk_full:
        state.ignore("proposal for which the disk has no space")
        return
    log = state.log
    log.append(Entry(log.last_index + 1, state.term, EntryKind.BATCH, payload))


def on_tick(state: RaftState) -> None:
    """Heartbeat, check the majority, give up a hand-over that takes too long."""
    assert state.role is Role.LEADER, "only a leader leads"
    now = state.now_ms
    state.is_announce_due = any(peer.sent_commit < state.commit_index for peer in state.peers)
    if now >= state.heartbeat_deadline_ms:
        state.heartbeat_deadline_ms = now + state.settings.heartbeat_ms
        state.is_heartbeat_due = True
        _repair_losses(state)
    membership.on_tick(state)
    transfer.on_tick(state)
    snapshots.on_tick(state)
    if not state.is_stalled:
        check_quorum(state)


def check_quorum(state: RaftState) -> None:
    """Step down when a majority was silent for an election timeout (dissertation §6.2)."""
    actives = state.actives
    actives[state.node_id] = state.now_ms
    for voter in (*state.configuration.voters, *state.configuration.outgoing):
        actives.setdefault(voter, state.now_ms)
    heard_ms = state.quorum.committed(actives)
    if state.now_ms - heard_ms >= state.settings.election_timeout_ms:
        state.ignore("stepped down: no majority answers")
        state.become_follower(state.term, NO_LEADER, "no majority answers")


# ---- sending -----------------------------------------------------------------------------------


def flush(state: RaftState) -> None:
    """Once per turn: ship entries, the commit index and a heartbeat round, as far as due."""
    assert state.is_hard_durable, "a leader's term is on disk before it speaks"
    reads.begin_round(state)
    state.shared_append = None
    last = state.log.last_index
    for peer in state.peers:
        if peer.next_index <= last or peer.state is PROBE:
            replicate(state, peer)
    out = state.out.messages
    commit = state.commit_index
    if state.is_heartbeat_due:
        state.is_heartbeat_due = False
        heartbeat = Heartbeat(state.term, commit, state.round)
        for peer in state.peers:
            peer.sent_commit = commit
            out.append((peer.node_id, heartbeat))
        if state.hand_over.is_resigned:
            transfer.resign(state)
        return
    if not (state.is_announce_due or state.settings.announce_at_once):
        return
    state.is_announce_due = False
    for peer in state.peers:
        if peer.sent_commit < commit and peer.state is REPLICATE:
            peer.sent_commit = commit
            out.append((peer.node_id, Heartbeat(state.term, commit, 0)))


def is_quiet(state: RaftState) -> bool:
    """Whether nothing is due to any member."""
    if state.is_heartbeat_due or state.is_announce_due or state.reads_waiting:
        return False
    last = state.log.last_index
    told = state.commit_index if state.settings.announce_at_once else 0
    return not any(
        peer.state is not REPLICATE or peer.next_index <= last or peer.sent_commit < told
        for peer in state.peers
    )


def replicate(state: RaftState, peer: Progress) -> None:
    """Send one member what it lacks: until it has caught up or the window is full."""
    if peer.state is PROBE:
        if not peer.is_paused:
            peer.is_paused = True
            send_append(state, peer)
        return
    settings = state.settings
    last = witness_bound(state) if peer.is_witness else state.log.last_index
    while (
        peer.state is REPLICATE
        and peer.next_index <= last
        and peer.has_room(settings.inflight_bytes_max, settings.inflight_messages_max)
    ):
        send_append(state, peer)


def send_append(state: RaftState, peer: Progress, *, with_entries: bool = True) -> None:
    """Send one Append that starts at the member's next index; a snapshot if it is compacted.

    Members at the same index get the very same object within a turn, so that it need be built
    (and, by a driver that notices, encoded) only once.
    """
    log = state.log
    previous = peer.next_index - 1
    previous_term = log.epoch_at(previous)
    if previous_term is None:
        assert previous < log.base_index, "next is never beyond the end of our log"
        snapshots.begin_sending(state, peer)
        return
    shared = state.shared_append
    is_shared = with_entries and not peer.is_witness
    if is_shared and shared is not None and shared[0].prev_index == previous:
        append, size = shared
    else:
        entries: list[Entry] = []
        size = 0
        if with_entries and previous < log.last_index:
            entries, size = log.slice(previous + 1, state.settings.append_bytes_max)
            if peer.is_witness:
                entries, size = withheld(entries, witness_bound(state)), 0
        append = Append(state.term, previous, previous_term, state.commit_index, entries)
        if is_shared:
            state.shared_append = (append, size)
    state.out.messages.append((peer.node_id, append))
    if peer.state is REPLICATE:
        peer.sent_commit = append.commit_index
        if append.entries:
            peer.sent(append.entries[-1].index, size)


def withheld(entries: list[Entry], last_index: int) -> list[Entry]:
    """What a witness is given: where batches are and of which term, not what is in them."""
    return [
        Entry(entry.index, entry.epoch, EntryKind.WITHHELD, b"")
        if entry.kind == EntryKind.BATCH
        else entry
        for entry in entries
        if entry.index <= last_index
    ]


def witness_bound(state: RaftState) -> int:
    """How far witnesses are told the log: what is on our own disk.

    A witness that alone has stored an entry would refuse its vote to all who can lead, and could
    give the entry to none of them.
    """
    return state.durable_index


def _repair_losses(state: RaftState) -> None:
    """Once per heartbeat: ask again where a message or its answer may have been lost."""
    for peer in state.peers:
        if peer.state is PROBE:
            peer.is_paused = False
        elif peer.state is SNAPSHOT:
            snapshots.resend_if_silent(state, peer)
        elif peer.is_stalled():
            # "Did you get everything up to here?": answered by an acknowledgement or a rejection.
            send_append(state, peer, with_entries=False)


# ---- answers -----------------------------------------------------------------------------------


def _answering(state: RaftState, sender: int) -> Progress | None:
    """The sender's progress, noted as alive; None when its answer means nothing here."""
    peer = state.progress.get(sender)
    if peer is None:
        state.ignore("answer to a leader from a non-member or while not leading")
        return None
    state.actives[sender] = state.now_ms
    return peer


def on_append_reply(state: RaftState, sender: int, message: AppendReply) -> None:
    """A member has stored everything up to an index."""
    peer = _answering(state, sender)
    if peer is None:
        return
    match = message.match_index
    if match > state.log.last_index:
        state.ignore("acknowledgement beyond the end of our log")
        return
    member_has(state, peer, match)
    if peer.state is PROBE and match >= peer.next_index - 1:
        peer.become_replicate()


def member_has(state: RaftState, peer: Progress, match: int) -> None:
    """Note a member's durable index and draw the conclusions."""
    if peer.acknowledged(match):
        assert match <= state.log.last_index, "nobody has more than its leader"
        state.matches[peer.node_id] = match
        if match > state.commit_index:
            advance_commit(state)
    if peer.state is SNAPSHOT and match >= state.log.base_index:
        peer.become_replicate()
    if state.transfer_target == peer.node_id:
        transfer.hand_over_if_ready(state)


def on_append_rejected(state: RaftState, sender: int, message: AppendRejected) -> None:
    """The logs differ at an index: go back, by whole terms (end of §5.3)."""
    peer = _answering(state, sender)
    if peer is None:
        return
    rejected = message.rejected_index
    is_outdated = rejected <= peer.match_index or rejected >= peer.next_index
    if peer.state is PROBE:
        is_outdated = is_outdated or rejected != peer.next_index - 1
    if is_outdated or peer.state is SNAPSHOT:
        state.ignore("outdated rejection")
        return
    peer.become_probe(next_after_rejection(state, message))


def on_install_reply(state: RaftState, sender: int, message: InstallReply) -> None:
    """A member stored a piece of our snapshot, or all of it, or says where it stands."""
    peer = _answering(state, sender)
    if peer is None:
        return
    if not message.is_done:
        snapshots.stored_up_to(state, peer, message.index, message.next_offset)
    elif message.index <= state.log.last_index:
        member_has(state, peer, message.index)
    else:
        state.ignore("snapshot stored that we do not know")


def next_after_rejection(state: RaftState, message: AppendRejected) -> int:
    """Where to try next: after our last entry of the conflicting term, or before all of it."""
    following = message.conflict_index
    if message.conflict_term:
        ours = state.log.last_index_of_epoch(message.conflict_term)
        if ours is not None:
            following = ours + 1
    # Always at least one step back, whatever the answer says.
    return max(1, min(following, message.rejected_index))


def on_heartbeat_reply(state: RaftState, sender: int, message: HeartbeatReply) -> None:
    """A member still follows us, at some time after that round was sent."""
    if _answering(state, sender) is None:
        return
    if state.rounds[sender] < message.round <= state.round:
        state.rounds[sender] = message.round
        reads.release_confirmed(state)


def on_lease_promise(state: RaftState, sender: int, message: LeasePromise) -> None:
    """The same, and the member votes for nobody for a while."""
    on_heartbeat_reply(state, sender, HeartbeatReply(message.term, message.round))
    if sender not in state.progress or message.round > state.round:
        return
    if message.length_ms < state.settings.election_timeout_ms:
        state.ignore("promise shorter than a lease: its election timeout is not ours")
        return
    if state.promised.get(sender, 0) < message.round:
        state.promised[sender] = message.round
        reads.renew_lease(state)


def on_durable(state: RaftState) -> None:
    """Our own disk has more: count ourselves."""
    if state.matches[state.node_id] < state.durable_index:
        state.matches[state.node_id] = state.durable_index
        advance_commit(state)


def advance_commit(state: RaftState) -> None:
    """Commit what a quorum has on disk, if it is of our own term (§5.3, §5.4.2)."""
    index = min(state.quorum.committed(state.matches), state.log.last_index)
    # In a leader's log exactly the entries from term_start_index on are of its own term.
    if index <= state.commit_index or index < state.term_start_index:
        return
    state.commit_index = index
    state.is_term_committed = True
    if state.change.is_open:
        membership.on_commit(state)


# ---- connections -------------------------------------------------------------------------------


def on_peer_opened(state: RaftState, member: int) -> None:
    """A new connection: what was under way on the old one may be lost, so probe now."""
    peer = state.progress.get(member)
    if peer is not None:
        peer.reconnected(state.log.last_index)
        state.is_heartbeat_due = True  # assert leadership there before anybody campaigns
