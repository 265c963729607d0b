"""ZK-2: what clients of a faulty ensemble were told, judged by the linearizability checker.

Clients speak bytes to all nodes. Writes are unconditional or conditional on a version, and their
answers tell the new version, so the model of a znode leaves the checker little freedom. Reads are
sync and then get. Local reads, without sync, promise less: the order of each client.
"""

from __future__ import annotations

from typing import ClassVar

import pytest
from ensemble_stories import agree, crash_and_restart, cut_off, started
from virtual_client import RoamingClient, sync

from quorate.checking.history import UNKNOWN_RETURN, History, Operation
from quorate.checking.linearizability import check
from quorate.checking.model import ILLEGAL
from quorate.checking.models.base import BaseModel
from quorate.checking.verdict import Answer
from quorate.protocol.zookeeper import OpCode
from quorate.protocol.zookeeper_client import create, get, set_data
from quorate.replication.replica import Replica

KEYS = (b"/a", b"/b")
BAD_VERSION = -103


class Znode(BaseModel):
    """A znode's data and version; the state is (value, version)."""

    name = "znode"
    functions: ClassVar[dict[str, str]] = {
        "get": "no argument; result: [value, version]",
        "set": "argument: [expected version or -1, value]; result: new version, false if refused",
    }
    reading = frozenset(["get"])

    def initial(self, key):
        return ("0", 0)

    def only_reads(self, operation):
        is_refused = operation.result is False and not operation.is_unknown
        return operation.function == "get" or is_refused

    def step(self, state, operation):
        version = state[1]
        if operation.function == "get":
            return state if operation.is_unknown or operation.result == state else ILLEGAL
        expected, new = operation.argument
        is_met = expected in (-1, version)
        if operation.is_unknown:
            return (new, version + 1) if is_met else state
        if operation.result is False:
            return ILLEGAL if is_met else state
        return (new, version + 1) if is_met and operation.result == version + 1 else ILLEGAL


class Recorder:
    """Takes down calls and returns in the order in which they happen."""

    def __init__(self) -> None:
        self.position = 0
        self.processes = 0
        self.operations: list[Operation] = []

    def now(self) -> int:
        """The next position."""
        self.position += 1
        return self.position

    def new_process(self) -> int:
        """A process that has no open call."""
        self.processes += 1
        return self.processes


class Worker(RoamingClient):
    """Does one operation after the other, and takes down what it was told."""

    def __init__(self, ensemble, node_id, recorder):
        self.recorder = recorder
        self.process = recorder.new_process()
        self.open = None  # (xid, function, key, argument, position of the call)
        self.known = {}  # key -> (value, version) as read last
        self.count = 0
        super().__init__(ensemble, node_id, 40_000)

    def act(self):
        self.tend()
        if self.open is not None:
            xid, *_ = self.open
            if xid in self.lost:
                self.finish(None, unknown=True)
                self.process = self.recorder.new_process()
            elif xid in self.replies:
                self.finish(self.replies[xid])
        if self.open is None and not self.connection.closed and self.draw(3):
            self.begin()

    def begin(self):
        key = KEYS[self.draw(len(KEYS))]
        kind = self.draw(5)
        invoked = self.recorder.now()
        if kind < 2:
            self.send(sync(key))
            xid = self.send(get(OpCode.GET_DATA, key))
            self.open = (xid, "get", key, None, invoked)
            return
        self.count += 1
        value = f"{self.session_id}-{self.count}"
        expected = self.known[key][1] if kind == 4 and key in self.known else -1
        xid = self.send(set_data(key, value.encode(), expected))
        self.open = (xid, "set", key, (expected, value), invoked)

    def finish(self, reply, *, unknown=False):
        _, function, key, argument, invoked = self.open
        self.open = None
        result = None
        if reply is not None and function == "get":
            result = (reply.data().decode(), reply.stat().version)
            self.remember(key, *result)
        elif reply is not None:
            assert reply.error == 0 or (reply.error == BAD_VERSION and argument[0] >= 0)
            result = False if reply.error else reply.stat().version
        returned = UNKNOWN_RETURN if unknown else self.recorder.now()
        self.recorder.operations.append(
            Operation(self.process, function, key, argument, result, invoked, returned)
        )

    def remember(self, key, value, version):
        self.known[key] = (value, version)


