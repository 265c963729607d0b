"""A znode: data, counters, and the paths of its children.

One object per znode and there are millions, so: slots, no reference to parent or siblings (no
cycles for the garbage collector), children only when there are any, and as whole paths, because
those bytes exist anyway as keys of the tree. A znode does not know its own path.

The same fixed-size record serves snapshots and digests: what is not in it is not state.

Invariants: ``cversion`` = creates + deletes below it since it exists (both wrap as 32-bit numbers
do in Java); ``sequence`` = creates ever, never wraps; ``pzxid`` = zxid of the last create or delete
of a child, at first that of its own creation.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import Final

from quorate.protocol.zookeeper import STAT
from quorate.tree.acl import OPEN_ACL, Acl

VERSION_MAX: Final = 2**31 - 1
VERSION_MIN: Final = -(2**31)

RECORD: Final = Struct(">iiiqqqqqiiiqq")
"""Lengths of path, data (-1: null) and ACL (0: open); czxid, mzxid, pzxid, ctime, mtime; version,
cversion, aversion; sequence, ephemeral owner. Then the path, the data and the ACL themselves."""


class Znode:
    """One znode. See the module for the meaning of the counters; times are ms since 1970."""

    __slots__ = (
        "acl",
        "aversion",
        "children",
        "ctime",
        "cversion",
        "czxid",
        "data",
        "ephemeral_owner",
        "folded",
        "mtime",
        "mzxid",
        "pzxid",
        "sequence",
        "version",
    )

    def __init__(
        self, data: bytes | None, acl: Acl, zxid: int, time_ms: int, ephemeral_owner: int
    ) -> None:
        self.data = data
        self.acl = acl
        self.children: dict[bytes, None] | None = None
        self.czxid = self.mzxid = self.pzxid = zxid
        self.ctime = self.mtime = time_ms
        self.version = self.cversion = self.aversion = self.sequence = 0
        self.ephemeral_owner = ephemeral_owner
        self.folded = 0  # share of the tree's digest when that was last brought up to date


def next_version(version: int) -> int:
    """The version after this one; wraps as Java's ``int`` does."""
    return version + 1 if version != VERSION_MAX else VERSION_MIN


def encode_stat(znode: Znode) -> bytes:
    """The Stat of a znode as it goes over the wire.

    Containers and znodes with a TTL show no owner (measured): they are not ephemeral to a client.
    """
    data = znode.data
    children = znode.children
    owner = znode.ephemeral_owner
    if owner < 0:  # containers and TTL znodes show none
        owner = 0
    return STAT.pack(
        znode.czxid,
        znode.mzxid,
        znode.ctime,
        znode.mtime,
        znode.version,
        znode.cversion,
        znode.aversion,
        owner,
        len(data) if data else 0,
        len(children) if children else 0,
        znode.pzxid,
    )


def encode_record(path: bytes, znode: Znode) -> bytes:
    """Everything about a znode but its children, who speak for themselves."""
    data = znode.data
    acl = b"" if znode.acl is OPEN_ACL else znode.acl.wire
    return b"".join(
        (
            RECORD.pack(
                len(path),
                -1 if data is None else len(data),
                len(acl),
                znode.czxid,
                znode.mzxid,
                znode.pzxid,
                znode.ctime,
                znode.mtime,
                znode.version,
                znode.cversion,
                znode.aversion,
                znode.sequence,
                znode.ephemeral_owner,
            ),
            path,
            data or b"",
            acl,
        )
    )


def hash_record(record: bytes) -> int:
    """64 bits that stand for a record in the digest of the tree; the same on every machine."""
    return int.from_bytes(blake2b(record, digest_size=8).digest())
