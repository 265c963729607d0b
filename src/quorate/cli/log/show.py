"""What ``quorate log`` found, as tables for people and as JSON for programs."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from quorate.consensus.entry import EntryKind
from quorate.consensus.registry import describe_hard_state
from quorate.storage.inspection import Inspection, Problem, Verdict
from quorate.storage.record import Record, RecordKind
from quorate.storage.recovery import segment_name
from quorate.storage.survey import SegmentFound

_VERDICTS = {
    Verdict.GOOD: "good: nothing is missing",
    Verdict.DAMAGED: "damaged: something is missing, and other nodes can bring it back",
    Verdict.UNUSABLE: "unusable: no node starts with this directory",
}


# ---- for programs --------------------------------------------------------------------------------


def verdict_dict(found: Inspection) -> dict[str, Any]:
    """The verdict and the problems."""
    return {
        "verdict": found.verdict.name.lower(),
        "problems": [
            {
                "file": problem.path,
                "offset": problem.offset,
                "found": problem.found,
                "meaning": problem.meaning,
                "advice": problem.advice,
                "verdict": problem.verdict.name.lower(),
            }
            for problem in found.problems
        ],
    }


def as_dict(found: Inspection, *, records: bool) -> dict[str, Any]:
    """Everything; each record only when asked for."""
    identity = found.identity
    result: dict[str, Any] = verdict_dict(found)
    result["identity"] = identity and {
        "cluster_id": identity.cluster_id.hex(),
        "node_id": identity.node_id,
        "directory_id": identity.directory_id.hex(),
        "starts": identity.incarnation,
        "peers": {str(node): directory.hex() for node, directory in identity.peers},
    }
    result["log"] = {
        "first_index": found.first_index,
        "last_index": found.last_index,
        "compacted_to": found.floor,
        "hard_state": describe_hard_state(found.hard_state),
    }
    result["segments"] = [_segment_dict(segment) for segment in found.segments]
    result["snapshots"] = [
        {
            "file": snapshot.name,
            "bytes": snapshot.size,
            "index": snapshot.meta.index if snapshot.meta else None,
            "epoch": snapshot.meta.epoch if snapshot.meta else None,
        }
        for snapshot in found.snapshots
    ]
    if records:
        result["records"] = [
            {
                "file": segment_name(group.segment),
                "group": group.sequence,
                "kind": _kind(record),
                "epoch": record[2],
                "index": record[3],
                "bytes": len(record[4]),
            }
            for group, record in found.records()
        ]
    return result


def _segment_dict(segment: SegmentFound) -> dict[str, Any]:
    first, last = _entries(segment)
    return {
        "file": segment_name(segment.number),
        "bytes": segment.size,
        "first_group": segment.header.header.first_sequence if segment.header else None,
        "groups": len(segment.groups),
        "wrong_groups": sum(group.records is None for group in segment.groups),
        "records": sum(len(group.records or ()) for group in segment.groups),
        "first_index": first,
        "last_index": last,
    }


def _entries(segment: SegmentFound) -> tuple[int | None, int | None]:
    indexes = [
        record[3]
        for group in segment.groups
        for record in group.records or ()
        if record[0] == RecordKind.ENTRY
    ]
    return (min(indexes), max(indexes)) if indexes else (None, None)


def _kind(record: Record) -> str:
    if record[0] not in set(RecordKind):
        return f"kind {record[0]}"
    if record[0] == RecordKind.ENTRY and record[1] in set(EntryKind):
        return f"entry ({EntryKind(record[1]).name.lower()})"
    return RecordKind(record[0]).name.lower().replace("_", " ")


# ---- for people ----------------------------------------------------------------------------------


def show(found: Inspection, *, records: bool) -> None:
    """Whose directory, files, log, problems."""
    console = Console(highlight=False, soft_wrap=True)
    identity = found.identity
    if identity is not None:
        console.print(
            f"node {identity.node_id} of cluster {identity.cluster_id.hex()}, directory "
            f"{identity.directory_id.hex()}, started {identity.incarnation} times"
        )
        console.print(
            f"log: entries {found.first_index} to {found.last_index}, compacted to {found.floor}; "
            f"{describe_hard_state(found.hard_state)}"
        )
    if found.segments:
        console.print(_segments(found))
    if found.snapshots:
        console.print(_snapshots(found))
    if records:
        console.print(_records(found))
    _print_problems(console, found)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        is_words = heading in ("file", "kind", "note")
        table.add_column(heading, justify="left" if is_words else "right")
    return table


def _segments(found: Inspection) -> Table:
    table = _table("file", "bytes", "groups", "records", "entries", "note")
    for segment in found.segments:
        row = _segment_dict(segment)
        entries = f"{row['first_index']}-{row['last_index']}" if row["first_index"] else ""
        note = "" if segment.header else "no header of its own: a spare, or damaged"
        if row["wrong_groups"]:
            note = f"{row['wrong_groups']} groups are wrong"
        counts = (row["bytes"], row["groups"], row["records"])
        table.add_row(row["file"], *(str(count) for count in counts), entries, note)
    return table


def _snapshots(found: Inspection) -> Table:
    table = _table("file", "bytes", "index", "epoch", "note")
    for snapshot in found.snapshots:
        meta = snapshot.meta
        index, epoch = (str(meta.index), str(meta.epoch)) if meta else ("", "")
        note = "" if meta else "fails its checks"
        table.add_row(snapshot.name, str(snapshot.size), index, epoch, note)
    return table


def _records(found: Inspection) -> Table:
    table = _table("file", "group", "kind", "epoch", "index", "bytes")
    for group, record in found.records():
        numbers = (str(record[2]), str(record[3]), str(len(record[4])))
        table.add_row(segment_name(group.segment), str(group.sequence), _kind(record), *numbers)
    return table


def show_problems(found: Inspection) -> None:
    """One paragraph per problem, then the verdict."""
    _print_problems(Console(highlight=False, soft_wrap=True), found)


def _print_problems(console: Console, found: Inspection) -> None:
    for problem in found.problems:
        console.print(_words(problem), markup=False)
    console.print(
        _VERDICTS[found.verdict], style="green" if not found.verdict.value else "bold red"
    )


def _words(problem: Problem) -> str:
    where = f"{problem.path} at byte {problem.offset}: " if problem.path else ""
    advice = f"\n    to do: {problem.advice}" if problem.advice else ""
    return f"{where}{problem.found}\n    it means: {problem.meaning}{advice}"
