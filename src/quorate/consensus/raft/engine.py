"""The Raft engine: which rule an event goes to, and what a turn hands out.

This is the only way in and out; all state is in ``state.py`` and all rules are in the modules
beside it::

    step(event) --by type--> election | leader | follower | reads | snapshots | membership |
                             transfer | space
    take()      <-- flush of the current role, then persist, committed, leadership

Terms are settled here, once, before any rule sees a message (§5.1): a newer term makes us a
follower, an older one is answered with ours. Votes are the exception, because refusing a vote must
not take over its term (dissertation §4.2.3, §9.6), and look after themselves; so is the news that
a node was removed, which may come from any term.

Source: Ongaro and Ousterhout 2014 (section numbers without a name), Ongaro's dissertation 2014.
Rejected: one class per role (a node's term, log and vote outlive its roles, so nearly all state
would be passed around), and messages that mutate state outside ``step``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quorate.consensus.engine import (
    NO_LEADER,
    Announce,
    ChangeMembership,
    Clock,
    DiskSpace,
    Draw,
    Effects,
    EngineStatistics,
    Event,
    Message,
    PeerClosed,
    PeerOpened,
    PeerStatistics,
    Persisted,
    Propose,
    ReadBarrier,
    Received,
    SnapshotRead,
    SnapshotSaved,
    Tick,
    TransferLeadership,
)
from quorate.consensus.entry import Recovered, SnapshotMeta
from quorate.consensus.membership import Configuration
from quorate.consensus.raft import (
    codec,
    election,
    follower,
    leader,
    membership,
    reads,
    repair,
    snapshots,
    space,
    transfer,
)
from quorate.consensus.raft.messages import (
    Append,
    AppendRejected,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallChunk,
    InstallReply,
    LeasePromise,
    RaftMessage,
    ReadReply,
    ReadRequest,
    RemovalNotice,
    RepairAnswer,
    RepairQuery,
    TermNotice,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from quorate.consensus.raft.state import RaftState, Role
from quorate.consensus.registry import EngineSettings


class RaftEngine:
    """One node's Raft, behind the Engine interface."""

    def __init__(
        self,
        *,
        node_id: int,
        configuration: Configuration,
        recovered: Recovered,
        settings: EngineSettings,
        draw: Draw,
        now_ms: int,
    ) -> None:
        self.state = RaftState(
            node_id=node_id,
            configuration=configuration,
            recovered=recovered,
            settings=settings,
            draw=draw,
            now_ms=now_ms,
        )
        if recovered.damage is not None:
            repair.begin(self.state, recovered.damage)

    def step(self, event: Event) -> None:
        """Take one event in."""
        _ON_EVENT[type(event)](self.state, event)

    def take(self) -> Effects:
        """Hand out everything decided since the last call."""
        state = self.state
        if state.role is Role.LEADER:
            leader.flush(state)
        else:
            if state.repair is not None:
                repair.advance(state)
            if state.is_ack_due:
                follower.flush(state)
            if state.reads_unsent:
                reads.forward(state)
        state.hand_to_disk()
        state.deliver()
        state.announce()
        out = state.out
        state.out = Effects()
        return out

    def is_quiet(self) -> bool:
        """Whether ``take`` would be empty. A hint that saves work; False is always right."""
        state = self.state
        if not state.is_settled():
            return False
        if state.role is Role.LEADER:
            return leader.is_quiet(state)
        return not (state.is_ack_due or state.reads_unsent or state.repair is not None)

    def encode(self, message: Message) -> bytes:
        """Turn one of this engine's messages into bytes for the wire."""
        return codec.encode(message)

    def decode(self, data: bytes) -> Message:
        """Turn bytes from the wire into a message.

        Raises:
            RemoteProtocolError: the bytes are no message; nothing happened.
        """
        return codec.decode(data)

    def snapshot_meta(self, index: int) -> SnapshotMeta:
        """Metadata for a snapshot of the state machine at the applied ``index``."""
        return snapshots.meta_at(self.state, index)

    def configuration(self) -> Configuration:
        """The configuration in force: the latest in the log, committed or not."""
        return self.state.configuration

    def statistics(self) -> EngineStatistics:
        """Numbers for people and programs; never needed for a decision."""
        state = self.state
        active_since = state.now_ms - state.settings.election_timeout_ms
        return EngineStatistics(
            engine="raft",
            role=_role_name(state),
            epoch=state.term,
            leader=state.leader,
            commit_index=state.commit_index,
            first_index=state.log.first_index,
            last_index=state.log.last_index,
            durable_index=state.durable_index,
            peers=tuple(
                PeerStatistics(
                    node_id=peer.node_id,
                    match_index=peer.match_index,
                    is_active=state.actives[peer.node_id] > active_since,
                    state=peer.state.value,
                )
                for peer in state.peers
            ),
            ignored=dict(state.ignored),
            role_changes=dict(state.role_changes),
            commit_heard=_commit_heard(state),
            lease_until_ms=state.lease.until_ms,
            membership=membership.statistics(state),
        )

    def describe(self) -> str:
        """A stable multi-line picture of the state, for traces and failure messages."""
        state = self.state
        index, configuration = state.configurations[-1]
        head = (
            f"n{state.node_id} {state.role.value} t{state.term} vote={_name(state.voted_for)} "
            f"leader={_name(state.leader)} commit={state.commit_index} "
            f"last={state.log.last_index} durable={state.durable_index}"
        )
        lines = [head, f"  log {state.log.describe()}"]
        if configuration != state.configurations[0][1] or configuration.is_changing:
            lines.append(f"  members at {index}: {configuration.describe()}")
        if state.is_told_removed:
            lines.append(f"  was told that it was removed at {state.removed_index}")
        if state.role is Role.LEADER:
            lines += [f"  n{peer.node_id} {peer.describe()}" for peer in state.peers]
        elif state.votes:
            votes = (
                f"n{node}:{'yes' if state.votes[node] else 'no'}" for node in sorted(state.votes)
            )
            lines.append("  votes " + " ".join(votes))
        return "\n".join(lines)


