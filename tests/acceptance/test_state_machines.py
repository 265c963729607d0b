"""The state machine's part of the bargain: deterministic, total, replayable."""

from __future__ import annotations

import sys
import time
import zlib
from pathlib import Path

import pytest
from ensemble_stories import SMALL_SNAPSHOTS, agree, crash_and_restart, started
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_client import RoamingClient

from quorate.protocol import zookeeper_client as wire
from quorate.replication.state_machine import ApplyContext
from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.properties import Violation
from quorate.simulation.run import Run
from quorate.simulation.workloads.catalogue import workload_named
from quorate.simulation.workloads.cells import Cells, CellsWorkload
from quorate.tree.sessions import Owner
from quorate.tree.state import check_state
from quorate.tree.tree import Tree

sys.path.append(str(Path(__file__).parents[1] / "tidy"))

from determinism import banned_imports
from source import Source

# ---- TH-10 -------------------------------------------------------------------------------------

CLOCKED = '''
"""A machine that stamps what it is told with the time.

It forgets that replicas apply the same batch at different times.
"""

import time


class Clocked:
    def __init__(self):
        self.lines = []

    def apply(self, payload, context):
        self.lines.append((time.time(), payload))
'''


def test_th_10_class_that_asks_the_clock_is_caught_by_the_static_rule_alone() -> None:
    """TH-10: without being run, by its import; the same class with the log's time passes."""
    path = "src/quorate/replication/clocked.py"
    (finding,) = banned_imports(Source.parse(path, CLOCKED))
    assert "imports time" in finding.message
    innocent = CLOCKED.replace("import time\n", "").replace("time.time()", "context.time_ms")
    assert banned_imports(Source.parse(path, innocent)) == []


class ClockedCells(Cells):
    """Values and results are right; only what it keeps beside them comes from the clock."""

    def apply(self, payload: bytes, context: ApplyContext) -> object:
        result = super().apply(payload, context)
        self._digest ^= zlib.crc32(b"%r" % time.time())
        return result


class ClockedWorkload(CellsWorkload):
    """Clients of such a machine."""

    def machine(self) -> Cells:
        return ClockedCells()


def calm_run(workload: CellsWorkload) -> Run:
    """Five seconds without any fault."""
    wishes = Wishes(workload="cells", duration_us=5_000_000, faults=(), nodes=3)
    return Run(draw_scenario(1, wishes, workload_named), workload=workload)


def test_th_10_class_that_asks_the_clock_is_caught_by_the_digests_alone() -> None:
    """TH-10: every answer is right, no judge of the simulator objects; the nodes' digests do."""
    calm_run(CellsWorkload()).run()
    with pytest.raises(Violation, match="state digest") as caught:
        calm_run(ClockedWorkload()).run()
    assert caught.value.property.name == "replicas agree with themselves"


# ---- TH-11 -------------------------------------------------------------------------------------

PATHS = st.sampled_from([b"/a", b"/b", b"/a/x", b"/a/y", b"/b/x", b"", b"no", b"/a//x", b"/"])
VERSIONS = st.sampled_from([-1, 0, 1, 7])
COMMANDS = st.one_of(
    st.builds(wire.create, PATHS, st.binary(max_size=5), st.integers(0, 7)),
    st.builds(wire.delete, PATHS, VERSIONS),
    st.builds(wire.set_data, PATHS, st.binary(max_size=5), VERSIONS),
    st.builds(wire.set_acl, PATHS, st.just(wire.OPEN_ACL_WIRE), VERSIONS),
)
GARBAGE = st.builds(wire.Part, st.sampled_from([1, 2, 5, 14, 15]), st.binary(max_size=12))
LOGS = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.one_of(
            COMMANDS,
            GARBAGE,
            st.just(wire.CLOSE_SESSION),
            st.lists(COMMANDS, max_size=4).map(wire.multi),
        ),
    ),
    max_size=30,
)
Log = list[tuple[int, wire.Part]]


def opened() -> Tree:
    """A tree with three sessions; their ids are 1, 2 and 3."""
    tree = Tree()
    for connection in (1, 2, 3):
        tree.open_session(bytes(16), 10_000, Owner(1, 1, connection), (), 1)
    return tree


