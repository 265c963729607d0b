"""``quorate cluster transfer``: let another node lead, without an election timeout."""

from __future__ import annotations

import json

import click

from quorate.cli.cluster.api import Cluster, admin_option, json_option


@click.command("transfer")
@click.argument("node", type=click.IntRange(1), required=False, metavar="[ID]")
@admin_option
@json_option
def transfer(node: int | None, admin: str, as_json: bool) -> None:
    """Hand leadership to node ID, or to the voter that is best up to date.

    Clients do not notice: their writes wait for a few milliseconds.
    """
    _, answer = Cluster(admin).post("/cluster/transfer", {"to": node or 0})
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo(answer["words"])
