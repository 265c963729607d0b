"""Store: the data directory as the node and the simulator use it.

It joins log, snapshots and identity, and owns the rules *between* them: the order in which a step
of persistence touches the files, and what to believe at start when a crash fell between two
files. It decides nothing about consensus and starts no thread.

The order of one ``persist`` (crash-safe at every point):
    1. hard state, truncation, entries: one group in the log, one write and one sync
    2. the last piece of an incoming snapshot: after (1) is durable, the file is completed,
       synced, renamed, the directory synced
    3. only then the log says that it now begins behind that snapshot: one more group
    4. compaction: a record in the group; files are dropped after that group is durable

A crash between 2 and 3 leaves the new snapshot beside a log that may contradict it. ``open``
then does what the engine had decided: the log is kept if it holds the snapshot's last entry, else
it is reset (Raft Fig. 13, rules 6 and 7).

What is promised at start: everything that was ever persisted and not truncated or compacted since,
or an error; never a silent loss. The hard state may be behind the epoch of the snapshot, when a
snapshot of applied entries got durable before this node's own log did.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from typing import NamedTuple

from quorate.consensus.entry import Persist, Recovered, SnapshotChunk, SnapshotMeta
from quorate.errors import (
    CorruptData,
    DiskFailed,
    InvariantBroken,
    UnknownFormat,
    WrongDirectory,
)
from quorate.storage.disk import Disk
from quorate.storage.identity import Identity, load_identity, save_identity
from quorate.storage.incoming import INCOMING_NAME, LIST_NAME, IncomingSnapshot
from quorate.storage.record import Record, RecordKind, Stamp
from quorate.storage.recovery import (
    LogImage,
    LogState,
    Scan,
    scan_log,
    segment_name,
    segment_numbers,
)
from quorate.storage.repair import (
    Marker,
    load_marker,
    remove_marker,
    save_marker,
    set_damage_aside,
)
from quorate.storage.scrub import scrub_log
from quorate.storage.settings import StorageSettings
from quorate.storage.snapshot import (
    TEMPORARY_SUFFIX,
    SnapshotPiece,
    SnapshotShelf,
    SnapshotWriter,
)
from quorate.storage.snapshot_file import ADVICE
from quorate.storage.space import MARGIN_DIVISOR, need_of
from quorate.storage.wal import Wal


class StoreStatistics(NamedTuple):
    """Numbers for people and programs."""

    fsyncs: int  # of the log
    directory_syncs: int  # of the log's files
    bytes_written: int  # to the log, headers and preallocation included
    segments: int
    spare_segments: int
    next_index: int
    floor: int  # entries up to here were compacted
    snapshots: int
    snapshot_index: int  # of the newest; 0: none
    incarnation: int


class Store:
    """An open data directory.

    ``persist`` and ``close`` belong to one thread. ``begin_snapshot`` and its writer,
    ``read_snapshot``, ``open_snapshot`` and ``check_peer`` may be used from others meanwhile.
    """

    def __init__(
        self,
        disk: Disk,
        identity: Identity,
        shelf: SnapshotShelf,
        wal: Wal,
        incoming: IncomingSnapshot,
        settings: StorageSettings,
    ) -> None:
        """Use ``Store.open``."""
        self._disk = disk
        self._identity = identity
        self._shelf = shelf
        self._wal = wal
        self._incoming = incoming
        self._settings = settings
        self._own: SnapshotWriter | None = None
        self._identity_lock = Lock()

    @classmethod
    def open(
        cls,
        disk: Disk,
        *,
        node_id: int,
        cluster_id: bytes,
        new_directory_id: bytes,
        settings: StorageSettings,
        may_repair: bool = False,
        founding: str = "",
    ) -> tuple[Store, Recovered]:
        """Open a data directory, or begin one when it is empty.

        Args:
            disk: the directory, held by nobody else.
            node_id: who we are, from 1.
            cluster_id: 16 bytes, the same on all nodes.
            new_directory_id: 16 random bytes, used only when the directory is empty.
            settings: sizes and counts.
            may_repair: others have what may be lost here. A damaged log or snapshot is then set
                aside, and ``Recovered.damage`` says that something is missing.
            founding: what to remember about how this node began; only where nothing is
                remembered yet.

        Raises:
            WrongDirectory: it is not ours, or half of it is missing; nothing was changed.
            CorruptData: it is damaged, and may not or cannot be repaired; nothing was changed.
            DiskFailed: reading or writing failed; opening again is safe.
        """
        identity = load_identity(disk)
        if identity is None:
            _refuse_orphans(disk)
            identity = Identity(cluster_id, node_id, new_directory_id, founding=founding)
            save_identity(disk, identity)
        identity.check_owner(cluster_id, node_id)
        stamp = Stamp(cluster_id, identity.directory_id, node_id)
        shelf = SnapshotShelf(disk, cluster_id, settings)
        incoming = IncomingSnapshot(shelf)
        if identity.is_initialised:
            wal, recovered = _recover(disk, stamp, shelf, settings, may_repair=may_repair)
            recovered.partial = incoming.recover(disk, shelf.newest_index())
        else:
            wal, recovered = _initialise(disk, stamp, settings), Recovered()
        identity = replace(
            identity,
            incarnation=identity.incarnation + 1,
            is_initialised=True,
            founding=identity.founding or founding,
        )
        save_identity(disk, identity)
        return cls(disk, identity, shelf, wal, incoming, settings), recovered

    @property
    def identity(self) -> Identity:
        """Whose directory this is, with this start's incarnation."""
        return self._identity

    def has_room(self, steps: Sequence[Persist]) -> bool:
        """Whether ``persist`` can be called: if not, call it with the same steps later.

        A group that is half written ends the node, so this is asked before anything is. Steps with
        nothing but term and vote may use the last space there is.

        Raises:
            DiskFailed: the operating system does not say how much is free; nothing happened.
        """
        need = need_of(steps)
        if not need.beside_log_bytes and self._wal.has_space_for(need.log_bytes):
            return True
        settings = self._settings
        wanted = need.log_bytes + need.beside_log_bytes + settings.preallocate_bytes
        if need.beside_log_bytes:
            wanted += settings.snapshot_block_bytes  # of the pieces before, and not written yet
        if not need.is_small:
            wanted += settings.reserve_bytes // MARGIN_DIVISOR
        return self._disk.free_bytes() >= wanted

    def free_bytes(self) -> int:
        """How much space is left. Any thread.

        Raises:
            DiskFailed: the operating system does not say.
        """
        return self._disk.free_bytes()

    def persist(self, steps: Sequence[Persist]) -> None:
        """Carry out the steps in order; all are durable on return.

        Raises:
            DiskFailed: what was in flight may or may not be there; the node must stop.
            InvariantBroken: a step contradicts the log; the node must stop.
        """
        if not self._wal.is_usable:
            raise DiskFailed("the data directory failed or was closed earlier; restart the node")
        try:
            self._persist(steps)
        except BaseException:
            self._wal.fail()
            raise

    def _persist(self, steps: Sequence[Persist]) -> None:
        records: list[Record] = []
        for step in steps:
            if step.hard_state is not None:
                records.append((RecordKind.HARD_STATE, 0, 0, 0, step.hard_state))
            if step.truncate_from is not None:
                records.append((RecordKind.TRUNCATE, 0, 0, step.truncate_from, b""))
            records += [
                (RecordKind.ENTRY, entry.kind, entry.epoch, entry.index, entry.payload)
                for entry in step.entries
            ]
            if step.chunk is not None:
                records = self._persist_chunk(step.chunk, records)
            if step.compact_to is not None:
                records += self._compaction(step.compact_to)
        if records:
            self._wal.append(records)
        self._wal.drop_unneeded()
        if any(step.is_repaired for step in steps):
            remove_marker(self._disk)

    def begin_snapshot(self, meta: SnapshotMeta) -> SnapshotWriter:
        """Begin a snapshot of our own state machine; at most one at a time.

        Finish or abandon the writer. After ``finish`` it counts.

        Raises:
            DiskFailed: the node must stop.
        """
        if self._own is not None:
            self._own.abandon()
        self._own = SnapshotWriter(self._shelf, meta)
        return self._own

    def abandon_snapshot(self) -> None:
        """Give up the snapshot of our own that is being written, if there is one."""
        if self._own is not None:
            self._own.abandon()

    def read_snapshot(self, meta: SnapshotMeta, offset: int, size_bytes: int) -> SnapshotPiece:
        """Read a range of a snapshot's payload, as it is stored, for a peer.

        No data: that snapshot is gone, start over with the newest.

        Raises:
            CorruptData: the file is damaged; nothing of it was handed out.
        """
        return self._shelf.read(meta, offset, size_bytes)

    def open_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """A snapshot's payload in checked pieces, to restore the state machine from.

        Raises:
            StorageError: there is no such snapshot.
            CorruptData: while iterating; the state machine is not to be used then.
        """
        return self._shelf.open(meta)

    def newest_snapshot(self) -> tuple[SnapshotMeta, int, bool] | None:
        """Metadata and stored size of the newest snapshot, and whether it is compressed.

        None: there is none. Any thread.
        """
        return self._shelf.newest()

    def scrub(self) -> Iterator[CorruptData | None]:
        """Read closed segments and the newest snapshot: None for good pieces, damage as it is met.

        May run beside everything else, on any thread.
        """
        stamp = Stamp(self._identity.cluster_id, self._identity.directory_id, self.identity.node_id)
        for damage in scrub_log(self._disk, stamp, self._wal.segment_numbers()):
            still = [segment_name(number) for number in self._wal.segment_numbers()]
            if damage is None or damage.path in still:  # else: recycled while it was read
                yield damage
        yield from self._shelf.scrub_newest()

    def check_peer(self, node_id: int, directory_id: bytes) -> None:
        """Accept a peer's data directory; the first contact is remembered, durably.

        Raises:
            WrongDirectory: this node had another directory before: it lost its disk.
            DiskFull: it cannot be remembered now; nothing changed, try again later.
            DiskFailed: the node must stop.
        """
        with self._identity_lock:
            identity = self._identity.with_peer(node_id, directory_id)
            if identity is not self._identity:
                save_identity(self._disk, identity)
                self._identity = identity

    def statistics(self) -> StoreStatistics:
        """Numbers; never needed for a decision."""
        wal = self._wal
        return StoreStatistics(
            fsyncs=wal.fsyncs,
            directory_syncs=wal.directory_syncs,
            bytes_written=wal.bytes_written,
            segments=wal.segment_count,
            spare_segments=wal.spare_count,
            next_index=wal.state.next_index,
            floor=wal.state.floor,
            snapshots=self._shelf.count(),
            snapshot_index=self._shelf.newest_index(),
            incarnation=self._identity.incarnation,
        )

    def close(self) -> None:
        """Close cleanly. The last group vouches for all before it; closing twice is harmless.

        Raises:
            DiskFailed: all that was persisted is still durable.
        """
        if self._wal.is_usable:
            self._incoming.close()
            if self.has_room([]):
                self._wal.append([])
        self._wal.close()

    # ---- details -------------------------------------------------------------------------------

    def _persist_chunk(self, chunk: SnapshotChunk, records: list[Record]) -> list[Record]:
        """Take a piece of an incoming snapshot; returns the records that are still to write."""
        self._incoming.add(chunk)
        if not chunk.last:
            return records
        if records:
            self._wal.append(records)
        self._incoming.finish()
        index, state = chunk.meta.index, self._wal.state
        if chunk.discard_log or index >= state.next_index:
            return [(RecordKind.RESET, 0, chunk.meta.epoch, index, b"")]
        return [(RecordKind.COMPACT, 0, 0, index, b"")]

    def _compaction(self, index: int) -> list[Record]:
        """The record that lets the log be forgotten up to ``index``."""
        newest = self._shelf.newest_index()
        if index > newest:
            raise InvariantBroken(
                f"compaction to {index}, but the newest durable snapshot is at {newest}"
            )
        self._incoming.forget_up_to(index)
        if index <= self._wal.state.floor:
            return []
        return [(RecordKind.COMPACT, 0, 0, index, b"")]


