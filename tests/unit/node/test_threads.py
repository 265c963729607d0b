"""The disk thread and the snapshot thread."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from quorate.consensus.engine import ReadSnapshot, SnapshotRead
from quorate.consensus.entry import Entry, Persist, SnapshotMeta
from quorate.errors import DiskFailed, DiskFull
from quorate.node import snapshot_thread
from quorate.node.disk_thread import DiskThread
from quorate.node.read_ahead import PIECES_AHEAD, read_ahead
from quorate.node.snapshot_thread import SnapshotThread

from .fakes import FakeServer, eventually, run

META = SnapshotMeta(7, 1, b"")


class SlowDisk:
    """Persists only when allowed to, and remembers the batches."""

    def __init__(self) -> None:
        self.allowed = threading.Semaphore(0)
        self.begun = threading.Event()
        self.batches: list[list[int]] = []

    def persist(self, steps: list[Persist]) -> None:
        self.begun.set()
        assert self.allowed.acquire(timeout=5)
        self.batches.append([step.sequence for step in steps])


def test_one_write_in_flight_while_the_next_gathers() -> None:
    """Steps queued behind a running write share the next one; durable comes in order."""

    async def story() -> None:
        disk, durable, failed = SlowDisk(), [], []
        post = asyncio.get_running_loop().call_soon_threadsafe
        thread = DiskThread(disk.persist, post, durable.append, failed.append)
        thread.start()
        thread.submit(Persist(1))
        assert await asyncio.to_thread(disk.begun.wait, 5)
        for sequence in (2, 3, 4):
            thread.submit(Persist(sequence))
        disk.allowed.release()
        await eventually(lambda: durable == [1])
        disk.allowed.release()
        await eventually(lambda: durable == [1, 4])
        assert disk.batches == [[1], [2, 3, 4]]
        assert thread.stop(5)
        assert failed == []

    run(story)


def test_stop_writes_what_is_queued() -> None:
    """Nothing that was submitted before a clean stop is lost."""

    async def story() -> None:
        disk = SlowDisk()
        disk.allowed.release(10)
        post = asyncio.get_running_loop().call_soon_threadsafe
        thread = DiskThread(disk.persist, post, lambda _: None, lambda _: None)
        for sequence in (1, 2):
            thread.submit(Persist(sequence))
        thread.start()
        assert thread.stop(5)
        assert disk.batches == [[1, 2]]

    run(story)


def test_after_a_failed_write_nothing_is_written() -> None:
    """A failure is told once, and later steps never reach the disk."""

    async def story() -> None:
        calls: list[int] = []
        durable: list[int] = []
        failed: list[BaseException] = []

        def persist(steps: list[Persist]) -> None:
            calls.append(len(steps))
            raise DiskFailed("fsync: Input/output error")

        post = asyncio.get_running_loop().call_soon_threadsafe
        thread = DiskThread(persist, post, durable.append, failed.append)
        thread.start()
        thread.submit(Persist(1))
        await eventually(lambda: failed)
        thread.submit(Persist(2))
        assert thread.stop(5)
        assert (calls, durable) == ([1], [])
        assert isinstance(failed[0], DiskFailed)

    run(story)


class FakeStore:
    """Snapshots in memory; remembers in which thread each call ran."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.abandoned = 0
        self.threads: set[str] = set()

    def begin_snapshot(self, meta: SnapshotMeta) -> Any:
        assert meta == META
        self.written.clear()
        return SimpleNamespace(write=self._write, finish=self._finish, abandon=self._abandon)

    def _write(self, chunk: bytes) -> None:
        self.threads.add(threading.current_thread().name)
        self.written.append(chunk)

    def _finish(self) -> int:
        return sum(map(len, self.written))

    def _abandon(self) -> None:
        self.abandoned += 1

    def read_snapshot(
        self, meta: SnapshotMeta, offset: int, size_bytes: int
    ) -> tuple[bytes | None, bool, bytes]:
        return b"payload"[offset : offset + size_bytes], offset + size_bytes >= 7, b"id"


