"""The order of one client's requests (acceptance ZK-3, ZK-4)."""

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.tree import client as client_module
from quorate.tree.client import READS_AHEAD_MAX, Client


def xids(replies):
    return [reply.xid for reply in replies]


def test_a_read_between_two_writes_sees_exactly_the_first_zk_3(cluster, frames):
    """A read pipelined between two writes sees the first write and not the second."""
    client = cluster.connected()
    replies = client.ask(
        frames.create(1, b"/a", b"0")
        + frames.set(2, b"/a", b"1")
        + frames.get(3, b"/a")
        + frames.set(4, b"/a", b"2")
        + frames.get(5, b"/a")
    )
    assert xids(replies) == [1, 2, 3, 4, 5]
    assert replies[2].data == b"1"
    assert replies[4].data == b"2"


def test_the_order_test_can_fail_zk_3(cluster, frames, monkeypatch):
    """Mutant: a service that applies the next run before the reads due gives the wrong data."""

    def lazy_begin_apply(self, desk):
        for position, request in enumerate(self.pending):
            if request[0] is client_module.Due.APPLY:
                del self.pending[position]
                return request
        raise AssertionError

    monkeypatch.setattr(Client, "begin_apply", lazy_begin_apply)
    monkeypatch.setattr(Client, "advance", lambda self, desk: None)
    client = cluster.client()
    client.send(frames.connect())
    cluster.run()
    client.send(frames.set(1, b"/zookeeper", b"1") + frames.get(2, b"/zookeeper"))
    client.send(frames.set(3, b"/zookeeper", b"2"))
    cluster.run()
    monkeypatch.undo()
    service = cluster.service()
    service._clients[client.number].advance(service)
    cluster.flush()
    client.received = client.received[41:]  # the handshake's answer
    replies = client.replies()
    assert xids(replies) != [1, 2, 3]
    assert [reply.data for reply in replies if reply.xid == 2] == [b"2"]


def test_an_idle_connection_gets_reads_answered_without_the_log(cluster, frames):
    """A read with nothing before it needs no batch."""
    client = cluster.connected()
    client.send(frames.get(1, b"/zookeeper") + frames.ping())
    assert cluster.service().take_batch() is None
    cluster.flush()
    assert xids(client.replies()) == [1, -2]


def test_failed_requests_keep_their_place_zk_3(cluster, frames):
    """Errors of reads and writes come in the order of the requests."""
    client = cluster.connected()
    replies = client.ask(
        frames.delete(1, b"/none")
        + frames.get(2, b"/none")
        + frames.create(3, b"/a")
        + frames.request(4, 999)
        + frames.create(5, b"/a")
        + frames.ping()
    )
    assert [(r.xid, r.error) for r in replies] == [
        (1, -101),
        (2, -101),
        (3, 0),
        (4, -6),
        (5, -110),
        (-2, 0),
    ]


def test_a_sync_waits_and_everything_behind_it_waits_zk_2(cluster, frames):
    """A read behind a sync is answered only when the read point is reached."""
    client = cluster.connected()
    client.send(frames.sync(1, b"/x") + frames.get(2, b"/zookeeper") + frames.ping())
    cluster.gather()
    cluster.commit()
    cluster.flush()
    assert client.replies() == []
    cluster.release()
    cluster.flush()
    replies = client.replies()
    assert xids(replies) == [1, 2, -2]
    assert replies[0].data == b"/x"


def test_a_write_behind_a_sync_is_not_submitted_before_it_zk_3(cluster, frames):
    """A write pipelined behind a sync reaches the log after the read point."""
    client = cluster.connected()
    client.send(frames.sync(1) + frames.create(2, b"/a") + frames.exists(3, b"/a"))
    cluster.gather()
    assert not cluster.log
    cluster.release()
    cluster.run()
    replies = client.replies()
    assert [(r.xid, r.error) for r in replies] == [(1, 0), (2, 0), (3, 0)]


def test_a_released_sync_still_waits_for_the_writes_before_it(cluster, frames):
    """A read point that is reached early does not let a sync overtake a write."""
    client = cluster.connected()
    client.send(frames.create(1, b"/a") + frames.sync(2) + frames.get(3, b"/a"))
    cluster.gather()
    cluster.release()
    cluster.flush()
    assert client.replies() == []
    cluster.commit()
    cluster.flush()
    assert xids(client.replies()) == [1, 2, 3]