def _refuse_orphans(disk: Disk) -> None:
    """Without an identity there must be no data."""
    data = [name for name in disk.names() if name.endswith(".q")]
    if data:
        raise WrongDirectory(
            f"this data directory holds {data[0]} but no identity.q: part of it was lost or "
            "copied by hand. Restore the whole directory, or start with an empty one and let "
            "this node join as a new member"
        )


def _remove_temporaries(disk: Disk) -> None:
    """Remove what a crash left half-written, but for what ``IncomingSnapshot`` may go on with."""
    for name in disk.names():
        if name.endswith(TEMPORARY_SUFFIX) and name not in (INCOMING_NAME, LIST_NAME):
            disk.remove(name)


def _initialise(disk: Disk, stamp: Stamp, settings: StorageSettings) -> Wal:
    """Begin an empty log; what an interrupted attempt left never held a promise."""
    for name in disk.names():
        if name.endswith(TEMPORARY_SUFFIX):
            disk.remove(name)
    for number in segment_numbers(disk):
        disk.remove(segment_name(number))
    disk.sync_directory()
    wal = Wal(disk, stamp, settings, None)
    wal.append([])
    return wal


def _recover(
    disk: Disk,
    stamp: Stamp,
    shelf: SnapshotShelf,
    settings: StorageSettings,
    *,
    may_repair: bool,
) -> tuple[Wal, Recovered]:
    """Read log and snapshots, reconcile them, and make the result durable."""
    marker = load_marker(disk)
    if not segment_numbers(disk) and (marker is None or not marker.is_pending):
        raise WrongDirectory(
            "this data directory has an identity but no write-ahead log: it was lost, and with "
            f"it votes and entries; restore the whole directory, or {ADVICE}"
        )
    try:
        scan, snapshot, damaged = _believe(disk, stamp, shelf)
    except UnknownFormat:
        raise
    except CorruptData as error:
        if not may_repair:
            raise
        index = max((meta.index for meta in _good_snapshots(shelf)), default=0)
        marker = set_damage_aside(disk, stamp, error, marker, index)
        scan, snapshot, damaged = _believe(disk, stamp, shelf)
    # From here on the directory is trusted, and changed. The names we have read may not be durable
    # yet, if the process before us died and the machine did not.
    disk.sync_directory()
    _remove_temporaries(disk)
    for name in damaged:
        shelf.set_aside(name)
    leftovers = scan.leftovers if scan is not None else []
    for number in leftovers:
        disk.remove(segment_name(number))
    if damaged or leftovers:
        disk.sync_directory()
    wal, recovered = _go_on(disk, stamp, settings, scan, snapshot, marker)
    if marker is not None:
        recovered.damage = marker.damage
        if marker.is_pending:
            save_marker(disk, Marker(marker.damage))
    return wal, recovered


