"""Watches as clients see them (acceptance ZK-4, ZK-7)."""

import pytest


def shape(replies):
    return [reply.event if reply.xid == -1 else reply.xid for reply in replies]


def test_the_event_comes_before_the_reply_that_shows_the_change_zk_4(cluster, frames):
    """Own write: the event stands before the write's reply."""
    client = cluster.connected()
    client.ask(frames.create(1, b"/a") + frames.get(2, b"/a", watch=True))
    assert shape(client.ask(frames.set(3, b"/a", b"x"))) == [(3, b"/a"), 3]


def test_another_client_hears_before_it_can_read_zk_4(cluster, frames):
    """A watcher's read in the same turn as the change is answered behind the event."""
    writer, reader = cluster.connected(), cluster.connected()
    writer.ask(frames.create(1, b"/a"))
    reader.ask(frames.get(1, b"/a", watch=True))
    writer.send(frames.set(2, b"/a", b"x"))
    cluster.gather()
    cluster.commit()
    reader.send(frames.get(2, b"/a"))
    cluster.flush()
    assert shape(reader.replies()) == [(3, b"/a"), 2]


def test_watches_fire_once_zk_7(cluster, frames):
    """A one-shot watch is gone after its event."""
    client = cluster.connected()
    client.ask(frames.create(1, b"/a") + frames.get(2, b"/a", watch=True))
    replies = client.ask(frames.set(3, b"/a", b"x") + frames.set(4, b"/a", b"y"))
    assert shape(replies) == [(3, b"/a"), 3, 4]
    assert cluster.service().statistics().watches == 0


def test_exists_watches_a_missing_path(cluster, frames):
    """The watch that exists leaves on a missing path fires when the path is created."""
    client = cluster.connected()
    client.ask(frames.exists(1, b"/a", watch=True))
    assert shape(client.ask(frames.create(2, b"/a"))) == [(1, b"/a"), 2]


def test_a_deletion_is_told_once_to_who_watches_data_and_children(cluster, frames):
    """Both watches go with one event; the parent's watcher hears of its children."""
    client = cluster.connected()
    client.ask(
        frames.create(1, b"/a")
        + frames.get(2, b"/a", watch=True)
        + frames.children(3, b"/a", watch=True)
        + frames.children(4, b"/", watch=True)
    )
    assert shape(client.ask(frames.delete(5, b"/a"))) == [(2, b"/a"), (4, b"/"), 5]
    assert cluster.service().statistics().watches == 0


def test_the_event_carries_the_zxid_of_its_transaction(cluster, frames):
    """As in ZooKeeper since 3.9."""
    client = cluster.connected()
    client.ask(frames.create(1, b"/a") + frames.get(2, b"/a", watch=True))
    event, reply = client.ask(frames.set(3, b"/a", b"x"))
    assert event.zxid == reply.zxid


def test_who_may_not_read_is_not_told(cluster, frames):
    """Events are filtered by READ permission on the znode (CVE-2024-23944)."""
    owner, stranger = cluster.connected(), cluster.connected()
    owner.ask(frames.auth())
    stranger.ask(frames.exists(1, b"/secret", watch=True))
    acl = b"\0\0\0\1\0\0\0\x1f\0\0\0\4auth\0\0\0\0"
    owner.ask(frames.exists(1, b"/secret", watch=True))
    assert shape(owner.ask(frames.create(2, b"/secret", acl=acl))) == [(1, b"/secret"), 2]
    assert stranger.replies() == []


def test_set_watches_tells_what_was_missed_and_arms_the_rest_zk_7(cluster, frames):
    """A reconnecting client hears of each missed change once, before the reply."""
    client = cluster.connected()
    client.ask(
        frames.create(1, b"/same") + frames.create(2, b"/changed") + frames.create(3, b"/kids")
    )
    since = cluster.service().tree.zxid
    client.ask(
        frames.set(4, b"/changed", b"x") + frames.create(5, b"/kids/k") + frames.create(6, b"/new")
    )
    replies = client.ask(
        frames.set_watches(
            since,
            data=[b"/same", b"/changed", b"/gone"],
            exists=[b"/new", b"/missing"],
            children=[b"/kids", b"/same", b"/gone"],
        )
    )
    assert shape(replies) == [(3, b"/changed"), (2, b"/gone"), (1, b"/new"), (4, b"/kids"), -8]
    assert cluster.service().statistics().watches == 3
    assert shape(client.ask(frames.create(7, b"/missing"))) == [(1, b"/missing"), 7]


