"""A modest load generator for the ZooKeeper client protocol: plain sockets, precomputed frames.

Each connection keeps ``window`` requests outstanding and sends the next when an answer comes. All
frames are made before the clock starts, so a request costs a few microseconds here. Still, one
Python thread tops out near 100,000 operations a second: above that it measures itself, and
``client_cpu`` in its output (share of one core) says so. Answers are checked for order and error.

The flags are those ``compare_zookeeper.py`` gives to any loader.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import struct
import time
from collections import deque
from itertools import cycle

CREATE, GET, SET = 1, 4, 5
REPLY = struct.Struct(">iiqi")  # length, xid, zxid, error
OPEN_ACL = struct.pack(">iii5si6s", 1, 31, 5, b"world", 6, b"anyone")
NODE_EXISTS = -110
RING = 1024


def text(data: bytes) -> bytes:
    """A length-prefixed string or buffer."""
    return struct.pack(">i", len(data)) + data


def frame(xid: int, opcode: int, body: bytes) -> bytes:
    """A request with its length."""
    return text(struct.pack(">ii", xid, opcode) + body)


class Connection:
    """One client session with a fixed cycle of requests."""

    def __init__(self, server: str, number: int, args: argparse.Namespace) -> None:
        host, _, port = server.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handshake = struct.pack(">iqiq", 0, 0, 20000, 0) + text(bytes(16)) + b"\0"
        self._ask(text(handshake))
        path = text(b"/bench-%d" % number)
        value = text(bytes(args.value_bytes))
        error = self._ask(frame(1, CREATE, path + value + OPEN_ACL + bytes(4)))
        if error not in (0, NODE_EXISTS):
            raise SystemExit(f"cannot create a znode: error {error}")
        self._ask(frame(1, SET, path + value + struct.pack(">i", -1)))
        get, put = path + b"\0", path + value + struct.pack(">i", -1)
        reads = [
            (k + 1) * args.read_percent // 100 - k * args.read_percent // 100 for k in range(RING)
        ]
        frames = [frame(k, GET, get) if reads[k] else frame(k, SET, put) for k in range(RING)]
        self.requests = cycle(frames)
        self.expected = cycle(range(RING))
        self.sent_at: deque[float] = deque()
        self.buffer = b""
        self.socket.setblocking(False)

    def _ask(self, request: bytes) -> int:
        """Send before the measurement, wait for the answer, return its error code."""
        self.socket.sendall(request)
        answer = b""
        while len(answer) < 4 or len(answer) < 4 + int.from_bytes(answer[:4], "big"):
            chunk = self.socket.recv(65536)
            if not chunk:
                raise SystemExit("the server closed the connection")
            answer += chunk
        return REPLY.unpack_from(answer)[3] if len(answer) >= REPLY.size else 0

    def send(self, count: int, now: float) -> None:
        """Send so many requests; the window is small enough for the socket's buffer."""
        requests = self.requests
        self.socket.setblocking(True)
        self.socket.sendall(b"".join([next(requests) for _ in range(count)]))
        self.socket.setblocking(False)
        self.sent_at.extend([now] * count)

    def receive(self, now: float, latencies: list[float]) -> int:
        """Take what is there; returns the number of answers."""
        chunk = self.socket.recv(262144)
        if not chunk:
            raise SystemExit("the server closed a connection under load")
        data, position, count = self.buffer + chunk, 0, 0
        while len(data) - position >= REPLY.size:
            length, xid, _, error = REPLY.unpack_from(data, position)
            if len(data) - position < length + 4:
                break
            if error or xid != next(self.expected):
                raise SystemExit(f"answer out of order or in error: xid {xid}, error {error}")
            latencies.append(now - self.sent_at.popleft())
            position += length + 4
            count += 1
        self.buffer = data[position:]
        return count


def run(connections: list[Connection], args: argparse.Namespace) -> dict[str, float]:
    """Warm up, measure, and sum up."""
    selector = selectors.DefaultSelector()
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(args.window, time.perf_counter())
    latencies: list[float] = []
    begin = time.perf_counter() + args.warmup
    end = begin + args.seconds
    cpu, measuring = 0.0, False
    while (now := time.perf_counter()) < end:
        if not measuring and now >= begin:
            latencies, cpu, measuring, begin = [], time.process_time(), True, now
        for key, _ in selector.select(0.1):
            now = time.perf_counter()
            key.data.send(key.data.receive(now, latencies), now)
    spent = now - begin
    latencies.sort()
    last = len(latencies) - 1
    return {
        "ops_s": round(len(latencies) / spent, 1),
        "p50_ms": round(latencies[last // 2] * 1000, 3) if latencies else 0.0,
        "p99_ms": round(latencies[last * 99 // 100] * 1000, 3) if latencies else 0.0,
        "client_cpu": round((time.process_time() - cpu) / spent, 2),
    }


def main() -> None:
    """Read the flags, connect, run, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-s", dest="servers", required=True, help="HOST:PORT,HOST:PORT,...")
    parser.add_argument("-n", dest="connections", type=int, default=1)
    parser.add_argument("-w", dest="window", type=int, default=1, help="outstanding requests each")
    parser.add_argument("-t", dest="seconds", type=float, default=5.0)
    parser.add_argument("-u", dest="warmup", type=float, default=1.0)
    parser.add_argument("-S", dest="value_bytes", type=int, default=128)
    parser.add_argument("-R", dest="read_percent", type=int, default=0)
    args = parser.parse_args()
    servers = args.servers.split(",")
    numbers = range(args.connections)
    connections = [Connection(servers[k % len(servers)], k, args) for k in numbers]
    print(json.dumps(run(connections, args)))


if __name__ == "__main__":
    main()
