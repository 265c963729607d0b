"""What each operation gives up under a partition: CAP, with real servers and real clients.

Nodes in virtual time; clients speak the ZooKeeper protocol to a node on their own side of the cut.
"Answers" means within the bound; "refuses" means that no answer came and that the connection is
closed within the bound, so that the client goes elsewhere with its outcome unknown.
"""

from dataclasses import dataclass, field

import pytest
from virtual_client import Client

from quorate.protocol.jute import encode_buffer
from quorate.protocol.zookeeper import OpCode
from quorate.protocol.zookeeper_client import Part, create, get, set_data
from quorate.simulation.ensemble import SimulatedEnsemble

SESSION_MS = 15_000
ELECTION_MS = 1_000
"""The longest election timeout of the default settings."""
MAJORITY_BOUND_US = 5 * ELECTION_MS * 1_000
LET_GO_BOUND_US = (2 * ELECTION_MS + SESSION_MS // 3 + 500) * 1_000
"""Noticing that no majority answers, then a third of the session's timeout."""
READ = get(OpCode.GET_DATA, b"/x")
SYNC = Part(OpCode.SYNC, encode_buffer(b"/x"))


PURPOSES = ("write", "sync", "read")


@dataclass
class Story:
    """An ensemble that holds ``old``, known to all nodes, with three clients on each.

    A client's requests are answered in order, so a read behind a blocked write would wait: each
    purpose has its own client.
    """

    nodes: int = 5
    seed: int = 3
    written: dict[int, bytes] = field(default_factory=dict)  # zxid of the change -> value
    newest: dict[int, int] = field(default_factory=dict)  # reader -> zxid of its last reply

    def __post_init__(self):
        self.ensemble = SimulatedEnsemble(self.seed, nodes=self.nodes)
        self.ensemble.start()
        self.ensemble.run_until(lambda: self.ensemble.leader() != 0)
        self.leader = self.ensemble.leader()
        self.followers = [node for node in self.ensemble.hosts if node != self.leader]
        self.clients = {
            (node, purpose): Client(self.ensemble, node, timeout_ms=SESSION_MS).ready()
            for node in self.ensemble.hosts
            for purpose in PURPOSES
        }
        self.clients[self.leader, "write"].call(create(b"/x", b"old"))
        self.pass_time(200)
        assert {self.local_read(node) for node in self.ensemble.hosts} == {b"old"}
        self.cut_us = self.ensemble.world.now_us

    def pass_time(self, ms):
        self.ensemble.world.run(ms * 1_000)

    def wait(self, node, purpose, xid, limit_us=MAJORITY_BOUND_US):
        """The reply within a bound; None: it did not come."""
        client = self.clients[node, purpose]
        end = self.ensemble.world.now_us + limit_us
        client.poll()
        while xid not in client.replies and self.ensemble.world.now_us < end:
            self.pass_time(10)
            client.poll()
        return client.replies.get(xid)

    def begin_write(self, node, value):
        return self.clients[node, "write"].send(set_data(b"/x", value))

    def write(self, node, value, limit_us=MAJORITY_BOUND_US):
        """Whether a write was acknowledged within the bound."""
        reply = self.wait(node, "write", self.begin_write(node, value), limit_us)
        return reply is not None and reply.error == 0

    def local_read(self, node):
        """What a node shows of itself, at once; None: it does not answer."""
        return self._value(node, "read", self.clients[node, "read"].send(READ), 50_000)

    def begin_fresh_read(self, node):
        self.clients[node, "sync"].send(SYNC)
        return self.clients[node, "sync"].send(READ)

    def fresh_read(self, node, limit_us=MAJORITY_BOUND_US):
        """What a node shows behind a read barrier; None: it does not answer within the bound."""
        return self._value(node, "sync", self.begin_fresh_read(node), limit_us)

    def _value(self, node, purpose, xid, limit_us):
        reply = self.wait(node, purpose, xid, limit_us)
        if reply is None:
            return None
        position = reply.stat().mzxid
        assert self.written.setdefault(position, reply.data()) == reply.data(), "two histories"
        assert position <= reply.zxid, "a value newer than the node that showed it"
        assert self.newest.get(node, 0) <= reply.zxid or purpose == "sync", "time ran backwards"
        self.newest[node] = max(reply.zxid, self.newest.get(node, 0))
        return reply.data()

    def is_let_go(self, node):
        """Whether the node closed the connections of all its clients."""
        return all(self.clients[node, purpose].connection.closed for purpose in PURPOSES)


def split(story, minority):
    """Cut all links between the minority and the rest; return the rest."""
    majority = [node for node in story.ensemble.hosts if node not in minority]
    story.ensemble.network.partition(minority, majority)
    return majority


LAYOUTS = {
    "2|3, leader with the two": lambda s: [s.leader, s.followers[0]],
    "2|3, leader with the three": lambda s: s.followers[:2],
    "1|4, leader alone": lambda s: [s.leader],
    "1|4, leader with the four": lambda s: s.followers[:1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", [3, 4])
def test_majority_answers_and_minority_refuses_th_5(layout, seed):
    """Writes and read barriers answer on the majority's side only; local reads show the past."""
    story = Story(seed=seed)
    minority = LAYOUTS[layout](story)
    majority = split(story, minority)
    writes = {node: story.begin_write(node, b"cut off") for node in minority}
    reads = {node: story.begin_fresh_read(node) for node in minority}
    newer = story.begin_write(majority[0], b"new")
    shown = set()
    while not all(story.is_let_go(node) for node in minority):
        assert story.ensemble.world.now_us - story.cut_us < LET_GO_BOUND_US, "never let go"
        shown |= {story.local_read(node) for node in minority}
        story.pass_time(50)
    assert shown <= {b"old", None}, "a minority shows the past or nothing"
    assert b"old" in shown
    for node in minority:
        assert story.wait(node, "write", writes[node], 0) is None
        assert story.wait(node, "sync", reads[node], 0) is None
    assert story.wait(majority[0], "write", newer).error == 0
    assert {story.fresh_read(node) for node in majority} == {b"new"}


@pytest.mark.parametrize("is_deaf", [True, False], ids=["hears nobody", "reaches nobody"])
@pytest.mark.parametrize("is_leader", [True, False], ids=["leader", "follower"])
def test_one_way_cuts_never_give_a_wrong_value_th_5(is_deaf, is_leader):
    """A node that only hears, or only speaks, answers nothing wrong, and the others go on."""
    story = Story()
    odd = story.leader if is_leader else story.followers[0]
    others = [node for node in story.ensemble.hosts if node != odd]
    for other in others:
        story.ensemble.network.cut(*((other, odd) if is_deaf else (odd, other)))
    assert story.local_read(odd) == b"old"
    assert story.write(others[0], b"new")
    assert story.fresh_read(odd) is None
    assert story.local_read(odd) in ({b"old", None} if is_deaf else {b"new", None})
    assert {story.fresh_read(node) for node in others} == {b"new"}


def test_healing_brings_the_minority_forward_th_5():
    """After the cut every node shows the same, also to clients that saw the past."""
    story = Story()
    minority = [story.leader, story.followers[0]]
    majority = split(story, minority)
    assert story.write(majority[0], b"new")
    assert {story.local_read(node) for node in minority} == {b"old"}
    story.ensemble.network.heal()
    assert {story.fresh_read(node) for node in story.ensemble.hosts} == {b"new"}
    assert {story.local_read(node) for node in story.ensemble.hosts} == {b"new"}


# ---- the execution of Gilbert and Lynch --------------------------------------------------------


DOCUMENTED = {
    ("majority", "local read"): {"atomic"},
    ("majority", "read barrier"): {"available"},
    ("minority", "local read"): {"available"},
    ("minority", "read barrier"): {"available"},
}
"""(who writes, how the other side reads) -> what is given up."""


def given_up(writing_side, kind_of_read, *, is_cut=True):
    """Write in G1, then read in G2, with every message between them lost."""
    story = Story()
    minority = [story.leader, story.followers[0]]
    majority = story.followers[1:]
    if is_cut:
        split(story, minority)
    is_minority = writing_side == "minority"
    writers, readers = (minority, majority) if is_minority else (majority, minority)
    is_written = story.write(writers[0], b"new")
    read = story.local_read if kind_of_read == "local read" else story.fresh_read
    shown = read(readers[1])
    lost = set()
    if not is_written or shown is None:
        lost.add("available")
    if is_written and shown == b"old":
        lost.add("atomic")
    return lost


@pytest.mark.parametrize(("side", "kind"), DOCUMENTED)
def test_exactly_one_is_given_up_and_it_is_the_documented_one_th_6(side, kind):
    """Each operation gives up availability or atomicity, never both, as docs/theory.md says."""
    lost = given_up(side, kind)
    assert lost == DOCUMENTED[side, kind]
    assert len(lost) == 1


@pytest.mark.parametrize(("side", "kind"), DOCUMENTED)
def test_without_a_cut_nothing_is_unavailable_th_6(side, kind):
    """On a whole network every operation of that execution is answered, and a barrier is fresh."""
    lost = given_up(side, kind, is_cut=False)
    assert lost == set() if kind == "read barrier" else lost <= {"atomic"}
