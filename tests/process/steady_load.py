"""Writes through many sessions at once, accounts for each write, and moves when told to.

A program of its own, so that it and the nodes share no interpreter::

    python steady_load.py -s HOST:PORT,... -n 64 -w 16      words on standard input, a line each:
        leave HOST:PORT    sessions there finish what is under way and go elsewhere, for good
        join HOST:PORT     sessions may go there from now on; some do at once
        mark               forget the gaps so far
        report             print one JSON object
        stop               finish what is under way, read everything back, print it, end

Each session sets a znode of its own; every set names the version it expects, so a write that is
lost, doubled or out of order is an error answer at once, and the version read back at the end is
the number of writes. A session that leaves a server does what a client does that is told to: it
waits for its answers, closes, and resumes elsewhere. So no write is ever in doubt, and every error
and every closed connection counts.

Gaps: ``gap_ms`` is the longest time without any acknowledged write at all; ``session_gap_ms`` the
longest that one session waited, moving included.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import struct
import sys
import time
from collections import deque
from typing import Any

CREATE, GET, SET, SYNC = 1, 4, 5, 9
REPLY = struct.Struct(">iiqi")  # length, xid, zxid, error
SET_TAIL = struct.Struct(">i120x8si")  # 128 bytes of value, expected version
OPEN_ACL = struct.pack(">iii5si6s", 1, 31, 5, b"world", 6, b"anyone")
SESSION_TIMEOUT_MS = 20_000
RETRY_SECONDS = 0.02


def text(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def frame(xid: int, opcode: int, body: bytes) -> bytes:
    return text(struct.pack(">ii", xid, opcode) + body)


class Session:
    """One session, its znode, and its account."""

    def __init__(self, load: Load, number: int, server: str) -> None:
        self.load, self.server = load, server
        self.path = text(b"/steady-%d" % number)
        self.identity, self.password, self.zxid = 0, bytes(16), 0
        self.written = self.acknowledged = 0
        self.is_leaving = self.is_open = False
        self.socket: socket.socket | None = None
        self.buffer = b""
        self.sent_at: deque[float] = deque()
        self.last_answer = time.monotonic()

    def connect(self) -> None:
        """Dial and say who we are; the answer is awaited by the loop."""
        host, _, port = self.server.rpartition(":")
        try:
            self.socket = socket.create_connection((host, int(port)), 2)
        except OSError as error:
            self.load.problem(f"{self.server}: {error}")
            self.load.later(self)
            return
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = struct.pack(">iqiq", 0, self.zxid, SESSION_TIMEOUT_MS, self.identity)
        self.socket.sendall(text(hello + text(self.password) + b"\0"))
        self.socket.setblocking(False)
        self.buffer, self.is_open = b"", False
        self.load.selector.register(self.socket, selectors.EVENT_READ, self)

    def disconnect(self) -> None:
        assert self.socket is not None
        self.load.selector.unregister(self.socket)
        self.socket.close()
        self.socket = None

    def send(self, count: int, now: float) -> None:
        """Send so many sets."""
        assert self.socket is not None
        frames = []
        for _ in range(count):
            version = self.written
            self.written += 1
            tail = SET_TAIL.pack(128, struct.pack(">q", self.written), version)
            frames.append(frame(self.written & 0x7FFFFFFF, SET, self.path + tail))
        self.socket.setblocking(True)
        self.socket.sendall(b"".join(frames))
        self.socket.setblocking(False)
        self.sent_at.extend([now] * count)

    def receive(self) -> None:
        """Take what is there."""
        assert self.socket is not None
        try:
            chunk = self.socket.recv(262144)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        now = time.monotonic()
        if not chunk:
            self._closed()
            return
        self.buffer += chunk
        if not self.is_open and not self._opened():
            return
        count = self._answers()
        if count:
            self.load.acknowledged(self, count, now)
        if self.is_leaving and not self.sent_at:
            self.disconnect()
            self.server, self.is_leaving = self.load.choose(), False
            self.connect()
        elif not self.is_leaving and not self.load.is_stopping:
            self.send(self.load.window - len(self.sent_at), now)

    def _opened(self) -> bool:
        """Take the handshake's answer; True once it is complete."""
        if len(self.buffer) < 4 or len(self.buffer) < 4 + int.from_bytes(self.buffer[:4], "big"):
            return False
        length = int.from_bytes(self.buffer[:4], "big")
        _, timeout, identity = struct.unpack_from(">iiq", self.buffer, 4)
        if not timeout:
            self.load.problem(f"session {self.identity:#x} had ended when it came back")
        if not self.identity:
            assert self.socket is not None
            self.identity, self.password = identity, self.buffer[24:40]
            self.socket.sendall(
                frame(0, CREATE, self.path + text(bytes(128)) + OPEN_ACL + bytes(4))
            )
            self.sent_at.append(time.monotonic())
            self.acknowledged -= 1  # the create is no write of the account
        self.buffer, self.is_open = self.buffer[4 + length :], True
        return True

    def _answers(self) -> int:
        position, count, data = 0, 0, self.buffer
        while len(data) - position >= REPLY.size:
            length, xid, zxid, error = REPLY.unpack_from(data, position)
            if len(data) - position < length + 4:
                break
            if error or xid != ((self.acknowledged + 1) & 0x7FFFFFFF):
                self.load.problem(
                    f"{self.server}: answer {xid} with error {error} instead of "
                    f"{self.acknowledged + 1}"
                )
            self.zxid = zxid
            self.sent_at.popleft()
            self.acknowledged += 1
            position += length + 4
            count += 1
        self.buffer = data[position:]
        return count

    def _closed(self) -> None:
        if self.is_open and self.server not in self.load.left:
            self.load.problem(f"{self.server} closed a connection ({len(self.sent_at)} in doubt)")
        self.disconnect()
        if self.sent_at:
            raise SystemExit(f"{self.server} closed with {len(self.sent_at)} writes in doubt")
        self.load.later(self)


