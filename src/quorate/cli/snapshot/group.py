"""``quorate snapshot``: online backups, and new clusters from them.

save         from a running cluster into a file     save.py
restore      a member's data directory from a file  restore.py
"""

from __future__ import annotations

import click

from quorate.cli.snapshot import restore, save

_HELP = """Save a running cluster into a file; make a new cluster from one.

\b
quorate snapshot save backup.q --admin 127.0.0.1:7001
quorate snapshot restore backup.q --data DIR --id 1 --cluster 1=HOST:PORT
"""


@click.group("snapshot", help=_HELP)
def command() -> None:
    """Find the subcommand and run it."""


command.add_command(save.command)
command.add_command(restore.command)