def test_a_snapshot_is_walked_on_the_loop_and_written_in_the_thread() -> None:
    """The state is touched by the loop only, the file by the thread only."""

    async def story() -> None:
        walked: set[str] = set()

        def chunks() -> Iterator[bytes]:
            for piece in (b"one", b"two", b"three"):
                walked.add(threading.current_thread().name)
                yield piece

        store, server = FakeStore(), FakeServer()
        post = asyncio.get_running_loop().call_soon_threadsafe
        later = asyncio.get_running_loop().call_later
        thread = SnapshotThread(store, post, server, lambda: None, lambda _: None, later)  # type: ignore[arg-type]
        thread.start()
        thread.save(SimpleNamespace(meta=META, chunks=chunks()))  # type: ignore[arg-type]
        await eventually(lambda: server.named("snapshot_saved"))
        assert server.named("snapshot_saved") == [("snapshot_saved", META, 11)]
        assert store.written == [b"onetwothree"]
        assert walked == {"MainThread"}
        assert store.threads == {"quorate-snapshots"}
        assert not thread.is_saving
        assert thread.stop(5)

    run(story)


def test_the_walk_waits_for_a_thread_that_is_slow() -> None:
    """Two pieces are in memory at most: one being written, one gathered."""

    async def story() -> None:
        store, server = FakeStore(), FakeServer()
        may_write = threading.Event()
        walked: list[int] = []

        def write(chunk: bytes) -> None:
            assert may_write.wait(10)
            store.written.append(chunk)

        def chunks() -> Iterator[bytes]:
            for number in range(40):
                walked.append(number)
                yield b"x" * 65_536

        store._write = write  # type: ignore[method-assign]
        loop = asyncio.get_running_loop()
        post, later = loop.call_soon_threadsafe, loop.call_later
        thread = SnapshotThread(store, post, server, lambda: None, lambda _: None, later)  # type: ignore[arg-type]
        thread.start()
        thread.save(SimpleNamespace(meta=META, chunks=chunks()))  # type: ignore[arg-type]
        await eventually(lambda: len(walked) == 16)
        await asyncio.sleep(0)
        assert (len(walked), thread._gathered_bytes) == (16, snapshot_thread.PIECE_BYTES)
        may_write.set()
        await eventually(lambda: server.named("snapshot_saved"))
        assert b"".join(store.written) == b"x" * 40 * 65_536
        assert thread.stop(5)

    run(story)


def test_the_loop_rests_from_a_snapshot_three_times_as_long_as_it_worked_on_it(
    monkeypatch: Any,
) -> None:
    """A long piece is followed by a long rest, with a bound; nothing is walked meanwhile."""

    async def story() -> None:
        now = [100.0]
        monkeypatch.setattr(snapshot_thread, "monotonic", lambda: now[0])
        walked: list[float] = []

        def chunks() -> Iterator[bytes]:
            for seconds in (0.01, 10.0, 0.0):
                walked.append(now[0])
                now[0] += seconds
                yield b"piece"

        rests: list[float] = []

        def later(delay: float, callback: Any, *args: Any) -> None:
            rests.append(round(delay, 3))
            now[0] += delay
            asyncio.get_running_loop().call_soon(callback, *args)

        server = FakeServer()
        post = asyncio.get_running_loop().call_soon_threadsafe
        thread = SnapshotThread(FakeStore(), post, server, lambda: None, lambda _: None, later)  # type: ignore[arg-type]
        thread.start()
        thread.save(SimpleNamespace(meta=META, chunks=chunks()))  # type: ignore[arg-type]
        await eventually(lambda: server.named("snapshot_saved"))
        assert rests == [0.0, 0.03, 0.25, 0.0]
        assert [round(at, 3) for at in walked] == [100.0, 100.04, 110.29]
        assert thread.stop(5)

    run(story)