class Load:
    """All sessions, and the clock of the gaps."""

    def __init__(self, servers: list[str], count: int, window: int) -> None:
        self.window = window
        self.servers, self.left = servers, set[str]()
        self.selector = selectors.DefaultSelector()
        self.problems: list[str] = []
        self.is_stopping = False
        self._turn = 0
        self._later: list[tuple[float, Session]] = []
        self.sessions = [Session(self, k, servers[k % len(servers)]) for k in range(count)]
        self.mark()

    def mark(self) -> None:
        now = time.monotonic()
        self.begin = self.last = now
        self.count = 0
        self.gap = self.session_gap = 0.0
        for session in self.sessions:
            session.last_answer = now

    def problem(self, words: str) -> None:
        if len(self.problems) < 100:
            self.problems.append(words)

    def later(self, session: Session) -> None:
        session.server = self.choose()
        self._later.append((time.monotonic() + RETRY_SECONDS, session))

    def choose(self) -> str:
        self._turn += 1
        return self.servers[self._turn % len(self.servers)]

    def acknowledged(self, session: Session, count: int, now: float) -> None:
        self.gap = max(self.gap, now - self.last)
        self.session_gap = max(self.session_gap, now - session.last_answer)
        self.last = session.last_answer = now
        self.count += count

    def leave(self, server: str) -> None:
        self.servers.remove(server)
        self.left.add(server)
        for session in self.sessions:
            if session.server == server:
                session.is_leaving = True

    def join(self, server: str) -> None:
        self.servers.append(server)
        for session in self.sessions[:: len(self.servers)]:
            session.is_leaving = True

    def report(self) -> dict[str, Any]:
        spent = time.monotonic() - self.begin
        return {
            "writes": self.count,
            "writes_s": round(self.count / spent),
            "gap_ms": round(self.gap * 1000, 1),
            "session_gap_ms": round(self.session_gap * 1000, 1),
            "problems": self.problems,
            "servers": sorted({session.server for session in self.sessions}),
        }

    def step(self, seconds: float = 0.05) -> None:
        """Let the sockets that have something have their turn."""
        for key, _ in self.selector.select(seconds):
            if key.data is None:
                self._obey(os.read(0, 65536).decode())
            elif key.data.socket is key.fileobj:
                key.data.receive()
        now = time.monotonic()
        due = [session for at, session in self._later if at <= now]
        self._later = [(at, session) for at, session in self._later if at > now]
        for session in due:
            session.connect()

    def _obey(self, words: str) -> None:
        if not words:
            self.is_stopping = True
        for line in words.splitlines():
            word, _, rest = line.partition(" ")
            match word:
                case "leave":
                    self.leave(rest)
                case "join":
                    self.join(rest)
                case "mark":
                    self.mark()
                case "report":
                    print(json.dumps(self.report()), flush=True)
                case _:
                    self.is_stopping = True

    def run(self) -> None:
        self.selector.register(0, selectors.EVENT_READ)
        for session in self.sessions:
            session.connect()
        while not self.is_stopping:
            self.step()
        last = self.report()
        deadline = time.monotonic() + 20
        while any(session.sent_at for session in self.sessions) and time.monotonic() < deadline:
            self.step()
        print(json.dumps(last | {"lost": self.read_back()}), flush=True)

    def read_back(self) -> list[str]:
        """Read every znode through every server, after a sync; what is not as written."""
        wrong = []
        for server in self.servers:
            host, _, port = server.rpartition(":")
            with socket.create_connection((host, int(port)), 10) as sock:
                stream = sock.makefile("rwb")
                stream.write(text(struct.pack(">iqiq", 0, 0, 10_000, 0) + text(bytes(16)) + b"\0"))
                stream.write(frame(1, SYNC, text(b"/")))
                for session in self.sessions:
                    stream.write(frame(2, GET, session.path + b"\0"))
                stream.flush()
                answers = [_read(stream) for _ in range(len(self.sessions) + 2)]
            for session, answer in zip(self.sessions, answers[2:], strict=True):
                found = _value(answer)
                if found != session.acknowledged or session.written != session.acknowledged:
                    wrong.append(
                        f"{server} holds {found} in {session.path[4:].decode()}: "
                        f"{session.acknowledged} of {session.written} acknowledged"
                    )
        return wrong


def _read(stream: Any) -> bytes:
    return bytes(stream.read(int.from_bytes(stream.read(4), "big")))


def _value(answer: bytes) -> int:
    """The number in a GET's answer: header 16, length 4, 120 zeros, 8 bytes of number."""
    error = struct.unpack_from(">i", answer, 12)[0]
    return int(struct.unpack_from(">q", answer, 16 + 4 + 120)[0]) if not error else -1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-s", dest="servers", required=True)
    parser.add_argument("-n", dest="sessions", type=int, default=64)
    parser.add_argument("-w", dest="window", type=int, default=16)
    args = parser.parse_args()
    Load(args.servers.split(","), args.sessions, args.window).run()


if __name__ == "__main__":
    sys.exit(main())
