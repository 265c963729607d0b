"""A state machine that makes every mistake visible: it remembers all it was ever told.

Each batch is one unique text. The ledger keeps them in order, so a lost, doubled or reordered
apply on any node shows as a different list. (FoundationDB's advice: choose an invariant that any
error breaks.)
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from quorate.replication.state_machine import ApplyContext


class Ledger:
    """Append-only list of batches with a running digest."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._digest = 0

    def apply(self, payload: bytes, context: ApplyContext) -> int:
        """Append; the result is the line's number, from 1."""
        assert context.time_ms >= 0
        self.lines.append(payload)
        self._digest = zlib.crc32(payload, self._digest)
        return len(self.lines)

    def snapshot(self) -> Iterator[bytes]:
        """Yield the lines as of now in a few pieces."""
        lines = list(self.lines)
        return (
            b"".join(len(line).to_bytes(4, "big") + line for line in lines[at : at + 7])
            for at in range(0, len(lines), 7)
        )

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Read the lines back, whatever the piece boundaries."""
        data = b"".join(chunks)
        self.lines, self._digest, position = [], 0, 0
        while position < len(data):
            end = position + 4 + int.from_bytes(data[position : position + 4], "big")
            self.lines.append(data[position + 4 : end])
            self._digest = zlib.crc32(self.lines[-1], self._digest)
            position = end

    def digest(self) -> int:
        """Running checksum over all lines."""
        return self._digest
