"""What a BATCH entry holds: the leader's time and numbered sub-batches of client requests.

A *sub-batch* is what the clients of one node sent in one turn of that node. Its origin encodes it
once; the leader joins sub-batches into an entry without looking inside; every node takes them
apart at apply. So the bytes a client sent are the bytes in the peer message, in the write-ahead
log and at apply: they are never re-encoded.

    entry payload = time_ms u64, then sub-batches to the end
    sub-batch     = node u32, incarnation u64, number u64, length u32, payload

Invariants:
    * ``number`` counts 1, 2, 3 ... within one incarnation of one node
    * an entry's time never lies before that of an earlier entry (see Replica)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from quorate.errors import RemoteProtocolError

_TIME = struct.Struct(">Q")
_HEADER = struct.Struct(">IQQI")
HEADER_BYTES = _HEADER.size


class SubBatch(NamedTuple):
    """One decoded sub-batch; ``raw`` is its encoded form, header included."""

    node: int
    incarnation: int
    number: int
    payload: bytes
    raw: bytes


def encode_sub_batch(node: int, incarnation: int, number: int, payload: bytes) -> bytes:
    """Encode one sub-batch, header first."""
    return _HEADER.pack(node, incarnation, number, len(payload)) + payload


def iterate_sub_batches(data: bytes, offset: int = 0) -> Iterator[SubBatch]:
    """Take concatenated sub-batches apart.

    Raises:
        RemoteProtocolError: the lengths do not add up. Sub-batches yielded before were whole.
    """
    end = len(data)
    while offset < end:
        body = offset + HEADER_BYTES
        if body > end:
            raise RemoteProtocolError("a sub-batch header is cut short")
        node, incarnation, number, length = _HEADER.unpack_from(data, offset)
        stop = body + length
        if stop > end:
            raise RemoteProtocolError(f"a sub-batch of {length} bytes is cut short")
        yield SubBatch(node, incarnation, number, data[body:stop], data[offset:stop])
        offset = stop


def encode_entry(time_ms: int, sub_batches: Sequence[bytes]) -> bytes:
    """Join encoded sub-batches into the payload of one entry."""
    return b"".join((_TIME.pack(time_ms), *sub_batches))


def decode_entry(payload: bytes) -> tuple[int, Iterator[SubBatch]]:
    """Return the leader's time in ms and the sub-batches of an entry.

    Raises:
        RemoteProtocolError: too short to be an entry's payload.
    """
    if len(payload) < _TIME.size:
        raise RemoteProtocolError("an entry payload is cut short")
    return _TIME.unpack_from(payload)[0], iterate_sub_batches(payload, _TIME.size)
