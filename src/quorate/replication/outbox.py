"""The batches this node submitted and has not seen applied yet.

Every node has one, the leader too. It numbers the batches, keeps them until they are applied
*here*, and says what still has to go to the present leader. When the leader changes, or the link
to it was down, everything unapplied is sent again in order; ``AppliedBatches`` on every replica
makes that harmless. So a leader change is invisible to clients of surviving nodes.

Invariants:
    * numbers are 1, 2, 3 ... ; pending ones are consecutive
    * what was sent to the present leader is a prefix of what is pending
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from quorate.replication.batch import encode_sub_batch


class Outbox:
    """Numbered batches on their way to the log."""

    __slots__ = ("_incarnation", "_node_id", "_pending", "_sent", "bytes_pending", "number_last")

    def __init__(self, node_id: int, incarnation: int) -> None:
        self._node_id = node_id
        self._incarnation = incarnation
        self._pending: deque[tuple[int, bytes]] = deque()
        self._sent = 0  # how many of the pending ones the present leader was sent
        self.number_last = 0
        self.bytes_pending = 0

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def has_unsent(self) -> bool:
        """Whether ``take_unsent`` would return something."""
        return self._sent < len(self._pending)

    @property
    def number_settled(self) -> int:
        """Number of the newest batch that is no longer pending."""
        return self.number_last - len(self._pending)

    def submit(self, payload: bytes) -> int:
        """Queue a batch; return its number."""
        self.number_last += 1
        raw = encode_sub_batch(self._node_id, self._incarnation, self.number_last, payload)
        self._pending.append((self.number_last, raw))
        self.bytes_pending += len(raw)
        return self.number_last

    def applied(self, number: int) -> None:
        """Forget the oldest batch: it was applied on this node."""
        first, raw = self._pending.popleft()
        assert first == number, f"applied batch {number}, but {first} is the oldest pending"
        self.bytes_pending -= len(raw)
        self._sent = max(0, self._sent - 1)

    def settle(self, number: int) -> None:
        """Forget all batches up to ``number``: a snapshot says that they were applied."""
        while self._pending and self._pending[0][0] <= number:
            self.applied(self._pending[0][0])

    def resend(self) -> None:
        """Consider nothing sent: the leader is another one, or may have missed something."""
        self._sent = 0

    def take_unsent(self) -> list[tuple[int, bytes]]:
        """Return (number, encoded sub-batch) to send to the present leader, oldest first."""
        fresh = list(islice(self._pending, self._sent, None))
        self._sent = len(self._pending)
        return fresh
