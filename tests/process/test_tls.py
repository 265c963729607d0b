"""Real nodes and an unmodified client over TLS: serving, refusing, renewing, moving to it."""

import contextlib
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import HOST, Cluster, Node, free_ports, run_quorate, wait_until
from kazoo.client import KazooClient
from kazoo.handlers.threading import KazooTimeoutError

from quorate.cli.dev_authority import DevAuthority

pytestmark = pytest.mark.process


@pytest.fixture
def authority(tmp_path: Path) -> DevAuthority:
    return DevAuthority(tmp_path / "certs")


def tls_options(authority: DevAuthority, node_id: int) -> list[str]:
    own = authority.pair(f"node-{node_id}")
    if not own.is_usable:
        authority.node(node_id)
    return [
        *("--tls-ca", str(authority.own.cert), "--tls-cert", str(own.cert)),
        *("--tls-key", str(own.key)),
    ]


@contextlib.contextmanager
def secured(
    tmp_path: Path, authority: DevAuthority, *options: str
) -> Iterator[tuple[Cluster, list[int]]]:
    """Three nodes with mutual TLS between them, and the ports on which clients find TLS."""
    with Cluster(tmp_path) as cluster:
        ports = free_ports(3)
        for node, port in zip(cluster.nodes.values(), ports, strict=True):
            node.options = tls_options(authority, node.node_id)
            node.options += ["--client-tls-listen", f"{HOST}:{port}", *options]
        cluster.start()
        yield cluster, ports


@contextlib.contextmanager
def client(ports: list[int], authority: DevAuthority, **changes: Any) -> Iterator[KazooClient]:
    pair = authority.pair("client")
    if not pair.is_usable:
        authority.client()
    how: dict[str, Any] = {
        "use_ssl": True,
        "ca": str(authority.own.cert),
        "certfile": str(pair.cert),
        "keyfile": str(pair.key),
        "check_hostname": True,
    }
    kazoo = KazooClient(",".join(f"{HOST}:{port}" for port in ports), **how | changes)
    try:
        kazoo.start(10)
        yield kazoo
    finally:
        kazoo.stop()
        kazoo.close()


def test_kazoo_over_tls_on_three_nodes_with_mutual_tls(
    tmp_path: Path, authority: DevAuthority
) -> None:
    """Writes, large values and watches pass; one node dies by kill -9 and the others serve on."""
    with secured(tmp_path, authority) as (cluster, ports), client(ports, authority) as kazoo:
        kazoo.create("/large", bytes(900_000))
        assert len(kazoo.get("/large")[0]) == 900_000
        changed = threading.Event()
        kazoo.get("/large", watch=lambda _: changed.set())
        kazoo.set("/large", b"small")
        assert changed.wait(10)
        status = cluster.nodes[1].status()
        assert status is not None
        assert status["tls"]["peers"] == "require"
        assert sorted(status["linked"]) == [2, 3]
        cluster.leader().kill()
        kazoo.retry(kazoo.set, "/large", b"still")
        assert kazoo.retry(kazoo.get, "/large")[0] == b"still"


def test_clients_without_certificates_only_where_they_are_let_in(
    tmp_path: Path, authority: DevAuthority
) -> None:
    """mutual refuses them with a word in the log; on takes them; plaintext is refused by both."""
    without = {"certfile": None, "keyfile": None}
    with Cluster(tmp_path, size=1) as cluster:
        node, (port,) = cluster.nodes[1], free_ports(1)
        door = ["--client-tls-listen", f"{HOST}:{port}", "--listen", "none"]
        node.options = [*tls_options(authority, 1), *door]
        cluster.start()
        with pytest.raises(KazooTimeoutError), client([port], authority, **without):
            pass
        with pytest.raises(KazooTimeoutError), client([port], authority, use_ssl=False):
            pass
        wait_until(lambda: "it showed no certificate" in node.log, 5, "the word about it")
        wait_until(lambda: "it speaks plaintext" in node.log, 5, "the word about it")
        with client([port], authority) as kazoo:
            kazoo.create("/in", b"")
        assert node.terminate() == 0
        node.options += ["--client-tls", "on"]
        cluster.start()
        with client([port], authority, **without) as kazoo:
            assert kazoo.exists("/in")


