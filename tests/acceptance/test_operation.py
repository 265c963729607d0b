"""Operating it: damage, recovery, guarded operations, disagreement."""

from __future__ import annotations

import pytest
from ensemble_stories import SMALL_SNAPSHOTS, agree, crash_and_restart, digests, started
from virtual_client import Client, RoamingClient, sync

from quorate.protocol.zookeeper import OpCode
from quorate.protocol.zookeeper_client import check, create, delete, get, multi, set_data
from quorate.simulation.properties import Violation

NO_NODE, BAD_VERSION, NODE_EXISTS, UNDONE = -101, -103, -110, -2

# ---- ZK-10 -------------------------------------------------------------------------------------


def written(seed: int, writes: int = 600):
    """An ensemble that took many snapshots, and one of its clients."""
    ensemble = started(seed, settings=SMALL_SNAPSHOTS)
    client = RoamingClient(ensemble, ensemble.leader(), 40_000)
    client.ask(create(b"/n", b""))
    for first in range(0, writes, 20):
        xids = [client.send(set_data(b"/n", b"%d" % n * 10)) for n in range(first, first + 20)]
        client.wait(xids[-1])
    ensemble.world.run(300_000)
    return ensemble, client


@pytest.mark.parametrize("seed", range(4))
def test_zk_10_nodes_recover_from_snapshot_and_log_and_remove_old_files(seed: int) -> None:
    """ZK-10: power is lost everywhere, again and again; nothing acknowledged is."""
    ensemble, client = written(seed)
    for round_ in range(4):
        agree(ensemble)
        (before,) = digests(ensemble)
        for node in ensemble.hosts:
            ensemble.crash(node)
        for node, host in ensemble.hosts.items():
            ensemble.restart(node)
            assert host.core.replica.applied_index > 30, "it began with a snapshot"
        agree(ensemble)
        assert digests(ensemble) == {before}
        reply = client.ask(get(OpCode.GET_DATA, b"/n"))
        assert reply.stat().version == 600 + round_
        assert client.ask(set_data(b"/n", b"again", version=600 + round_)).error == 0
    for host in ensemble.hosts.values():
        names = host.disk.names()
        assert len(names) < 15, names
        assert sum(host.disk.open(name).size() for name in names) < 150_000


# ---- PL-4 --------------------------------------------------------------------------------------


def test_pl_4_flipped_byte_in_any_file_is_noticed_or_harmless() -> None:
    """PL-4: a node whose file was damaged refuses to start, is repaired, or was not harmed."""
    noticed = 0
    ensemble, _ = written(3)
    for node in list(ensemble.hosts) * 10:
        agree(ensemble)
        (before,) = digests(ensemble)
        ensemble.crash(node)
        host = ensemble.hosts[node]
        healthy = host.disk
        damaged = healthy.clone()
        names = damaged.names()
        name = names[ensemble.world.draw(len(names))]
        size = damaged.open(name).size()
        if not size:
            ensemble.restart(node)
            continue
        damaged.flip(name, ensemble.world.draw(size), 1 << ensemble.world.draw(8))
        host.disk, host.is_harmed = damaged, True
        # a flip in the newest group looks torn (docs/wal-format.md): the others have what it held
        ensemble.court.durability.forget(node)
        ensemble.restart(node)
        noticed += host.damage is not None
        if host.retired is not None:
            noticed += 1
            assert name in host.retired, "the error names the file"
            host.disk, host.retired = healthy, None
            ensemble.restart(node)
        agree(ensemble)
        assert digests(ensemble) == {before}
    assert noticed > 8


def test_pl_4_directory_of_another_node_is_refused() -> None:
    """PL-4: a node does not speak with another's memory."""
    ensemble, _ = written(1, 40)
    ensemble.crash(2)
    ensemble.hosts[2].disk = ensemble.hosts[1].disk.clone()
    ensemble.hosts[2].is_harmed = True
    ensemble.restart(2)
    assert not ensemble.hosts[2].alive
    assert "belongs to node 1" in str(ensemble.hosts[2].retired)