def history_under_faults(seed: int) -> History:
    """Five workers on three or five nodes that crash, restart and are cut off."""
    ensemble = started(seed, nodes=3 + 2 * (seed % 2))
    draw = ensemble.world.draw
    first = RoamingClient(ensemble, ensemble.leader())
    recorder = Recorder()
    for key in KEYS:
        assert first.ask(create(key, b"0")).error == 0
    nodes = list(ensemble.hosts)
    workers = [Worker(ensemble, nodes[i % len(nodes)], recorder) for i in range(5)]
    for _ in range(1_000):
        ensemble.world.run(2_000)
        for worker in workers:
            worker.act()
        dice = draw(200)
        living = [node for node, host in ensemble.hosts.items() if host.alive]
        if dice == 0 and len(living) == len(nodes):
            crash_and_restart(ensemble, living[draw(len(living))], 100_000 + draw(400_000))
        elif dice == 1:
            cut_off(ensemble, nodes[draw(len(nodes))])
            ensemble.world.after(draw(900_000), ensemble.network.heal)
        elif dice == 2:
            ensemble.network.cut(nodes[draw(len(nodes))], nodes[draw(len(nodes))])
            ensemble.world.after(draw(900_000), ensemble.network.heal)
    agree(ensemble)
    for worker in workers:
        worker.act()
        if worker.open is not None:
            worker.finish(None, unknown=True)
    return History(sorted(recorder.operations, key=lambda operation: operation.invoked))


def assert_linearizable(history: History) -> None:
    """The checker finds an order, within its budget."""
    verdict = check(history, Znode())
    assert verdict.answer is Answer.LINEARIZABLE, verdict.counterexample or verdict


@pytest.mark.parametrize("seed", range(6))
def test_zk_2_writes_and_synced_reads_are_linearizable_under_faults(seed: int) -> None:
    """ZK-2: crashes and partitions; an order exists that explains every result."""
    history = history_under_faults(seed)
    assert len(history.operations) > 300
    assert_linearizable(history)


def test_zk_2_histories_hold_everything_that_can_happen() -> None:
    """ZK-2: among the runs are refused conditions, unknown outcomes and overlapping calls."""
    operations = [o for seed in (0, 2, 4) for o in history_under_faults(seed).operations]
    assert sum(o.is_unknown for o in operations) > 3
    conditional = [o for o in operations if o.function == "set" and o.argument[0] >= 0]
    assert sum(o.result is False for o in conditional) > 20
    assert sum(o.result is not False for o in conditional) > 20


def test_zk_2_sync_that_asks_nobody_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """ZK-2 can fail: when a sync waits for nothing, the checker finds a read of the past."""

    def read_barrier(self, token):
        self._out.released.append(token)

    monkeypatch.setattr(Replica, "read_barrier", read_barrier)
    with pytest.raises(AssertionError):
        for seed in range(8):
            assert_linearizable(history_under_faults(seed))


# ---- local reads -------------------------------------------------------------------------------


class LocalReader(Worker):
    """Reads without sync; what it reads must never be older than what it saw or wrote before."""

    def begin(self):
        key = KEYS[self.draw(len(KEYS))]
        if self.draw(3):
            xid = self.send(get(OpCode.GET_DATA, key))
            self.open = (xid, "get", key, None, self.recorder.now())
        else:
            super().begin()

    def remember(self, key, value, version):
        before = self.known.get(key, ("", -1))[1]
        assert version >= before, f"{key!r} went back from version {before} to {version}"
        super().remember(key, value, version)

    def replied(self, reply):
        if self.open is None or reply.xid != self.open[0] or reply.error:
            return
        _, function, key, argument, _ = self.open
        if function == "set":
            self.remember(key, argument[1], reply.stat().version)


@pytest.mark.parametrize("seed", range(4))
def test_zk_2_local_reads_never_go_back_for_one_client(seed: int) -> None:
    """ZK-2: local reads may be old, but never older than what the same client knows already."""
    ensemble = started(seed)
    draw = ensemble.world.draw
    first = RoamingClient(ensemble, ensemble.leader())
    for key in KEYS:
        first.ask(create(key, b"0"))
    recorder = Recorder()
    readers = [LocalReader(ensemble, node, recorder) for node in ensemble.hosts for _ in range(2)]
    for step in range(1_200):
        ensemble.world.run(draw(3_000))
        for reader in readers:
            reader.act()
            if draw(300) == 0:
                reader.move()
        if step % 400 == 200:
            crash_and_restart(ensemble, 1 + draw(3), draw(500_000))
    assert sum(len(reader.replies) for reader in readers) > 1_000
    assert sum(reader.moves for reader in readers) > 6
