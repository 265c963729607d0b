"""The tree against a naive model, and replicas against each other (ZK-1, ZK-9).

The model is a plain dict of paths that is deep-copied to undo a multi. It shares no code with the
tree but the numbers of opcodes and errors.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from quorate.protocol import zookeeper_client as wire
from quorate.protocol.zookeeper import OpCode
from quorate.tree import snapshot as snapshot_module
from quorate.tree.sessions import Owner
from quorate.tree.state import check_state
from quorate.tree.tree import Tree

NO_NODE, BAD_VERSION, EPHEMERAL_PARENT, EXISTS, NOT_EMPTY = -101, -103, -108, -110, -111
PASSWORD = bytes(16)

PATHS = st.sampled_from([b"/a", b"/b", b"/a/x", b"/a/y", b"/b/x", b"/a/x/1", b"/a/x/2"])
DATA = st.sampled_from([None, b"", b"1", b"longer data"])
VERSIONS = st.sampled_from([-1, -1, 0, 1, 2])
CREATES = st.builds(lambda p, d, f: ("create", p, d, f), PATHS, DATA, st.integers(0, 3))
DELETES = st.builds(lambda p, v: ("delete", p, v), PATHS, VERSIONS)
SETS = st.builds(lambda p, d, v: ("set", p, d, v), PATHS, DATA, VERSIONS)
CHECKS = st.builds(lambda p, v: ("check", p, v), PATHS, VERSIONS)
SINGLES = st.one_of(CREATES, DELETES, SETS)
PARTS = st.lists(st.one_of(CREATES, DELETES, SETS, CHECKS), max_size=5)


class Failed(Exception):
    pass


@dataclass
class Node:
    data: bytes | None
    created: int
    owner: int
    modified: int = 0
    version: int = 0
    creates: int = 0
    deletes: int = 0
    children_changed: int = 0


@dataclass
class Model:
    zxid: int = 0
    nodes: dict = field(default_factory=lambda: {b"/": Node(b"", 0, 0)})

    def children(self, path):
        prefix = path.rstrip(b"/") + b"/"
        return sorted(
            p
            for p in self.nodes
            if p != b"/" and p.startswith(prefix) and b"/" not in p[len(prefix) :]
        )

    def do(self, request, session):
        """Apply one request under the zxid ``self.zxid + 1``; give the path of a create."""
        kind, path, *rest = request
        zxid = self.zxid + 1
        parent = self.nodes.get(path.rpartition(b"/")[0] or b"/")
        if kind == "create":
            data, flags = rest
            if parent is None:
                raise Failed(NO_NODE)
            if flags & 2:
                path += b"%010d" % parent.creates
            if path in self.nodes:
                raise Failed(EXISTS)
            if parent.owner:
                raise Failed(EPHEMERAL_PARENT)
            owner = session if flags & 1 else 0
            self.nodes[path] = Node(data, zxid, owner, zxid, children_changed=zxid)
            parent.creates += 1
            parent.children_changed = zxid
            return path
        node = self.nodes.get(path)
        if node is None:
            raise Failed(NO_NODE)
        if rest[-1] not in (-1, node.version):
            raise Failed(BAD_VERSION)
        if kind == "set":
            node.data, node.modified, node.version = rest[0], zxid, node.version + 1
        elif kind == "delete":
            if self.children(path):
                raise Failed(NOT_EMPTY)
            self.remove(path, zxid)
        return None

    def remove(self, path, zxid):
        parent = self.nodes[path.rpartition(b"/")[0] or b"/"]
        del self.nodes[path]
        parent.deletes += 1
        parent.children_changed = zxid


def to_part(request):
    kind, *arguments = request
    name = {"create": wire.create, "delete": wire.delete, "set": wire.set_data}
    return name.get(kind, wire.check)(*arguments)


class TreeAgainstModel(RuleBasedStateMachine):
    """Drives three trees with the same log: ours, a remote replica that builds no replies, and one
    that was restored from a snapshot and caught up."""

    sessions = Bundle("sessions")

    @initialize()
    def begin(self):
        snapshot_module.CHUNK_SIZE = 100
        self.tree, self.remote = Tree(), Tree()
        self.model = Model()
        self.model.nodes[b"/"].children_changed = 0
        self.capture = None
        self.open = {}

    def teardown(self):
        snapshot_module.CHUNK_SIZE = 64 * 1024

    @rule(target=sessions, connection=st.integers(1, 3))
    def open_session(self, connection):
        owner = Owner(1, 1, connection)
        session = self.tree.open_session(PASSWORD, 5, owner, (), 1)
        self.remote.open_session(PASSWORD, 5, owner, (), 1)
        self.model.zxid += 1
        assert session.session_id == self.model.zxid
        self.open[session.session_id] = owner
        return session.session_id

    def apply(self, session, *parts):
        owner = self.open.get(session, Owner(1, 1, 1))
        frames = b"".join(part.frame(i) for i, part in enumerate(parts))
        out = []
        self.tree.apply_frames(session, owner, frames, self.model.zxid + 7, out)
        self.remote.apply_frames(session, owner, frames, self.model.zxid + 7, None)
        return [wire.decode_reply(frame) for frame in out]

    @rule(session=sessions, requests=st.lists(SINGLES, min_size=1, max_size=4))
    def run(self, session, requests):
        replies = self.apply(session, *map(to_part, requests))
        assert len(replies) == len(requests)
        for request, reply in zip(requests, replies, strict=True):
            if session not in self.open:
                assert reply.error == -112
                continue
            before = copy.deepcopy(self.model)
            try:
                path = self.model.do(request, session)
            except Failed as failed:
                self.model = before
                assert reply.error == failed.args[0]
                assert reply.zxid == self.model.zxid
                continue
            self.model.zxid += 1
            assert (reply.error, reply.zxid) == (0, self.model.zxid)
            if path is not None:
                assert reply.path() == path

    @rule(session=sessions, requests=PARTS)
    def multi(self, session, requests):
        (reply,) = self.apply(session, wire.multi(map(to_part, requests)))
        if session not in self.open:
            assert reply.error == -112
            return
        before = copy.deepcopy(self.model)
        paths = []
        try:
            for request in requests:
                paths += [self.model.do(request, session)]
        except Failed as failed:
            self.model = before
            errors = [0] * len(paths) + [failed.args[0]]
            errors += [-2] * (len(requests) - len(errors))
            assert [error for _, error, _ in reply.results()] == errors
            assert all(opcode == -1 for opcode, _, _ in reply.results())
            assert reply.zxid == self.model.zxid
            return
        self.model.zxid += 1
        assert (reply.error, reply.zxid) == (0, self.model.zxid)
        got = [value if opcode == OpCode.CREATE else None for opcode, _, value in reply.results()]
        assert got == paths

    @rule(session=sessions, closes=st.booleans())
    def end(self, session, closes):
        known = session in self.open
        if closes:
            (reply,) = self.apply(session, wire.CLOSE_SESSION)
            assert reply.error == (0 if known else -112)
        else:
            assert self.tree.expire_session(session, 3) == known
            self.remote.expire_session(session, 3)
        if not known:
            return
        del self.open[session]
        self.model.zxid += 1
        for path in sorted(self.model.nodes):
            if self.model.nodes[path].owner == session:
                self.model.remove(path, self.model.zxid)

    @rule(session=sessions, connection=st.integers(1, 3))
    def attach(self, session, connection):
        owner = Owner(2, 1, connection)
        for tree in (self.tree, self.remote):
            attached = tree.attach_session(session, PASSWORD, 9, owner, (("ip", "::1"),))
            assert (attached is not None) == (session in self.open)
        if session in self.open:
            self.open[session] = owner

    # ---- snapshots and digests, at any moment -------------------------------------------------

    @precondition(lambda self: self.capture is None)
    @rule()
    def begin_snapshot(self):
        self.capture = self.tree.snapshot()
        self.expected = self.remote.digest()
        self.chunks = []

    @precondition(lambda self: self.capture is not None)
    @rule(count=st.integers(1, 5))
    def walk_snapshot(self, count):
        for _ in range(count):
            chunk = next(self.capture, None)
            if chunk is None:
                restored = Tree()
                restored.restore(self.chunks)
                check_state(restored._state)
                assert restored.digest() == self.expected
                self.capture = None
                return
            self.chunks.append(chunk)

    @rule()
    def replicas_agree_and_so_does_a_digest_from_scratch(self):
        assert self.tree.digest() == self.remote.digest()
        scratch = Tree()
        scratch.restore(self.remote.snapshot())
        assert scratch.digest() == self.tree.digest()

    @precondition(lambda self: self.capture is None)
    @rule()
    def continue_from_a_snapshot(self):
        tree = Tree()
        tree.restore(self.tree.snapshot())
        assert tree.digest() == self.tree.digest()
        self.tree = tree

    @invariant()
    def tree_is_the_model(self):
        if not hasattr(self, "model"):
            return
        check_state(self.tree._state)
        assert self.tree.zxid == self.model.zxid
        ours = {p: z for p, z in self.tree.znodes.items() if not p.startswith(b"/zookeeper")}
        assert sorted(ours) == sorted(self.model.nodes)
        for path, node in self.model.nodes.items():
            znode = ours[path]
            children = [c for c in sorted(znode.children or ()) if c != b"/zookeeper"]
            assert children == self.model.children(path)
            shown = node.creates + node.deletes - (path == b"/")
            assert (znode.data, znode.version, znode.ephemeral_owner, znode.cversion) == (
                node.data,
                node.version,
                node.owner,
                shown,
            )
            assert (znode.czxid, znode.mzxid, znode.pzxid, znode.sequence) == (
                node.created,
                node.modified,
                node.children_changed,
                node.creates,
            )


TestTreeAgainstModel = TreeAgainstModel.TestCase
TestTreeAgainstModel.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)
