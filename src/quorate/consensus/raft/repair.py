"""Coming back with a damaged disk: a node that lost entries, or its vote, and knows that it did.

The disk says what it can no longer vouch for (``Damage``). From then on, through every restart, the
node holds back exactly what its losses could spoil, until a leader has given it everything back:

    MUTE       term and vote may be lost     asks every other voter for its term; says nothing else
    REPAIRING  entries may be lost           follows and acknowledges; neither votes nor campaigns
    healthy    the leader's log is here, up to where it ended at some moment after this start

Why nothing committed is ever lost (after protocol-aware recovery, Alagappan et al., FAST '18):

    *No vote, no harm.* What a lost entry was needed for is the vote: whoever is elected must have
    met, among its voters, one that holds each committed entry (Raft §5.4.1). A damaged node votes
    for nobody, so each majority of voters consists of nodes that still hold what they acknowledged,
    and meets each committing majority in one of them, however many others are damaged.

    *New acknowledgements are true.* They are the smaller of what the leader verified and what this
    disk has confirmed, as on any node, and what they cover is held from then on. The term is exact,
    so none is given to a leader older than a vote of ours.

    *When it is over.* Every entry that this node ever acknowledged was acknowledged in a term no
    higher than its own now. If it was committed, or still will be because an old acknowledgement is
    on its way, then the leader of this term has it: from its election, or because it sent it. So
    it suffices to hold the leader's log up to where it ended at one moment after this start. The
    leader is asked; the question carries a number of this life, so that no old answer matches. Its
    commit index would not do: an old acknowledgement may yet raise it.

    *A lost vote* may be of a term T that is higher than the one on disk, and its candidate may win
    with it. Following a leader older than T would then be a lie to that candidate. Candidates know
    their own term durably before they ask for votes. So when every other voter has told its term
    after this start, T is not above the highest of these, which is ours by then. Nodes that are
    mute themselves do not answer. At the end the vote of this term, which we may have forgotten, is
    given to the term's leader: nobody else can be elected in it.

What it costs: while a node is repaired it does not count for elections (it does for commits). A
mute node stays mute while any other voter is down; two mute nodes wait for a person. With a
majority damaged at once nobody is elected, nothing is forgotten, and people decide
(``quorate cluster recover``).

The leader has one duty: it believed that this node has what it once acknowledged, and must forget
that, or it would never send it again.

This module does not know files, and not how the damage came about.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from quorate.consensus.engine import NO_LEADER
from quorate.consensus.entry import Damage
from quorate.consensus.raft.messages import RepairAnswer, RepairQuery, VoteRequest
from quorate.consensus.raft.state import RaftState, Role
from quorate.errors import CorruptData


@dataclass(slots=True)
class Repair:
    """What a damaged disk took, and how far its return is."""

    number: int  # of this life: answers to an earlier one mean nothing
    is_term_known: bool
    heard: set[int] = field(default_factory=set)  # voters that told their term in this life
    ask_at_ms: int = 0
    goal_term: int = 0  # of the leader whose log we must have
    goal_leader: int = 0
    goal_index: int = 0  # up to here


def begin(state: RaftState, damage: Damage) -> None:
    """Start as a node whose disk lost something.

    Raises:
        CorruptData: nobody else has what was lost.
    """
    if state.configuration.is_voter(state.node_id) and not _others(state):
        raise CorruptData(
            "log",
            0,
            f"{damage.words}. This is the only voter, so nobody else has what was lost: restore "
            "a backup (quorate snapshot restore), or accept the loss (quorate cluster recover)",
        )
    state.repair = Repair(state.draw(1 << 62), damage.is_hard_state_known)


def may_hear(state: RaftState, kind: type[Any]) -> bool:
    """Whether a message of this kind is looked at: a mute node hears next to nothing."""
    repair = state.repair
    assert repair is not None, "only a damaged node is asked"
    return repair.is_term_known or kind is RepairAnswer or kind is VoteRequest


# ---- the damaged node ----------------------------------------------------------------------------


def on_tick(state: RaftState) -> None:
    """Ask (again), once per heartbeat interval."""
    repair = state.repair
    assert repair is not None, "only a damaged node asks"
    if state.now_ms < repair.ask_at_ms:
        return
    repair.ask_at_ms = state.now_ms + state.settings.heartbeat_ms
    _ask(state)


def _ask(state: RaftState) -> None:
    repair = state.repair
    assert repair is not None, "only a damaged node asks"
    query = RepairQuery(state.term, repair.number, state.durable_index)
    if not repair.is_term_known:
        for voter in sorted(_others(state) - repair.heard):
            state.send(voter, query)
    elif state.leader != NO_LEADER:
        state.send(state.leader, query)


def _others(state: RaftState) -> set[int]:
    """Everybody else who votes in a configuration that may be in force."""
    voters: set[int] = set()
    for _, configuration in state.configurations:
        voters.update(configuration.voters, configuration.outgoing)
    return voters - {state.node_id}


def on_answer(state: RaftState, sender: int, message: RepairAnswer) -> None:
    """Another node tells its term; a leader also where its log ends."""
    assert message.term == state.term, "terms are settled before"
    repair = state.repair
    if repair is None or message.number != repair.number:
        state.ignore("answer to a question about damage that is not ours any more")
        return
    repair.heard.add(sender)
    if not repair.is_term_known:
        if not _others(state) <= repair.heard:
            return
        repair.is_term_known = True
        repair.ask_at_ms = state.now_ms
    if message.end_index and repair.goal_term != state.term:
        repair.goal_term = state.term
        repair.goal_leader = sender
        repair.goal_index = message.end_index


def advance(state: RaftState) -> None:
    """Once per turn: is everything back?"""
    repair = state.repair
    assert repair is not None, "only a damaged node is repaired"
    if not repair.is_term_known or repair.goal_term != state.term or state.installing is not None:
        return
    if min(state.verified_index, state.durable_index) < repair.goal_index:
        return
    assert state.role is Role.FOLLOWER, "a damaged node never campaigns"
    if state.voted_for == 0:
        state.set_vote(state.term, repair.goal_leader)
    state.repair = None
    state.is_repair_done = True
    state.reset_election_timer()


# ---- everybody else ------------------------------------------------------------------------------


def on_query(state: RaftState, sender: int, message: RepairQuery) -> None:
    """A damaged node asks for our term. If we lead: forget what it once acknowledged."""
    end_index = 0
    if state.role is Role.LEADER:
        end_index = state.log.last_index
        peer = state.progress.get(sender)
        if peer is not None and message.last_index < peer.match_index:
            peer.lost(message.last_index)
            state.matches[sender] = 0
    state.send(sender, RepairAnswer(state.term, message.number, end_index))
