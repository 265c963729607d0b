"""Backup files: one snapshot in a file of its own, for any machine, checked before it is believed.

    head      "QUORBACK", u32 version, u32 length of the text, text (JSON), u32 CRC of all that
    piece     u32 length (not 0), u32 CRC of the piece that continues the CRC before it, bytes
    end       u32 0, u32 CRC before it continued over the u64 length of the payload, u64 length

The text says from where and when; programs need only ``index``, ``epoch`` and ``configuration``.
A file that was cut short has no end, pieces cannot change places, and nothing is handed out before
its CRC was right. All numbers are big-endian.

Invariant: lengths are checked before anything is allocated.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO
from zlib import crc32

from quorate.consensus.entry import SnapshotMeta
from quorate.errors import BadInput

PIECE_BYTES_MAX = 64 << 20
TEXT_BYTES_MAX = 1 << 20

_MAGIC = b"QUORBACK"
_VERSION = 1
_HEAD = struct.Struct(">8sII")
_PIECE = struct.Struct(">II")
_LENGTH = struct.Struct(">Q")
_CRC = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class BackupHead:
    """What a backup says about itself.

    Attributes:
        meta: the snapshot's place in the log, and the membership at that time.
        cluster_id: of the cluster that it was taken from, in hex.
        node_id: the node that it was taken from.
        taken_at: ISO 8601, for people.
    """

    meta: SnapshotMeta
    cluster_id: str
    node_id: int
    taken_at: str


def write_backup(file: BinaryIO, head: BackupHead, pieces: Iterable[bytes]) -> int:
    """Write a backup; returns the bytes of payload."""
    text = json.dumps(
        {
            "index": head.meta.index,
            "epoch": head.meta.epoch,
            "configuration": head.meta.configuration.hex(),
            "cluster_id": head.cluster_id,
            "node_id": head.node_id,
            "taken_at": head.taken_at,
        }
    ).encode()
    begin = _HEAD.pack(_MAGIC, _VERSION, len(text)) + text
    chain = crc32(begin)
    file.write(begin + _CRC.pack(chain))
    total = 0
    for piece in pieces:
        if not piece:
            continue
        assert len(piece) <= PIECE_BYTES_MAX
        chain = crc32(piece, chain)
        file.write(_PIECE.pack(len(piece), chain))
        file.write(piece)
        total += len(piece)
    length = _LENGTH.pack(total)
    file.write(_PIECE.pack(0, crc32(length, chain)) + length)
    return total


def read_backup(file: BinaryIO, name: str) -> tuple[BackupHead, Iterator[bytes]]:
    """Read a backup's head; the pieces are checked one by one as they are taken.

    Raises:
        BadInput: it is no backup, or it is damaged or cut short; also while taking pieces.
    """
    fixed = _take(file, _HEAD.size, name)
    magic, version, size = _HEAD.unpack(fixed)
    if magic != _MAGIC:
        raise BadInput(name, 0, "this is no backup of quorate (quorate snapshot save makes them)")
    if version != _VERSION:
        raise BadInput(
            name,
            0,
            f"format version {version} where this program knows {_VERSION}; use a newer one",
        )
    if size > TEXT_BYTES_MAX:
        raise BadInput(name, 0, "the backup is damaged in its head; use another one")
    text = _take(file, size, name)
    chain = crc32(fixed + text)
    if _take(file, _CRC.size, name) != _CRC.pack(chain):
        raise BadInput(name, 0, "the backup is damaged in its head; use another one")
    known = json.loads(text)
    meta = SnapshotMeta(known["index"], known["epoch"], bytes.fromhex(known["configuration"]))
    head = BackupHead(meta, known["cluster_id"], known["node_id"], known["taken_at"])
    return head, _pieces(file, chain, name)


def _pieces(file: BinaryIO, chain: int, name: str) -> Iterator[bytes]:
    total = 0
    while True:
        size, crc = _PIECE.unpack(_take(file, _PIECE.size, name))
        if size > PIECE_BYTES_MAX:
            raise _damaged(name, total)
        if size == 0:
            length = _take(file, _LENGTH.size, name)
            if crc != crc32(length, chain) or length != _LENGTH.pack(total) or file.read(1):
                raise _damaged(name, total)
            return
        piece = _take(file, size, name)
        chain = crc32(piece, chain)
        if crc != chain:
            raise _damaged(name, total)
        total += size
        yield piece


def _damaged(name: str, at: int) -> BadInput:
    return BadInput(name, 0, f"the backup is damaged behind byte {at} of its payload; use another")


def _take(file: BinaryIO, size: int, name: str) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise BadInput(name, 0, "the backup is cut short; use another one")
    return data
