"""Linearizable reads by ReadIndex (dissertation §6.4).

A leader answers a read at the commit index it had when the read came, once it knows that it was
still the leader *after* that: a majority must echo a heartbeat round that was sent later than the
request. One round serves every read that waits when it starts. A leader whose term has no
committed entry yet does not know the commit index, so reads wait for that first.

With ``lease_reads`` a leader that holds a lease (``leases.py``) needs no round: it answers when a
clock that was read after the request came in says that the lease still runs.

Followers ask their leader for a read point; all reads of one turn share one request.

Numbers are what a stale answer could hide behind, so none is ever used twice: rounds count up
for the life of the process and are only valid within one term (a process leads a term at most
once); a follower's request numbers start at a random point in each life of the process.

Invariants:
    * a read released at ``index`` was requested before a round that a quorum echoed, or before a
      look at the clock that found the lease running
    * no read waits across a change of leadership: it fails, and the driver asks again
    * the number of waiting reads is bounded
"""

from __future__ import annotations

from collections.abc import Hashable

from quorate.consensus.engine import NO_LEADER
from quorate.consensus.raft.messages import ReadReply, ReadRequest
from quorate.consensus.raft.state import RaftState, Role

READS_WAITING_MAX = 100_000
"""Beyond this, reads fail at once: whoever asks must slow down."""


def on_read_barrier(state: RaftState, token: Hashable) -> None:
    """Our driver wants a read point."""
    if state.role is Role.LEADER:
        _wait_for_round(state, (0, token))
    elif state.leader == NO_LEADER:
        state.out.barriers_failed.append(token)
    elif len(state.reads_unsent) >= READS_WAITING_MAX:
        state.ignore("too many reads are waiting")
        state.out.barriers_failed.append(token)
    else:
        state.reads_unsent.append(token)


def _wait_for_round(state: RaftState, reader: tuple[int, Hashable]) -> None:
    assert state.role is Role.LEADER, "only a leader confirms reads"
    waiting = len(state.reads_waiting) + sum(len(batch[2]) for batch in state.read_rounds)
    if waiting >= READS_WAITING_MAX:
        state.ignore("too many reads are waiting")
        state.fail_read(reader)
        return
    state.reads_waiting.append(reader)


# ---- the leader's part -------------------------------------------------------------------------


def on_read_request(state: RaftState, sender: int, message: ReadRequest) -> None:
    """A follower wants a read point for its clients."""
    if state.role is not Role.LEADER:
        state.ignore("read request to a node that does not lead")
        state.send(sender, ReadReply(state.term, message.number, 0))
        return
    _wait_for_round(state, (sender, message.number))


def begin_round(state: RaftState) -> None:
    """Once per turn: start a heartbeat round, if reads wait for one or a heartbeat is due."""
    has_reads = bool(state.reads_waiting) and state.is_term_committed
    if not has_reads and not state.is_heartbeat_due:
        return
    state.round += 1
    state.is_heartbeat_due = True
    state.rounds[state.node_id] = state.promised[state.node_id] = state.round
    state.lease.sent(state.round, state.now_ms)
    if has_reads:
        state.read_rounds.append((state.round, state.commit_index, state.reads_waiting))
        state.reads_waiting = []
        release_confirmed(state)  # a cluster of one confirms itself
    renew_lease(state)


def confirmed_round(state: RaftState) -> int:
    """The latest round that a quorum has echoed."""
    return state.quorum.committed(state.rounds)


def release_confirmed(state: RaftState) -> None:
    """Answer the reads whose round a quorum has echoed."""
    if not state.read_rounds:
        return
    confirmed = confirmed_round(state)
    while state.read_rounds and state.read_rounds[0][0] <= confirmed:
        _, index, readers = state.read_rounds.popleft()
        _answer(state, index, readers)


def _answer(state: RaftState, index: int, readers: list[tuple[int, Hashable]]) -> None:
    assert state.term_start_index <= index <= state.commit_index, "a read point is committed"
    for peer, token in readers:
        if peer:
            assert isinstance(token, int), "a follower's reads are numbered"
            state.send(peer, ReadReply(state.term, token, index))
        else:
            state.out.barriers.append((token, index))


# ---- leases ------------------------------------------------------------------------------------


def renew_lease(state: RaftState) -> None:
    """A voter promised: the lease counts from the latest round that a quorum echoed so."""
    state.lease.confirmed(state.quorum.committed(state.promised))


def answer_by_lease(state: RaftState, clock_ms: int) -> None:
    """Answer all reads that have come in, if the lease runs at ``clock_ms``, read after them."""
    if not state.reads_waiting or not state.is_term_committed:
        return
    if state.lease.is_held(max(clock_ms, state.now_ms)):
        readers, state.reads_waiting = state.reads_waiting, []
        _answer(state, state.commit_index, readers)


# ---- the follower's part -----------------------------------------------------------------------


def forward(state: RaftState) -> None:
    """Once per turn: ask the leader on behalf of all reads that came in."""
    if not state.reads_unsent:
        return
    assert state.leader not in (NO_LEADER, state.node_id), "there is a leader to ask"
    state.read_number += 1
    deadline = state.now_ms + state.settings.election_timeout_ms
    state.reads_forwarded[state.read_number] = (deadline, state.reads_unsent)
    state.reads_unsent = []
    state.send(state.leader, ReadRequest(state.term, state.read_number))


def on_read_reply(state: RaftState, sender: int, message: ReadReply) -> None:
    """The leader gave a read point, or could not."""
    del sender  # the number is proof enough: only the leader we asked knows it
    waiting = state.reads_forwarded.pop(message.number, None)
    if waiting is None:
        state.ignore("answer to a read that no longer waits")
        return
    _, tokens = waiting
    if message.index == 0:
        state.out.barriers_failed.extend(tokens)
    else:
        state.out.barriers.extend([(token, message.index) for token in tokens])


def on_tick(state: RaftState) -> None:
    """Fail forwarded reads that were not answered: request or answer may be lost."""
    forwarded = state.reads_forwarded
    while forwarded:
        number = next(iter(forwarded))  # oldest first: numbers are inserted in order
        deadline, tokens = forwarded[number]
        if state.now_ms < deadline:
            return
        del forwarded[number]
        state.out.barriers_failed.extend(tokens)
