"""The first exchange on a client's connection: ConnectRequest and ConnectResponse.

Knows the bytes and nothing of sessions: whether an id is known, a password right or a zxid too
new is for ``tree/service.py`` to say.

    request    int protocolVersion | long lastZxidSeen | int timeOut | long sessionId
               | buffer passwd | [bool readOnly]
    response   int protocolVersion | int timeOut | long sessionId | buffer passwd | [bool readOnly]

Clients from before ZooKeeper 3.4 (and some of today's) leave the read-only byte out, which makes
44 and 36 bytes instead of 45 and 37. The answer has the form of the question.

Invariant: a request of any other length or shape is refused, so that bytes which are no handshake
never reach a session.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from quorate.errors import RemoteProtocolError

PASSWORD_BYTES = 16
NO_PASSWORD = bytes(PASSWORD_BYTES)
"""What a client without a session sends, and what a refused client gets."""

CONNECT_BYTES_MAX = 45
CONNECT_BYTES_MIN = 28
"""With an empty password, as some clients without a session send it."""

_REQUEST = Struct(">iqiqi")
_RESPONSE = Struct(">iiiqi16s")


class ConnectRequest(NamedTuple):
    """What a client says first.

    Attributes:
        last_zxid_seen: the newest state this client has ever been shown, on any node.
        timeout_ms: the session timeout it would like, in milliseconds.
        session_id: the session to resume, 0 for a new one.
        password: 16 bytes that prove the session is its own; zeros for a new one.
        has_read_only: whether the request ended with the read-only byte.
    """

    last_zxid_seen: int
    timeout_ms: int
    session_id: int
    password: bytes
    has_read_only: bool


def parse_connect(body: bytes) -> ConnectRequest:
    """Read a ConnectRequest, without its length prefix.

    Raises:
        RemoteProtocolError: these bytes are no handshake. Nothing happened.
    """
    if not CONNECT_BYTES_MIN <= len(body) <= CONNECT_BYTES_MAX:
        raise RemoteProtocolError(f"a handshake of {len(body)} bytes; it has 44 or 45")
    version, last_zxid, timeout_ms, session_id, length = _REQUEST.unpack_from(body)
    if version != 0:
        raise RemoteProtocolError(f"protocol version {version}; only 0 exists")
    if length not in (-1, 0, PASSWORD_BYTES):
        raise RemoteProtocolError(f"a session password of {length} bytes; it has 16")
    end = _REQUEST.size + max(length, 0)
    if len(body) - end not in (0, 1):
        raise RemoteProtocolError("the handshake's length and its password's do not agree")
    password = body[_REQUEST.size : end] or NO_PASSWORD
    assert len(password) == PASSWORD_BYTES
    return ConnectRequest(last_zxid, timeout_ms, session_id, password, len(body) > end)


def encode_connected(
    timeout_ms: int, session_id: int, password: bytes, *, has_read_only: bool
) -> bytes:
    """Answer a handshake: this session, with this timeout. Complete with its length prefix."""
    assert len(password) == PASSWORD_BYTES
    body_bytes = 37 if has_read_only else 36
    head = _RESPONSE.pack(body_bytes, 0, timeout_ms, session_id, PASSWORD_BYTES, password)
    return head + b"\0" if has_read_only else head


def encode_refused(*, has_read_only: bool) -> bytes:
    """Answer a handshake: there is no such session (any more)."""
    return encode_connected(0, 0, NO_PASSWORD, has_read_only=has_read_only)
