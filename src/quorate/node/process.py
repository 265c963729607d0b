"""A node's life: open the store, make the server, run the loop, stop.

Exit codes (``quorate serve --help`` lists them too):

    0  stopped cleanly, on SIGTERM or SIGINT
    2  a setting is wrong, or an address cannot be bound
    3  a rule that can never break was broken: a bug; nothing wrong was sent, keep the directory
    4  the disk failed or its data is damaged
    5  the data directory is foreign, copied or wiped; restarting will not help

What goes wrong in here is said once, in one line that tells what to do, on standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from quorate.errors import QuorateError, SettingsError, StorageError, WrongDirectory
from quorate.node.event_log import EventHandler, configure_logging
from quorate.node.events import NODE_FAILED
from quorate.node.settings import NodeSettings

EXIT_CLEAN = 0
EXIT_SETTINGS = 2
EXIT_INVARIANT = 3
EXIT_DISK = 4
EXIT_DIRECTORY = 5

# Long-lived containers (znodes, sessions, entries) make full collections long and useless:
# nothing of ours leaks by cycles. Rare collections keep the safety net.
_GC_THRESHOLDS = (50_000, 20, 50)


def run_node(settings: NodeSettings, *, stop_with_stdin: bool = False) -> int:
    """Run one node until it stops; returns the exit code.

    Args:
        settings: complete and checked.
        stop_with_stdin: stop cleanly when standard input ends. Whoever starts nodes keeps the
            other end of that pipe, so that they never outlive it, however it dies.
    """
    if not __debug__:
        sys.stderr.write(
            "quorate: refuses to run under python -O or PYTHONOPTIMIZE: assertions guard the "
            "data; start python without it\n"
        )
        return EXIT_SETTINGS
    handler = configure_logging(settings)
    try:
        return _run(settings, stop_with_stdin, handler)
    except QuorateError as error:
        NODE_FAILED.say(reason=str(error))
        return exit_code(error)
    except OSError as error:
        NODE_FAILED.say(reason=f"cannot start: {error}")
        return EXIT_SETTINGS


def exit_code(error: BaseException) -> int:
    """Which exit code an error deserves."""
    if isinstance(error, WrongDirectory):
        return EXIT_DIRECTORY
    if isinstance(error, StorageError):
        return EXIT_DISK
    if isinstance(error, SettingsError):
        return EXIT_SETTINGS
    return EXIT_INVARIANT


def _run(settings: NodeSettings, stop_with_stdin: bool, handler: EventHandler) -> int:
    from quorate.node.assemble import open_store  # noqa: PLC0415 - after logging works

    store, recovered = open_store(settings)
    try:

        async def life() -> int:
            from quorate.node.node import Node  # noqa: PLC0415 - needs the loop

            node = Node(settings, store, recovered, stop_with_stdin=stop_with_stdin, log=handler)
            _settle_memory()
            return await node.run()

        return _run_loop(life)
    finally:
        store.close()


def _run_loop(life: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run on uvloop where it is installed, else on asyncio."""
    factory = None
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 - optional

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(life())


def _settle_memory() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def quit_at_once() -> None:
    """The second signal: no drain, no hand-over. Safe, because a crash is safe."""
    logging.shutdown()
    os._exit(1)


def process_age_seconds() -> float:
    """Seconds since this process was started, as the kernel counts; 0 where it does not tell."""
    try:
        with open("/proc/self/stat", "rb") as stat:  # noqa: PTH123 - read once, at start
            ticks = int(stat.read().rpartition(b")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return 0.0
