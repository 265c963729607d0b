"""Sessions and watches while everything fails at once, over many seeds."""

from __future__ import annotations

from typing import ClassVar

import pytest
from ensemble_stories import agree, crash_and_restart, cut_off, started
from virtual_client import RoamingClient, sync

from quorate.consensus.registry import EngineSettings
from quorate.protocol.zookeeper import EventType, OpCode
from quorate.protocol.zookeeper_client import CLOSE_SESSION, create, delete, get, set_data
from quorate.replication.turn import ReplicaSettings
from quorate.tree import session_clock, watch_requests
from quorate.tree.client import Client
from quorate.tree.server import ServerSettings
from quorate.tree.service_settings import ServiceSettings

NO_NODE, NODE_EXISTS = -101, -110
TIMEOUT_MS = 1_000
SHORT_SESSIONS = ServerSettings(
    engine=EngineSettings(election_timeout_ms=100, heartbeat_ms=20),
    replica=ReplicaSettings(resend_ms=20, digest_interval=16),
    service=ServiceSettings(session_timeout_min_ms=TIMEOUT_MS),
)
"""A node without a leader lets its clients go well within their timeout, as with the defaults."""

HOUR_MS = 3_600_000
EVENT_XID = b"\xff\xff\xff\xff"

# ---- ZK-6 --------------------------------------------------------------------------------------


class Tenant(RoamingClient):
    """A session that makes ephemerals, falls silent, comes back elsewhere, and ends some day.

    Attributes:
        mine: ephemerals whose creation was acknowledged.
        maybe: those of which it never heard.
        is_closing: closeSession was sent; nothing can be said until it is over.
    """

    def __init__(self, ensemble, node_id, number):
        self.number = number
        self.count = 0
        self.mine, self.maybe = [], {}
        self.checks = {}
        self.is_closing = False
        self.silent_until_us = 0
        self.replied_us = ensemble.world.now_us
        self.first_session = 0
        self.silence_at_refusal_us = 0
        super().__init__(ensemble, node_id, TIMEOUT_MS)

    def welcomed(self):
        super().welcomed()
        if self.is_over:
            self.silence_at_refusal_us = self.ensemble.world.now_us - self.replied_us
            return
        assert self.session_id == self.first_session or not self.first_session
        self.first_session = self.session_id
        self.replied_us = self.ensemble.world.now_us
        for path in self.mine:  # alive, so everything that is its own is there
            self.checks[self.send(get(OpCode.EXISTS, path))] = path

    def replied(self, reply):
        self.replied_us = self.ensemble.world.now_us
        if reply.xid in self.checks:
            path = self.checks.pop(reply.xid)
            assert reply.error == 0, f"{path!r} vanished before its session ended"
            assert reply.stat().ephemeral_owner == self.first_session
        elif reply.xid in self.maybe:
            assert reply.error == 0
            self.mine.append(self.maybe.pop(reply.xid))

    def act(self):
        now_us = self.ensemble.world.now_us
        self.poll()
        if self.is_over or now_us < self.silent_until_us:
            return
        self.tend()
        if self.is_over or self.connection.closed or self.is_closing:
            return
        dice = self.draw(1_000)
        if dice < 60:
            path = b"/e/%d-%d" % (self.number, self.count)
            self.count += 1
            self.maybe[self.send(create(path, flags=1))] = path
        elif dice < 90:
            self.move()
        elif dice < 98:
            if self.draw(2):
                self.ensemble.close(self.connection)
            self.silent_until_us = now_us + self.draw(2 * TIMEOUT_MS) * 1_000
        elif dice < 100:
            self.is_closing = True
            self.checks.clear()
            self.send(CLOSE_SESSION)


