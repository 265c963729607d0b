"""``quorate cluster``: look at a running cluster and change it, without stopping it.

    status, members                      show.py
    add, remove, replace, promote ...    change.py
    transfer                             transfer.py
    recover (offline, a last resort)     recover.py

All of it goes through the admin API of any node (``node/admin_cluster.py``).

Exit codes: 0 done; 1 no: refused, given up, or no quorum; 2 the call is wrong; 3 nobody knows
whether it happened.
"""

from __future__ import annotations

from typing import Any

import click

from quorate.cli.cluster import change, recover, show, transfer
from quorate.errors import OutcomeUnknown

EXIT_UNKNOWN = 3


class _Commands(click.Group):
    """Subcommands in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OutcomeUnknown as error:
            click.echo(f"quorate: it may or may not have happened: {error}", err=True)
            raise SystemExit(EXIT_UNKNOWN) from None


_HELP = """Look at a running cluster and change it, while clients go on.

\b
quorate cluster status                       who leads, what may fail, what is under way
quorate cluster members                      who belongs, and where
quorate cluster add 4=10.0.0.4:2281          a new member; `quorate serve --join` does the same
quorate cluster remove 4                     it leaves, dead or alive
quorate cluster replace 1 5=10.0.0.5:2281    one in the place of another
quorate cluster transfer 2                   let node 2 lead
quorate cluster recover DIR ...              last resort: a majority is gone for good

One change at a time; it goes on by itself once it is accepted, whoever leads. Commands talk to the
admin address of any node (--admin). Exit codes: 0 done, 1 refused or no quorum, 2 the call is
wrong, 3 nobody knows whether it happened.
"""


@click.group("cluster", cls=_Commands, help=_HELP)
def command() -> None:
    """Find the subcommand and run it."""


command.add_command(show.status)
command.add_command(show.members)
command.add_command(change.add)
command.add_command(change.remove)
command.add_command(change.replace)
command.add_command(change.promote)
command.add_command(change.demote)
command.add_command(change.move)
command.add_command(change.prefer)
command.add_command(transfer.transfer)
command.add_command(recover.recover)
