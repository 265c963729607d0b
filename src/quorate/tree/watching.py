"""How the tree tells the outside that a znode changed.

Watches are local: each replica keeps those of its own clients, they are not in the log, the
snapshot or the digest, and they must never influence what the tree does. So the tree only sees
this small interface. It asks ``path in watches.data`` before it calls anything: for the many
changes that nobody watches, that lookup is the whole cost.

Promise of the tree: ``fire`` is called while the change is applied, before the reply of the write
that made it and before any read can show it. Failed writes and failed multis fire nothing; the
events of a multi come after all its parts are in place, in their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from types import MappingProxyType
from typing import Any, Final, Protocol

from quorate.protocol.zookeeper import EventType
from quorate.tree.acl import Acl


class Audience(Protocol):
    """Whom a write tells of its changes: the watch tables of one replica's clients.

    Attributes:
        data: watched paths of getData and exists (the two share one table).
        children: watched paths of getChildren.
        recursive: anything non-empty while recursive watches exist; then every creation, deletion
            and data change is reported, to the ``data`` table, whether its path is watched or not.
    """

    @property
    def data(self) -> Mapping[bytes, Any]: ...

    @property
    def children(self) -> Mapping[bytes, Any]: ...

    @property
    def recursive(self) -> Sized: ...

    def fire(
        self, table: Mapping[bytes, Any], event_type: int, path: bytes, zxid: int, acl: Acl
    ) -> None:
        """Report a change to whoever watches ``path`` in ``table`` and may READ by ``acl``.

        A deletion is reported to ``data`` and directly after it to ``children``; a session that
        watches both must be told once.
        """


class Watches(Audience, Protocol):
    """The watch tables as reads see them: watches can be armed, too."""

    def add(self, table: Mapping[bytes, Any], path: bytes, watcher: Any) -> None:
        """Arm a one-shot watch of ``watcher`` (whatever ``Tree.read`` was given) on ``path``."""


_NOTHING: Final[Mapping[bytes, Any]] = MappingProxyType({})


class NullWatches:
    """Nobody watches anything."""

    data = _NOTHING
    children = _NOTHING
    recursive = _NOTHING

    def fire(
        self, table: Mapping[bytes, Any], event_type: int, path: bytes, zxid: int, acl: Acl
    ) -> None:
        """Tell nobody."""

    def add(self, table: Mapping[bytes, Any], path: bytes, watcher: Any) -> None:
        """Forget at once."""


class DeferredWatches:
    """Stands before the real watches while a multi runs: collects, then delivers or forgets."""

    __slots__ = ("_fired", "_watches", "children", "data", "recursive")

    def __init__(self, watches: Audience) -> None:
        self._watches = watches
        self._fired: list[tuple[Mapping[bytes, Any], int, bytes, int, Acl]] = []
        self.data = watches.data
        self.children = watches.children
        self.recursive = watches.recursive

    def fire(
        self, table: Mapping[bytes, Any], event_type: int, path: bytes, zxid: int, acl: Acl
    ) -> None:
        """Remember an event."""
        self._fired.append((table, event_type, path, zxid, acl))

    def deliver(self) -> None:
        """The multi succeeded: pass on everything, in order."""
        for table, event_type, path, zxid, acl in self._fired:
            if path in table or self.recursive:
                self._watches.fire(table, event_type, path, zxid, acl)
        self._fired.clear()


_CREATED: Final = int(EventType.CREATED)
_DELETED: Final = int(EventType.DELETED)
_CHILDREN_CHANGED: Final = int(EventType.CHILDREN_CHANGED)


def fire_created(
    watches: Audience, path: bytes, parent_path: bytes, zxid: int, acl: Acl, parent_acl: Acl
) -> None:
    """Report that ``path`` came into being."""
    if path in watches.data or watches.recursive:
        watches.fire(watches.data, _CREATED, path, zxid, acl)
    if parent_path in watches.children:
        watches.fire(watches.children, _CHILDREN_CHANGED, parent_path, zxid, parent_acl)


def fire_deleted(
    watches: Audience, path: bytes, parent_path: bytes, zxid: int, acl: Acl, parent_acl: Acl
) -> None:
    """Report that ``path`` is gone."""
    if path in watches.data or watches.recursive:
        watches.fire(watches.data, _DELETED, path, zxid, acl)
    if path in watches.children:
        watches.fire(watches.children, _DELETED, path, zxid, acl)
    if parent_path in watches.children:
        watches.fire(watches.children, _CHILDREN_CHANGED, parent_path, zxid, parent_acl)
