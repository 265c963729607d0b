"""Four-letter words."""

import re

import pytest

from quorate.protocol.four_letter import (
    NOT_SERVING,
    REFUSED_WORDS,
    WORDS,
    ServerInfo,
    ServiceStatistics,
    answer_word,
)

INFO = ServerInfo(
    mode="leader",
    node_id=2,
    peers=2,
    peers_synced=1,
    configuration={"clientPort": "2181"},
    environment={"host.name": "here"},
    figures={"zk_fsync_count": 3},
)
STATISTICS = ServiceStatistics(
    connections=4, packets_received=7, zxid=0x1F, znodes=9, latency_sum_ms=3, latency_count=2
)


def ask(word, info=INFO):
    return answer_word(word, info, STATISTICS).decode()


def test_envi_names_a_version_that_kazoo_understands():
    """kazoo wants digits and dots first."""
    lines = dict(line.split("=", 1) for line in ask(b"envi").splitlines() if "=" in line)
    digits = re.compile(r"([\d\.]*).*", re.DOTALL).match(lines["zookeeper.version"]).group(1)
    assert tuple(map(int, digits.split("."))) == (3, 8, 0)
    assert lines["host.name"] == "here"


def test_kazoo_itself_reads_our_version():
    """The client's own parser, run on our answer."""
    from kazoo.client import KazooClient

    client = KazooClient()
    client.command = lambda _word: ask(b"envi")
    assert client.server_version() == (3, 8, 0)


def test_srvr_has_the_lines_that_agents_look_for():
    """Mode, Zxid, counters and latency under ZooKeeper's names."""
    lines = ask(b"srvr").splitlines()
    assert lines[0].startswith("Zookeeper version: 3.8.0-quorate-")
    for line in ("Mode: leader", "Zxid: 0x1f", "Received: 7", "Connections: 4", "Node count: 9"):
        assert line in lines
    assert "Latency min/avg/max: 0/1.5000/0" in lines


def test_mntr_is_tab_separated_and_only_a_leader_shows_its_followers():
    """Every key has the zk_ prefix and a value."""
    figures = dict(line.split("\t") for line in ask(b"mntr").splitlines())
    assert all(key.startswith("zk_") for key in figures)
    assert figures["zk_server_state"] == "leader"
    assert figures["zk_synced_followers"] == "1"
    assert figures["zk_fsync_count"] == "3"
    follower = ServerInfo(mode="follower")
    assert "zk_synced_followers" not in ask(b"mntr", follower)


@pytest.mark.parametrize("word", [b"srvr", b"stat", b"mntr"])
def test_a_node_without_a_leader_says_so(word):
    """ZooKeeper's words, and no figures."""
    assert answer_word(word, ServerInfo(), STATISTICS) == NOT_SERVING


@pytest.mark.parametrize("word", sorted(WORDS | REFUSED_WORDS))
def test_every_word_gets_some_answer(word):
    """Also from a node that does not serve; words we do not offer are named."""
    answer = answer_word(word, ServerInfo(), STATISTICS)
    assert answer
    assert (b"whitelist" in answer) == (word in REFUSED_WORDS)


def test_conf_and_isro():
    """Settings as name=value; never read-only."""
    assert ask(b"conf") == "clientPort=2181\nserverId=2\n"
    assert ask(b"isro") == "rw"
    assert ask(b"ruok") == "imok"
