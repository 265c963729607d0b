"""Every connection that ends has a reason, told once and counted."""

import re
from pathlib import Path
from struct import pack

import pytest

from quorate.tree import client_desk, service
from quorate.tree.figures import REASONS


def told(cluster, node=1):
    return [(bye.connection, bye.reason) for bye in cluster.service(node).take_goodbyes()]


def test_who_hangs_up_and_who_closes_are_told_apart(cluster, frames):
    """A lost connection, a closed session, a question on the client port."""
    lost, closed, asked = cluster.connected(), cluster.connected(), cluster.client()
    lost.hang_up()
    closed.ask(frames.close(1))
    asked.send(b"ruok")
    cluster.run()
    assert sorted(told(cluster)) == [
        (lost.number, "hung up"),
        (closed.number, "the client closed its session"),
        (asked.number, "four-letter word"),
    ]
    assert told(cluster) == []
    assert sum(cluster.service().closed.values()) == 3


def test_a_goodbye_names_address_and_session(cluster):
    """Whoever reads the log finds the client."""
    client = cluster.connected()
    client.hang_up()
    [goodbye] = cluster.service().take_goodbyes()
    assert (goodbye.address, goodbye.session_id) == ("10.0.0.1", client.session_id)


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("does not speak the protocol", b"\xff" * 8),
        ("it has seen what this node has not yet", "future"),
        ("its session is over", "unknown"),
    ],
)
def test_a_handshake_that_fails_says_why(cluster, frames, reason, sent):
    """Nonsense, a client that is ahead of this node, a session that nobody has."""
    cluster.connected().ask(frames.create(1, b"/a"))
    sent = {
        "future": frames.connect(zxid=1 << 40),
        "unknown": frames.connect(session_id=2),
    }.get(sent, sent)
    client = cluster.client()
    client.send(sent)
    cluster.run()
    assert client.closed
    assert told(cluster) == [(client.number, reason)]


def test_limits_say_which_they_are(make_cluster, frames):
    """Too many connections, too many watches, no handshake in time."""
    cluster = make_cluster(
        connections_max=2, watches_per_connection_max=1, handshake_timeout_ms=1_000
    )
    greedy, silent, third = cluster.connected(), cluster.client(), cluster.client()
    greedy.send(frames.exists(1, b"/a", watch=True) + frames.exists(2, b"/b", watch=True))
    cluster.run()
    cluster.pass_ms(1_100)
    cluster.run()
    assert told(cluster) == [
        (third.number, "too many connections"),
        (greedy.number, "too many watches"),
        (silent.number, "no handshake in time"),
    ]


def test_a_session_that_moves_or_ends_takes_its_connection_along(make_cluster, frames):
    """The old connection is told why it ends, on the node where it is."""
    cluster = make_cluster(nodes=2)
    client = cluster.connected(node=1)
    moved = cluster.client(node=2)
    moved.connect(session_id=client.session_id, password=client.password)
    assert told(cluster, 1) == [(client.number, "its session moved or expired")]
    assert told(cluster, 2) == []
    moved.send(frames.auth(auth=pack(">i", 1)))
    cluster.run()


def test_without_a_leader_clients_are_let_go_with_that_reason(cluster):
    """A node that is cut off says so when it lets its clients go."""
    client = cluster.connected(timeout_ms=6_000)
    cluster.service().set_serving(False, cluster.now_ms)
    cluster.pass_ms(2_100)
    cluster.run()
    assert client.closed
    assert told(cluster) == [(client.number, "nobody leads")]


def test_every_reason_is_counted_from_zero():
    """Whatever reason the service gives is on the list, and nothing else is."""
    given = set()
    for module in (client_desk, service):
        text = Path(module.__file__).read_text(encoding="utf-8")
        given |= set(re.findall(r"_(?:close|end)\([^()]*(?:\[\w+\])?, \"([^\"]+)\"\)", text))
    assert given == set(REASONS)
