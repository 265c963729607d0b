"""``quorate snapshot restore``: a data directory of a new cluster, from a backup."""

from __future__ import annotations

from pathlib import Path

import click

from quorate.cli.new_directory import describe_member, make_directory, member_options
from quorate.errors import UsageError
from quorate.storage.backup import read_backup
from quorate.storage.transplant import Source

_HELP = """Make the data directory of a member of a NEW cluster from a backup.

Run it once for each member, with the same FILE and --cluster; then start them all. The directory
must not hold anything yet.

What was in the backup is there again, as of the moment of the backup, with its versions and
transaction ids. Sessions of that time are there too: their clients may come back with them; those
that do not expire after their timeout, and their ephemeral znodes go with them. Watches are gone.
A client that saw a newer state of the old cluster is refused until it starts anew: it would see
time run backwards.
"""


@click.command("restore", help=_HELP)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--data",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="The directory that is made.",
)
@member_options
def command(file: Path, data: Path, node_id: int, cluster: str) -> None:
    """Check the backup and write the directory."""
    new = describe_member(node_id, cluster)
    try:
        with file.open("rb") as checked:  # all of it, before anything is written
            _, pieces = read_backup(checked, str(file))
            for _ in pieces:
                pass
        with file.open("rb") as stream:
            head, pieces = read_backup(stream, str(file))
            index = make_directory(data, new, Source(head.meta, pieces))
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    click.echo(
        f"{data} holds everything up to entry {index}, as node {head.node_id} of cluster "
        f"{head.cluster_id} had it at {head.taken_at}.\n"
        f"Start it: quorate serve --id {node_id} --data {data} --cluster {cluster}"
    )