class Witness(RoamingClient):
    """Watches every ephemeral that it is told of, and counts what it hears."""

    def __init__(self, ensemble, node_id):
        self.gone = {}  # path -> how often it was told that it vanished
        self.asked = {}
        super().__init__(ensemble, node_id, 40_000)

    def watch(self, path):
        if path not in self.gone and not self.connection.closed:
            self.gone[path] = 0
            self.asked[self.send(get(OpCode.GET_DATA, path, watch=True))] = path

    def replied(self, reply):
        path = self.asked.get(reply.xid)
        if path is not None and reply.error == 0:
            self.watched["data"].add(path)

    def told(self, kind, path):
        assert kind == EventType.DELETED, (kind, path)
        assert path in self.watched["data"], f"told of {path!r} without a watch, or twice"
        self.watched["data"].discard(path)
        self.gone[path] += 1


def disturb(ensemble) -> None:
    """Now and then: a node crashes, is cut off, or its wall clock jumps by an hour."""
    draw = ensemble.world.draw
    dice = draw(160)
    nodes = list(ensemble.hosts)
    living = [node for node in nodes if ensemble.hosts[node].alive]
    node = living[draw(len(living))]
    if dice == 0 and len(living) == len(nodes):
        crash_and_restart(ensemble, node, 50_000 + draw(800_000))
    elif dice == 1:
        cut_off(ensemble, node)
        ensemble.world.after(draw(1_500_000), ensemble.network.heal)
    elif dice < 6:
        ensemble.hosts[node].clock.jump((draw(3) - 1) * HOUR_MS)


def sessions_under_faults(seed: int) -> tuple[int, int, int]:
    """Eight seconds of tenants under faults, then judgement.

    Returns:
        How many sessions ended, how many live, and how many ephemerals were made.
    """
    ensemble = started(seed, settings=SHORT_SESSIONS)
    witness = Witness(ensemble, ensemble.leader())
    witness.ask(create(b"/e"))
    nodes = list(ensemble.hosts)
    tenants = [Tenant(ensemble, nodes[i % 3], i) for i in range(6)]
    for _ in range(400):
        ensemble.world.run(20_000)
        disturb(ensemble)
        witness.tend()
        for tenant in tenants:
            tenant.act()
            for path in tenant.mine:
                witness.watch(path)
    agree(ensemble)
    settle_sessions(ensemble, witness, tenants)
    for tenant in tenants:
        judge(witness, tenant)
    made = sum(len(tenant.mine) for tenant in tenants)
    over = [tenant for tenant in tenants if tenant.is_over]
    return len(over), len(tenants) - len(over), made


