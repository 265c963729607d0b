"""Digest agreement: replicas compare a digest of their state at the same log index.

Every ``interval`` entries each replica computes its state's digest and tells the others. A replica
whose digest differs from one that a majority of voters reported is the odd one out: it must stop,
because its state machine went another way (a bug, bad memory, bad disk). Paxos Made Live §6.2
calls this the checksum request; acceptance PL-8, TH-10 (c).

Invariants:
    * only reports about the same index are compared
    * at most ``keep`` indexes are remembered
"""

from __future__ import annotations

import struct

from quorate.consensus.membership import Configuration
from quorate.errors import RemoteProtocolError

_REPORT = struct.Struct(">QQ")


class DigestAgreement:
    """Own and reported digests of recent indexes."""

    __slots__ = ("_keep", "_node_id", "_reports", "agreed_index")

    def __init__(self, node_id: int, keep: int = 16) -> None:
        self._node_id = node_id
        self._keep = keep
        self._reports: dict[int, dict[int, int]] = {}  # index -> node -> digest
        self.agreed_index = 0

    def report(self, index: int, digest: int) -> bytes:
        """Record our own digest; return the message for the others."""
        self._note(self._node_id, index, digest)
        return _REPORT.pack(index, digest)

    def receive(self, sender: int, data: bytes) -> None:
        """Record another node's digest.

        Raises:
            RemoteProtocolError: these bytes are no report.
        """
        if len(data) != _REPORT.size:
            raise RemoteProtocolError("a digest report has a wrong length")
        index, digest = _REPORT.unpack(data)
        self._note(sender, index, digest)

    def verdict(self, configuration: Configuration) -> str | None:
        """Say why this node must stop, or None while it agrees with the majority."""
        voters = [v for v in configuration.voters if v not in configuration.witnesses]
        for index in sorted(self._reports):
            reports = self._reports[index]
            mine = reports.get(self._node_id)
            if mine is None:
                continue
            votes = [reports[v] for v in voters if v in reports]
            needed = len(voters) // 2 + 1
            if votes.count(mine) >= needed:
                self.agreed_index = max(self.agreed_index, index)
                continue
            others = {digest for digest in votes if votes.count(digest) >= needed}
            if others or (len(votes) == len(voters) and len(votes) > 1):
                seen = ", ".join(f"node {n}: {reports[n]:016x}" for n in sorted(reports))
                return (
                    f"state digest at index {index} disagrees ({seen}); this node "
                    f"{'is the odd one out' if others else 'cannot tell who is right'} and stops. "
                    "Rebuild it from the others, and report a bug"
                )
        return None

    def _note(self, node: int, index: int, digest: int) -> None:
        self._reports.setdefault(index, {})[node] = digest
        while len(self._reports) > self._keep:
            del self._reports[min(self._reports)]
