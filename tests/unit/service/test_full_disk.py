"""A node whose disk is full tells its clients so: writes are refused, reads are not."""

from quorate.protocol.zookeeper import ErrorCode


def test_every_write_of_a_run_is_refused_and_none_is_in_the_log(cluster, frames):
    """Each frame has its answer, in order, among the reads."""
    client = cluster.connected()
    client.ask(frames.create(1, b"/a", b"before"))
    cluster.service().set_full(True)
    requests = [
        frames.set(2, b"/a", b"no"),
        frames.create(3, b"/b", b"no"),
        frames.get(4, b"/a"),
        frames.delete(5, b"/a"),
    ]
    index = cluster.index
    replies = client.ask(b"".join(requests))
    refused = ErrorCode.THROTTLED_OP
    assert [(r.xid, r.error) for r in replies] == [(2, refused), (3, refused), (4, 0), (5, refused)]
    assert replies[2].data == b"before"
    assert cluster.index == index
    assert cluster.service().statistics().writes_refused == 3


def test_what_was_under_way_is_answered_by_the_log(cluster, frames):
    """A write that was taken before is not taken back, and the refusal waits for its turn."""
    client = cluster.connected()
    client.send(frames.create(1, b"/a"))
    cluster.gather()
    cluster.service().set_full(True)
    client.send(frames.create(2, b"/b"))
    cluster.flush()
    assert client.replies() == []
    cluster.run()
    assert [(r.xid, r.error) for r in client.replies()] == [(1, 0), (2, ErrorCode.THROTTLED_OP)]


def test_a_new_client_is_sent_elsewhere(cluster, frames):
    """Opening a session is a write."""
    cluster.service().set_full(True)
    client = cluster.client()
    client.send(frames.connect())
    cluster.run()
    assert client.closed
    assert cluster.service().closed["the disk is full"] == 1


def test_with_space_again_writes_are_taken(cluster, frames):
    """On the same connection."""
    client = cluster.connected()
    cluster.service().set_full(True)
    assert client.ask(frames.create(1, b"/a"))[0].error == ErrorCode.THROTTLED_OP
    cluster.service().set_full(False)
    assert client.ask(frames.create(2, b"/a"))[0].error == 0
