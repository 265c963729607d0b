"""What the tree is: znodes, sessions and one counter, and the only ways to change them.

Everything here is state that all replicas share; requests, replies and watches are elsewhere.
Every change of a znode goes through ``touch`` (or the same two lines written out in
``writes.set_data``), which keeps the two promises that are easy to break: a snapshot under way sees
the znode as it was, and the digest hears of the change.

Invariants (``check_state`` verifies them in tests):
    1. every znode but ``/`` has a parent, and is in its parent's ``children``, and vice versa;
    2. a znode with an ephemeral owner > 0 is in that living session's ``ephemerals``, and vice
       versa; it has no children;
    3. ``containers`` holds exactly the paths whose owner is < 0;
    4. no zxid in a znode exceeds ``zxid``.
"""

from __future__ import annotations

from typing import Final

from quorate.errors import InvariantBroken
from quorate.tree.acl import OPEN_ACL, READ_ONLY_ACL, Acl
from quorate.tree.digest import Digest
from quorate.tree.paths import parent_of
from quorate.tree.sessions import Session
from quorate.tree.snapshot import Capture
from quorate.tree.watching import Audience
from quorate.tree.znode import Znode, next_version

ROOT: Final = b"/"
SYSTEM: Final = b"/zookeeper"
CONFIG: Final = b"/zookeeper/config"
QUOTA: Final = b"/zookeeper/quota"

UNDELETABLE: Final = frozenset({ROOT, SYSTEM, CONFIG, QUOTA})
"""Znodes that exist from the start and for ever."""


class State:
    """The replicated state.

    Attributes:
        zxid: number of the last applied transaction.
        znodes: by path.
        sessions: by id.
        containers: paths of containers and of znodes with a TTL.
        acls: interned ACLs by wire form; a cache, not state.
        digest_notes: what the digest must look at again.
        capture: the snapshot under way, if any.
    """

    __slots__ = ("acls", "capture", "containers", "digest_notes", "sessions", "znodes", "zxid")

    def __init__(self) -> None:
        self.acls: dict[bytes, Acl] = {}
        self.capture: Capture | None = None
        self.reset()
        root = self.znodes[ROOT] = Znode(b"", OPEN_ACL, 0, 0, 0)
        system = self.znodes[SYSTEM] = Znode(b"", OPEN_ACL, 0, 0, 0)
        self.znodes[CONFIG] = Znode(b"", READ_ONLY_ACL, 0, 0, 0)
        self.znodes[QUOTA] = Znode(b"", OPEN_ACL, 0, 0, 0)
        root.children = {SYSTEM: None}
        system.children = {CONFIG: None, QUOTA: None}
        # ZooKeeper makes these without counting creates: its Stat shows 2 * 0 - children.
        root.cversion, system.cversion = -1, -2
        self.znodes[CONFIG].aversion = -1
        self.digest_notes.znodes.update(dict.fromkeys(self.znodes, 0))

    def reset(self) -> None:
        """Become empty, without even the znodes of a new tree: the start of a restore."""
        assert self.capture is None
        self.zxid = 0
        self.znodes: dict[bytes, Znode] = {}
        self.sessions: dict[int, Session] = {}
        self.containers: dict[bytes, None] = {}
        self.digest_notes = Digest()

    def touch(self, path: bytes, znode: Znode) -> None:
        """``znode`` is about to change."""
        if self.capture is not None:
            self.capture.keep_znode(path, znode)
        self.digest_notes.znodes.setdefault(path, znode.folded)

    def touch_session(self, session: Session) -> None:
        """``session`` is about to change."""
        if self.capture is not None:
            self.capture.keep_session(session)
        self.digest_notes.sessions.setdefault(session.session_id, session.folded)

    def add_znode(self, path: bytes, znode: Znode, parent: Znode) -> None:
        """Put ``znode`` at ``path``; counters of the parent are the caller's."""
        assert path not in self.znodes
        self.digest_notes.znodes.setdefault(path, znode.folded)
        self.znodes[path] = znode
        if parent.children is None:
            parent.children = {path: None}
        else:
            parent.children[path] = None
        owner = znode.ephemeral_owner
        if owner > 0:
            self.sessions[owner].ephemerals.add(path)
        elif owner < 0:
            self.containers[path] = None

    def remove_znode(self, path: bytes, znode: Znode, parent: Znode) -> None:
        """Take ``znode`` from ``path``; counters of the parent are the caller's."""
        assert not znode.children
        assert parent.children is not None
        if self.capture is not None:
            self.capture.keep_znode(path, znode)
        self.digest_notes.forget(path, znode)
        del self.znodes[path]
        del parent.children[path]
        if not parent.children:
            parent.children = None
        owner = znode.ephemeral_owner
        if owner > 0:
            self.sessions[owner].ephemerals.discard(path)
        elif owner < 0:
            del self.containers[path]


class Transaction:
    """What the writes of one run of requests have in common; only ``zxid`` moves on.

    Attributes:
        session: who asks; ``None`` when the system itself acts.
        zxid: the number this write gets if it succeeds.
        time_ms: the time in the log entry.
        watches: whom to tell.
    """

    __slots__ = ("session", "time_ms", "watches", "zxid")

    def __init__(self, session: Session | None, zxid: int, time_ms: int, watches: Audience) -> None:
        self.session = session
        self.zxid = zxid
        self.time_ms = time_ms
        self.watches = watches


def count_child_change(parent: Znode, zxid: int) -> None:
    """A child came or went."""
    parent.cversion = next_version(parent.cversion)
    parent.pzxid = zxid


def check_state(state: State) -> None:
    """Verify the invariants of the module's docstring. Slow: for tests and diagnosis.

    Raises:
        InvariantBroken: names the invariant and the path.
    """

    def expect(holds: bool, number: int, where: object) -> None:
        if not holds:
            raise InvariantBroken(f"tree invariant {number} is broken at {where!r}")

    children = 0
    ephemerals = 0
    for path, znode in state.znodes.items():
        if path != ROOT:
            parent = state.znodes.get(parent_of(path))
            expect(parent is not None and path in (parent.children or ()), 1, path)
        children += len(znode.children or ())
        owner = znode.ephemeral_owner
        if owner > 0:
            ephemerals += 1
            session = state.sessions.get(owner)
            expect(session is not None and path in session.ephemerals, 2, path)
            expect(not znode.children, 2, path)
        expect((owner < 0) == (path in state.containers), 3, path)
        expect(max(znode.czxid, znode.mzxid, znode.pzxid) <= state.zxid, 4, path)
    expect(children == len(state.znodes) - 1, 1, "children in total")
    expect(ephemerals == sum(len(s.ephemerals) for s in state.sessions.values()), 2, "in total")
    expect(all(path in state.znodes for path in state.containers), 3, "in total")
