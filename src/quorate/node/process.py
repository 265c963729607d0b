"""A node's life: open the store, make the server, run the loop, stop.

Exit codes (``quorate serve --help`` lists them too):

    0  stopped cleanly, on SIGTERM or SIGINT
    2  a setting is wrong, or an address cannot be bound
    3  a rule that can never break was broken: a bug; nothing wrong was sent, keep the directory
    4  the disk failed or its data is damaged
    5  the data directory is foreign, copied or wiped; restarting will not help
    6  nobody let this node join; nothing happened, trying later may help
    7  this node was removed from its cluster; restarting will not help

What goes wrong in here is said once, in one line that tells what to do, on standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from quorate.errors import NoQuorum, QuorateError, SettingsError, StorageError, WrongDirectory
from quorate.node import memory
from quorate.node.beginning import JOINED, Beginning, begin_again, begin_joined, begin_new
from quorate.node.event_log import EventHandler, configure_logging
from quorate.node.events import NODE_FAILED
from quorate.node.joining import ask_permission
from quorate.node.security import Security
from quorate.node.settings import NodeSettings
from quorate.storage.identity import Identity, load_identity

_T = TypeVar("_T")
EXIT_CLEAN = 0
EXIT_SETTINGS = 2
EXIT_INVARIANT = 3
EXIT_DISK = 4
EXIT_DIRECTORY = 5
RESTART = -1
"""Not an exit code: the same process begins anew."""
EXIT_NOT_JOINED = 6
EXIT_REMOVED = 7


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
        code = _run(settings, stop_with_stdin, handler)
        if code == RESTART:
            logging.shutdown()
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves
        return code
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
    if isinstance(error, NoQuorum):
        return EXIT_NOT_JOINED
    return EXIT_INVARIANT


def _run(settings: NodeSettings, stop_with_stdin: bool, handler: EventHandler) -> int:
    from quorate.node.assemble import open_store  # noqa: PLC0415 - after logging works
    from quorate.storage.real_disk import RealDisk  # noqa: PLC0415

    # Before anything is touched.
    security = Security(settings.tls, settings.node_id, settings.dialled_address)
    disk, directory_id = RealDisk(settings.data), secrets.token_bytes(16)
    beginning = _begin(settings, load_identity(disk), directory_id, security)
    memory.begin_loading()
    store, recovered = open_store(settings, disk, beginning, directory_id)
    try:

        async def life() -> int:
            from quorate.node.node import Node  # noqa: PLC0415 - needs the loop

            node = Node(
                settings,
                store,
                recovered,
                beginning,
                security,
                stop_with_stdin=stop_with_stdin,
                log=handler,
            )
            memory.begin_serving()
            return await node.run()

        return _run_loop(life)
    finally:
        store.close()


def _begin(
    settings: NodeSettings, identity: Identity | None, directory_id: bytes, security: Security
) -> Beginning:
    """What this node starts from; a new node that joins asks first."""
    if identity is None and settings.join:
        asking = security.peers.asking
        return begin_joined(
            settings, _run_loop(lambda: ask_permission(settings, directory_id, asking))
        )
    if identity is None:
        return begin_new(settings)
    beginning = begin_again(settings, identity)
    if settings.join and beginning.founding != JOINED:
        raise WrongDirectory(
            f"--join needs an empty data directory, but {settings.data} is that of node "
            f"{identity.node_id}, one of the first members of cluster {identity.cluster_id.hex()}: "
            "start it without --join, or give a new node a directory of its own"
        )
    return beginning


def _run_loop(life: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run on uvloop where it is installed, else on asyncio."""
    factory = None
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 - optional

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(life())


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
