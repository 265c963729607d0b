"""Directories that are not what they seem, and settings that cannot work: refused, with words."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import HOST, Cluster, Node, environment, free_ports, run_quorate, wait_until
from workloads import client

pytestmark = pytest.mark.process


def test_a_wiped_node_is_refused_by_the_others_and_stops(tmp_path: Path) -> None:
    """A node that lost its disk must not vote again under its old id (faults: lost directory)."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        victim = cluster.followers()[0]
        victim.kill()
        shutil.rmtree(victim.data)
        victim.start()
        assert victim.wait() == 5
        assert "lost its disk" in victim.log
        assert "let it join as a new member" in victim.log
        with client(cluster.servers) as kazoo:
            kazoo.create("/still", b"here")


def test_a_copied_directory_does_not_take_part(tmp_path: Path) -> None:
    """While the original runs, its copy is refused; the original goes on."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        original = cluster.followers()[0]
        ports = free_ports(3)
        copy = Node(original.node_id, tmp_path / "copy", (ports[0], ports[1], ports[2]))
        shutil.copytree(original.data, copy.data)
        # The copy listens elsewhere, as on another host, but says it is the same member.
        copy.cluster = cluster.members
        copy.start()
        try:
            wait_until(lambda: "copied and both are running" in copy.log, 15, "the refusal")
            assert not copy.is_serving()
            assert original.is_serving()
        finally:
            copy.kill()


def test_a_directory_of_another_node_or_cluster_is_refused(tmp_path: Path) -> None:
    """The wrong id and the wrong cluster both exit with 5 and name both sides."""
    with Cluster(tmp_path, size=1) as cluster:
        cluster.start()
        node = cluster.nodes[1]
        assert node.terminate() == 0
        data = ("--data", str(node.data), "--listen", node.server)
        address = f"{HOST}:{node.peer_port}"
        other_cluster = run_quorate("serve", "--id", "1", *data, "--cluster", "1=elsewhere:1")
        assert other_cluster.returncode == 5
        assert "belongs to cluster" in other_cluster.stderr
        other_id = run_quorate("serve", "--id", "2", *data, "--cluster", f"2={address}")
        assert other_id.returncode == 5


def test_one_directory_serves_one_process(tmp_path: Path) -> None:
    """A directory in use is refused to a second process, and the first does not notice."""
    with Cluster(tmp_path, size=1) as cluster:
        cluster.start()
        node = cluster.nodes[1]
        second = run_quorate(
            *("serve", "--id", "1", "--data", str(node.data), "--cluster", node.cluster),
            *("--listen", f"{HOST}:{free_ports(1)[0]}"),
        )
        assert second.returncode in (4, 5)
        assert "use" in second.stderr
        assert node.is_serving()


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        (("--tick", "5"), {}, "--tick: '5' has no unit; write for example 150ms or 2s"),
        ((), {"QUORATE_TICKS": "5s"}, "did you mean QUORATE_TICK?"),
        (("--cluster", "2=a:1"), {}, "--cluster names only 2"),
        (("--config", "/nonexistent.toml"), {}, "/nonexistent.toml: No such file"),
    ],
)
def test_wrong_settings_exit_with_2(
    arguments: tuple[str, ...], environ: dict[str, str], words: str, tmp_path: Path
) -> None:
    """The message names the source and the way out; nothing is created."""
    data = tmp_path / "data"
    done = run_quorate("serve", "--id", "1", "--data", str(data), *arguments, **environ)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not data.exists()


def test_settings_come_from_flag_environment_and_file(tmp_path: Path) -> None:
    """One node, three sources: the flag's port, the environment's tick, the file's timeout."""
    file = tmp_path / "quorate.toml"
    file.write_text('tick = "3s"\nelection_timeout = "450ms"\nlisten = "127.0.0.1:1"\n')
    with Cluster(tmp_path, size=1, options=["--config", str(file), "--tick", "1s"]) as cluster:
        cluster.start()  # the flag --listen won, or it would not serve
        assert "tickTime=1000" in cluster.nodes[1].word("conf")


def test_a_taken_port_exits_with_2(tmp_path: Path) -> None:
    """The flag and the address are named."""
    with Cluster(tmp_path, size=1) as cluster:
        cluster.start()
        server = cluster.nodes[1].server
        done = run_quorate(
            *("serve", "--id", "1", "--data", str(tmp_path / "other"), "--listen", server)
        )
        assert done.returncode == 2
        assert f"cannot listen on --listen {server}" in done.stderr


def test_assertions_cannot_be_switched_off(tmp_path: Path) -> None:
    """Under ``python -O`` a node refuses to run."""
    done = subprocess.run(
        [sys.executable, "-O", "-m", "quorate", "serve", "--id", "1", "--data", str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "assertions guard the data" in done.stderr
