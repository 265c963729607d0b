"""Who wants to be told about which znode: the watches of this node's connections.

Local and soft: never replicated, never in a snapshot; a connection takes its watches with it.
The tree calls ``fire`` while it applies a transaction and before it appends the reply, so an
event is on its connection before any answer that shows the change.

One-shot watches are held per (connection, path, table). ``data`` is set by getData, by exists
(also on a missing path), ``children`` by getChildren:

    event              fires and removes
    CREATED            data watches of the path
    DELETED            data and child watches of the path, one event for a holder of both
    DATA_CHANGED       data watches of the path
    CHILDREN_CHANGED   child watches of the path (the parent of what was created or deleted)

Standing watches (addWatch) are not removed by firing and survive the znode: PERSISTENT ones get
all four events of their path, RECURSIVE ones the first three of their path and all below it.
Nobody is told twice of one event. A holder that may not read the znode is not told at all
(CVE-2024-23944), but a one-shot watch of it is gone all the same.

Invariant: the tables and ``_held`` (what each connection holds) say the same, and no empty
entry stays behind in either.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import IntEnum
from struct import Struct
from typing import Any, Protocol, TypeAlias

_EVENT = Struct(">iiqiiii")
_EVENT_XID = -1
_SYNC_CONNECTED = 3
_EVENT_BODY_BYTES = _EVENT.size - 4


class Event(IntEnum):
    """What happened to a znode; the numbers are the protocol's."""

    CREATED = 1
    DELETED = 2
    DATA_CHANGED = 3
    CHILDREN_CHANGED = 4


class Kind(IntEnum):
    """Which table a watch is in."""

    DATA = 0
    CHILDREN = 1
    PERSISTENT = 2
    RECURSIVE = 3


class Watcher(Hashable, Protocol):
    """One connection of a client, as the holder of watches.

    Attributes:
        session: whose identities decide what it may be told about.
    """

    session: Any

    def notify(self, frame: bytes) -> None:
        """Queue a complete event frame on the connection."""

    def refuse_watch(self) -> None:
        """One watch too many was asked for; the connection can not be told what it expects."""


Holders: TypeAlias = dict[Watcher, None]
Table: TypeAlias = dict[bytes, Holders]


def encode_event(event: Event, path: bytes, zxid: int) -> bytes:
    """Encode an event frame. Its zxid is the transaction's, as in ZooKeeper since 3.9."""
    length = _EVENT_BODY_BYTES + len(path)
    return _EVENT.pack(length, _EVENT_XID, zxid, 0, event, _SYNC_CONNECTED, len(path)) + path


class Watches:
    """All watches of this node.

    Args:
        per_watcher_max: most watches one connection may hold.
    """

    def __init__(self, per_watcher_max: int = 100_000) -> None:
        self.per_watcher_max = per_watcher_max
        self.data: Table = {}
        self.children: Table = {}
        self.persistent: Table = {}
        self.recursive: Table = {}
        self._tables = (self.data, self.children, self.persistent, self.recursive)
        self._held: dict[Watcher, dict[tuple[Kind, bytes], None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, kind: Kind, path: bytes, watcher: Watcher) -> None:
        """Set a watch; setting it again changes nothing. Standing kinds replace each other."""
        held = self._held.setdefault(watcher, {})
        if (kind, path) in held:
            return
        if len(held) >= self.per_watcher_max:
            watcher.refuse_watch()
            return
        if kind is Kind.PERSISTENT:
            self.remove(Kind.RECURSIVE, path, watcher)
        elif kind is Kind.RECURSIVE:
            self.remove(Kind.PERSISTENT, path, watcher)
        self._held.setdefault(watcher, held)[kind, path] = None
        self._tables[kind].setdefault(path, {})[watcher] = None
        self._count += 1

    def holds(self, kind: Kind, path: bytes, watcher: Watcher) -> bool:
        """Whether this connection has this watch."""
        return watcher in self._tables[kind].get(path, ())

    def remove(self, kind: Kind, path: bytes, watcher: Watcher) -> bool:
        """Take a watch away; false when there was none."""
        holders = self._tables[kind].get(path)
        if holders is None or watcher not in holders:
            return False
        del holders[watcher]
        if not holders:
            del self._tables[kind][path]
        self._let_go(kind, path, watcher)
        return True

    def drop(self, watcher: Watcher) -> None:
        """Take all watches of a connection away: it is gone."""
        for kind, path in list(self._held.get(watcher, ())):
            removed = self.remove(kind, path, watcher)
            assert removed
        # Present but empty after a refused first watch.
        self._held.pop(watcher, None)

    def clear(self) -> None:
        """Take all watches away."""
        for table in self._tables:
            table.clear()
        self._held.clear()
        self._count = 0

    def fire(
        self,
        event: Event,
        path: bytes,
        zxid: int,
        may_read: Callable[[Watcher], bool] | None = None,
    ) -> None:
        """Tell everybody who watches for this event, and remove their one-shot watches.

        Args:
            event: what happened.
            path: the znode; for ``CHILDREN_CHANGED`` the parent.
            zxid: of the transaction.
            may_read: whether a holder's session may read the znode; absent when all may.
        """
        told: Holders = {}
        if event is not Event.CHILDREN_CHANGED:
            self._take(Kind.DATA, path, told)
        if event in (Event.DELETED, Event.CHILDREN_CHANGED):
            self._take(Kind.CHILDREN, path, told)
        if self.persistent:
            told.update(self.persistent.get(path, {}))
        if self.recursive and event is not Event.CHILDREN_CHANGED:
            self._add_recursive(path, told)
        if not told:
            return
        frame = encode_event(event, path, zxid)
        for watcher in told:
            if may_read is None or may_read(watcher):
                watcher.notify(frame)

    def _take(self, kind: Kind, path: bytes, told: Holders) -> None:
        """Move a path's one-shot holders from their table to those to be told."""
        holders = self._tables[kind].pop(path, None)
        if holders is not None:
            for watcher in holders:
                self._let_go(kind, path, watcher)
            told.update(holders)

    def _let_go(self, kind: Kind, path: bytes, watcher: Watcher) -> None:
        held = self._held[watcher]
        del held[kind, path]
        if not held:
            del self._held[watcher]
        self._count -= 1
        assert self._count >= 0

    def _add_recursive(self, path: bytes, told: Holders) -> None:
        """Add the holders of recursive watches on the path and on everything above it."""
        above = path
        while True:
            told.update(self.recursive.get(above, {}))
            if above == b"/":
                return
            above = above[: above.rindex(b"/")] or b"/"
