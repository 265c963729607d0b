"""Membership and TLS together: a node joins with its certificate, and an operator uses his."""

from pathlib import Path

import pytest
from harness import HOST, Cluster, Node, free_ports, run_quorate, wait_until
from test_tls import tls_options

from quorate.cli.dev_authority import DevAuthority

pytestmark = pytest.mark.process


def test_a_node_joins_over_tls_and_the_operator_sees_it(tmp_path: Path) -> None:
    """Nodes ask each other over mutual TLS; ``quorate cluster`` speaks TLS to the admin address."""
    authority = DevAuthority(tmp_path / "certs")
    pair = authority.client()
    with Cluster(tmp_path) as cluster:
        for node in cluster.nodes.values():
            node.options = [*tls_options(authority, node.node_id), "--admin-tls", "mutual"]
            node.start()
        admins = ",".join(f"{HOST}:{node.admin_port}" for node in cluster.nodes.values())
        how = ["--admin", admins, "--tls-ca", str(authority.own.cert)]
        how += ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]
        wait_until(
            lambda: run_quorate("cluster", "members", *how).returncode == 0, 30, "the cluster"
        )
        refused = run_quorate("cluster", "members", "--admin", admins)
        assert refused.returncode != 0
        ports = free_ports(3)
        new = Node(4, tmp_path / "node-4", (ports[0], ports[1], ports[2]))
        new.cluster, first = "", cluster.nodes[1]
        new.options = [*tls_options(authority, 4), "--join", f"{HOST}:{first.peer_port}"]
        cluster.nodes[4] = new
        new.start()

        def is_member() -> bool:
            shown = run_quorate("cluster", "members", "--json", *how)
            return shown.returncode == 0 and f"{HOST}:{new.peer_port}" in shown.stdout

        wait_until(is_member, 30, "node 4 is a member")
        wait_until(new.is_serving, 20, "node 4 serves")
