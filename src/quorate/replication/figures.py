"""What a replica counts, and the picture that status pages and metrics are made from.

Counted once per batch, entry or snapshot, never per request. Local to a node and to this start of
it; no part of the replicated state, and nothing is decided by it.

Invariant: counters only rise while the process lives.
"""

from __future__ import annotations

from typing import NamedTuple

from quorate.consensus.engine import NO_LEADER, EngineStatistics


class ReplicaStatistics(NamedTuple):
    """Numbers for status pages, metrics and tests.

    Attributes:
        batches_submitted: of this node's clients.
        batches_applied: of all nodes' clients, since this start.
        bytes_applied: payload of the entries that were applied, since this start.
        leader_changes: how often somebody else than before was seen to lead.
    """

    engine: EngineStatistics
    applied_index: int
    time_ms: int
    batches_pending: int
    bytes_pending: int
    intake_dropped: int
    duplicates_refused: int
    digest_agreed_index: int
    snapshot_running: bool
    batches_submitted: int
    batches_applied: int
    bytes_applied: int
    leader_changes: int
    snapshots_saved: int
    snapshots_installed: int
    snapshot_last_bytes: int
    log_bytes_since_snapshot: int
    snapshot_threshold_bytes: int


class ReplicaFigures:
    """The counters behind some of these numbers."""

    __slots__ = (
        "_last_leader",
        "batches_applied",
        "bytes_applied",
        "duplicates_refused",
        "leader_changes",
        "snapshots_installed",
        "snapshots_saved",
    )

    def __init__(self) -> None:
        self.batches_applied = 0
        self.bytes_applied = 0
        self.duplicates_refused = 0
        self.leader_changes = 0
        self.snapshots_installed = 0
        self.snapshots_saved = 0
        self._last_leader = NO_LEADER

    def leads(self, leader: int) -> None:
        """Somebody, or nobody, leads; nobody in between makes no change."""
        if leader not in (NO_LEADER, self._last_leader):
            self.leader_changes += 1
            self._last_leader = leader
