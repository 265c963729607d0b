"""Micro benchmark of the tree alone: microseconds of CPU per operation, and bytes per znode.

    PYTHONPATH=src python bench/micro_tree.py [znodes]

One process, no log, no network: runs of 16 frames as a busy connection delivers them, and runs of
one as an idle one does. Best of several rounds, because everything else on the machine only ever
makes it slower.
"""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable

from quorate.protocol import zookeeper_client as wire
from quorate.protocol.zookeeper import OpCode
from quorate.tree.sessions import Owner, Session
from quorate.tree.tree import Tree

ROUNDS = 7
RUN = 16
DATA = bytes(128)
OWNER = Owner(1, 1, 1)


def create(path: bytes) -> bytes:
    return wire.create(path, DATA).frame(1)


def set_data(path: bytes) -> bytes:
    return wire.set_data(path, DATA).frame(1)


def delete(path: bytes) -> bytes:
    return wire.delete(path).frame(1)


def get_data(path: bytes) -> bytes:
    return wire.get(OpCode.GET_DATA, path).frame(1)


def runs_of(frames: list[bytes], size: int) -> list[bytes]:
    return [b"".join(frames[i : i + size]) for i in range(0, len(frames), size)]


class Bench:
    """A tree with ``count`` znodes of 128 bytes below ``/bench``."""

    def __init__(self, count: int) -> None:
        self.tree = Tree()
        self.session: Session = self.tree.open_session(bytes(16), 30_000, OWNER, (), 1)
        self.paths = [b"/bench/node-%08d" % i for i in range(count)]
        self.apply([create(b"/bench")])
        self.apply([create(path) for path in self.paths])

    def apply(self, runs: list[bytes], *, replies: bool = False) -> None:
        apply = self.tree.apply_frames
        session_id = self.session.session_id
        for run in runs:
            apply(session_id, OWNER, run, 1_700_000_000_000, [] if replies else None)

    def time(
        self, runs: list[bytes], ops: int, *, replies: bool, undo: list[bytes] | None = None
    ) -> float:
        """Microseconds per operation of ``runs``, each round undone by ``undo``."""
        best = float("inf")
        for _ in range(ROUNDS):
            self.tree.digest()
            gc.collect()
            begin = time.process_time()
            self.apply(runs, replies=replies)
            best = min(best, time.process_time() - begin)
            self.apply(undo or [])
        return best / ops * 1e6

    def read(self, frames: list[bytes]) -> None:
        for frame in frames:
            out: list[bytes] = []
            self.tree.read(self.session, frame, None, out)


def best_us(work: Callable[[], object], ops: int, between: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        between()
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best / ops * 1e6


def measure_writes(bench: Bench, count: int) -> None:
    some = bench.paths[:count]
    fresh = [b"/bench/more-%08d" % i for i in range(count)]
    for size in (RUN, 1):
        sets = runs_of([set_data(path) for path in some], size)
        creates = runs_of([create(path) for path in fresh], size)
        deletes = runs_of([delete(path) for path in fresh], size)

        for replies in (True, False):
            how = f"runs of {size}, {'reply' if replies else 'no reply'}"
            show(f"setData, {how}", bench.time(sets, count, replies=replies))
            show(f"create, {how}", bench.time(creates, count, undo=deletes, replies=replies))
            bench.apply(creates)
            show(f"delete, {how}", bench.time(deletes, count, undo=creates, replies=replies))
            bench.apply(deletes)


def measure_reads(bench: Bench, count: int) -> None:
    gets = [get_data(path) for path in bench.paths[:count]]
    show("getData", best_us(lambda: bench.read(gets), count, gc.collect))


def measure_background(bench: Bench, count: int) -> None:
    sets = runs_of([set_data(path) for path in bench.paths[:count]], RUN)
    us = best_us(bench.tree.digest, count, lambda: bench.apply(sets))
    show("digest, per changed znode", us)
    total = len(bench.tree.znodes)
    show("snapshot, per znode", best_us(lambda: list(bench.tree.snapshot()), total, gc.collect))
    begin = time.process_time()
    capture = bench.tree.snapshot()
    print(f"{'snapshot, held up at its start':42} {(time.process_time() - begin) * 1e3:8.2f} ms")
    bench.apply(sets)
    list(capture)
    chunks = list(bench.tree.snapshot())
    show("restore, per znode", best_us(lambda: Tree().restore(chunks), total, gc.collect))


def show(what: str, us: float) -> None:
    print(f"{what:42} {us:8.2f} us")


def measure_memory(count: int) -> None:
    gc.collect()
    tracemalloc.start()
    bench = Bench(0)
    frames = [
        create(b"/bench/node-%08d" % i).replace(DATA, bytes([i & 0xFF]) * 128) for i in range(count)
    ]
    before, _ = tracemalloc.get_traced_memory()
    bench.apply(frames)
    bench.tree.digest()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{'memory, per znode of 128 bytes':42} {(after - before) / count:8.0f} bytes")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    bench = Bench(count)
    gc.collect()
    gc.freeze()
    measure_writes(bench, min(count, 20_000))
    measure_reads(bench, min(count, 20_000))
    measure_background(bench, min(count, 20_000))
    measure_memory(min(count, 20_000))


if __name__ == "__main__":
    main()
