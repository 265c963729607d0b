"""Progress: what a leader knows about one member, and how much it may send it.

A member is in one of three states::

    PROBE      we do not know where its log agrees with ours: one message at a time
    REPLICATE  we know: messages are pipelined up to a window, ``next_index`` runs ahead
    SNAPSHOT   the entries it needs are compacted: it gets a snapshot in pieces

    PROBE --success--> REPLICATE --rejection, new connection--> PROBE
    any --needs compacted entries--> SNAPSHOT --installed--> REPLICATE

Knows no messages and no term: only indexes, bytes and the state (dissertation §10.2.2).

Invariants:
    * ``match_index`` never falls: what a member acknowledged stays on its disk, unless it says
      itself that the disk was damaged (``lost``)
    * ``match_index < next_index``
    * bytes and messages in flight are bounded; a window is never so small that nothing may go
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from quorate.consensus.entry import SnapshotMeta


class ProgressState(Enum):
    """How a member is being brought up to date."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


PROBE = ProgressState.PROBE
REPLICATE = ProgressState.REPLICATE
SNAPSHOT = ProgressState.SNAPSHOT


class Progress:
    """One member as its leader sees it."""

    __slots__ = (
        "_inflight",
        "_inflight_bytes",
        "_stall_mark",
        "is_paused",
        "is_witness",
        "match_index",
        "next_index",
        "node_id",
        "sent_commit",
        "snapshot",
        "snapshot_offset",
        "snapshot_sent_ms",
        "state",
    )

    def __init__(self, node_id: int, next_index: int) -> None:
        self.node_id = node_id
        self.state = PROBE
        self.match_index = 0
        self.next_index = next_index
        self.is_paused = False  # PROBE: a probe is under way
        self.is_witness = False  # it keeps no data, so it is sent none
        self.sent_commit = 0  # the highest commit index we told it
        self.snapshot: SnapshotMeta | None = None
        self.snapshot_offset = 0
        self.snapshot_sent_ms = 0
        self._inflight: deque[tuple[int, int]] = deque()  # last index, payload bytes
        self._inflight_bytes = 0
        self._stall_mark = 0

    def has_room(self, bytes_max: int, messages_max: int) -> bool:
        """Whether one more message may go out."""
        return self._inflight_bytes < bytes_max and len(self._inflight) < messages_max

    def sent(self, last_index: int, size_bytes: int) -> None:
        """Note a pipelined message that ends at ``last_index``."""
        assert self.state is REPLICATE, "only a replicating member is pipelined"
        assert last_index >= self.next_index, "a pipelined message moves forward"
        self._inflight.append((last_index, size_bytes))
        self._inflight_bytes += size_bytes
        self.next_index = last_index + 1

    def acknowledged(self, match_index: int) -> bool:
        """Note what the member has stored; say whether that is news."""
        if match_index <= self.match_index:
            return False
        self.match_index = match_index
        if self.next_index <= match_index:
            self.next_index = match_index + 1
        inflight = self._inflight
        while inflight and inflight[0][0] <= match_index:
            self._inflight_bytes -= inflight.popleft()[1]
        assert self._inflight_bytes >= 0, "more bytes acknowledged than sent"
        return True

    def become_probe(self, next_index: int) -> None:
        """Stop pipelining and find out where the logs agree."""
        self.state = PROBE
        self.next_index = max(next_index, self.match_index + 1)
        self.is_paused = False
        self.sent_commit = 0
        self.snapshot = None
        self._forget_inflight()

    def become_replicate(self) -> None:
        """The logs agree up to ``match_index``: pipeline from there."""
        self.state = REPLICATE
        self.next_index = self.match_index + 1
        self.is_paused = False
        self.snapshot = None
        self._forget_inflight()

    def become_snapshot(self, meta: SnapshotMeta) -> None:
        """Send a snapshot from its beginning."""
        self.state = SNAPSHOT
        self.snapshot = meta
        self.snapshot_offset = 0
        self._forget_inflight()

    def lost(self, last_index: int) -> None:
        """Its disk lost what it had acknowledged: find out anew where the logs agree."""
        self.match_index = 0
        self.become_probe(last_index + 1)

    def reconnected(self, last_index: int) -> None:
        """A new connection: what was in flight may be lost, so ask where the member is."""
        # Without any acknowledgement in this leadership, next_index is still the better guess.
        known = self.match_index + 1 if self.match_index else self.next_index
        self.become_probe(min(known, last_index + 1))

    def is_stalled(self) -> bool:
        """Whether the oldest message in flight is the same as at the last call.

        Called once per heartbeat: a whole interval without an acknowledgement may mean loss.
        """
        oldest = self._inflight[0][0] if self._inflight else 0
        stalled = oldest != 0 and oldest == self._stall_mark
        self._stall_mark = oldest
        return stalled

    def describe(self) -> str:
        """One line for people."""
        line = f"{self.state.value} match={self.match_index} next={self.next_index}"
        if self.state is SNAPSHOT and self.snapshot is not None:
            line += f" snapshot={self.snapshot.index}@{self.snapshot_offset}"
        elif self._inflight:
            line += f" inflight={len(self._inflight)}"
        elif self.is_paused:
            line += " paused"
        return line

    def _forget_inflight(self) -> None:
        self._inflight.clear()
        self._inflight_bytes = 0
        self._stall_mark = 0