def test_a_cancelled_snapshot_is_abandoned_and_never_advanced() -> None:
    """After cancel the state's iterator is closed, the file forgotten, the server not told."""

    async def story() -> None:
        closed: list[bool] = []

        def chunks() -> Iterator[bytes]:
            try:
                while True:
                    yield b"more" * 16_384
            finally:
                closed.append(True)

        store, server = FakeStore(), FakeServer()
        post = asyncio.get_running_loop().call_soon_threadsafe
        later = asyncio.get_running_loop().call_later
        thread = SnapshotThread(store, post, server, lambda: None, lambda _: None, later)  # type: ignore[arg-type]
        thread.start()
        thread.save(SimpleNamespace(meta=META, chunks=chunks()))  # type: ignore[arg-type]
        await eventually(lambda: len(store.written) > 2)
        assert set(map(len, store.written)) == {snapshot_thread.PIECE_BYTES}
        thread.cancel()
        await eventually(lambda: store.abandoned)
        assert closed == [True]
        assert server.named("snapshot_saved") == []
        assert thread.stop(5)

    run(story)


def test_pieces_are_read_for_other_nodes() -> None:
    """A request for a piece is answered with data and whether it was the last."""

    async def story() -> None:
        server = FakeServer()
        post = asyncio.get_running_loop().call_soon_threadsafe
        later = asyncio.get_running_loop().call_later
        thread = SnapshotThread(FakeStore(), post, server, lambda: None, lambda _: None, later)  # type: ignore[arg-type]
        thread.start()
        thread.read(ReadSnapshot(2, META, 4, 100))
        await eventually(lambda: server.events)
        answer = SnapshotRead(2, META, 4, b"oad", last=True, identity=b"id")
        assert server.events == [("snapshot_read", answer)]
        assert thread.stop(5)

    run(story)


def test_short_cut_only_for_little_on_an_idle_disk_that_was_quick(monkeypatch: Any) -> None:
    """Writing on the loop's thread is declined behind a write, for much, after a stall."""
    now = [0.0]
    monkeypatch.setattr("quorate.node.disk_thread.monotonic", lambda: now[0])

    async def story() -> None:
        persisted: list[int] = []
        stall = [0.0]

        def persist(steps: list[Persist]) -> None:
            now[0] += stall[0]
            persisted.extend(step.sequence for step in steps)

        post = asyncio.get_running_loop().call_soon_threadsafe
        durable: list[int] = []
        thread = DiskThread(persist, post, durable.append, lambda _: None)
        assert thread.try_persist_now([Persist(1)])
        thread.submit(Persist(2))
        assert not thread.try_persist_now([Persist(3)]), "a write is in flight"
        thread.start()
        await eventually(lambda: durable == [2])
        large = Persist(3, entries=[Entry(1, 1, 1, b"x" * 2_000)])
        assert not thread.try_persist_now([large])
        stall[0] = 1.0
        assert thread.try_persist_now([Persist(3)])
        stall[0] = 0.0
        assert not thread.try_persist_now([Persist(4)]), "the disk was slow a moment ago"
        now[0] += 60
        assert thread.try_persist_now([Persist(4)])
        assert persisted == [1, 2, 3, 4]
        assert thread.stop(5)

    run(story)


def test_failed_short_cut_writes_nothing_more() -> None:
    """After a failure on the loop's thread neither it nor the disk thread writes again."""

    async def story() -> None:
        calls: list[int] = []

        def persist(steps: list[Persist]) -> None:
            calls.append(steps[0].sequence)
            raise DiskFailed("no")

        failed: list[BaseException] = []
        post = asyncio.get_running_loop().call_soon_threadsafe
        thread = DiskThread(persist, post, lambda _: None, failed.append)
        thread.start()
        assert not thread.try_persist_now([Persist(1)])
        thread.submit(Persist(1))
        await eventually(lambda: failed)
        assert thread.stop(5)
        assert calls == [1]

    run(story)