def test_a_connection_takes_its_watches_with_it(cluster, frames):
    """Nothing of a closed connection stays in the tables."""
    client = cluster.connected()
    client.ask(frames.exists(1, b"/a", watch=True) + frames.children(2, b"/", watch=True))
    assert cluster.service().statistics().watches == 2
    client.hang_up()
    assert cluster.service().statistics().watches == 0
    watches = cluster.service().watches
    assert not (watches.data or watches.children or watches._held)


def test_a_persistent_watch_stays_beside_a_one_shot_one(cluster, frames):
    """Each event is told once, and the persistent watch outlives all (ZOOKEEPER-4466)."""
    client = cluster.connected()
    (reply,) = client.ask(frames.on_watches(1, 106, b"/a", 0))
    assert reply.body == bytes(4)
    client.ask(frames.exists(2, b"/a", watch=True))
    replies = client.ask(
        frames.create(3, b"/a") + frames.create(4, b"/a/b") + frames.set(5, b"/a", b"x")
    )
    assert shape(replies) == [(1, b"/a"), 3, (4, b"/a"), 4, (3, b"/a"), 5]


def test_a_recursive_watch_hears_of_everything_below_but_not_of_children(cluster, frames):
    """Created, deleted and changed in the whole subtree; never child-changed."""
    client = cluster.connected()
    client.ask(frames.create(1, b"/a") + frames.on_watches(2, 106, b"/a", 1))
    replies = client.ask(
        frames.create(3, b"/a/b")
        + frames.create(4, b"/ab")
        + frames.set(5, b"/a/b", b"x")
        + frames.delete(6, b"/a/b")
        + frames.delete(7, b"/a")
    )
    assert shape(replies) == [(1, b"/a/b"), 3, 4, (3, b"/a/b"), 5, (2, b"/a/b"), 6, (2, b"/a"), 7]


@pytest.mark.parametrize(("kind", "left"), [(1, 1), (2, 1), (3, 0)])
def test_watches_can_be_taken_away(cluster, frames, kind, left):
    """removeWatches takes the watches of its type; a second time there are none."""
    client = cluster.connected()
    client.ask(frames.create(1, b"/a"))
    client.ask(frames.get(2, b"/a", watch=True) + frames.children(3, b"/a", watch=True))
    check = frames.on_watches(4, 17, b"/a", kind)
    remove = frames.on_watches(5, 18, b"/a", kind)
    assert [r.error for r in client.ask(check + remove + remove + check)] == [0, 0, -121, -121]
    assert cluster.service().statistics().watches == left


def test_one_watch_too_many_closes_the_connection(make_cluster, frames):
    """A connection that cannot be told what it expects is closed; others go on."""
    cluster = make_cluster(watches_per_connection_max=2)
    client, other = cluster.connected(), cluster.connected()
    other.ask(frames.exists(1, b"/a", watch=True))
    for xid, path in enumerate([b"/a", b"/b", b"/b"]):
        client.ask(frames.exists(xid, path, watch=True))
    assert not client.closed
    client.ask(frames.exists(9, b"/c", watch=True))
    assert client.closed
    assert shape(other.ask(frames.create(2, b"/a"))) == [(1, b"/a"), 2]


def test_events_of_expired_ephemerals_are_told(make_cluster, frames):
    """The end of a session fires like deletions."""
    cluster = make_cluster()
    client, other = cluster.connected(), cluster.connected()
    client.ask(frames.create(1, b"/e", flags=1))
    other.ask(frames.get(1, b"/e", watch=True))
    client.ask(frames.close(2))
    assert shape(other.replies()) == [(2, b"/e")]
