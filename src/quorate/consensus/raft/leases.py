"""Leases: what lets a leader answer a read without asking anybody (dissertation §6.4.1).

Two halves that only make sense together. A voter that echoes a heartbeat *promises*: it gives its
vote to nobody, itself included, until an election timeout has passed on its own clock. A leader
whose round a quorum has echoed with promises holds a *lease*: until then nobody else can have been
elected, so nothing can have been committed that it does not know.

    leader   |sent ............ lease ............|          election timeout / drift bound
    voter        |echoed ............ promise ............|  election timeout

The leader counts from when the round was *sent*, the voters from when they *echoed*, which is
later; so the lease ends first as long as no clock runs faster than another by more than the drift
bound. Both sides read their clocks so that an error makes the lease shorter and the promise longer:

* a round is stamped with the last tick before it was sent, a promise with the first tick after it
  was given (a process may have stood still in between, with an old time in its hands)
* a lease is judged by a clock that was read after the read had come in (``Clock``): by the last
  tick, a leader that stood still would answer from before its pause (etcd #20418)

What else it takes: a promise outlives its process, so a voter that starts keeps one; a closed
connection ends none, because a process that looks gone may hold a lease. An order to campaign
(§3.10) overrides promises, and may arrive at any time after it was sent: so a leader that ever sent
one gives up its lease, for the rest of its term, before it does.

Knows numbers only: no roles, no messages, no quorums. Times are milliseconds of one node's clock.
"""

from __future__ import annotations

from collections import deque
from typing import Final

ROUNDING_MS: Final = 2
"""Both clocks are read in whole milliseconds: each reading may be up to one too old."""


def lease_ms(election_timeout_ms: int, drift_percent: int) -> int:
    """How long a lease lasts on its leader's clock, in ms.

    Args:
        election_timeout_ms: what voters promise, on their clocks.
        drift_percent: the drift bound: how far the fastest clock of the cluster moves while the
            slowest moves by 100, at most, over an election timeout; 100: clocks that run alike.
    """
    assert drift_percent >= 100
    return max(0, election_timeout_ms * 100 // drift_percent - ROUNDING_MS)


class Lease:
    """The leader's half.

    Args:
        length_ms: see ``lease_ms``; 0: there are no leases.
    """

    __slots__ = ("_from_ms", "_is_barred", "_length_ms", "_rounds")

    def __init__(self, length_ms: int) -> None:
        self._length_ms = length_ms
        self._from_ms: int | None = None
        self._is_barred = False
        self._rounds: deque[tuple[int, int]] = deque()  # first round of each stamp, and the stamp

    def begin_term(self) -> None:
        """A leadership begins or ends: nothing that was promised before counts."""
        self.drop()
        self._is_barred = False

    def drop(self) -> None:
        """Hold nothing until a round that is sent from now on is confirmed."""
        self._from_ms = None
        self._rounds.clear()

    def bar(self) -> None:
        """Hold nothing for the rest of the term: somebody is about to be told to campaign."""
        self.drop()
        self._is_barred = True

    def sent(self, round_: int, now_ms: int) -> None:
        """A round leaves; ``now_ms`` is at most what the clock shows."""
        if not self._length_ms or self._is_barred:
            return
        rounds = self._rounds
        while rounds and rounds[0][1] + self._length_ms <= now_ms:
            rounds.popleft()  # worth nothing any more, whoever confirms it
        if not rounds or rounds[-1][1] < now_ms:
            rounds.append((round_, now_ms))

    def confirmed(self, round_: int) -> None:
        """A quorum has promised in answer to this round or later ones."""
        rounds = self._rounds
        while rounds and rounds[0][0] <= round_:
            self._from_ms = rounds.popleft()[1]

    def is_held(self, now_ms: int) -> bool:
        """Whether nobody else can lead yet when the clock shows this."""
        return now_ms < self.until_ms

    @property
    def until_ms(self) -> int:
        """When it ends if nothing renews it; 0: there is none."""
        if self._from_ms is None or self._is_barred:
            return 0
        return self._from_ms + self._length_ms


class Promise:
    """The voter's half.

    Args:
        length_ms: the election timeout; 0: nothing is ever promised.
        now_ms: what the clock shows, or less.
    """

    __slots__ = ("_is_fresh", "_since_ms", "length_ms")

    def __init__(self, length_ms: int, now_ms: int) -> None:
        self.length_ms = length_ms
        self._since_ms = now_ms - length_ms
        self._is_fresh = False

    def give(self) -> None:
        """Promise now; it counts from the next tick, which is the first time known to be later."""
        self._is_fresh = self.length_ms > 0

    def tick(self, now_ms: int) -> None:
        """Time passed."""
        if self._is_fresh:
            self._is_fresh = False
            self._since_ms = now_ms

    def is_kept(self, now_ms: int) -> bool:
        """Whether this node may not vote yet, unless its leader has said that it may."""
        return self._is_fresh or now_ms - self._since_ms < self.length_ms

    def until_ms(self, now_ms: int) -> int:
        """When it will be over, as far as can be said; not before ``now_ms``."""
        if self._is_fresh:
            return now_ms + self.length_ms
        return max(now_ms, self._since_ms + self.length_ms)
