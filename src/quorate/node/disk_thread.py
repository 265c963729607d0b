"""Makes the log durable: one thread that does nothing else, and a short cut past it.

    loop --submit(step)--> SimpleQueue --> thread: store.persist(everything queued), one fsync
    loop <--durable(sequence)-- call_soon_threadsafe <--

While one write is in flight the next batch gathers in the queue; an idle system writes at once.
No timer, no delay. Cost per batch: one queue put, one fsync, one wake-up of the loop.
A few bytes on an idle, quick disk, when all else waits for them anyway, skip both hand-overs:
``try_persist_now`` writes them on the loop's own thread.

Invariants:
    * steps are persisted in the order of submission
    * steps for which there is no room wait, and all behind them, until there is: nothing of them is
      written before
    * ``durable(n)`` is called on the loop, after the fsync that covers step n, in order
    * after a failure nothing is ever written again: the kernel may have dropped the pages that it
      could not write, so a second fsync would lie (Rebello et al., ATC 2020)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Protocol

from quorate.consensus.entry import Persist

NOW_BYTES_MAX = 1_024
"""The thread pays off for more than a few requests at once, or when the disk is not quick."""

ROOM_SECONDS = 0.1
"""Steps for which there is no room are tried again after this."""

SLOW_SECONDS = 0.005
SLOW_AVOID_SECONDS = 1.0


class Post(Protocol):
    """Run a function on the event loop, from any thread."""

    def __call__(self, function: Callable[..., object], /, *args: Any) -> object:
        """``loop.call_soon_threadsafe``."""


def _size(step: Persist) -> int:
    """About how many bytes a step writes; a piece of a snapshot is always too many."""
    if step.chunk is not None or step.compact_to is not None or step.truncate_from is not None:
        return NOW_BYTES_MAX + 1
    size = 0
    for entry in step.entries:
        size += len(entry.payload)
    return size


def _always(_steps: list[Persist]) -> bool:
    return True


class DiskThread:
    """Carries persistence steps to the disk, in batches.

    Args:
        persist: makes a list of steps durable; blocks; ``Store.persist``.
        post: ``loop.call_soon_threadsafe``.
        durable: called on the loop with the sequence number up to which all is durable.
        failed: called on the loop, once, with what went wrong; the thread has ended.
        has_room: whether the disk has space for these steps; ``Store.has_room``.
    """

    def __init__(
        self,
        persist: Callable[[list[Persist]], None],
        post: Post,
        durable: Callable[[int], None],
        failed: Callable[[BaseException], None],
        has_room: Callable[[list[Persist]], bool] = _always,
    ) -> None:
        self._persist = persist
        self._has_room = has_room
        self._is_stopping = threading.Event()
        self._post = post
        self._durable = durable
        self._failed = failed
        self._queue: SimpleQueue[Persist | None] = SimpleQueue()
        self._last_sequence = 0
        self._durable_sequence = 0
        self._slow_until_seconds = 0.0
        self._is_broken = False
        self._thread = threading.Thread(target=self._run, name="quorate-disk", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, step: Persist) -> None:
        """Queue one step; returns at once."""
        assert step.sequence == self._last_sequence + 1, (step.sequence, self._last_sequence)
        if self._is_broken:
            return
        self._last_sequence = step.sequence
        self._queue.put(step)

    def try_persist_now(self, steps: list[Persist]) -> bool:
        """Make small steps durable on the calling thread, the loop's; False: they are not.

        Handing a step to the thread and back costs about 0.1 ms, as much as a quick disk takes for
        it. That is worth paying for a batch, and whenever the disk might be slow; it is not for a
        few hundred bytes on an idle disk that was quick before.
        """
        if self._durable_sequence != self._last_sequence or len(steps) > 1:
            return False
        now = monotonic()
        if now < self._slow_until_seconds or _size(steps[0]) > NOW_BYTES_MAX:
            return False
        try:
            if not self._has_room(steps):
                return False
            self._persist(steps)
        except BaseException as error:
            self._is_broken = True
            self._post_safely(self._failed, error)
            return False
        self._last_sequence = steps[-1].sequence
        self._durable_sequence = self._last_sequence
        done = monotonic()
        if done - now > SLOW_SECONDS:
            self._slow_until_seconds = done + SLOW_AVOID_SECONDS
        return True

    def stop(self, timeout_seconds: float) -> bool:
        """Write what is queued, end the thread and wait for it; False when it did not end.

        What there is no room for is not written: it was promised to nobody.
        """
        self._is_stopping.set()
        self._queue.put(None)
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            steps, stopping = self._gather()
            if not steps:
                continue
            try:
                if not self._wait_for_room(steps):
                    return
                self._persist(steps)
            except BaseException as error:
                self._post_safely(self._failed, error)
                return
            self._post_safely(self._done, steps[-1].sequence)

    def _wait_for_room(self, steps: list[Persist]) -> bool:
        """Wait until these steps fit; False: they do not, and it is time to stop."""
        while not self._has_room(steps):
            if self._is_stopping.wait(ROOM_SECONDS):
                return self._has_room(steps)
        return True

    def _done(self, sequence: int) -> None:
        self._durable_sequence = sequence
        self._durable(sequence)

    def _gather(self) -> tuple[list[Persist], bool]:
        """Wait for one step, then take all that queued up behind it."""
        steps: list[Persist] = []
        step = self._queue.get()
        while step is not None:
            steps.append(step)
            try:
                step = self._queue.get_nowait()
            except Empty:
                return steps, False
        return steps, True

    def _post_safely(self, function: Callable[..., object], argument: object) -> None:
        try:
            self._post(function, argument)
        except RuntimeError:
            # The loop is closed: a second SIGTERM. Nobody is left to tell.
            assert function in (self._done, self._failed)
