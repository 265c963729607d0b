"""What strangers may cost (faults: bad input, floods, slow readers, half-open connections)."""

from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.errors import SettingsError
from quorate.protocol.four_letter import ServerInfo
from quorate.tree.service import ServiceSettings


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        pack(">i", -1),
        pack(">i", 0),
        pack(">i", 2**31 - 1),
        pack(">i", 44) + bytes(3) + b"\1" + bytes(40),
        pack(">i", 44) + bytes(24) + pack(">i", -7) + bytes(16),
    ],
)
def test_a_garbage_handshake_ends_only_its_connection(cluster, frames, garbage):
    """No answer, a closed connection, and the neighbours notice nothing."""
    other = cluster.connected()
    client = cluster.client()
    client.send(garbage)
    cluster.run()
    assert client.closed
    assert client.received == b""
    assert [r.error for r in other.ask(frames.create(1, b"/a"))] == [0]


@pytest.mark.parametrize("length", [-1, 0, 7, 0xFFFFF + 1, 2**31 - 1])
def test_a_bad_length_ends_the_connection_before_anything_is_kept(cluster, frames, length):
    """Frames before the bad one are still taken; its own bytes never are."""
    client = cluster.connected()
    client.send(frames.create(1, b"/a") + pack(">i", length) + b"x" * 100)
    cluster.run()
    assert client.closed
    assert b"/a" in cluster.service().tree.znodes


def test_check_outside_a_multi_ends_the_connection(cluster, frames):
    """As ZooKeeper 3.8 does."""
    client = cluster.connected()
    client.ask(frames.on_watches(1, 13, b"/", 0))
    assert client.closed


def test_a_half_open_connection_is_closed(make_cluster, frames):
    """Without a handshake the connection ends in time; with one it stays."""
    cluster = make_cluster(handshake_timeout_ms=1_000)
    slow, good = cluster.client(), cluster.connected(timeout_ms=10_000)
    slow.send(frames.connect()[:20])
    cluster.pass_ms(900)
    assert not slow.closed
    cluster.pass_ms(200)
    assert slow.closed
    assert not good.closed


def test_connections_are_bounded_in_all_and_per_address(make_cluster, frames):
    """One too many is closed at once and costs nothing; a freed place is given again."""
    cluster = make_cluster(connections_max=3, connections_per_address_max=2)
    first, second = cluster.client(address="a"), cluster.client(address="a")
    third = cluster.client(address="a")
    other, one_more = cluster.client(address="b"), cluster.client(address="c")
    cluster.flush()
    assert [c.closed for c in (first, second, third, other, one_more)] == [
        False,
        False,
        True,
        False,
        True,
    ]
    first.hang_up()
    again = cluster.client(address="a")
    cluster.flush()
    assert not again.closed
    assert cluster.service().statistics().connections_refused == 2


def test_a_flood_of_writes_is_paused_and_resumed(make_cluster, frames):
    """Reading stops at the bound of outstanding bytes and goes on when they are applied."""
    cluster = make_cluster(connection_outstanding_bytes_max=2_000, frame_bytes_max=1_000)
    client = cluster.connected()
    client.ask(frames.create(0, b"/a"))
    for xid in range(1, 6):
        client.send(frames.set(xid, b"/a", b"x" * 500))
    cluster.flush()
    assert client.paused
    cluster.run()
    assert not client.paused
    assert [r.xid for r in client.replies()] == [1, 2, 3, 4, 5]


def test_everybody_is_paused_when_the_whole_service_has_too_much(make_cluster, frames):
    """The bound over all connections pauses those who go on sending."""
    cluster = make_cluster(outstanding_bytes_max=1_000)
    clients = [cluster.connected() for _ in range(4)]
    for client in clients:
        client.send(frames.set(1, b"/zookeeper", b"x" * 400))
    cluster.flush()
    assert [client.paused for client in clients] == [False, False, True, True]
    cluster.run()
    assert not any(client.paused for client in clients)


def test_reads_of_much_data_do_not_fill_the_memory(make_cluster, frames):
    """Output of one turn stays near its bound; everything is answered in the end."""
    cluster = make_cluster(output_bytes_max=10_000)
    client = cluster.connected()
    client.ask(frames.create(0, b"/big", b"x" * 4_000))
    client.send(b"".join(frames.get(xid, b"/big") for xid in range(1, 101)))
    largest = 0
    answers = []
    cluster.flush()
    while client.received:
        largest = max(largest, len(client.received))
        answers += client.replies()
        assert cluster.service().wants_turn or len(answers) == 100
        cluster.flush()
    assert [reply.xid for reply in answers] == list(range(1, 101))
    assert all(len(reply.data) == 4_000 for reply in answers)
    assert largest < 20_000
    assert not cluster.service().wants_turn


