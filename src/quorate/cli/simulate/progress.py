"""What moves on a terminal while seeds are tried and scenarios shrink; nothing anywhere else.

It goes to standard error, so that standard output holds the same with and without a terminal.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

from quorate.cli.simulate.report import Tally, counts, speed_words
from quorate.simulation.shrink import Shrunk


class Bar:
    """How many seeds are done, and how fast; a context manager.

    Args:
        seeds: how many there are.
        quiet: show nothing.
    """

    def __init__(self, seeds: int, *, quiet: bool) -> None:
        self._progress: Any = None
        self._start = time.monotonic()
        if quiet or seeds == 1 or not sys.stderr.isatty():
            return
        from rich import console, progress  # noqa: PLC0415 - not needed without a terminal

        self._progress = progress.Progress(
            progress.BarColumn(bar_width=24),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.description}"),
            progress.TimeRemainingColumn(compact=True),
            console=console.Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("", total=seeds)

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, tally: Tally) -> None:
        """One more is done."""
        if self._progress is not None:
            words = speed_words(tally, time.monotonic() - self._start)
            if tally.failures:
                words += f", {len(tally.failures)} violated"
            self._progress.update(self._task, completed=len(tally.digests), description=words)


class ShrinkLine:
    """How small it is by now, in one line that is written over and over; a context manager."""

    def __init__(self, *, quiet: bool) -> None:
        self._is_on = not quiet and sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_on:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def show(self, state: Shrunk) -> None:
        """One more run."""
        if self._is_on:
            sys.stderr.write(f"\r\x1b[Krun {state.runs}: {counts(state.scenario)}")
            sys.stderr.flush()
