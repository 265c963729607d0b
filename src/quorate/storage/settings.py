"""StorageSettings: the few knobs of the data directory, and what goes wrong when they are off."""

from __future__ import annotations

from dataclasses import dataclass

from quorate.errors import SettingsError


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Sizes and counts of files.

    Attributes:
        segment_bytes: a write-ahead log file is closed when it would grow beyond this. Too small:
            a new file, with its directory sync, too often. Too large: space comes back late.
        preallocate_bytes: how far a new file is filled with zeros ahead of the log. Writing into
            blocks that were written before saves the file system's journal commit in each fsync
            (here 130 against 210 microseconds for 4 KiB, 155 against 295 for 128 KiB). Too
            small: that saving is lost; too large: one commit in many waits for the zeros (about
            1 ms per MiB). 0 switches it off (simulations).
        spare_segments_max: how many files that are no longer needed are kept to be written again.
        snapshots_kept: newest snapshots kept. The one before the newest lets a slow transfer to
            a peer finish, and is what a damaged newest one falls back to.
        snapshot_sync_bytes: a snapshot being written is synced this often, so that its last sync
            does not hold up the log's for long.
        snapshot_block_bytes: a snapshot is checked, and a transfer that was broken off is taken
            up again, in units of this.
        snapshot_compression: zlib's level, 1 to 9; 0 stores plain bytes. Level 1 takes 10 ms for
            each MiB, on a thread of its own, and makes a third of a typical tree of it; higher
            levels take twice as long for 3 % less (a million znodes of 128 bytes, half of each
            random).
        reserve_bytes: with less space than this left, the node takes no writes (``space.py``). Too
            small: what other programs write in a moment fills the disk before we look again.
    """

    segment_bytes: int = 64 << 20
    preallocate_bytes: int = 1 << 20
    spare_segments_max: int = 2
    snapshots_kept: int = 2
    snapshot_sync_bytes: int = 4 << 20
    snapshot_block_bytes: int = 256 << 10
    snapshot_compression: int = 1
    reserve_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        if self.segment_bytes < 512:
            raise SettingsError(f"segment_bytes {self.segment_bytes} must be at least 512")
        if self.preallocate_bytes < 0:
            raise SettingsError(f"preallocate_bytes {self.preallocate_bytes} must not be negative")
        if self.spare_segments_max < 0:
            raise SettingsError(f"spare_segments_max {self.spare_segments_max} is negative")
        if self.snapshots_kept < 1:
            raise SettingsError("snapshots_kept must be at least 1: the log depends on one")
        if self.snapshot_sync_bytes < 1:
            raise SettingsError("snapshot_sync_bytes must be at least 1")
        if not 64 <= self.snapshot_block_bytes <= 16 << 20:
            raise SettingsError("snapshot_block_bytes must be from 64 to 16 MiB")
        if not 0 <= self.snapshot_compression <= 9:
            raise SettingsError("snapshot_compression is zlib's level, from 0 (off) to 9")
        if self.reserve_bytes < 0:
            raise SettingsError(f"reserve_bytes {self.reserve_bytes} is negative")
