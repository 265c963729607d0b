"""Handing leadership over: on request, to a preferred member, and by a leader that must go.

A hand-over (dissertation §3.10) stops proposals, brings the target up to date and tells it to
campaign at once; voters grant it although they heard a leader a moment ago. So leadership moves
within a round trip and a disk write, without an election timeout. It is given up after one, or
when the target's connection closes.

A leader begins one by itself when

    * a voter of higher priority has been active and caught up for an election timeout
    * its own disk has stood still for an election timeout while the others' went on
    * its own disk is full (``space.py``)
    * it was removed and its removal is committed (§4.2.2): then it stops leading in any case

Invariants:
    * nothing is proposed during a hand-over
    * only a voter that keeps data and stays a voter is handed leadership
    * a hand-over that failed is not tried again by the leader itself for several timeouts
"""

from __future__ import annotations

from quorate.consensus.engine import NO_LEADER
from quorate.consensus.progress import PROBE, REPLICATE, Progress
from quorate.consensus.raft import space
from quorate.consensus.raft.messages import TimeoutNow
from quorate.consensus.raft.state import RaftState, Role

RETRY_TIMEOUTS = 10
"""So many election timeouts after a failed hand-over the leader may try one by itself again."""


def on_transfer(state: RaftState, to: int) -> None:
    """Begin to hand leadership over: no more proposals until it is done or given up."""
    if state.role is not Role.LEADER or state.transfer_target:
        state.ignore("transfer while not leading or already handing over")
        return
    target = to or best_successor(state)
    if target not in state.progress or not _may_take_over(state, target):
        state.ignore("transfer to a node that cannot lead")
        return
    _begin(state, target)


def _begin(state: RaftState, target: int) -> None:
    state.transfer_target = target
    state.is_transfer_sent = False
    state.transfer_deadline_ms = state.now_ms + state.settings.election_timeout_ms
    peer = state.progress[target]
    if peer.state is PROBE:
        peer.is_paused = False
    hand_over_if_ready(state)


def _may_take_over(state: RaftState, node: int) -> bool:
    """Whether this member can lead now and after a change that is under way."""
    configuration = state.configuration
    return node in configuration.voters and configuration.may_lead(node)


def best_successor(state: RaftState) -> int:
    """The most up-to-date voter that answers; 0 if there is none."""
    active_since = state.now_ms - state.settings.election_timeout_ms

    def rank(peer: Progress) -> tuple[bool, int, int, int]:
        node = peer.node_id
        is_active = state.actives[node] > active_since
        return is_active, peer.match_index, state.configuration.priority(node), -node

    peers = [peer for peer in state.peers if _may_take_over(state, peer.node_id)]
    best = max(peers, key=rank, default=None)
    return best.node_id if best is not None else NO_LEADER


def hand_over_if_ready(state: RaftState) -> None:
    """Tell the target to campaign once it has our whole log."""
    target = state.transfer_target
    assert target, "no transfer is under way"
    if state.is_transfer_sent or state.progress[target].match_index != state.log.last_index:
        return
    state.is_transfer_sent = True
    state.lease.bar()  # whoever is told to campaign is promised nothing, however late it hears
    state.send(target, TimeoutNow(state.term))
    if state.hand_over.is_resigning:
        _stop_leading(state)


def abort_transfer(state: RaftState) -> None:
    """The target did not take over in time: lead on, and take proposals again."""
    assert state.transfer_target, "no transfer is under way"
    hand_over, timeouts = state.hand_over, RETRY_TIMEOUTS
    if state.is_disk_full:
        hand_over.declined.add(state.transfer_target)
        timeouts = space.NEXT_TIMEOUTS
    state.transfer_target = 0
    hand_over.preferred = (0, 0)
    hand_over.not_before_ms = state.now_ms + timeouts * state.settings.election_timeout_ms
    state.ignore("transfer given up")
    if state.hand_over.is_resigning:
        _stop_leading(state)


# ---- a leader that was removed -----------------------------------------------------------------


