"""What the client service counts, for ``mntr`` and the status page.

Cheap on purpose: counted once per run of writes, per read and per turn, never per frame of a run.
Local to a node; no part of the replicated state.
"""

from __future__ import annotations

from typing import NamedTuple

from quorate.protocol.four_letter import ServiceStatistics
from quorate.tree.tree import Tree

REASONS = (
    *("hung up", "the client closed its session", "four-letter word", "nobody leads"),
    *("its session is over", "its session moved or expired", "no handshake in time"),
    *("it has seen what this node has not yet", "this node loaded a snapshot"),
    *("does not speak the protocol", "authentication failed", "too many watches"),
    "the disk is full",
)
"""Why connections end. Counted from 0: a counter that appears late hides its first event."""


class Goodbye(NamedTuple):
    """A connection that ended, for the node's log. ``session_id`` is 0 before a session."""

    connection: int
    address: str
    session_id: int
    reason: str


class Figures:
    """Counters since the start of this process; bytes and packets as clients see them."""

    __slots__ = (
        "broken",
        "bytes_in",
        "bytes_out",
        "closed",
        "expired",
        "latency_count",
        "latency_max_ms",
        "latency_min_ms",
        "latency_sum_ms",
        "packets_in",
        "packets_out",
        "refused",
        "writes_refused",
    )

    def __init__(self) -> None:
        self.refused = 0
        self.writes_refused = 0
        self.broken = 0
        self.expired = 0
        self.closed = dict.fromkeys(REASONS, 0)
        self.packets_in = 0
        self.packets_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.latency_count = 0
        self.latency_sum_ms = 0
        self.latency_max_ms = 0
        self.latency_min_ms = 0

    def count_closed(self, reason: str) -> None:
        """A connection ended for this reason."""
        self.closed[reason] = self.closed.get(reason, 0) + 1

    def count_writes(self, count: int, latency_ms: int) -> None:
        """So many writes were answered, this long after they came."""
        self.packets_in += count
        self.packets_out += count
        if not self.latency_count or latency_ms < self.latency_min_ms:
            self.latency_min_ms = latency_ms
        if latency_ms > self.latency_max_ms:
            self.latency_max_ms = latency_ms
        self.latency_count += count
        self.latency_sum_ms += latency_ms * count

    def statistics(
        self, tree: Tree, *, connections: int, watches: int, runs: int, outstanding_bytes: int
    ) -> ServiceStatistics:
        """Everything in one picture, with what others know. Takes a look at every session."""
        return ServiceStatistics(
            connections=connections,
            connections_refused=self.refused,
            sessions=len(tree.sessions),
            znodes=len(tree.znodes),
            ephemerals=sum(len(session.ephemerals) for session in tree.sessions.values()),
            watches=watches,
            outstanding_runs=runs,
            outstanding_bytes=outstanding_bytes,
            packets_received=self.packets_in,
            packets_sent=self.packets_out,
            bytes_received=self.bytes_in,
            bytes_sent=self.bytes_out,
            latency_min_ms=self.latency_min_ms,
            latency_max_ms=self.latency_max_ms,
            latency_sum_ms=self.latency_sum_ms,
            latency_count=self.latency_count,
            expired=self.expired,
            protocol_errors=self.broken,
            writes_refused=self.writes_refused,
            zxid=tree.zxid,
        )