# ---- PL-6 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_pl_6_guarded_operations_are_all_or_nothing_and_keep_the_sum(seed: int) -> None:
    """PL-6: transfers between accounts, guarded by the versions that were read, under crashes."""
    ensemble = started(seed)
    draw = ensemble.world.draw
    first = RoamingClient(ensemble, ensemble.leader(), 40_000)
    accounts = [b"/a", b"/b", b"/c"]
    for account in accounts:
        first.ask(create(account, b"100"))
    clients = [RoamingClient(ensemble, node, 40_000) for node in ensemble.hosts]
    done = refused = 0
    for round_ in range(40):
        if round_ % 15 == 7:
            crash_and_restart(ensemble, 1 + draw(3), 300_000)
        plans = []
        for client in clients:
            one, other, third = sorted(accounts, key=lambda _: draw(100))
            read = [client.ask(get(OpCode.GET_DATA, path)) for path in (one, other, third)]
            if any(reply.error for reply in read):
                continue
            x, y, _ = (int(reply.data()) for reply in read)
            v, w, u = (reply.stat().version for reply in read)
            parts = [
                check(third, u),
                set_data(one, b"%d" % (x - 7), v),
                set_data(other, b"%d" % (y + 7), w),
            ]
            plans.append((client, client.send(multi(parts))))
        for client, xid in plans:
            ensemble.run_until(
                lambda c=client, x=xid: c.tend() or x in c.replies or x in c.lost, 60_000_000
            )
            if xid in client.replies:
                errors = [error for _, error, _ in client.replies[xid].results()]
                place = errors.index(BAD_VERSION) if any(errors) else 3
                assert errors == ([0] * place + [BAD_VERSION, *[UNDONE] * 2])[:3]
                done += not any(errors)
                refused += any(errors)
    first.ask(sync())
    balances = [int(first.ask(get(OpCode.GET_DATA, path)).data()) for path in accounts]
    assert sum(balances) == 300, balances
    assert done > 20
    assert refused > 5
    agree(ensemble)


def test_pl_6_guards_for_presence_absence_and_equality_decide_together() -> None:
    """PL-6: present, absent, equal in one request and one log entry; which failed is told."""
    ensemble = started(1)
    client = Client(ensemble, ensemble.leader()).ready()
    client.call(create(b"/present", b"x"))
    present = check(b"/present", -1)
    equal = check(b"/present", 0)
    absent = [create(b"/absent"), delete(b"/absent")]
    act = create(b"/done")
    applied = ensemble.hosts[ensemble.leader()].core.replica.applied_index
    assert client.call(multi([present, equal, *absent, act])).error == 0
    assert ensemble.hosts[ensemble.leader()].core.replica.applied_index == applied + 1
    client.call(delete(b"/done"))
    client.call(create(b"/absent"))
    results = client.call(multi([present, equal, *absent, act])).results()
    assert [error for _, error, _ in results] == [0, 0, NODE_EXISTS, UNDONE, UNDONE]
    assert client.call(get(OpCode.EXISTS, b"/done")).error == NO_NODE
    client.call(delete(b"/absent"))
    client.call(set_data(b"/present", b"y"))
    results = client.call(multi([present, equal, *absent, act])).results()
    assert [error for _, error, _ in results] == [0, BAD_VERSION, UNDONE, UNDONE, UNDONE]


# ---- PL-8 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", [1, 2, 3])
def test_pl_8_node_whose_state_was_corrupted_is_the_one_that_stops(victim: int) -> None:
    """PL-8: memory of one node is damaged; it finds out from the others' digests, and only it."""
    ensemble = started(victim, settings=SMALL_SNAPSHOTS)
    client = Client(ensemble, 1 + victim % 3, timeout_ms=40_000).ready()
    client.call(create(b"/n", b"right"))
    ensemble.world.run(100_000)
    tree = ensemble.hosts[victim].core.service.tree
    tree.open_session(bytes(16), 40_000, (9, 9, 9), (), 1)
    with pytest.raises(Violation, match=rf"node {victim} stops: state digest .* odd one out"):
        for number in range(200):
            client.call(set_data(b"/n", b"%d" % number))
