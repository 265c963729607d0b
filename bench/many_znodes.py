"""Fill a cluster with very many znodes quickly; used by the measurements of large trees.

Creates are pipelined over one connection, as other clients would send them one by one. Half of
each value is random, half is text of the kind that applications store, so that compression is
neither free nor useless.
"""

from __future__ import annotations

import random
import socket
import struct
from pathlib import Path

from quorate.protocol import zookeeper_client as wire

PER_PARENT = 1_000
_WINDOW = 500
_TEXT = b'{"host":"10.1.2.3","port":8080,"state":"ready","weight":100,"zone":"a"}'


def parent_of(number: int) -> bytes:
    """Where znode ``number`` hangs."""
    return b"/bench/p%05d" % (number // PER_PARENT)


def path_of(number: int) -> bytes:
    """Path of znode ``number``."""
    return parent_of(number) + b"/node-%07d" % number


def value_of(draw: random.Random, size: int) -> bytes:
    """A value of ``size`` bytes: half random, half text."""
    half = size // 2
    text = _TEXT * (1 + (size - half) // len(_TEXT))
    return draw.randbytes(half) + text[: size - half]


class Client:
    """One blocking session."""

    def __init__(self, port: int, *, timeout_seconds: float = 60.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self.socket.makefile("rb")
        self.socket.sendall(struct.pack(">iiqiqi16s", 44, 0, 0, 30_000, 0, 16, bytes(16)))
        self._read()
        self._xid = 0

    def _read(self) -> bytes:
        head = self._stream.read(4)
        if len(head) < 4:
            raise ConnectionError("the server closed the connection")
        return head + self._stream.read(int.from_bytes(head))

    def ask(self, part: wire.Part) -> wire.Reply:
        """Send one request and wait for its answer."""
        self.send([part])
        return self.reply()

    def send(self, parts: list[wire.Part]) -> None:
        """Send requests without waiting."""
        first = self._xid + 1
        self._xid += len(parts)
        frames = [part.frame(first + place) for place, part in enumerate(parts)]
        self.socket.sendall(b"".join(frames))

    def reply(self) -> wire.Reply:
        """The next answer."""
        return wire.decode_reply(self._read())

    def pipeline(self, parts: list[wire.Part]) -> None:
        """Send all, wait for all; none may fail."""
        self.send(parts)
        for _ in parts:
            reply = self.reply()
            if reply.error:
                raise RuntimeError(f"a request failed: error {reply.error}")

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self.socket.close()


def fill(port: int, count: int, value_bytes: int) -> None:
    """Create ``count`` znodes below ``/bench``, a thousand below each parent."""
    draw = random.Random(count)
    client = Client(port)
    client.ask(wire.create(b"/bench"))
    for first in range(0, count, _WINDOW):
        parts = []
        for number in range(first, min(first + _WINDOW, count)):
            if number % PER_PARENT == 0:
                parts.append(wire.create(parent_of(number)))
            parts.append(wire.create(path_of(number), value_of(draw, value_bytes)))
        client.pipeline(parts)
    client.close()


def resident_mib(pid: int) -> int:
    """Memory of a process that is in RAM, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 >> 20
