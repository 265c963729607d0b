"""When sessions fall silent: the leader's soft state. Nothing of it is replicated.

Only the leader judges, and only proposes: a session is over when an EXPIRE entry is applied. A
new leader knows nothing of the past and gives every session a full fresh timeout.

What the leader hears of another node's clients is old by up to one notice and its journey, so a
quarter of the timeout is added. With notices at most every quarter, a session is over between 1
and 1.5 timeouts after its client was last heard.

Touching is one look-up and one store. Deadlines lie in buckets of time. When a bucket falls due
its sessions that were heard meanwhile move to later ones, so a session is looked at about once per
timeout however often it is heard, and a tick without a due bucket costs nothing.

Knows numbers only: no znodes, no entries. Times are monotonic milliseconds handed in.
"""

from __future__ import annotations

from heapq import heappop, heappush

BUCKET_MS = 100


def patience_ms(timeout_ms: int) -> int:
    """How long the leader waits after it heard of a session: its timeout and a quarter."""
    return timeout_ms + timeout_ms // 4


class SessionClock:
    """Finds the sessions that have not been heard for longer than they agreed to.

    Args:
        bucket_ms: granularity of deadlines; a session is found up to this much late.
    """

    def __init__(self, bucket_ms: int = BUCKET_MS) -> None:
        assert bucket_ms >= 1
        self._bucket_ms = bucket_ms
        self._heard_ms: dict[int, int] = {}
        self._patience_ms: dict[int, int] = {}
        self._buckets: dict[int, list[int]] = {}
        self._bucket_of: dict[int, int] = {}  # the one entry of a session that counts
        self._due: list[int] = []  # heap of the buckets' numbers

    def __len__(self) -> int:
        return len(self._patience_ms)

    def clear(self) -> None:
        """Forget everything: this node does not lead any more."""
        self._heard_ms.clear()
        self._patience_ms.clear()
        self._buckets.clear()
        self._bucket_of.clear()
        self._due.clear()

    def watch(self, session_id: int, timeout_ms: int, now_ms: int) -> None:
        """Begin to watch a session, or give it another timeout; it was heard just now."""
        assert timeout_ms > 0
        patience = patience_ms(timeout_ms)
        known = self._patience_ms.get(session_id)
        self._patience_ms[session_id] = patience
        self._heard_ms[session_id] = now_ms
        if known is None or patience < known:
            # A shorter patience needs an earlier bucket; the entry in the later one dies there.
            self._put(session_id, now_ms + patience)

    def touch(self, session_id: int, now_ms: int) -> None:
        """A session was heard; nothing happens when it is not watched."""
        if session_id in self._heard_ms:
            self._heard_ms[session_id] = now_ms

    def forget(self, session_id: int) -> None:
        """A session is over; its bucket entry is dropped when it falls due."""
        self._patience_ms.pop(session_id, None)
        self._heard_ms.pop(session_id, None)
        self._bucket_of.pop(session_id, None)

    def silent(self, now_ms: int) -> list[int]:
        """Give the sessions whose time is up. They are given again later unless forgotten."""
        found: list[int] = []
        while self._due and self._due[0] * self._bucket_ms <= now_ms:
            number = heappop(self._due)
            for session_id in self._buckets.pop(number):
                if self._bucket_of.get(session_id) != number:
                    continue  # forgotten, or moved to an earlier bucket
                patience = self._patience_ms[session_id]
                deadline_ms = self._heard_ms[session_id] + patience
                if deadline_ms <= now_ms:
                    found.append(session_id)
                    deadline_ms = now_ms + patience // 4  # again, should the proposal be lost
                self._put(session_id, max(deadline_ms, now_ms + 1))
        return found

    def _put(self, session_id: int, deadline_ms: int) -> None:
        number = -(-deadline_ms // self._bucket_ms)  # rounded up: never early
        self._bucket_of[session_id] = number
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = [session_id]
            heappush(self._due, number)
        else:
            bucket.append(session_id)
