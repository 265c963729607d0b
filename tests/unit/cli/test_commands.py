"""The command line: what is said, to whom, and with which exit code."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from quorate import __version__
from quorate.cli import main, up
from quorate.cli.local_cluster import LocalCluster
from quorate.cli.main import cli
from quorate.cli.status import summarise, verdict
from quorate.cli.table import TableScreen
from quorate.errors import SettingsError
from quorate.node.settings import SETTINGS


def leader(**more: str) -> dict[str, str]:
    plain = {
        "zk_server_state": "leader",
        "zk_last_processed_zxid": "100",
        "zk_learners": "2",
        "zk_synced_followers": "2",
    }
    return plain | more


FOLLOWER = {"zk_server_state": "follower", "zk_last_processed_zxid": "97"}


def test_version_and_help() -> None:
    """Every command and every setting is in the help, with its meaning."""
    runner = CliRunner()
    assert __version__ in runner.invoke(cli, ["--version"]).output
    overview = runner.invoke(cli, ["--help"]).output
    for command in ("up", "serve", "status"):
        assert command in overview
        assert runner.invoke(cli, [command, "--help"]).exit_code == 0
    serve = runner.invoke(cli, ["serve", "--help"]).output
    for setting in SETTINGS:
        assert setting.flag in serve
    assert "--stop-with-stdin" not in serve  # between "up" and its nodes


def test_errors_become_words_and_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong setting exits with 2 and one line; an unknown command, too."""

    def refuse(**_: Any) -> int:
        raise SettingsError("--tick: '5' has no unit")

    monkeypatch.setattr(main, "cli", refuse)
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "quorate: --tick: '5' has no unit\n"


def test_status_counts_what_the_leader_knows() -> None:
    """Voters and tolerance come from the leader, also for servers that were not asked."""
    status = summarise([("a:1", leader()), ("b:1", FOLLOWER), ("c:1", None)])
    assert (status.leader, status.voters, status.failures_tolerated) == ("a:1", 3, 1)
    assert [server.state for server in status.servers] == ["leader", "follower", "no answer"]
    assert [server.lag for server in status.servers] == [0, 3, 0]
    assert verdict(status) == "a:1 leads 3 voters; tolerates 1 more failure"
    ours = leader(quorate_voters="5", quorate_failures_tolerated="0")
    assert verdict(summarise([("a:1", ours)])).endswith("tolerates no more failure")


def test_status_without_a_leader_has_no_quorum() -> None:
    """Followers and silence are no quorum; a server that does not serve says so."""
    status = summarise([("b:1", {}), ("c:1", None)])
    assert not status.has_quorum
    assert [server.state for server in status.servers] == ["not serving", "no answer"]
    assert "no quorum" in verdict(status)


def test_status_of_one() -> None:
    """A node alone serves and tolerates nothing."""
    alone = {"zk_server_state": "standalone", "zk_last_processed_zxid": "5"}
    assert verdict(summarise([("a:1", alone)])) == "a:1 serves alone; tolerates no more failure"


def test_status_refuses_bad_addresses() -> None:
    """The option and the address are named."""
    result = CliRunner().invoke(cli, ["status", "--servers", "nowhere"])
    assert "--servers: 'nowhere' is not HOST:PORT" in str(result.exception)


class Lines:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, words: str) -> None:
        self.lines.append(words)

    def show(self, cluster: LocalCluster, pages: dict[int, dict[str, Any] | None]) -> None:
        pass

    def close(self) -> None:
        pass


