"""``quorate up``: a local cluster until Ctrl-C.

Starts the nodes, asks their admin pages a few times a second, and says what changes: a table that
stays in place on a terminal, lines elsewhere. Restarts nothing: who kills a node wants to see what
happens.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Any, Protocol

import click

from quorate.cli.ask import status_page
from quorate.cli.local_cluster import LocalCluster, LocalNode

_POLL_SECONDS_STARTING = 0.05
_POLL_SECONDS = 0.25
_ASK_SECONDS = 0.5
_NODES_MAX = 9


class Screen(Protocol):
    """Where the user looks."""

    def say(self, words: str) -> None:
        """Something happened."""

    def show(self, cluster: LocalCluster, pages: dict[int, dict[str, Any] | None]) -> None:
        """The nodes as they are now."""

    def close(self) -> None:
        """Nothing more to show."""


class PlainScreen:
    """Lines, for logs and pipes."""

    def say(self, words: str) -> None:
        """Print the line at once."""
        click.echo(words)
        sys.stdout.flush()

    def show(self, cluster: LocalCluster, pages: dict[int, dict[str, Any] | None]) -> None:
        """Only events are shown."""

    def close(self) -> None:
        """Nothing to undo."""


class Watcher:
    """Turns what nodes answer into events, each said once.

    Args:
        cluster: the nodes, started.
        screen: where to say it.
    """

    def __init__(self, cluster: LocalCluster, screen: Screen) -> None:
        self._cluster = cluster
        self._screen = screen
        self._context = cluster.context()
        self._serving: set[int] = set()
        self._dead: set[int] = set()
        self._leader = 0
        self.is_ready = False

    def look(self) -> bool:
        """Ask every node once and say what changed; False when no node is left."""
        pages: dict[int, dict[str, Any] | None] = {}
        for node in self._cluster.nodes:
            pages[node.node_id] = self._look_at(node)
        self._look_for_leader(pages)
        if not self.is_ready and len(self._serving) == len(self._cluster.nodes):
            self.is_ready = True
            self._screen.say(f"ready: {self._cluster.servers}")
        self._screen.show(self._cluster, pages)
        return len(self._dead) < len(self._cluster.nodes)

    def _look_at(self, node: LocalNode) -> dict[str, Any] | None:
        number = node.node_id
        if number in self._dead:
            return None
        if not node.is_running:
            self._dead.add(number)
            self._serving.discard(number)
            if node.was_removed:
                self._screen.say(f"node {number} was removed from the cluster and has stopped")
                return None
            words = "".join(f"\n    {line}" for line in node.last_words())
            self._screen.say(
                f"node {number} died ({node.cause_of_death()}); end of {node.log}:{words}"
            )
            return None
        page = status_page(node.admin, _ASK_SECONDS, self._context)
        if page is not None and page.get("serving") and number not in self._serving:
            self._serving.add(number)
            self._screen.say(f"node {number} serves clients on {node.client} (pid {node.pid})")
        elif page is not None and not page.get("serving") and number in self._serving:
            self._serving.discard(number)
            self._screen.say(f"node {number} does not serve: no leader is known to it")
        return page

    def _look_for_leader(self, pages: dict[int, dict[str, Any] | None]) -> None:
        leading = [page for page in pages.values() if page and page.get("role") == "leader"]
        if not leading:
            return
        newest = max(leading, key=lambda page: int(page["epoch"]))
        if newest["node_id"] != self._leader and newest.get("serving"):
            self._leader = newest["node_id"]
            self._screen.say(f"node {self._leader} leads (epoch {newest['epoch']})")


@click.command("up")
@click.option(
    "--nodes",
    envvar="QUORATE_NODES",
    type=click.IntRange(1, _NODES_MAX),
    default=3,
    show_default=True,
    help="How many nodes; 3 survive the loss of 1, 5 of 2.",
)
@click.option(
    "--dir",
    "directory",
    envvar="QUORATE_DIR",
    default="./quorate-data",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where data and logs go; kept for the next start.",
)
@click.option(
    "--base-port",
    envvar="QUORATE_BASE_PORT",
    type=click.IntRange(1024, 65000),
    default=2181,
    show_default=True,
    help="Client port of node 1; its peer port is 100 and its admin port 200 higher.",
)
@click.option(
    "--tls",
    "with_tls",
    is_flag=True,
    help="TLS on all ports, with certificates made for it in DIR/certs (needs quorate[tls]).",
)
def command(nodes: int, directory: Path, base_port: int, with_tls: bool) -> None:
    """Run a local cluster, one process per node, until Ctrl-C.

    Each node's data and log are kept in DIR/node-N; the next "up" continues from there. Nodes are
    not restarted when they die. To start over, delete DIR.
    """
    certificates = _make_certificates(directory / "certs", nodes) if with_tls else None
    cluster = LocalCluster(directory, nodes, base_port, certificates)
    cluster.check_ports()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    screen = _open_screen()
    try:
        is_alive = _run(cluster, screen, stopping)
    finally:
        cluster.stop()
        screen.close()
    click.echo("stopped" if is_alive else "no node is left")
    raise SystemExit(0 if is_alive else 1)


def _make_certificates(directory: Path, nodes: int) -> Path:
    from quorate.cli.dev_authority import ensure_certificates  # noqa: PLC0415 - cryptography

    ensure_certificates(directory, nodes)
    click.echo(
        f"TLS with certificates for development in {directory}; clients need ca.pem, client.pem "
        "and client-key.pem from there"
    )
    return directory


def _run(cluster: LocalCluster, screen: Screen, stopping: threading.Event) -> bool:
    """Watch until told to stop (True) or until no node is left (False)."""
    cluster.start()
    watcher = Watcher(cluster, screen)
    while watcher.look():
        if stopping.wait(_POLL_SECONDS if watcher.is_ready else _POLL_SECONDS_STARTING):
            screen.say("stopping")
            return True
    return False


def _open_screen() -> Screen:
    if not sys.stdout.isatty():
        return PlainScreen()
    from quorate.cli.table import TableScreen  # noqa: PLC0415 - rich, only on a terminal

    return TableScreen()
