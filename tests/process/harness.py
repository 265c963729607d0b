"""Starts, kills and restarts real nodes on free loop-back ports; stops everything it started.

Used by the process tests and by the scripts in ``bench/``. It touches processes that it started
itself and no others, and every wait has an end.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import quorate

SOURCE = Path(quorate.__file__).parents[1]
HOST = "127.0.0.1"
# Below the kernel's ephemeral range, so that no outgoing connection takes a port meanwhile.
_PORTS = range(12_000, 31_000)


def free_ports(count: int) -> list[int]:
    """Consecutive ports that nobody uses."""
    for _ in range(100):
        base = random.choice(_PORTS)
        if all(_is_free(base + offset) for offset in range(count)):
            return [base + offset for offset in range(count)]
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError:
            return False
    return True


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll until the condition gives something true; returns that."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds} s still not: {what}")
        time.sleep(0.005)


def environment() -> dict[str, str]:
    """The environment for nodes: this source tree, and no settings of the user's."""
    plain = {name: text for name, text in os.environ.items() if not name.startswith("QUORATE_")}
    return plain | {"PYTHONPATH": str(SOURCE)}


def quorate_command(*arguments: str) -> list[str]:
    """The command line of ``quorate`` with this interpreter."""
    return [sys.executable, "-m", "quorate", *arguments]


def run_quorate(
    *arguments: str, seconds: float = 30.0, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        quorate_command(*arguments),
        env=environment() | environ,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


class Node:
    """One node: its addresses, its directory and its process."""

    def __init__(self, node_id: int, directory: Path, ports: tuple[int, int, int]) -> None:
        self.node_id = node_id
        self.directory = directory
        self.client_port, self.peer_port, self.admin_port = ports
        self.cluster = ""
        self.join = ""  # instead of ``cluster``: peer addresses of members
        self.options: list[str] = []
        self.environ: dict[str, str] = {}
        self.stderr: int | None = None  # a descriptor; None: the log
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def server(self) -> str:
        return f"{HOST}:{self.client_port}"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def start(self) -> None:
        assert self.process is None or self.process.poll() is not None
        self.directory.mkdir(parents=True, exist_ok=True)
        command = quorate_command(
            *("serve", "--id", str(self.node_id), "--data", str(self.data)),
            *("--listen", self.server, "--peer-listen", f"{HOST}:{self.peer_port}"),
            *("--admin-listen", f"{HOST}:{self.admin_port}"),
            *(("--cluster", self.cluster) if self.cluster else ()),
            *(("--join", self.join) if self.join else ()),
            *self.options,
        )
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=environment() | self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log if self.stderr is None else self.stderr,
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def terminate(self, seconds: float = 15.0) -> int:
        """SIGTERM; returns the exit code."""
        self.send(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds: float = 15.0) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def page(self, path: str) -> tuple[int, str] | None:
        """Code and body of an admin page; None without an answer."""
        connection = http.client.HTTPConnection(HOST, self.admin_port, timeout=1)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def status(self) -> dict[str, Any] | None:
        answer = self.page("/status")
        try:
            page = json.loads(answer[1]) if answer else None
        except ValueError:
            return None
        return page if isinstance(page, dict) else None

    def is_serving(self) -> bool:
        page = self.status()
        return bool(page and page["serving"])

    def word(self, word: str) -> str:
        """Ask a four-letter word."""
        with socket.create_connection((HOST, self.client_port), timeout=2) as sock:
            sock.sendall(word.encode())
            answer = b""
            while chunk := sock.recv(65536):
                answer += chunk
        return answer.decode()


class Cluster:
    """Nodes 1 to N. A context manager: everything is dead at the end."""

    def __init__(self, directory: Path, size: int = 3, options: Iterable[str] = ()) -> None:
        ports = free_ports(3 * size)
        self.directory, self.options = directory, list(options)
        self.nodes = {
            number: Node(
                number,
                directory / f"node-{number}",
                (ports[number - 1], ports[size + number - 1], ports[2 * size + number - 1]),
            )
            for number in range(1, size + 1)
        }
        for node in self.nodes.values():
            node.cluster = self.members
            node.options = list(options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill_all()
        if error is not None:
            for node in self.nodes.values():
                with contextlib.suppress(OSError):
                    print(f"---- log of node {node.node_id}\n{node.log[-3000:]}")

    def newcomer(self, node_id: int, options: Iterable[str] = ()) -> Node:
        """A further node with an empty directory that will join; not started."""
        client, peer, admin = free_ports(3)
        node = Node(node_id, self.directory / f"node-{node_id}", (client, peer, admin))
        node.join = ",".join(
            f"{HOST}:{other.peer_port}" for other in self.nodes.values() if other.is_running
        )
        node.options = [*self.options, *options]
        self.nodes[node_id] = node
        return node

    def quorate(self, *arguments: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """``quorate cluster ...``, asking whichever node runs."""
        running = [node for node in self.nodes.values() if node.is_running]
        admin = ",".join(f"{HOST}:{node.admin_port}" for node in running)
        return run_quorate("cluster", *arguments, "--admin", admin, seconds=seconds)

    def wait_member(self, node: Node, role: str = "voters", seconds: float = 30.0) -> None:
        """Wait until a node is what it is to become, and no change is under way."""

        def is_member() -> bool:
            page = self.leader().status() or {"change_under_way": "?"}
            return not page["change_under_way"] and node.node_id in page[role]

        wait_until(is_member, seconds, f"node {node.node_id} is among {role}")

    @property
    def members(self) -> str:
        return ",".join(f"{node.node_id}={HOST}:{node.peer_port}" for node in self.nodes.values())

    @property
    def servers(self) -> str:
        return ",".join(node.server for node in self.nodes.values())

    def start(self, seconds: float = 20.0) -> None:
        """Start whoever does not run and wait until all serve."""
        for node in self.nodes.values():
            if not node.is_running:
                node.start()
        self.wait_serving(seconds)

    def wait_serving(self, seconds: float = 20.0) -> None:
        for node in self.nodes.values():
            if node.is_running:
                wait_until(node.is_serving, seconds, f"node {node.node_id} serves")

    def leader(self, seconds: float = 10.0) -> Node:
        """The node that leads and says so."""

        def find() -> Node | None:
            for node in self.nodes.values():
                page = node.status() if node.is_running else None
                if page and page["role"] == "leader" and page["serving"]:
                    return node
            return None

        found = wait_until(find, seconds, "a node leads")
        assert isinstance(found, Node)
        return found

    def followers(self) -> list[Node]:
        leader = self.leader()
        return [node for node in self.nodes.values() if node is not leader]

    def kill_all(self) -> None:
        """kill -9 whatever runs, at once."""
        running = [node for node in self.nodes.values() if node.is_running]
        for node in running:
            node.send(signal.SIGKILL)
        for node in running:
            node.wait(10)
