"""A new data directory from what is left of an old one, or from a backup.

The new directory is another one in every sense that matters to the others: it has an id of its own,
and its incarnation is above any that the old cluster can have used, because batches of client
requests are recognised by it. It is written through ``Store``, so whatever opens directories opens
this one.

Invariants:
    * the source is only read
    * a directory that already holds something is refused
    * what is in the new directory is durable on return
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from quorate.consensus.entry import Entry, EntryKind, Persist, SnapshotChunk, SnapshotMeta
from quorate.errors import UsageError
from quorate.storage.disk import Disk
from quorate.storage.identity import load_identity, save_identity
from quorate.storage.settings import StorageSettings
from quorate.storage.store import Store

PIECE_BYTES = 1 << 20
ENTRIES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class NewDirectory:
    """Whose directory is made.

    Attributes:
        node_id: from 1.
        cluster_id: 16 bytes.
        directory_id: 16 random bytes.
        incarnation: higher than any start of any node of the old cluster.
        configuration: encoded membership that is in force from now on.
        founding: what the directory remembers of the cluster's beginning, for the node.
    """

    node_id: int
    cluster_id: bytes
    directory_id: bytes
    incarnation: int
    configuration: bytes
    founding: str = ""


@dataclass(slots=True)
class Source:
    """What the new directory begins with.

    Attributes:
        snapshot: where it stands; its configuration is replaced. None: from the beginning.
        pieces: its payload.
        entries: what follows, without a gap.
        hard_state: the engine's; None when there are no entries.
    """

    snapshot: SnapshotMeta | None
    pieces: Iterable[bytes]
    entries: Sequence[Entry] = field(default_factory=list)
    hard_state: bytes | None = None


def transplant(disk: Disk, new: NewDirectory, source: Source) -> int:
    """Make the directory; returns the index of its last entry.

    With entries behind the snapshot a configuration entry is added at the end, so that the new
    membership holds whatever the entries say.

    Raises:
        UsageError: there is something in the directory already; nothing was changed.
        CorruptData: the source turned out to be damaged; throw the new directory away.
        DiskFailed: the same.
    """
    if disk.names():
        raise UsageError(
            "the new data directory is not empty; name one that does not exist yet, so that "
            "nothing can be overwritten by mistake"
        )
    store, _ = Store.open(
        disk,
        node_id=new.node_id,
        cluster_id=new.cluster_id,
        new_directory_id=new.directory_id,
        settings=StorageSettings(),
        founding=new.founding,
    )
    last = 0
    if source.snapshot is not None:
        meta = replace(source.snapshot, configuration=new.configuration)
        _write_snapshot(store, meta, source.pieces)
        last = meta.index
    entries = [entry for entry in source.entries if entry.index > last]
    if entries:
        last = entries[-1].index + 1
        entries.append(Entry(last, entries[-1].epoch, EntryKind.CONFIGURATION, new.configuration))
    for begin in range(0, len(entries), ENTRIES_AT_ONCE):
        store.persist(
            [
                Persist(
                    1,
                    hard_state=source.hard_state if begin == 0 else None,
                    entries=entries[begin : begin + ENTRIES_AT_ONCE],
                )
            ]
        )
    store.close()
    identity = load_identity(disk)
    assert identity is not None, "the store made one"
    save_identity(disk, replace(identity, incarnation=new.incarnation))
    return last


def _write_snapshot(store: Store, meta: SnapshotMeta, pieces: Iterable[bytes]) -> None:
    offset = 0
    for piece in pieces:
        for begin in range(0, len(piece), PIECE_BYTES):
            data = bytes(piece[begin : begin + PIECE_BYTES])
            chunk = SnapshotChunk(meta, offset, data, last=False, discard_log=True)
            store.persist([Persist(1, chunk=chunk)])
            offset += len(data)
    end = SnapshotChunk(meta, offset, b"", last=True, discard_log=True)
    store.persist([Persist(1, chunk=end)])