def _go_on(
    disk: Disk,
    stamp: Stamp,
    settings: StorageSettings,
    scan: Scan | None,
    snapshot: SnapshotMeta | None,
    marker: Marker | None,
) -> tuple[Wal, Recovered]:
    """Open the log to write on, made to fit the snapshot; without a scan, an empty one."""
    image = scan.image if scan is not None else LogImage(LogState(), 1)
    index = snapshot.index if snapshot is not None else 0
    # A fallback below the floor: until a newer snapshot exists, nothing above it may be forgotten.
    image.state = replace(image.state, floor=min(image.state.floor, index))
    wal = Wal(disk, stamp, settings, scan)
    records: list[Record] = []
    if marker is not None and marker.is_pending and marker.hard_state is not None:
        records.append((RecordKind.HARD_STATE, 0, 0, 0, marker.hard_state))
    if snapshot is not None and _contradicts(image, snapshot):
        records.append((RecordKind.RESET, 0, snapshot.epoch, index, b""))
    image.add(records)
    wal.append(records)
    assert wal.state == image.state
    entries = image.from_index(image.state.floor + 1)
    return wal, Recovered(image.state.hard_state, snapshot, entries)


def _believe(
    disk: Disk, stamp: Stamp, shelf: SnapshotShelf
) -> tuple[Scan | None, SnapshotMeta | None, list[str]]:
    """The log, the snapshot it continues, and the names of damaged ones that are not needed.

    The log is None when all of it was set aside.

    Raises:
        CorruptData: something is damaged, and nothing here makes up for it.
    """
    if segment_numbers(disk):
        scan = scan_log(disk, stamp)
        return (scan, *_choose_snapshot(shelf, scan))
    good = [meta.index for meta in _good_snapshots(shelf)]
    damaged = [name for index, _, name in shelf.candidates() if index > max(good, default=0)]
    return None, next(_good_snapshots(shelf), None), damaged


