"""What sessions die of: silence that the leader of the day heard, and nothing else."""

import pytest
from virtual_client import Client

from quorate.protocol.zookeeper import OpCode, Xid, encode_request
from quorate.protocol.zookeeper_client import create
from quorate.simulation.ensemble import SimulatedEnsemble

PING = encode_request(Xid.PING, OpCode.PING)
SECOND = 1_000_000


@pytest.fixture
def ensemble():
    """Three nodes with an established leader."""
    ensemble = SimulatedEnsemble(5)
    ensemble.start()
    ensemble.run_until(lambda: ensemble.leader() != 0)
    return ensemble


def stay_alive(ensemble, client, seconds):
    """Let time pass while the client pings, as a client does."""
    for _ in range(seconds):
        ensemble.send(client.connection, PING)
        ensemble.world.run(SECOND)


def lives(ensemble, client):
    node = client.connection.node_id
    return (
        not client.connection.closed
        and client.session_id in ensemble.hosts[node].core.service.tree.sessions
    )


def test_leader_that_stood_still_ends_no_session_of_its_successor_zk_6(ensemble):
    """ZK-6: a leader is paused and replaced; when it goes on it takes no living session along."""
    leader = ensemble.leader()
    follower = next(node for node in ensemble.hosts if node != leader)
    client = Client(ensemble, follower, timeout_ms=4_000).ready()
    stay_alive(ensemble, client, 2)
    ensemble.hosts[leader].pause()
    ensemble.network.isolate(leader)
    stay_alive(ensemble, client, 8)
    others = [host for node, host in ensemble.hosts.items() if node != leader]
    assert any(host.core.replica.leadership.established for host in others)
    ensemble.hosts[leader].resume()  # and knows of nothing yet
    ensemble.world.run(20_000)
    ensemble.network.heal()
    stay_alive(ensemble, client, 5)
    assert lives(ensemble, client)


def test_nodes_that_all_stood_still_do_not_count_that_time_zk_6(ensemble):
    """ZK-6: a suspended machine goes on with the sessions it had: nobody could have been heard."""
    client = Client(ensemble, ensemble.leader(), timeout_ms=4_000).ready()
    stay_alive(ensemble, client, 2)
    for host in ensemble.hosts.values():
        host.pause()
    ensemble.world.run(20 * SECOND)
    for host in ensemble.hosts.values():
        host.resume()
    stay_alive(ensemble, client, 5)
    assert lives(ensemble, client)


def test_a_silent_session_still_expires_in_time_zk_6(ensemble):
    """ZK-6: a leader that hiccups all the time still ends silent sessions."""
    leader = ensemble.leader()
    client = Client(ensemble, leader, timeout_ms=4_000).ready()
    host = ensemble.hosts[leader]
    for _ in range(90):
        ensemble.world.run(40_000)
        host.pause()
        ensemble.world.run(60_000)
        host.resume()
    assert not lives(ensemble, client)


@pytest.mark.parametrize("jump_ms", [-3_600_000, 3_600_000])
def test_wall_clock_jumps_end_no_session_zk_6(ensemble, jump_ms):
    """ZK-6: whichever node's wall clock is set, sessions live by the leader's monotonic clock."""
    client = Client(ensemble, ensemble.leader(), timeout_ms=4_000).ready()
    for host in ensemble.hosts.values():
        host.clock.jump(jump_ms)
        stay_alive(ensemble, client, 3)
    assert lives(ensemble, client)


def test_a_proposal_of_an_earlier_leadership_ends_no_session_zk_6(ensemble, monkeypatch):
    """ZK-6: an expiry that travels on to the next leader does nothing, whatever the clocks say."""
    leader = ensemble.leader()
    others = [node for node in ensemble.hosts if node != leader]
    client = Client(ensemble, others[0], timeout_ms=4_000).ready()
    ensemble.hosts[leader].clock.jump(3_600_000)  # the log's time runs an hour ahead
    ensemble.world.run(50_000)
    client.call(create(b"/n"))
    service = ensemble.hosts[leader].core.service
    ensemble.network.partition([leader], others)
    session = service.tree.sessions[client.session_id]
    monkeypatch.setattr(service._keeper._clock, "silent", lambda _: [session.session_id])
    ensemble.world.run(30_000)  # it finds the session silent, and cannot say so to anybody
    monkeypatch.undo()
    stay_alive(ensemble, client, 8)
    ensemble.network.heal()
    stay_alive(ensemble, client, 5)
    assert lives(ensemble, client)