def play(tree: Tree, log: Log, first: int = 0) -> list[bytes]:
    """Apply the log; one reply for each command, whatever it is."""
    replies: list[bytes] = []
    for index, (session, command) in enumerate(log[first:], start=first):
        owner = Owner(1, 1, session)
        before = len(replies)
        tree.apply_frames(session, owner, command.frame(index), 1_000 + index, replies)
        assert len(replies) == before + 1, "an error is a result, too"
    check_state(tree._state)
    return replies


@settings(max_examples=150, deadline=None, derandomize=True)
@given(LOGS, st.integers(0, 30))
def test_th_11_errors_are_results_and_replay_gives_the_same_state(log: Log, cut: int) -> None:
    """TH-11: two replicas answer alike, errors included; snapshot and tail equal the whole log."""
    one, other = opened(), opened()
    replies = play(one, log)
    assert play(other, log) == replies
    assert one.digest() == other.digest()
    cut = min(cut, len(log))
    origin = opened()
    head = play(origin, log[:cut])
    restored = Tree()
    restored.restore(origin.snapshot())
    assert head + play(restored, log, cut) == replies
    assert restored.digest() == one.digest()


def test_th_11_random_logs_do_hold_errors_of_many_kinds() -> None:
    """TH-11: the commands above fail in many ways, so that the property is about something."""
    log: Log = [
        (1, wire.create(b"/a")),
        (1, wire.create(b"/a")),
        (2, wire.create(b"/no/parent")),
        (2, wire.set_data(b"/a", b"", 7)),
        (2, wire.Part(1, b"\0\0")),
        (3, wire.delete(b"/nothing")),
        (3, wire.CLOSE_SESSION),
        (3, wire.create(b"/late")),
    ]
    errors = {wire.decode_reply(reply).error for reply in play(opened(), log)}
    assert len(errors) >= 6


@pytest.mark.parametrize("seed", range(4))
def test_th_11_requests_that_fail_leave_replicas_equal_under_crashes(seed: int) -> None:
    """TH-11: half of what clients ask is refused; every node comes to the same refusals."""
    ensemble = started(seed, settings=SMALL_SNAPSHOTS)
    draw = ensemble.world.draw
    clients = [RoamingClient(ensemble, node, 40_000) for node in ensemble.hosts]
    for step in range(200):
        for client in clients:
            client.tend()
            path = (b"/a", b"/b", b"/a/x", b"/no/parent", b"bad")[draw(5)]
            requests = (
                wire.create(path),
                wire.delete(path, draw(3) - 1),
                wire.set_data(path, b"%d" % step, draw(4) - 1),
                wire.multi([wire.create(path), wire.check(path, 0), wire.delete(path)]),
                wire.Part(1, bytes(draw(8))),
            )
            client.send(requests[draw(len(requests))])
        ensemble.world.run(draw(4_000))
        if step % 70 == 35:
            crash_and_restart(ensemble, 1 + draw(3), draw(400_000))
    agree(ensemble)
    for client in clients:
        client.tend()
    errors = [reply.error for client in clients for reply in client.replies.values()]
    assert len([error for error in errors if error]) > 100
    assert len(set(errors)) > 4
    digests = {host.core.service.tree.digest() for host in ensemble.hosts.values()}
    assert len(digests) == 1


class RememberingCells(Cells):
    """Keeps every command beside the state, for all replicas together."""

    def __init__(self, log: dict[int, bytes]) -> None:
        super().__init__()
        self.log = log

    def apply(self, payload: bytes, context: ApplyContext) -> object:
        assert self.log.setdefault(len(self.identities), payload) == payload
        return super().apply(payload, context)


class RememberingWorkload(CellsWorkload):
    """Clients of such a machine."""

    def __init__(self) -> None:
        super().__init__()
        self.log: dict[int, bytes] = {}

    def machine(self) -> Cells:
        return RememberingCells(self.log)


@pytest.mark.parametrize("seed", range(6))
def test_th_11_replay_of_the_whole_log_is_snapshot_and_tail(seed: int) -> None:
    """TH-11, ZB-8: nodes restored from snapshots hold what the whole log gives from nothing."""
    workload = RememberingWorkload()
    wishes = Wishes(workload="cells", duration_us=10_000_000)
    run = Run(draw_scenario(seed, wishes, workload_named), workload=workload)
    run.run()
    fresh = Cells()
    for position in sorted(workload.log):
        fresh.apply(workload.log[position], ApplyContext())
    for host in run.cluster.members():
        assert host.core.machine.digest() == fresh.digest()
        assert host.core.machine.inner.values == fresh.values
