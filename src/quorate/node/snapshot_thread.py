"""A second thread for snapshot files, so that the log's fsync never waits behind them.

Writing a snapshot alternates between the loop, where the state is walked one piece at a time
(applies go on in between), and this thread, where the piece is written:

    loop: next(chunks) -> thread: writer.write -> loop: next(chunks) -> ... -> thread: finish

Invariants:
    * at most one own snapshot is under way, and at most one piece of it is in memory
    * the iterator of a state machine is only ever advanced on the loop
    * a failed write is reported like one of the log: the node stops
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic
from typing import Any

from quorate.consensus.engine import ReadSnapshot
from quorate.node.disk_thread import Post
from quorate.node.events import SNAPSHOT_BEGUN, SNAPSHOT_TAKEN
from quorate.node.measures import Measures
from quorate.node.ports import Server, SnapshotJob, SnapshotWriter, Store


class SnapshotThread:
    """Writes our own snapshots and reads pieces of them for other nodes.

    Args:
        store: begins and reads snapshot files.
        post: ``loop.call_soon_threadsafe``.
        server: hears, on the loop, what became durable and what was read.
        wake: asks for a turn.
        failed: called on the loop with what went wrong.
        measures: where durations are counted.
    """

    def __init__(
        self,
        store: Store,
        post: Post,
        server: Server,
        wake: Callable[[], None],
        failed: Callable[[BaseException], None],
        measures: Measures | None = None,
    ) -> None:
        self._measures = measures or Measures()
        self._begun_seconds = 0.0
        self._store = store
        self._post = post
        self._server = server
        self._wake = wake
        self._failed = failed
        self._job: SnapshotJob | None = None
        self._writer: SnapshotWriter | None = None  # touched in the thread only
        self._queue: SimpleQueue[tuple[Callable[..., None], tuple[Any, ...]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="quorate-snapshots", daemon=True)

    @property
    def is_saving(self) -> bool:
        """Whether a snapshot of our own is under way."""
        return self._job is not None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Give up a snapshot under way and end the thread; False when it did not end."""
        self.cancel()
        self._queue.put(None)
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def save(self, job: SnapshotJob) -> None:
        """Begin to write this snapshot; one that is under way is given up."""
        self.cancel()
        self._job = job
        self._begun_seconds = monotonic()
        SNAPSHOT_BEGUN.say(index=job.meta.index)
        self._queue.put((self._begin, (job,)))

    def cancel(self) -> None:
        """Give up the snapshot under way, for instance because a newer one was installed."""
        job, self._job = self._job, None
        if job is None:
            return
        close = getattr(job.chunks, "close", None)
        if close is not None:
            close()
        self._queue.put((self._abandon, ()))

    def read(self, request: ReadSnapshot) -> None:
        """Read one piece for another node."""
        self._queue.put((self._read_piece, (request,)))

    # ---- on the loop ---------------------------------------------------------------------------

    def _next_piece(self, job: SnapshotJob) -> None:
        if self._job is not job:
            return  # given up meanwhile
        chunk = next(job.chunks, None)
        if chunk is None:
            self._queue.put((self._finish, (job,)))
        else:
            self._queue.put((self._write, (job, chunk)))

    def _report(self, job: SnapshotJob, size_bytes: int) -> None:
        # Also when it was given up just now: it is durable and exact all the same, but the
        # server has moved past it and must not hear of it.
        if self._job is job:
            self._job = None
            seconds = monotonic() - self._begun_seconds
            self._measures.snapshot_write.observe(seconds)
            SNAPSHOT_TAKEN.say(
                index=job.meta.index, size_bytes=size_bytes, milliseconds=round(seconds * 1000)
            )
            self._server.snapshot_saved(job.meta, size_bytes)
            self._wake()

    def _was_read(self, request: ReadSnapshot, data: bytes | None, last: bool) -> None:
        self._server.snapshot_read(request.peer, request.meta, request.offset, data, last=last)
        self._wake()

    # ---- in the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            work = self._queue.get()
            if work is None:
                return
            function, args = work
            try:
                function(*args)
            except BaseException as error:
                self._post_safely(self._failed, error)
                return

    def _begin(self, job: SnapshotJob) -> None:
        assert self._writer is None
        self._writer = self._store.begin_snapshot(job.meta)
        self._post_safely(self._next_piece, job)

    def _write(self, job: SnapshotJob, chunk: bytes) -> None:
        if self._writer is not None:
            self._writer.write(chunk)
            self._post_safely(self._next_piece, job)

    def _finish(self, job: SnapshotJob) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            self._post_safely(self._report, job, writer.finish())

    def _abandon(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abandon()

    def _read_piece(self, request: ReadSnapshot) -> None:
        data, last = self._store.read_snapshot(request.meta, request.offset, request.size_bytes)
        self._post_safely(self._was_read, request, data, last)

    def _post_safely(self, function: Callable[..., object], *args: object) -> None:
        try:
            self._post(function, *args)
        except RuntimeError:
            return  # the loop is closed; nobody is left to tell