def _name(node_id: int) -> str:
    return f"n{node_id}" if node_id else "-"


def _commit_heard(state: RaftState) -> int:
    """How far the leader has committed, as its messages and its snapshot say."""
    incoming = state.incoming.meta.index if state.incoming is not None else 0
    return max(state.commit_index, state.leader_commit, incoming)


def _role_name(state: RaftState) -> str:
    if state.repair is not None:
        return "repairing"
    if state.role is Role.PRE_CANDIDATE:
        return "candidate"
    if state.role is Role.FOLLOWER:
        role = state.configuration.role(state.node_id)
        return role if role in ("learner", "witness") else "follower"
    name: str = state.role.value
    return name


# ---- events ------------------------------------------------------------------------------------


def _on_tick(state: RaftState, event: Tick) -> None:
    if event.now_ms < state.now_ms:
        state.ignore("tick that goes back in time")
        return
    gap_ms = event.now_ms - state.now_ms
    state.now_ms = event.now_ms
    state.promise.tick(event.now_ms)
    # After a pause of our own (a stopped process, a busy loop) the others' messages of that time
    # are still unread: judge nobody by this tick. The next one judges, however late it comes.
    is_stalled = gap_ms * 2 > state.settings.election_timeout_ms and not state.is_stalled
    state.is_stalled = is_stalled
    if state.role is Role.LEADER:
        leader.on_tick(state)
        return
    if state.reads_forwarded:
        reads.on_tick(state)
    if state.repair is not None:
        repair.on_tick(state)
    if event.now_ms >= state.election_deadline_ms and not is_stalled:
        election.on_election_timeout(state)


def _on_received(state: RaftState, event: Received) -> None:
    message: RaftMessage = event.message
    kind = type(message)
    if event.sender == state.node_id:
        state.ignore("message from ourselves")
        return
    if state.repair is not None and not repair.may_hear(state, kind):
        state.ignore("message while the disk may have lost our vote")
        return
    if message.term != state.term and kind not in _WITHOUT_TERM:
        if message.term < state.term:
            _on_older_term(state, event.sender, message)
            return
        state.become_follower(message.term, NO_LEADER)
    _ON_MESSAGE[kind](state, event.sender, message)


def _on_older_term(state: RaftState, sender: int, message: RaftMessage) -> None:
    """Whoever acts on an older term learns the newer one; answers are just too late (§5.1)."""
    assert message.term < state.term, "only older terms come here"
    if isinstance(message, RepairQuery):
        repair.on_query(state, sender, message)
        return
    state.ignore("older term")
    if isinstance(message, Append | Heartbeat | InstallChunk | ReadRequest):
        state.send(sender, TermNotice(state.term))


def _on_propose(state: RaftState, event: Propose) -> None:
    leader.on_propose(state, event.payload)


