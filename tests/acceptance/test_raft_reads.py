"""RA-8: a linearizable read is never stale, and a leader that was cut off answers none.

ReadIndex (dissertation §6.4), which needs no clocks. Reads by lease and their drift bound have a
file of their own, ``test_raft_leases.py``.
"""

from __future__ import annotations

import pytest
from ensemble_stories import cut_off, others, started, stop_the_clock
from raft_cluster import Letter, RaftCluster
from virtual_client import Client, sync

from quorate.consensus.engine import Received, Tick
from quorate.consensus.raft import reads
from quorate.consensus.raft.messages import Append, HeartbeatReply, ReadReply
from quorate.protocol.zookeeper import OpCode
from quorate.protocol.zookeeper_client import create, get, set_data

# ---- the three steps ---------------------------------------------------------------------------


def test_ra_8_leader_reads_nothing_before_an_entry_of_its_own_term_is_committed() -> None:
    """RA-8: a new leader, whom a majority follows, still cannot know what is committed."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.propose(1, "a")
    cluster.settle()
    cluster.crash(1)
    cluster.drop_if = lambda letter: isinstance(letter.message, Append)
    for node in (2, 3):
        cluster.nodes[node].state.is_leader_gone = True
    cluster.campaign(2)
    cluster.settle()
    assert cluster.nodes[2].state.leader == 2
    cluster.read(2, "early")
    cluster.run(200)
    assert cluster.nodes[2].state.rounds[3] > 0, "the majority follows, and says so"
    assert cluster.reads_done == {}
    cluster.drop_if = lambda _: False
    cluster.run(200)
    assert cluster.reads_done["early"] >= 3


def test_ra_8_only_a_round_that_began_after_the_request_confirms_it() -> None:
    """RA-8: an echo that was under way when the read was asked proves nothing about now."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.advance(100, only=[1])
    held = []
    while cluster.network:
        if isinstance(cluster.network[0].message, HeartbeatReply):
            held.append(cluster.network.pop(0))
        else:
            cluster.deliver_one()
    assert held, "echoes of the round before the read"
    cluster.isolate([1], [2, 3])
    cluster.read(1, "r")
    cluster.heal()
    for letter in held:
        cluster.step(1, Received(letter.sender, letter.message))
    assert cluster.reads_done == {}
    cluster.run(200)
    assert "r" in cluster.reads_done


def test_ra_8_answer_that_was_held_up_over_a_change_of_leader_is_as_of_the_asking() -> None:
    """RA-8: paused between check and reply, a leader answers no read that was asked later."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.propose(1, "a")
    cluster.settle()
    held: list[Letter] = []

    def hold(letter: Letter) -> bool:
        is_reply = isinstance(letter.message, ReadReply)
        held.extend([letter] if is_reply else [])
        return is_reply

    cluster.drop_if = hold
    cluster.read(3, "before the pause")
    asked_at = cluster.reads["before the pause"][1]
    cluster.settle()
    (answer,) = held
    cluster.drop_if = lambda _: False
    cluster.isolate([1], [2, 3])  # n1 checked, and is paused with its answer
    for node in (2, 3):
        cluster.nodes[node].state.is_leader_gone = True
    cluster.campaign(2)
    cluster.settle()
    cluster.propose(2, "b")
    cluster.settle()
    cluster.read(3, "during the pause")
    cluster.step(3, Received(1, answer.message))
    cluster.settle()
    assert cluster.reads_done["during the pause"] > asked_at
    assert cluster.reads_done.get("before the pause", asked_at) >= asked_at


def test_ra_8_leader_that_wakes_up_deposed_answers_no_read() -> None:
    """RA-8: asked first thing after a pause, before it hears anything, it answers nothing."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.isolate([1], [2, 3])
    cluster.advance(1_200, only=[2, 3])
    cluster.settle()
    for _ in range(100):
        if cluster.leader() in (2, 3):
            break
        cluster.advance(20, only=[2, 3])
        cluster.settle()
    cluster.propose(cluster.leader(), "newer")
    cluster.settle()
    cluster.read(1, "first thing")  # its clock stood still: it believes that it leads
    assert cluster.nodes[1].leadership.established
    cluster.step(1, Tick(cluster.now_ms))
    cluster.run(100)
    assert cluster.reads_done == {}
    cluster.heal()
    cluster.run(1_500)
    assert cluster.reads_done.get("first thing", 99) >= cluster.nodes[2].state.commit_index - 1


# ---- as clients see it -------------------------------------------------------------------------


def read_from_a_leader_that_is_cut_off(seed: int) -> tuple[int, int]:
    """One client reads (sync, get) through the old leader, one writes on the other side.

    On some seeds the old leader's clock stands still from the cut on, so that it never notices;
    on some its process is paused there, also between check and reply, and wakes up deposed.

    Returns:
        How many reads were answered, and how many of them were asked after the cut.
    """
    ensemble = started(seed, nodes=3 + 2 * (seed % 2))
    leader = ensemble.leader()
    reader = Client(ensemble, leader, timeout_ms=40_000).ready()
    writer = Client(ensemble, others(ensemble, leader)[0], timeout_ms=40_000).ready()
    writer.call(create(b"/r", b"0"))
    acknowledged, value, xid = 0, 0, None
    floor: dict[int, tuple[int, bool]] = {}  # read -> (what was acknowledged when asked, late)
    cut_at = 40 + ensemble.world.draw(40)
    for step in range(600):
        ensemble.world.run(5_000)
        if step == cut_at:
            cut_off(ensemble, leader)
            if seed % 3 == 1:
                stop_the_clock(ensemble, leader)
            elif seed % 3 == 2:
                ensemble.cluster.pause(leader)
        if step == cut_at + 400:
            ensemble.cluster.resume(leader)
        reader.poll()
        writer.poll()
        if xid in writer.replies:
            assert writer.replies[xid].error == 0
            acknowledged, xid = value, None
        if xid is None:
            value += 1
            xid = writer.send(set_data(b"/r", b"%d" % value))
        if not reader.connection.closed and len(floor) - len(reader.replies) < 20:
            reader.send(sync(b"/r"))
            floor[reader.send(get(OpCode.GET_DATA, b"/r"))] = (acknowledged, step >= cut_at)
    assert acknowledged > 50
    answered = [read for read in floor if read in reader.replies]
    for read in answered:
        seen = int(reader.replies[read].data() or b"")
        assert seen >= floor[read][0], f"stale: {seen}, {floor[read][0]} was acknowledged before"
    return len(answered), sum(floor[read][1] for read in answered)


@pytest.mark.parametrize("seed", range(8))
def test_ra_8_clients_of_a_leader_that_is_cut_off_never_read_the_past(seed: int) -> None:
    """RA-8: reads are answered with what was acknowledged before, or not at all."""
    answered, late = read_from_a_leader_that_is_cut_off(seed)
    assert answered > 10
    assert late == 0


def test_ra_8_leader_that_asks_nobody_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """RA-8 can fail: without the round the old leader answers from the past."""
    monkeypatch.setattr(reads, "confirmed_round", lambda state: state.round)
    with pytest.raises(AssertionError, match="stale"):
        for seed in range(8):
            read_from_a_leader_that_is_cut_off(seed)
