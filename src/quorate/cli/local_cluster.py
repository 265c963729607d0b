"""A cluster on this machine: one ``quorate serve`` process per node, and their end.

    DIR/node-N/data    the node's data directory
    DIR/node-N/log     what it says

Ports follow from the base port B: node N listens for clients on B + N - 1, for other nodes on
B + 100 + N - 1, and for administration on B + 200 + N - 1. Only loopback is used. With a directory
of certificates all three speak TLS and want certificates, and nothing is spoken without it.

Invariant: no node outlives this process. Each node's standard input is a pipe whose other end only
this process holds; when it dies, even by kill -9, the nodes read end-of-file and stop.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from quorate.cli.tls_options import client_context
from quorate.errors import UsageError
from quorate.node.units import Address

_HOST = "127.0.0.1"
PEER_PORT_OFFSET = 100
ADMIN_PORT_OFFSET = 200
EXIT_REMOVED = 7  # ``node/process.py``, which takes long to import
_STOP_SECONDS = 10.0
_TAIL_BYTES = 4096


@dataclass(slots=True)
class LocalNode:
    """One node of the cluster and its process."""

    node_id: int
    directory: Path
    client: Address
    peer: Address
    admin: Address
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Where its words go."""
        return self.directory / "log"

    @property
    def pid(self) -> int:
        """Its process id; 0 before it is started."""
        return self.process.pid if self.process is not None else 0

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None

    @property
    def was_removed(self) -> bool:
        """Whether it stopped because it is a member no more."""
        return self.process is not None and self.process.poll() == EXIT_REMOVED

    def cause_of_death(self) -> str:
        """How its process ended."""
        assert self.process is not None
        code = self.process.returncode
        assert code is not None
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"

    def last_words(self, lines: int = 5) -> list[str]:
        """The end of its log."""
        try:
            with self.log.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - _TAIL_BYTES))
                return log.read().decode("utf-8", "replace").splitlines()[-lines:]
        except OSError:
            return []


class LocalCluster:
    """Starts and stops the nodes.

    Args:
        directory: holds one folder per node.
        nodes: how many.
        base_port: client port of node 1.
        certificates: what ``quorate certs dev`` made, for TLS everywhere; None: no TLS.
    """

    def __init__(
        self, directory: Path, nodes: int, base_port: int, certificates: Path | None = None
    ) -> None:
        self.certificates = certificates
        self.nodes = [
            LocalNode(
                number,
                directory / f"node-{number}",
                Address(_HOST, base_port + number - 1),
                Address(_HOST, base_port + PEER_PORT_OFFSET + number - 1),
                Address(_HOST, base_port + ADMIN_PORT_OFFSET + number - 1),
            )
            for number in range(1, nodes + 1)
        ]

    @property
    def servers(self) -> str:
        """What to hand to a client."""
        return ",".join(str(node.client) for node in self.nodes)

    def context(self) -> ssl.SSLContext | None:
        """What asking a node needs."""
        if self.certificates is None:
            return None
        here = self.certificates
        return client_context(here / "ca.pem", here / "client.pem", here / "client-key.pem")

    def check_ports(self) -> None:
        """Find out before anything is started whether all ports are free.

        Raises:
            UsageError: one is not; the message says which and what to do.
        """
        for node in self.nodes:
            uses = (("clients", node.client), ("peers", node.peer), ("admin", node.admin))
            for use, address in uses:
                with socket.socket() as sock:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    try:
                        sock.bind(address)
                    except OSError as error:
                        raise UsageError(
                            f"port {address.port} (node {node.node_id}, {use}) cannot be used: "
                            f"{error.strerror}; stop whoever has it, perhaps another cluster, or "
                            "choose another --base-port"
                        ) from None

    def start(self) -> None:
        """Start every node."""
        members = ",".join(f"{node.node_id}={node.peer}" for node in self.nodes)
        reading, self._writing = os.pipe()
        try:
            for node in self.nodes:
                node.directory.mkdir(parents=True, exist_ok=True)
                with node.log.open("ab") as log:
                    node.process = subprocess.Popen(  # noqa: S603 - our own program
                        _serve_command(node, members, self.certificates),
                        stdin=reading,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,  # Ctrl-C is ours to hand on
                    )
        finally:
            os.close(reading)

    def stop(self) -> None:
        """SIGTERM to all; SIGKILL to whoever is still there after ten seconds."""
        running = [node.process for node in self.nodes if node.process is not None]
        for process in running:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _serve_command(node: LocalNode, members: str, certificates: Path | None) -> list[str]:
    command = [
        *(sys.executable, "-m", "quorate", "serve", "--stop-with-stdin"),
        *("--id", str(node.node_id), "--data", str(node.directory / "data")),
        *("--peer-listen", str(node.peer), "--cluster", members),
        *("--admin-listen", str(node.admin)),
    ]
    if certificates is None:
        return [*command, "--listen", str(node.client)]
    name = f"node-{node.node_id}"
    return [
        *command,
        *("--listen", "none", "--client-tls-listen", str(node.client), "--admin-tls", "mutual"),
        *("--tls-ca", str(certificates / "ca.pem")),
        *("--tls-cert", str(certificates / f"{name}.pem")),
        *("--tls-key", str(certificates / f"{name}-key.pem")),
    ]
