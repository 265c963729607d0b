"""CPU per operation of the client service alone: bytes in, batch, apply, bytes out.

One service, 64 connections, 16 frames a chunk, no log and no sockets. Prints microseconds per
operation, best of several rounds, for setData, for getData and for one request per chunk.

    PYTHONPATH=src python bench/micro_service.py
"""

from __future__ import annotations

import gc
from struct import pack
from time import perf_counter

from quorate.protocol.zookeeper import encode_request
from quorate.replication.state_machine import ApplyContext
from quorate.tree.service import ClientService, ServiceSettings

CONNECTIONS = 64
FRAMES = 16
ROUNDS = 300
DATA = b"x" * 100


def text(value: bytes) -> bytes:
    return pack(">i", len(value)) + value


class Bench:
    """A service with connected clients and one znode for each."""

    def __init__(self) -> None:
        self.service = ClientService(
            node_id=1, incarnation=1, settings=ServiceSettings(), random_bytes=bytes
        )
        self.context = ApplyContext(time_ms=1, node=1, incarnation=1, local=True)
        acl = pack(">iii", 1, 31, 5) + b"world" + text(b"anyone")
        for number in range(CONNECTIONS):
            self.service.client_opened(number, "127.0.0.1", 0)
            handshake = pack(">iqiq", 0, 0, 10_000, 0) + text(bytes(16)) + b"\0"
            self.service.client_received(number, text(handshake), 0)
            self.turn()
            body = text(b"/bench%d" % number) + text(DATA) + acl + pack(">i", 0)
            self.service.client_received(number, encode_request(1, 1, body), 0)
            self.turn()

    def turn(self) -> None:
        service = self.service
        payload = service.take_batch()
        if payload is not None:
            service.apply(payload, self.context)
        service.take_barriers()
        service.take_writes()
        service.take_closings()
        service.take_pauses()
        service.take_resumes()

    def measure(self, name: str, chunks: list[bytes], frames: int) -> None:
        best = 1e9
        received = self.service.client_received
        for _ in range(5):
            begin = perf_counter()
            for now_ms in range(ROUNDS // 5):
                for number, chunk in enumerate(chunks):
                    received(number, chunk, now_ms)
                self.turn()
            best = min(best, perf_counter() - begin)
        operations = ROUNDS // 5 * len(chunks) * frames
        print(f"{name:32} {best / operations * 1e6:6.2f} us/op")


def main() -> None:
    bench = Bench()
    gc.collect()
    gc.freeze()

    def set_data(number: int) -> bytes:
        return encode_request(2, 5, text(b"/bench%d" % number) + text(DATA) + pack(">i", -1))

    def get_data(number: int) -> bytes:
        return encode_request(3, 4, text(b"/bench%d" % number) + b"\0")

    numbers = range(CONNECTIONS)
    bench.measure("setData 64 x 16", [set_data(n) * FRAMES for n in numbers], FRAMES)
    bench.measure("getData 64 x 16", [get_data(n) * FRAMES for n in numbers], FRAMES)
    bench.measure("setData 64 x 1", [set_data(n) for n in numbers], 1)
    bench.measure("getData 64 x 1", [get_data(n) for n in numbers], 1)


if __name__ == "__main__":
    main()
