"""One simulated node: the real replica or server on the real Store, on a virtual disk.

A host does what the node process does, in virtual time: it takes turns, hands messages to the
network, persists in the background while the next batch gathers. And it dies as processes and
machines die: by loss of power at any operation of its disk, by a kill, by its own decision when
the disk fails; or it stands still for a while, as after SIGSTOP, and goes on as if nothing had
happened.

Invariants:
    * nothing of the core survives a crash except what the disk kept
    * events of an earlier life never reach a later one; a paused host does nothing, and gets
      everything that came meanwhile when it goes on
    * a host whose disk was harmed on purpose may refuse to start (it is then ``retired``); any
      other host always starts, and never stops by itself
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

from quorate.consensus.change import Change
from quorate.consensus.engine import Engine, ReadSnapshot, SnapshotRead
from quorate.consensus.entry import Damage, Persist, Recovered, SnapshotMeta
from quorate.consensus.registry import create_engine
from quorate.errors import (
    DiskFailed,
    DiskFull,
    RemoteProtocolError,
    StorageError,
    WrongDirectory,
)
from quorate.replication.turn import Channel, SnapshotJob, Turn
from quorate.simulation.ambush import FORWARDS
from quorate.simulation.clocks import DiskTiming, VirtualClock
from quorate.simulation.disk import VirtualDisk
from quorate.simulation.judges.court import Court
from quorate.simulation.world import World
from quorate.storage.repair import MARKER_NAME
from quorate.storage.settings import StorageSettings
from quorate.storage.space import SpaceGauge
from quorate.storage.store import Store

ANNOUNCE_US = 1_000
ROOM_US = 100_000
"""Steps for which there is no space are tried again after this."""

BACKLOG_MAX = 20_000
SMALL_STORAGE = StorageSettings(
    segment_bytes=8_192,
    preallocate_bytes=0,
    spare_segments_max=1,
    snapshot_sync_bytes=300,
    snapshot_block_bytes=64,
    reserve_bytes=8_192,
)
"""Small enough that segments rotate and are recycled many times in a short run."""


class Core(Protocol):
    """What a host drives: a Replica, or a CoordinationServer around one."""

    def tick(self, now_ms: int, wall_ms: int) -> None: ...

    def look(self, now_ms: int) -> None: ...

    def peer_received(self, peer: int, channel: int, payload: bytes) -> None: ...

    def peer_opened(self, peer: int) -> None: ...

    def peer_closed(self, peer: int) -> None: ...

    def persisted(self, sequence: int) -> None: ...

    def install(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None: ...

    def announce(self) -> None: ...

    def change_membership(self, token: Hashable, change: Change) -> None: ...

    def transfer_leadership(self, to: int = 0) -> None: ...

    def disk_space(self, *, is_full: bool) -> None: ...

    def snapshot_failed(self) -> None: ...

    def snapshot_saved(self, meta: SnapshotMeta, size_bytes: int) -> None: ...

    def snapshot_read(self, answer: SnapshotRead) -> None: ...

    def is_quiet(self) -> bool: ...

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
    may_repair: bool = True


class Host:
    """A node that can crash and start again on the same disk.

    Attributes:
        send: where its messages go; set by whoever owns the network.
        on_turn: hears of every turn.
        on_moment: hears what it has come to, as ``on_moment(moment, node)``.
        on_down: hears that it is down: crashed, killed or stopped by itself.
        is_harmed: its disk was damaged on purpose: it may stop, and may refuse to start.
        damage: what it said at its last start about what it had lost.
        may_stop: its disk was made to fail on purpose: it may stop, and starts again.
        gauge: whether its disk counts as full.
        retired: why it will not start again, or None.
        stopped: why it stopped itself the last time, or None.
        timing: how long its disk takes.
    """

    def __init__(
        self,
        node_id: int,
        world: World,
        court: Court,
        settings: HostSettings,
        build: Build,
        wrap_engine: WrapEngine | None = None,
    ) -> None:
        self.node_id = node_id
        self.dice = world.dice(f"host {node_id}")
        self.disk = VirtualDisk()
        self.clock = VirtualClock(world)
        self.alive = False
        self.paused = False
        self.life = 0
        self.core: Any = None
        self.send: Callable[[int, int, int, bytes], None] = lambda *_: None
        self.on_turn: Callable[[Host, Any], None] = lambda *_: None
        self.on_moment: Callable[[str, int], None] = lambda _moment, _node: None
        self.on_down: Callable[[Host], None] = lambda _: None
        self.is_harmed = False
        self.damage: Damage | None = None
        self.may_stop = False
        self.retired: str | None = None
        self.stopped: str | None = None
        self.timing = DiskTiming(world, settings.disk_us)
        self._world = world
        self._court = court
        self.gauge = SpaceGauge(settings.storage.reserve_bytes)
        self._settings = settings
        self._build = build
        self._wrap_engine = wrap_engine
        self._store: Store | None = None
        self._queue: list[Persist] = []
        self._disk_busy = False
        self._driving = False
        self._job: SnapshotJob | None = None
        self._backlog: list[Callable[[], None]] = []

    # ---- life and death ------------------------------------------------------------------------

    def start(self, *, power_lost_after: int | None = None) -> bool:
        """Start the process on whatever the disk holds; whether it runs now.

        Args:
            power_lost_after: lose the power again after so many operations of the disk.
        """
        assert not self.alive
        assert self.retired is None
        self.life += 1
        self._queue, self._disk_busy, self._job = [], False, None
        self._backlog, self.paused = [], False
        self.gauge = SpaceGauge(self._settings.storage.reserve_bytes)
        if power_lost_after is not None:
            self.disk.fail_after(power_lost_after)
        try:
            self._start()
        except StorageError as error:
            self.core = self._store = None
            if self.disk.is_dead:
                self.disk.crash(self.dice.draw)
            elif isinstance(error, DiskFailed):
                self._stop(str(error), is_excused=isinstance(error, DiskFull))
            else:
                self.retire(str(error))
            return False
        self.alive = True
        self._tick(self.life)
        return True

    def _start(self) -> None:
        settings = self._settings
        store, recovered = Store.open(
            self.disk,
            node_id=self.node_id,
            cluster_id=settings.cluster_id,
            new_directory_id=self.dice.bytes(16),
            settings=settings.storage,
            may_repair=settings.may_repair,
        )
        self.damage = recovered.damage
        self._court.conduct.damage_is_reported_only_if_there_is_some(
            self.node_id, recovered.damage, self.is_harmed
        )
        self._court.durability.on_start(self.node_id, recovered)

        def make_engine(name: str, **arguments: Any) -> Engine:
            engine = create_engine(name, **arguments)
            if self._wrap_engine is not None:
                engine = self._wrap_engine(engine)
            return self._court.engine.observe(self.node_id, engine, recovered, self.clock.now_ms)

        self._store = store
        self.core = self._build(self, store, recovered, make_engine)

    def crash(self) -> None:
        """Lose the power now; if the disk was busy, possibly in the middle of a write."""
        assert self.alive
        self._interrupt_disk()
        self.disk.crash(self.dice.draw)
        self._down()

    def kill(self) -> None:
        """The process dies and the machine lives on: what was written stays, synced or not."""
        assert self.alive
        self._interrupt_disk()
        self.disk.restart()
        self._down()

    def crash_after(self, operations: int) -> None:
        """Lose the power in the middle of work: after so many more operations of the disk."""
        self.disk.fail_after(operations)

    def _interrupt_disk(self) -> None:
        """What the disk was doing is done in part."""
        if self._disk_busy and self._store is not None and self._queue and not self.disk.is_dead:
            self.disk.fail_after(self.dice.draw(6))
            with suppress(DiskFailed):  # the power went in the middle of these operations
                self._store.persist(self._queue)

    def _stop(self, reason: str, *, is_excused: bool = False) -> None:
        """The node gives up by itself: its disk failed. A full one is an excuse at a start only."""
        self._court.conduct.nodes_stop_only_for_a_fault(
            self.node_id, reason, self.is_harmed or self.may_stop or is_excused
        )
        self.stopped = reason
        self.disk.restart()
        self._down()

    def retire(self, reason: str) -> None:
        """The node's data directory is refused, by itself or by the others: people must help."""
        self._court.conduct.directories_are_refused_only_if_damaged(
            self.node_id, reason, self.is_harmed
        )
        self.retired = reason
        self.disk.restart()
        self._down()

    def _down(self) -> None:
        was_alive, self.alive = self.alive, False
        self._court.engine.on_down(self.node_id)
        self.core = self._store = None
        self._backlog, self.paused = [], False
        if self.disk.silent_damage:
            self.retired = "its disk lost a write that it had confirmed, and nothing can tell"
        if was_alive:
            self.on_down(self)

    @property
    def is_being_repaired(self) -> bool:
        """Whether the disk still says that something is missing."""
        return self.alive and not self.disk.is_dead and MARKER_NAME in self.disk.names()

    # ---- who is who ----------------------------------------------------------------------------

    @property
    def directory_id(self) -> bytes:
        """Which data directory this is; a new one when the old was lost."""
        assert self._store is not None
        return self._store.identity.directory_id

    def check_peer(self, node_id: int, directory_id: bytes) -> bool:
        """Accept a peer's data directory; False: this host's own disk failed.

        Raises:
            WrongDirectory: the peer lost the disk that this host knew.
        """
        return self._guarded(partial(self._check_peer, node_id, directory_id))

    def _check_peer(self, node_id: int, directory_id: bytes) -> None:
        assert self._store is not None
        try:
            self._store.check_peer(node_id, directory_id)
        except DiskFull:  # not remembered yet
            self._soon(ROOM_US, partial(self._check_peer_again, node_id, directory_id))

    def _check_peer_again(self, node_id: int, directory_id: bytes) -> None:
        with suppress(WrongDirectory):
            self.check_peer(node_id, directory_id)

    # ---- standing still ------------------------------------------------------------------------

    def pause(self) -> None:
        """Stand still (SIGSTOP, a virtual machine being moved, garbage collection)."""
        self.paused = self.alive

    def resume(self) -> None:
        """Go on: everything that came meanwhile is there at once."""
        if not self.paused:
            return
        self.paused = False
        backlog, self._backlog = self._backlog, []
        for action in backlog:
            if self.paused or not self.alive:
                break
            action()
        self._tick_once()

    def _post(self, action: Callable[[], None]) -> None:
        """Do it now, or when the host goes on."""
        if not self.paused:
            action()
        elif len(self._backlog) < BACKLOG_MAX:
            self._backlog.append(action)

    def _soon(self, delay_us: int, action: Callable[[], None]) -> None:
        """Do it later, if this life lasts."""
        life = self.life

        def due() -> None:
            if self.alive and life == self.life:
                self._post(action)

        self._world.after(delay_us, due)

    # ---- events --------------------------------------------------------------------------------

    def receive(self, sender: int, channel: int, payload: bytes) -> None:
        """Take a message in."""
        if not self.alive:
            return
        if self.paused:
            self._post(partial(self.receive, sender, channel, payload))
            return
        core = self.core
        try:
            core.peer_received(sender, channel, payload)
        except RemoteProtocolError as error:
            self._court.conduct.peers_speak_properly(self.node_id, sender, str(error))
        if not core.is_quiet():
            self.drive()

    def call(self, action: Callable[[Any], None]) -> None:
        """Let something happen to the core, and take the turns that follow from it."""
        if self.alive:
            self._post(partial(self._call, action))

    def _call(self, action: Callable[[Any], None]) -> None:
        if self.alive:
            action(self.core)
            self.drive()

    def _tick(self, life: int) -> None:
        if life != self.life or not self.alive:
            return
        if self.disk.is_dead:  # crash_after struck where the node expected no harm
            self.crash()
            return
        if not self.paused:
            self._tick_once()
        self._world.after(self._settings.tick_us, partial(self._tick, life))

    def _tick_once(self) -> None:
        core = self.core
        if core is not None:
            if not self.disk.is_dead and self.gauge.look(self.disk.free_bytes()):
                core.disk_space(is_full=self.gauge.is_full)
            core.tick(self.clock.now_ms(), self.clock.wall_ms())
            if not core.is_quiet():
                self.drive()

    # ---- turns ---------------------------------------------------------------------------------

    def drive(self) -> None:
        """Take turns until there is nothing left to do now."""
        core = self.core
        if core is None or self._driving or self.paused:
            return
        self._driving = True
        try:
            while True:
                core.look(self.clock.now_ms())
                turn = core.take()
                again = self._carry_out(core, turn)
                if not self.alive:  # its disk failed meanwhile
                    break
                self.on_turn(self, turn)
                if not again:
                    break
        finally:
            self._driving = False

    def _carry_out(self, core: Core, turn: Turn) -> bool:
        store = self._store
        assert store is not None
        if turn.fatal is not None:
            self._court.conduct.replicas_agree_with_themselves(self.node_id, turn.fatal)
        for peer, channel, payload in turn.sends:
            self.send(self.node_id, peer, channel, payload)
            if channel == Channel.FORWARD:
                self.on_moment(FORWARDS, self.node_id)
        if turn.persists:
            self._court.durability.on_asked(self.node_id, turn.persists)
            self._queue += turn.persists
            self._pump_disk()
        if turn.announce_soon:
            self._soon(ANNOUNCE_US, self._announce)
        if turn.abandon_snapshot:
            self._job = None
        if turn.install is not None and not self._guarded(
            partial(self._install, core, store, turn.install)
        ):
            return False
        if turn.save_snapshot is not None:
            job = turn.save_snapshot
            self._guarded(partial(self._use_space, job, partial(self._start_snapshot, job)))
        for request in turn.read_snapshot:
            self._soon(self.timing.next_us(), partial(self._read_snapshot, request))
        return turn.again or turn.install is not None

    def _install(self, core: Core, store: Store, meta: SnapshotMeta) -> None:
        core.install(meta, store.open_snapshot(meta))

    def _announce(self) -> None:
        self.core.announce()
        self.drive()

    # ---- disk ----------------------------------------------------------------------------------

    def _guarded(self, action: Callable[[], None]) -> bool:
        """Use the disk; whether the node still runs afterwards."""
        if not self.alive:
            return False
        try:
            action()
        except WrongDirectory:
            raise
        except StorageError as error:
            if self.disk.is_dead:  # crash_after: the power went in the middle of this
                self.disk.crash(self.dice.draw)
                self._down()
            else:
                self._stop(str(error))
            return False
        return True

    def _guard(self, action: Callable[[], None]) -> None:
        self._guarded(action)

    def _pump_disk(self) -> None:
        if self._disk_busy or not self._queue:
            return
        self._disk_busy = True
        self._soon(self.timing.next_us(), self._disk_done)

    def _disk_done(self) -> None:
        assert self._store is not None
        if not self._store.has_room(self._queue):
            self._soon(ROOM_US, self._disk_done)
            return
        steps, self._queue = self._queue, []
        if not self._guarded(partial(self._store.persist, steps)):
            return
        self._disk_busy = False
        sequence = steps[-1].sequence
        self._court.durability.on_confirmed(self.node_id, sequence)
        self.core.persisted(sequence)
        self._pump_disk()
        self.drive()

    # ---- snapshots -----------------------------------------------------------------------------

    def _start_snapshot(self, job: SnapshotJob) -> None:
        assert self._store is not None
        self._job = job
        self._write_piece(job, self._store.begin_snapshot(job.meta), iter(job.chunks))

    def _use_space(self, job: SnapshotJob, action: Callable[[], None]) -> None:
        """Do something for this snapshot; without space for it, give it up."""
        try:
            action()
        except DiskFull:
            assert self._store is not None
            self._store.abandon_snapshot()
            if self._job is job:
                self._job = None
                self.core.snapshot_failed()

    def _write_piece(self, job: SnapshotJob, writer: Any, chunks: Iterator[bytes]) -> None:
        if self._job is not job:
            writer.abandon()
            return
        piece = next(chunks, None)
        if piece is not None:
            writer.write(piece)
            step = partial(self._write_piece, job, writer, chunks)
            guarded = partial(self._guard, partial(self._use_space, job, step))
            self._soon(self.timing.next_us(), guarded)
            return
        size_bytes = writer.finish()
        self._job = None
        self.core.snapshot_saved(job.meta, size_bytes)
        self.drive()

    def _read_snapshot(self, request: ReadSnapshot) -> None:
        def read() -> None:
            assert self._store is not None
            meta, offset = request.meta, request.offset
            piece = self._store.read_snapshot(meta, offset, request.size_bytes)
            self.core.snapshot_read(SnapshotRead(request.peer, meta, offset, *piece))

        if self._guarded(read):
            self.drive()
