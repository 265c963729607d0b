"""The client's side of the wire: requests as frames, replies as records.

The mirror of what ``tree/`` parses and builds. Clients, tests and benchmarks use it; no server
does, because frames are never re-encoded. Paths are bytes; ACLs are given as they go over the wire.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from quorate.errors import RemoteProtocolError
from quorate.protocol.jute import INT, LONG, Reader, encode_buffer
from quorate.protocol.zookeeper import (
    ANY_VERSION,
    MULTI_END,
    MULTI_HEADER,
    OpCode,
    Stat,
    decode_stat,
    encode_request,
)


def encode_acl(*entries: tuple[int, str, str]) -> bytes:
    """An ACL on the wire, from ``(permissions, scheme, id)``."""
    parts = [INT.pack(len(entries))]
    for permissions, scheme, id_ in entries:
        parts += (
            INT.pack(permissions),
            encode_buffer(scheme.encode()),
            encode_buffer(id_.encode()),
        )
    return b"".join(parts)


OPEN_ACL_WIRE: Final = encode_acl((31, "world", "anyone"))
"""Everybody may do everything."""


class Part(NamedTuple):
    """A request without its xid: sent alone by ``frame``, or as a part by ``multi``."""

    opcode: int
    body: bytes

    def frame(self, xid: int) -> bytes:
        """The request as a whole frame."""
        return encode_request(xid, self.opcode, self.body)


def create(
    path: bytes,
    data: bytes | None = b"",
    flags: int = 0,
    acl: bytes = OPEN_ACL_WIRE,
    *,
    opcode: int = OpCode.CREATE,
    ttl_ms: int | None = None,
) -> Part:
    """Any of the create requests; ``ttl_ms`` makes it a createTTL."""
    body = encode_buffer(path) + encode_buffer(data) + acl + INT.pack(flags)
    if ttl_ms is None:
        return Part(opcode, body)
    return Part(OpCode.CREATE_TTL, body + LONG.pack(ttl_ms))


def delete(path: bytes, version: int = ANY_VERSION) -> Part:
    """``delete``."""
    return Part(OpCode.DELETE, encode_buffer(path) + INT.pack(version))


def set_data(path: bytes, data: bytes | None, version: int = ANY_VERSION) -> Part:
    """``setData``."""
    return Part(OpCode.SET_DATA, encode_buffer(path) + encode_buffer(data) + INT.pack(version))


def set_acl(path: bytes, acl: bytes, version: int = ANY_VERSION) -> Part:
    """``setACL``; ``version`` is the expected ``aversion``."""
    return Part(OpCode.SET_ACL, encode_buffer(path) + acl + INT.pack(version))


def check(path: bytes, version: int) -> Part:
    """``check``: only as a part of a multi."""
    return Part(OpCode.CHECK, encode_buffer(path) + INT.pack(version))


def get(opcode: int, path: bytes, *, watch: bool = False) -> Part:
    """A read of one path; getACL and the counting reads have no watch flag and ignore it."""
    return Part(opcode, encode_buffer(path) + (b"\1" if watch else b"\0"))


def multi(parts: Iterable[Part], opcode: int = OpCode.MULTI) -> Part:
    """``multi``, or ``multiRead``."""
    framed = [MULTI_HEADER.pack(part.opcode, False, -1) + part.body for part in parts]
    return Part(opcode, b"".join(framed) + MULTI_END)


def once(part: Part, serial: int, first_unanswered: int) -> Part:
    """Ask for a write exactly once (docs/exactly-once.md); send it again as often as need be.

    Args:
        part: the write; the same whenever this serial is used.
        serial: its number within the session, from 1.
        first_unanswered: the lowest serial without an answer yet, this one at most.
    """
    head = LONG.pack(serial) + LONG.pack(first_unanswered) + INT.pack(part.opcode)
    return Part(OpCode.ONCE, head + part.body)


CLOSE_SESSION: Final = Part(OpCode.CLOSE_SESSION, b"")
"""``closeSession``."""


class Reply(NamedTuple):
    """A reply frame taken apart."""

    xid: int
    zxid: int
    error: int
    body: bytes

    def stat(self) -> Stat:
        """The Stat at the end of the body, where every reply that has one keeps it."""
        return decode_stat(self.body, max(len(self.body) - 68, 0))

    def path(self) -> bytes:
        """The path that a create made."""
        return Reader(self.body).string()

    def data(self) -> bytes | None:
        """The data that a getData found."""
        return Reader(self.body).buffer()

    def names(self) -> list[bytes]:
        """The names that a getChildren found."""
        return Reader(self.body).strings()

    def results(self) -> list[tuple[int, int, bytes | Stat | None]]:
        """What became of the parts of a multi: type (-1: error), error, and path or Stat."""
        reader = Reader(self.body)
        results: list[tuple[int, int, bytes | Stat | None]] = []
        while True:
            opcode, is_end, error = reader.int32(), reader.boolean(), reader.int32()
            if is_end:
                return results
            value: bytes | Stat | None = None
            if opcode == -1:
                error = reader.int32()
            elif opcode in {OpCode.CREATE, OpCode.CREATE2}:
                value = reader.string()
            if opcode in {OpCode.SET_DATA, OpCode.CREATE2}:
                stat = decode_stat(self.body, reader.at)
                reader.at += 68
                value = stat if value is None else value
            results.append((opcode, error, value))


def decode_reply(frame: bytes) -> Reply:
    """Take a whole reply frame apart.

    Raises:
        RemoteProtocolError: it is no reply; whether the request happened is unknown.
    """
    reader = Reader(frame)
    size = reader.int32()
    if size != len(frame) - 4:
        raise RemoteProtocolError(f"a reply says {size} bytes and has {len(frame) - 4}")
    return Reply(reader.int32(), reader.int64(), reader.int32(), frame[reader.at :])
