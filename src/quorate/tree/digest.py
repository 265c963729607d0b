"""The digest of a tree: 64 bits that are equal when the trees are, and cheap to keep up.

The digest is the sum (mod 2^64) of one hash per znode and per session plus one of the zxid, so it
does not depend on any order, and a change costs one subtraction and one addition. Nothing is hashed
while writes are applied: a write only notes the path (one dict operation), and ``fold`` hashes
each changed znode once, however often it changed.

The note keeps the hash that is *in the sum* for that path, taken from the znode when it is first
touched after a fold; a znode that was never folded counts as 0. So a znode that comes and goes
between two folds leaves no trace, and notes never outnumber znodes now plus znodes at the last
fold: the only bound that is needed.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from quorate.errors import RemoteProtocolError
from quorate.tree.sessions import Owner, Session
from quorate.tree.znode import Znode, encode_record, hash_record

_MASK: Final = 2**64 - 1
_SESSION: Final = Struct(">q16siqqqii")
_PAIR: Final = Struct(">ii")
_ZXID: Final = Struct(">4sq")


def encode_session(session: Session) -> bytes:
    """Everything about a session but its ephemerals, which the znodes name themselves.

    Layout: id, password, timeout in ms, owner (node, incarnation, connection), number of
    identities, size of what follows; then for each identity the sizes of scheme and id and both.
    """
    parts: list[bytes] = []
    for scheme, id_ in session.identities:
        scheme_bytes, id_bytes = scheme.encode(), id_.encode()
        parts += (_PAIR.pack(len(scheme_bytes), len(id_bytes)), scheme_bytes, id_bytes)
    tail = b"".join(parts)
    head = _SESSION.pack(
        session.session_id,
        session.password,
        session.timeout_ms,
        *session.owner,
        len(session.identities),
        len(tail),
    )
    return head + tail


def hash_session(session: Session) -> int:
    """A session's part of the digest: what ``encode_session`` says, and its stored answers."""
    record = encode_session(session)
    if session.results is not None:
        record += session.results.digest_record()
    return hash_record(record)


def decode_session(data: bytes, at: int) -> tuple[Session, int]:
    """Read a session's record at ``data[at:]``; also returns where the next one begins.

    Raises:
        struct.error, UnicodeDecodeError, RemoteProtocolError: the bytes are no session.
    """
    session_id, password, timeout_ms, node, incarnation, connection, count, size = (
        _SESSION.unpack_from(data, at)
    )
    at += _SESSION.size
    end = at + size
    if session_id <= 0 or timeout_ms < 0 or size < 0 or end > len(data):
        raise RemoteProtocolError("a session's record has impossible numbers")
    identities: list[tuple[str, str]] = []
    for _ in range(count):
        scheme_size, id_size = _PAIR.unpack_from(data, at)
        scheme_at = at + _PAIR.size
        id_at = scheme_at + scheme_size
        at = id_at + id_size
        if scheme_size < 0 or id_size < 0 or at > end:
            raise RemoteProtocolError("a session's identity is larger than its record")
        identities.append((data[scheme_at:id_at].decode(), data[id_at:at].decode()))
    if at != end:
        raise RemoteProtocolError("a session's record is longer than its identities")
    owner = Owner(node, incarnation, connection)
    return Session(session_id, password, timeout_ms, owner, tuple(identities)), end


class Digest:
    """The running sum and the notes of what changed since it was last brought up to date.

    Attributes:
        znodes: path -> hash that the sum holds for it. Hot paths write
            ``znodes.setdefault(path, znode.folded)`` before they change or remove a znode.
        sessions: the same by session id.
    """

    __slots__ = ("_sum", "sessions", "znodes")

    def __init__(self) -> None:
        self._sum = 0
        self.znodes: dict[bytes, int] = {}
        self.sessions: dict[int, int] = {}

    def begin_with(self, total: int) -> None:
        """Everything there is was hashed just now, and ``total`` is the sum."""
        assert not self.znodes
        assert not self.sessions
        self._sum = total & _MASK

    def forget(self, path: bytes, znode: Znode) -> None:
        """Note that ``znode`` leaves ``path``; drop the note if the sum never held anything."""
        if self.znodes.setdefault(path, znode.folded) == 0:
            del self.znodes[path]

    def forget_session(self, session: Session) -> None:
        """Note that a session ends."""
        if self.sessions.setdefault(session.session_id, session.folded) == 0:
            del self.sessions[session.session_id]

    def fold(self, znodes: dict[bytes, Znode], sessions: dict[int, Session], zxid: int) -> int:
        """Bring the sum up to date and return the digest. Costs about 3 us per changed znode."""
        total = self._sum
        for path, old in self.znodes.items():
            total -= old
            znode = znodes.get(path)
            if znode is not None:
                znode.folded = hash_record(encode_record(path, znode))
                total += znode.folded
        for session_id, old in self.sessions.items():
            total -= old
            session = sessions.get(session_id)
            if session is not None:
                session.folded = hash_session(session)
                total += session.folded
        self.znodes.clear()
        self.sessions.clear()
        self._sum = total & _MASK
        return (self._sum + hash_record(_ZXID.pack(b"zxid", zxid))) & _MASK
