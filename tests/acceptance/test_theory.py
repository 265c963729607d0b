"""Impossibility theorems as schedules: FLP and CAP."""

from __future__ import annotations

import pytest
from ensemble_stories import cut_off, others, started
from raft_cluster import Letter, RaftCluster
from raft_schedule import STEPS, Schedule
from virtual_client import Client, sync

from quorate.consensus.raft.messages import VoteReply
from quorate.consensus.raft.state import Role
from quorate.protocol.zookeeper import OpCode
from quorate.protocol.zookeeper_client import create, get, set_data

# ---- TH-2 --------------------------------------------------------------------------------------

ELECTION_TIMEOUT_MS = 500


class Adversary:
    """A network that sees all states, loses nothing, and delays the one message that decides.

    A vote that would make its candidate a leader waits until the candidate has given up that
    election; then it is delivered. No message waits longer than one election.
    """

    def __init__(self, cluster: RaftCluster) -> None:
        self.cluster = cluster
        self.held_since_ms: dict[int, int] = {}
        self.longest_ms = 0
        self.held: list[Letter] = []

    def would_decide(self, letter: Letter) -> bool:
        """Whether this very message makes somebody leader now."""
        message = letter.message
        if not isinstance(message, VoteReply) or message.is_pre_vote or not message.is_granted:
            return False
        state = self.cluster.nodes[letter.to].state
        return state.role is Role.CANDIDATE and state.term == message.request_term

    def run(self, ms: int) -> None:
        """Deliver everything that does not decide, as time passes."""
        cluster = self.cluster
        end = cluster.now_ms + ms
        while cluster.now_ms < end:
            cluster.advance(10)
            position = 0
            while position < len(cluster.network):
                letter = cluster.network[position]
                if self.would_decide(letter):
                    self.held_since_ms.setdefault(id(letter), cluster.now_ms)
                    self.held.append(letter)  # kept, so that its identity stays its own
                    position += 1
                    continue
                since_ms = self.held_since_ms.pop(id(letter), cluster.now_ms)
                self.longest_ms = max(self.longest_ms, cluster.now_ms - since_ms)
                cluster.deliver_one(position)
                position = 0  # what was held may be harmless now


@pytest.mark.parametrize("nodes", [3, 5])
def test_th_2_adversary_who_delays_one_message_at_a_time_prevents_every_election(
    nodes: int,
) -> None:
    """TH-2: for a minute nobody leads though every message arrives; a fair network then decides."""
    cluster = RaftCluster(nodes)
    adversary = Adversary(cluster)
    adversary.run(60_000)
    assert not any(node.leadership.established for node in cluster.nodes.values())
    assert max(node.state.term for node in cluster.nodes.values()) > 20, "many elections, all held"
    assert not [note for note in cluster.notes if "leads" in note]
    assert adversary.longest_ms <= 3 * ELECTION_TIMEOUT_MS, "no message is lost or kept for ever"
    before_ms = cluster.now_ms
    while not cluster.leader():
        cluster.run(20)
        assert cluster.now_ms - before_ms <= 6 * ELECTION_TIMEOUT_MS
    cluster.propose(cluster.leader(), "decided")
    cluster.run(300)
    assert all(node.applied == ["decided"] for node in cluster.nodes.values())


# ---- TH-4 --------------------------------------------------------------------------------------

TIMEOUTS_MAX = 8
"""So many election timeouts after delays are bounded again, every seed has decided something."""


