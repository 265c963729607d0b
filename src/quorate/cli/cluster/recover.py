"""``quorate cluster recover``: a new cluster from one surviving data directory.

For the day on which a majority is gone for good. It reads the survivor, never changes it, and
writes a directory for a member of a new, smaller cluster.
"""

from __future__ import annotations

from pathlib import Path

import click

from quorate.cli.new_directory import describe_member, make_directory, member_options
from quorate.errors import UsageError
from quorate.storage.inspection import Inspection, Verdict, inspect_directory
from quorate.storage.read_only import ReadOnlyDisk
from quorate.storage.record import Stamp
from quorate.storage.recovery import scan_prefix
from quorate.storage.settings import StorageSettings
from quorate.storage.snapshot import SnapshotShelf
from quorate.storage.transplant import Source

_HELP = """Make a new cluster from ONE surviving data directory. Last resort.

A cluster that lost a majority for good cannot decide anything any more. This command makes, from
the directory of one stopped node, the directory of a member of a new cluster. The old directory is
only read.

\b
WHAT IT MAY LOSE
  Every write that was acknowledged and had not reached this node: nothing tells how many there
  are. Choose the survivor with the highest last entry (quorate log inspect).
WHAT IT MAY BRING BACK
  Writes that this node had stored and that were never acknowledged.
WHAT YOU MUST NOT DO
  Start any node of the old cluster again. Its clients would write into the past.

For a new cluster with several members run it once for each member, with the same DIR and
--cluster and another --id and --to, and start them all. Or make one member and add others later.
"""


@click.command("recover", help=_HELP)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--to",
    "target",
    required=True,
    metavar="NEW",
    type=click.Path(path_type=Path, file_okay=False),
    help="The directory that is made.",
)
@member_options
@click.option("--force", is_flag=True, help="Required: you know that writes may be lost.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def recover(
    directory: Path, target: Path, node_id: int, cluster: str, force: bool, yes: bool
) -> None:
    """Read the survivor, say what may be lost, ask, write."""
    if not force:
        raise UsageError(
            "this may lose acknowledged writes; if a majority can still be started, start it "
            "instead. If it is gone for good, say --force"
        )
    new = describe_member(node_id, cluster)
    disk = ReadOnlyDisk(directory)
    found = inspect_directory(disk)
    source, last = _read(disk, found, directory)
    click.echo(_warning(found, directory, last), err=True)
    if not yes:
        click.confirm("Make a new cluster from it?", abort=True, err=True)
    index = make_directory(target, new, source)
    click.echo(
        f"{target} holds everything up to entry {last} (the log ends at {index}).\n"
        f"Start it: quorate serve --id {node_id} --data {target} --cluster {cluster}\n"
        "Never start a node of the old cluster again."
    )


def _read(disk: ReadOnlyDisk, found: Inspection, directory: Path) -> tuple[Source, int]:
    """Whatever can be believed, and the index of its last entry."""
    identity = found.identity
    if found.verdict is Verdict.UNUSABLE or identity is None:
        words = "; ".join(problem.found for problem in found.problems)
        raise UsageError(f"{directory} cannot be used: {words}. Try another node's directory")
    stamp = Stamp(identity.cluster_id, identity.directory_id, identity.node_id)
    scan = scan_prefix(disk, stamp)
    shelf = SnapshotShelf(disk, identity.cluster_id, StorageSettings())
    metas = [shelf.load(snapshot.name) for snapshot in found.snapshots if snapshot.meta]
    newest = metas[0] if metas else None
    covered = newest.index if newest is not None else 0
    entries = scan.image.entries if scan is not None else []
    if entries and entries[0].index > covered + 1:
        entries = []  # nothing leads to where they begin
    if newest is not None and any(
        entry.index == covered and entry.epoch != newest.epoch for entry in entries
    ):
        entries = []  # the log is not the one that led to the snapshot
    pieces = shelf.open(newest) if newest is not None else ()
    last = max(covered, entries[-1].index if entries else 0)
    if last == 0:
        raise UsageError(f"{directory} holds no entry; try another node's directory")
    return Source(newest, pieces, entries, found.hard_state), last


def _warning(found: Inspection, directory: Path, last: int) -> str:
    assert found.identity is not None
    lines = [
        f"THIS MAY LOSE ACKNOWLEDGED WRITES. {directory} is node {found.identity.node_id}'s and",
        f"ends with entry {last}. Whatever the old cluster acknowledged after that is GONE.",
        "Every other directory of the old cluster must never be started again.",
    ]
    if found.verdict is Verdict.DAMAGED:
        lines.append("THE DIRECTORY IS DAMAGED; only what is before the damage is used:")
        lines += [f"  {problem.path}: {problem.found}" for problem in found.problems]
    return "\n".join(lines)
