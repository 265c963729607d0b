"""``fresh_reads``: every read waits for a read point, and nothing else waits for a read (RA-8)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.tree import client as client_module
from quorate.tree.client import READS_AHEAD_MAX, Client
from quorate.tree.client_desk import READ_POINTS_MAX


@pytest.fixture
def cluster(make_cluster):
    """One node whose clients' reads are linearizable."""
    return make_cluster(fresh_reads=True)


def xids(replies):
    return [reply.xid for reply in replies]


def test_ra_8_a_read_is_answered_at_its_read_point_and_not_before(cluster, frames):
    """Without a read point nobody is answered, however new this node's tree may be."""
    client = cluster.connected()
    client.send(frames.get(1, b"/zookeeper") + frames.ping())
    cluster.gather()
    cluster.flush()
    assert client.replies() == []
    assert cluster.service().take_batch() is None, "a read appends nothing"
    cluster.release()
    cluster.flush()
    assert xids(client.replies()) == [1, -2]


def test_one_read_point_serves_all_reads_that_wait(cluster, frames):
    """All clients' reads of a turn share one read point, and so one round."""
    clients = [cluster.connected() for _ in range(20)]
    for client in clients:
        client.send(frames.get(1, b"/zookeeper") + frames.get(2, b"/zookeeper"))
    assert len(cluster.service().take_barriers()) == 1
    cluster.barriers = [(1, cluster.service()._token)]
    cluster.release()
    cluster.flush()
    assert [xids(client.replies()) for client in clients] == [[1, 2]] * 20


def test_reads_that_come_while_rounds_are_out_share_the_next_one(cluster, frames):
    """Few read points are outstanding; whoever comes meanwhile waits for the next, together."""
    client = cluster.connected()
    asked = []
    for xid in range(1, 30):
        client.send(frames.get(xid, b"/zookeeper"))
        asked += cluster.service().take_barriers()
        assert len(asked) <= READ_POINTS_MAX
    assert len(asked) == READ_POINTS_MAX
    assert not cluster.service().wants_turn, "nothing to do until one of them is reached"
    for token in asked:
        cluster.service().barrier_released(token)
    assert cluster.service().wants_turn
    cluster.run()
    assert xids(client.replies()) == list(range(1, 30))


def test_zk_3_a_read_between_two_writes_sees_exactly_the_first(cluster, frames):
    """Order of one client: a pipelined write neither waits for the read nor shows in it."""
    client = cluster.connected()
    client.send(
        frames.create(1, b"/a", b"0")
        + frames.set(2, b"/a", b"1")
        + frames.get(3, b"/a")
        + frames.set(4, b"/a", b"2")
        + frames.get(5, b"/a")
    )
    cluster.gather()
    cluster.commit()  # the read point is still out: the write is the read point
    cluster.flush()
    replies = client.replies()
    assert xids(replies) == [1, 2, 3, 4]
    assert replies[2].data == b"1"
    cluster.release()
    cluster.flush()
    (last,) = client.replies()
    assert (last.xid, last.data) == (5, b"2")


def test_a_read_point_reached_early_does_not_let_a_read_overtake_a_write(cluster, frames):
    """A read behind a write waits for it."""
    client = cluster.connected()
    client.send(frames.create(1, b"/a", b"x") + frames.get(2, b"/a"))
    cluster.gather()
    cluster.release()
    cluster.flush()
    assert client.replies() == []
    cluster.commit()
    cluster.flush()
    assert xids(client.replies()) == [1, 2]


def test_a_watch_is_armed_when_its_read_is_answered(cluster, frames):
    """What changes while the read waits is in its answer, and is no event."""
    reader, writer = cluster.connected(), cluster.connected()
    writer.ask(frames.create(1, b"/a", b"old"))
    reader.send(frames.get(1, b"/a", watch=True))
    writer.send(frames.set(2, b"/a", b"new"))
    cluster.gather()
    cluster.commit()
    cluster.flush()
    assert reader.replies() == []
    cluster.release()
    cluster.flush()
    (reply,) = reader.replies()
    assert reply.data == b"new"
    writer.ask(frames.set(3, b"/a", b"newest"))
    assert [each.xid for each in reader.replies()] == [-1]


def test_a_write_behind_many_reads_is_held_and_none_is_lost(cluster, frames):
    """Reads in front of a write are bounded: they are answered before it, output full or not."""
    client = cluster.connected()
    count = READS_AHEAD_MAX + 20
    client.send(b"".join(frames.get(xid, b"/zookeeper") for xid in range(count)))
    client.send(frames.create(count, b"/a"))
    cluster.gather()
    assert not cluster.log
    cluster.run()
    assert xids(client.replies()) == list(range(count + 1))


def test_reads_of_a_client_that_left_are_forgotten(cluster, frames):
    """A read point that comes too late for its reader harms nobody."""
    client = cluster.connected()
    client.send(frames.get(1, b"/zookeeper"))
    cluster.gather()
    client.hang_up()
    cluster.release()
    cluster.flush()
    assert cluster.connected().ask(frames.get(1, b"/zookeeper"))[0].error == 0


REQUESTS = st.lists(st.sampled_from(["get", "set", "sync", "ping", "bad"]), max_size=40)
EVENTS = st.lists(st.sampled_from(["gather", "commit", "release", "flush"]), max_size=60)


@given(REQUESTS, EVENTS, st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_zk_3_any_pipeline_is_answered_in_order_with_what_was_written_before(
    make_cluster, frames, requests, events, cut
):
    """Whatever comes when: replies keep the order, and each read shows the write before it."""
    cluster = make_cluster(fresh_reads=True)
    client = cluster.connected()
    client.ask(frames.create(1000, b"/k", b"0"))
    expected, chunks, value = [], [], 0
    for xid, kind in enumerate(requests, 1):
        if kind == "set":
            value = xid
            chunks.append(frames.set(xid, b"/k", b"%d" % xid))
        elif kind == "get":
            expected.append((xid, b"%d" % value))
            chunks.append(frames.get(xid, b"/k"))
        elif kind == "sync":
            chunks.append(frames.sync(xid))
        else:
            chunks.append(frames.ping() if kind == "ping" else frames.get(xid, b"/none"))
    for at in range(0, len(chunks), cut):
        client.send(b"".join(chunks[at : at + cut]))
        for event in events[at : at + cut]:
            getattr(cluster, event)()
    cluster.run(8)
    replies = client.replies()
    order = [-2 if kind == "ping" else xid for xid, kind in enumerate(requests, 1)]
    assert xids(replies) == order
    data = {reply.xid: reply.data for reply in replies if reply.body and not reply.error}
    assert [(xid, data[xid]) for xid, _ in expected] == expected


def test_a_desk_that_forgets_read_points_is_noticed(cluster, frames, monkeypatch):
    """Mutant: a read that is answered where it arrives is answered before its read point."""
    monkeypatch.setattr(client_module.Client, "_can_answer", lambda *_, **__: True)
    monkeypatch.setattr(Client, "is_idle", property(lambda self: self.session is not None))
    client = cluster.connected()
    client.send(frames.get(1, b"/zookeeper"))
    cluster.flush()
    assert xids(client.replies()) == [1]
