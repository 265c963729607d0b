"""A second thread for snapshot files, so that the log's fsync never waits behind them.

The state is walked on the loop, a slice at a time (applies go on in between); what was gathered is
compressed and written in this thread, while the loop gathers more:

    loop:   next(chunks), rest, next(chunks), rest, ...  ->  thread: writer.write, ..., finish

It is handed over in large pieces. Each of them makes the thread take the interpreter's lock a few
times, and where CPU is short it may be held up just then, and the loop with it.

A snapshot has time and clients have not: behind each piece the loop rests from it for three times
as long as it took, so that a snapshot never takes more than a quarter of the loop. Where CPU is
short a piece takes longer, and so the snapshot gives way.

Invariants:
    * at most one own snapshot is under way, and at most two pieces of it are in memory
    * the iterator of a state machine is only ever advanced on the loop
    * a failed write is reported like one of the log: the node stops; but a snapshot for which there
      is no space is given up
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic
from typing import Any, Protocol

from quorate.consensus.engine import ReadSnapshot, SnapshotRead
from quorate.errors import DiskFull
from quorate.node.disk_thread import Post
from quorate.node.events import SNAPSHOT_BEGUN, SNAPSHOT_GIVEN_UP, SNAPSHOT_TAKEN
from quorate.node.measures import Measures
from quorate.node.ports import Server, SnapshotJob, SnapshotWriter, Store

PIECE_BYTES = 512 << 10
REST_FACTOR = 3.0
REST_SECONDS_MAX = 0.25


class Later(Protocol):
    """Run a function on the loop after a while."""

    def __call__(self, delay: float, callback: Callable[..., object], /, *args: Any) -> object:
        """``loop.call_later``."""


class SnapshotThread:
    """Writes our own snapshots and reads pieces of them for other nodes.

    Args:
        store: begins and reads snapshot files.
        post: ``loop.call_soon_threadsafe``.
        server: hears, on the loop, what became durable and what was read.
        wake: asks for a turn.
        failed: called on the loop with what went wrong.
        later: ``loop.call_later``.
        measures: where durations are counted.
    """

    def __init__(
        self,
        store: Store,
        post: Post,
        server: Server,
        wake: Callable[[], None],
        failed: Callable[[BaseException], None],
        later: Later,
        measures: Measures | None = None,
    ) -> None:
        self._measures = measures or Measures()
        self._begun_seconds = 0.0
        self._store = store
        self._post = post
        self._server = server
        self._wake = wake
        self._failed = failed
        self._later = later
        self._job: SnapshotJob | None = None
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._is_walking = False  # the next slice is due at a time that is set
        self._is_walked = False
        self._is_writing = False
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
        self._is_walking = self._is_walked = False
        self._is_writing = True
        self._begun_seconds = monotonic()
        SNAPSHOT_BEGUN.say(index=job.meta.index)
        self._queue.put((self._begin, (job,)))

    def cancel(self) -> None:
        """Give up the snapshot under way, for instance because a newer one was installed."""
        job, self._job = self._job, None
        if job is None:
            return
        self._gathered, self._gathered_bytes = [], 0
        close = getattr(job.chunks, "close", None)
        if close is not None:
            close()
        self._queue.put((self._abandon, ()))

    def read(self, request: ReadSnapshot) -> None:
        """Read one piece for another node."""
        self._queue.put((self._read_piece, (request,)))

    # ---- on the loop ---------------------------------------------------------------------------

    def _walk(self, job: SnapshotJob) -> None:
        if self._job is not job:
            return  # given up meanwhile
        self._is_walking = False
        begin = monotonic()
        chunk = next(job.chunks, None)
        rest = min(REST_SECONDS_MAX, REST_FACTOR * (monotonic() - begin))
        if chunk is None:
            self._is_walked = True
        else:
            self._gathered.append(chunk)
            self._gathered_bytes += len(chunk)
        self._go_on(job, rest)

    def _written(self, job: SnapshotJob) -> None:
        if self._job is job:
            self._is_writing = False
            self._go_on(job, 0.0)

    def _go_on(self, job: SnapshotJob, rest_seconds: float) -> None:
        """Hand over what was gathered, if it is enough; walk on, if there is room for more."""
        is_enough = self._is_walked or self._gathered_bytes >= PIECE_BYTES
        if is_enough and not self._is_writing:
            pieces, self._gathered, self._gathered_bytes = self._gathered, [], 0
            self._is_writing, is_enough = True, False
            self._queue.put((self._write, (job, pieces, self._is_walked)))
        if not is_enough and not self._is_walking and not self._is_walked:
            self._is_walking = True
            self._later(rest_seconds, self._walk, job)

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

    def _does_not_fit(self, job: SnapshotJob, error: DiskFull) -> None:
        if self._job is not job:
            return  # given up meanwhile
        self.cancel()
        self._measures.snapshots_given_up += 1
        SNAPSHOT_GIVEN_UP.say(index=job.meta.index, reason=error)
        self._server.snapshot_failed()
        self._wake()

    def _was_read(self, answer: SnapshotRead) -> None:
        self._server.snapshot_read(answer)
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
        try:
            self._writer = self._store.begin_snapshot(job.meta)
        except DiskFull as error:
            self._post_safely(self._does_not_fit, job, error)
        else:
            self._post_safely(self._written, job)

    def _write(self, job: SnapshotJob, pieces: list[bytes], is_last: bool) -> None:
        writer = self._writer
        if writer is None:
            return  # given up meanwhile
        try:
            writer.write(b"".join(pieces))
            size_bytes = writer.finish() if is_last else 0
        except DiskFull as error:
            self._abandon()
            self._post_safely(self._does_not_fit, job, error)
            return
        if is_last:
            self._writer = None
            self._post_safely(self._report, job, size_bytes)
        else:
            self._post_safely(self._written, job)

    def _abandon(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abandon()

    def _read_piece(self, request: ReadSnapshot) -> None:
        meta, offset = request.meta, request.offset
        piece = self._store.read_snapshot(meta, offset, request.size_bytes)
        self._post_safely(self._was_read, SnapshotRead(request.peer, meta, offset, *piece))

    def _post_safely(self, function: Callable[..., object], *args: object) -> None:
        try:
            self._post(function, *args)
        except RuntimeError:
            return  # the loop is closed; nobody is left to tell
