"""One client's connection and the order of its requests.

ZooKeeper promises FIFO per client: replies come in the order of the requests, and a read sees
exactly the writes sent before it. Most of the time nothing waits and a read is answered where it
arrives. Otherwise requests stand in two queues:

    pending    admitted: its writes are on their way to the log, its syncs wait for their read
               point, and each read stands behind the write or sync it must follow
    held       not admitted yet: writes behind a sync (their reply must not overtake it, nor their
               effect show in reads before them), and whatever is behind those

Where reads are linearizable (``is_fresh``), each read waits for a read point that was asked for
after it arrived, and stands in ``pending`` like a sync. Unlike a sync it holds nothing up: a write
of the same client may follow it into the log. If that write is applied first, the read is answered
just before it, and that is a read point too: the leader put the write behind everything that was
committed when the read was asked.

Bound: a write is admitted while fewer than ``READS_AHEAD_MAX`` reads stand in ``pending``. They are
answered before it is applied, even if the output is full, so this bounds that output.

Knows nothing of trees, batches and barriers: those are behind ``Desk``.

Invariants:
    * the head of ``pending`` waits for something, unless ``full`` (output) holds a read there
    * a sync whose read point is outstanding has no write behind it in ``pending``
    * a read that must be fresh is answered at a read point asked for after it arrived, or just
      before a write that was submitted after it
    * ``held`` is empty, or its head was refused admission
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import Final, Protocol, TypeAlias

from quorate.protocol.connection import ClientConnection, Piece
from quorate.tree.sessions import Session

READS_AHEAD_MAX: Final = 64


class Due(IntEnum):
    """What a pending request waits for."""

    APPLY = 0  # the log
    SYNC = 1  # a read point
    ANSWER = 2  # only those before it
    FRESH = 3  # a read point, or the next write of its client


Pending: TypeAlias = tuple[Due, Piece, bytes, int]
"""What it waits for, what it is, its frames, and when it came (APPLY) or its token (others)."""

# Looking a member up on its enum is slow in Python 3.11; these are looked up for every request.
_APPLY: Final = Due.APPLY
_ANSWER: Final = Due.ANSWER
_FRESH: Final = Due.FRESH
_SYNC: Final = Piece.SYNC
_READ: Final = Piece.READ
_LOGGED: Final = frozenset({Piece.WRITES, Piece.CLOSE, Piece.AUTH})


class Desk(Protocol):
    """What serves a client's requests: the service, seen from a client."""

    now_ms: int
    """The time the driver gave last; monotonic."""

    def submit(self, client: Client, kind: Piece, frames: bytes) -> bool:
        """Send a request to the log; false when it will be refused without asking the log."""

    def ask_read_point(self, client: Client) -> int:
        """Ask for a read point; gives its token."""

    def join_read_point(self, client: Client) -> int:
        """Let a read wait for the next read point; gives its token."""

    def is_waiting(self, token: int) -> bool:
        """Whether this read point is still outstanding."""

    def answer(self, client: Client, kind: Piece, frame: bytes) -> None:
        """Answer a request from what this node knows."""