def begin_resigning(state: RaftState) -> None:
    """Our removal is committed: lead until somebody has our log, an election timeout at most."""
    hand_over = state.hand_over
    if hand_over.is_resigning:
        return
    hand_over.is_resigning = True
    if state.transfer_target:
        hand_over_if_ready(state)
        return
    target = best_successor(state)
    if target == NO_LEADER:
        _stop_leading(state)
    else:
        _begin(state, target)


def _stop_leading(state: RaftState) -> None:
    """Tell everybody what is committed, and be a follower from the end of this turn on."""
    state.hand_over.is_resigned = True
    state.is_heartbeat_due = True


def resign(state: RaftState) -> None:
    """The last messages of this leadership are written."""
    assert state.hand_over.is_resigned, "nobody resigned"
    state.ignore("stepped down: removed from the cluster")
    state.become_follower(state.term, NO_LEADER, "removed from the cluster")


# ---- by ourselves ------------------------------------------------------------------------------


def on_tick(state: RaftState) -> None:
    """Look whether somebody else should lead."""
    assert state.role is Role.LEADER, "only a leader hands over"
    if state.transfer_target:
        if state.now_ms >= state.transfer_deadline_ms:
            abort_transfer(state)
        return
    if state.is_disk_full:
        _leave_it_to_others(state)
    elif is_disk_stalled(state):
        state.ignore("handed over: our disk stands still")
        on_transfer(state, NO_LEADER)
    elif state.configuration.priorities:
        _prefer(state)


def _leave_it_to_others(state: RaftState) -> None:
    """Our disk is full: ask one voter after the other, until one has space."""
    if state.now_ms < state.hand_over.not_before_ms:
        return
    able = [peer for peer in state.peers if _may_take_over(state, peer.node_id)]
    target = space.successor(state, able)
    if target == NO_LEADER:
        timeout_ms = state.settings.election_timeout_ms
        state.hand_over.not_before_ms = state.now_ms + RETRY_TIMEOUTS * timeout_ms
        return
    state.ignore("handed over: our disk is full")
    on_transfer(state, target)


def is_disk_stalled(state: RaftState) -> bool:
    """Whether our disk stood still for an election timeout while a quorum of others went on."""
    durable = state.durable_index
    mark, since_ms = state.hand_over.durable_mark
    if durable != mark or durable >= state.commit_index:
        state.hand_over.durable_mark = (durable, state.now_ms)
        return False
    if state.now_ms - since_ms < state.settings.election_timeout_ms:
        return False
    return state.now_ms >= state.hand_over.not_before_ms


def _prefer(state: RaftState) -> None:
    """Hand over to the voter of the highest priority, if it has been able to lead for a while."""
    node = _preferred(state)
    known, since_ms = state.hand_over.preferred
    if node != known:
        state.hand_over.preferred = (node, state.now_ms)
        return
    able_ms = state.now_ms - since_ms
    is_time = able_ms >= state.settings.election_timeout_ms
    if node and is_time and state.now_ms >= state.hand_over.not_before_ms:
        on_transfer(state, node)


def _preferred(state: RaftState) -> int:
    """The voter that should lead rather than we and could; 0 if there is none."""
    if not state.is_established or state.configuration.is_changing:
        return NO_LEADER
    rank = state.configuration.priority
    own = rank(state.node_id)
    able = [
        peer.node_id
        for peer in state.peers
        if rank(peer.node_id) > own
        and _may_take_over(state, peer.node_id)
        and peer.state is REPLICATE
        and _keeps_up(state, peer)
    ]
    return max(able, key=lambda node: (rank(node), -node), default=NO_LEADER)


def _keeps_up(state: RaftState, peer: Progress) -> bool:
    """Whether a member answers, and has stored all that is committed but for the newest."""
    active_since = state.now_ms - 2 * state.settings.heartbeat_ms
    window = state.settings.inflight_messages_max
    return (
        state.actives[peer.node_id] >= active_since
        and peer.match_index + window >= state.commit_index
    )
