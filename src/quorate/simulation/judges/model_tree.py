"""ModelTree: what a tree must be, computed anew from what was asked, with every state it ever had.

The judges' own idea of ZooKeeper's semantics: requests come as values, not as frames, and nothing
of ``tree/`` is used. It is told of requests in the order of the log and remembers, for each path,
which facts held from which zxid on, and which events a watch there would have to hear. So any
answer of any replica can be judged by the zxid that it carries.

Knows nothing of nodes, connections or clients. No ACLs, containers or TTLs: nobody in a simulated
run asks for them.

Invariant: ``history[path]`` has one entry for each transaction that changed the facts of ``path``.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Final, NamedTuple

from quorate.protocol.zookeeper import ANY_VERSION, ErrorCode, EventType
from quorate.simulation.workloads.tree_words import EPHEMERAL, SEQUENTIAL, Ask

Changes = list[tuple[int, int]]
"""(zxid, EventType) of what a watch hears, in order."""

_AFTER: Final = 99  # behind every event type


class Facts(NamedTuple):
    """What a read of a znode shows, but for times."""

    data: bytes
    czxid: int
    mzxid: int
    version: int
    cversion: int
    owner: int
    pzxid: int
    names: tuple[bytes, ...]


class Outcome(NamedTuple):
    """What becomes of a request.

    Attributes:
        error: 0, or the ErrorCode.
        zxid: of the transaction; of the last one before when it was refused.
        result: path of a create, Facts after a set; a list of those, or of codes, for a multi.
        happened: whether it changed anything; a refused multi shows no error.
    """

    error: int
    zxid: int
    result: Any = None
    happened: bool = False


class _Refused(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = int(code)


class ModelZnode:
    """One znode."""

    __slots__ = (
        "children", "cversion", "czxid", "data", "mzxid", "owner", "pzxid", "sequence", "version",
    )  # fmt: skip

    def __init__(self, data: bytes, zxid: int, owner: int) -> None:
        self.data = data
        self.owner = owner
        self.version = self.cversion = self.sequence = 0
        self.czxid = self.mzxid = self.pzxid = zxid
        self.children: tuple[bytes, ...] = ()

    def copy(self) -> ModelZnode:
        """One that can be put back."""
        other = ModelZnode(self.data, self.czxid, self.owner)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        return other

    def facts(self) -> Facts:
        """As a read shows it."""
        return Facts(
            self.data,
            self.czxid,
            self.mzxid,
            self.version,
            self.cversion,
            self.owner,
            self.pzxid,
            self.children,
        )


class ModelTree:
    """The tree and its past.

    Attributes:
        zxid: of the last transaction.
        znodes: by path, now.
        ephemerals: paths by session, now.
        data_changes: what data watches hear, by path.
        child_changes: what child watches hear, by path.
    """

    def __init__(self) -> None:
        self.zxid = 0
        self.znodes: dict[bytes, ModelZnode] = {}
        self.ephemerals: dict[int, dict[bytes, None]] = {}
        self.data_changes: dict[bytes, Changes] = {}
        self.child_changes: dict[bytes, Changes] = {}
        self._history: dict[bytes, tuple[list[int], list[Facts | None]]] = {}
        self._touched: dict[bytes, None] = {}
        self._fired: list[tuple[dict[bytes, Changes], bytes, int]] = []
        for path, children, cversion in (
            (b"/", (b"zookeeper",), -1),
            (b"/zookeeper", (b"config", b"quota"), -2),
            (b"/zookeeper/config", (), 0),
            (b"/zookeeper/quota", (), 0),
        ):
            znode = self.znodes[path] = ModelZnode(b"", 0, 0)
            znode.children, znode.cversion = children, cversion
            self._touched[path] = None
        self._commit(0)

    # ---- looking -------------------------------------------------------------------------------

    def facts_at(self, path: bytes, zxid: int) -> Facts | None:
        """What held at a zxid; None: there was no such znode."""
        past = self._history.get(path)
        if past is None:
            return None
        place = bisect_right(past[0], zxid)
        return past[1][place - 1] if place else None

    def changes_of(self, path: bytes, *, of_children: bool) -> Changes:
        """What a watch hears there: a list that goes on growing."""
        table = self.child_changes if of_children else self.data_changes
        return table.setdefault(path, [])

    # ---- changing ------------------------------------------------------------------------------

    def open_session(self) -> int:
        """A session begins; its id."""
        self.zxid += 1
        self.ephemerals[self.zxid] = {}
        return self.zxid

    def end_session(self, session_id: int) -> int:
        """A session ends, and its ephemerals with it; the zxid."""
        zxid = self.zxid + 1
        for path in sorted(self.ephemerals[session_id]):
            self._remove(path, zxid)
        del self.ephemerals[session_id]
        self._commit(zxid)
        return zxid

    def perform(self, session_id: int, ask: Ask) -> Outcome:
        """A write of a living session takes its turn."""
        zxid = self.zxid + 1
        if ask.verb == "close":
            return Outcome(0, self.end_session(session_id), happened=True)
        if ask.verb == "multi":
            return self._multi(session_id, ask, zxid)
        try:
            result = self._change(session_id, ask, zxid)
        except _Refused as refused:
            self._touched.clear()
            return Outcome(refused.code, self.zxid)
        self._commit(zxid)
        return Outcome(0, zxid, result, happened=True)

    def _multi(self, session_id: int, ask: Ask, zxid: int) -> Outcome:
        concerned = [part.path for part in ask.parts]
        concerned += [_parent(path) for path in concerned]
        kept = {
            path: self.znodes[path].copy() if path in self.znodes else None
            for path in dict.fromkeys(concerned)
        }
        held = dict(self.ephemerals[session_id])
        results: list[Any] = []
        try:
            for part in ask.parts:
                results.append(self._change(session_id, part, zxid))  # noqa: PERF401 - counted
        except _Refused as refused:
            for path, znode in kept.items():
                if znode is not None:
                    self.znodes[path] = znode
                else:
                    self.znodes.pop(path, None)
            self.ephemerals[session_id] = held
            self._touched.clear()
            self._fired.clear()
            rest = len(ask.parts) - len(results) - 1
            codes = [0] * len(results) + [refused.code]
            return Outcome(0, self.zxid, codes + [int(ErrorCode.RUNTIME_INCONSISTENCY)] * rest)
        self._commit(zxid)
        return Outcome(0, zxid, results, happened=True)

    def _change(self, session_id: int, ask: Ask, zxid: int) -> Any:
        if ask.verb == "create":
            return self._create(session_id, ask, zxid)
        if ask.verb == "delete" and _parent(ask.path) not in self.znodes:
            raise _Refused(ErrorCode.NO_NODE)
        znode = self.znodes.get(ask.path)
        if znode is None:
            raise _Refused(ErrorCode.NO_NODE)
        if ask.version not in (ANY_VERSION, znode.version):
            raise _Refused(ErrorCode.BAD_VERSION)
        if ask.verb == "set":
            znode.data, znode.mzxid = ask.value, zxid
            znode.version += 1
            self._touched[ask.path] = None
            self._fire(self.data_changes, ask.path, EventType.DATA_CHANGED)
            return znode.facts()
        if ask.verb == "delete":
            if znode.children:
                raise _Refused(ErrorCode.NOT_EMPTY)
            self._remove(ask.path, zxid)
        return None

    def _create(self, session_id: int, ask: Ask, zxid: int) -> bytes:
        path, parent_path = ask.path, _parent(ask.path)
        parent = self.znodes.get(parent_path)
        if parent is None:
            raise _Refused(ErrorCode.NO_NODE)
        if ask.flags & SEQUENTIAL:
            path = b"%b%010d" % (path, parent.sequence)
        if path in self.znodes:
            raise _Refused(ErrorCode.NODE_EXISTS)
        if parent.owner:
            raise _Refused(ErrorCode.NO_CHILDREN_FOR_EPHEMERALS)
        owner = session_id if ask.flags & EPHEMERAL else 0
        self.znodes[path] = ModelZnode(ask.value, zxid, owner)
        if owner:
            self.ephemerals[owner][path] = None
        parent.children = (*parent.children, _name(path))
        parent.sequence += 1
        parent.cversion += 1
        parent.pzxid = zxid
        self._touched[path] = self._touched[parent_path] = None
        self._fire(self.data_changes, path, EventType.CREATED)
        self._fire(self.child_changes, parent_path, EventType.CHILDREN_CHANGED)
        return path

    def _remove(self, path: bytes, zxid: int) -> None:
        znode = self.znodes.pop(path)
        if znode.owner:
            del self.ephemerals[znode.owner][path]
        parent_path, gone = _parent(path), _name(path)
        parent = self.znodes[parent_path]
        parent.children = tuple(name for name in parent.children if name != gone)
        parent.cversion += 1
        parent.pzxid = zxid
        self._touched[path] = self._touched[parent_path] = None
        self._fire(self.data_changes, path, EventType.DELETED)
        self._fire(self.child_changes, path, EventType.DELETED)
        self._fire(self.child_changes, parent_path, EventType.CHILDREN_CHANGED)

    def _fire(self, table: dict[bytes, Changes], path: bytes, event: int) -> None:
        self._fired.append((table, path, int(event)))

    def _commit(self, zxid: int) -> None:
        """What was done becomes part of the past."""
        self.zxid = zxid
        for path in self._touched:
            znode = self.znodes.get(path)
            zxids, states = self._history.setdefault(path, ([], []))
            zxids.append(zxid)
            states.append(znode.facts() if znode is not None else None)
        for table, path, event in self._fired:
            table.setdefault(path, []).append((zxid, event))
        self._touched.clear()
        self._fired.clear()


def place_after(changes: Changes, zxid: int) -> int:
    """Where in ``changes`` those begin that came after ``zxid``."""
    return bisect_right(changes, (zxid, _AFTER))


def _parent(path: bytes) -> bytes:
    return path[: path.rfind(b"/")] or b"/"


def _name(path: bytes) -> bytes:
    return path[path.rfind(b"/") + 1 :]
