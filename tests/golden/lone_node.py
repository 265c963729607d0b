"""One node alone, without a process: the pure server on a real directory, told the time.

What it writes depends on nothing but what it is told, so that a directory can be made again and
compared. Used to make the golden directories and to open them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from quorate.consensus.membership import Configuration
from quorate.protocol.handshake import NO_PASSWORD
from quorate.protocol.jute import encode_buffer
from quorate.protocol.zookeeper_client import Part
from quorate.replication.turn import ReplicaSettings
from quorate.storage.real_disk import RealDisk
from quorate.storage.settings import StorageSettings
from quorate.storage.store import Store
from quorate.tree.server import CoordinationServer, ServerSettings
from quorate.tree.znode import encode_record

CLUSTER_ID = b"golden cluster 1"
DIRECTORY_ID = b"golden directory"
WALL_MS = 1_700_000_000_000
_STEP_MS = 10
_STEPS_MAX = 5000


class LoneNode:
    """Node 1 of a cluster of one.

    Args:
        directory: its data directory.
        snapshot_bytes: a snapshot is taken after this much log.
    """

    def __init__(self, directory: Path, snapshot_bytes: int = 1 << 30) -> None:
        self._disk = RealDisk(directory)
        self.store, recovered = Store.open(
            self._disk,
            node_id=1,
            cluster_id=CLUSTER_ID,
            new_directory_id=DIRECTORY_ID,
            settings=StorageSettings(segment_bytes=4096, preallocate_bytes=0),
        )
        self.recovered_entries = len(recovered.entries)
        self.recovered_snapshot = recovered.snapshot
        self.now_ms = 1000
        self._random = 0
        self._connections = 0
        self.written: dict[int, bytes] = {}
        self.server = CoordinationServer(
            node_id=1,
            incarnation=self.store.identity.incarnation,
            configuration=Configuration.of((1,)),
            recovered=recovered,
            restore=self.store.open_snapshot,
            settings=ServerSettings(
                replica=ReplicaSettings(snapshot_bytes_min=snapshot_bytes, snapshot_factor=0)
            ),
            draw=lambda _: 0,
            random_bytes=self._random_bytes,
            now_ms=self.now_ms,
            wall_ms=WALL_MS + self.now_ms,
        )

    def _random_bytes(self, count: int) -> bytes:
        self._random += 1
        return bytes((self._random * 31 + i) % 256 for i in range(count))

    def run_until_applied(self) -> None:
        """Let time pass until this node leads and has applied all that it has."""
        for _ in range(_STEPS_MAX):
            self.step()
            status = self.server.status()
            if status["serving"] and status["applied_index"] == status["last_index"]:
                return
        raise AssertionError(f"not settled: {self.server.status()}")

    def step(self) -> None:
        """Ten milliseconds: decide, and do what was decided."""
        self.now_ms += _STEP_MS
        self.server.tick(self.now_ms, WALL_MS + self.now_ms)
        for _ in range(50):
            turn = self.server.take()
            assert turn.fatal is None, turn.fatal
            for connection, data in turn.writes:
                self.written[connection] = self.written.get(connection, b"") + data
            if turn.persists:
                self.store.persist(list(turn.persists))
                self.server.persisted(turn.persists[-1].sequence)
            if turn.save_snapshot is not None:
                writer = self.store.begin_snapshot(turn.save_snapshot.meta)
                for chunk in turn.save_snapshot.chunks:
                    writer.write(chunk)
                self.server.snapshot_saved(turn.save_snapshot.meta, writer.finish())
            if self.server.is_quiet():
                return

    def open_session(self, timeout_ms: int) -> int:
        """A client with a session; gives its connection."""
        self._connections += 1
        self.server.client_opened(self._connections, "127.0.0.1")
        body = struct.pack(">iqiq", 0, 0, timeout_ms, 0) + encode_buffer(NO_PASSWORD) + b"\0"
        self._send(struct.pack(">i", len(body)) + body)
        return self._connections

    def ask(self, connection: int, requests: Iterable[Part]) -> None:
        """Send requests one by one, each applied before the next is sent."""
        for xid, request in enumerate(requests, 1):
            self._send(request.frame(xid), connection)

    def _send(self, data: bytes, connection: int = 0) -> None:
        self.server.client_received(connection or self._connections, data)
        self.run_until_applied()

    def close(self) -> None:
        """As a clean stop does."""
        self.store.close()
        self._disk.close()

    def digest(self) -> int:
        """Of everything that clients can see, and of the sessions."""
        return self.server.service.digest()

    def picture(self) -> dict[str, str]:
        """Every znode as its record, in hex: so that a difference can be found, not only seen."""
        tree = self.server.service.tree
        return {
            path.decode(): encode_record(path, znode).hex()
            for path, znode in sorted(tree.znodes.items())
        }
