"""A client of the tree without any network, and a recorder of events."""

from __future__ import annotations

import pytest

from quorate.protocol import zookeeper_client as wire
from quorate.protocol.zookeeper import OpCode
from quorate.tree.acl import READ_ONLY_ACL
from quorate.tree.sessions import Owner
from quorate.tree.state import check_state
from quorate.tree.tree import Tree

PASSWORD = bytes(range(16))


class RecordingWatches:
    """One-shot watches, and a list of what they were told: (kind, event type, path, zxid)."""

    def __init__(self):
        self.data = {}
        self.children = {}
        self.recursive = {}
        self.told = []
        self.acls = []

    def add(self, table, path, watcher):
        table[path] = watcher

    def fire(self, table, event_type, path, zxid, acl):
        assert path in table or self.recursive
        self.told.append(("data" if table is self.data else "children", event_type, path, zxid))
        self.acls.append(acl)
        table.pop(path, None)


class Client:
    """A session that speaks to a tree in frames."""

    def __init__(self, tree, identities=(), connection=1):
        self.tree = tree
        self.owner = Owner(1, 1, connection)
        self.time_ms = 1_000
        self.xid = 0
        self.session = tree.open_session(PASSWORD, 10_000, self.owner, identities, self.time_ms)

    @property
    def id(self):
        return self.session.session_id

    def send(self, *parts):
        """Apply the parts as one run; give the replies."""
        frames = b""
        for part in parts:
            self.xid += 1
            frames += part.frame(self.xid)
        out = []
        self.tree.apply_frames(self.id, self.owner, frames, self.time_ms, out)
        replies = [wire.decode_reply(frame) for frame in out]
        expected = list(range(self.xid - len(parts) + 1, self.xid + 1))
        assert [reply.xid for reply in replies] == expected
        check_state(self.tree._state)
        return replies

    def write(self, part):
        return self.send(part)[0]

    def error(self, part):
        """The error code of a write that must leave no trace when it fails."""
        before = (self.tree.zxid, self.tree.digest())
        reply = self.write(part)
        if reply.error:
            assert (self.tree.zxid, self.tree.digest()) == before
            assert reply.body == b""
            assert reply.zxid == self.tree.zxid
        return reply.error

    def create(self, path, data=b"", flags=0, **options):
        reply = self.write(wire.create(path, data, flags, **options))
        assert reply.error == 0, reply
        return reply.path()

    def read(self, opcode, path, watcher=None):
        self.xid += 1
        out = []
        part = wire.get(opcode, path, watch=watcher is not None)
        self.tree.read(self.session, part.frame(self.xid), watcher, out)
        (frame,) = out
        reply = wire.decode_reply(frame)
        assert reply.xid == self.xid
        assert reply.zxid == self.tree.zxid
        return reply

    def stat(self, path):
        reply = self.read(OpCode.EXISTS, path)
        return reply.stat() if reply.error == 0 else None

    def data(self, path):
        return self.read(OpCode.GET_DATA, path).data()

    def names(self, path):
        return sorted(self.read(OpCode.GET_CHILDREN, path).names())


@pytest.fixture
def watches():
    return RecordingWatches()


@pytest.fixture
def tree(watches):
    return Tree(watches)


@pytest.fixture
def client(tree):
    return Client(tree, (("ip", "10.0.0.7"),))


@pytest.fixture
def new_client(tree):
    """Open another session of the same tree, with other identities."""
    return lambda *identities: Client(tree, identities)


@pytest.fixture(scope="session")
def client_class():
    return Client


@pytest.fixture
def read_only_acl():
    return READ_ONLY_ACL
