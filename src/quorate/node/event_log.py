"""Where a node's lines go: standard error, as text for people or as JSON, at a bounded rate.

    2024-05-01 12:00:00.123 INFO     node 1: words
    {"time":"2024-05-01T10:00:00.123Z","level":"info","node":1,"event":"elected","words":...}

A JSON line has one object with these five keys, then the event's fields. Lines of other libraries
(asyncio) come as event ``other``.

A thread of its own writes, behind a bounded queue: whoever reads standard error may stop reading, a
pipe fills, and a node must not stop with it. What does not fit is left out, and counted.

``RateBound`` is pure: of lines that repeat themselves it lets ``LINES_MAX`` through in
``WINDOW_SECONDS`` and counts the rest; the count is told when the window is over. CRITICAL lines
always pass: they are the last ones.

Invariants:
    * nobody who says something waits for whoever reads it
    * memory is bounded: ``KEYS_MAX`` kinds of lines are told apart, ``QUEUE_LINES_MAX`` lines wait
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import UTC, datetime
from queue import Full, Queue
from time import monotonic
from typing import Any

from quorate.node.events import LINES_LEFT_OUT, Event
from quorate.node.settings import NodeSettings

LINES_MAX = 10
WINDOW_SECONDS = 60.0
KEYS_MAX = 1_000
QUEUE_LINES_MAX = 2_000
FLUSH_SECONDS = 1.0
_OVERFLOW = ("other", "")
_PLAIN = (str, int, float, dict, type(None))


class RateBound:
    """Decides which repeated lines are written."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str], list[float]] = {}  # key -> [begin, lines, left out]
        self.left_out = 0  # in all

    def admits(self, key: tuple[str, str], now_seconds: float) -> bool:
        """Whether a line of this kind may be written now."""
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= KEYS_MAX:
                key = _OVERFLOW
            window = self._windows.setdefault(key, [now_seconds, 0, 0])
        if now_seconds - window[0] >= WINDOW_SECONDS and not window[2]:
            window[0], window[1] = now_seconds, 0
        if window[1] < LINES_MAX:
            window[1] += 1
            return True
        window[2] += 1
        self.left_out += 1
        return False

    def take_left_out(self, now_seconds: float) -> list[tuple[str, int]]:
        """Events of windows that are over, and how many lines each left out."""
        found = []
        for key in list(self._windows):
            begin, _, left_out = self._windows[key]
            if now_seconds - begin >= WINDOW_SECONDS:
                del self._windows[key]
                if left_out:
                    found.append((key[0], int(left_out)))
        return found


class EventHandler(logging.Handler):
    """Hands lines to a thread that writes them; leaves out what repeats itself too often."""

    def __init__(self) -> None:
        super().__init__()
        self.bound = RateBound()
        self._stream = sys.stderr
        self._queue: Queue[str | None] = Queue(QUEUE_LINES_MAX)
        self._thread = threading.Thread(target=self._run, name="quorate-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line; without room it is left out."""
        try:
            self._queue.put_nowait(self.format(record) + "\n")
        except Full:
            self.bound.left_out += 1

    def flush(self) -> None:
        """Wait until all is written, but not for ever."""
        done = self._queue.all_tasks_done
        with done:
            done.wait_for(lambda: not self._queue.unfinished_tasks, FLUSH_SECONDS)

    def close(self) -> None:
        """Write what is queued and end the thread; closing twice is harmless."""
        if self._thread.is_alive():
            self.flush()
            try:
                self._queue.put_nowait(None)
            except Full:
                return  # nobody reads: the thread ends with the process
            self._thread.join(FLUSH_SECONDS)
        super().close()

    def _run(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):
                self.bound.left_out += 1  # the reader is gone
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is written."""
        return record.levelno >= logging.CRITICAL or self.bound.admits(_key(record), monotonic())

    def tell_what_was_left_out(self) -> None:
        """Write a line for each window that is over and left lines out."""
        for event, count in self.bound.take_left_out(monotonic()):
            LINES_LEFT_OUT.say(count=count, event=event, seconds=WINDOW_SECONDS)


def _key(record: logging.LogRecord) -> tuple[str, str]:
    event = getattr(record, "event", None)
    if not isinstance(event, Event):
        return record.name, str(record.msg)
    fields: dict[str, Any] = getattr(record, "fields", {})
    return event.name, str(fields[event.key]) if event.key else ""


class TextFormatter(logging.Formatter):
    """``2024-05-01 12:00:00.123 INFO     node 1: words``; a traceback follows on further lines."""

    def __init__(self, node_id: int) -> None:
        super().__init__(f"%(asctime)s %(levelname)-8s node {node_id}: %(message)s")
        self.default_msec_format = "%s.%03d"


class JsonFormatter(logging.Formatter):
    """One JSON object per line; a traceback is part of ``words``."""

    def __init__(self, node_id: int) -> None:
        super().__init__("%(message)s")
        self._node_id = node_id

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        event = getattr(record, "event", None)
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "node": self._node_id,
            "event": event.name if isinstance(event, Event) else "other",
            "words": super().format(record),
        }
        for name, value in getattr(record, "fields", {}).items():
            line.setdefault(name, value if isinstance(value, _PLAIN) else str(value))
        return json.dumps(line, separators=(",", ":"), default=str)


def configure_logging(settings: NodeSettings) -> EventHandler:
    """One line per event on standard error; gives the handler, which must be told the time."""
    handler = EventHandler()
    formatters = {"text": TextFormatter, "json": JsonFormatter}
    handler.setFormatter(formatters[settings.log_format](settings.node_id))
    for name in ("quorate", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(settings.log_level.upper())
        logger.propagate = False
    return handler
