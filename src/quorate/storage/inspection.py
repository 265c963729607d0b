"""What a data directory holds and what is wrong with it, for people: the work of ``quorate log``.

It reads everything with the code that a start uses, believes the same, and changes nothing; beyond
that it looks at every byte that a start would not reach any more, behind the damage.

Verdicts:
    * GOOD: a node starts with it, and nothing that it vouched for is missing
    * DAMAGED: something is missing; a node among others starts with it and is repaired by them
    * UNUSABLE: no node starts with it
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from quorate.consensus.entry import SnapshotMeta
from quorate.errors import CorruptData, DiskFailed, UnknownFormat, WrongDirectory
from quorate.storage.disk import Disk
from quorate.storage.identity import Identity, load_identity
from quorate.storage.record import Record, RecordKind, Stamp
from quorate.storage.recovery import scan_log, segment_name
from quorate.storage.repair import Marker, load_marker
from quorate.storage.settings import StorageSettings
from quorate.storage.snapshot import SnapshotShelf
from quorate.storage.survey import GroupFound, SegmentFound, newest_hard_state, survey_log

REPAIRABLE = (
    "start the node: the others bring it back. A node that is alone must be restored from a "
    "backup (quorate snapshot restore), or give up what is lost (quorate cluster recover)"
)
REPLACE = (
    "keep a copy, then replace this node: remove it from the cluster and let it join as a new "
    "member with an empty directory"
)


class Verdict(Enum):
    """See above; the values are exit codes."""

    GOOD = 0
    DAMAGED = 1
    UNUSABLE = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong.

    Attributes:
        path: file name; "" when no single file is to blame.
        offset: of the first wrong byte.
        found: what is there, or not there.
        meaning: what that means for the node.
        advice: what to do; "" when nothing need be done.
        verdict: how bad it is; GOOD: worth knowing only.
    """

    path: str
    offset: int
    found: str
    meaning: str
    advice: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class SnapshotFound:
    """A snapshot file; ``meta`` is None when it fails its checks."""

    name: str
    size: int
    meta: SnapshotMeta | None


@dataclass(slots=True)
class Inspection:
    """All that was found.

    Attributes:
        identity: whose directory it is; None: damaged or missing.
        segments: files of the log.
        snapshots: newest first.
        hard_state: the newest that can be read, opaque.
        first_index: of the first entry that a start would find; 0: no log can be read.
        last_index: of the last one.
        floor: entries up to here may be forgotten.
        marker: what an earlier start found damaged, until it is repaired.
        problems: what is wrong, in the order of files.
    """

    identity: Identity | None = None
    segments: list[SegmentFound] = field(default_factory=list)
    snapshots: list[SnapshotFound] = field(default_factory=list)
    hard_state: bytes | None = None
    first_index: int = 0
    last_index: int = 0
    floor: int = 0
    marker: Marker | None = None
    problems: list[Problem] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """The worst of all problems."""
        worst = max((problem.verdict.value for problem in self.problems), default=0)
        return Verdict(worst)

    def records(self) -> Iterator[tuple[GroupFound, Record]]:
        """Every record that can be read, in the order of writing."""
        groups = (group for segment in self.segments for group in segment.groups)
        for group in sorted(groups, key=lambda group: group.sequence):
            for record in group.records or ():
                yield group, record


def inspect_directory(disk: Disk) -> Inspection:
    """Look at a data directory.

    Raises:
        DiskFailed: a file cannot be read at all.
    """
    result = Inspection()
    try:
        result.identity = load_identity(disk)
    except CorruptData as error:
        result.problems.append(
            Problem(
                error.path,
                error.offset,
                str(error),
                "nobody knows whose directory this is: no node starts with it",
                "restore this one file from a copy, or " + REPLACE,
                Verdict.UNUSABLE,
            )
        )
    if result.identity is None:
        if not result.problems:
            result.problems.append(_no_identity(disk))
        return result
    identity = result.identity
    stamp = Stamp(identity.cluster_id, identity.directory_id, identity.node_id)
    result.marker = load_marker(disk)
    result.segments = survey_log(disk, stamp)
    result.hard_state, _ = newest_hard_state(result.segments)
    _look_at_snapshots(disk, identity, result)
    _look_at_log(disk, stamp, result)
    if result.marker is not None:
        result.problems.append(_marked(result.marker))
    return result


def _no_identity(disk: Disk) -> Problem:
    data = [name for name in disk.names() if name.endswith(".q")]
    if not data:
        return Problem(
            "",
            0,
            "there is no data here",
            "a node that starts with it is a new one",
            "check that this is the directory that you mean",
            Verdict.UNUSABLE,
        )
    return Problem(
        "identity.q",
        0,
        f"it is missing, and {data[0]} is there",
        "part of the directory was lost or copied by hand: no node starts with it",
        "restore the whole directory, or " + REPLACE,
        Verdict.UNUSABLE,
    )


