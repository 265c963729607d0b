"""Changing who belongs, by joint consensus (Raft §6, dissertation ch. 4).

Which configuration follows which is in ``consensus/change.py``; here is when::

    asked --(leading, own term committed, nothing under way)--> first configuration in the log
    planned, committed --(new voters caught up)--> joint        --(given up)--> as before
    joint, committed --> settled, committed --> done

The configuration in force is the latest in the log (``state.py``), so every step takes effect when
it is appended, and the next one waits for its commit. A leader that finds an unfinished change in
its log goes on with it as soon as an entry of its own term is committed.

Catching up goes in rounds (§4.2.1): a round ends when the member has what was in our log at its
beginning; the member is ready after a round shorter than an election timeout, and too slow after
ROUNDS_MAX rounds. A member that gets no further at all for ``catch_up_patience_ms`` ends the plan.

Who was removed still gets the log until it knows that its removal is committed, for two election
timeouts at most. If it missed that, it campaigns; whoever is asked says that it was removed, and
it stops.

Invariants:
    * one change at a time, and none before an entry of this term is committed (raft-dev, 2015)
    * members that left count nowhere, from the moment their removal is in the log
    * progress exists exactly for the members other than us, and for those who are leaving
"""

from __future__ import annotations

from collections.abc import Hashable

from quorate.consensus import change as steps
from quorate.consensus.engine import (
    CatchUp,
    ChangeMembership,
    ChangeOutcome,
    MembershipAnswer,
    MembershipStatistics,
)
from quorate.consensus.entry import Entry, EntryKind
from quorate.consensus.membership import Configuration
from quorate.consensus.progress import Progress
from quorate.consensus.raft import reads, transfer
from quorate.consensus.raft.messages import RemovalNotice
from quorate.consensus.raft.state import RaftState, Role
from quorate.consensus.raft.under_way import Round

ROUNDS_MAX = 10
LEAVING_TIMEOUTS = 2

# ---- asked -------------------------------------------------------------------------------------


def on_change(state: RaftState, event: ChangeMembership) -> None:
    """Somebody wants other members: begin, or say why not."""
    token, change = event.token, event.change
    if _gives_up_plan(state, change):
        gone = ", ".join(map(str, change.remove))
        give_up(state, f"node {gone} was removed before it had caught up")
        _accept(state, token)
        return
    reason = why_not_now(state)
    if reason:
        _refuse(state, token, reason)
        return
    current = state.configuration
    try:
        target = steps.requested(current, change)
    except steps.ChangeRefused as error:
        _refuse(state, token, str(error))
        return
    state.change.last_failure = ""
    append(state, steps.first_step(current, target))
    _accept(state, token)


def why_not_now(state: RaftState) -> str:
    """Why no change can begin here and now; empty if one can."""
    if state.role is not Role.LEADER:
        return (
            f"this node does not lead: ask node {state.leader}"
            if state.leader
            else ("this node does not lead, and knows no leader; try again")
        )
    if not state.is_term_committed:
        return "this node has just become leader and has committed nothing yet; try again"
    if state.transfer_target:
        return "leadership is being handed over; ask the next leader"
    if state.configuration.is_changing or not is_committed(state):
        return f"another change is under way: {describe(state) or 'its last step'}"
    return ""


def _gives_up_plan(state: RaftState, change: steps.Change) -> bool:
    """Whether this takes back what a planned change would add."""
    configuration = state.configuration
    if state.role is not Role.LEADER or not state.is_established or not configuration.is_planned:
        return False
    if not is_committed(state):
        return False  # it is the step under way, and steps come one at a time
    kept = {*configuration.voters, *configuration.learners}
    added = set(configuration.members) - kept
    only_removes = change == steps.Change(remove=change.remove)
    return only_removes and bool(change.remove) and set(change.remove) <= added


def _accept(state: RaftState, token: Hashable) -> None:
    index = state.configurations[-1][0]
    state.change.tokens.append((token, ChangeOutcome.DONE, ""))
    state.out.membership += (MembershipAnswer(token, ChangeOutcome.ACCEPTED, index),)


def _refuse(state: RaftState, token: Hashable, reason: str) -> None:
    state.ignore("change of membership refused")
    answer = MembershipAnswer(token, ChangeOutcome.REFUSED, reason=reason)
    state.out.membership += (answer,)


# ---- step by step ------------------------------------------------------------------------------


def append(state: RaftState, configuration: Configuration) -> None:
    """Put the next configuration into the log: from here on it is in force."""
    assert state.role is Role.LEADER, "only a leader appends"
    index = state.log.last_index + 1
    state.append_entry(Entry(index, state.term, EntryKind.CONFIGURATION, configuration.encode()))
    state.change.is_open = True
    state.change.catching_up.clear()
    follow_members(state)


