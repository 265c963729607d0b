"""The turn: whatever arrived since the last one is decided together and carried out together.

    clients' bytes, ticks       ->  server  ->  wake()         (any number of times in a round)
    call_soon                   ->  take()  ->  carry out      (once)
    peers' bytes, "durable"     ->  server  ->  wake_if_due()  (a turn at once, if one is due)

The order inside a turn is the order that costs least time and keeps every promise (the table in
``consensus/engine.py``). With something to store: other nodes first, because their disks work while
ours does; then our disk; then clients, who go before the disk where the loop may wait for it.
With nothing to store: clients, then other nodes. Nothing here decides anything.

Invariants:
    * at most one turn is scheduled
    * one transport write per peer and per connection in a turn
    * the loop waits for the disk only for a few bytes that everything else waits for, on a disk
      that was quick (``DiskThread.try_persist_now``); a leader's among others never does
    * once ``fatal`` was seen nothing more is carried out: no wrong byte leaves this process
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from quorate.consensus.engine import ConfigurationInForce, MembershipAnswer
from quorate.consensus.entry import SnapshotMeta
from quorate.node.client_listener import ClientListener
from quorate.node.clock import Clock
from quorate.node.disk_thread import DiskThread
from quorate.node.events import SNAPSHOT_INSTALLED
from quorate.node.measures import BatchTimer, Measures
from quorate.node.memory import loading
from quorate.node.ports import Server, Store, Turn
from quorate.node.read_ahead import read_ahead
from quorate.node.snapshot_thread import SnapshotThread

TICK_SECONDS = 0.010
ANNOUNCE_SECONDS = 0.001


class Peers(Protocol):
    """Where messages for other nodes go."""

    def send(self, sends: list[tuple[int, int, bytes]]) -> None:
        """Ship a turn's messages; those to nodes without a link are dropped."""


class Membership(Protocol):
    """Who must know of changes of membership."""

    def configured(self, now: ConfigurationInForce) -> None:
        """These are the members from now on."""

    def answered(self, answer: MembershipAnswer) -> None:
        """A change that was asked for got so far."""