def _marked(marker: Marker) -> Problem:
    vote = "" if marker.damage.is_hard_state_known else "; its last vote may be lost, too"
    return Problem(
        "repair.q",
        0,
        marker.damage.words,
        f"found at an earlier start; until it is repaired the node does not vote{vote}",
        REPAIRABLE,
        Verdict.DAMAGED,
    )


def _look_at_snapshots(disk: Disk, identity: Identity, result: Inspection) -> None:
    shelf = SnapshotShelf(disk, identity.cluster_id, StorageSettings())
    for _, _, name in shelf.candidates():
        file = disk.open(name)
        size = file.size()
        file.close()
        try:
            result.snapshots.append(SnapshotFound(name, size, shelf.load(name)))
        except CorruptData as error:
            result.snapshots.append(SnapshotFound(name, size, None))
            result.problems.append(
                Problem(
                    name,
                    error.offset,
                    str(error).partition("; ")[0],
                    "this snapshot is never used; an older one and the log may make up for it",
                    "",
                    Verdict.GOOD,
                )
            )


def _look_at_log(disk: Disk, stamp: Stamp, result: Inspection) -> None:
    if not result.segments and (result.marker is None or not result.marker.is_pending):
        initialised = result.identity is not None and result.identity.is_initialised
        verdict = Verdict.UNUSABLE if initialised else Verdict.GOOD
        words = "it was lost, with votes and entries: no node starts with this directory"
        if not initialised:
            words = "the first start of this node was interrupted; it begins again"
        advice = "restore the whole directory, or " + REPLACE if initialised else ""
        result.problems.append(
            Problem("", 0, "there is no write-ahead log", words, advice, verdict)
        )
        return
    problems = list(_damaged_groups(result.segments))
    result.problems += problems
    try:
        scan = scan_log(disk, stamp)
    except (WrongDirectory, UnknownFormat) as error:
        result.problems.append(
            Problem("", 0, str(error), "no node starts with it", "", Verdict.UNUSABLE)
        )
        return
    except CorruptData as error:
        if not any(problem.verdict is Verdict.DAMAGED for problem in problems):
            result.problems.append(_damage(error.path, error.offset, str(error).partition("; ")[0]))
        return
    except DiskFailed as error:
        result.problems.append(_damage("", 0, str(error)))
        return
    result.first_index = scan.image.first
    result.last_index = scan.image.state.next_index - 1
    result.floor = scan.image.state.floor
    covered = max((found.meta.index for found in result.snapshots if found.meta), default=0)
    if scan.image.first > covered + 1:
        lost = f"entries up to {scan.image.first - 1} are in no snapshot and not in the log"
        result.problems.append(_damage(segment_name(scan.segments[0].number), 0, lost))


def _damage(path: str, offset: int, found: str) -> Problem:
    return Problem(
        path,
        offset,
        found,
        "nothing from there on is believed; the node neither votes nor campaigns until repaired",
        REPAIRABLE,
        Verdict.DAMAGED,
    )


def _damaged_groups(segments: Sequence[SegmentFound]) -> Iterator[Problem]:
    """Groups that are missing or wrong between those that are right."""
    begun = [found.header.header.first_sequence for found in segments if found.header is not None]
    groups = sorted((g for found in segments for g in found.groups), key=lambda g: g.sequence)
    newest = max((*begun, *(group.sequence for group in groups)), default=0)
    expected = min((*begun, *(group.sequence for group in groups)), default=1)
    following, where, end = 1, segment_name(segments[0].number) if segments else "", 0
    for group in groups:
        if group.sequence < expected:
            continue  # the same group once more: a misdirected write
        first = _first_entry(group.records)
        if group.sequence > expected:
            yield _damage(where, end, _lost(expected, group.sequence - 1, following, first))
        if group.records is None and group.sequence < newest:
            yield _damage(
                segment_name(group.segment), group.offset, f"group {group.sequence} is wrong"
            )
        elif group.records is None:
            yield Problem(
                segment_name(group.segment),
                group.offset,
                f"the newest group, {group.sequence}, is not whole",
                "a crash tore it before anybody was told of it, as far as one disk can know",
                "",
                Verdict.GOOD,
            )
        for kind, _, _, index, _ in group.records or ():
            if kind == RecordKind.ENTRY:
                following = index + 1
        where, end = segment_name(group.segment), group.offset + group.length
        expected = group.sequence + 1


def _first_entry(records: Sequence[Record] | None) -> int:
    """Index of a group's first entry; 0: it has none."""
    return next((record[3] for record in records or () if record[0] == RecordKind.ENTRY), 0)


def _lost(first: int, last: int, following: int, next_entry: int) -> str:
    groups = f"group {first}" if first == last else f"groups {first} to {last}"
    if next_entry > following:
        return f"{groups} cannot be read, and with them entries {following} to {next_entry - 1}"
    return f"{groups} cannot be read"
