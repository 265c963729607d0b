"""``quorate log``: look at a data directory while no node uses it, or at a copy of one.

    inspect      what is in it                                    show.py
    verify       whether it is whole, in one line per problem     show.py

Nothing is ever written. Exit codes: 0 good; 1 damaged, and others can repair it; 2 no node starts
with it, or the call is wrong.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from quorate.cli.log import show
from quorate.storage.inspection import Inspection, inspect_directory
from quorate.storage.read_only import ReadOnlyDisk

_HELP = """Look at the data directory of a stopped node, or at a copy. Nothing is written.

\b
Exit codes:
  0  good
  1  damaged; a node among others is repaired by them
  2  no node starts with it
"""

_DIRECTORY = click.argument(
    "directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False)
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group("log", help=_HELP)
def command() -> None:
    """Find the subcommand and run it."""


@command.command("inspect")
@_DIRECTORY
@_JSON
@click.option("--records", is_flag=True, help="List every record of the log, too.")
def inspect(directory: Path, as_json: bool, records: bool) -> None:
    """Show whose directory it is, its files, its entries, and what is wrong."""
    found = _look(directory)
    if as_json:
        click.echo(json.dumps(show.as_dict(found, records=records), indent=2))
    else:
        show.show(found, records=records)
    raise SystemExit(found.verdict.value)


@command.command("verify")
@_DIRECTORY
@_JSON
def verify(directory: Path, as_json: bool) -> None:
    """Check every byte; say what is wrong, what it means and what to do."""
    found = _look(directory)
    if as_json:
        click.echo(json.dumps(show.verdict_dict(found), indent=2))
    else:
        show.show_problems(found)
    raise SystemExit(found.verdict.value)


def _look(directory: Path) -> Inspection:
    return inspect_directory(ReadOnlyDisk(directory))
