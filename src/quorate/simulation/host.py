"""One simulated node: the real Replica on the real Store, on a virtual disk.

A host does what the node process does, in virtual time: it takes turns, hands messages to the
network, persists in the background while the next batch gathers, and can lose its power at any
moment, with whatever the disk then loses.

Invariants:
    * nothing of the replica survives a crash except what its disk kept
    * events of an earlier life never reach a later one
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

from quorate.consensus.engine import Engine, ReadSnapshot
from quorate.consensus.entry import Persist, Recovered, SnapshotMeta
from quorate.consensus.registry import create_engine
from quorate.errors import DiskFailed
from quorate.replication.turn import SnapshotJob, Turn
from quorate.simulation.disk import VirtualDisk
from quorate.simulation.safety import SafetyChecker
from quorate.simulation.world import World
from quorate.storage.settings import StorageSettings
from quorate.storage.store import Store

ANNOUNCE_US = 1_000
WALL_ORIGIN_MS = 1_700_000_000_000
SMALL_STORAGE = StorageSettings(
    segment_bytes=8_192, preallocate_bytes=0, spare_segments_max=1, snapshot_sync_bytes=1_000
)
"""Small enough that segments rotate and are recycled many times in a short run."""


class Core(Protocol):
    """What a host drives: a Replica, or a CoordinationServer around one."""

    def tick(self, now_ms: int, wall_ms: int) -> None: ...

    def peer_received(self, peer: int, channel: int, payload: bytes) -> None: ...

    def peer_opened(self, peer: int) -> None: ...

    def peer_closed(self, peer: int) -> None: ...

    def persisted(self, sequence: int) -> None: ...

    def install(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None: ...

    def announce(self) -> None: ...

    def snapshot_saved(self, meta: SnapshotMeta, size_bytes: int) -> None: ...

    def snapshot_read(
        self, peer: int, meta: SnapshotMeta, offset: int, data: bytes | None, *, last: bool
    ) -> None: ...

    def take(self) -> Turn: ...


MakeEngine: TypeAlias = Callable[..., Engine]
WrapEngine: TypeAlias = Callable[[Engine], Engine]
"""Puts something around an engine: its own invariants, or a mutation."""
Build: TypeAlias = Callable[["Host", Store, Recovered, MakeEngine], Any]
"""Builds a host's core from what its disk held; the engine must come from the given maker."""


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How a simulated node is built."""

    storage: StorageSettings
    cluster_id: bytes
    tick_us: int = 10_000
    disk_us: tuple[int, int] = (100, 1_000)


class Host:
    """A node that can crash and start again on the same disk."""

    def __init__(
        self,
        node_id: int,
        world: World,
        checker: SafetyChecker,
        settings: HostSettings,
        build: Build,
        wrap_engine: WrapEngine | None = None,
    ) -> None:
        self.node_id = node_id
        self.disk = VirtualDisk()
        self.alive = False
        self.life = 0
        self.core: Any = None
        self.send: Callable[[int, int, int, bytes], None] = lambda *_: None
        self.on_turn: Callable[[Host, Any], None] = lambda *_: None
        self.fatal: str | None = None
        self._world = world
        self._checker = checker
        self._settings = settings
        self._build = build
        self._wrap_engine = wrap_engine
        self._store: Store | None = None
        self._queue: list[Persist] = []
        self._disk_busy = False
        self._driving = False
        self._job: SnapshotJob | None = None

    # ---- life and death ------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process on whatever the disk holds."""
        assert not self.alive
        world, settings = self._world, self._settings
        store, recovered = Store.open(
            self.disk,
            node_id=self.node_id,
            cluster_id=settings.cluster_id,
            new_directory_id=world.bytes(16),
            settings=settings.storage,
        )

        def make_engine(name: str, **arguments: Any) -> Engine:
            engine = create_engine(name, **arguments)
            if self._wrap_engine is not None:
                engine = self._wrap_engine(engine)
            return self._checker.observe(self.node_id, engine, recovered)

        self._store = store
        self.core = self._build(self, store, recovered, make_engine)
        self.alive = True
        self.life += 1
        self._queue, self._disk_busy, self._job = [], False, None
        self._tick(self.life)

    def crash(self) -> None:
        """Lose the power now; if the disk was busy, possibly in the middle of a write."""
        assert self.alive
        self.alive = False
        if self._disk_busy and self._store is not None and self._queue:
            self.disk.fail_after(self._world.draw(6))
            with suppress(DiskFailed):  # the power went in the middle of these operations
                self._store.persist(self._queue)
        self.disk.crash(self._world.draw)
        self.core = None
        self._store = None

    # ---- events --------------------------------------------------------------------------------

    def receive(self, sender: int, channel: int, payload: bytes) -> None:
        """Take a message in."""
        if self.alive:
            self.core.peer_received(sender, channel, payload)
            self.drive()

    def _tick(self, life: int) -> None:
        if not self.alive or life != self.life:
            return
        now_ms = self._world.now_ms
        self.core.tick(now_ms, WALL_ORIGIN_MS + now_ms)
        self.drive()
        self._world.after(self._settings.tick_us, lambda: self._tick(life))

    # ---- turns ---------------------------------------------------------------------------------

    def drive(self) -> None:
        """Take turns until there is nothing left to do now."""
        core = self.core
        if core is None or self._driving:
            return
        self._driving = True
        try:
            while True:
                turn = core.take()
                again = self._carry_out(core, turn)
                self.on_turn(self, turn)
                if not again:
                    break
        finally:
            self._driving = False

    def _carry_out(self, core: Core, turn: Turn) -> bool:
        store = self._store
        assert store is not None
        for peer, channel, payload in turn.sends:
            self.send(self.node_id, peer, channel, payload)
        if turn.persists:
            self._queue += turn.persists
            self._pump_disk()
        if turn.announce_soon:
            self._world.after(ANNOUNCE_US, partial(self._announce, self.life))
        if turn.abandon_snapshot:
            self._job = None
        if turn.install is not None:
            core.install(turn.install, store.open_snapshot(turn.install))
        if turn.save_snapshot is not None:
            self._start_snapshot(turn.save_snapshot)
        for request in turn.read_snapshot:
            self._read_snapshot(request)
        if turn.fatal is not None:
            self.fatal = turn.fatal
        return turn.again or turn.install is not None

    def _announce(self, life: int) -> None:
        if self.alive and life == self.life:
            self.core.announce()
            self.drive()

    def _pump_disk(self) -> None:
        if self._disk_busy or not self._queue:
            return
        self._disk_busy = True
        life = self.life
        delay = self._world.between(*self._settings.disk_us)
        self._world.after(delay, lambda: self._disk_done(life))

    def _disk_done(self, life: int) -> None:
        if not self.alive or life != self.life:
            return
        assert self._store is not None
        steps, self._queue = self._queue, []
        self._store.persist(steps)
        self._disk_busy = False
        self.core.persisted(steps[-1].sequence)
        self._pump_disk()
        self.drive()

    # ---- snapshots -----------------------------------------------------------------------------

    def _start_snapshot(self, job: SnapshotJob) -> None:
        assert self._store is not None
        self._job = job
        writer = self._store.begin_snapshot(job.meta)
        self._write_piece(self.life, job, writer, iter(job.chunks))

    def _write_piece(
        self, life: int, job: SnapshotJob, writer: Any, chunks: Iterator[bytes]
    ) -> None:
        if not self.alive or life != self.life:
            return
        if self._job is not job:
            writer.abandon()
            return
        piece = next(chunks, None)
        if piece is not None:
            writer.write(piece)
            delay = self._world.between(*self._settings.disk_us)
            self._world.after(delay, lambda: self._write_piece(life, job, writer, chunks))
            return
        self._job = None
        self.core.snapshot_saved(job.meta, writer.finish())
        self.drive()

    def _read_snapshot(self, request: ReadSnapshot) -> None:
        life = self.life

        def answer() -> None:
            if not self.alive or life != self.life:
                return
            assert self._store is not None
            data, last = self._store.read_snapshot(request.meta, request.offset, request.size_bytes)
            self.core.snapshot_read(request.peer, request.meta, request.offset, data, last=last)
            self.drive()

        self._world.after(self._world.between(*self._settings.disk_us), answer)
