"""pytest plugin: kazoo's own test-suite, run against the servers that a launcher starts.

kazoo 2.11.0 ships its tests in the wheel. Its harness (``kazoo.testing.common``) writes a
``zoo.cfg`` and starts a JVM; this plugin replaces those few methods by "run the launcher command
with ``ZKC_*`` variables" (contract: ``tests/conformance/README.md``). No test of kazoo is changed.

Two things make it fast enough to run on every push:

* one cluster per pytest worker lives through all test classes (each test has its own chroot);
* starting waits until every server answers ``srvr``, instead of a fixed sleep.

Only the tests named in the file ``KAZOO_SUITE_EXPECTED`` run, and one JSON line per outcome is
appended to the file ``KAZOO_SUITE_REPORT``, so that even a killed run leaves what it learnt.
Loaded with ``pytest -p kazoo_plugin``; it knows nothing of quorate, only of the contract.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# kazoo's harness reads these when it makes its cluster; values only have to be present.
os.environ.setdefault("ZOOKEEPER_VERSION", "3.8.0")
os.environ.setdefault("ZOOKEEPER_PATH", "unused: servers come from the launcher")

from kazoo.testing import common, harness
from OpenSSL import crypto

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 15.0
PORTS_PER_SERVER = 10
SUPER_DIGEST = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="  # "super:test", as kazoo's tests expect


def launch_command() -> list[str]:
    """The launcher: ``ZKC_LAUNCH`` if set, else the file ``launch`` beside this one."""
    default = shlex.quote(str(Path(__file__).with_name("launch")))
    return ["/bin/sh", "-c", "exec " + (os.environ.get("ZKC_LAUNCH") or default)]


def free_port_base(count: int) -> int:
    """A port from which ``count`` consecutive ports are free now.

    Below the range from which Linux hands out outgoing ports, and in a range per xdist worker, so
    that neither clients nor two workers collide with servers that restart.
    """
    worker = int("".join(c for c in os.environ.get("PYTEST_XDIST_WORKER", "") if c.isdigit()) or 0)
    first = 21000 + 2000 * (worker % 5)
    start = os.getpid() * count % 1900 // count * count
    for step in range(0, 1900, count):
        base = first + (start + step) % 1900
        if all(_is_free(base + offset) for offset in range(count)):
            return base
    raise RuntimeError(f"no {count} consecutive free ports from {first}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def mode_of(port: int) -> str:
    """What ``srvr`` says after ``Mode:``, or "" while the server does not serve."""
    try:
        with socket.create_connection(("127.0.0.1", port), 2.0) as client:
            client.sendall(b"srvr")
            answer = b"".join(_chunks(client))
    except OSError:
        return ""
    for line in answer.decode("utf-8", "replace").splitlines():
        if line.startswith("Mode:"):
            return line.removeprefix("Mode:").strip()
    return ""


def _chunks(client: socket.socket) -> Iterator[bytes]:
    while chunk := client.recv(65536):
        yield chunk


# ---- what replaces kazoo's methods; ``self`` is kazoo's ManagedZooKeeper or ZookeeperCluster ----


def launcher_environment(info: Any, peers: list[Any], directory: str) -> dict[str, str]:
    """The ``ZKC_*`` variables for one server, from kazoo's ServerInfo records."""
    members = sorted([info, *peers]) if peers else []
    return {
        "ZKC_ID": str(info.server_id),
        "ZKC_DIR": directory,
        "ZKC_CLIENT_PORT": str(info.client_port),
        "ZKC_PEER_PORT": str(info.leader_port),
        "ZKC_ELECTION_PORT": str(info.election_port),
        "ZKC_ADMIN_PORT": str(info.admin_port),
        "ZKC_ROLE": info.peer_type,
        "ZKC_SERVERS": " ".join(
            f"{m.server_id}=127.0.0.1:{m.leader_port}:{m.election_port}:{m.peer_type}:{m.client_port}"
            for m in members
        ),
        "ZKC_SUPER_DIGEST": SUPER_DIGEST,
    }