def is_committed(state: RaftState) -> bool:
    """Whether the configuration in force is committed."""
    return state.configurations[-1][0] <= state.commit_index


def take_over(state: RaftState) -> None:
    """A new leader: everybody of the configuration in force gets the log, and who just left too."""
    state.change.is_open = state.configuration.is_changing or not is_committed(state)
    follow_members(state)
    _tell_those_before(state)


def _tell_those_before(state: RaftState) -> None:
    """Members of configurations that may still be in force elsewhere hear of their removal."""
    if is_committed(state):
        return
    following = state.log.last_index + 1
    members = set(state.configuration.members)
    for _, configuration in state.configurations:
        for node in configuration.members:
            if node not in members and node != state.node_id and node not in state.progress:
                _welcome(state, node, following)
                state.progress[node].is_witness = node in configuration.witnesses
                state.change.leaving[node] = 0


def on_commit(state: RaftState) -> None:
    """Something was committed while a change is open: perhaps the step that we wait for."""
    assert state.is_term_committed, "nothing is decided before an entry of our own term"
    if not is_committed(state):
        return
    if state.transfer_target and state.is_transfer_sent:
        return  # a longer log here would be a reason not to vote for our successor
    configuration = state.configuration
    if configuration.is_joint:
        append(state, steps.settled(configuration))
    elif configuration.is_planned:
        _begin_catching_up(state)
    else:
        _finish(state)


def _finish(state: RaftState) -> None:
    index, configuration = state.configurations[-1]
    state.change.is_open = False
    state.out.membership += state.change.answers(index)
    until_ms = state.now_ms + LEAVING_TIMEOUTS * state.settings.election_timeout_ms
    for node in state.change.leaving:
        state.change.leaving[node] = until_ms
    if state.change.leaving:
        state.is_announce_due = True  # those who leave are told now, not with the next message
    if not configuration.is_voter(state.node_id):
        transfer.begin_resigning(state)


# ---- members come and go -----------------------------------------------------------------------


def follow_members(state: RaftState) -> None:
    """Keep progress for everybody who must get the log, and for those who are leaving."""
    members = set(state.configuration.members)
    leaving = state.change.leaving
    following = state.log.last_index + 1
    for node in sorted(members - {state.node_id}):
        leaving.pop(node, None)
        if node not in state.progress:
            _welcome(state, node, following)
    for node in state.progress:
        if node not in members:
            leaving.setdefault(node, 0)
    for peer in state.peers:
        if peer.node_id in members:  # those who leave stay what they were
            peer.is_witness = peer.node_id in state.configuration.witnesses
    target = state.transfer_target
    if target and target not in state.configuration.voters and not state.is_transfer_sent:
        transfer.abort_transfer(state)
    reads.release_confirmed(state)  # fewer voters may be needed now


def _welcome(state: RaftState, node: int, following: int) -> None:
    state.progress[node] = Progress(node, following)
    state.matches[node] = 0
    state.rounds[node] = 0
    state.actives[node] = state.now_ms
    state.peers.append(state.progress[node])
    state.peers.sort(key=lambda peer: peer.node_id)


def _let_go(state: RaftState) -> None:
    """Forget those who know that they were removed, and those who had their time to learn it."""
    index = state.configurations[-1][0]
    for node, until_ms in list(state.change.leaving.items()):
        peer = state.progress[node]
        knows = min(peer.match_index, peer.sent_commit) >= index
        if until_ms and (knows or state.now_ms >= until_ms):
            del state.change.leaving[node]
            del state.progress[node], state.matches[node], state.rounds[node]
            del state.actives[node]
            state.peers.remove(peer)


# ---- catching up -------------------------------------------------------------------------------


def _begin_catching_up(state: RaftState) -> None:
    """The plan is committed: no leader forgets it any more, and its new voters know of it."""
    catching_up = state.change.catching_up
    if catching_up:
        return
    now, last = state.now_ms, state.log.last_index
    for node in steps.new_voters(state.configuration):
        catching_up[node] = Round(1, last, now, marked_ms=now)


def on_tick(state: RaftState) -> None:
    """Follow those who catch up, and forget those who have left."""
    if state.change.leaving:
        _let_go(state)
    if state.change.is_open and state.is_term_committed:
        on_commit(state)  # a step that waited for the end of a hand-over
    catching_up = state.change.catching_up
    if not catching_up or state.is_stalled:
        return
    for node, turn in catching_up.items():
        failure = _judge(state, state.progress[node], turn)
        if failure:
            give_up(state, failure)
            return
    if all(turn.is_ready for turn in catching_up.values()):
        plan = state.configuration
        append(state, steps.joint(plan_base(plan), steps.target_of(plan)))


