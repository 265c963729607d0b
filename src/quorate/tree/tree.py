"""The coordination tree: ZooKeeper's data model as a pure state machine.

What goes in: runs of write frames exactly as clients sent them, session changes, and times, all
from the log; and read frames of this replica's own clients. What comes out: reply frames, calls of
``Watches.fire``, snapshots, a digest. What it refuses to know: sockets, clocks, nodes, who leads,
and why a session expires.

    log -> service -> Tree.apply_frames -> requests (parse, reply) -> writes -> State
                      Tree.read         -> reads                   ---------> State

Invariants: the same calls of the writing methods in the same order give the same ``digest`` on
every replica, whatever is watched or read and whether replies are built or not; nothing that a
client sends raises out of ``apply_frames``; ``zxid`` grows by one for each write that succeeded,
each session that opened and each that ended, and for nothing else. A read, and the reply of a
refused write, carry the last applied zxid.

Rejected: resolving writes at the leader and shipping idempotent transactions (ZAB). Deciding at
apply, in log order, is simpler and lets raw frames travel (acceptance ZK-9).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Any, Final

from quorate.protocol.zookeeper import (
    CONTAINER_OWNER,
    REPLY_HEADER,
    REPLY_SIZE,
    TTL_OWNER,
    ErrorCode,
    EventType,
    OpCode,
)
from quorate.tree import reads
from quorate.tree.acl import Acl, Identities
from quorate.tree.refused import Refused
from quorate.tree.requests import HANDLERS
from quorate.tree.restore import restore_state
from quorate.tree.sessions import Owner, Session
from quorate.tree.snapshot import Capture
from quorate.tree.state import CONFIG, State, Transaction
from quorate.tree.watching import NullWatches, Watches
from quorate.tree.writes import end_session, remove, set_data
from quorate.tree.znode import Znode

_header_at: Final = Struct(">iii").unpack_from
_CLOSE_SESSION: Final = int(OpCode.CLOSE_SESSION)
_UNIMPLEMENTED: Final = int(ErrorCode.UNIMPLEMENTED)
_SESSION_EXPIRED: Final = int(ErrorCode.SESSION_EXPIRED)
_SESSION_MOVED: Final = int(ErrorCode.SESSION_MOVED)
_MARSHALLING_ERROR: Final = int(ErrorCode.MARSHALLING_ERROR)


FOLD_ZNODES = 2_000
"""Changed znodes after which they are folded into the digest: about 3 ms of work."""


class Tree:
    """The tree of one replica.

    Args:
        watches: told of every change; may influence nothing.
    """

    __slots__ = ("_state", "watches")

    def __init__(self, watches: Watches | None = None) -> None:
        self.watches: Watches = watches if watches is not None else NullWatches()
        self._state = State()

    # ---- looking -------------------------------------------------------------------------------

    @property
    def zxid(self) -> int:
        """The number of the last applied transaction."""
        return self._state.zxid

    @property
    def sessions(self) -> dict[int, Session]:
        """Living sessions by id. Look, do not touch."""
        return self._state.sessions

    @property
    def znodes(self) -> dict[bytes, Znode]:
        """Znodes by path. Look, do not touch."""
        return self._state.znodes

    def read(self, session: Session, frame: bytes, watcher: Any, out: list[bytes]) -> None:
        """Answer one read request of a session of this replica; append one reply frame.

        Reads are ``protocol.zookeeper.READS``. When the request's watch flag is set and
        ``watcher`` is not ``None``, ``watches.add`` is called with it.

        Raises:
            RemoteProtocolError: the frame is no read; close the connection. Nothing happened.
        """
        out.append(reads.read(self._state, self.watches, session, frame, watcher))

    def acl_of(self, path: bytes) -> Acl | None:
        """The ACL at ``path``, for filtering events by READ; ``None`` when nothing is there."""
        znode = self._state.znodes.get(path)
        return znode.acl if znode is not None else None

    def needs_data_event(self, path: bytes, relative_zxid: int) -> int:
        """The event a data watch set again by ``setWatches`` has missed; 0: none, arm it."""
        znode = self._state.znodes.get(path)
        if znode is None:
            return int(EventType.DELETED)
        return int(EventType.DATA_CHANGED) if znode.mzxid > relative_zxid else 0

    def needs_exists_event(self, path: bytes) -> int:
        """The event an exists watch (on a path that was missing) has missed; 0: none, arm it."""
        return int(EventType.CREATED) if path in self._state.znodes else 0

    def needs_children_event(self, path: bytes, relative_zxid: int) -> int:
        """The event a child watch set again by ``setWatches`` has missed; 0: none, arm it."""
        znode = self._state.znodes.get(path)
        if znode is None:
            return int(EventType.DELETED)
        return int(EventType.CHILDREN_CHANGED) if znode.pzxid > relative_zxid else 0

    # ---- sessions ------------------------------------------------------------------------------

    def open_session(
        self,
        password: bytes,
        timeout_ms: int,
        owner: Owner,
        identities: Identities,
        time_ms: int,  # noqa: ARG002  what is in the log is handed in, needed or not
    ) -> Session:
        """Open a session; its id is the zxid that this takes, so no id is ever used twice."""
        state = self._state
        state.zxid += 1
        session = Session(state.zxid, password, timeout_ms, owner, identities)
        state.sessions[session.session_id] = session
        state.touch_session(session)
        return session

    def attach_session(
        self,
        session_id: int,
        password: bytes,
        timeout_ms: int,
        owner: Owner,
        identities: Identities,
    ) -> Session | None:
        """Make ``owner`` the connection that speaks for a session; earlier ones are refused.

        Identities belong to connections, so they are replaced. Takes no zxid.

        Returns:
            The session, or ``None`` when it is unknown or the password wrong: nothing happened.
        """
        assert timeout_ms >= 0
        session = self._state.sessions.get(session_id)
        if session is None or not session.knows(password):
            return None
        self._state.touch_session(session)
        session.timeout_ms = timeout_ms
        session.owner = owner
        session.identities = identities
        return session

    def add_identity(self, session_id: int, owner: Owner, scheme: str, id: str) -> bool:  # noqa: A002
        """Add what a connection has proved; false when it does not own the session (any more)."""
        session = self._state.sessions.get(session_id)
        if session is None or session.owner != owner:
            return False
        identity = (scheme, id)
        if identity not in session.identities:
            self._state.touch_session(session)
            session.identities = (*session.identities, identity)
        return True

    def expire_session(self, session_id: int, time_ms: int) -> bool:
        """End a session and remove its ephemerals, in one transaction; false when it is gone."""
        state = self._state
        session = state.sessions.get(session_id)
        if session is None:
            return False
        end_session(state, Transaction(session, state.zxid + 1, time_ms, self.watches), session)
        state.zxid += 1
        return True

    # ---- writing -------------------------------------------------------------------------------

    def apply_frames(
        self,
        session_id: int,
        owner: Owner,
        frames: bytes,
        time_ms: int,
        out: list[bytes] | None,
    ) -> None:
        """Apply a run of whole write frames of one session, in order.

        Args:
            session_id: whose they are; an unknown session's are answered SESSION_EXPIRED.
            owner: the connection they came from; requests of a former owner change nothing.
            frames: one or more frames with their lengths, as the client sent them.
            time_ms: the time in the log entry.
            out: gets one reply frame for each request; ``None`` when the client is another
                node's, then no reply is built.

        Every mistake of a client is a reply, never an exception.
        """
        state = self._state
        session = state.sessions.get(session_id)
        if session is None or session.owner != owner:
            code = _SESSION_EXPIRED if session is None else _SESSION_MOVED
            if out is not None:
                self._refuse(code, frames, 0, out)
            return
        txn = Transaction(session, state.zxid, time_ms, self.watches)
        with_reply = out is not None
        at, end = 0, len(frames)
        while at < end:
            length, xid, opcode = _header_at(frames, at) if end - at >= 12 else (-1, 0, 0)
            stop = at + 4 + length
            if length < 8 or stop > end:  # the caller promised whole frames: answer and stop
                if out is not None:
                    out.append(REPLY_HEADER.pack(REPLY_SIZE, xid, state.zxid, _MARSHALLING_ERROR))
                return
            handler = HANDLERS.get(opcode)
            try:
                if handler is None:
                    raise Refused(_UNIMPLEMENTED)
                txn.zxid = state.zxid + 1
                reply = handler(state, txn, frames, at, stop, xid, with_reply)
                state.zxid = txn.zxid
            except Refused as refused:
                reply = REPLY_HEADER.pack(REPLY_SIZE, xid, state.zxid, refused.code)
            if out is not None:
                out.append(reply)
            at = stop
            if opcode == _CLOSE_SESSION:
                if out is not None:
                    self._refuse(_SESSION_EXPIRED, frames, at, out)
                return

    def _refuse(self, code: int, frames: bytes, at: int, out: list[bytes]) -> None:
        """Answer every frame from ``at`` on with ``code``; nothing happens."""
        zxid = self._state.zxid
        while len(frames) - at >= 12:
            length, xid, _ = _header_at(frames, at)
            out.append(REPLY_HEADER.pack(REPLY_SIZE, xid, zxid, code))
            if length < 8:
                return
            at += 4 + length

    def set_config(self, data: bytes, time_ms: int) -> None:
        """Write the members' description to ``/zookeeper/config``, as the system itself."""
        state = self._state
        txn = Transaction(None, state.zxid + 1, time_ms, self.watches)
        set_data(state, txn, CONFIG, data, -1)
        state.zxid = txn.zxid

    def reapable(self, time_ms: int) -> list[bytes]:
        """Containers and TTL znodes that have outlived themselves at ``time_ms``, sorted.

        The leader asks and proposes ``reap`` for each: a container that had children and has none,
        a TTL znode without children that was not modified for its TTL.
        """
        return [path for path in sorted(self._state.containers) if self._is_over(path, time_ms)]

    def reap(self, path: bytes, time_ms: int) -> bool:
        """Delete a znode that ``reapable`` named, if that is still true; else nothing happens."""
        state = self._state
        if not self._is_over(path, time_ms):
            return False
        txn = Transaction(None, state.zxid + 1, time_ms, self.watches)
        remove(state, txn, path, state.znodes[path])
        state.zxid = txn.zxid
        return True

    def _is_over(self, path: bytes, time_ms: int) -> bool:
        znode = self._state.znodes.get(path)
        if znode is None or znode.ephemeral_owner >= 0 or znode.children:
            return False
        if znode.ephemeral_owner == CONTAINER_OWNER:
            return znode.sequence > 0
        return time_ms - znode.mtime > znode.ephemeral_owner - TTL_OWNER

    # ---- copies and comparison -----------------------------------------------------------------

    def snapshot(self) -> Iterator[bytes]:
        """Begin a snapshot of the tree as it is now; yield it in pieces while applies go on.

        At most one is under way: a new one gives up the one before. Close the iterator to give
        it up.
        """
        state = self._state
        if state.capture is not None:
            state.capture.close()
        state.capture = Capture(state.znodes, state.sessions, state.zxid, self._forget_capture)
        return state.capture

    def _forget_capture(self) -> None:
        self._state.capture = None

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace everything by a snapshot; a snapshot under way is given up.

        Raises:
            CorruptData: the bytes are no whole snapshot; the tree is undefined.
        """
        if self._state.capture is not None:
            self._state.capture.close()
        restore_state(self._state, chunks)

    def fold_changes(self) -> None:
        """Bring the digest up to date once much has changed, so that ``digest`` never takes long.

        Asked after each batch: writes all over a large tree would otherwise be hashed in one go,
        0.1 s and more, at the same index and so at the same moment on every node.
        """
        if len(self._state.digest_notes.znodes) > FOLD_ZNODES:
            self.digest()

    def digest(self) -> int:
        """64 bits that are equal on replicas whose trees, sessions and zxids are equal.

        Costs about 3 us for each znode changed since the last call.
        """
        state = self._state
        return state.digest_notes.fold(state.znodes, state.sessions, state.zxid)
