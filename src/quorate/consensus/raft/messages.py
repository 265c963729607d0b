"""Raft's messages: what one node's engine says to another's.

Plain values with one common field, ``term``: the sender's current term (dissertation §3.3), with
one exception: a request for a pre-vote carries the term that its sender *would* campaign in.
How they become bytes is ``codec.py``'s business; who said it travels beside the message.

The classes are mutable only because frozen dataclasses are three times slower to build; nobody
changes a message after it was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from quorate.consensus.entry import Entry, SnapshotMeta


@dataclass(slots=True)
class VoteRequest:
    """May I lead in ``term``? My log ends so. (§5.2, §5.4.1; pre-vote: dissertation §9.6.)"""

    term: int
    last_index: int
    last_term: int
    is_pre_vote: bool
    is_forced: bool  # the leader itself told us to campaign: overrides stickiness (§3.10)


@dataclass(slots=True)
class VoteReply:
    """Answer to a vote. ``request_term`` repeats the request's term, ``term`` is the voter's own.

    Only ``request_term`` says which vote this answers: a voter that refuses without taking the
    candidate's term would otherwise be ignored as outdated, and both would wait for ever.
    """

    term: int
    request_term: int
    is_pre_vote: bool
    is_granted: bool


@dataclass(slots=True)
class Append:
    """Entries that follow ``prev_index`` (AppendEntries, §5.3)."""

    term: int
    prev_index: int
    prev_term: int
    commit_index: int
    entries: list[Entry]


@dataclass(slots=True)
class AppendReply:
    """Everything up to ``match_index`` equals the leader's log *and is on this node's disk*."""

    term: int
    match_index: int


@dataclass(slots=True)
class AppendRejected:
    """No agreement at ``rejected_index``; where to try next (end of §5.3).

    ``conflict_term`` is the term found there and ``conflict_index`` its first index; a log that is
    too short answers term 0 and the index after its end.
    """

    term: int
    rejected_index: int
    conflict_term: int
    conflict_index: int


@dataclass(slots=True)
class Heartbeat:
    """I lead; this much is committed. Round 0 wants no answer, others are echoed (§6.4)."""

    term: int
    commit_index: int
    round: int


@dataclass(slots=True)
class HeartbeatReply:
    """Echo of a heartbeat's round: at some time after it was sent, ``term`` was current here."""

    term: int
    round: int


@dataclass(slots=True)
class LeasePromise:
    """A HeartbeatReply, and a promise: no vote from here for ``length_ms`` on this node's clock."""

    term: int
    round: int
    length_ms: int


@dataclass(slots=True)
class TermNotice:
    """Your message was of an older term; this is mine."""

    term: int


@dataclass(slots=True)
class ReadRequest:
    """A follower asks for a linearizable read point. ``number`` is never used twice."""

    term: int
    number: int


@dataclass(slots=True)
class ReadReply:
    """The read point for ``number``; ``index`` 0 means: ask again, I cannot confirm that I lead."""

    term: int
    number: int
    index: int


@dataclass(slots=True)
class InstallChunk:
    """A piece of the leader's snapshot (InstallSnapshot, Fig. 13).

    ``identity`` says of exactly which bytes: two nodes' snapshots of one index may differ in them.
    """

    term: int
    meta: SnapshotMeta
    offset: int
    data: bytes
    is_last: bool
    identity: bytes = b""


@dataclass(slots=True)
class InstallReply:
    """How much of the snapshot at ``index`` is stored; ``is_done``: all of it is in force."""

    term: int
    index: int
    next_offset: int
    is_done: bool


@dataclass(slots=True)
class TimeoutNow:
    """Campaign at once: I hand leadership to you (dissertation §3.10)."""

    term: int


@dataclass(slots=True)
class RepairQuery:
    """My disk lost something (``repair.py``): what is your term, and where does your log end?

    ``number`` is drawn at each start; ``last_index`` is how far the asking node's own log goes.
    """

    tells_of_loss: ClassVar[bool] = True

    term: int
    number: int
    last_index: int


@dataclass(slots=True)
class RepairAnswer:
    """This is my term; a leader adds the end of its log, others 0."""

    term: int
    number: int
    end_index: int


@dataclass(slots=True)
class RemovalNotice:
    """You are no member of the configuration at ``index``, which is committed (§4.2.3)."""

    term: int
    index: int


RaftMessage: TypeAlias = (
    VoteRequest
    | VoteReply
    | Append
    | AppendReply
    | AppendRejected
    | Heartbeat
    | HeartbeatReply
    | LeasePromise
    | TermNotice
    | ReadRequest
    | ReadReply
    | InstallChunk
    | InstallReply
    | TimeoutNow
    | RepairQuery
    | RepairAnswer
    | RemovalNotice
)
