"""The state machine's part of the bargain: deterministic, total, replayable."""

from __future__ import annotations

import sys
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.errors import InvariantBroken
from quorate.protocol import zookeeper_client as wire
from quorate.replication.state_machine import ApplyContext
from quorate.simulation import ledger
from quorate.simulation.cluster import Faults, SimulatedCluster
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


class Clocked(ledger.Ledger):
    """Lines and results are right; only what it keeps beside them comes from the clock."""

    def apply(self, payload: bytes, context: ApplyContext) -> int:
        result = super().apply(payload, context)
        self._digest ^= zlib.crc32(b"%r" % time.time())
        return result


def test_th_10_class_that_asks_the_clock_is_caught_by_the_digests_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TH-10: nothing else of the simulator's judgement sees it, and the digests stop a node."""
    monkeypatch.setattr("quorate.simulation.cluster.Ledger", Clocked)
    with pytest.raises(InvariantBroken, match=r"stopped.*digest"):
        SimulatedCluster(1, faults=Faults()).run()


def test_th_10_without_digests_the_clocked_class_goes_unseen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TH-10: the net is needed; with the digests switched off the same run ends well."""
    monkeypatch.setattr("quorate.simulation.cluster.Ledger", Clocked)
    monkeypatch.setattr("quorate.replication.digests.DigestAgreement.verdict", lambda *_: None)
    outcome = SimulatedCluster(1, faults=Faults()).run()
    assert outcome.acknowledged > 100


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


class Stubborn(ledger.Ledger):
    """Refuses every third line, by an exception of its own that it turns into a result."""

    def apply(self, payload: bytes, context: ApplyContext) -> int:
        try:
            if payload[-1] % 3 == 0:
                raise ValueError("refused")
        except ValueError:
            self._digest ^= 0x55
        return super().apply(payload, context)


def test_th_11_command_that_fails_inside_the_machine_leaves_replicas_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TH-11: under faults and snapshots, with errors among the results, all replicas agree."""
    monkeypatch.setattr("quorate.simulation.cluster.Ledger", Stubborn)
    for seed in (1, 2, 3):
        assert SimulatedCluster(seed).run().acknowledged > 50


@pytest.mark.parametrize("seed", range(6))
def test_th_11_replay_of_the_whole_log_is_snapshot_and_tail(seed: int) -> None:
    """TH-11, ZB-8: nodes restored from snapshots hold what the same lines give from nothing."""
    cluster = SimulatedCluster(seed)
    cluster.run()
    lines = next(iter(cluster.hosts.values())).core.machine.lines
    fresh = ledger.Ledger()
    context = ApplyContext()
    for line in lines:
        fresh.apply(line, context)
    for host in cluster.hosts.values():
        assert host.core.machine.digest() == fresh.digest()
