"""CPU of one write through three coordination servers, without sockets, disks or threads.

Everything a write costs in Python between the bytes that arrive and the bytes that leave, on all
three nodes together: frames, batch, Raft, messages encoded and decoded, apply, replies. Real nodes
add system calls, wake-ups and fsyncs.

    python bench/micro_server.py [--profile]
"""

from __future__ import annotations

import cProfile
import pstats
import struct
import sys
import time

from quorate.consensus.entry import Recovered
from quorate.consensus.membership import Configuration
from quorate.protocol.zookeeper_client import create, set_data
from quorate.tree.server import CoordinationServer, ServerSettings

WALL_MS = 1_700_000_000_000
HANDSHAKE = struct.pack(">iiqiqi", 44, 0, 0, 30_000, 0, 16) + bytes(16)


class Trio:
    """Three servers whose messages and persistence are delivered at once, in order."""

    def __init__(self) -> None:
        configuration = Configuration.of((1, 2, 3))
        self.servers = {
            node: CoordinationServer(
                node_id=node,
                incarnation=1,
                configuration=configuration,
                recovered=Recovered(),
                restore=lambda _: (),
                settings=ServerSettings(),
                draw=lambda n: n // 2 if n > 1 else 0,
                random_bytes=lambda n: b"p" * n,
                now_ms=0,
                wall_ms=WALL_MS,
            )
            for node in (1, 2, 3)
        }
        self.connections = 0
        self.replies: list[tuple[int, int, bytes]] = []
        now_ms = 0
        while not self.leader():
            now_ms += 10 if now_ms % 3 else 7
            for node, server in self.servers.items():
                if node == 1 or now_ms > 2_000:
                    server.tick(now_ms, WALL_MS + now_ms)
            self.settle()

    def leader(self) -> int:
        """The established leader, or 0."""
        for node, server in self.servers.items():
            if server.replica.leadership.established:
                return node
        return 0

    def settle(self) -> None:
        """Take turns until nobody has anything left to do."""
        busy = set(self.servers)
        while busy:
            node = busy.pop()
            server = self.servers[node]
            turn = server.take()
            for peer, channel, payload in turn.sends:
                self.servers[peer].peer_received(node, channel, payload)
                busy.add(peer)
            for step in turn.persists:
                server.persisted(step.sequence)
                busy.add(node)
            self.replies += [(node, connection, data) for connection, data in turn.writes]


def measure(trio: Trio, connections: int, window: int, rounds: int) -> float:
    """Return microseconds per write with so many connections and requests in each chunk."""
    servers = list(trio.servers.items())
    if connections == 1:
        servers = [(trio.leader(), trio.servers[trio.leader()])]
    clients = []
    for number in range(connections):
        _, server = servers[number % len(servers)]
        trio.connections += 1
        server.client_opened(trio.connections, "127.0.0.1")
        server.client_received(trio.connections, HANDSHAKE)
        clients.append((server, trio.connections))
    trio.settle()
    clients[0][0].client_received(clients[0][1], create(b"/bench%d" % trio.connections).frame(1))
    trio.settle()
    chunk = set_data(b"/bench%d" % trio.connections, b"x" * 128).frame(1) * window
    started = time.process_time()
    for _ in range(rounds):
        for server, number in clients:
            server.client_received(number, chunk)
        trio.settle()
        trio.replies.clear()
    return (time.process_time() - started) / (rounds * connections * window) * 1e6


def main() -> None:
    """Print the table."""
    trio = Trio()
    measure(trio, 1, 1, 200)
    profile = cProfile.Profile() if "--profile" in sys.argv else None
    if profile is not None:
        profile.enable()
    for connections, window, rounds in ((1, 1, 3_000), (16, 1, 300), (64, 16, 30)):
        cost = measure(trio, connections, window, rounds)
        print(f"setData {connections}x{window}: {cost:8.2f} us per write on three nodes together")
        if profile is not None:
            break
    if profile is not None:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(35)


if __name__ == "__main__":
    main()
