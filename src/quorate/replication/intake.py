"""The leader's intake: sub-batches waiting to become the next entry.

While an entry is on its way to disk the next one gathers here; an idle system ships at once. The
intake looks ahead of apply: it starts from the table of applied batches at the moment leadership
is established (everything older is applied then) and admits from each node only the next number,
so within one epoch the log holds no repeats and no gaps.

Forwarded batches may arrive between winning the election and being established; they are held,
not dropped, so that nobody waits for a timer.

Invariants:
    * nothing is admitted before ``open``; nothing survives ``close``
    * held and gathered bytes are bounded; what does not fit is dropped, and its origin resends
"""

from __future__ import annotations

from collections import deque

from quorate.replication.batch import iterate_sub_batches
from quorate.replication.origins import AppliedBatches


class Intake:
    """Gathers, orders and de-duplicates what nodes forward to this leader."""

    __slots__ = (
        "_ahead",
        "_held",
        "_held_bytes",
        "_queue",
        "bytes_gathered",
        "bytes_max",
        "dropped",
    )

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_gathered = 0
        self.dropped = 0
        self._ahead: AppliedBatches | None = None  # None: not established
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._queue: deque[bytes] = deque()

    def __bool__(self) -> bool:
        return bool(self._queue)

    @property
    def is_open(self) -> bool:
        """Whether this node leads, established, and may admit batches."""
        return self._ahead is not None

    def open(self, applied: AppliedBatches) -> None:
        """Leadership is established and everything before it applied: admit what was held."""
        assert self._ahead is None
        assert not self._queue
        self._ahead = applied.copy()
        held, self._held, self._held_bytes = self._held, [], 0
        for data in held:
            self.admit(data)

    def close(self) -> None:
        """Leadership is gone; origins will resend to the next leader."""
        self._ahead = None
        self._held.clear()
        self._held_bytes = 0
        self._queue.clear()
        self.bytes_gathered = 0

    def admit(self, data: bytes) -> None:
        """Take concatenated sub-batches in.

        Raises:
            RemoteProtocolError: malformed; the whole sub-batches before the damage were admitted.
        """
        if self._ahead is None:
            if self._held_bytes + len(data) > self.bytes_max:
                self.dropped += 1
                return
            self._held.append(data)
            self._held_bytes += len(data)
            return
        for sub in iterate_sub_batches(data):
            if not self._ahead.is_next(sub.node, sub.incarnation, sub.number):
                self.dropped += 1  # a repeat, or a gap whose origin resends
                continue
            if self.bytes_gathered + len(sub.raw) > self.bytes_max and self._queue:
                self.dropped += 1
                continue
            self._ahead.record(sub.node, sub.incarnation, sub.number)
            self._queue.append(sub.raw)
            self.bytes_gathered += len(sub.raw)

    def admit_own(self, node: int, incarnation: int, number: int, raw: bytes) -> None:
        """``admit`` for this node's own next sub-batch, which needs no decoding."""
        ahead = self._ahead
        if ahead is None or not ahead.is_next(node, incarnation, number):
            self.admit(raw)
            return
        ahead.record(node, incarnation, number)
        self._queue.append(raw)
        self.bytes_gathered += len(raw)

    def take(self, entry_bytes_max: int) -> list[bytes]:
        """Return sub-batches for one entry: at least one, about ``entry_bytes_max`` at most."""
        taken: list[bytes] = []
        size = 0
        while self._queue and (not taken or size + len(self._queue[0]) <= entry_bytes_max):
            raw = self._queue.popleft()
            size += len(raw)
            taken.append(raw)
        self.bytes_gathered -= size
        return taken
