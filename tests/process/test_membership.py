"""A running cluster gets other members: nodes join, leave and are replaced, clients go on."""

import http.client
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from harness import HOST, Cluster, Node, free_ports, run_quorate, wait_until
from replacing import SteadyLoad, replace_all, wait_until_left
from workloads import FailoverWriter, client

from quorate.node.beginning import JOINED
from quorate.storage.real_disk import RealDisk
from quorate.storage.settings import StorageSettings
from quorate.storage.store import Store

pytestmark = pytest.mark.process


def ask(node: Node, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """One request to a node's admin address."""
    connection = http.client.HTTPConnection(HOST, node.admin_port, timeout=30)
    try:
        text = body if isinstance(body, str | None) else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"} | headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_ra_5_all_nodes_are_replaced_under_load(tmp_path: Path) -> None:
    """RA-5: three nodes become three others; nothing is lost, no error, no long gap."""
    said: list[str] = []
    with Cluster(tmp_path) as cluster:
        cluster.start()
        with SteadyLoad(cluster.servers, sessions=12, window=8) as load:
            last = replace_all(cluster, load, said.append, settle_seconds=0.3)
        assert sorted(cluster.nodes) == [4, 5, 6]
    assert (last["problems"], last["lost"]) == ([], []), said
    gaps = [float(words.partition("longest gap ")[2].partition(" ms")[0]) for words in said]
    assert max(gaps) < 2000, said  # under 100 on an idle machine; bench/replace_all.py


def test_the_account_of_the_load_would_notice(tmp_path: Path) -> None:
    """Data that vanishes under the load is found at once, and again when it reads back."""
    with Cluster(tmp_path, size=1) as cluster:
        cluster.start()
        with SteadyLoad(cluster.servers, sessions=1, window=2) as load:
            wait_until(lambda: load.report()["writes"] > 10, 20, "writes")
            with client(cluster.servers) as zk:
                zk.delete("/steady-0")
            wait_until(lambda: load.report()["problems"], 20, "the load notices")
            assert load.report("stop")["lost"]


def test_ra_5_a_node_joins_restarts_and_is_removed_while_it_is_dead(tmp_path: Path) -> None:
    """RA-5: --join is needed once; a dead member is removed and does not come back."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        with client(cluster.nodes[1].server) as zk:
            zk.create("/before", b"x" * 1000)
        fourth = cluster.newcomer(4)
        fourth.start()
        cluster.wait_member(fourth)
        with client(fourth.server) as zk:
            assert zk.get("/before")[0] == b"x" * 1000
        fourth.kill()
        fourth.join = ""  # and no --cluster either
        fourth.start()
        wait_until(fourth.is_serving, 20, "it serves again")
        fourth.kill()
        done = cluster.quorate("remove", "4")
        assert done.returncode == 0, done.stderr
        assert "leads 3 voters; tolerates 1 more failure" in done.stdout
        fourth.start()
        assert fourth.wait() == 7
        assert "was removed from its cluster" in fourth.log
        for node in (1, 2, 3):
            assert cluster.nodes[node].is_running


def test_ra_5_a_dead_node_is_replaced_in_one_change(tmp_path: Path) -> None:
    """RA-5: the number of voters never moves, and a node that is expected needs no permission."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        dead = cluster.followers()[0]
        dead.kill()
        fifth = cluster.newcomer(5)
        address = f"{HOST}:{fifth.peer_port}"
        done = cluster.quorate("replace", str(dead.node_id), f"5={address}", "--no-wait")
        assert done.returncode == 0, done.stderr
        fifth.start()
        cluster.wait_member(fifth)
        page = cluster.leader().status() or {}
        assert page["voters"] == sorted({1, 2, 3, 5} - {dead.node_id})
        assert "tolerates 1 more failure" in cluster.quorate("status").stdout


def test_a_member_that_never_comes_is_taken_back(tmp_path: Path) -> None:
    """One change at a time is refused with words; the one that waits for nobody can be undone."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        done = cluster.quorate("add", f"4={HOST}:{free_ports(1)[0]}", "--no-wait")
        assert done.returncode == 0, done.stderr
        assert "a change is under way" in cluster.quorate("status").stdout
        done = cluster.quorate("remove", "3")
        assert done.returncode == 1
        assert "another change is under way" in done.stderr
        done = cluster.quorate("remove", "4")
        assert done.returncode == 0, done.stderr
        assert "leads 3 voters" in done.stdout


def test_ra_5_a_node_that_dies_while_it_joins_goes_on_where_it_was(tmp_path: Path) -> None:
    """RA-5: killed at several moments on its way in, the same directory becomes a member."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        for number, words in (
            (4, "asking to be added"),
            (5, "members since index"),
            (6, "linked to node"),
        ):
            node = cluster.newcomer(number)
            node.start()
            wait_until(lambda node=node, words=words: words in node.log, 20, words)
            node.kill()
            node.start()
            cluster.wait_member(node)
            wait_until(node.is_serving, 20, f"node {number} serves")