def test_a_client_that_does_not_read_is_not_served_more(make_cluster, frames):
    """While the driver says congested, reads wait and reading is paused."""
    cluster = make_cluster()
    client = cluster.connected()
    service = cluster.service()
    service.client_congested(client.number, True)
    cluster.flush()
    assert client.paused
    client.send(frames.get(1, b"/zookeeper"))
    cluster.run()
    assert client.replies() == []
    service.client_congested(client.number, False)
    cluster.flush()
    assert not client.paused
    assert [r.xid for r in client.replies()] == [1]


def test_batches_are_cut_at_runs(make_cluster, frames):
    """A turn's requests leave in payloads of bounded size, in order."""
    cluster = make_cluster(batch_bytes_max=1_000)
    client = cluster.connected()
    client.ask(frames.create(0, b"/a"))
    for xid in range(1, 20):
        client.send(frames.set(xid, b"/a", b"x" * 300))
    cluster.gather()
    assert len(cluster.log) > 5
    assert all(len(payload) <= 1_000 for _, payload in cluster.log)
    cluster.run()
    assert [r.xid for r in client.replies()] == list(range(1, 20))


def test_a_connection_that_dies_leaves_nothing_behind(cluster, frames):
    """Writes under way are applied without replies; no table knows the client any more."""
    client = cluster.connected()
    client.send(frames.create(1, b"/a") + frames.sync(2) + frames.get(3, b"/a"))
    cluster.gather()
    client.hang_up()
    cluster.run()
    service = cluster.service()
    assert b"/a" in service.tree.znodes
    assert client.received == b""
    assert not (service._clients or service._barriers or service._by_address or service._paused)
    assert service.statistics().outstanding_bytes == 0


FRAME_LIKE = st.builds(
    lambda length, xid, opcode, body: pack(">iii", length, xid, opcode) + body,
    st.integers(-3, 60) | st.sampled_from([2**31 - 1, -(2**31), 0xFFFFF]),
    st.integers(-10, 10),
    st.integers(-12, 25) | st.integers(99, 108),
    st.binary(max_size=60),
)


@settings(max_examples=150, deadline=None)
@given(
    chunks=st.lists(st.binary(max_size=80) | FRAME_LIKE, max_size=12),
    opening=st.sampled_from(["none", "handshake", "cut"]),
)
def test_random_bytes_disturb_nobody_else(make_cluster, frames, chunks, opening):
    """Whatever one connection sends, nothing raises, memory is bounded, others are served."""
    cluster = make_cluster()
    other = cluster.connected()
    other.ask(frames.get(1, b"/zookeeper", watch=True))
    client = cluster.client()
    if opening != "none":
        handshake = frames.connect()
        client.send(handshake if opening == "handshake" else handshake[:-3])
        cluster.run()
    for chunk in chunks:
        client.send(chunk)
        cluster.run(1)
    service = cluster.service()
    state = service._clients.get(client.number)
    if state is not None:
        assert state.bytes_in.held_bytes < 4 + 0xFFFFF
    assert [(r.xid, r.error) for r in other.ask(frames.create(2, b"/ok"))] == [(2, 0)]
    assert not other.closed
    client.hang_up()
    assert len(service.watches) == 1


@settings(max_examples=100, deadline=None)
@given(
    opcode=st.sampled_from([*range(1, 10), 11, 12, *range(14, 23), *range(100, 108), -11, 500]),
    body=st.binary(max_size=60),
)
def test_any_opcode_with_any_body_is_answered_or_closed(make_cluster, frames, opcode, body):
    """No request is lost: a reply with its xid, or the end of the connection."""
    cluster = make_cluster()
    client = cluster.connected()
    replies = [r for r in client.ask(frames.request(7, opcode, body)) if r.xid != -1]
    assert client.closed or [reply.xid for reply in replies] in ([7], [-4])


def test_impossible_settings_are_refused_with_a_reason():
    """Settings that contradict each other name what to change."""
    with pytest.raises(SettingsError, match="session timeouts"):
        ServiceSettings(session_timeout_min_ms=5, session_timeout_max_ms=4)
    with pytest.raises(SettingsError, match="frame_bytes_max"):
        ServiceSettings(connection_outstanding_bytes_max=10)
    with pytest.raises(SettingsError, match="super_digest"):
        ServiceSettings(super_digest="boss")


def test_words_are_answered_and_hung_up(cluster, frames):
    """A word in one piece or byte by byte, with or without a line end."""
    service = cluster.service()
    service.info = lambda: ServerInfo(mode="follower", node_id=1)
    cluster.connected()
    for pieces in ([b"ruok"], [b"r", b"u", b"o", b"k"], [b"ruok\n"]):
        client = cluster.client()
        for piece in pieces:
            client.send(piece)
        cluster.flush()
        assert (client.received, client.closed) == (b"imok", True)
    client = cluster.client()
    client.send(b"stat")
    cluster.flush()
    assert b"Mode: follower\n" in client.received
    assert b"\n /10.0.0.1[1](queued=0)\n" in client.received
