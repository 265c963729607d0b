"""The payload of a batch: what one node's clients want from the log, in the order they asked.

A batch is a sequence of runs. A run of frames carries the bytes of one connection as its client
sent them; nothing is encoded again on the way to the leader, the log and apply.

    FRAMES    kind u8 | session i64 | connection u64 | length u32 | frames with their prefixes
    OPEN      kind u8 | connection u64 | timeout_ms u32 | password 16 bytes | identities
    ATTACH    kind u8 | session i64 | connection u64 | timeout_ms u32 | password 16 | identities
    IDENTITY  kind u8 | session i64 | connection u64 | identities
    EXPIRE    kind u8 | as_of_ms i64 | epoch u64 | count u32 | count * (session i64 | node u32
              | incarnation u64 | connection u64)
    REAP      kind u8 | count u32 | count * (path: length u32, bytes)
    identities    count u8 | count * (scheme: length u16, UTF-8 | id: length u16, UTF-8)

Connections are numbers of the node that sent the batch; apply adds node and incarnation.
Credentials are never in a batch: an identity is the digest, not the password.

EXPIRE says what its proposer knew: at which time of the log, leading in which epoch, and by whom
each session was held. A proposal that travelled on to the next leader, arrives late or crosses a
new attachment of the session does nothing.

Invariant: ``read_run`` gives either a run whose every field lies within the payload, or an error;
frames inside a run are checked where they enter (``protocol/connection.py``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple, TypeAlias

from quorate.errors import RemoteProtocolError
from quorate.protocol.handshake import PASSWORD_BYTES

FRAMES = 1
OPEN = 2
ATTACH = 3
IDENTITY = 4
EXPIRE = 5
REAP = 6

Identity: TypeAlias = tuple[str, str]
"""Scheme and id, as in an ACL."""

FRAMES_HEAD = Struct(">BqQI")
_OPEN_HEAD = Struct(">BQI16s")
_ATTACH_HEAD = Struct(">BqQI16s")
_IDENTITY_HEAD = Struct(">BqQ")
_EXPIRE_HEAD = Struct(">BqQI")
_HELD = Struct(">qIQQ")
_REAP_HEAD = Struct(">BI")
_PATH_LENGTH = Struct(">I")
_COUNT = Struct(">B")
_LENGTH = Struct(">H")
_IDENTITIES_MAX = 255
_EXPIRE_MAX = 100_000


class Frames(NamedTuple):
    """Write requests of one connection, one frame or more, as they came."""

    session_id: int
    connection: int
    frames: bytes


class Open(NamedTuple):
    """A client wants a new session."""

    connection: int
    timeout_ms: int
    password: bytes
    identities: tuple[Identity, ...]


class Attach(NamedTuple):
    """A client wants its session on this connection."""

    session_id: int
    connection: int
    timeout_ms: int
    password: bytes
    identities: tuple[Identity, ...]


class AddIdentities(NamedTuple):
    """A connection has proved who it is."""

    session_id: int
    connection: int
    identities: tuple[Identity, ...]


class Held(NamedTuple):
    """A session and the attachment it had when it was found silent."""

    session_id: int
    node: int
    incarnation: int
    connection: int


class Expire(NamedTuple):
    """The leader has not heard from these sessions for longer than their timeout."""

    as_of_ms: int
    sessions: tuple[Held, ...]
    epoch: int = 0


class Reap(NamedTuple):
    """Containers and znodes with a TTL that seem to have outlived themselves."""

    paths: tuple[bytes, ...]


Run: TypeAlias = Frames | Open | Attach | AddIdentities | Expire | Reap


def encode_frames_head(session_id: int, connection: int, length: int) -> bytes:
    """Head of a run of frames; the frames themselves follow as they are."""
    return FRAMES_HEAD.pack(FRAMES, session_id, connection, length)


def encode_run(run: Run) -> bytes:
    """Encode one run."""
    match run:
        case Frames(session_id, connection, frames):
            return encode_frames_head(session_id, connection, len(frames)) + frames
        case Open(connection, timeout_ms, password, identities):
            assert len(password) == PASSWORD_BYTES
            head = _OPEN_HEAD.pack(OPEN, connection, timeout_ms, password)
            return head + _encode_identities(identities)
        case Attach(session_id, connection, timeout_ms, password, identities):
            assert len(password) == PASSWORD_BYTES
            head = _ATTACH_HEAD.pack(ATTACH, session_id, connection, timeout_ms, password)
            return head + _encode_identities(identities)
        case AddIdentities(session_id, connection, identities):
            head = _IDENTITY_HEAD.pack(IDENTITY, session_id, connection)
            return head + _encode_identities(identities)
        case Expire(as_of_ms, sessions, epoch):
            assert len(sessions) <= _EXPIRE_MAX
            head = _EXPIRE_HEAD.pack(EXPIRE, as_of_ms, epoch, len(sessions))
            return head + b"".join(_HELD.pack(*held) for held in sessions)
        case Reap(paths):
            parts = [_REAP_HEAD.pack(REAP, len(paths))]
            for path in paths:
                parts += (_PATH_LENGTH.pack(len(path)), path)
            return b"".join(parts)


def read_run(payload: bytes, position: int) -> tuple[Run, int]:
    """Read the run that begins at ``position``; give it and where the next one begins.

    Raises:
        RemoteProtocolError: no run begins there, or it is cut short.
    """
    reader = _READERS.get(payload[position])
    if reader is None:
        raise RemoteProtocolError(f"a run of unknown kind {payload[position]} in a batch")
    try:
        run, end = reader(payload, position)
    except (struct.error, UnicodeDecodeError):
        raise RemoteProtocolError("a batch with a damaged run") from None
    if end > len(payload):
        raise RemoteProtocolError("a batch ends in the middle of a run")
    return run, end


def read_runs(payload: bytes) -> Iterator[Run]:
    """Give the runs of a batch, one by one.

    Raises:
        RemoteProtocolError: the payload is no batch. Runs given before were sound.
    """
    position = 0
    while position < len(payload):
        run, position = read_run(payload, position)
        yield run


def check_batch(payload: bytes) -> None:
    """Check a batch that came from elsewhere before it may enter the log.

    Raises:
        RemoteProtocolError: applying it would fail. It did not happen.
    """
    for _run in read_runs(payload):
        pass


def _encode_identities(identities: Sequence[Identity]) -> bytes:
    assert len(identities) <= _IDENTITIES_MAX
    parts = [_COUNT.pack(len(identities))]
    for identity in identities:
        for text in identity:
            data = text.encode()
            parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


def _read_identities(payload: bytes, position: int) -> tuple[tuple[Identity, ...], int]:
    (count,) = _COUNT.unpack_from(payload, position)
    position += _COUNT.size
    identities: list[Identity] = []
    for _ in range(count):
        scheme, position = _read_text(payload, position)
        name, position = _read_text(payload, position)
        identities.append((scheme, name))
    return tuple(identities), position


def _read_text(payload: bytes, position: int) -> tuple[str, int]:
    (length,) = _LENGTH.unpack_from(payload, position)
    position += _LENGTH.size
    end = position + length
    return payload[position:end].decode(), end


def _read_frames(payload: bytes, position: int) -> tuple[Run, int]:
    _kind, session_id, connection, length = FRAMES_HEAD.unpack_from(payload, position)
    start = position + FRAMES_HEAD.size
    end = start + length
    return Frames(session_id, connection, payload[start:end]), end


def _read_open(payload: bytes, position: int) -> tuple[Run, int]:
    _kind, connection, timeout_ms, password = _OPEN_HEAD.unpack_from(payload, position)
    identities, end = _read_identities(payload, position + _OPEN_HEAD.size)
    return Open(connection, timeout_ms, password, identities), end


def _read_attach(payload: bytes, position: int) -> tuple[Run, int]:
    _kind, session_id, connection, timeout_ms, password = _ATTACH_HEAD.unpack_from(
        payload, position
    )
    identities, end = _read_identities(payload, position + _ATTACH_HEAD.size)
    return Attach(session_id, connection, timeout_ms, password, identities), end


def _read_identity(payload: bytes, position: int) -> tuple[Run, int]:
    _kind, session_id, connection = _IDENTITY_HEAD.unpack_from(payload, position)
    identities, end = _read_identities(payload, position + _IDENTITY_HEAD.size)
    return AddIdentities(session_id, connection, identities), end


def _read_expire(payload: bytes, position: int) -> tuple[Run, int]:
    _kind, as_of_ms, epoch, count = _EXPIRE_HEAD.unpack_from(payload, position)
    start = position + _EXPIRE_HEAD.size
    end = start + count * _HELD.size
    if end > len(payload):
        raise RemoteProtocolError("a batch ends in the middle of a run")
    sessions = tuple(Held(*fields) for fields in _HELD.iter_unpack(payload[start:end]))
    return Expire(as_of_ms, sessions, epoch), end


def _read_reap(payload: bytes, position: int) -> tuple[Run, int]:
    _kind, count = _REAP_HEAD.unpack_from(payload, position)
    position += _REAP_HEAD.size
    paths: list[bytes] = []
    for _ in range(count):
        (length,) = _PATH_LENGTH.unpack_from(payload, position)
        position += _PATH_LENGTH.size
        paths.append(payload[position : position + length])
        position += length
    return Reap(tuple(paths)), position


_READERS = {
    FRAMES: _read_frames,
    OPEN: _read_open,
    ATTACH: _read_attach,
    IDENTITY: _read_identity,
    EXPIRE: _read_expire,
    REAP: _read_reap,
}
