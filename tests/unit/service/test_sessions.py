"""Sessions: handshake, resume, move, expiry (acceptance ZK-5, ZK-6)."""

from struct import unpack_from

import pytest

from quorate.errors import RemoteProtocolError
from quorate.tree.batch import Expire, Held, encode_run


@pytest.mark.parametrize(("read_only", "size"), [(True, 41), (False, 40)])
def test_the_answer_has_the_form_of_the_handshake(cluster, read_only, size):
    """45 bytes are answered by 37, 44 by 36 (and a length prefix each)."""
    answer = cluster.client().connect(read_only=read_only)
    assert len(answer) == size
    assert unpack_from(">i", answer) == (size - 4,)


@pytest.mark.parametrize(
    ("wanted", "granted"), [(0, 4000), (-5, 4000), (10_000, 10_000), (2**31 - 1, 40_000)]
)
def test_the_timeout_is_clamped(cluster, wanted, granted):
    """The granted session timeout lies between the bounds of the settings."""
    client = cluster.client()
    client.connect(timeout_ms=wanted)
    assert client.timeout_ms == granted


def test_a_client_that_has_seen_more_is_closed_without_an_answer_zk_5(cluster, frames):
    """A node behind the client's last zxid does not serve it."""
    client = cluster.client()
    assert client.connect(zxid=cluster.service().tree.zxid + 1) == b""
    assert client.closed


@pytest.mark.parametrize("session_id", [77, 2**62, -1, 1])
def test_an_unknown_session_is_refused_with_zeros(cluster, session_id):
    """Id 0, timeout 0 and a password of zeros, and then the connection is closed."""
    cluster.service().tree._state.zxid = 5
    client = cluster.client()
    answer = client.connect(session_id=session_id, password=b"p" * 16)
    assert answer[4:] == bytes(12) + bytes(4) + b"\0\0\0\x10" + bytes(17)
    assert client.closed


def test_a_wrong_password_gets_nothing_and_disturbs_nobody(cluster, frames):
    """The session and its present connection survive somebody else's guess."""
    client = cluster.connected()
    thief = cluster.client()
    thief.connect(session_id=client.session_id, password=b"x" * 16)
    assert (thief.session_id, thief.closed) == (0, True)
    assert not client.closed
    assert [r.error for r in client.ask(frames.create(1, b"/a"))] == [0]


def test_a_resumed_session_keeps_its_ephemerals_zk_6(cluster, frames):
    """A session survives its connection; a new connection has the same id and password."""
    client = cluster.connected()
    client.ask(frames.create(1, b"/e", flags=1))
    client.hang_up()
    again = cluster.client()
    again.connect(session_id=client.session_id, password=client.password)
    assert again.session_id == client.session_id
    assert again.password == client.password
    assert [r.error for r in again.ask(frames.exists(1, b"/e"))] == [0]


@pytest.mark.parametrize("other_node", [1, 2])
def test_a_session_that_moves_closes_its_older_connection_zk_6(make_cluster, frames, other_node):
    """The newest attachment wins, on the same node and on another."""
    cluster = make_cluster(nodes=2)
    client = cluster.connected(node=1)
    again = cluster.client(node=other_node)
    again.connect(session_id=client.session_id, password=client.password)
    assert client.closed
    assert not again.closed


def test_a_delayed_write_of_the_older_connection_is_refused(make_cluster, frames):
    """What the old connection sent is ordered behind the move and changes nothing."""
    cluster = make_cluster(nodes=2)
    client = cluster.connected(node=1)
    again = cluster.client(node=2)
    again.send(frames.connect(client.session_id, client.password))
    cluster.gather()
    client.send(frames.create(1, b"/late"))
    cluster.run()
    assert client.closed
    assert client.replies() == []  # closed before the write came back
    assert b"/late" not in cluster.service(1).tree.znodes
    assert cluster.service(1).digest() == cluster.service(2).digest()


def test_close_session_is_answered_and_then_hung_up(cluster, frames):
    """closeSession removes ephemerals in its own transaction, and nothing behind it is served."""
    client = cluster.connected()
    other = cluster.connected()
    replies = client.ask(
        frames.create(1, b"/e", flags=1) + frames.close(2) + frames.create(3, b"/never")
    )
    assert [(r.xid, r.error) for r in replies] == [(1, 0), (2, 0)]
    assert client.closed
    assert [r.error for r in other.ask(frames.exists(1, b"/e") + frames.exists(2, b"/never"))] == [
        -101,
        -101,
    ]


def test_a_silent_session_expires_between_one_and_one_and_a_half_timeouts_zk_6(
    make_cluster, frames
):
    """Measured from the last sign of life on a follower, and not before."""
    cluster = make_cluster(nodes=2)
    cluster.service(1).set_leading(True, cluster.now_ms)
    watcher = cluster.connected(node=1, timeout_ms=40_000)
    client = cluster.connected(node=2, timeout_ms=4_000)
    client.ask(frames.create(1, b"/e", flags=1))
    watcher.ask(frames.exists(1, b"/e", watch=True))
    cluster.pass_ms(3_000)
    client.ask(frames.ping())
    cluster.pass_ms(4_000)
    assert watcher.replies() == []
    assert not client.closed
    cluster.pass_ms(2_000)
    assert [r.event for r in watcher.replies()] == [(2, b"/e")]
    assert client.closed
    assert cluster.service(1).statistics().expired == 1


def test_pings_to_a_follower_keep_a_session_alive_zk_6(make_cluster, frames):
    """Notices carry signs of life to the leader."""
    cluster = make_cluster(nodes=2)
    cluster.service(1).set_leading(True, cluster.now_ms)
    client = cluster.connected(node=2, timeout_ms=4_000)
    for _ in range(10):
        cluster.pass_ms(2_000)
        assert [r.xid for r in client.ask(frames.ping())] == [-2]
    assert not client.closed