def test_a_turn_is_asked_for_when_answers_admit_held_requests(cluster, frames):
    """Progress never waits for a timer: a write held behind a sync asks for a turn at once."""
    client = cluster.connected()
    service = cluster.service()
    assert not service.wants_turn
    client.send(frames.sync(1) + frames.create(2, b"/a"))
    assert service.wants_turn
    cluster.gather()
    assert not service.wants_turn
    cluster.release()
    assert service.wants_turn
    cluster.run()
    assert not service.wants_turn


def test_syncs_of_a_turn_share_one_read_point(cluster, frames):
    """However many syncs arrive in a turn, one token is asked for."""
    clients = [cluster.connected() for _ in range(3)]
    for client in clients:
        client.send(frames.sync(1) + frames.sync(2))
    assert len(cluster.service().take_barriers()) == 1
    assert cluster.service().take_barriers() == []


def test_requests_behind_the_handshake_are_answered_after_it(cluster, frames):
    """A client may pipeline requests behind its handshake."""
    client = cluster.client()
    client.send(frames.connect() + frames.create(1, b"/a") + frames.get(2, b"/a"))
    cluster.run()
    client.received = client.received[41:]
    assert xids(client.replies()) == [1, 2]


def test_a_read_right_behind_the_handshake_waits_for_the_session(cluster, frames):
    """The first request may be a read, in the chunk of the handshake or in the next one."""
    writer = cluster.connected()
    writer.ask(frames.create(1, b"/a", b"x"))
    for split in (False, True):
        client = cluster.client()
        client.send(frames.connect() + (b"" if split else frames.get(1, b"/a")))
        if split:
            client.send(frames.get(1, b"/a"))
        assert client.received == b""
        cluster.run()
        client.received = client.received[41:]
        assert [(reply.xid, reply.data) for reply in client.replies()] == [(1, b"x")]


def test_many_reads_before_a_write_are_answered_before_it(cluster, frames):
    """Reads beyond the bound hold the write back, and all see the state before it."""
    client = cluster.connected()
    count = 3 * READS_AHEAD_MAX
    stream = frames.create(1, b"/a", b"0")
    for xid in range(2, 2 + count):
        stream += frames.get(xid, b"/a")
    stream += frames.set(2 + count, b"/a", b"1") + frames.get(3 + count, b"/a")
    replies = client.ask(stream)
    assert xids(replies) == list(range(1, 4 + count))
    assert {reply.data for reply in replies[1 : 1 + count]} == {b"0"}
    assert replies[-1].data == b"1"


OPERATIONS = st.lists(st.sampled_from("wrsp"), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(operations=OPERATIONS, cuts=st.lists(st.integers(1, 400), max_size=20), data=st.data())
def test_any_pipeline_is_answered_as_if_one_by_one_zk_3(
    make_cluster, frames, operations, cuts, data
):
    """Any mix of writes, reads, syncs and pings, cut anywhere, answers as a serial server would."""
    cluster = make_cluster(output_bytes_max=300)
    client = cluster.connected()
    client.ask(frames.create(0, b"/n", b"0"))
    stream, expected, value = b"", [], 0
    for xid, operation in enumerate(operations, start=1):
        if operation == "w":
            value += 1
            stream += frames.set(xid, b"/n", b"%d" % value)
            expected.append((xid, None))
        elif operation == "r":
            stream += frames.get(xid, b"/n")
            expected.append((xid, b"%d" % value))
        elif operation == "s":
            stream += frames.sync(xid)
            expected.append((xid, None))
        else:
            stream += frames.ping()
            expected.append((-2, None))
    for cut in [*cuts, len(stream)]:
        client.send(stream[:cut])
        stream = stream[cut:]
        step = data.draw(st.sampled_from(["gather", "commit", "release", "flush", "run", "none"]))
        if step == "run":
            cluster.run(1)
        elif step != "none":
            getattr(cluster, step)()
        if not stream:
            break
    cluster.run(3 * len(operations) + 4)
    replies = client.replies()
    assert [r.xid for r in replies] == [xid for xid, _ in expected]
    for reply, (_, value_seen) in zip(replies, expected, strict=True):
        assert reply.error == 0
        if value_seen is not None:
            assert reply.data == value_seen
    zxids = [reply.zxid for reply in replies]
    assert zxids == sorted(zxids)
    state = cluster.service()._clients[client.number]
    assert state.is_idle
    assert state.outstanding_bytes == state.reads == state.syncs == 0
