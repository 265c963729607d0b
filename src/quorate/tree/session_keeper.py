"""Which sessions live: what followers tell the leader, and what the leader proposes.

A follower notes which sessions its clients spoke for and tells the leader now and then. The leader
watches all of them with a ``SessionClock`` and proposes the end of those that are silent. Soft
state of one node; what is proposed becomes true only when it is applied.

Silence is measured in time that this node listened, not in time that passed: a process that stood
still (SIGSTOP, a suspended machine) could not have heard anybody, and has not when it goes on.

A proposal carries the epoch of this leadership and the log's time at which it was made, as well as
this node can tell: the time of the last entry it applied and how long it has listened since. See
``tree/batch.py`` for what they are good for.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from struct import Struct
from typing import Final

from quorate.errors import RemoteProtocolError
from quorate.tree.batch import Expire, Held, Reap, Run
from quorate.tree.service_settings import ServiceSettings
from quorate.tree.session_clock import SessionClock
from quorate.tree.tree import Tree

NOTICE_SESSIONS_MAX: Final = 100_000
_PROPOSED_MAX: Final = 10_000
_ID: Final = Struct(">q")


class SessionKeeper:
    """Hears sessions, as follower or as leader.

    Args:
        settings: timeouts and intervals.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._clock = SessionClock(settings.clock_bucket_ms)
        self._is_leading = False
        self._epoch = 0  # of the newest leadership
        self._ticked_ms = 0
        self._stall_ms = settings.stall_ms
        self._listened_ms = 0  # time that passed, without what this process missed of it
        self._heard: dict[int, None] = {}  # since the last notice
        self._notice_due_ms = 0
        self._reap_due_ms = 0
        self._log_time_ms = 0  # of the last entry applied
        self._log_time_at_ms = 0  # when that was, in time listened

    @property
    def is_leading(self) -> bool:
        """Whether this node leads."""
        return self._is_leading

    @property
    def epoch(self) -> int:
        """Epoch of the newest leadership of this node."""
        return self._epoch

    def lead(self, tree: Tree, now_ms: int, epoch: int) -> None:
        """This node leads from now on: every session gets a full fresh timeout."""
        self._is_leading = True
        self._epoch = epoch
        self._heard.clear()
        self._clock.clear()
        for session_id, session in tree.sessions.items():
            self._clock.watch(session_id, session.timeout_ms, self._listened_ms)
        self._reap_due_ms = now_ms + self._settings.reap_interval_ms

    def follow(self) -> None:
        """This node does not lead any more."""
        self._is_leading = False
        self._clock.clear()

    # ---- hearing -------------------------------------------------------------------------------

    def listen(self, now_ms: int) -> None:
        """Time passed; a gap longer than a stall was no time to listen in."""
        passed_ms = now_ms - self._ticked_ms
        self._ticked_ms = now_ms
        self._listened_ms += min(passed_ms, self._stall_ms)

    def hear(self, session_id: int) -> None:
        """A client of this node spoke."""
        if self._is_leading:
            self._clock.touch(session_id, self._listened_ms)
        else:
            self._heard[session_id] = None

    def applied(self, session_id: int) -> None:
        """A request of this session came through the log, from whichever node."""
        if self._is_leading:
            self._clock.touch(session_id, self._listened_ms)

    def attached(self, session_id: int, timeout_ms: int) -> None:
        """A session was opened or attached, on whichever node."""
        if self._is_leading:
            self._clock.watch(session_id, timeout_ms, self._listened_ms)

    def ended(self, session_id: int) -> None:
        """A session is over."""
        self._clock.forget(session_id)
        self._heard.pop(session_id, None)

    def log_time(self, time_ms: int) -> None:
        """An entry with this time was applied."""
        self._log_time_ms = time_ms
        self._log_time_at_ms = self._listened_ms

    # ---- telling -------------------------------------------------------------------------------

    def take_notice(self, now_ms: int) -> bytes | None:
        """What to tell the leader, when it is time and there is something."""
        if self._is_leading or not self._heard or now_ms < self._notice_due_ms:
            return None
        self._notice_due_ms = now_ms + self._settings.notice_every_ms
        told = list(islice(self._heard, NOTICE_SESSIONS_MAX))
        for session_id in told:
            del self._heard[session_id]
        return b"".join(map(_ID.pack, told))

    def receive_notice(self, data: bytes) -> None:
        """Take a follower's notice; of no interest unless this node leads.

        Raises:
            RemoteProtocolError: these bytes are no notice. Nothing happened.
        """
        if len(data) % _ID.size or len(data) > NOTICE_SESSIONS_MAX * _ID.size:
            raise RemoteProtocolError(f"a notice of {len(data)} bytes is no list of sessions")
        if self._is_leading:
            for (session_id,) in _ID.iter_unpack(data):
                self._clock.touch(session_id, self._listened_ms)

    # ---- proposing -----------------------------------------------------------------------------

    def proposals(self, tree: Tree, now_ms: int) -> Iterable[Run]:
        """What the leader proposes now: the end of silent sessions, and of znodes out of time."""
        if not self._is_leading:
            return
        silent = []
        for session_id in self._clock.silent(self._listened_ms):
            session = tree.sessions.get(session_id)
            if session is None:
                self._clock.forget(session_id)
            else:
                silent.append(Held(session_id, *session.owner))
        for begin in range(0, len(silent), _PROPOSED_MAX):
            found = tuple(silent[begin : begin + _PROPOSED_MAX])
            yield Expire(self._log_now_ms(), found, self._epoch)
        if now_ms >= self._reap_due_ms:
            self._reap_due_ms = now_ms + self._settings.reap_interval_ms
            paths = tree.reapable(self._log_now_ms())[:_PROPOSED_MAX]
            if paths:
                yield Reap(tuple(paths))

    def _log_now_ms(self) -> int:
        """What time the log would say now; less, if this process stood still since."""
        return self._log_time_ms + self._listened_ms - self._log_time_at_ms