def tls_environment(info: Any, certificates: dict[str, Any], directory: Path) -> dict[str, str]:
    """The variables for TLS: kazoo's harness made certificates, servers want them as PEM files."""
    made = {
        "ZKC_TLS_CA": ("ca.pem", certificates["ca_cert_pem"]),
        "ZKC_TLS_CERT": (
            "server.pem",
            crypto.dump_certificate(crypto.FILETYPE_PEM, certificates["server_cert"]),
        ),
        "ZKC_TLS_KEY": (
            "server-key.pem",
            crypto.dump_privatekey(crypto.FILETYPE_PEM, certificates["server_key"]),
        ),
    }
    variables = {"ZKC_SECURE_PORT": str(info.secure_client_port)}
    for variable, (name, pem) in made.items():
        path = directory / name
        path.touch(mode=0o600)
        path.write_bytes(pem)
        variables[variable] = str(path)
    return variables


def run_server(self: Any) -> None:
    if self.running:
        return
    directory = Path(self.working_path)
    directory.mkdir(parents=True, exist_ok=True)
    environment = launcher_environment(self.server_info, list(self.peers), str(directory))
    environment |= tls_environment(self.server_info, self.ssl_configuration, directory)
    with (directory / "zookeeper.log").open("ab") as log:
        # Not a session of its own: whoever kills this run's process group leaves no server behind.
        self.process = subprocess.Popen(
            launch_command(),
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    self._running = True


def stop_server(self: Any) -> None:
    if not self.running:
        return
    self.process.terminate()
    try:
        self.process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        self.process.kill()
        self.process.wait()
    self._running = False


def destroy_server(self: Any) -> None:
    self.stop()
    shutil.rmtree(self.working_path, ignore_errors=True)
    self.working_path = tempfile.mkdtemp(prefix="kazoo-server-")


class ClusterBroken(Exception):
    """The servers of this run do not serve; carries their last words."""


broken: list[ClusterBroken] = []  # said once per worker: each further test would wait as long


def start_cluster(self: Any) -> None:
    if broken:
        raise ClusterBroken("the cluster did not start for an earlier test either")
    for server in self:
        server.run()
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        modes = [mode_of(server.client_port) for server in self]
        if all(modes):
            return
        dead = [s for s in self if s.process.poll() is not None]
        if dead or time.monotonic() > deadline:
            tail = "".join(line for s in (dead or self) for line in s.get_logs(20))
            error = ClusterBroken(f"servers do not serve (modes {modes}); last words:\n{tail}")
            broken.append(error)
            raise error
        time.sleep(0.05)


def pytest_configure(config: pytest.Config) -> None:
    """Put our methods in place of kazoo's, before any test module is imported."""
    common.ManagedZooKeeper.run = run_server
    common.ManagedZooKeeper.stop = stop_server
    common.ManagedZooKeeper.destroy = destroy_server
    common.ZookeeperCluster.start = start_cluster
    harness.KazooTestCase.tearDownClass = classmethod(lambda cls: None)  # keep the cluster
    size = os.environ.setdefault("ZOOKEEPER_CLUSTER_SIZE", "3")
    base = free_port_base(int(size) * PORTS_PER_SERVER)
    os.environ["ZOOKEEPER_PORT_OFFSET"] = str(base)


def pytest_unconfigure(config: pytest.Config) -> None:
    # Not left to kazoo's atexit hook: an xdist worker leaves by os._exit, which skips those.
    if harness.CLUSTER is not None:
        harness.CLUSTER.terminate()


# ---- which tests run, and how they ended --------------------------------------------------------


def short_name(nodeid: str) -> str:
    """``.../kazoo/tests/test_lock.py::C::t`` and ``test_lock.py::C::t`` are one test."""
    path, _, rest = nodeid.partition("::")
    return f"{Path(path).name}::{rest}"


def read_expected(path: Path) -> list[str]:
    """Names of a list file: one a line; ``#`` starts a comment."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    path = os.environ.get("KAZOO_SUITE_EXPECTED")
    if not path:
        return
    expected = frozenset(read_expected(Path(path)))
    config.hook.pytest_deselected(
        items=[item for item in items if short_name(item.nodeid) not in expected]
    )
    items[:] = [item for item in items if short_name(item.nodeid) in expected]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    path = os.environ.get("KAZOO_SUITE_REPORT")
    if not path or "PYTEST_XDIST_WORKER" in os.environ:  # the controller sees every report
        return
    if report.when != "call" and report.passed:
        return
    line = {
        "test": short_name(report.nodeid),
        "outcome": report.outcome,
        "seconds": round(report.duration, 2),
        "why": "" if report.passed else report.longreprtext[-4000:],
    }
    with Path(path).open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")
