"""RA-4: term, vote and entries are on disk before the answer that promises them.

The cluster's disks confirm one step at a time, so there is a moment between any two events at
which a node can die with some of its unconfirmed steps on disk and some not. Every such moment of
a run with an election, writes and a change of leader is tried. A judge compares each message with
what its sender's disk holds when it leaves, and each vote with all votes of the node's earlier
lives.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from raft_cluster import Letter, RaftCluster

from quorate.consensus.entry import Entry
from quorate.consensus.raft import follower
from quorate.consensus.raft.codec import decode_hard_state
from quorate.consensus.raft.messages import AppendReply, VoteReply, VoteRequest
from quorate.consensus.raft.state import RaftState
from quorate.consensus.registry import EngineSettings
from quorate.errors import InvariantBroken

QUICK = EngineSettings(election_timeout_ms=100, heartbeat_ms=30)


class Judge(list[Letter]):
    """The network, which looks into the sender's disk before it takes a message."""

    def __init__(self, cluster: RaftCluster) -> None:
        super().__init__()
        self.cluster = cluster
        self.votes: dict[tuple[int, int], int] = {}  # (voter, term) -> candidate
        self.promises = 0

    def extend(self, letters: Iterable[Letter]) -> None:
        for letter in letters:
            self.judge(letter)
            self.append(letter)

    def judge(self, letter: Letter) -> None:
        """Raise unless everything that this message promises is durable."""
        disk = self.cluster.nodes[letter.sender].disk
        term, vote = decode_hard_state(disk.hard_state) if disk.hard_state else (0, 0)
        message = letter.message
        if isinstance(message, AppendReply):
            self.promises += 1
            last = disk.entries[-1].index if disk.entries else 0
            if message.match_index > last:
                raise InvariantBroken(f"{letter} and only {last} entries are on disk")
        if isinstance(message, VoteReply) and message.is_granted and not message.is_pre_vote:
            self.note_vote(letter.sender, message.term, letter.to)
            if (term, vote) != (message.term, letter.to):
                raise InvariantBroken(f"{letter} and the disk says vote {vote} in term {term}")
        if isinstance(message, VoteRequest) and not message.is_pre_vote:
            self.note_vote(letter.sender, message.term, letter.sender)
        if message.term > term and not getattr(message, "is_pre_vote", False):
            raise InvariantBroken(f"{letter} and the disk says term {term}")

    def note_vote(self, voter: int, term: int, candidate: int) -> None:
        """Remember a vote that others may learn of; a second one in its term is the end."""
        self.promises += 1
        known = self.votes.setdefault((voter, term), candidate)
        if known != candidate:
            raise InvariantBroken(f"n{voter} votes for n{known} and n{candidate} in term {term}")


class Run:
    """A fixed story on slow disks; at confirmation number ``crash_at`` that node dies.

    Args:
        crash_at: number of the confirmation (from 0) at which to crash; -1: never.
        keep: how many of the node's unconfirmed steps reached the disk all the same.
    """

    def __init__(self, crash_at: int = -1, keep: int = 0) -> None:
        self.cluster = RaftCluster(3, settings=QUICK, instant_disk=False)
        self.judge = Judge(self.cluster)
        self.cluster.network = self.judge
        self.crash_at = crash_at
        self.keep = keep
        self.confirmed = 0
        self.crashes = 0

    def confirm(self, node_id: int) -> bool:
        """Let the node's disk finish one step, or let the node die just then."""
        node = self.cluster.nodes[node_id]
        if not node.is_up or not node.pending:
            return False
        if self.confirmed == self.crash_at:
            self.confirmed += 1
            self.crashes += 1
            self.cluster.crash(node_id, keep=self.keep)
            self.cluster.start(node_id)
            return True
        self.confirmed += 1
        return self.cluster.persist(node_id)

    def pass_ms(self, ms: int) -> None:
        """Let time pass; disks are slower than the network."""
        for _ in range(ms // 20):
            self.cluster.advance(20, step_ms=20)
            for _ in range(60):
                if not self.cluster.network:
                    break
                self.cluster.deliver_one()
            for node_id in self.cluster.nodes:
                self.confirm(node_id)

    def tell(self) -> RaftCluster:
        """An election, writes, the leader dies, another election, writes, everybody returns."""
        cluster = self.cluster
        self.pass_ms(500)
        for number in range(6):
            if cluster.leader():
                cluster.propose(cluster.leader(), f"a{number}")
            self.pass_ms(40)
        old = cluster.leader() or 1
        cluster.isolate([old], [node for node in cluster.nodes if node != old])
        cluster.propose(old, "lost or kept, but never half")
        self.pass_ms(500)
        for number in range(6):
            if cluster.leader():
                cluster.propose(cluster.leader(), f"b{number}")
            self.pass_ms(40)
        cluster.heal()
        self.pass_ms(500)
        return cluster


def check(crash_at: int, keep: int) -> int:
    """Run the story and judge its end; give the number of confirmations."""
    run = Run(crash_at, keep)
    cluster = run.tell()
    assert cluster.leader()
    nodes = list(cluster.nodes.values())
    assert all(node.applied == nodes[0].applied for node in nodes), cluster.describe()
    assert len(nodes[0].applied) >= 6
    seen = {text for text in cluster.notes if " applies " in text}
    applied = {text.split(" applies ")[1] for text in seen}
    lost = [text for text in sorted(applied) if text.split(" at ")[0] not in nodes[0].applied]
    assert not lost, f"applied once, and gone: {lost}"
    assert run.judge.promises > 20
    assert run.crashes == (crash_at >= 0)
    return run.confirmed


def test_ra_4_story_has_two_elections_and_all_writes() -> None:
    """RA-4: without a crash the story acknowledges all twelve writes and elects twice."""
    run = Run()
    cluster = run.tell()
    assert len([text for text in cluster.nodes[1].applied if text[0] in "ab"]) == 12
    leaders = [text for text in cluster.notes if "leads, established" in text]
    assert len(leaders) == 2
    assert run.confirmed > 30


@pytest.mark.parametrize("keep", [0, 1, 9], ids=["nothing", "one_step", "everything"])
def test_ra_4_crash_at_every_persistence_point_breaks_no_promise(keep: int) -> None:
    """RA-4, ZB-2: no second vote and no lost commit, whichever confirmation never came."""
    for crash_at in range(check(-1, 0)):
        check(crash_at, keep)


REAL_STORE = follower.store


def store_and_acknowledge(state: RaftState, entries: list[Entry]) -> None:
    """Mutant: a follower acknowledges what is in its memory."""
    REAL_STORE(state, entries)
    state.out.messages.append((state.leader, AppendReply(state.term, entries[-1].index)))


def send_at_once(self: RaftState, to: int, message: object) -> None:
    """Mutant: votes leave before they are durable."""
    self.out.messages.append((to, message))


def vote_in_memory(self: RaftState, term: int, voted_for: int) -> None:
    """Mutant: term and vote are not written at all."""
    self.term, self.voted_for = term, voted_for


@pytest.mark.parametrize(
    ("place", "name", "mutant"),
    [
        (follower, "store", store_and_acknowledge),
        (RaftState, "send", send_at_once),
        (RaftState, "set_vote", vote_in_memory),
    ],
)
def test_ra_4_promise_before_the_disk_is_caught(
    place: object, name: str, mutant: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RA-4 can fail: an engine that answers before it wrote is caught by the same story."""
    monkeypatch.setattr(place, name, mutant)
    with pytest.raises(AssertionError):
        check(-1, 0)
