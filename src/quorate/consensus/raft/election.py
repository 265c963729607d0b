"""Elections: pre-vote, vote, stickiness, and the short cut when a leader's process is gone.

    FOLLOWER --timeout, closed connection--> PRE_CANDIDATE --quorum would vote--> CANDIDATE
    CANDIDATE --quorum voted--> LEADER          any --newer term, live leader--> FOLLOWER

A pre-vote (dissertation §9.6) asks whether an election could be won, and changes nothing anywhere.
A voter that heard its leader within the minimum election timeout refuses (stickiness, §4.2.3):
together they keep a returning or a half-connected node from deposing a leader that works.

``PeerClosed`` is a hint that makes losing a leader *process* cost milliseconds: the followers start
a pre-vote after a few random milliseconds instead of an election timeout, and stop refusing on
behalf of that leader. A wrong hint costs one pre-vote round and never safety. Two nodes that start
at once would split the vote, so one of them yields, and a lost round is retried after short,
random, growing times. So it is after a timeout, but for fewer rounds: waiting a whole timeout
again, as the paper does, is what makes split votes expensive (Fig. 16).

Where leases are on (``leases.py``), a voter that promised votes for nobody until that is over,
itself included and whatever the hint says; only the leader's own order to campaign overrides it.

Invariants:
    * one vote per term, durable before anybody learns of it, our own included
    * votes are kept per voter and per term: a doubled answer counts once
    * refusing a vote changes nothing, granting a pre-vote changes neither term nor vote
"""

from __future__ import annotations

from quorate.consensus.engine import NO_LEADER
from quorate.consensus.quorum import VoteResult
from quorate.consensus.raft import leader, membership
from quorate.consensus.raft.messages import TimeoutNow, VoteReply, VoteRequest
from quorate.consensus.raft.state import RaftState, Role

HINT_STAGGER_MS = 25
"""After a hint, a pre-vote starts within this time: long against a message, short for a user."""

HURRY_ROUNDS = 6
"""How many rounds after a hint are retried early; then the normal timeouts take over. Rounds after
a timeout have a number of their own (``EngineSettings.election_retries``)."""


# ---- starting ----------------------------------------------------------------------------------


def may_campaign(state: RaftState) -> bool:
    """Whether this node may ask for votes.

    A voter of the committed configuration may, even when the one in force has no place for it
    (dissertation §4.2.2): otherwise a removal that never commits could leave nobody to lead.
    Witnesses have nothing to lead with, and who was told that it was removed is not needed.
    """
    if state.installing is not None or state.is_told_removed or state.repair is not None:
        return False  # the log is about to be replaced, is outdated, or lost part of itself
    if state.configuration.may_lead(state.node_id):
        return True
    return state.configuration_at(state.commit_index).may_lead(state.node_id)


def on_election_timeout(state: RaftState) -> None:
    """Nothing was heard of a leader for too long."""
    assert state.role is not Role.LEADER, "a leader has no election timer"
    if not may_campaign(state):
        state.reset_election_timer()
        state.ignore("election timeout of a node that may not campaign")
        return
    if state.promise.is_kept(state.now_ms):  # our own vote is promised like any other
        _arm_after_promise(state)
        return
    if state.hurry == 0:
        state.campaign_cause = "election timeout"
        if state.leader != NO_LEADER:  # the first timeout of this silence
            state.hurry = state.settings.election_retries
            state.hurry_ms = HINT_STAGGER_MS
    start_pre_vote(state)


def _arm_retry(state: RaftState) -> None:
    """Set when this round is given up: soon while in a hurry, after a fresh timeout otherwise."""
    if state.hurry == 0:
        state.reset_election_timer()
        return
    state.hurry -= 1
    delay = min(state.hurry_ms, state.settings.election_timeout_ms)
    state.hurry_ms *= 2
    state.election_deadline_ms = state.now_ms + delay + state.draw(delay)


def _arm_after_promise(state: RaftState) -> None:
    """Campaign soon after this node may vote again."""
    over_ms = state.promise.until_ms(state.now_ms)
    state.election_deadline_ms = over_ms + state.draw(HINT_STAGGER_MS)


