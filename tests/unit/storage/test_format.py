"""docs/wal-format.md and the bytes on disk say the same; a change of either needs a new version."""

from __future__ import annotations

from dataclasses import replace
from zlib import crc32, decompress

from quorate.consensus.entry import Entry, Persist, SnapshotMeta
from quorate.simulation.disk import VirtualDisk
from quorate.storage.identity import PEERS_MAX, Identity, load_identity
from quorate.storage.settings import StorageSettings
from quorate.storage.store import Store

CLUSTER, DIRECTORY = b"c" * 16, b"d" * 16


def directory(snapshot_compression: int = 1) -> VirtualDisk:
    """A directory with one of everything."""
    disk = VirtualDisk()
    settings = StorageSettings(preallocate_bytes=0, snapshot_compression=snapshot_compression)
    store, _ = Store.open(
        disk, node_id=3, cluster_id=CLUSTER, new_directory_id=DIRECTORY, settings=settings
    )
    store.persist([Persist(1, hard_state=b"vote", entries=[Entry(1, 7, 1, b"payload")])])
    store.persist([Persist(2, truncate_from=1, entries=[Entry(1, 8, 2, b"")])])
    writer = store.begin_snapshot(SnapshotMeta(1, 8, b"members"))
    writer.write(b"state")
    writer.finish()
    store.persist([Persist(3, compact_to=1)])
    store.check_peer(2, b"2" * 16)
    return disk


def content(disk: VirtualDisk, name: str) -> bytes:
    file = disk.open(name)
    return file.read(0, file.size())


def number(data: bytes, offset: int, size: int) -> int:
    return int.from_bytes(data[offset : offset + size])


def read_segment(data: bytes) -> list[list[tuple[int, int, int, int, bytes]]]:
    """A reader written from the document alone."""
    assert data[:8] == b"QUORAWAL"
    assert number(data, 8, 4) == 1
    assert data[12:28] == CLUSTER
    assert data[28:44] == DIRECTORY
    assert [number(data, at, 8) for at in (44, 52, 60, 68, 76)] == [3, 1, 1, 1, 0]
    assert number(data, 84, 8) == 0
    chain = crc32(data[:92])
    assert number(data, 92, 4) == chain
    key = crc32((1).to_bytes(8), crc32(DIRECTORY))
    at, sequence, groups = 96, 1, []
    while at < len(data):
        assert data[at : at + 4] == b"QGRP"
        assert number(data, at + 4, 4) == key
        assert number(data, at + 8, 8) == sequence
        end = at + 32 + number(data, at + 16, 4)
        count = number(data, at + 20, 4)
        assert number(data, at + 24, 4) == chain
        chain = crc32(data[at : at + 28])
        assert number(data, at + 28, 4) == chain
        at += 32
        records = []
        for _ in range(count):
            length = number(data, at + 4, 4)
            chain = crc32(data[at + 4 : at + 28 + length], chain)
            assert number(data, at, 4) == chain
            fields = (
                data[at + 8],
                data[at + 9],
                number(data, at + 12, 8),
                number(data, at + 20, 8),
            )
            assert number(data, at + 10, 2) == 0
            records.append((*fields, data[at + 28 : at + 28 + length]))
            at += 28 + length
        assert at == end
        groups.append(records)
        sequence += 1
    return groups


def test_a_segment_is_what_the_document_says():
    """Every field at its offset, every CRC over its bytes."""
    assert read_segment(content(directory(), "wal-0000000000000001.q")) == [
        [],
        [(2, 0, 0, 0, b"vote"), (1, 1, 7, 1, b"payload")],
        [(2, 0, 0, 0, b"vote"), (3, 0, 0, 1, b""), (1, 2, 8, 1, b"")],
        [(2, 0, 0, 0, b"vote"), (4, 0, 0, 1, b"")],
    ]


def read_snapshot(data: bytes) -> tuple[int, bytes]:
    """Version and payload; a reader written from the document alone."""
    assert data[:8] == b"QUORSNAP"
    assert number(data, 12, 4) == 262144
    assert data[16:32] == CLUSTER
    assert [number(data, 32, 8), number(data, 40, 8), number(data, 48, 4)] == [1, 8, 7]
    assert data[52:59] == b"members"
    assert number(data, 59, 4) == crc32(data[:59])
    seed = crc32(data[:63])
    trailer = data[-28:]
    assert trailer[:8] == b"QUORSEND"
    payload = data[63 : 63 + number(trailer, 8, 8)]
    table = data[63 + len(payload) : -28]
    assert number(trailer, 16, 4) == 1
    assert table == crc32(payload, crc32((0).to_bytes(4), seed)).to_bytes(4)
    assert number(trailer, 20, 4) == crc32(table, seed)
    assert number(trailer, 24, 4) == crc32(trailer[:24])
    return number(data, 8, 4), payload


def test_a_snapshot_is_what_the_document_says():
    """Header, payload, table, trailer; the payload plain or one zlib stream."""
    name = "snapshot-0000000000000001-0000000000000008.q"
    assert read_snapshot(content(directory(0), name)) == (1, b"state")
    version, payload = read_snapshot(content(directory(1), name))
    assert (version, decompress(payload)) == (2, b"state")


def test_an_identity_is_what_the_document_says():
    """Owner, start, peers."""
    data = b"QUORIDEN" + (1).to_bytes(4) + CLUSTER + DIRECTORY + (3).to_bytes(8)
    data += (1).to_bytes(8) + b"\x01\x00" + (1).to_bytes(2) + (2).to_bytes(8) + b"2" * 16
    assert content(directory(), "identity.q") == data + crc32(data).to_bytes(4)


def test_an_identity_with_a_founding_text_is_what_the_document_says():
    """Version 2: the text behind the peers; one of version 1 is read and becomes one."""
    disk = directory()
    identity = load_identity(disk)
    assert identity is not None
    assert identity.founding == ""
    founded = replace(identity, founding="1=a:1")
    data = b"QUORIDEN" + (2).to_bytes(4) + CLUSTER + DIRECTORY + (3).to_bytes(8)
    data += (1).to_bytes(8) + b"\x01\x00" + (1).to_bytes(2) + (2).to_bytes(8) + b"2" * 16
    data += (5).to_bytes(4) + b"1=a:1"
    assert founded.encode() == data + crc32(data).to_bytes(4)
    assert Identity.decode(founded.encode()) == founded
    for text, expected in (("1=a:1", "1=a:1"), ("joined", "1=a:1"), ("", "1=a:1")):
        store, _ = Store.open(
            disk,
            node_id=3,
            cluster_id=CLUSTER,
            new_directory_id=DIRECTORY,
            settings=StorageSettings(),
            founding=text,
        )
        assert store.identity.founding == expected  # the first one stays
        store.close()


def test_the_memory_of_peers_is_bounded():
    """Whoever comes after so many others is not remembered, and the file stays readable."""
    many = tuple((node, b"x" * 16) for node in range(1, PEERS_MAX + 1))
    identity = Identity(CLUSTER, 70_000, DIRECTORY, peers=many)
    assert identity.with_peer(70_001, b"y" * 16) is identity
    assert Identity.decode(identity.encode()) == identity