class Client:
    """A client's connection. The attributes are the service's to read and to change.

    Attributes:
        number: of the connection, unique in this process.
        address: where the client is.
        bytes_in: splits what it sends.
        session: ``None`` until its handshake is through the log.
        timeout_ms: of that session, as negotiated; 0 before the handshake.
        has_read_only: the form of its handshake, and so of the answer.
        is_fresh: its reads are linearizable.
        read_token: the newest read point that one of its reads waits for.
        out: frames to be written at the end of the turn.
        out_bytes: size of the answers to reads among them.
        outstanding_bytes: size of the requests that wait.
        pending: see the module.
        held: see the module.
        reads: how many reads stand in ``pending``.
        syncs: how many syncs there still wait for their read point.
        full: too much output to answer more reads.
        congested: the driver says that the client does not read.
        paused: the driver was told to read no more from it.
        ended: closed, by us or by it; nothing more happens here.
    """

    __slots__ = (
        "_dirty",
        "_doomed",
        "address",
        "bytes_in",
        "congested",
        "ended",
        "full",
        "has_read_only",
        "held",
        "is_fresh",
        "number",
        "out",
        "out_bytes",
        "outstanding_bytes",
        "paused",
        "pending",
        "read_token",
        "reads",
        "session",
        "syncs",
        "timeout_ms",
    )

    def __init__(
        self,
        number: int,
        address: str,
        bytes_in: ClientConnection,
        *,
        dirty: list[Client],
        doomed: list[Client],
        is_fresh: bool = False,
    ) -> None:
        self.number = number
        self.address = address
        self.bytes_in = bytes_in
        self.session: Session | None = None
        self.timeout_ms = 0
        self.has_read_only = False
        self.is_fresh = is_fresh
        self.read_token = 0
        self.out: list[bytes] = []
        self.out_bytes = 0
        self.outstanding_bytes = 0
        self.pending: deque[Pending] = deque()
        self.held: deque[tuple[Piece, bytes]] = deque()
        self.reads = 0
        self.syncs = 0
        self.full = False
        self.congested = False
        self.paused = False
        self.ended = False
        self._dirty = dirty
        self._doomed = doomed

    # ---- output --------------------------------------------------------------------------------

    def notify(self, frame: bytes) -> None:
        """Queue a frame, behind everything queued before."""
        if not self.out:
            self._dirty.append(self)
        self.out.append(frame)

    def refuse_watch(self) -> None:
        """It asked for more watches than a connection may hold: it will be closed."""
        self._doomed.append(self)

    # ---- the order of requests -----------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Nothing waits, and need not: a read may be answered where it arrives."""
        return (
            not (self.pending or self.held or self.full or self.is_fresh)
            and self.session is not None
        )

    def take_in(self, kind: Piece, frames: bytes, desk: Desk) -> None:
        """Take a request (or a run of writes) that arrived."""
        self.outstanding_bytes += len(frames)
        if self.held or not self._admit(kind, frames, desk):
            self.held.append((kind, frames))

    @property
    def may_wait(self) -> bool:
        """A read that must be fresh may join a read point at once."""
        return self.is_fresh and not self.held and self.session is not None

    def wait_for(self, frame: bytes, token: int) -> None:
        """Let a read wait for a read point: ``take_in``, for the common case."""
        self.outstanding_bytes += len(frame)
        self.pending.append((_FRESH, _READ, frame, token))
        self.reads += 1

    def begin_apply(self, desk: Desk) -> Pending | None:
        """The log reached the next request that waits for it: answer what is due before it.

        Gives that request; ``None`` when an answer before it ended the connection.
        """
        pending = self.pending
        assert pending
        while pending[0][0] is not _APPLY:
            assert self._can_answer(pending[0], desk, forced=True)
            self._answer_head(desk)
            if self.ended:
                return None
        head = pending.popleft()
        self.outstanding_bytes -= len(head[2])
        return head

    def advance(self, desk: Desk) -> None:
        """Something was waited for and has come: answer and admit what can be."""
        pending, held = self.pending, self.held
        while pending:
            due, kind, frames, number = pending[0]
            if due is _FRESH:  # written out: many reads are released at once
                if self.full or desk.is_waiting(number):
                    break
                pending.popleft()
                self.reads -= 1
                self.outstanding_bytes -= len(frames)
                desk.answer(self, kind, frames)
            elif self._can_answer(pending[0], desk):
                self._answer_head(desk)
            else:
                break
        while held:
            kind, frames = held[0]
            if not self._admit(kind, frames, desk):
                break
            if held:  # an answer may have ended the connection and dropped everything
                held.popleft()

    def release_sync(self) -> None:
        """The read point of one of its syncs is reached."""
        assert self.syncs > 0
        self.syncs -= 1

    def drop_requests(self) -> None:
        """Forget everything that waits."""
        self.outstanding_bytes = 0
        self.pending.clear()
        self.held.clear()
        self.reads = self.syncs = 0

    def _admit(self, kind: Piece, frames: bytes, desk: Desk) -> bool:
        if self.session is None:
            return False
        if kind in _LOGGED:
            if self.syncs or self.reads >= READS_AHEAD_MAX:
                return False
            if desk.submit(self, kind, frames):
                self.pending.append((_APPLY, kind, frames, desk.now_ms))
                return True
        elif kind is _SYNC:
            self.pending.append((Due.SYNC, kind, frames, desk.ask_read_point(self)))
            self.syncs += 1
            return True
        elif kind is _READ and self.is_fresh:
            self.pending.append((_FRESH, kind, frames, desk.join_read_point(self)))
            self.reads += 1
            return True
        if self.pending or self.full:
            if self.reads >= READS_AHEAD_MAX:
                return False
            self.pending.append((_ANSWER, kind, frames, 0))
            self.reads += 1
        else:
            self.outstanding_bytes -= len(frames)
            desk.answer(self, kind, frames)
        return True

    def _can_answer(self, request: Pending, desk: Desk, *, forced: bool = False) -> bool:
        due, _kind, _frames, number = request
        if due is _ANSWER:
            return forced or not self.full
        if due is _FRESH:
            return forced or not (self.full or desk.is_waiting(number))
        return due is Due.SYNC and not desk.is_waiting(number)

    def _answer_head(self, desk: Desk) -> None:
        due, kind, frames, _number = self.pending.popleft()
        assert due is not _APPLY
        if due is _ANSWER or due is _FRESH:
            self.reads -= 1
        self.outstanding_bytes -= len(frames)
        desk.answer(self, kind, frames)
