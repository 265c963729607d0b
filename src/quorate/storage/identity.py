"""Identity: whose data directory this is, and which directories the peers have.

One small file, ``identity.q``, replaced as a whole (``whole_file.py``). It knows nothing of logs
and snapshots.

Why: a member that lost its disk must not return under its old identity (Raft dissertation §3.8):
it has forgotten votes and entries it vouched for. Its wiped directory looks like a new one, so
only the others can tell: each remembers the *directory id* of every peer it ever met.

Invariants:
    * cluster id, node id, directory id and founding text never change once written; a directory
      of a release that knew no founding text is given one at its next start
    * ``incarnation`` is higher at every start, durably, before anything else happens
    * ``is_initialised`` becomes true, durably, only after the first log segment is durable;
      before that nothing was ever promised and initialisation may start again
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from zlib import crc32

from quorate.errors import CorruptData, WrongDirectory
from quorate.storage.disk import Disk
from quorate.storage.whole_file import read_whole, replace_whole

IDENTITY_NAME = "identity.q"
TEMPORARY_NAME = "identity.tmp"

_MAGIC = b"QUORIDEN"
_VERSION = 1  # without a founding text
_VERSION_WITH_FOUNDING = 2
FOUNDING_BYTES_MAX = 1 << 16
PEERS_MAX = 10_000
"""So many peers are remembered: more than a cluster replaces in its life, and a bound."""
_HEAD = struct.Struct(">8sI16s16sQQ?xH")
_PEER = struct.Struct(">Q16s")
_LENGTH = struct.Struct(">I")
_CRC = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a data directory belongs to.

    Attributes:
        cluster_id: 16 bytes, the same on all nodes.
        node_id: this node's id, from 1.
        directory_id: 16 bytes, drawn when the directory was made.
        incarnation: how often the directory was opened, from 1.
        is_initialised: the log exists; its absence would be a loss.
        peers: ``(node id, directory id)`` of every peer ever met, sorted.
        founding: from which members this node began, as its owner words it (nothing here reads
            it); empty in directories of releases that did not write it.
    """

    cluster_id: bytes
    node_id: int
    directory_id: bytes
    incarnation: int = 0
    is_initialised: bool = False
    peers: tuple[tuple[int, bytes], ...] = ()
    founding: str = ""

    def __post_init__(self) -> None:
        assert len(self.cluster_id) == 16
        assert len(self.directory_id) == 16
        assert self.node_id >= 1

    def check_owner(self, cluster_id: bytes, node_id: int) -> None:
        """Refuse to serve as somebody else.

        Raises:
            WrongDirectory: the directory is another cluster's or node's; nothing happened.
        """
        if self.cluster_id != cluster_id:
            raise WrongDirectory(
                f"this data directory belongs to cluster {self.cluster_id.hex()}, but this node "
                f"was started for cluster {cluster_id.hex()}: check the data directory and the "
                "list of members; to join another cluster start with an empty directory"
            )
        if self.node_id != node_id:
            raise WrongDirectory(
                f"this data directory belongs to node {self.node_id}, but this node was started "
                f"as node {node_id}: check the node's id and data directory; never start one "
                "node's directory, or a copy of it, as another node"
            )

    def with_peer(self, node_id: int, directory_id: bytes) -> Identity:
        """The identity that also remembers this peer, or itself if it already does.

        Raises:
            WrongDirectory: the peer was known with another directory; nothing happened.
        """
        assert len(directory_id) == 16
        known = dict(self.peers).get(node_id)
        if known == directory_id:
            return self
        if node_id == self.node_id:
            raise WrongDirectory(
                f"another process calls itself node {node_id}, which is this node: two nodes "
                "were given the same id; stop the wrong one"
            )
        if known is not None:
            raise WrongDirectory(
                f"node {node_id} comes with data directory {directory_id.hex()}, but it was "
                f"{known.hex()} before: it lost its disk and with it what it promised to the "
                "others. It must not return under its old id: remove it from the cluster and "
                "let it join as a new member with a new id, or give it its old directory back"
            )
        if len(self.peers) >= PEERS_MAX:
            return self
        return replace(self, peers=tuple(sorted((*self.peers, (node_id, directory_id)))))

    def encode(self) -> bytes:
        """Stable bytes with a CRC at the end."""
        founding = self.founding.encode()
        parts = [
            _HEAD.pack(
                _MAGIC,
                _VERSION_WITH_FOUNDING if founding else _VERSION,
                self.cluster_id,
                self.directory_id,
                self.node_id,
                self.incarnation,
                self.is_initialised,
                len(self.peers),
            )
        ]
        parts += [_PEER.pack(node_id, directory_id) for node_id, directory_id in self.peers]
        if founding:
            assert len(founding) <= FOUNDING_BYTES_MAX
            parts += [_LENGTH.pack(len(founding)), founding]
        body = b"".join(parts)
        return body + _CRC.pack(crc32(body))

    @classmethod
    def decode(cls, data: bytes) -> Identity:
        """Inverse of ``encode``.

        Raises:
            CorruptData: damaged; as the file is replaced atomically, no crash explains it.
        """
        body, tail = data[: -_CRC.size], data[-_CRC.size :]
        if len(body) < _HEAD.size or not body.startswith(_MAGIC) or tail != _CRC.pack(crc32(body)):
            raise CorruptData(
                IDENTITY_NAME,
                0,
                "wrong size, magic or CRC; restore this one file from a copy, or replace this "
                "node: remove it from the cluster and let it join as a new member",
            )
        _, version, cluster, directory, node, incarnation, initialised, count = _HEAD.unpack_from(
            body
        )
        if version not in (_VERSION, _VERSION_WITH_FOUNDING):
            raise CorruptData(
                IDENTITY_NAME,
                8,
                f"format version {version} where this program knows {_VERSION} and "
                f"{_VERSION_WITH_FOUNDING}; start the version of quorate that wrote it",
            )
        end = _HEAD.size + count * _PEER.size
        peers = tuple(_PEER.iter_unpack(body[_HEAD.size : end]))
        founding = b""
        if version == _VERSION_WITH_FOUNDING:
            (length,) = _LENGTH.unpack_from(body, end)
            founding = body[end + _LENGTH.size :]
            assert len(founding) == length
        else:
            assert len(body) == end
        text = founding.decode()
        return cls(cluster, node, directory, incarnation, initialised, peers, text)


def load_identity(disk: Disk) -> Identity | None:
    """Read the identity; None when there is none.

    Raises:
        CorruptData: it is damaged.
    """
    data = read_whole(disk, IDENTITY_NAME)
    return None if data is None else Identity.decode(data)


def save_identity(disk: Disk, identity: Identity) -> None:
    """Replace the identity; durable on return.

    Raises:
        DiskFailed: the old or the new one will be found after a restart.
    """
    replace_whole(disk, IDENTITY_NAME, TEMPORARY_NAME, identity.encode())
