"""Points of Rafter, an early Raft in Erlang, that hold here too: RF-3, RF-6 and RF-7."""

from __future__ import annotations

import pytest
from ensemble_stories import BUSY, cut_off, followers, others, settle, started
from raft_schedule import Schedule
from virtual_client import Client

from quorate.consensus.registry import EngineSettings
from quorate.protocol.zookeeper import OpCode
from quorate.protocol.zookeeper_client import create, get, set_data
from quorate.replication.turn import ReplicaSettings
from quorate.simulation.ensemble import SimulatedEnsemble
from quorate.tree.server import ServerSettings
from quorate.tree.service_settings import ServiceSettings

READ = get(OpCode.GET_DATA, b"/r")
SESSION_MS = 4_000
TICKS_MS = 200


def with_reads(mode: str) -> ServerSettings:
    """What ``--reads`` makes of the defaults."""
    return ServerSettings(
        engine=EngineSettings(lease_reads=mode == "lease"),
        replica=ReplicaSettings(resend_ms=20, digest_interval=0),
        service=ServiceSettings(fresh_reads=mode != "local"),
    )


def last_indexes(ensemble: SimulatedEnsemble) -> list[int]:
    return [host.core.replica.statistics().engine.last_index for host in ensemble.hosts.values()]


# ---- RF-3 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["linearizable", "lease"])
def test_rf_3_read_appends_nothing_and_sees_every_acknowledged_write(mode: str) -> None:
    """RF-3: whichever node is asked, right after a write was acknowledged on another one."""
    ensemble = started(5, settings=with_reads(mode))
    clients = [Client(ensemble, node, timeout_ms=40_000).ready() for node in ensemble.hosts]
    clients[0].call(create(b"/r", b"0"))
    for value in range(40):
        writer, reader = clients[value % 3], clients[(value + 1) % 3]
        assert writer.call(set_data(b"/r", b"%d" % value)).error == 0
        before = last_indexes(ensemble)
        assert reader.call(READ).data() == b"%d" % value
        after = last_indexes(ensemble)
        assert max(after) == max(before), "the leader's log is as long as it was"


def test_rf_3_local_reads_would_fail_this() -> None:
    """RF-3 can fail: answered from whatever is here, some reads miss an acknowledged write."""
    with pytest.raises(AssertionError):
        for seed in range(5):
            ensemble = started(seed, settings=with_reads("local"))
            clients = [Client(ensemble, node).ready() for node in ensemble.hosts]
            clients[0].call(create(b"/r", b"0"))
            for value in range(40):
                clients[value % 3].call(set_data(b"/r", b"%d" % value))
                assert clients[(value + 1) % 3].call(READ).data() == b"%d" % value


# ---- RF-6 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["linearizable", "lease"])
@pytest.mark.parametrize("role", ["leader", "follower"])
def test_rf_6_minority_refuses_reads_and_writes_within_the_stated_time(
    mode: str, role: str
) -> None:
    """RF-6: two election timeouts and a third of the session, as docs/reads.md says; no answer."""
    settings = with_reads(mode)
    ensemble = started(3, settings=settings)
    node = ensemble.leader() if role == "leader" else followers(ensemble)[0]
    asks, writes = (Client(ensemble, node, timeout_ms=SESSION_MS).ready() for _ in range(2))
    asks.call(create(b"/r", b"0"))
    ensemble.world.run(50_000)
    cut_off(ensemble, node)
    cut_us = ensemble.world.now_us
    if mode == "lease":  # a lease may still run for a moment, rightly
        ensemble.world.run(settings.engine.election_timeout_ms * 1000)
    read, write = asks.send(READ), writes.send(set_data(b"/r", b"1"))

    def refused() -> bool:
        asks.poll()
        writes.poll()
        return asks.connection.closed and writes.connection.closed

    ensemble.run_until(refused)
    stated_ms = 2 * settings.engine.election_timeout_ms + SESSION_MS // 3 + TICKS_MS
    assert (ensemble.world.now_us - cut_us) // 1000 <= stated_ms
    assert read not in asks.replies
    assert write not in writes.replies
    elsewhere = Client(ensemble, others(ensemble, node)[0]).ready()
    assert elsewhere.call(READ).data() in (b"0", b"1")


def test_rf_6_new_clients_of_a_minority_are_refused_too() -> None:
    """RF-6: whoever comes later is not kept waiting longer than those who were there."""
    ensemble = started(4, settings=BUSY)
    settle(ensemble)
    node = followers(ensemble)[0]
    cut_off(ensemble, node)
    ensemble.world.run(3_000_000)
    late = Client(ensemble, node, timeout_ms=SESSION_MS)

    def refused() -> bool:
        late.poll()
        return late.connection.closed

    ensemble.run_until(refused, 1_000_000)
    assert not late.handshaken


# ---- RF-7 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", range(4))
def test_rf_7_committed_entries_stay_and_one_leads_under_random_schedules_with_leases(
    block: int,
) -> None:
    """RF-7: Fig. 3 and the deltas after every step, and no read below what was committed."""
    answered = 0
    for seed in range(1000 + 8 * block, 1008 + 8 * block):
        schedule = Schedule(seed, lease_reads=True)
        schedule.run()
        answered += len(schedule.cluster.reads_done)
    assert answered > 0