def plan_base(plan: Configuration) -> Configuration:
    """The configuration that decides while a change is planned."""
    return steps.given_up(plan)


def _judge(state: RaftState, peer: Progress, turn: Round) -> str:
    """See how far a member has come; says why it is given up, if it is."""
    now, timeout_ms = state.now_ms, state.settings.election_timeout_ms
    node = peer.node_id
    mark = (peer.match_index, peer.snapshot_offset)
    if mark != turn.mark or peer.match_index >= state.log.last_index:
        turn.mark, turn.marked_ms = mark, now
    patience_ms = state.settings.catch_up_patience_ms
    if now - turn.marked_ms >= patience_ms:
        is_silent = now - state.actives[node] >= patience_ms
        what = "cannot be reached" if is_silent else "stores nothing of what it is sent"
        return f"node {node} {what} (for {patience_ms} ms)"
    if turn.is_ready or peer.match_index < turn.target_index:
        return ""
    if now - turn.started_ms < timeout_ms:
        turn.is_ready = True
        return ""
    if turn.number >= ROUNDS_MAX:
        return (
            f"node {node} is too slow: after {ROUNDS_MAX} rounds it still needed "
            f"{now - turn.started_ms} ms for what was written meanwhile, more than the election "
            f"timeout of {timeout_ms} ms"
        )
    turn.number += 1
    turn.target_index, turn.started_ms = state.log.last_index, now
    return ""


def give_up(state: RaftState, reason: str) -> None:
    """Take a plan back: its new members are members no more."""
    change = state.change
    change.last_failure = reason
    change.tokens = [(token, ChangeOutcome.GIVEN_UP, reason) for token, _, _ in change.tokens]
    append(state, steps.given_up(state.configuration))


# ---- who was removed ---------------------------------------------------------------------------


def may_vote(state: RaftState) -> bool:
    """Whether this node belongs to a configuration that it knows of.

    Whoever asks is answered (§4.1), but a node that starts empty, new or with a lost disk, has no
    vote to give before it is told that it is a member.
    """
    node = state.node_id
    if node in state.configuration.members:
        return True
    return any(node in configuration.members for _, configuration in state.configurations)


def tell_removed(state: RaftState, sender: int) -> None:
    """A node that is no member any more asks for votes: tell it, so that it stops."""
    if sender in state.configuration.members:
        return
    index, configuration = state.configurations.at(state.commit_index)
    if index and sender not in configuration.members:
        state.send(sender, RemovalNotice(state.term, index))


def on_removal_notice(state: RaftState, sender: int, message: RemovalNotice) -> None:
    """Another node knows of a committed configuration without us.

    If ours is older we need not campaign: whoever can win has that configuration, or a later one.
    """
    del sender
    if message.index <= state.configurations[-1][0] or state.role is Role.LEADER:
        state.ignore("notice of a removal that we know better")
        return
    state.removed_index = max(state.removed_index, message.index)
    if state.role is not Role.FOLLOWER:
        state.become_follower(state.term, state.leader)


# ---- looking -----------------------------------------------------------------------------------


def standing(state: RaftState) -> str:
    """What this node is: its role, or "joining", "removed", "outside" (it cannot tell)."""
    node = state.node_id
    if state.is_told_removed:
        return "removed"
    if node in state.configuration.members:
        return state.configuration.role(node)
    if not state.configuration.members or state.commit_index == 0:
        return "joining"
    if any(node in configuration.members for _, configuration in state.configurations):
        return "removed"
    return "joining" if state.leader else "outside"


def describe(state: RaftState) -> str:
    """The change under way in words; empty if there is none."""
    configuration = state.configuration
    if configuration.is_joint:
        return (
            f"voters {_ids(configuration.outgoing)} -> {_ids(configuration.voters)}: "
            "a majority of both decides until all know"
        )
    if not configuration.is_planned:
        return "" if is_committed(state) else "its last step is not committed yet"
    waiting = steps.new_voters(configuration)
    words = f"voters {_ids(configuration.voters)} -> {_ids(configuration.next_voters)}"
    return f"{words}: {_ids(waiting)} catching up"


def _ids(nodes: tuple[int, ...]) -> str:
    return ",".join(map(str, nodes))


def statistics(state: RaftState) -> MembershipStatistics:
    """Numbers and words for people."""
    return MembershipStatistics(
        index=state.configurations[-1][0],
        is_committed=is_committed(state),
        standing=standing(state),
        under_way=describe(state),
        catching_up=tuple(
            CatchUp(node, turn.number, turn.target_index, turn.started_ms)
            for node, turn in sorted(state.change.catching_up.items())
        ),
        last_failure=state.change.last_failure,
    )
