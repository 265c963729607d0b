"""What is done about a damaged directory, so that its node can come back and be repaired.

A damaged log is not believed beyond the damage, and it is never mended in silence: first a
*marker*, ``repair.q``, says durably that this directory has lost something that it had vouched
for. From then on the node knows it at every start, whatever happens, and takes no part in what its
losses could spoil (``consensus/raft/repair.py`` has the argument) until the others have brought
everything back; then the marker is removed.

With the marker durable any true beginning of the log will do. So what follows needs no care about
crashes: the files from the damage on are renamed to ``damaged-...``, for people, and what is before
the damage stays. Only term and vote are looked for everywhere, behind the damage too, because
nobody else can bring them back; the marker keeps them until the log has them again.

This module knows files and their order; it does not know what a vote is.

Invariants:
    * nothing is renamed or cut before the marker is durable
    * the marker goes only when the engine said that everything is back, and that is durable
    * bytes of damaged files are kept, unchanged, until the next damage
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from quorate.consensus.entry import Damage
from quorate.errors import CorruptData, Unreadable
from quorate.storage.disk import Disk
from quorate.storage.record import Stamp
from quorate.storage.recovery import Scan, scan_prefix, segment_name
from quorate.storage.survey import SegmentFound, newest_hard_state, survey_log
from quorate.storage.whole_file import read_whole, replace_whole, write_temporary

MARKER_NAME = "repair.q"
MARKER_TEMPORARY = "repair.tmp"
DAMAGED_PREFIX = "damaged-"
_CUT_TEMPORARY = "cut.tmp"
_WORDS_BYTES_MAX = 4_000

_MAGIC = b"QUORREPR"
_VERSION = 1
_HEAD = struct.Struct(">8sI??xxII")
_CRC = struct.Struct(">I")


class Marker(NamedTuple):
    """What ``repair.q`` says.

    Attributes:
        damage: what the engine is told.
        is_pending: the log does not have the hard state yet that was found behind the damage.
        hard_state: that hard state; means nothing unless pending.
    """

    damage: Damage
    is_pending: bool = False
    hard_state: bytes | None = None

    def encode(self) -> bytes:
        """Stable bytes with a CRC at the end."""
        hard_state = self.hard_state or b""
        words = self.damage.words.encode()[:_WORDS_BYTES_MAX]
        head = _HEAD.pack(
            _MAGIC,
            _VERSION,
            self.damage.is_hard_state_known,
            self.is_pending,
            len(hard_state),
            len(words),
        )
        body = head + hard_state + words
        return body + _CRC.pack(crc32(body))

    @classmethod
    def decode(cls, data: bytes) -> Marker:
        """Inverse of ``encode``. A damaged marker says the worst."""
        body, tail = data[: -_CRC.size], data[-_CRC.size :]
        if len(body) >= _HEAD.size and tail == _CRC.pack(crc32(body)):
            magic, version, is_known, is_pending, state_bytes, words_bytes = _HEAD.unpack_from(body)
            is_whole = len(body) == _HEAD.size + state_bytes + words_bytes
            if magic == _MAGIC and version == _VERSION and is_whole:
                words_at = _HEAD.size + state_bytes
                words = body[words_at:].decode(errors="replace")
                hard_state = body[_HEAD.size : words_at] or None
                return cls(Damage(is_known, words), is_pending, hard_state)
        return cls(Damage(is_hard_state_known=False, words=f"{MARKER_NAME} itself is damaged"))


def load_marker(disk: Disk) -> Marker | None:
    """Read the marker; None: the directory is whole, as far as it knows."""
    data = read_whole(disk, MARKER_NAME)
    return None if data is None else Marker.decode(data)


def save_marker(disk: Disk, marker: Marker) -> None:
    """Replace the marker; durable on return."""
    replace_whole(disk, MARKER_NAME, MARKER_TEMPORARY, marker.encode())


def remove_marker(disk: Disk) -> None:
    """Everything is back, durably: forget the damage."""
    if MARKER_NAME in disk.names():
        disk.remove(MARKER_NAME)
        disk.sync_directory()


def set_damage_aside(
    disk: Disk, stamp: Stamp, error: CorruptData, before: Marker | None, snapshot_index: int
) -> Marker:
    """Mark the directory, then leave of its log only what is before the damage.

    Args:
        disk: the directory.
        stamp: whose it is.
        error: what was found.
        before: the marker of an earlier start, when that did not come to an end.
        snapshot_index: of the newest snapshot that is whole; 0: there is none.

    Raises:
        Unreadable: the newest vote may be in what cannot be read; nothing was changed.
        DiskFailed: doing it again after a restart is safe.
        WrongDirectory, UnknownFormat: these files are not damaged but not ours.
    """
    found = survey_log(disk, stamp)
    prefix = scan_prefix(disk, stamp)
    if prefix is not None and prefix.image.first > snapshot_index + 1:
        prefix = None  # nothing leads to where it begins
    if before is None or not before.is_pending:  # else: a cut that was interrupted; go on with it
        hard_state, is_known = newest_hard_state(found)
        if before is not None and not before.damage.is_hard_state_known:
            is_known = False
        if not is_known and any(segment.hole_end for segment in found):
            raise Unreadable(
                error.path,
                error.offset,
                "the newest vote may be in what cannot be read, so nothing was changed: try again, "
                "and replace the disk, or this node, if it stays so",
            )
        before = Marker(Damage(is_known, str(error)), is_pending=True, hard_state=hard_state)
        save_marker(disk, before)
        _remove_earlier_evidence(disk)
    _cut(disk, found, prefix)
    return before


def _remove_earlier_evidence(disk: Disk) -> None:
    for name in disk.names():
        if name.startswith(DAMAGED_PREFIX) and "wal-" in name:
            disk.remove(name)


def _cut(disk: Disk, found: Sequence[SegmentFound], prefix: Scan | None) -> None:
    """Rename the files from the damage on; keep what is before it in the file where it is."""
    kept = [segment.number for segment in prefix.segments] if prefix is not None else []
    for segment in found:
        name = segment_name(segment.number)
        if prefix is not None and segment.number == kept[-1]:
            _keep_beginning(disk, name, prefix.offset)
        elif segment.number in kept:
            continue
        elif segment.header is not None or segment.groups or segment.hole_end:
            disk.rename(name, DAMAGED_PREFIX + name)
        else:
            disk.remove(name)  # a spare, or nothing that anybody could read
    disk.sync_directory()


def _keep_beginning(disk: Disk, name: str, size: int) -> None:
    """Put the first bytes of a file in its place, and the whole file aside."""
    old = disk.open(name)
    data = old.read(0, size)
    old.close()
    write_temporary(disk, _CUT_TEMPORARY, data)
    if DAMAGED_PREFIX + name not in disk.names():  # else: the cut was begun before
        disk.rename(name, DAMAGED_PREFIX + name)
    disk.rename(_CUT_TEMPORARY, name)