def test_reading_ahead_gives_the_same_pieces_and_the_same_error() -> None:
    """In order, however many; an error comes behind what was read before it."""
    pieces = [b"%d" % number for number in range(100)]
    assert list(read_ahead(pieces)) == pieces
    assert list(read_ahead([])) == []

    def damaged() -> Iterator[bytes]:
        yield b"good"
        raise DiskFailed("bad")

    reading = read_ahead(damaged())
    assert next(reading) == b"good"
    with pytest.raises(DiskFailed):
        next(reading)


def test_reading_ahead_is_bounded_and_ends_with_whoever_takes() -> None:
    """No more than a few pieces are read that nobody has taken."""
    read: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            read.append(1)
            yield b"x"

    reading = read_ahead(endless())
    for _ in range(5):
        next(reading)
    assert len(read) <= 5 + PIECES_AHEAD + 1
    reading.close()  # type: ignore[attr-defined]
    assert all(thread.name != "quorate-read-ahead" for thread in threading.enumerate())


def test_steps_without_room_wait_and_are_written_once_there_is(monkeypatch: Any) -> None:
    """Nothing of them is written before; what comes behind them waits with them."""
    monkeypatch.setattr("quorate.node.disk_thread.ROOM_SECONDS", 0.001)

    async def story() -> None:
        written: list[int] = []
        durable: list[int] = []
        asked = 0
        has_room = False

        def room(_steps: list[Persist]) -> bool:
            nonlocal asked
            asked += 1
            return has_room

        post = asyncio.get_running_loop().call_soon_threadsafe
        thread = DiskThread(
            lambda steps: written.extend(step.sequence for step in steps),
            post,
            durable.append,
            lambda _: None,
            room,
        )
        thread.start()
        assert not thread.try_persist_now([Persist(1)])
        thread.submit(Persist(1))
        await eventually(lambda: asked > 5)
        thread.submit(Persist(2))
        assert written == []
        has_room = True
        await eventually(lambda: durable[-1:] == [2])
        assert written == [1, 2]
        assert thread.stop(5)

    run(story)


def test_a_thread_that_waits_for_room_ends_when_it_is_told_to() -> None:
    """What it could not write was promised to nobody."""

    async def story() -> None:
        written: list[Any] = []
        post = asyncio.get_running_loop().call_soon_threadsafe
        failed: list[BaseException] = []
        thread = DiskThread(
            written.append, post, lambda _: None, failed.append, lambda steps: not steps
        )
        thread.start()
        thread.submit(Persist(1))
        assert thread.stop(5)
        assert (written, failed) == ([], [])

    run(story)


@pytest.mark.parametrize("moment", ["begin", "write", "finish"])
def test_a_snapshot_without_space_is_given_up_and_nobody_stops(
    moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The server hears that it failed; the next one is written as if nothing had been."""

    async def story() -> None:
        store, server = FakeStore(), FakeServer()
        failed: list[BaseException] = []
        is_full = True

        def full(original: Any) -> Any:
            def call(*arguments: Any) -> Any:
                if is_full:
                    raise DiskFull("cannot write snapshot.tmp: No space left on device (ENOSPC)")
                return original(*arguments)

            return call

        name = {"begin": "begin_snapshot", "write": "_write", "finish": "_finish"}[moment]
        setattr(store, name, full(getattr(store, name)))
        loop = asyncio.get_running_loop()
        post, later = loop.call_soon_threadsafe, loop.call_later
        thread = SnapshotThread(store, post, server, lambda: None, failed.append, later)  # type: ignore[arg-type]
        thread.start()
        thread.save(SimpleNamespace(meta=META, chunks=iter([b"one"])))  # type: ignore[arg-type]
        await eventually(lambda: server.named("snapshot_failed"))
        assert not thread.is_saving
        is_full = False
        thread.save(SimpleNamespace(meta=META, chunks=iter([b"one"])))  # type: ignore[arg-type]
        await eventually(lambda: server.named("snapshot_saved"))
        assert failed == []
        assert store.abandoned == (moment != "begin")
        assert thread.stop(5)

    with caplog.at_level(logging.WARNING):
        run(story)
    assert "was given up and is tried again later" in caplog.text
