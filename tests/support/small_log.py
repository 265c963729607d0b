"""A store whose log has several files after a few entries, and spare ones."""

from __future__ import annotations

from quorate.consensus.entry import Recovered
from quorate.simulation.disk import VirtualDisk
from quorate.storage.settings import StorageSettings
from quorate.storage.store import Store

CLUSTER, DIRECTORY = b"c" * 16, b"d" * 16
SMALL = StorageSettings(segment_bytes=700, preallocate_bytes=200, spare_segments_max=1)


def open_store(disk: VirtualDisk, *, may_repair: bool = True) -> tuple[Store, Recovered]:
    return Store.open(
        disk,
        node_id=1,
        cluster_id=CLUSTER,
        new_directory_id=DIRECTORY,
        settings=SMALL,
        may_repair=may_repair,
    )


def payload(index: int) -> bytes:
    return b"%03d" % index * 8
