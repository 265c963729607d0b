"""Which events a change fires, and when (ZK-4, ZK-7)."""

from __future__ import annotations

from quorate.protocol import zookeeper_client as wire
from quorate.protocol.zookeeper import OpCode
from quorate.tree.acl import OPEN_ACL
from quorate.tree.tree import Tree

CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4


def test_zk_7_each_change_fires_what_zookeeper_fires(client):
    """create, setData and delete tell the znode's watchers and the parent's child watchers."""
    told = client.tree.watches.told
    client.read(OpCode.EXISTS, b"/a", watcher="me")
    client.read(OpCode.GET_CHILDREN, b"/", watcher="me")
    client.create(b"/a")
    assert told == [("data", CREATED, b"/a", 2), ("children", CHILDREN, b"/", 2)]
    told.clear()

    client.read(OpCode.GET_DATA, b"/a", watcher="me")
    client.read(OpCode.GET_CHILDREN, b"/a", watcher="me")
    client.read(OpCode.GET_CHILDREN2, b"/", watcher="me")
    client.write(wire.set_data(b"/a", b"x"))
    assert told == [("data", CHANGED, b"/a", 3)]
    told.clear()

    client.read(OpCode.EXISTS, b"/a", watcher="me")
    client.write(wire.delete(b"/a"))
    assert told == [
        ("data", DELETED, b"/a", 4),
        ("children", DELETED, b"/a", 4),
        ("children", CHILDREN, b"/", 4),
    ]


def test_only_exists_watches_what_is_not_there(client):
    """A failed getData or getChildren arms nothing; a failed exists does."""
    for opcode in (OpCode.GET_DATA, OpCode.GET_CHILDREN, OpCode.GET_CHILDREN2):
        client.read(opcode, b"/no", watcher="me")
    assert not client.tree.watches.data
    assert not client.tree.watches.children
    client.read(OpCode.EXISTS, b"/no", watcher="me")
    assert client.tree.watches.data == {b"/no": "me"}


def test_refused_writes_fire_nothing(client):
    """No event without a change."""
    client.create(b"/a")
    for opcode in (OpCode.GET_DATA, OpCode.GET_CHILDREN):
        client.read(opcode, b"/a", watcher="me")
    client.read(OpCode.GET_CHILDREN, b"/", watcher="me")
    client.write(wire.set_data(b"/a", b"", 5))
    client.write(wire.delete(b"/a", 5))
    client.write(wire.create(b"/a"))
    client.write(wire.create(b"/b/c"))
    assert client.tree.watches.told == []


def test_zk_4_the_event_comes_before_the_reply(client):
    """When the reply of the write is appended, its events have been fired."""
    client.create(b"/a")
    client.read(OpCode.GET_DATA, b"/a", watcher="me")
    order = []

    class Out(list):
        def append(self, frame):
            order.append("reply")
            super().append(frame)

    class Watches(type(client.tree.watches)):
        def fire(self, *args):
            order.append("event")
            super().fire(*args)

    client.tree.watches.__class__ = Watches
    frames = wire.set_data(b"/a", b"x").frame(1)
    client.tree.apply_frames(client.id, client.owner, frames, 1, Out())
    assert order == ["event", "reply"]


def test_events_carry_the_acl_that_decides_who_is_told(client):
    """The ACL of the znode itself, or of the parent for child-changed, also after a deletion."""
    closed = wire.encode_acl((31, "digest", "u:h"))
    client.create(b"/a", acl=closed)
    client.read(OpCode.EXISTS, b"/a", watcher="me")
    client.read(OpCode.GET_CHILDREN, b"/", watcher="me")
    client.write(wire.delete(b"/a"))
    told, root = client.tree.watches.acls
    assert told.entries == ((31, "digest", "u:h"),)
    assert root is OPEN_ACL
    assert client.tree.acl_of(b"/") is OPEN_ACL
    assert client.tree.acl_of(b"/a") is None


def test_recursive_watches_hear_of_every_path(client):
    """While any recursive watch exists, creations, changes and deletions are all reported."""
    client.tree.watches.recursive = {b"/": None}
    client.create(b"/a")
    client.write(wire.set_data(b"/a", b""))
    client.write(wire.multi([wire.delete(b"/a")]))
    assert client.tree.watches.told == [
        ("data", CREATED, b"/a", 2),
        ("data", CHANGED, b"/a", 3),
        ("data", DELETED, b"/a", 4),
    ]


def test_setting_watches_again_tells_what_was_missed(client):
    """setWatches compares mzxid and pzxid with what the client last saw."""
    tree = client.tree
    client.create(b"/a")
    seen = tree.zxid
    assert tree.needs_data_event(b"/a", seen) == 0
    assert tree.needs_children_event(b"/a", seen) == 0
    assert tree.needs_exists_event(b"/b") == 0
    client.create(b"/a/x")
    assert tree.needs_data_event(b"/a", seen) == 0
    assert tree.needs_children_event(b"/a", seen) == CHILDREN
    client.write(wire.set_data(b"/a", b""))
    assert tree.needs_data_event(b"/a", seen) == CHANGED
    assert tree.needs_exists_event(b"/a") == CREATED
    assert tree.needs_data_event(b"/gone", seen) == DELETED
    assert tree.needs_children_event(b"/gone", seen) == DELETED


def test_a_tree_without_watches_works(client):
    """The default audience listens to nothing."""
    tree = Tree()
    session = tree.open_session(bytes(16), 1, client.owner, (), 1)
    out = []
    frames = wire.create(b"/a").frame(1) + wire.delete(b"/a").frame(2)
    tree.apply_frames(session.session_id, client.owner, frames, 1, out)
    tree.read(session, wire.get(OpCode.EXISTS, b"/a", watch=True).frame(3), "me", out)
    assert [wire.decode_reply(frame).error for frame in out] == [0, 0, -101]