def _on_persisted(state: RaftState, event: Persisted) -> None:
    sequence = event.sequence
    assert sequence <= state.sequence, "confirmed a step that was never handed out"
    if sequence <= state.persisted_sequence:
        state.ignore("persistence confirmed twice")
        return
    state.persisted_sequence = sequence
    unconfirmed = state.unconfirmed
    while unconfirmed and unconfirmed[0][0] <= sequence:
        state.durable_index = max(state.durable_index, unconfirmed.popleft()[1])
    assert state.durable_index <= state.handed_index, "more durable than was handed out"
    if state.installing is not None:
        snapshots.on_durable(state)
    role = state.role
    if role is Role.LEADER:
        leader.on_durable(state)
    elif role is Role.FOLLOWER:
        follower.on_durable(state)
    elif role is Role.CANDIDATE and state.is_hard_durable:
        election.on_hard_state_durable(state)


def _on_read_barrier(state: RaftState, event: ReadBarrier) -> None:
    reads.on_read_barrier(state, event.token)


def _on_clock(state: RaftState, event: Clock) -> None:
    if state.role is Role.LEADER:
        reads.answer_by_lease(state, event.now_ms)


def _on_peer_opened(state: RaftState, event: PeerOpened) -> None:
    if state.role is Role.LEADER:
        leader.on_peer_opened(state, event.peer)
    else:
        if event.peer == state.leader:
            state.fail_forwarded_reads()  # they may be lost with the old connection: ask again
        election.on_voter_opened(state, event.peer)


def _on_peer_closed(state: RaftState, event: PeerClosed) -> None:
    if state.role is Role.LEADER:
        if event.peer == state.transfer_target:
            transfer.abort_transfer(state)
    elif event.peer == state.leader:
        election.on_leader_closed(state)


def _on_transfer(state: RaftState, event: TransferLeadership) -> None:
    transfer.on_transfer(state, event.to)


def _on_announce(state: RaftState, event: Announce) -> None:
    del event
    state.is_announce_due = state.role is Role.LEADER


def _on_change_membership(state: RaftState, event: ChangeMembership) -> None:
    membership.on_change(state, event)


def _on_disk_space(state: RaftState, event: DiskSpace) -> None:
    space.on_disk_space(state, is_full=event.is_full)


def _on_snapshot_saved(state: RaftState, event: SnapshotSaved) -> None:
    snapshots.on_saved(state, event)


def _on_snapshot_read(state: RaftState, event: SnapshotRead) -> None:
    snapshots.on_read(state, event)


def _on_term_notice(state: RaftState, sender: int, message: TermNotice) -> None:
    """Its term was all it had to say, and that is settled."""
    del sender
    assert message.term == state.term, "terms are settled before"


_WITHOUT_TERM = (VoteRequest, VoteReply, RemovalNotice)
"""Messages that speak of other terms than their sender's, or whose news is of no term."""

_ON_EVENT: dict[type[Any], Callable[[RaftState, Any], None]] = {
    Tick: _on_tick,
    Clock: _on_clock,
    Received: _on_received,
    Propose: _on_propose,
    Persisted: _on_persisted,
    ReadBarrier: _on_read_barrier,
    PeerOpened: _on_peer_opened,
    PeerClosed: _on_peer_closed,
    Announce: _on_announce,
    TransferLeadership: _on_transfer,
    ChangeMembership: _on_change_membership,
    DiskSpace: _on_disk_space,
    SnapshotSaved: _on_snapshot_saved,
    SnapshotRead: _on_snapshot_read,
}

_ON_MESSAGE: dict[type[Any], Callable[[RaftState, int, Any], None]] = {
    VoteRequest: election.on_vote_request,
    VoteReply: election.on_vote_reply,
    Append: follower.on_append,
    AppendReply: leader.on_append_reply,
    AppendRejected: leader.on_append_rejected,
    Heartbeat: follower.on_heartbeat,
    HeartbeatReply: leader.on_heartbeat_reply,
    LeasePromise: leader.on_lease_promise,
    TermNotice: _on_term_notice,
    ReadRequest: reads.on_read_request,
    ReadReply: reads.on_read_reply,
    InstallChunk: snapshots.on_chunk,
    InstallReply: leader.on_install_reply,
    TimeoutNow: election.on_timeout_now,
    RepairQuery: repair.on_query,
    RepairAnswer: repair.on_answer,
    RemovalNotice: membership.on_removal_notice,
}
