"""One running node: listeners, links and threads around the pure server; its start and its stop.

Start: threads, then listeners (other nodes first), then links to the others, then the clock.
Stop (SIGTERM): take no new clients, hand leadership over, read no more requests, answer those
that were read, close, flush. Clients find their connection closed and move to another node with
their session; nothing they were told is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from quorate import __version__
from quorate.consensus.entry import Persist, Recovered
from quorate.errors import CorruptData, DiskFull, QuorateError
from quorate.node import events, process
from quorate.node.admin import AdminPages
from quorate.node.admin_cluster import ClusterPages, why_not
from quorate.node.assemble import make_hello, make_server
from quorate.node.beginning import Beginning, check_listed, located_by
from quorate.node.client_listener import ClientBounds, ClientListener
from quorate.node.clock import Clock
from quorate.node.cluster_desk import ClusterDesk
from quorate.node.disk_thread import DiskThread
from quorate.node.disk_watch import DiskWatch
from quorate.node.driver import Driver
from quorate.node.event_log import EventHandler
from quorate.node.joining import Joiner
from quorate.node.measures import Measures
from quorate.node.members import Members
from quorate.node.metric_catalogue import METRICS, Picture
from quorate.node.metrics import render
from quorate.node.peer_identity import PeerChecks
from quorate.node.peer_network import PeerNetwork
from quorate.node.process_figures import look_at_process
from quorate.node.readiness import why_not_ready
from quorate.node.scrub_thread import ScrubThread
from quorate.node.security import Security
from quorate.node.service_manager import ServiceManager
from quorate.node.settings import NodeSettings, describe
from quorate.node.snapshot_pages import SnapshotPages
from quorate.node.snapshot_thread import SnapshotThread
from quorate.node.space_watch import SpaceWatch
from quorate.node.tell import Teller
from quorate.node.units import Address
from quorate.node.watch import Watch
from quorate.protocol.peer import Hello
from quorate.storage.store import Store

_RESERVED_DESCRIPTORS = 128  # log, snapshots, links, listeners, admin
_BACKLOG = 1024
_POLL_SECONDS = 0.005


class _Outcome(NamedTuple):
    exit_code: int
    words: str


class Node:
    """One node on the running event loop.

    Args:
        settings: complete and checked.
        store: opened; the caller closes it.
        recovered: what the store held.
        beginning: which cluster, and where this node listens for its members.
        security: TLS, its files loaded.
        stop_with_stdin: stop when standard input ends.
        log: where lines go; told the time, and asked what it left out.

    Raises:
        WrongDirectory: ``--cluster`` names strangers only.
    """

    def __init__(
        self,
        settings: NodeSettings,
        store: Store,
        recovered: Recovered,
        beginning: Beginning,
        security: Security,
        *,
        stop_with_stdin: bool,
        log: EventHandler | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._recovered_entries = len(recovered.entries)
        self._security = security
        self._stop_with_stdin = stop_with_stdin
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[_Outcome] = self._loop.create_future()
        self._listeners: list[asyncio.Server] = []
        self._troubles = 0  # of sockets, outside any connection: no descriptors left, and so on
        self._is_stopping = False
        self._log = log
        clock = Clock()
        server = make_server(settings, store, recovered, beginning, clock)
        self._server = server
        if words := check_listed(settings, beginning, server.configuration()):
            events.CLUSTER_DIFFERS.say(words=words)
        beginning = located_by(beginning, settings.node_id, server.configuration())
        self._beginning = beginning
        self._measures = measures = Measures()
        self._driver = driver = Driver(
            server,
            clock,
            self._broken,
            looks=settings.reads == "lease",
            measures=measures,
            tell=Teller(settings.node_id).tell,
        )
        self._clients = ClientListener(server, driver.wake, _client_bounds(settings))
        self._damage = recovered.damage
        self._make_threads()
        self._manager = ServiceManager(os.environ, os.getpid())
        self._watch = self._make_watch()
        own = make_hello(settings, store, beginning)
        self._desk = self._make_desk(own)
        self._members = Members(
            node_id=settings.node_id,
            server=server,
            beginning=beginning,
            desk=self._desk,
            joiner=Joiner(settings, own, self.status, self._not_joined, security.peers.asking),
            removed=self._was_removed,
        )
        self._peers = PeerNetwork(
            server=server,
            wake=driver.wake_if_due,
            checks=PeerChecks(own, store.check_peer),
            addresses=self._members.addresses(),
            buffer_bytes_max=settings.peer_buffer_bytes_max,
            wrong_directory=self._wrong_directory,
            answer=self._desk.answer,
            security=security.peers,
        )
        self._members.connect(self._peers)
        driver.connect(
            clients=self._clients,
            peers=self._peers,
            disk=self._disk,
            snapshots=self._snapshots,
            store=store,
            membership=self._members,
        )

    def _make_threads(self) -> None:
        """Log, snapshots and scrubbing each have a thread; none is started yet."""
        store, settings, measures = self._store, self._settings, self._measures
        post = self._loop.call_soon_threadsafe
        self._disk_watch = DiskWatch(self._persist, measures, settings.slow_disk_ms)
        self._disk = DiskThread(
            self._disk_watch.persist, post, self._durable, self._disk_failed, store.has_room
        )
        self._snapshots = SnapshotThread(
            store,
            post,
            self._server,
            self._driver.wake,
            self._disk_failed,
            self._loop.call_later,
            measures,
        )
        self._scrubber = ScrubThread(
            store.scrub, post, self._rotten, settings.scrub_every_ms / 1000
        )

    def _make_desk(self, own: Hello) -> ClusterDesk:
        return ClusterDesk(
            server=self._server,
            wake=self._driver.wake,
            own=own,
            founders=dict(self._beginning.founders),
            directory_of=lambda node: dict(self._store.identity.peers).get(node),
            status=self.status,
            election_timeout_ms=self._settings.election_timeout_ms,
            secured=self._security.peers.asking,
        )

    def _make_watch(self) -> Watch:
        return Watch(
            health=self._server.health,
            measures=self._measures,
            disk=self._disk_watch,
            space=SpaceWatch(
                self._store.free_bytes,
                self._settings.disk_reserve_bytes,
                self._space_changed,
                self._disk_failed,
            ),
            manager=self._manager,
            log=self._log,
            late_ms=self._settings.election_timeout_ms // 2,
        )

    async def run(self) -> int:
        """Run until told to stop or unable to go on; returns the exit code."""
        self._loop.set_exception_handler(self._unexpected)
        self._disk.start()
        self._snapshots.start()
        if self._settings.scrub_every_ms:
            self._scrubber.start()
        await self._listen()
        self._watch_signals()
        self._peers.start()
        self._driver.start()
        self._watch.start()
        self._security.start()
        self._say_hello()
        self._members.start()
        outcome = await self._outcome
        self._members.stop()
        if outcome.exit_code in (process.EXIT_CLEAN, process.EXIT_REMOVED, process.RESTART):
            self._is_stopping = True
            if outcome.exit_code != process.RESTART:  # to a service manager nothing stops then
                self._manager.stopping()
            events.NODE_STOPPING.say(reason=outcome.words)
            await self._drain()
        else:
            events.NODE_FAILED.say(reason=outcome.words)
            self._clients.abort_all()
        self._close()
        events.NODE_STOPPED.say(exit_code=outcome.exit_code)
        return outcome.exit_code

    def status(self) -> dict[str, Any]:
        """The server's picture, and what only the process knows."""
        settings = self._settings
        server = self._server.status()
        return {
            **server,
            "connections_refused": server["connections_refused"] + self._clients.refused,
            "version": __version__,
            "pid": os.getpid(),
            "data": str(settings.data),
            "listen": str(settings.listen or "none"),
            "client_tls_listen": str(settings.tls.client_tls_listen or "none"),
            "tls": self._security.status(),
            "peer_listen": str(self._beginning.peer_listen or ""),
            "cluster_id": self._beginning.cluster_id.hex(),
            "cluster": {
                str(node): str(address) for node, address in sorted(self._desk.addresses().items())
            },
            "incarnation": self._store.identity.incarnation,
            "linked": self._peers.linked(),
            "peer_versions": self._peers.versions(),
        }

    def metrics(self) -> str:
        """The page for Prometheus: everything is read now."""
        settings = self._settings
        picture = Picture(
            status=self.status(),
            store=self._store.statistics(),
            measures=self._measures,
            disk=self._disk_watch,
            process=look_at_process(settings.data),
            peers=tuple(self._members.addresses()),
            lines_left_out=self._log.bound.left_out if self._log is not None else 0,
        )
        return render(METRICS, picture)

    def why_not_ready(self) -> str:
        """Why no client should be sent here, in words; empty when they may be."""
        if self._is_stopping:
            return "this node is stopping"
        disk = self._disk_watch
        return why_not_ready(
            self._server.health(),
            peers=self._members.addresses(),
            linked=self._peers.linked(),
            disk_busy_seconds=disk.busy_seconds if disk.is_stalled else 0.0,
        )

    # ---- start ---------------------------------------------------------------------------------

    async def _listen(self) -> None:
        settings = self._settings
        peer_listen = self._beginning.peer_listen
        if peer_listen is not None:
            await self._listen_on("--peer-listen", peer_listen, self._peers.connect)
        if settings.admin_listen is not None:
            refusal = why_not(settings.admin_changes, settings.admin_listen)
            cluster = ClusterPages(self._desk.answer, refusal)
            pages = AdminPages(self.status, self.why_not_ready, self.metrics, cluster)
            cluster_id = self._store.identity.cluster_id.hex()
            pages.more["/snapshot"] = SnapshotPages(
                self._store, self._ask_for_snapshot, cluster_id, settings.node_id
            ).answer
            connect, admin = pages.connect, self._security.admin
            await self._listen_on(
                "--admin-listen", settings.admin_listen, admin.secure(connect) if admin else connect
            )
        clients, address = self._security.clients, settings.tls.client_tls_listen
        if clients is not None and address is not None:
            await self._listen_on(
                "--client-tls-listen", address, clients.secure(self._clients.connect)
            )
        if settings.listen is not None:
            await self._listen_on("--listen", settings.listen, self._clients.connect)

    async def _listen_on(
        self, flag: str, address: Address, connect: Callable[[], asyncio.Protocol]
    ) -> None:
        try:
            listener = await self._loop.create_server(
                connect, address.host, address.port, backlog=_BACKLOG
            )
        except OSError as error:
            raise OSError(
                f"cannot listen on {flag} {address}: {error.strerror or error}; stop whoever uses "
                "it or choose another"
            ) from None
        self._listeners.append(listener)

    def _watch_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._signalled, signal.Signals(number).name)
        if self._security.is_used:
            self._loop.add_signal_handler(signal.SIGHUP, self._security.reload)
        if self._stop_with_stdin:
            self._loop.add_reader(sys.stdin.fileno(), self._stdin_ended)

    def _say_hello(self) -> None:
        settings = self._settings
        events.NODE_STARTED.say(
            version=__version__,
            listen=_client_addresses(settings),
            milliseconds=round(process.process_age_seconds() * 1000),
            data=settings.data,
            peer_listen=self._beginning.peer_listen or "none",
            admin_listen=settings.admin_listen or "none",
            incarnation=self._store.identity.incarnation,
            entries=self._recovered_entries,
            loop=type(self._loop).__module__.partition(".")[0],
        )
        in_force = describe(settings)
        words = ", ".join(f"{key} {value}" for key, value in in_force.items())
        events.SETTINGS_IN_FORCE.say(settings=words, in_force=in_force)
        if self._damage is not None:
            events.DISK_DAMAGED.say(damage=self._damage.words)
        self._manager.ready()

    # ---- what ends a node ----------------------------------------------------------------------

    def _finish(self, code: int, words: str) -> None:
        if not self._outcome.done():
            self._outcome.set_result(_Outcome(code, words))

    def _signalled(self, name: str) -> None:
        if self._outcome.done():
            events.QUITTING.say(signal=name)
            process.quit_at_once()
        self._finish(process.EXIT_CLEAN, name)

    def _stdin_ended(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            self._loop.remove_reader(sys.stdin.fileno())
            self._finish(process.EXIT_CLEAN, "whoever started this node is gone")

    def _broken(self, words: str) -> None:
        self._finish(process.EXIT_INVARIANT, f"{words}; this node stops rather than be wrong")

    def _wrong_directory(self, words: str) -> None:
        self._driver.stop()
        self._finish(process.EXIT_DIRECTORY, words)

    def _ask_for_snapshot(self) -> int:
        if self._server.health()["disk_full"]:
            raise DiskFull("the disk of this node is full: no snapshot is taken here; ask another")
        index = self._server.ask_for_snapshot()
        self._driver.wake()
        return index

    def _rotten(self, damage: CorruptData) -> None:
        """The disk rots where nobody looked: start again, and let the others bring it back."""
        if self._peers.linked():
            events.DISK_ROTS.say(damage=damage)
            self._finish(process.RESTART, "to be repaired")
        else:
            events.DISK_ROTS_ALONE.say(damage=damage)

    def _persist(self, steps: list[Persist]) -> None:
        """Make steps durable, and say it when the last damage is repaired."""
        self._store.persist(steps)
        if self._damage is not None and any(step.is_repaired for step in steps):
            self._damage = None
            events.DISK_REPAIRED.say()

    def _was_removed(self, words: str) -> None:
        self._finish(process.EXIT_REMOVED, words)

    def _not_joined(self, error: QuorateError) -> None:
        self._finish(process.exit_code(error), str(error))

    def _durable(self, sequence: int) -> None:
        self._server.persisted(sequence)
        self._driver.wake_if_due()

    def _space_changed(self, is_full: bool) -> None:
        self._server.disk_space(is_full=is_full)
        self._driver.wake()

    def _disk_failed(self, error: BaseException) -> None:
        self._driver.stop()
        details = "".join(traceback.format_exception(error)) if _is_a_bug(error) else str(error)
        self._finish(process.exit_code(error), f"the disk cannot be used any more: {details}")

    def _unexpected(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Whatever a callback raised. Trouble of a socket is weather; the rest is a bug."""
        error = context.get("exception")
        if error is None or isinstance(error, OSError):
            self._troubles += 1
            what = context.get("message")
            events.SOCKET_TROUBLE.say(what=what, error=error, count=self._troubles)
            return
        self._driver.stop()
        details = "".join(traceback.format_exception(error))
        self._finish(process.exit_code(error), f"{context.get('message')}\n{details}")

    # ---- stop ----------------------------------------------------------------------------------

    async def _drain(self) -> None:
        deadline = self._loop.time() + self._settings.drain_timeout_ms / 1000
        for listener in self._listeners:
            listener.close()
        voters = set(self._server.configuration().voters)
        if voters - {self._settings.node_id} and self._server.status()["role"] == "leader":
            self._server.transfer_leadership()
            self._driver.wake()
            await self._wait_until(self._is_succeeded, deadline)
        self._clients.pause_all()
        await self._wait_until(self._is_answered, deadline)
        self._clients.close_all()
        await self._wait_until(lambda: not len(self._clients), deadline)
        self._clients.abort_all()

    def _is_succeeded(self) -> bool:
        """Whether another node leads and this one knows it, or nobody is left to lead."""
        if self._server.status()["leader"] not in (0, self._settings.node_id):
            events.HANDED_OVER.say(leader=self._server.status()["leader"])
            return True
        return self._is_without_quorum()

    def _is_answered(self) -> bool:
        """Whether every request read is answered, or cannot be any more."""
        return not self._server.status()["pending_bytes"] or self._is_without_quorum()

    def _is_without_quorum(self) -> bool:
        voters = set(self._server.configuration().voters)
        reached = voters & {*self._peers.linked(), self._settings.node_id}
        return len(reached) <= len(voters) // 2

    async def _wait_until(self, condition: Callable[[], bool], deadline: float) -> bool:
        while not condition():
            if self._loop.time() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def _close(self) -> None:
        self._watch.stop()
        self._driver.stop()
        self._security.stop()
        self._scrubber.stop()
        self._peers.close()
        for listener in self._listeners:
            listener.close()
        seconds = self._settings.drain_timeout_ms / 1000
        if not self._disk.stop(seconds) or not self._snapshots.stop(seconds):
            events.DISK_UNFINISHED.say(seconds=seconds)
        self._manager.close()


def _is_a_bug(error: BaseException) -> bool:
    return process.exit_code(error) == process.EXIT_INVARIANT


def _client_addresses(settings: NodeSettings) -> str:
    tls = settings.tls.client_tls_listen
    found = [str(settings.listen)] if settings.listen is not None else []
    return " and ".join(found + ([f"{tls} with TLS"] if tls is not None else []))


def _client_bounds(settings: NodeSettings) -> ClientBounds:
    """Clients may never take the descriptors that the log and the links need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.connections_max + _RESERVED_DESCRIPTORS
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = max(1, soft - _RESERVED_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and possible < settings.connections_max:
        events.FEW_DESCRIPTORS.say(allowed=soft, clients=possible, wanted=settings.connections_max)
    else:
        possible = settings.connections_max
    return ClientBounds(
        possible, settings.connections_per_address_max, settings.client_buffer_bytes_max
    )