class FakeProcess:
    """A process that lives until told otherwise."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode


def page(node: int, role: str, *, serving: bool = True, epoch: int = 4) -> dict[str, Any]:
    return {
        "node_id": node,
        "role": role,
        "serving": serving,
        "epoch": epoch,
        "zxid": 17,
        "commit_index": 9,
        "applied_index": 8,
    }


def watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[up.Watcher, LocalCluster, Lines, dict[int, dict[str, Any] | None]]:
    """A watcher over three pretended nodes; change the pages to make things happen."""
    cluster, screen = LocalCluster(tmp_path, 3, 5000), Lines()
    pages: dict[int, dict[str, Any] | None] = {1: None, 2: None, 3: None}
    for node in cluster.nodes:
        node.process = FakeProcess(100 + node.node_id)  # type: ignore[assignment]
    monkeypatch.setattr(up, "status_page", lambda address, *_: pages[address.port - 5199])
    return up.Watcher(cluster, screen), cluster, screen, pages


def test_up_says_what_changes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serving, leader, ready, lost quorum: each is one line, and nothing is said twice."""
    watcher, _, screen, pages = watch(tmp_path, monkeypatch)
    assert watcher.look()
    assert screen.lines == []
    pages.update({1: page(1, "follower"), 2: page(2, "leader"), 3: page(3, "follower")})
    assert watcher.look()
    assert watcher.look()
    assert screen.lines == [
        "node 1 serves clients on 127.0.0.1:5000 (pid 101)",
        "node 2 serves clients on 127.0.0.1:5001 (pid 102)",
        "node 3 serves clients on 127.0.0.1:5002 (pid 103)",
        "node 2 leads (epoch 4)",
        "ready: 127.0.0.1:5000,127.0.0.1:5001,127.0.0.1:5002",
    ]
    screen.lines.clear()
    pages.update({1: page(1, "leader", epoch=5)})  # node 2 still believes in its old epoch
    watcher.look()
    pages.update({3: page(3, "follower", serving=False)})
    watcher.look()
    assert screen.lines == [
        "node 1 leads (epoch 5)",
        "node 3 does not serve: no leader is known to it",
    ]


def test_up_shows_the_last_words_of_the_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead node is reported once, with cause and log; when none is left, that is the end."""
    watcher, cluster, screen, _ = watch(tmp_path, monkeypatch)
    node = cluster.nodes[0]
    node.directory.mkdir()
    node.log.write_text("first\nlast words\n")
    assert node.process is not None
    node.process.returncode = -9
    assert watcher.look()
    assert watcher.look()
    assert screen.lines == [
        f"node 1 died (killed by SIGKILL); end of {node.log}:\n    first\n    last words"
    ]
    for other in cluster.nodes[1:]:
        assert other.process is not None
        other.process.returncode = 2
    assert not watcher.look()
    assert "node 2 died (exit code 2)" in screen.lines[1]


def test_the_table_draws_every_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leader, silence and death all have a row; the line below says how to connect."""
    watcher, cluster, _, pages = watch(tmp_path, monkeypatch)
    drawn: list[Any] = []
    screen = TableScreen.__new__(TableScreen)
    screen._events = ["an event"]  # type: ignore[assignment]
    screen._live = SimpleNamespace(update=lambda group, refresh: drawn.append(group))  # type: ignore[assignment]
    assert cluster.nodes[2].process is not None
    cluster.nodes[2].process.returncode = -9
    pages[1] = page(1, "leader")
    screen.show(cluster, pages)
    text = _render(drawn[0])
    for words in ("leader", "serving", "0x11", "no answer", "dead (killed by SIGKILL)"):
        assert words in text
    assert "1 of 3 nodes serve" in text
    assert "an event" in text
    assert watcher.is_ready is False


def _render(group: Any) -> str:
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as capture:
        console.print(group)
    return capture.get()


def test_ports_follow_from_the_base_port(tmp_path: Path) -> None:
    """Clients, peers and admin are a hundred apart; the client addresses are the servers."""
    cluster = LocalCluster(tmp_path, 2, 2181)
    second = cluster.nodes[1]
    assert (second.client.port, second.peer.port, second.admin.port) == (2182, 2282, 2382)
    assert cluster.servers == "127.0.0.1:2181,127.0.0.1:2182"