def test_all_nodes_are_restarted_one_after_the_other_under_load(tmp_path: Path) -> None:
    """As docs/operations.md says: SIGTERM, start, wait until it is in step; nobody notices."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        leader = cluster.leader()
        with SteadyLoad(cluster.servers, sessions=6, window=4) as load:
            wait_until(lambda: load.report()["writes"] > 100, 20, "writes")
            load.say("mark")
            for node in (*cluster.followers(), leader):
                load.say(f"leave {node.server}")
                wait_until_left(load, node.server)
                assert node.terminate() == 0
                node.start()
                wait_until(node.is_serving, 20, "it is back")
                wait_until(lambda: is_in_step(cluster), 20, "all are in step")
                load.say(f"join {node.server}")
            last = load.report("stop")
    assert (last["problems"], last["lost"]) == ([], [])
    assert last["gap_ms"] < 2000  # about 30 on an idle machine


def is_in_step(cluster: Cluster) -> bool:
    members = json.loads(cluster.quorate("members", "--json").stdout or "[]")
    return bool(members) and all(each["state"] in ("leads", "in step") for each in members)


def test_a_node_joins_through_a_follower_while_the_leader_changes(tmp_path: Path) -> None:
    """Any member is asked; a leader that dies in the middle is no reason to give up."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        leader, follower = cluster.leader(), cluster.followers()[0]
        fourth = cluster.newcomer(4)
        fourth.join = f"{HOST}:{follower.peer_port}"
        with FailoverWriter(follower.server) as writer:
            fourth.start()
            wait_until(lambda: "asking to be added" in fourth.log, 20, "it asks")
            leader.kill()
            cluster.wait_member(fourth)
            seen = writer.writes
            wait_until(lambda: writer.writes > seen + 20, 20, "writes with the new member")
        assert writer.errors == []


def test_who_may_not_join_is_told_why(tmp_path: Path) -> None:
    """Taken id, taken address, a wiped node, a full directory, nobody there: words and codes."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        peer = f"{HOST}:{cluster.leader().peer_port}"
        ports = [str(port) for port in free_ports(3)]

        def join(*arguments: str) -> tuple[int, str]:
            listen = ("--listen", f"{HOST}:{ports[0]}", "--peer-listen", f"{HOST}:{ports[1]}")
            done = run_quorate("serve", *listen, *arguments, seconds=60)
            assert "Traceback" not in done.stderr
            return done.returncode, done.stderr

        new = ("--data", str(tmp_path / "new"))
        code, words = join("--id", "2", *new, "--join", peer)
        assert code == 2
        assert "node id 2 is that of a member" in words
        assert "choose another --id" in words
        taken = f"{HOST}:{cluster.nodes[3].peer_port}"  # nobody may be reached there as another
        code, words = join("--id", "9", *new, "--peer-address", taken, "--join", peer)
        assert code == 2
        assert f"address {taken} is that of node 3" in words
        code, words = join(
            "--id", "9", *new, "--peer-listen", f"0.0.0.0:{ports[1]}", "--join", peer
        )
        assert code == 2
        assert "give --peer-address" in words
        assert not (tmp_path / "new" / "identity.q").exists()

        lost = cluster.followers()[0]
        lost.kill()
        full = ("--data", str(lost.data), "--id", str(lost.node_id))
        code, words = join(*full, "--join", peer)
        assert code == 5
        assert "--join needs an empty data directory" in words
        shutil.rmtree(lost.data)
        code, words = join(*full, "--join", peer)
        assert code == 2
        assert f"quorate cluster remove {lost.node_id}" in words
        code, words = join("--id", "9", *new, "--join", f"{HOST}:{ports[2]}")
        assert code == 6
        assert "cannot be reached" in words


def test_a_directory_of_one_cluster_does_not_join_another(tmp_path: Path) -> None:
    """A node that began to join one cluster and is pointed at another is refused."""
    with Cluster(tmp_path, size=1) as cluster:
        cluster.start()
        newcomer = cluster.newcomer(7)
        disk = RealDisk(newcomer.data)
        store, _ = Store.open(
            disk,
            node_id=7,
            cluster_id=bytes(16),
            new_directory_id=bytes(16),
            settings=StorageSettings(),
            founding=JOINED,
        )
        store.close()
        disk.close()
        newcomer.start()
        assert newcomer.wait() == 5
        assert "belongs to cluster 00000000, but --join leads to cluster" in newcomer.log
        assert (cluster.nodes[1].status() or {})["voters"] == [1]


def test_a_lone_node_grows_to_three(tmp_path: Path) -> None:
    """One node becomes a cluster of three without being stopped, and survives a loss then."""
    with Cluster(tmp_path, size=1) as cluster:
        cluster.start()
        for number in (2, 3):
            node = cluster.newcomer(number)
            node.start()
            cluster.wait_member(node)
        with FailoverWriter(cluster.nodes[2].server) as writer:
            wait_until(lambda: writer.writes > 20, 20, "writes")
            cluster.nodes[1].kill()
            seen = writer.writes
            wait_until(lambda: writer.writes > seen + 20, 20, "writes without the first node")
        assert writer.errors == []


def test_admin_api_takes_changes_at_any_node_and_refuses_nonsense(tmp_path: Path) -> None:
    """Followers pass on to the leader; codes say what became of it; nothing half understood."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        follower = cluster.followers()[0]
        code, page = ask(follower, "GET", "/cluster")
        assert (code, page["role"]) == (200, "leader")
        change = "/cluster/change"
        for body, words in (
            ({}, "a change is an object"),
            ({"remov": [1]}, "'remov' is nothing that a change can do"),
            ({"remove": ["1"]}, "'remove': '1' is no node id"),
            ({"add": [{"node_id": 4, "address": "0.0.0.0:1"}]}, "no address that others can dial"),
            ("[1]", "no JSON object"),
            ("{", "no JSON"),
        ):
            code, answer = ask(follower, "POST", change, body)
            assert (code, words in answer["words"]) == (400, True), answer
        code, answer = ask(follower, "POST", change, {"remove": [9]})
        assert (code, answer["words"]) == (409, "node 9 is not a member")
        code, answer = ask(follower, "POST", change, {"remove": [1, 2, 3]})
        assert code == 409
        assert ask(follower, "POST", change, "{}", **{"Content-Type": "text/plain"})[0] == 415
        assert ask(follower, "GET", change)[0] == 405
        code, answer = ask(follower, "POST", "/cluster/transfer", {"to": follower.node_id})
        assert (code, answer["leader"]) == (200, follower.node_id)
        assert cluster.leader() is follower
        assert ask(follower, "POST", "/cluster/transfer", {"to": 9})[0] == 404


