"""Mutants of elections: who may vote, for whom, and when a vote may be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quorate.consensus.engine import NO_LEADER
from quorate.consensus.entry import Recovered
from quorate.consensus.log import Log
from quorate.consensus.quorum import Quorum, VoteResult
from quorate.consensus.raft import election, engine
from quorate.consensus.raft.messages import Append, Heartbeat, VoteReply
from quorate.consensus.raft.state import RaftState, Role
from quorate.simulation.mutants.mutant import Group, Patches

GROUP = Group("elections")


@GROUP.mutant("Raft §5.2; known bug of PySyncObj", faults=("ambush:told-twice",))
def counts_answers_instead_of_voters(patches: Patches) -> None:
    """A voter counts once, however often its answer arrives."""

    def record(state: RaftState, voter: int, *, granted: bool) -> None:
        state.votes[voter + 1000 * len(state.votes)] = granted

    def result(state: RaftState) -> VoteResult:
        needed = len(state.configuration.voters) // 2 + 1
        won = sum(state.votes.values()) >= needed
        return VoteResult.WON if won else VoteResult.PENDING

    patches.put(election, "record_vote", record)
    patches.put(election, "vote_result", result)


@GROUP.mutant("Raft §5.2")
def wins_with_less_than_a_majority(patches: Patches) -> None:
    """More than half of the voters elect a leader, not half of them."""

    def result(self: Quorum, votes: Mapping[int, bool]) -> VoteResult:
        voters = self.configuration.voters
        granted = sum(votes.get(voter, False) for voter in voters)
        return VoteResult.WON if granted >= len(voters) // 2 else VoteResult.PENDING

    patches.put(Quorum, "vote_result", result)


@GROUP.mutant("Raft §5.2")
def votes_for_everybody(patches: Patches) -> None:
    """A node gives one vote in a term."""

    def set_vote(self: RaftState, term: int, voted_for: int) -> None:
        self.term, self.voted_for, self.is_hard_dirty = term, voted_for, True

    def can_vote_for(state: RaftState, _candidate: int, term: int) -> bool:
        return term == state.term and state.role not in (Role.CANDIDATE, Role.LEADER)

    patches.put(election, "can_vote_for", can_vote_for)
    patches.put(RaftState, "set_vote", set_vote)


@GROUP.mutant("Raft §5.4.1")
def votes_for_outdated_logs(patches: Patches) -> None:
    """A node votes only for a log that is at least as up to date as its own."""
    patches.put(election, "is_log_acceptable", lambda _state, _message: True)


@GROUP.mutant("Raft §5.4.1", faults=("ambush:overwritten",))
def prefers_long_logs_to_new_ones(patches: Patches) -> None:
    """Of two logs the one with the later last term is more up to date, however short it is."""

    def is_up_to_date(self: Log, last_index: int, last_epoch: int) -> bool:
        return (last_index, last_epoch) >= (self.last_index, self.last_epoch)

    patches.put(Log, "is_up_to_date", is_up_to_date)


@GROUP.mutant("Raft §5.4.1; known bug of openraft")
def takes_one_good_coordinate_for_enough(patches: Patches) -> None:
    """Last term and last index are compared in dictionary order, not each for itself."""

    def is_up_to_date(self: Log, last_index: int, last_epoch: int) -> bool:
        return last_index >= self.last_index or last_epoch >= self.last_epoch

    patches.put(Log, "is_up_to_date", is_up_to_date)


@GROUP.mutant("Raft §5.4.1; known bug of hashicorp/raft", faults=("ambush:last-two",))
def refuses_logs_that_are_shorter_or_older(patches: Patches) -> None:
    """A shorter log with a later last term deserves the vote (else nobody may get enough)."""

    def is_up_to_date(self: Log, last_index: int, last_epoch: int) -> bool:
        return last_index >= self.last_index and last_epoch >= self.last_epoch

    patches.put(Log, "is_up_to_date", is_up_to_date)


@GROUP.mutant("Raft Fig. 2; known bug of PySyncObj")
def loses_the_vote_on_restart(patches: Patches) -> None:
    """Term and vote are on disk and come back after a restart."""

    def set_vote(self: RaftState, term: int, voted_for: int) -> None:
        self.term, self.voted_for = term, voted_for

    patches.put(RaftState, "set_vote", set_vote)


@GROUP.mutant("Raft Fig. 2", faults=("ambush:rivals",))
def forgets_whom_it_voted_for(patches: Patches) -> None:
    """The vote comes back after a restart, not only the term."""

    def recover_without_vote(self: RaftState, recovered: Recovered) -> None:
        recover(self, recovered)
        self.voted_for = 0

    recover = patches.put(RaftState, "_recover", recover_without_vote)


@GROUP.mutant("Raft Fig. 2; known bug of sofa-jraft", faults=("ambush:rivals",))
def answers_before_the_vote_is_durable(patches: Patches) -> None:
    """No message reveals a term or vote that is not yet on disk."""

    def send(self: RaftState, to: int, message: Any) -> None:
        self.out.messages.append((to, message))

    patches.put(RaftState, "send", send)


@GROUP.mutant("Raft Fig. 2; dissertation §3.8", faults=("ambush:rivals",))
def leads_before_its_own_vote_is_durable(patches: Patches) -> None:
    """A candidate's own vote is on disk before it counts and before anybody is asked for theirs."""

    def campaign_at_once(state: RaftState, *, forced: bool) -> None:
        held = len(state.out.messages_after_persist)
        campaign(state, forced=forced)
        state.out.messages += state.out.messages_after_persist[held:]
        del state.out.messages_after_persist[held:]
        election.record_vote(state, state.node_id, granted=True)

    campaign = patches.put(election, "campaign", campaign_at_once)
    patches.put(RaftState, "is_hard_durable", True)


@GROUP.mutant("dissertation §9.6")
def counts_answers_to_other_votes(patches: Patches) -> None:
    """An answer counts for the vote and term that it was asked for, a pre-vote for no vote."""

    def on_vote_reply(state: RaftState, sender: int, message: VoteReply) -> None:
        if message.term > state.term:
            state.become_follower(message.term, NO_LEADER)
        elif state.role is Role.CANDIDATE or state.role is Role.PRE_CANDIDATE:
            election.record_vote(state, sender, granted=message.is_granted)
            election._tally(state)

    patches.put_item(engine._ON_MESSAGE, VoteReply, on_vote_reply)


@GROUP.mutant("Raft §5.1")
def obeys_leaders_of_older_terms(patches: Patches) -> None:
    """What a leader of an older term says is refused."""

    def obey(state: RaftState, sender: int, message: Any) -> None:
        if isinstance(message, Append | Heartbeat) and state.role is Role.FOLLOWER:
            known, state.leader = state.leader, sender
            engine._ON_MESSAGE[type(message)](state, sender, replace(message, term=state.term))
            state.leader = known
        else:
            refuse(state, sender, message)

    refuse = patches.put(engine, "_on_older_term", obey)
