"""A node whose disk is full: what it still does, and what it leaves to the others.

The driver says that little space is left (``DiskSpace``) before there is none. From then on

    a leader     proposes nothing and hands leadership over to one voter after the other until one
                 takes it; whoever is full itself does not
    a follower   stores no batches and no snapshots, as if these messages had been lost

Everybody else's entries (a new leader's first one, configurations) are few and small, votes smaller
still: these are stored, so elections work with full disks too. Entries are never taken out of their
order, so a batch holds up what is behind it.

Invariants:
    * what was acknowledged stays acknowledged: being full takes nothing back
    * a batch is stored whole or not at all, and nothing behind it before it
    * nothing here is needed for safety: a full follower is one whose messages get lost
"""

from __future__ import annotations

from quorate.consensus.engine import NO_LEADER
from quorate.consensus.entry import Entry, EntryKind
from quorate.consensus.progress import Progress
from quorate.consensus.raft.state import RaftState

REJECT_TIMEOUTS = 4
"""A full follower asks for what it lacks once in so many election timeouts, or it would be sent the
same entries again and again."""

NEXT_TIMEOUTS = 2
"""So long a full leader waits before it asks the next voter to take over."""


def on_disk_space(state: RaftState, *, is_full: bool) -> None:
    """The driver looked at the disk."""
    state.is_disk_full = is_full
    state.hand_over.declined.clear()


def what_fits(state: RaftState, entries: list[Entry]) -> int:
    """How many of these entries a full node may store: those up to the first new batch."""
    assert state.is_disk_full, "all entries fit elsewhere"
    log = state.log
    for position, entry in enumerate(entries):
        is_new = log.epoch_at(entry.index) != entry.epoch
        if is_new and entry.kind == EntryKind.BATCH:
            state.ignore("entries for which the disk has no space")
            return position
    return len(entries)


def may_ask_for_more(state: RaftState) -> bool:
    """Whether to tell the leader that entries are missing here."""
    if not state.is_disk_full:
        return True
    if state.now_ms < state.reject_not_before_ms:
        state.ignore("entries for which the disk has no space")
        return False
    state.reject_not_before_ms = state.now_ms + REJECT_TIMEOUTS * state.settings.election_timeout_ms
    return True


def successor(state: RaftState, able: list[Progress]) -> int:
    """Who is asked next to lead instead of this full leader; 0: nobody now."""
    declined = state.hand_over.declined
    active_since = state.now_ms - state.settings.election_timeout_ms
    left = [
        (peer.match_index, state.configuration.priority(peer.node_id), -peer.node_id)
        for peer in able
        if peer.node_id not in declined and state.actives[peer.node_id] > active_since
    ]
    if left:
        return -max(left)[2]
    declined.clear()  # all are full or gone: begin anew, but not at once
    return NO_LEADER