def test_certificates_are_renewed_under_connected_clients(
    tmp_path: Path, authority: DevAuthority
) -> None:
    """New files are taken up by themselves and on SIGHUP; no session and no link notices."""
    with secured(tmp_path, authority) as (cluster, ports), client(ports, authority) as kazoo:
        kazoo.create("/counter", b"0")
        states: list[Any] = []
        kazoo.add_listener(states.append)
        before = serial_number(ports[0], authority)
        for node in cluster.nodes.values():
            authority.node(node.node_id)
        cluster.nodes[2].send(signal.SIGHUP)
        for node in cluster.nodes.values():
            wait_until(lambda n=node: "certificates loaded" in n.log, 15, "new certificates")
        for number in range(20):
            kazoo.set("/counter", b"%d" % number)
        assert serial_number(ports[0], authority) != before
        authority.pair("node-1").cert.write_text("broken")
        cluster.nodes[1].send(signal.SIGHUP)
        words = "new certificates are not used, the old ones still are"
        wait_until(lambda: words in cluster.nodes[1].log, 10, "the broken file is named")
        with client(ports[:1], authority) as another:
            assert another.get("/counter")[0] == b"19"
        kazoo.set("/counter", b"end")
        assert states == []
        assert all("link lost" not in node.log for node in cluster.nodes.values())


def serial_number(port: int, authority: DevAuthority) -> str:
    pair = authority.pair("client")
    context = ssl.create_default_context(cafile=authority.own.cert)
    context.load_cert_chain(pair.cert, pair.key)
    with (
        socket.create_connection((HOST, port), timeout=5) as sock,
        context.wrap_socket(sock, server_hostname=HOST) as secured_sock,
    ):
        certificate = secured_sock.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


def test_a_running_cluster_moves_to_tls_without_stopping(
    tmp_path: Path, authority: DevAuthority
) -> None:
    """off, accept, dial, require: node by node, with a client writing all the time."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        kazoo = KazooClient(cluster.servers)
        kazoo.start(10)
        kazoo.create("/moving", b"0")
        step = 0
        for mode in ("accept", "dial", "require"):
            for node in cluster.nodes.values():
                assert node.terminate() == 0
                node.options = [*tls_options(authority, node.node_id), "--peer-tls", mode]
                node.start()
                wait_until(node.is_serving, 20, f"node {node.node_id} serves with {mode}")
                wait_until(lambda n=node: len(links(n)) == 2, 20, "its links stand")
                step += 1
                kazoo.retry(kazoo.set, "/moving", b"%d" % step)
        assert kazoo.retry(kazoo.get, "/moving")[0] == b"9"
        kazoo.stop()
        kazoo.close()
        assert "links without TLS are taken too" in cluster.nodes[1].log


def links(node: Node) -> list[int]:
    page = node.status()
    return list(page["linked"]) if page else []


def test_a_node_with_files_that_others_would_refuse_does_not_start(
    tmp_path: Path, authority: DevAuthority
) -> None:
    """Another node's certificate, and an open key: exit code 2, and the way out in words."""
    options = tls_options(authority, 2)
    common = ["serve", "--id", "1", "--data", str(tmp_path / "data"), "--peer-listen", f"{HOST}:9"]
    wrong = run_quorate(*common, *options)
    assert wrong.returncode == 2
    assert "for quorate:node:2, not for quorate:node:1" in wrong.stderr
    options = tls_options(authority, 1)
    authority.pair("node-1").key.chmod(0o644)
    opened = run_quorate(*common, *options)
    assert opened.returncode == 2
    assert "can be read by everybody on this machine (mode 644): chmod 600" in opened.stderr
    assert not (tmp_path / "data").exists()


def test_certs_dev_and_up_with_tls(tmp_path: Path) -> None:
    """What ``certs dev`` makes can be served with; a second call keeps the authority."""
    certs = tmp_path / "certs"
    made = run_quorate("certs", "dev", "--dir", str(certs), "--nodes", "1=localhost,2=10.0.0.2")
    assert made.returncode == 0, made.stderr
    assert "for development only" in made.stdout
    authority = DevAuthority(certs)
    assert not authority.is_new
    first = authority.own.cert.read_bytes()
    again = run_quorate("certs", "dev", "--dir", str(certs), "--nodes", "2", "--days", "2")
    assert "kept the authority" in again.stdout
    assert authority.own.cert.read_bytes() == first
    with Cluster(tmp_path, size=1) as cluster:
        (port,) = free_ports(1)
        door = ["--client-tls-listen", f"{HOST}:{port}"]
        cluster.nodes[1].options = [*tls_options(authority, 1), *door]
        cluster.start()
        pair = authority.pair("client")
        shown = run_quorate(
            *("status", "--servers", f"{HOST}:{port}", "--tls-ca", str(authority.own.cert)),
            *("--tls-cert", str(pair.cert), "--tls-key", str(pair.key)),
        )
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert "serves alone" in shown.stdout
