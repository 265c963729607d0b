"""The entrance of the command line: finds the command, turns errors into words.

Each command lives in a file of its own that is imported when it is called, so that a node does
not wait for tables and pages that it never shows.

Exit codes: 0 fine; 1 the answer is "no" (``status`` without a quorum, ``up`` lost a node at
start, ``cluster`` was refused a change, ``check`` found a history that is not linearizable,
``simulate`` saw a violation); 2 the call, a setting or an input file is wrong; 3 ``check`` is
undecided, ``cluster`` does not know whether it happened; what a node's other codes mean
is in ``node/process.py``.
"""

from __future__ import annotations

import importlib
import sys

import click

from quorate import __version__
from quorate.errors import QuorateError, UsageError

_COMMANDS = {
    "up": ("quorate.cli.up", "Run a local cluster, one process per node, until Ctrl-C."),
    "serve": ("quorate.cli.serve", "Run one node in the foreground."),
    "status": ("quorate.cli.status", "Show who leads, who lags, how many failures are tolerated."),
    "snapshot": ("quorate.cli.snapshot.group", "Back a running cluster up; restore a backup."),
    "log": ("quorate.cli.log.group", "Look at a data directory offline; verify every byte."),
    "cluster": (
        "quorate.cli.cluster.group",
        "Add, remove and replace nodes, move leadership, and see how the cluster is.",
    ),
    "certs": ("quorate.cli.certs", "Make certificates to try TLS with."),
    "check": ("quorate.cli.check", "Check whether recorded histories are linearizable."),
    "simulate": (
        "quorate.cli.simulate.group",
        "Run clusters under faults, in virtual time, from seeds.",
    ),
}


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(_COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in _COMMANDS.items()])


_HELP = """Consensus for Python: a replicated coordination service for ZooKeeper clients.

\b
quorate up                             a cluster of three on this machine
quorate status                         who leads, and what it can still lose
quorate cluster add 4=HOST:PORT        change who belongs, while clients go on
quorate serve --id 1 --data DIR ...    one node of a real cluster
quorate check history.jsonl            was what clients saw linearizable?
quorate simulate run --seeds 100       this code under faults, in virtual time
"""


@click.command(cls=_LazyGroup, help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="quorate")
def cli() -> None:
    """Find the command and run it."""


def main() -> None:
    """Run the command line; the console script ``quorate``."""
    try:
        sys.exit(cli(prog_name="quorate", standalone_mode=False) or 0)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except UsageError as error:
        click.echo(f"quorate: {error}", err=True)
        sys.exit(2)
    except QuorateError as error:
        click.echo(f"quorate: {error}", err=True)
        sys.exit(1)
