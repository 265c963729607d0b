"""``quorate status``: who leads, who lags, how many failures are still tolerated.

Asks client ports with the four-letter word ``mntr``, because those are the addresses that people
and their programs know. How many voters there are and how many failures are still tolerated is the
leader's knowledge (``quorate_voters``, ``quorate_failures_tolerated``), so servers that were not
asked count too. ZooKeeper's own servers are understood as well (``zk_learners``,
``zk_synced_followers``).
"""

from __future__ import annotations

import json
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from quorate.cli import words
from quorate.cli.ask import figures
from quorate.cli.tls_options import client_context, tls_options
from quorate.cli.words import NO_QUORUM
from quorate.errors import SettingsError, UsageError
from quorate.node.units import Address, parse_address

_DEFAULT_SERVERS = "127.0.0.1:2181,127.0.0.1:2182,127.0.0.1:2183"
_TIMEOUT_SECONDS = 2.0
_LEADING = ("leader", "standalone")


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server's answer.

    ``state``: leader, follower, standalone, "not serving" or "no answer"; numbers are 0 unless
    it serves. ``lag`` is in transactions behind the newest one that any server has applied.
    """

    server: str
    state: str
    zxid: int = 0
    lag: int = 0
    sessions: int = 0
    connections: int = 0
    watches: int = 0
    znodes: int = 0
    version: str = ""


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """All answers together.

    ``failures_tolerated``: how many more voters may fail before writes stop; None without a
    leader among the servers asked. ``voters`` likewise.
    """

    servers: list[ServerStatus]
    leader: str | None
    voters: int | None
    failures_tolerated: int | None

    @property
    def has_quorum(self) -> bool:
        """Whether a quorum serves."""
        return self.leader is not None


def summarise(answers: list[tuple[str, dict[str, str] | None]]) -> ClusterStatus:
    """Put the servers' figures together."""
    newest = max(
        (_number(found or {}, "zk_last_processed_zxid") for _, found in answers), default=0
    )
    servers = [_server_status(server, found, newest) for server, found in answers]
    leading = [
        (status.server, found)
        for status, (_, found) in zip(servers, answers, strict=True)
        if status.state in _LEADING and found
    ]
    if not leading:
        return ClusterStatus(servers, None, None, None)
    leader, found = leading[0]
    voters = _number(found, "quorate_voters") or _number(found, "zk_learners") + 1
    if "quorate_failures_tolerated" in found:
        tolerated = _number(found, "quorate_failures_tolerated")
    else:
        synced = _number(found, "zk_synced_followers") + 1
        tolerated = max(0, synced - (voters // 2 + 1))
    return ClusterStatus(servers, leader, voters, tolerated)


def _server_status(server: str, found: dict[str, str] | None, newest: int) -> ServerStatus:
    if found is None:
        return ServerStatus(server, "no answer")
    if "zk_server_state" not in found:
        return ServerStatus(server, "not serving")
    zxid = _number(found, "zk_last_processed_zxid")
    return ServerStatus(
        server,
        found["zk_server_state"],
        zxid,
        max(0, newest - zxid) if zxid else 0,
        _number(found, "zk_global_sessions"),
        _number(found, "zk_num_alive_connections"),
        _number(found, "zk_watch_count"),
        _number(found, "zk_znode_count"),
        found.get("zk_version", "").partition(",")[0],
    )


def _number(found: dict[str, str], name: str) -> int:
    text = found.get(name, "")
    return int(text) if text.isdecimal() else 0


def _parse_servers(text: str) -> list[Address]:
    try:
        return [parse_address(item) for item in text.split(",")]
    except SettingsError as error:
        raise UsageError(f"--servers: {error}") from None


def _ask_all(servers: list[Address], context: ssl.SSLContext | None) -> ClusterStatus:
    with ThreadPoolExecutor(len(servers)) as pool:
        found = pool.map(lambda server: figures(server, _TIMEOUT_SECONDS, context), servers)
        return summarise([(str(server), answer) for server, answer in zip(servers, found)])  # noqa: B905


def _show(status: ClusterStatus) -> None:
    from rich.console import Console  # noqa: PLC0415 - not needed for --json
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for heading in ("server", "state", "zxid", "lag", "sessions", "connections", "watches"):
        table.add_column(heading, justify="left" if heading in ("server", "state") else "right")
    table.add_column("znodes", justify="right")
    for server in status.servers:
        row = [server.server, server.state]
        if server.state in (*_LEADING, "follower"):
            row += [f"0x{server.zxid:x}", str(server.lag), str(server.sessions)]
            row += [str(server.connections), str(server.watches), str(server.znodes)]
        table.add_row(*row)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(verdict(status))


def verdict(status: ClusterStatus) -> str:
    """The one sentence that matters."""
    if status.leader is None:
        return f"{NO_QUORUM}; none of these servers leads"
    assert status.voters is not None
    assert status.failures_tolerated is not None
    return words.verdict(status.leader, status.voters, status.failures_tolerated)


@click.command("status")
@click.option(
    "--servers",
    envvar="QUORATE_SERVERS",
    default=_DEFAULT_SERVERS,
    show_default=True,
    metavar="HOST:PORT,...",
    help="Client addresses to ask (QUORATE_SERVERS).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@tls_options
def command(
    servers: str,
    as_json: bool,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> None:
    """Show who leads, who lags and how many failures are still tolerated.

    Asks the client ports with the four-letter word mntr. Exits with 0 when a quorum serves, else
    with 1.
    """
    status = _ask_all(_parse_servers(servers), client_context(tls_ca, tls_cert, tls_key))
    if as_json:
        click.echo(json.dumps({**asdict(status), "quorum": status.has_quorum}, indent=2))
    else:
        _show(status)
    raise SystemExit(0 if status.has_quorum else 1)