def test_without_notices_the_session_expires(make_cluster, frames):
    """Negative of the test before: pings that nobody tells the leader of keep nothing alive."""
    cluster = make_cluster(nodes=2)
    cluster.service(1).set_leading(True, cluster.now_ms)
    client = cluster.connected(node=2, timeout_ms=4_000)
    for _ in range(4):
        cluster.pass_ms(1_500, leader=2)  # sent to somebody who does not lead
        client.ask(frames.ping())
    assert client.closed


def test_a_new_leader_gives_every_session_a_fresh_timeout(make_cluster):
    """Silence before its time does not count."""
    cluster = make_cluster(nodes=2)
    cluster.service(1).set_leading(True, cluster.now_ms)
    client = cluster.connected(node=2, timeout_ms=4_000)
    cluster.pass_ms(4_000)
    cluster.service(1).set_leading(False, cluster.now_ms)
    cluster.service(2).set_leading(True, cluster.now_ms)
    cluster.pass_ms(4_000, leader=2)
    assert client.session_id in cluster.service(1).tree.sessions
    cluster.pass_ms(2_000, leader=2)
    assert client.session_id not in cluster.service(1).tree.sessions


def propose_expiry(cluster, client, connection=None, as_of_ms=None):
    connection = client.number if connection is None else connection
    as_of_ms = cluster.wall_ms if as_of_ms is None else as_of_ms
    run = Expire(as_of_ms, (Held(client.session_id, client.node, 1, connection),))
    cluster.log.append((1, encode_run(run)))
    cluster.run()


def test_an_expiry_that_crosses_a_new_attachment_does_nothing(cluster):
    """A session that came back before its end was ordered lives on."""
    client = cluster.connected()
    propose_expiry(cluster, client, connection=client.number + 1000)
    assert not client.closed
    propose_expiry(cluster, client)
    assert client.closed


def test_an_expiry_that_comes_late_does_nothing(cluster):
    """A deposed leader's proposal that is ordered much later proves nothing any more."""
    client = cluster.connected(timeout_ms=10_000)
    propose_expiry(cluster, client, as_of_ms=cluster.wall_ms - 5_001)
    assert not client.closed
    propose_expiry(cluster, client, as_of_ms=cluster.wall_ms - 5_000)
    assert client.closed


def test_a_leader_without_knowledge_of_the_logs_time_expires_all_the_same(make_cluster):
    """A first proposal may be judged late; the leader asks again and is then right."""
    cluster = make_cluster()
    client = cluster.connected(timeout_ms=4_000)
    service = cluster.service()
    service.set_leading(True, cluster.now_ms)
    service._keeper.log_time(0)
    cluster.pass_ms(8_000)
    assert client.closed


def test_garbage_notices_are_refused(cluster):
    """A notice that is no list of ids is an error of the peer."""
    with pytest.raises(RemoteProtocolError):
        cluster.service().receive_notice(2, b"abc", 0)


def test_clients_are_let_go_in_time_when_nobody_leads(make_cluster, frames):
    """A node that is cut off lets its clients go after a third of their timeouts."""
    cluster = make_cluster()
    impatient = cluster.connected(timeout_ms=6_000)
    patient = cluster.connected(timeout_ms=30_000)
    cluster.service().set_serving(False, cluster.now_ms)
    cluster.pass_ms(1_900)
    assert not impatient.closed
    cluster.pass_ms(200)
    assert impatient.closed
    assert not patient.closed
    cluster.service().set_serving(True, cluster.now_ms)
    cluster.pass_ms(20_000)
    assert not patient.closed


def test_handshakes_do_not_pile_up_while_nobody_leads(make_cluster, frames):
    """TH-5: a node cut off for long lets clients go at once, and queues nothing for the log."""
    cluster = make_cluster()
    service = cluster.service()
    service.set_serving(False, cluster.now_ms)
    early = cluster.client()
    early.send(frames.connect(timeout_ms=6_000))
    assert service.take_batch() is not None
    cluster.pass_ms(2_100)
    for _ in range(100):
        client = cluster.client()
        client.send(frames.connect(timeout_ms=6_000))
        cluster.flush()
        assert client.closed
    assert service.take_batch() is None


def test_a_restored_service_lets_its_clients_go(make_cluster, frames):
    """After a snapshot is installed, clients reconnect: they may have missed events."""
    cluster = make_cluster(nodes=2)
    client = cluster.connected(node=1)
    client.ask(frames.create(1, b"/a", b"1"))
    chunks = list(cluster.service(1).snapshot())
    cluster.service(1).restore(chunks)
    cluster.flush()
    assert client.closed
    assert cluster.service(1).digest() == cluster.service(2).digest()
    again = cluster.client(node=1)
    again.connect(session_id=client.session_id, password=client.password)
    assert again.session_id == client.session_id


def test_containers_that_had_children_are_reaped(make_cluster, frames):
    """The leader removes an empty container about once a minute."""
    cluster = make_cluster()
    cluster.service().set_leading(True, cluster.now_ms)
    client = cluster.connected(timeout_ms=40_000)
    client.ask(
        frames.create(1, b"/c", flags=4) + frames.create(2, b"/c/x") + frames.delete(3, b"/c/x")
    )
    for _ in range(4):
        cluster.pass_ms(16_000, step_ms=500)
        client.ask(frames.ping())
    assert [r.error for r in client.ask(frames.exists(4, b"/c"))] == [-101]
