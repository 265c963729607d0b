"""Who leads: a node that returns does not disturb, leadership moves on request."""

from __future__ import annotations

import pytest
from ensemble_stories import agree, cut_off, followers, settle, started
from raft_cluster import RaftCluster
from virtual_client import RoamingClient

from quorate.consensus.raft import election
from quorate.consensus.raft.state import RaftState
from quorate.protocol.zookeeper_client import create, set_data

# ---- RA-9 --------------------------------------------------------------------------------------


def isolated_for_long(nodes: int = 3) -> RaftCluster:
    """The last node hears nothing for twenty election timeouts, the others go on, it returns."""
    cluster = RaftCluster(nodes)
    cluster.elect(1)
    cluster.isolate(list(range(1, nodes)), [nodes])
    for number in range(20):
        cluster.propose(1, f"w{number}")
        cluster.run(500, step_ms=20)
    assert cluster.nodes[nodes].state.term == 1, "without anybody to ask its term must not grow"
    cluster.heal()
    cluster.run(3_000, step_ms=20)
    assert cluster.leader() == 1
    assert [node.state.term for node in cluster.nodes.values()] == [1] * nodes
    assert cluster.nodes[nodes].applied == cluster.nodes[1].applied
    return cluster


def half_deaf() -> None:
    """n3 hears nobody but is heard by all, with a log as good as anybody's."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.run(200)
    for _ in range(20):
        cluster.blocked = {(1, 3), (2, 3)}
        cluster.run(1_500, step_ms=20)
        cluster.heal()
        cluster.run(300, step_ms=20)
    assert cluster.leader() == 1
    assert cluster.nodes[1].state.term == 1


def hears_only_a_follower() -> None:
    """n3 is connected with n2 alone, for ever: n2 knows a leader, so n3 must not become one."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.run(200)
    cluster.blocked = {(1, 3), (3, 1)}
    cluster.run(3_000, step_ms=20)
    assert cluster.leader() == 1
    assert cluster.nodes[1].state.term == 1


@pytest.mark.parametrize("nodes", [3, 5])
def test_ra_9_isolated_node_returns_without_deposing_the_leader(nodes: int) -> None:
    """RA-9: pre-vote keeps its term where it was, and on return it just catches up."""
    isolated_for_long(nodes)


@pytest.mark.parametrize("story", [half_deaf, hears_only_a_follower])
def test_ra_9_half_connected_node_does_not_depose_a_leader_that_works(story) -> None:
    """RA-9: voters that hear their leader refuse the pre-vote of a node that does not."""
    story()


def campaign_at_once(state: RaftState) -> None:
    """Mutant: no pre-vote."""
    election.campaign(state, forced=False)


def test_ra_9_engine_without_pre_vote_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """RA-9 can fail: without pre-vote the isolated node's term grows."""
    monkeypatch.setattr(election, "start_pre_vote", campaign_at_once)
    with pytest.raises(AssertionError, match="its term must not grow"):
        isolated_for_long()


@pytest.mark.parametrize("story", [half_deaf, hears_only_a_follower])
def test_ra_9_voters_without_loyalty_are_caught(story, monkeypatch: pytest.MonkeyPatch) -> None:
    """RA-9 can fail: when voters forget their live leader it is deposed."""
    monkeypatch.setattr(election, "has_live_leader", lambda state, candidate: False)
    with pytest.raises(AssertionError):
        story()


@pytest.mark.parametrize("seed", range(4))
def test_ra_9_clients_do_not_notice_a_node_that_returns(seed: int) -> None:
    """RA-9: when a follower returns, the leader stays and no write takes an election timeout."""
    ensemble = started(seed)
    leader, away = ensemble.leader(), followers(ensemble)[0]
    client = RoamingClient(ensemble, leader, 40_000)
    client.ready()
    client.call(create(b"/n"))
    epoch = ensemble.hosts[leader].core.replica.leadership.epoch
    cut_off(ensemble, away)
    ensemble.world.run(10_000_000)
    client.tend()
    ensemble.network.heal()
    slowest_us = 0
    for number in range(200):
        before = ensemble.world.now_us
        assert client.call(set_data(b"/n", b"%d" % number)).error == 0
        slowest_us = max(slowest_us, ensemble.world.now_us - before)
        ensemble.world.run(10_000)
    assert slowest_us < 100_000
    assert client.moves == 0
    assert ensemble.leader() == leader
    assert ensemble.hosts[away].core.replica.leadership.epoch == epoch
    agree(ensemble)


# ---- RA-10 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_ra_10_leadership_moves_on_request_and_no_client_sees_an_error(seed: int) -> None:
    """RA-10: five hand-overs under load; each takes less than an election timeout."""
    ensemble = started(seed, nodes=3 + 2 * (seed % 2))
    settings = ensemble.settings.engine
    clients = [RoamingClient(ensemble, node, 40_000) for node in ensemble.hosts]
    for client in clients:
        client.ready()
        client.call(create(b"/n%d" % client.session_id))
    written = dict.fromkeys(range(len(clients)), 0)
    xids: dict[int, list[int]] = {number: [] for number in written}
    slowest_us = 0
    for _ in range(5):
        for _ in range(20):
            for number, client in enumerate(clients):
                path = b"/n%d" % client.session_id
                request = set_data(path, b"x", version=written[number])
                xids[number].append(client.send(request))
                written[number] += 1
            ensemble.world.run(500)
        old, before_us = ensemble.leader(), ensemble.world.now_us
        ensemble.hosts[old].core.transfer_leadership()
        ensemble.hosts[old].drive()
        ensemble.run_until(lambda old=old: ensemble.leader() not in (0, old))
        slowest_us = max(slowest_us, ensemble.world.now_us - before_us)
    for number, client in enumerate(clients):
        client.wait(xids[number][-1])
        assert client.moves == 0
        assert [client.replies[xid].error for xid in xids[number]] == [0] * len(xids[number])
        assert [xid for xid in client.order if xid in set(xids[number])] == xids[number]
    assert slowest_us < settings.election_timeout_ms * 1_000
    settle(ensemble)
    agree(ensemble)