def _good_snapshots(shelf: SnapshotShelf) -> Iterator[SnapshotMeta]:
    """Snapshots that pass all checks, newest first."""
    for _, _, name in shelf.candidates():
        with suppress(CorruptData):
            yield shelf.load(name)


def _choose_snapshot(shelf: SnapshotShelf, scan: Scan) -> tuple[SnapshotMeta | None, list[str]]:
    """The newest good snapshot that the log continues, and the damaged ones above it.

    Raises:
        CorruptData: entries between every good snapshot and the log are lost.
    """
    damage: list[CorruptData] = []
    chosen: SnapshotMeta | None = None
    for _, _, name in shelf.candidates():
        try:
            chosen = shelf.load(name)
            break
        except CorruptData as error:
            damage.append(error)
    index = chosen.index if chosen is not None else 0
    first = scan.image.first
    if first > index + 1:
        if damage:
            raise damage[0]
        raise CorruptData(
            segment_name(scan.segments[0].number),
            0,
            f"the log begins at index {first}, the newest snapshot is at {index}: the files "
            f"between were removed; restore the whole directory, or {ADVICE}",
        )
    return chosen, [error.path for error in damage]


def _contradicts(image: LogImage, snapshot: SnapshotMeta) -> bool:
    """Whether the log must go because it is not the one that leads to this snapshot."""
    if snapshot.index < image.state.floor or snapshot.index == image.first - 1:
        return False
    epoch = image.epoch_at(snapshot.index)
    return epoch is None or epoch != snapshot.epoch
