"""Whole coordination servers in virtual time: what ZooKeeper clients are promised."""

import struct

import pytest
from virtual_client import Client

from quorate.protocol.jute import encode_buffer
from quorate.protocol.zookeeper import OpCode
from quorate.protocol.zookeeper_client import Part, create, get, set_data
from quorate.simulation.ensemble import SimulatedEnsemble


@pytest.fixture
def ensemble():
    """Three servers with an established leader."""
    return started(11)


def started(seed):
    ensemble = SimulatedEnsemble(seed)
    ensemble.start()
    ensemble.run_until(lambda: ensemble.leader() != 0)
    return ensemble


def sync(path):
    return Part(OpCode.SYNC, encode_buffer(path))


def follower_of(ensemble):
    return next(node for node in ensemble.hosts if node != ensemble.leader())


def test_zk_3_fifo_across_a_leader_crash_without_any_error(ensemble):
    """ZK-3: 1000 pipelined calls through a follower take effect in order over a leader crash."""
    client = Client(ensemble, follower_of(ensemble)).ready()
    client.call(create(b"/n"))
    xids = []
    for i in range(1_000):
        xids.append(client.send(set_data(b"/n", b"%d" % i, version=i)))
        if i % 10 == 0:
            ensemble.world.run(500)
        if i == 500:
            ensemble.crash(ensemble.leader())
    client.wait(xids[-1])
    assert [xid for xid in client.order if xid in set(xids)] == xids
    assert {client.replies[xid].error for xid in xids} == {0}
    zxids = [client.replies[xid].zxid for xid in xids]
    assert zxids == sorted(set(zxids))


def test_leader_crash_costs_milliseconds():
    """A client on a surviving node waits well under an election timeout when hints arrive."""
    gaps = []
    for seed in range(20):
        ensemble = started(seed)
        client = Client(ensemble, follower_of(ensemble)).ready()
        client.call(create(b"/n"))
        ensemble.crash(ensemble.leader())
        before = ensemble.world.now_us
        assert client.call(set_data(b"/n", b"x")).error == 0
        gaps.append((ensemble.world.now_us - before) / 1_000)
    assert sorted(gaps)[10] < 100, gaps


def test_zk_5_client_that_is_ahead_is_refused(ensemble):
    """ZK-5: a node behind the client's last zxid closes without an answer."""
    client = Client(ensemble, follower_of(ensemble)).ready()
    client.last_zxid = 1 << 40
    client.attach(follower_of(ensemble))
    ensemble.run_until(lambda: client.connection.closed)
    assert not client.connection.received


def test_zk_6_session_moves_and_ephemerals_vanish_once_at_expiry(ensemble):
    """ZK-6: a session survives a move to another node; its ephemerals go when it expires."""
    leader = ensemble.leader()
    follower = follower_of(ensemble)
    client = Client(ensemble, follower, timeout_ms=4_000).ready()
    other = Client(ensemble, leader, timeout_ms=40_000).ready()
    client.call(create(b"/e", flags=1))
    session = client.session_id
    client.attach(leader)
    client.ready()
    assert client.session_id == session
    assert client.call(get(OpCode.GET_DATA, b"/e")).error == 0
    ensemble.close(client.connection)
    ensemble.world.run(3_000_000)
    assert other.call(get(OpCode.EXISTS, b"/e")).error == 0
    other.call(get(OpCode.EXISTS, b"/e", watch=True))
    ensemble.world.run(5_000_000)
    assert other.call(get(OpCode.EXISTS, b"/e")).error == -101
    assert len(other.events) == 1
    kind, state = struct.unpack_from(">ii", other.events[0])
    assert (kind, state) == (2, 3)


def test_zk_7_event_comes_before_the_new_value_can_be_read(ensemble):
    """ZK-7: the watch event is on the connection before a reply that shows the change."""
    writer = Client(ensemble, ensemble.leader()).ready()
    reader = Client(ensemble, follower_of(ensemble)).ready()
    writer.call(create(b"/w", b"old"))
    reader.call(sync(b"/w"))
    reader.call(get(OpCode.GET_DATA, b"/w", watch=True))
    writer.call(set_data(b"/w", b"new"))
    reader.call(sync(b"/w"))
    xid = reader.send(get(OpCode.GET_DATA, b"/w"))
    reply = reader.wait(xid)
    assert reply.error == 0
    assert reply.data() == b"new"
    assert reader.order.index("event") < reader.order.index(xid)


def test_zk_2_sync_then_read_sees_every_earlier_write(ensemble):
    """ZK-2: sync + read through a follower is linearizable, whatever the follower's lag."""
    writer = Client(ensemble, ensemble.leader()).ready()
    reader = Client(ensemble, follower_of(ensemble)).ready()
    writer.call(create(b"/l"))
    for i in range(50):
        writer.call(set_data(b"/l", b"%d" % i))
        reader.send(sync(b"/l"))
        assert reader.call(get(OpCode.GET_DATA, b"/l")).data() == b"%d" % i


def test_minority_lets_its_clients_go(ensemble):
    """TH-5: a node without a leader stops serving, so that its clients move."""
    leader = ensemble.leader()
    client = Client(ensemble, leader).ready()
    others = [node for node in ensemble.hosts if node != leader]
    ensemble.network.partition([leader], others)
    ensemble.run_until(lambda: client.connection.closed, 30_000_000)
    assert ensemble.leader() in others


def test_whole_ensemble_restarts_with_everything(ensemble):
    """ZK-10: after all nodes crash, what was acknowledged is there again."""
    client = Client(ensemble, ensemble.leader()).ready()
    for i in range(40):
        assert client.call(create(b"/r%d" % i, b"x" * i)).error == 0
    for node in ensemble.hosts:
        ensemble.crash(node)
    for node in ensemble.hosts:
        ensemble.restart(node)
    ensemble.run_until(lambda: ensemble.leader() != 0)
    client = Client(ensemble, ensemble.leader()).ready()
    for i in range(40):
        reply = client.call(get(OpCode.GET_DATA, b"/r%d" % i))
        assert reply.error == 0
        assert reply.data() == b"x" * i
