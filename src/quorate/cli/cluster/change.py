"""``quorate cluster add``, ``remove``, ``promote`` and the like: change who belongs.

Each asks for one change and then watches until it is done: a change goes on by itself once it is
accepted, so leaving early (Ctrl-C, ``--no-wait``) stops only the watching.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from quorate.cli.cluster.api import Cluster, Refused, admin_option, json_option
from quorate.cli.cluster.picture import Picture, describe
from quorate.cli.cluster.progress import is_coming_about, watch
from quorate.errors import SettingsError, UsageError
from quorate.node.units import parse_cluster

_wait_option = click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Watch until the change is done; without, return as soon as it is under way.",
)
_yes_option = click.option("--yes", is_flag=True, help="Do not ask back on a terminal.")
_new_members = click.argument("new", nargs=-1, required=True, metavar="ID=HOST:PORT...")
_ids = click.argument("nodes", nargs=-1, required=True, type=click.IntRange(1), metavar="ID...")


@click.command("add")
@_new_members
@click.option(
    "--as",
    "role",
    type=click.Choice(["voter", "learner", "witness"]),
    default="voter",
    show_default=True,
    help="A voter first catches up as a learner. A witness votes and keeps no data.",
)
@click.option(
    "--priority",
    type=click.IntRange(0, 100),
    default=0,
    show_default=True,
    help="The member with the highest priority leads whenever it can.",
)
@_wait_option
@admin_option
@json_option
def add(
    new: tuple[str, ...], role: str, priority: int, wait: bool, admin: str, as_json: bool
) -> None:
    r"""Add members, given as ID=HOST:PORT, the peer address at which others reach them.

    \b
    quorate cluster add 4=10.0.0.4:2281

    A node started with --join asks for this itself; adding it here as well waits until it is a
    member and shows how far it is. A node that was added before it runs is started with --join too.
    """
    _change(Cluster(admin), {"add": _members(new, role, priority)}, wait=wait, as_json=as_json)


@click.command("remove")
@_ids
@_yes_option
@_wait_option
@admin_option
@json_option
def remove(nodes: tuple[int, ...], yes: bool, wait: bool, admin: str, as_json: bool) -> None:
    """Remove members, dead or alive.

    A node that runs stops by itself once it is removed. Its id is never used again: on the same
    machine start a node with an empty directory, --join and a new --id.
    """
    cluster = Cluster(admin)
    if not yes and sys.stdin.isatty() and sys.stdout.isatty():
        _ask_back(describe(cluster.page()), set(nodes))
    _change(cluster, {"remove": list(nodes)}, wait=wait, as_json=as_json)


@click.command("promote")
@_ids
@_wait_option
@admin_option
@json_option
def promote(nodes: tuple[int, ...], wait: bool, admin: str, as_json: bool) -> None:
    """Let learners vote, once they have caught up."""
    _change(Cluster(admin), {"promote": list(nodes)}, wait=wait, as_json=as_json)


@click.command("demote")
@_ids
@_wait_option
@admin_option
@json_option
def demote(nodes: tuple[int, ...], wait: bool, admin: str, as_json: bool) -> None:
    """Let voters stay as learners: they receive everything and decide nothing."""
    _change(Cluster(admin), {"demote": list(nodes)}, wait=wait, as_json=as_json)


@click.command("replace")
@click.argument("old", type=click.IntRange(1), metavar="OLD_ID")
@click.argument("new", metavar="NEW_ID=HOST:PORT")
@_wait_option
@admin_option
@json_option
def replace(old: int, new: str, wait: bool, admin: str, as_json: bool) -> None:
    """Put a new node in the place of another, in one step.

    The new one catches up first; the old one decides until then, if it lives. The number of voters
    never changes in between.
    """
    content = {"add": _members((new,), "voter", 0), "remove": [old]}
    _change(Cluster(admin), content, wait=wait, as_json=as_json)


@click.command("move")
@click.argument("new", metavar="ID=HOST:PORT")
@_wait_option
@admin_option
@json_option
def move(new: str, wait: bool, admin: str, as_json: bool) -> None:
    """Tell the members that one of them has another peer address from now on.

    Then restart that node with the new --peer-listen.
    """
    (node, address), *rest = _parse((new,)).items()
    assert not rest
    content = {"addresses": {str(node): str(address)}}
    _change(Cluster(admin), content, wait=wait, as_json=as_json)


@click.command("prefer")
@click.argument("node", type=click.IntRange(1), metavar="ID")
@click.argument("priority", type=click.IntRange(0, 100))
@_wait_option
@admin_option
@json_option
def prefer(node: int, priority: int, wait: bool, admin: str, as_json: bool) -> None:
    """Give a member a priority: the highest one leads whenever it can; 0 is none."""
    content = {"priorities": {str(node): priority}}
    _change(Cluster(admin), content, wait=wait, as_json=as_json)


def _parse(new: tuple[str, ...]) -> dict[int, Any]:
    try:
        return parse_cluster(",".join(new))
    except SettingsError as error:
        raise UsageError(str(error)) from None


def _members(new: tuple[str, ...], role: str, priority: int) -> list[dict[str, Any]]:
    return [
        {"node_id": node, "address": str(address), "role": role, "priority": priority}
        for node, address in _parse(new).items()
    ]


def _change(cluster: Cluster, content: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    """Ask, watch, and say what became of it."""
    try:
        code, answer = cluster.post("/cluster/change", content)
    except Refused:
        if not is_coming_about(content, describe(cluster.page())):
            raise
        code, answer = 202, {"words": "it was asked for already"}
    if wait or code == 200:
        picture = watch(cluster, content, quiet=as_json)
        if as_json:
            click.echo(json.dumps({"done": True, **picture.to_json()}, indent=2))
        else:
            click.echo(f"done: {picture.verdict}")
            for note in picture.notes:
                click.echo(f"  {note}")
    elif as_json:
        click.echo(json.dumps({"done": False, **answer}, indent=2))
    else:
        click.echo("the change is under way; see `quorate cluster status`")


def _ask_back(picture: Picture, leaving: set[int]) -> None:
    """On a terminal: say what removing means before it is done."""
    voters = {
        member.node_id for member in picture.members if member.role in ("voter", "witness")
    } - leaving
    silent = {member.node_id for member in picture.members if member.state == "no answer"}
    left = max(0, len(voters - silent) - (len(voters) // 2 + 1))
    names = ", ".join(str(node) for node in sorted(leaving))
    click.echo(
        f"removing {names} leaves {len(voters)} voters, {len(voters & silent)} of which do not "
        f"answer; {left} more may fail then"
    )
    click.confirm("go on?", abort=True)
