"""Looks at the running node from inside its loop: is it on time, is the disk, are the members?

Ten times a second something cheap, once a second something thorough; the results are events,
measures and the report to the service manager. It decides nothing and changes nothing.

The report "alive" is given only when the driver has taken turns since the last one: a loop that
runs but does not decide any more is as dead as one that does not run.

Invariant: when the loop is blocked, nothing here runs: no report is given for a node that hangs.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from time import monotonic
from typing import Any

from quorate.node.clock import Clock
from quorate.node.disk_watch import DiskWatch
from quorate.node.event_log import EventHandler
from quorate.node.events import LOOP_BLOCKED
from quorate.node.measures import Measures
from quorate.node.member_watch import MemberWatch
from quorate.node.service_manager import ServiceManager
from quorate.node.space_watch import SpaceWatch

LOOK_SECONDS = 0.1
LOOKS_PER_THOROUGH = 10


class Watch:
    """Looks at a node until it is stopped.

    Args:
        health: the server's picture of leadership and members.
        measures: turns are read, pauses of garbage collection are counted.
        disk: looked at for a write that hangs.
        space: looked at for the space that is left.
        manager: told how the node is.
        log: told the time, so that it can say what it left out; None in tests.
        late_ms: a loop that comes later than this is an event.
    """

    def __init__(
        self,
        *,
        health: Callable[[], dict[str, Any]],
        measures: Measures,
        disk: DiskWatch,
        space: SpaceWatch,
        manager: ServiceManager,
        log: EventHandler | None,
        late_ms: int,
    ) -> None:
        self._health = health
        self._measures = measures
        self._disk = disk
        self._space = space
        self._manager = manager
        self._log = log
        self._late_seconds = late_ms / 1000
        self._members = MemberWatch()
        self._clock = Clock()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due_seconds = 0.0
        self._looks = 0
        self._alive_turns = -1
        self._alive_due_seconds = 0.0
        self._collection_begun = 0.0

    def start(self) -> None:
        """Begin to look."""
        gc.callbacks.append(self._on_collection)
        self._due_seconds = monotonic()
        self._look()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)

    def _look(self) -> None:
        now = monotonic()
        late = now - self._due_seconds
        if late > self._late_seconds:
            LOOP_BLOCKED.say(milliseconds=round(late * 1000))
        self._due_seconds = now + LOOK_SECONDS
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
        self._disk.look()
        self._space.look()
        self._report_alive(now)
        self._looks += 1
        if self._looks % LOOKS_PER_THOROUGH == 1:
            self._look_thoroughly()

    def _report_alive(self, now: float) -> None:
        """Report at most four times per interval of the watchdog, and only after progress."""
        turns = self._measures.turns
        if turns != self._alive_turns and now >= self._alive_due_seconds:
            self._alive_turns = turns
            self._alive_due_seconds = now + self._manager.watchdog_seconds / 4
            self._manager.alive()

    def _look_thoroughly(self) -> None:
        health = self._health()
        for event, fields in self._members.look(health, self._clock.now_ms()):
            event.say(**fields)
        self._manager.status(describe(health))
        if self._log is not None:
            self._log.tell_what_was_left_out()

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:  # noqa: ARG002 - gc's own
        if phase == "start":
            self._collection_begun = monotonic()
        elif self._collection_begun:
            self._measures.gc_pause.observe(monotonic() - self._collection_begun)


def describe(health: dict[str, Any]) -> str:
    """One line for people: what this node is, and how safe the cluster is."""
    if not health["serving"]:
        return f"does not serve: {health['why_not_serving']}"
    if health["disk_full"]:
        return "serves reads and refuses writes: the disk is full"
    if health["failures_tolerated"] is None:
        return f"follows node {health['leader']} in epoch {health['epoch']}"
    return (
        f"leads epoch {health['epoch']}; the cluster tolerates {health['failures_tolerated']} more "
        f"of {health['failures_tolerated_when_whole']} failures"
    )