def start_pre_vote(state: RaftState) -> None:
    """Ask whether an election could be won, without touching term or vote."""
    assert state.role is not Role.LEADER, "a leader does not campaign"
    if state.role is Role.FOLLOWER:
        state.note_role("candidate", state.campaign_cause)
    state.role = Role.PRE_CANDIDATE
    state.set_leader(NO_LEADER)
    state.votes.clear()
    state.is_campaign_forced = False
    _arm_retry(state)
    record_vote(state, state.node_id, granted=True)  # costs nothing, so it counts at once
    _ask_for_votes(state)
    _tally(state)


def campaign(state: RaftState, *, forced: bool) -> None:
    """Begin a new term and ask for votes; our own vote counts once it is durable."""
    assert state.role is not Role.LEADER, "a leader does not campaign"
    assert state.installing is None, "the log is being replaced"
    assert forced or not state.promise.is_kept(state.now_ms), "a promise binds our own vote too"
    state.set_vote(state.term + 1, state.node_id)
    state.forget_leaders_word()
    state.role = Role.CANDIDATE
    state.set_leader(NO_LEADER)
    state.votes.clear()
    state.is_campaign_forced = forced
    _arm_retry(state)
    _ask_for_votes(state)


def _ask_for_votes(state: RaftState) -> None:
    for member in state.configuration.members:
        if member != state.node_id and state.configuration.is_voter(member):
            _ask(state, member)


def _ask(state: RaftState, member: int) -> None:
    is_pre_vote = state.role is Role.PRE_CANDIDATE
    term = state.term + 1 if is_pre_vote else state.term
    log = state.log
    forced = state.is_campaign_forced
    state.send(member, VoteRequest(term, log.last_index, log.last_epoch, is_pre_vote, forced))


# ---- voting ------------------------------------------------------------------------------------


def has_live_leader(state: RaftState, candidate: int) -> bool:
    """Whether this node should refuse ``candidate`` because a leader works (stickiness)."""
    if state.role is Role.LEADER:
        return True  # check-quorum makes a leader without a majority step down by itself
    if state.leader in (NO_LEADER, candidate) or state.is_leader_gone:
        return False
    return state.now_ms - state.heard_leader_ms < state.settings.election_timeout_ms


def on_vote_request(state: RaftState, sender: int, message: VoteRequest) -> None:
    """Answer a request for a vote or pre-vote, from whoever asks (dissertation §4.1)."""
    if sender not in state.configuration.members:
        membership.tell_removed(state, sender)
    if state.repair is not None:
        state.ignore("vote refused: the disk lost something")
        _answer(state, sender, message, granted=False)
    elif not membership.may_vote(state):
        state.ignore("vote refused: we belong to no configuration")
        _answer(state, sender, message, granted=False)
    elif state.promise.is_kept(state.now_ms) and not message.is_forced:
        state.ignore("vote refused: a lease may run")
        _answer(state, sender, message, granted=False)
    elif message.term > state.term and not message.is_forced and has_live_leader(state, sender):
        state.ignore("vote refused: leader is alive")
        _answer(state, sender, message, granted=False)
    elif message.is_pre_vote:
        granted = message.term > state.term and is_log_acceptable(state, message)
        _answer(state, sender, message, granted=granted)
        if granted and state.role is Role.PRE_CANDIDATE and state.hurry:
            _maybe_yield(state, sender, message)
    else:
        if message.term > state.term:
            state.become_follower(message.term, NO_LEADER)
        _vote(state, sender, message)


def _maybe_yield(state: RaftState, sender: int, message: VoteRequest) -> None:
    """Two nodes that woke in the same instant: the better log, then the lower id, goes on.

    Both would win their pre-votes and split the votes. Only while in a hurry, which is soon over:
    a rule of precedence must not be able to silence a node for good.
    """
    log = state.log
    is_equal = (message.last_term, message.last_index) == (log.last_epoch, log.last_index)
    if is_equal and state.node_id < sender:
        return
    state.become_follower(state.term, NO_LEADER)
    _arm_retry(state)


def is_log_acceptable(state: RaftState, message: VoteRequest) -> bool:
    """The candidate's log must be at least as up to date as ours (§5.4.1)."""
    return state.log.is_up_to_date(message.last_index, message.last_term)


def can_vote_for(state: RaftState, candidate: int, term: int) -> bool:
    """Whether our vote of ``term`` is still free, or already this candidate's."""
    return term == state.term and state.voted_for in (0, candidate)