@pytest.mark.parametrize("block", range(5))
def test_th_4_every_seed_decides_within_eight_timeouts_of_stabilization(block: int) -> None:
    """TH-4: whatever happened before, a command commits on all nodes soon after faults stop."""
    for seed in range(block * 12, block * 12 + 12):
        schedule = Schedule(seed)
        cluster = schedule.cluster
        for _ in range(STEPS // 2):
            schedule.step()
        cluster.heal()
        cluster.drop_if = lambda _: False
        cluster.instant_disk = True
        for node_id, node in cluster.nodes.items():
            if not node.is_up:
                cluster.start(node_id)
            while cluster.persist(node_id):
                pass
        stable_ms, proposed = cluster.now_ms, 0
        while not all("decided" in node.applied for node in cluster.nodes.values()):
            cluster.run(10)
            leader = cluster.leader()
            if leader and leader != proposed:
                cluster.propose(leader, "decided")
                proposed = leader
            waited = (cluster.now_ms - stable_ms) / cluster.settings.election_timeout_ms
            assert waited <= TIMEOUTS_MAX, f"seed {seed}: {cluster.describe()}"


# ---- TH-6 --------------------------------------------------------------------------------------


def gilbert_lynch(seed: int, *, writer_has_majority: bool, mode: str) -> str:
    """Write in one group, then read in the other, and every message between them is lost.

    Args:
        seed: of the ensemble of five.
        writer_has_majority: whether the group with the writer is the larger one.
        mode: "linearizable" (sync, then get) or "local" (get alone).

    Returns:
        "unavailable write", "unavailable read", "not atomic" or "atomic and available".
    """
    ensemble = started(seed, nodes=5)
    leader = ensemble.leader()
    rest = others(ensemble, leader)
    small = [leader, rest[0]] if seed % 2 else rest[:2]
    large = others(ensemble, *small)
    writers, readers = (large, small) if writer_has_majority else (small, large)
    writer = Client(ensemble, writers[0], timeout_ms=4_000).ready()
    reader = Client(ensemble, readers[-1], timeout_ms=4_000).ready()
    writer.call(create(b"/x", b"old"))
    reader.call(sync(b"/x"))
    assert reader.call(get(OpCode.GET_DATA, b"/x")).data() == b"old"
    cut_off(ensemble, *small)
    write = writer.send(set_data(b"/x", b"new"))
    for _ in range(350):  # less than what a cut-off node waits before it lets its clients go
        ensemble.world.run(1_000)
    writer.poll()
    is_written = write in writer.replies
    if not is_written and writer_has_majority:
        ensemble.run_until(lambda: writer.poll() or write in writer.replies)
        is_written = True
    if mode == "linearizable":
        reader.send(sync(b"/x"))
    read = reader.send(get(OpCode.GET_DATA, b"/x"))
    for _ in range(3_000):
        ensemble.world.run(1_000)
        reader.poll()
        writer.poll()
    if not is_written:
        assert write not in writer.replies
        assert reader.replies[read].data() == b"old"
        return "unavailable write"
    if read not in reader.replies:
        assert reader.connection.closed, "a node that cannot answer lets its clients go"
        return "unavailable read"
    return "not atomic" if reader.replies[read].data() == b"old" else "atomic and available"


DOCUMENTED = {
    (True, "linearizable"): "unavailable read",
    (True, "local"): "not atomic",
    (False, "linearizable"): "unavailable write",
    (False, "local"): "unavailable write",
}
"""What each mode gives up: never both, and never nothing."""


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("writer_has_majority", "mode"), DOCUMENTED)
def test_th_6_the_gilbert_lynch_run_shows_what_each_mode_gives_up(
    writer_has_majority: bool, mode: str, seed: int
) -> None:
    """TH-6: a minority refuses writes and linearizable reads; a local read may be of the past."""
    seen = gilbert_lynch(seed, writer_has_majority=writer_has_majority, mode=mode)
    assert seen == DOCUMENTED[writer_has_majority, mode]


# ---- TH-5 --------------------------------------------------------------------------------------


def answers(ensemble, client: Client, request) -> bool:
    """Whether the request (behind a sync, if it reads) is answered within three seconds."""
    if request.opcode == OpCode.GET_DATA:
        client.send(sync(b"/x"))
    xid = client.send(request)
    for _ in range(300):
        ensemble.world.run(10_000)
        client.poll()
        if xid in client.replies:
            return True
    return False


@pytest.mark.parametrize("leader_is_inside", [True, False], ids=["leader_inside", "leader_outside"])
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("direction", ["both", "in", "out"])
def test_th_5_majority_answers_and_minority_refuses(
    size: int, leader_is_inside: bool, direction: str
) -> None:
    """TH-5: 1|4 and 2|3 of five, cut in both directions or in one, with the leader on either side.

    A one-way cut leaves the small group able to hear or to speak; what it answers then must be
    right, and the large group must answer in any case.
    """
    ensemble = started(size, nodes=5)
    leader = ensemble.leader()
    rest = others(ensemble, leader)
    small = ([leader, *rest] if leader_is_inside else rest)[:size]
    large = others(ensemble, *small)
    inside = Client(ensemble, small[0], timeout_ms=4_000).ready()
    outside = Client(ensemble, large[-1], timeout_ms=40_000).ready()
    outside.call(create(b"/x", b"0"))
    for one in small:
        for other in large:
            if direction in ("both", "in"):
                ensemble.network.cut(other, one)
            if direction in ("both", "out"):
                ensemble.network.cut(one, other)
    assert answers(ensemble, outside, set_data(b"/x", b"1"))
    is_read = answers(ensemble, inside, get(OpCode.GET_DATA, b"/x"))
    if direction == "both" or leader_is_inside:
        assert not is_read
        # A node that hears a leader and cannot be heard keeps its clients: it serves local reads.
        assert inside.connection.closed or direction == "out"
    if is_read:
        assert inside.replies[inside.order[-1]].data() == b"1"
    assert answers(ensemble, outside, get(OpCode.GET_DATA, b"/x"))
    assert outside.replies[outside.order[-1]].data() == b"1"
    assert not outside.connection.closed
