"""``/snapshot`` on the admin address: an online backup, piece by piece.

    POST /snapshot                                  take a snapshot now
    GET /snapshot                                   the newest one, as JSON
    GET /snapshot?index=N&epoch=N&offset=N          up to 1 MiB of its payload, as it is stored

``quorate snapshot save`` asks for them in this order. A backup holds everything, whatever its ACL:
whoever reaches the admin address can read all data.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Protocol
from urllib.parse import parse_qs

from quorate.consensus.entry import SnapshotMeta
from quorate.errors import CorruptData, DiskFull
from quorate.storage.snapshot import SnapshotPiece

PIECE_BYTES = 1 << 20


class SnapshotStore(Protocol):
    """What of the store is needed."""

    def newest_snapshot(self) -> tuple[SnapshotMeta, int, bool] | None:
        """Metadata and stored size of the newest snapshot, and whether it is compressed."""

    def read_snapshot(self, meta: SnapshotMeta, offset: int, size_bytes: int) -> SnapshotPiece:
        """A range of a snapshot's payload."""


class SnapshotPages:
    """Answers for ``/snapshot``.

    Args:
        store: has the files.
        ask: asks for a snapshot now; returns the index that it will have at least, or raises
            DiskFull.
        cluster_id: in hex.
        node_id: this node.
    """

    def __init__(
        self, store: SnapshotStore, ask: Callable[[], int], cluster_id: str, node_id: int
    ) -> None:
        self._store = store
        self._ask = ask
        self._about = {"cluster_id": cluster_id, "node_id": node_id}

    def answer(self, method: str, target: str) -> tuple[int, str, bytes]:
        """Status code, content type and body for one request."""
        query = target.partition("?")[2]
        if method == "POST":
            try:
                return _json(202, {"index": self._ask()})
            except DiskFull as error:
                return 507, "text/plain", f"{error}\n".encode()
        if method != "GET":
            return 405, "text/plain", b"only GET and POST\n"
        newest = self._store.newest_snapshot()
        if newest is None:
            return 404, "text/plain", b"there is no snapshot yet; POST /snapshot takes one\n"
        meta, size, is_compressed = newest
        if not query:
            page = {
                **self._about,
                "index": meta.index,
                "epoch": meta.epoch,
                "configuration": meta.configuration.hex(),
                "bytes": size,
                "compressed": is_compressed,
            }
            return _json(200, page)
        return self._piece(meta, query)

    def _piece(self, newest: SnapshotMeta, query: str) -> tuple[int, str, bytes]:
        try:
            index, epoch, offset = (
                int(parse_qs(query)[name][0]) for name in ("index", "epoch", "offset")
            )
        except (KeyError, ValueError):
            return 400, "text/plain", b"index, epoch and offset are needed, as numbers\n"
        if offset < 0:
            return 400, "text/plain", b"offset must not be negative\n"
        meta = SnapshotMeta(index, epoch, newest.configuration)
        try:
            data = self._store.read_snapshot(meta, offset, PIECE_BYTES).data
        except CorruptData as error:
            return 500, "text/plain", f"{error}\n".encode()
        if data is None:
            return 410, "text/plain", b"that snapshot is gone; begin again with the newest\n"
        return 200, "application/octet-stream", data


def _json(code: int, page: dict[str, object]) -> tuple[int, str, bytes]:
    return code, "application/json", json.dumps(page).encode() + b"\n"