def settle_sessions(ensemble, witness, tenants) -> None:
    """Everybody comes back once; who is not refused pings for two timeouts."""
    for tenant in tenants:
        tenant.silent_until_us = 0
    for _ in range(4 * TIMEOUT_MS // 20):
        ensemble.world.run(20_000)
        witness.tend()
        for tenant in tenants:
            tenant.tend()
            if tenant.is_closing and not tenant.is_over and tenant.connection.closed:
                tenant.move()


def judge(witness: Witness, tenant: Tenant) -> None:
    """Ephemerals are there while the session lives, and gone, once, when it is over."""
    witness.ask(sync())
    for path in tenant.mine:
        error = witness.ask(get(OpCode.EXISTS, path)).error
        if tenant.is_over:
            assert error == NO_NODE, f"{path!r} outlives its session"
            assert witness.gone.get(path, 0) <= 1
            assert path not in witness.watched["data"], f"nobody told that {path!r} vanished"
        else:
            assert error == 0, f"{path!r} vanished before its session ended"
            assert witness.gone.get(path, 0) == 0
    if tenant.is_over and not tenant.is_closing:
        silence_ms = tenant.silence_at_refusal_us // 1_000
        assert silence_ms >= TIMEOUT_MS, f"expired after a silence of only {silence_ms} ms"


@pytest.mark.parametrize("block", range(4))
def test_zk_6_ephemerals_vanish_once_and_only_with_their_session(block: int) -> None:
    """ZK-6: expiry races with returning, creating, closing, moving and clocks that jump."""
    outcomes = [sessions_under_faults(seed) for seed in range(block * 4, block * 4 + 4)]
    over, alive, made = (sum(column) for column in zip(*outcomes, strict=True))
    assert over > 4
    assert alive > 0
    assert made > 40


@pytest.mark.parametrize("seed", range(6))
def test_zk_6_session_that_has_ended_does_nothing_more_on_any_node(seed: int) -> None:
    """ZK-6: what it had under way, and what it sends later, has no effect."""
    ensemble = started(seed, settings=SHORT_SESSIONS)
    witness = RoamingClient(ensemble, ensemble.leader(), 40_000)
    witness.ask(create(b"/x", b"0"))
    tenant = RoamingClient(ensemble, 1 + seed % 3, TIMEOUT_MS)
    tenant.ready()
    session, password = tenant.session_id, tenant.password
    for number in range(20):
        tenant.send(set_data(b"/x", b"%d" % number))
    if seed % 2:
        ensemble.close(tenant.connection)
    for _ in range(3 * TIMEOUT_MS // 10):
        ensemble.world.run(10_000)
        witness.tend()
    version = witness.ask(get(OpCode.EXISTS, b"/x")).stat().version
    if seed % 2 == 0:
        tenant.send(set_data(b"/x", b"late"))
    for node in ensemble.hosts:
        tenant.session_id, tenant.password, tenant.is_over = session, password, False
        tenant.attach(node)
        tenant.send(set_data(b"/x", b"later"))
        ensemble.run_until(lambda: tenant.connection.closed)
        tenant.poll()
        assert tenant.is_over
    assert not tenant.watched["data"]
    assert witness.ask(get(OpCode.EXISTS, b"/x")).stat().version == version


def test_zk_6_leader_that_is_impatient_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """ZK-6 can fail: sessions that end before their timeout are noticed."""
    monkeypatch.setattr(session_clock, "patience_ms", lambda timeout_ms: timeout_ms // 2)
    with pytest.raises(AssertionError, match=r"silence of only|vanished before"):
        for seed in range(16):
            sessions_under_faults(seed)


# ---- ZK-7 --------------------------------------------------------------------------------------


class Watcher(RoamingClient):
    """Keeps a one-shot watch on data, children and existence, and reads without watch between.

    What it reads while a watch is armed must be what it read when it armed it: the event comes
    first. An event comes once per watch.
    """

    kinds: ClassVar = {b"/w": OpCode.GET_DATA, b"/p": OpCode.GET_CHILDREN, b"/x": OpCode.EXISTS}

    def __init__(self, ensemble, node_id):
        self.arming, self.looking = {}, {}
        self.seen = {}  # path -> state when the watch was armed; absent: no watch
        self.last = {}  # path -> newest state that was read
        self.armed = self.heard = 0
        super().__init__(ensemble, node_id, 40_000)

    def attach(self, node_id):
        self.arming, self.looking = {}, {}
        super().attach(node_id)

    def act(self):
        self.tend()
        if self.connection.closed:
            return
        for path, opcode in self.kinds.items():
            if path not in self.seen and path not in self.arming.values():
                self.arming[self.send(get(opcode, path, watch=True))] = path
            elif self.draw(3) == 0:
                self.looking[self.send(get(opcode, path))] = path

    @staticmethod
    def state(path, reply):
        if reply.error:
            return reply.error
        return tuple(sorted(reply.names())) if path == b"/p" else reply.stat().mzxid

    def replied(self, reply):
        if reply.xid in self.arming:
            path = self.arming.pop(reply.xid)
            self.seen[path] = self.last[path] = self.state(path, reply)
            self.watched[self.list_of(path)].add(path)
            self.armed += 1
        elif reply.xid in self.looking:
            path = self.looking.pop(reply.xid)
            self.last[path] = state = self.state(path, reply)
            known = self.seen.get(path, state)
            assert state == known, f"read {path!r} as {state} before the event; it was {known}"

    def list_of(self, path):
        if path == b"/p":
            return "children"
        return "exists" if self.seen[path] == NO_NODE else "data"

    def told(self, kind, path):
        assert path in self.seen, f"an event for {path!r} without a watch, or a second one"
        assert (kind == EventType.CHILDREN_CHANGED) == (path == b"/p")
        self.watched[self.list_of(path)].discard(path)
        del self.seen[path]
        self.heard += 1


class Changer(RoamingClient):
    """Changes what is watched, one request at a time."""

    open = None

    def act(self):
        self.tend()
        if self.open in self.replies or self.open in self.lost:
            self.open = None
        if self.open is None and not self.connection.closed and self.draw(3) == 0:
            child = b"/p/%d" % self.draw(3)
            requests = (
                set_data(b"/w", b"new"),
                create(child),
                delete(child),
                create(b"/x"),
                delete(b"/x"),
                set_data(b"/x", b"new"),
            )
            self.open = self.send(requests[self.draw(len(requests))])


def watches_under_faults(seed: int) -> tuple[int, int]:
    """Watchers on all nodes, one changer, crashes and partitions.

    Returns:
        How many events were heard, and how many times a watcher moved.
    """
    ensemble = started(seed)
    changer = Changer(ensemble, ensemble.leader(), 40_000)
    for path in (b"/w", b"/p"):
        changer.ask(create(path))
    ensemble.world.run(20_000)
    watchers = [Watcher(ensemble, node) for node in ensemble.hosts]
    for _ in range(700):
        ensemble.world.run(4_000)
        changer.act()
        for watcher in watchers:
            watcher.act()
        dice = ensemble.world.draw(250)
        living = [node for node, host in ensemble.hosts.items() if host.alive]
        node = living[ensemble.world.draw(len(living))]
        if dice < 2 and len(living) == 3:
            crash_and_restart(ensemble, node, 50_000 + ensemble.world.draw(500_000))
        elif dice == 2:
            cut_off(ensemble, node)
            ensemble.world.after(ensemble.world.draw(900_000), ensemble.network.heal)
        elif dice < 6:
            watchers[ensemble.world.draw(3)].move()
    agree(ensemble)
    for _ in range(100):  # no changes any more: everybody must come to know the last ones
        ensemble.world.run(10_000)
        for watcher in (changer, *watchers):
            watcher.tend()
            if watcher is not changer:
                watcher.act()
    for path, opcode in Watcher.kinds.items():
        final = Watcher.state(path, changer.ask(get(opcode, path)))
        for watcher in watchers:
            assert watcher.seen.get(path) == final, f"a change of {path!r} was never told"
            assert watcher.heard <= watcher.armed
    return sum(w.heard for w in watchers), sum(w.moves for w in watchers)


@pytest.mark.parametrize("block", range(4))
def test_zk_7_watches_fire_once_in_order_and_survive_moves(block: int) -> None:
    """ZK-7: also when the change happened while the client was between two nodes."""
    outcomes = [watches_under_faults(seed) for seed in range(block * 3, block * 3 + 3)]
    heard, moves = (sum(column) for column in zip(*outcomes, strict=True))
    assert heard > 150
    assert moves > 15


def test_zk_7_node_that_only_arms_what_a_client_had_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ZK-7 can fail: a setWatches that tells nothing of the time between loses changes."""

    def arm(client, path, kind, event, tree, watches, deleted):
        watches.arm(kind, path, client)

    monkeypatch.setattr(watch_requests, "_tell_or_arm", arm)
    with pytest.raises(AssertionError):
        for seed in range(6):
            watches_under_faults(seed)


def test_zk_7_watches_that_stay_after_they_fired_are_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ZK-7 can fail: a watch that fires twice is noticed."""
    real = Client.notify

    def notify(self, frame):
        real(self, frame)
        if frame[4:8] == EVENT_XID:
            real(self, frame)

    monkeypatch.setattr(Client, "notify", notify)
    with pytest.raises(AssertionError, match="without a watch"):
        for seed in range(6):
            watches_under_faults(seed)
