"""Jute, the serialization of ZooKeeper: a bounds-checked reader and the few writers we need.

Everything is big-endian. ``int`` is 4 bytes, ``long`` 8, ``boolean`` 1; a *buffer* or *string* is
an int length and that many bytes, length -1 meaning null; a vector is an int count and its
elements, count -1 meaning null (shown here as empty where the difference never matters).

This module knows bytes, not meanings: opcodes and records are in ``zookeeper.py``.

Invariants: nothing outside ``[at, end)`` is ever read; nothing is allocated before the length
that asks for it has been checked against the bytes that are there, so memory used is bounded by
the size of the input whatever its numbers say. Strings stay bytes: who needs text decodes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

from quorate.errors import RemoteProtocolError

INT: Final = Struct(">i")
LONG: Final = Struct(">q")

NULL: Final = INT.pack(-1)
"""The wire form of a null buffer, string or vector."""

_unpack_int: Final = INT.unpack_from
_unpack_long: Final = LONG.unpack_from


class Reader:
    """Reads jute values from ``data[at:end]``, one after another.

    Trailing bytes are allowed, as in every ZooKeeper server: newer clients may append fields.

    Raises (every method):
        RemoteProtocolError: the bytes end too early or a length is impossible; nothing happened.
    """

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data = data
        self.at = at
        self.end = len(data) if end is None else end
        assert 0 <= at <= self.end <= len(data)

    def _advance(self, size: int) -> int:
        """Step over ``size`` bytes and return where they begin."""
        begin = self.at
        if size > self.end - begin:
            raise RemoteProtocolError(
                f"a value of {size} bytes cannot begin {self.end - begin} bytes before the end"
            )
        self.at = begin + size
        return begin

    def boolean(self) -> bool:
        """One byte; anything but zero is true."""
        return self.data[self._advance(1)] != 0

    def int32(self) -> int:
        """A signed 32-bit number."""
        (value,) = _unpack_int(self.data, self._advance(4))
        return int(value)

    def int64(self) -> int:
        """A signed 64-bit number."""
        (value,) = _unpack_long(self.data, self._advance(8))
        return int(value)

    def buffer(self) -> bytes | None:
        """A byte buffer or string; ``None`` when null."""
        size = self.int32()
        if size < 0:
            if size != -1:
                raise RemoteProtocolError(f"a buffer cannot have length {size}")
            return None
        begin = self._advance(size)
        return self.data[begin : begin + size]

    def string(self) -> bytes:
        """A string that must not be null, undecoded."""
        value = self.buffer()
        if value is None:
            raise RemoteProtocolError("a string that the protocol requires is null")
        return value

    def count(self, element_size_min: int) -> int:
        """The count of a vector whose elements take at least ``element_size_min`` bytes; -1: null.

        The check against the bytes that are left is what keeps an absurd count from costing
        memory or time.
        """
        assert element_size_min > 0
        count = self.int32()
        if count < -1 or count * element_size_min > self.end - self.at:
            raise RemoteProtocolError(f"a vector of {count} elements does not fit its frame")
        return count

    def strings(self) -> list[bytes]:
        """A vector of strings; null is read as empty."""
        return [self.string() for _ in range(self.count(4))]


def encode_buffer(value: bytes | None) -> bytes:
    """The wire form of a buffer or string."""
    if value is None:
        return NULL
    return INT.pack(len(value)) + value


def encode_strings(values: Iterable[bytes]) -> bytes:
    """The wire form of a vector of strings."""
    parts: list[bytes] = [b""]
    for value in values:
        parts.append(INT.pack(len(value)))
        parts.append(value)
    parts[0] = INT.pack(len(parts) >> 1)
    return b"".join(parts)