class Driver:
    """Asks the server for turns and carries them out.

    Args:
        server: decides.
        clock: monotonic and wall time.
        stop: called with the reason when the server must not go on.
        looks: tell the server the time of each turn, for leases.
        measures: where turns, batches and late ticks are counted.
        tell: called with turns that have something for the log.
    """

    def __init__(
        self,
        server: Server,
        clock: Clock,
        stop: Callable[[str], None],
        *,
        looks: bool = False,
        measures: Measures | None = None,
        tell: Callable[[Turn], None] = lambda _: None,
    ) -> None:
        self._server = server
        self._clock = clock
        self._stop = stop
        self._measures = measures or Measures()
        self._batches = BatchTimer(self._measures.commit)
        self._tell = tell
        self._due_seconds = 0.0
        self._looks = looks
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._stopped = False
        self._announce_due = False
        self._announce_armed = False
        self._ticker: asyncio.TimerHandle | None = None
        self._clients: ClientListener
        self._peers: Peers
        self._disk: DiskThread
        self._snapshots: SnapshotThread
        self._store: Store
        self._membership: Membership

    def connect(
        self,
        *,
        clients: ClientListener,
        peers: Peers,
        disk: DiskThread,
        snapshots: SnapshotThread,
        store: Store,
        membership: Membership,
    ) -> None:
        """Say where effects go; once, before ``start``. They know ``wake``, so they come later."""
        self._clients = clients
        self._peers = peers
        self._disk = disk
        self._snapshots = snapshots
        self._store = store
        self._membership = membership

    def start(self) -> None:
        """Begin to tick."""
        self._due_seconds = monotonic()
        self._tick()

    def stop(self) -> None:
        """No further turns."""
        self._stopped = True
        if self._ticker is not None:
            self._ticker.cancel()

    def wake(self) -> None:
        """Something happened: take a turn after everything else that is ready now."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def wake_if_due(self) -> None:
        """Something happened that often decides nothing: take a turn if it did, and at once.

        Messages of peers and news of the disk come in batches already; waiting for the end of the
        loop's round would only make every client wait longer.
        """
        if not self._scheduled and not self._server.is_quiet():
            self._turn()

    def _tick(self) -> None:
        now = monotonic()
        self._measures.loop_delay.observe(max(0.0, now - self._due_seconds))
        self._due_seconds = now + TICK_SECONDS
        self._ticker = self._loop.call_later(TICK_SECONDS, self._tick)
        self._server.tick(self._clock.now_ms(), self._clock.wall_ms())
        self.wake()

    def _turn(self) -> None:
        self._scheduled = False
        if self._stopped:
            return
        while self._carry_out(self._take()):
            """Small steps became durable on the spot: what waited for them goes out now."""

    def _take(self) -> Turn:
        if self._looks:  # after everything that came in, or a lease could be judged by an old time
            self._server.look(self._clock.now_ms())
        return self._server.take()

    def _carry_out(self, turn: Turn) -> bool:
        """Carry one turn out; True when its persistence is done already."""
        if turn.fatal is not None:
            self.stop()
            self._stop(turn.fatal)
            return False
        self._measures.turns += 1
        if turn.submitted:
            self._batches.submitted(turn.submitted, monotonic())
        if turn.results:
            self._batches.applied(turn.results[-1][0], monotonic())
        if turn.configuration is not None:  # says where ``sends`` go
            self._membership.configured(turn.configuration)
        is_durable = False
        if not turn.persists:
            self._answer(turn)
            if turn.sends:
                self._peers.send(turn.sends)
        else:
            self._announce_due = False
            if turn.sends:
                self._peers.send(turn.sends)
            if turn.may_wait_for_disk:
                self._answer(turn)
                is_durable = self._persist_now(turn)
            else:
                self._submit(turn)
                self._answer(turn)
        self._carry_out_the_rare(turn)
        self._clients.end_turn()
        if turn.announce_soon:
            self._announce_soon()
        if turn.again:
            self.wake()
        return is_durable

    def _submit(self, turn: Turn) -> None:
        for step in turn.persists:
            self._disk.submit(step)

    def _persist_now(self, turn: Turn) -> bool:
        """Make it durable on the spot where that is quick; else the thread does it."""
        if self._disk.try_persist_now(turn.persists):
            self._server.persisted(turn.persists[-1].sequence)
            return not self._server.is_quiet()
        self._submit(turn)
        return False

    def _announce_soon(self) -> None:
        self._announce_due = True
        if not self._announce_armed:
            self._announce_armed = True
            self._loop.call_later(ANNOUNCE_SECONDS, self._announce)

    def _announce(self) -> None:
        self._announce_armed = False
        if self._announce_due and not self._stopped:
            self._announce_due = False
            self._server.announce()
            self.wake()

    def _answer(self, turn: Turn) -> None:
        clients = self._clients
        for conn, data in turn.writes:
            clients.write(conn, data)

    def _carry_out_the_rare(self, turn: Turn) -> None:
        """What most turns have nothing of."""
        clients = self._clients
        for answer in turn.membership:
            self._membership.answered(answer)
        for conn in turn.closings:
            clients.close(conn)
        for conn in turn.pauses:
            clients.pause(conn)
        for conn in turn.resumes:
            clients.resume(conn)
        if turn.abandon_snapshot:
            self._snapshots.cancel()
        if turn.install is not None:
            self._install(turn.install)
        for request in turn.read_snapshot:
            self._snapshots.read(request)
        if turn.save_snapshot is not None:
            self._snapshots.save(turn.save_snapshot)
        if turn.leadership is not None or turn.role_changes or turn.goodbyes:
            self._tell(turn)

    def _install(self, meta: SnapshotMeta) -> None:
        assert not self._snapshots.is_saving  # of a state that is about to be replaced
        begin = monotonic()
        with loading():
            self._server.install(meta, read_ahead(self._store.open_snapshot(meta)))
        seconds = monotonic() - begin
        self._measures.snapshot_load.observe(seconds)
        SNAPSHOT_INSTALLED.say(index=meta.index, milliseconds=round(seconds * 1000))
        self.wake()
