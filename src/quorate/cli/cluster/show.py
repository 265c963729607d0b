"""``quorate cluster status`` and ``members``: the cluster as its leader sees it."""

from __future__ import annotations

import json
from typing import Any

import click

from quorate.cli.ask import status_page
from quorate.cli.cluster.api import Cluster, admin_option, json_option
from quorate.cli.cluster.picture import Picture, describe
from quorate.cli.words import NO_QUORUM
from quorate.errors import NoQuorum

_TIMEOUT_SECONDS = 2.0
_STYLES = {"leads": "bold green", "in step": "green", "no answer": "red"}


@click.command("status")
@admin_option
@json_option
def status(admin: str, as_json: bool) -> None:
    """Say in words how the cluster is: who leads, what may still fail, what is under way.

    Exits with 0 when a quorum serves, else with 1.
    """
    cluster = Cluster(admin)
    try:
        picture = describe(cluster.page())
    except NoQuorum as error:
        _show_without_leader(cluster, str(error), as_json=as_json)
        raise SystemExit(1) from None
    if as_json:
        click.echo(json.dumps(picture.to_json(), indent=2))
        return
    click.echo(picture.verdict)
    for note in picture.notes:
        click.echo(f"  {note}")
    click.echo()
    _show_table(picture, addresses=False)


@click.command("members")
@admin_option
@json_option
def members(admin: str, as_json: bool) -> None:
    """List the members: what each is, where the others reach it, and how far it is.

    Exits with 0 when a quorum serves, else with 1.
    """
    picture = describe(Cluster(admin).page())
    if as_json:
        click.echo(json.dumps(picture.to_json()["members"], indent=2))
    else:
        _show_table(picture, addresses=True)


def _show_table(picture: Picture, *, addresses: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 - not needed for --json
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for heading in ("node", "role", "state"):
        table.add_column(heading)
    table.add_column("index", justify="right")
    if addresses:
        table.add_column("priority", justify="right")
        table.add_column("peer address")
    for member in picture.members:
        state = Text(member.words, style=_STYLES.get(member.state, "yellow"))
        row: list[str | Text] = [str(member.node_id), member.role, state, f"{member.match_index:,}"]
        if addresses:
            row += [str(member.priority or ""), member.address]
        table.add_row(*row)
    Console(highlight=False, soft_wrap=True).print(table)


def _show_without_leader(cluster: Cluster, reason: str, *, as_json: bool) -> None:
    """Nobody leads: what each node that was asked says about itself."""
    pages = [
        status_page(address, _TIMEOUT_SECONDS, cluster.context) for address in cluster.addresses
    ]
    nodes = [
        {"admin": str(address), **_summary(page)}
        for address, page in zip(cluster.addresses, pages, strict=True)
    ]
    if as_json:
        click.echo(json.dumps({"quorum": False, "reason": reason, "nodes": nodes}, indent=2))
        return
    click.echo(NO_QUORUM)
    for node in nodes:
        click.echo(f"  {node['admin']}: {node['words']}")


def _summary(page: dict[str, Any] | None) -> dict[str, Any]:
    if page is None:
        return {"words": "no answer"}
    known = f"epoch {page['epoch']}, {page['applied_index']:,} entries applied"
    return {
        "node_id": page["node_id"],
        "words": f"node {page['node_id']} is {page['role']} and knows no leader ({known})"
        if not page["leader"]
        else f"node {page['node_id']} follows node {page['leader']} ({known})",
    }
