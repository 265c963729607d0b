"""One thread that makes the log durable, and nothing else.

    loop --submit(step)--> SimpleQueue --> thread: store.persist(everything queued), one fsync
    loop <--durable(sequence)-- call_soon_threadsafe <--

While one write is in flight the next batch gathers in the queue; an idle system writes at once.
No timer, no delay. Cost per batch: one queue put, one fsync, one wake-up of the loop.

Invariants:
    * steps are persisted in the order of submission
    * ``durable(n)`` is called on the loop, after the fsync that covers step n, in order
    * after a failure nothing is ever written again: the kernel may have dropped the pages that it
      could not write, so a second fsync would lie (Rebello et al., ATC 2020)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from quorate.consensus.entry import Persist


class Post(Protocol):
    """Run a function on the event loop, from any thread."""

    def __call__(self, function: Callable[..., object], /, *args: Any) -> object:
        """``loop.call_soon_threadsafe``."""


class DiskThread:
    """Carries persistence steps to the disk, in batches.

    Args:
        persist: makes a list of steps durable; blocks; ``Store.persist``.
        post: ``loop.call_soon_threadsafe``.
        durable: called on the loop with the sequence number up to which all is durable.
        failed: called on the loop, once, with what went wrong; the thread has ended.
    """

    def __init__(
        self,
        persist: Callable[[list[Persist]], None],
        post: Post,
        durable: Callable[[int], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._persist = persist
        self._post = post
        self._durable = durable
        self._failed = failed
        self._queue: SimpleQueue[Persist | None] = SimpleQueue()
        self._last_sequence = 0
        self._thread = threading.Thread(target=self._run, name="quorate-disk", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, step: Persist) -> None:
        """Queue one step; returns at once."""
        assert step.sequence == self._last_sequence + 1, (step.sequence, self._last_sequence)
        self._last_sequence = step.sequence
        self._queue.put(step)

    def stop(self, timeout_seconds: float) -> bool:
        """Write what is queued, end the thread and wait for it; False when it did not end."""
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
                self._persist(steps)
            except BaseException as error:
                self._post_safely(self._failed, error)
                return
            self._post_safely(self._durable, steps[-1].sequence)

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
            assert function in (self._durable, self._failed)