def test_changes_are_not_taken_where_strangers_may_ask(tmp_path: Path) -> None:
    """Beyond loopback the admin address only shows, unless it is told otherwise."""
    with Cluster(tmp_path, size=1) as cluster:
        node = cluster.nodes[1]
        elsewhere = ["--admin-listen", f"0.0.0.0:{node.admin_port}"]
        for options, expected in (
            (elsewhere, 403),
            ([*elsewhere, "--admin-changes", "always"], 200),
        ):
            node.options = options
            cluster.start()
            code, _ = ask(node, "POST", "/cluster/transfer", {"to": 1})
            assert code == expected
            assert ask(node, "GET", "/cluster")[0] == 200
            assert node.terminate() == 0


def test_commands_speak_in_words_and_in_json(tmp_path: Path) -> None:
    """Status, members, a learner that is promoted, a transfer: as people and programs see them."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        assert "tolerates 1 more failure" in cluster.quorate("status").stdout
        learner = cluster.newcomer(4, options=["--join-as", "learner"])
        learner.start()
        cluster.wait_member(learner, "learners")
        wait_until(
            lambda: "node 4 is a learner and in step" in cluster.quorate("status").stdout,
            20,
            "the learner is shown",
        )
        assert cluster.quorate("transfer", "4").returncode == 1
        done = cluster.quorate("promote", "4")
        assert done.returncode == 0, done.stderr
        assert "leads 4 voters" in done.stdout
        done = cluster.quorate("transfer", "4")
        assert done.stdout == "node 4 leads now\n"
        members = json.loads(cluster.quorate("members", "--json").stdout)
        assert [member["node_id"] for member in members if member["state"] == "leads"] == [4]
        done = cluster.quorate("promote", "4")
        assert (done.returncode, done.stderr) == (1, "quorate: node 4 already votes\n")
        assert cluster.quorate("add", "nonsense").returncode == 2
        cluster.kill_all()
        cluster.nodes[1].start()
        wait_until(cluster.nodes[1].status, 20, "a page")
        done = cluster.quorate("status")
        assert done.returncode == 1
        assert "no quorum" in done.stdout
        assert json.loads(cluster.quorate("status", "--json").stdout)["quorum"] is False


def test_a_changed_list_is_no_new_cluster(tmp_path: Path) -> None:
    """After a change, nodes start with the old list, with the new one and with none."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        fourth = cluster.newcomer(4)
        fourth.start()
        cluster.wait_member(fourth)
        assert cluster.quorate("remove", "3").returncode == 0
        assert cluster.nodes.pop(3).wait() == 7
        first, second = cluster.nodes[1], cluster.nodes[2]
        assert first.terminate() == 0
        first.cluster = cluster.members  # as operators keep it
        assert "4=" in first.cluster
        first.start()
        wait_until(first.is_serving, 20, "the first node is back")
        assert "it is not used any more" in first.log
        assert second.terminate() == 0
        second.cluster = ""
        second.start()
        wait_until(second.is_serving, 20, "the second node is back")
        assert (cluster.leader().status() or {})["voters"] == [1, 2, 4]
