"""A thread that reads closed files of the log and the newest snapshot, slowly, looking for rot.

Invariants:
    * it reads at most about 5 MB/s, and sleeps most of the time
    * ``found`` is called on the loop, at most once; the thread has ended then
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from quorate.errors import CorruptData
from quorate.node.disk_thread import Post

PAUSE_SECONDS = 0.05
"""Between two pieces of 256 KiB."""


class ScrubThread:
    """Goes through everything once per interval.

    Args:
        scrub: begins a pass: yields None for each good piece, damage when there is some.
        post: ``loop.call_soon_threadsafe``.
        found: called on the loop with the first damage.
        interval_seconds: from the end of one pass to the next; the first begins after one, too.
    """

    def __init__(
        self,
        scrub: Callable[[], Iterator[CorruptData | None]],
        post: Post,
        found: Callable[[CorruptData], None],
        interval_seconds: float,
    ) -> None:
        self._scrub = scrub
        self._post = post
        self._found = found
        self._interval_seconds = interval_seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quorate-scrub", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread at its next pause."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_seconds):
            for damage in self._scrub():
                if damage is not None:
                    self._report(damage)
                    return
                if self._stopped.wait(PAUSE_SECONDS):
                    return

    def _report(self, damage: CorruptData) -> None:
        try:
            self._post(self._found, damage)
        except RuntimeError:
            assert self._stopped.is_set(), "the loop closed under a running node"
