"""Backup files and directories made from them: whole, or refused."""

from __future__ import annotations

import io

import pytest

from quorate.consensus.entry import Entry, EntryKind, SnapshotMeta
from quorate.errors import BadInput, UsageError
from quorate.simulation.disk import VirtualDisk
from quorate.storage.backup import BackupHead, read_backup, write_backup
from quorate.storage.identity import load_identity
from quorate.storage.settings import StorageSettings
from quorate.storage.store import Store
from quorate.storage.transplant import NewDirectory, Source, transplant

HEAD = BackupHead(SnapshotMeta(42, 7, b"members"), "cc" * 16, 3, "2024-05-01T12:00:00+00:00")
PIECES = [b"first", b"", b"second" * 10, b"third"]
NEW = NewDirectory(2, b"n" * 16, b"d" * 16, 1_700_000_000, b"new members")


def backup() -> bytes:
    file = io.BytesIO()
    assert write_backup(file, HEAD, PIECES) == 70
    return file.getvalue()


def read(data: bytes) -> tuple[BackupHead, list[bytes]]:
    head, pieces = read_backup(io.BytesIO(data), "backup.q")
    return head, list(pieces)


def test_what_is_saved_reads_back():
    """Head and pieces, the empty one left out."""
    assert read(backup()) == (HEAD, [b"first", b"second" * 10, b"third"])


def test_every_flip_is_refused():
    """No byte may change unnoticed."""
    data = backup()
    for at in range(len(data)):
        for mask in (0x01, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= mask
            with pytest.raises(BadInput):
                read(bytes(damaged))


def test_every_cut_and_every_addition_is_refused():
    """A copy that broke off, or two files in one."""
    data = backup()
    for size in range(len(data)):
        with pytest.raises(BadInput):
            read(data[:size])
    with pytest.raises(BadInput):
        read(data + b"x")


def open_store(disk: VirtualDisk) -> tuple[Store, object]:
    return Store.open(
        disk,
        node_id=2,
        cluster_id=NEW.cluster_id,
        new_directory_id=b"x" * 16,
        settings=StorageSettings(),
    )


def test_a_directory_from_a_backup_opens_as_the_new_member_with_the_new_members():
    """Another identity, a much higher incarnation, the snapshot, the new configuration."""
    disk = VirtualDisk()
    assert transplant(disk, NEW, Source(HEAD.meta, PIECES)) == 42
    store, recovered = open_store(disk)
    meta = SnapshotMeta(42, 7, b"new members")
    assert (recovered.snapshot, recovered.entries, recovered.damage) == (meta, [], None)
    assert b"".join(store.open_snapshot(meta)) == b"".join(PIECES)
    identity = load_identity(disk)
    assert identity is not None
    assert identity.directory_id == NEW.directory_id
    assert identity.incarnation == NEW.incarnation + 1


def test_entries_behind_the_snapshot_end_with_the_new_membership():
    """Whatever the old entries said about members, the last word counts."""
    old = [Entry(index, 7, EntryKind.BATCH, b"x") for index in range(40, 46)]
    disk = VirtualDisk()
    assert transplant(disk, NEW, Source(HEAD.meta, PIECES, old, b"vote")) == 46
    _, recovered = open_store(disk)
    assert [entry.index for entry in recovered.entries] == [43, 44, 45, 46]
    assert recovered.entries[-1] == Entry(46, 7, EntryKind.CONFIGURATION, b"new members")
    assert recovered.hard_state == b"vote"


def test_a_directory_that_holds_something_is_refused():
    """Nothing is overwritten by mistake."""
    disk = VirtualDisk()
    transplant(disk, NEW, Source(HEAD.meta, PIECES))
    before = disk.counts().operations
    with pytest.raises(UsageError, match="not empty"):
        transplant(disk, NEW, Source(HEAD.meta, PIECES))
    assert disk.counts().operations == before
