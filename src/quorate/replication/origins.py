"""Which batches of which node were applied: what makes a resent batch apply once.

Part of the replicated state: every replica keeps the same table, and snapshots carry it. A node
numbers its batches within its incarnation (one start of its process) and resends them, in order,
until it sees them applied; this table refuses repeats, gaps and anything of an earlier
incarnation. It is the exactly-once record of Raft §8 / dissertation §6.3, with the *node* as the
client: a whole batch of many clients costs one dictionary look-up.

Invariants:
    * incarnations never fall; within one, applied numbers are 1, 2, 3 ... without gaps
    * the table holds one row per node that ever sent a batch (bounded by the membership)
"""

from __future__ import annotations

import struct

from quorate.errors import RemoteProtocolError

_COUNT = struct.Struct(">I")
_ROW = struct.Struct(">IQQ")


class AppliedBatches:
    """The last applied batch of each node."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, int]] = {}  # node -> (incarnation, number)

    def is_next(self, node: int, incarnation: int, number: int) -> bool:
        """Whether this is the one batch of its node that may be applied now."""
        known_incarnation, known_number = self._last.get(node, (0, 0))
        if incarnation == known_incarnation:
            return number == known_number + 1
        return incarnation > known_incarnation and number == 1

    def record(self, node: int, incarnation: int, number: int) -> None:
        """Remember a batch as applied; it must be the next one."""
        assert self.is_next(node, incarnation, number)
        self._last[node] = (incarnation, number)

    def last_number(self, node: int, incarnation: int) -> int:
        """Number of the last applied batch of this incarnation; 0 when none was."""
        known_incarnation, number = self._last.get(node, (0, 0))
        return number if known_incarnation == incarnation else 0

    def copy(self) -> AppliedBatches:
        """Return an independent copy (the leader looks ahead of apply with one)."""
        other = AppliedBatches()
        other._last = dict(self._last)
        return other

    def encode(self) -> bytes:
        """Stable bytes, equal on all replicas."""
        rows = [_ROW.pack(node, *self._last[node]) for node in sorted(self._last)]
        return _COUNT.pack(len(rows)) + b"".join(rows)

    @classmethod
    def decode(cls, data: bytes) -> AppliedBatches:
        """Inverse of ``encode``.

        Raises:
            RemoteProtocolError: these bytes are no such table; nothing happened.
        """
        try:
            (count,) = _COUNT.unpack_from(data)
            if len(data) != _COUNT.size + count * _ROW.size:
                raise RemoteProtocolError("table of applied batches has a wrong length")
        except struct.error as error:
            raise RemoteProtocolError(f"malformed table of applied batches: {error}") from None
        table = cls()
        for node, incarnation, number in _ROW.iter_unpack(data[_COUNT.size :]):
            table._last[node] = (incarnation, number)
        return table
