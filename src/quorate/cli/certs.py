"""``quorate certs``: certificates to try TLS with."""

from __future__ import annotations

from pathlib import Path

import click

from quorate.errors import SettingsError, UsageError
from quorate.node.units import parse_address

_NODES_MAX = 99


@click.group("certs")
def command() -> None:
    """Make certificates to try TLS with."""


@command.command("dev")
@click.option(
    "--dir",
    "directory",
    default="./quorate-certs",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where they go.",
)
@click.option(
    "--nodes",
    default="3",
    show_default=True,
    metavar="N|ID=HOST,...",
    help="How many nodes on this machine, or which nodes on which hosts.",
)
@click.option(
    "--days",
    default=365.0,
    show_default=True,
    type=click.FloatRange(0, 3650, min_open=True),
    help="How long they are good for.",
)
def dev(directory: Path, nodes: str, days: float) -> None:
    """Make an authority, and certificates for nodes and clients. For development only.

    Not for production: the authority's key lies beside the certificates, without a passphrase. An
    authority that is there already is kept, so that calling this again renews certificates; nodes
    that run with them take the new ones up by themselves.
    """
    members = parse_nodes(nodes)
    from quorate.cli.dev_authority import make_certificates  # noqa: PLC0415 - cryptography

    authority = make_certificates(directory, members, days)
    verb = "made" if authority.is_new else "kept"
    first = authority.pair(f"node-{min(members)}")
    client = authority.pair("client")
    click.echo(
        f"{verb} the authority in {authority.own.cert}; new certificates for "
        f"{len(members)} nodes and for clients, good for {days:g} days\n"
        "for development only: whoever can read this directory can be any node\n\n"
        f"a node:   --tls-ca {authority.own.cert} --tls-cert {first.cert} --tls-key {first.key}\n"
        f"kazoo:    KazooClient(HOSTS, use_ssl=True, ca={str(authority.own.cert)!r},\n"
        f"                      certfile={str(client.cert)!r}, keyfile={str(client.key)!r})\n"
        "or all of it: quorate up --tls"
    )


def parse_nodes(text: str) -> dict[int, str]:
    """Read ``3`` or ``1=a.example,2=10.0.0.2`` into hosts by node id.

    Raises:
        UsageError: it is neither.
    """
    if text.strip().isdecimal():
        count = int(text)
        if not 1 <= count <= _NODES_MAX:
            raise UsageError(f"--nodes: {count} nodes; 1 to {_NODES_MAX} are possible")
        return dict.fromkeys(range(1, count + 1), "")
    members: dict[int, str] = {}
    for item in text.split(","):
        number, equals, host = item.strip().partition("=")
        if not equals or not number.isdecimal() or not int(number) or not host:
            raise UsageError(f"--nodes: {item.strip()!r} is not ID=HOST; or give a number of nodes")
        members[int(number)] = _host_of(host)
    return members


def _host_of(text: str) -> str:
    """A host; a port, as in ``--cluster``, is forgiven."""
    try:
        return parse_address(text).host
    except SettingsError:
        return text.strip("[]")
