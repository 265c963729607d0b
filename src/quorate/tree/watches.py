"""Who wants to be told about which znode: the watches of this node's connections.

Local and soft: never replicated, never in a snapshot; a connection takes its watches with it.
The tree calls ``fire`` (its side of the contract: ``tree/watching.py``) while it applies a
transaction and before it appends the reply, so an event is on its connection before any answer
that shows the change.

One-shot watches are held per (connection, path, table). ``data`` is set by getData, and by exists
also on a missing path; ``children`` by getChildren. Standing watches (addWatch) are not removed by
firing and survive the znode. A persistent one stands in both tables of its path, beside a one-shot
one if there is one (ZOOKEEPER-4466 lost either); a recursive one hears of creations, deletions and
data changes of its path and of everything below it.

Nobody is told twice of one event. A holder that may not read the znode is not told at all
(CVE-2024-23944), but a one-shot watch of it is gone all the same.

Invariant: the tables and ``_held`` (what each connection holds) say the same, and no empty
entry stays behind in either.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from enum import IntEnum
from typing import Any, Final, Protocol, TypeAlias

from quorate.protocol.zookeeper import EventType, Permission, WatchType, encode_event
from quorate.tree.acl import OPEN_ACL, Acl

_ONE_SHOT: Final = 1
_STANDING: Final = 2
_DELETED: Final = int(EventType.DELETED)
_READ: Final = int(Permission.READ)

WATCHES_PER_CONNECTION_MAX: Final = 100_000


class Kind(IntEnum):
    """What kind of watch a connection holds on a path."""

    DATA = 0
    CHILDREN = 1
    PERSISTENT = 2
    RECURSIVE = 3


_KINDS_OF_TYPE: Final[dict[int, tuple[Kind, ...]]] = {
    WatchType.CHILDREN: (Kind.CHILDREN,),
    WatchType.DATA: (Kind.DATA,),
    WatchType.ANY: (Kind.DATA, Kind.CHILDREN, Kind.PERSISTENT, Kind.RECURSIVE),
    WatchType.PERSISTENT: (Kind.PERSISTENT,),
    WatchType.PERSISTENT_RECURSIVE: (Kind.RECURSIVE,),
}


class Watcher(Hashable, Protocol):
    """One connection of a client, as the holder of watches.

    Attributes:
        session: has ``identities``, which decide what the connection may be told about.
    """

    session: Any

    def notify(self, frame: bytes) -> None:
        """Queue a complete event frame on the connection."""

    def refuse_watch(self) -> None:
        """One watch too many: the connection can not be told what it expects, and must end."""


Table: TypeAlias = dict[bytes, dict[Any, int]]
"""Path -> holder -> bits; holders in the order in which they came."""


class ClientWatches:
    """All watches of this node.

    Args:
        per_connection_max: most watches one connection may hold.
    """

    def __init__(self, per_connection_max: int = WATCHES_PER_CONNECTION_MAX) -> None:
        self.per_connection_max = per_connection_max
        self.data: Table = {}
        self.children: Table = {}
        self.recursive: Table = {}
        self._held: dict[Watcher, dict[tuple[Kind, bytes], None]] = {}
        self._count = 0
        # Holders told of the last deletion by way of ``data``: the tree reports it to ``children``
        # directly afterwards.
        self._told: dict[Watcher, int] = {}
        self._told_of = (b"", 0)

    def __len__(self) -> int:
        return self._count

    # ---- setting and removing ------------------------------------------------------------------

    def add(self, table: Mapping[bytes, Any], path: bytes, watcher: Watcher) -> None:
        """Arm a one-shot watch; arming it again changes nothing."""
        assert table is self.data or table is self.children
        self.arm(Kind.DATA if table is self.data else Kind.CHILDREN, path, watcher)

    def arm(self, kind: Kind, path: bytes, watcher: Watcher) -> None:
        """Set a watch of any kind. A standing watch replaces the other standing kind."""
        held = self._held.get(watcher, {})
        if (kind, path) in held:
            return
        if len(held) >= self.per_connection_max:
            watcher.refuse_watch()
            return
        if kind is Kind.PERSISTENT:
            self.remove(Kind.RECURSIVE, path, watcher)
        elif kind is Kind.RECURSIVE:
            self.remove(Kind.PERSISTENT, path, watcher)
        self._held.setdefault(watcher, {})[kind, path] = None
        self._count += 1
        for table, bit in self._places(kind):
            holders = table.setdefault(path, {})
            holders[watcher] = holders.get(watcher, 0) | bit

    def holds(self, kind: Kind, path: bytes, watcher: Watcher) -> bool:
        """Whether this connection has this watch."""
        return (kind, path) in self._held.get(watcher, ())

    def holds_any(self, watch_type: int, path: bytes, watcher: Watcher) -> bool:
        """Whether it has a watch of this type, in the words of checkWatches."""
        return any(self.holds(kind, path, watcher) for kind in _KINDS_OF_TYPE.get(watch_type, ()))

    def remove_all(self, watch_type: int, path: bytes, watcher: Watcher) -> bool:
        """Take its watches of this type away, in the words of removeWatches; false: none."""
        removed = False
        for kind in _KINDS_OF_TYPE.get(watch_type, ()):
            removed |= self.remove(kind, path, watcher)
        return removed

    def remove(self, kind: Kind, path: bytes, watcher: Watcher) -> bool:
        """Take a watch away; false when there was none."""
        if not self.holds(kind, path, watcher):
            return False
        self._let_go(kind, path, watcher)
        for table, bit in self._places(kind):
            holders = table[path]
            holders[watcher] &= ~bit
            if not holders[watcher]:
                del holders[watcher]
                if not holders:
                    del table[path]
        return True

    def drop(self, watcher: Watcher) -> None:
        """Take all watches of a connection away: it is gone."""
        for kind, path in list(self._held.get(watcher, ())):
            removed = self.remove(kind, path, watcher)
            assert removed
        assert watcher not in self._held
        self._told.pop(watcher, None)

    # ---- firing --------------------------------------------------------------------------------

    def fire(
        self, table: Mapping[bytes, Any], event_type: int, path: bytes, zxid: int, acl: Acl
    ) -> None:
        """Tell those who watch ``path`` in ``table`` and may read it; remove one-shot watches.

        Args:
            table: ``data`` or ``children`` of this object.
            event_type: an ``EventType``.
            path: the znode; for a change of children the parent.
            zxid: of the transaction; goes into the event, as in ZooKeeper since 3.9.
            acl: of the znode as it is, or was when it is gone.
        """
        in_data = table is self.data
        told = self._take(self.data if in_data else self.children, path, in_data=in_data)
        if in_data:
            if self.recursive:
                self._add_recursive(path, told)
            if event_type == _DELETED:
                self._told, self._told_of = told, (path, zxid)
        elif event_type == _DELETED and self._told_of == (path, zxid):
            told = {watcher: bits for watcher, bits in told.items() if watcher not in self._told}
        if not told:
            return
        frame = encode_event(event_type, path, zxid)
        for watcher in told:
            if acl is OPEN_ACL or acl.permits(_READ, watcher.session.identities):
                watcher.notify(frame)

    def _take(self, table: Table, path: bytes, *, in_data: bool) -> dict[Watcher, int]:
        """Give the holders of a path and take their one-shot watches away."""
        holders = table.pop(path, None)
        if holders is None:
            return {}
        kind = Kind.DATA if in_data else Kind.CHILDREN
        standing: dict[Watcher, int] = {}
        for watcher, bits in holders.items():
            if bits & _ONE_SHOT:
                self._let_go(kind, path, watcher)
            if bits & _STANDING:
                standing[watcher] = _STANDING
        if standing:
            table[path] = standing
        return holders

    def _add_recursive(self, path: bytes, told: dict[Watcher, int]) -> None:
        """Add the holders of recursive watches on the path and on everything above it."""
        above = path
        while True:
            told.update(self.recursive.get(above, {}))
            if above == b"/":
                return
            above = above[: above.rindex(b"/")] or b"/"

    def _places(self, kind: Kind) -> tuple[tuple[Table, int], ...]:
        """Where a kind of watch stands, and as what."""
        if kind is Kind.DATA:
            return ((self.data, _ONE_SHOT),)
        if kind is Kind.CHILDREN:
            return ((self.children, _ONE_SHOT),)
        if kind is Kind.PERSISTENT:
            return ((self.data, _STANDING), (self.children, _STANDING))
        return ((self.recursive, _STANDING),)

    def _let_go(self, kind: Kind, path: bytes, watcher: Watcher) -> None:
        held = self._held[watcher]
        del held[kind, path]
        if not held:
            del self._held[watcher]
        self._count -= 1
        assert self._count >= 0