def _vote(state: RaftState, sender: int, message: VoteRequest) -> None:
    granted = can_vote_for(state, sender, message.term) and is_log_acceptable(state, message)
    if granted:
        assert state.role is not Role.LEADER, "a leader voted for itself"
        if state.voted_for != sender:
            state.set_vote(state.term, sender)
        state.reset_election_timer()
    _answer(state, sender, message, granted=granted)


def _answer(state: RaftState, sender: int, message: VoteRequest, *, granted: bool) -> None:
    reply = VoteReply(state.term, message.term, message.is_pre_vote, granted)
    state.send(sender, reply)


# ---- counting ----------------------------------------------------------------------------------


def on_vote_reply(state: RaftState, sender: int, message: VoteReply) -> None:
    """Count an answer, if it answers what we ask now."""
    if message.term > state.term:
        state.become_follower(message.term, NO_LEADER)
        return
    if state.role is Role.CANDIDATE:
        expected = (state.term, False)
    elif state.role is Role.PRE_CANDIDATE:
        expected = (state.term + 1, True)
    else:
        state.ignore("vote reply while not campaigning")
        return
    if (message.request_term, message.is_pre_vote) != expected:
        state.ignore("vote reply for another vote")
        return
    record_vote(state, sender, granted=message.is_granted)
    _tally(state)


def record_vote(state: RaftState, voter: int, *, granted: bool) -> None:
    """Keep a voter's first answer."""
    state.votes.setdefault(voter, granted)


def vote_result(state: RaftState) -> VoteResult:
    """Where the current vote stands."""
    return state.quorum.vote_result(state.votes)


def _tally(state: RaftState) -> None:
    result = vote_result(state)
    if result is VoteResult.PENDING:
        return
    if result is VoteResult.LOST:
        # The timer keeps running: the next attempt comes when this round would have ended.
        state.become_follower(state.term, NO_LEADER)
    elif state.role is Role.PRE_CANDIDATE:
        campaign(state, forced=False)
    elif state.is_hard_durable:
        leader.become_leader(state)


def on_hard_state_durable(state: RaftState) -> None:
    """Our own vote is on disk: now it counts."""
    assert state.role is Role.CANDIDATE, "only a candidate counts votes"
    assert state.voted_for == state.node_id, "a candidate voted for itself"
    record_vote(state, state.node_id, granted=True)
    _tally(state)


# ---- hints and orders --------------------------------------------------------------------------


def on_leader_closed(state: RaftState) -> None:
    """The leader's connection was closed: its process is probably gone."""
    assert state.role is not Role.LEADER, "we are not following"
    state.is_leader_gone = True
    _hurry(state, "connection of the leader closed")


def _hurry(state: RaftState, cause: str) -> None:
    """Begin a pre-vote within milliseconds, and repeat it early."""
    if may_campaign(state):
        state.hurry = HURRY_ROUNDS
        state.hurry_ms = HINT_STAGGER_MS
        state.campaign_cause = cause
        soon = state.promise.until_ms(state.now_ms) + state.draw(HINT_STAGGER_MS)
        state.election_deadline_ms = min(state.election_deadline_ms, soon)


def on_voter_opened(state: RaftState, peer: int) -> None:
    """A voter can be reached: ask it again while we campaign; soon, when we have just started.

    A cluster that starts cold has nobody to wait for: the first links are the sign to begin. If
    there is a leader after all, the pre-vote is refused and changes nothing.
    """
    if peer == state.node_id or not state.configuration.is_voter(peer):
        return
    if state.role is Role.FOLLOWER:
        if state.is_fresh and state.leader == NO_LEADER:
            _hurry(state, "cold start")
    elif state.role is not Role.LEADER and peer not in state.votes:
        _ask(state, peer)


def on_timeout_now(state: RaftState, sender: int, message: TimeoutNow) -> None:
    """The leader hands leadership to us: campaign at once, without pre-vote (§3.10)."""
    assert message.term == state.term, "terms are settled before"
    if sender != state.leader or not may_campaign(state):
        state.ignore("order to campaign that does not fit")
        return
    state.campaign_cause = "leadership handed over"
    state.note_role("candidate", state.campaign_cause)
    campaign(state, forced=True)
