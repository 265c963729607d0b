"""RA-7: a command with a serial, sent again through any node after any crash, is done once.

The client's own node is killed in the middle of its commands, or the leader, or both; it resumes
its session elsewhere and sends everything unanswered again. Then it asks for every answer again.
"""

from __future__ import annotations

import pytest
from ensemble_stories import SMALL_SNAPSHOTS, crash_and_restart, others, settle, started
from virtual_client import Client

from quorate.protocol.zookeeper import OpCode
from quorate.protocol.zookeeper_client import Part, Reply, create, get, once
from quorate.simulation.ensemble import SimulatedEnsemble
from quorate.tree import once as once_module

SEQUENTIAL = 2
COMMANDS = 40


class Counting:
    """A client that numbers its commands and believes in the first answer."""

    def __init__(self, ensemble: SimulatedEnsemble, node: int) -> None:
        self.ensemble = ensemble
        self.client = Client(ensemble, node, timeout_ms=40_000).ready()
        self.client.call(create(b"/q"))
        self.answers: dict[int, Reply] = {}
        self.waiting: dict[int, int] = {}  # xid -> serial
        self.resent = 0

    def command(self, serial: int) -> Part:
        first = min((each for each in range(1, serial + 1) if each not in self.answers), default=1)
        kept = max(1, first - 10)  # ten more than need be are kept, to be asked for again
        return once(create(b"/q/n-", b"%d" % serial, SEQUENTIAL), serial, min(kept, serial))

    def send(self, serial: int) -> None:
        self.waiting[self.client.send(self.command(serial))] = serial

    def poll(self) -> None:
        self.client.poll()
        for xid in [each for each in self.waiting if each in self.client.replies]:
            serial, reply = self.waiting.pop(xid), self.client.replies[xid]
            first = self.answers.setdefault(serial, reply)
            assert reply[1:] == first[1:], f"{serial}: {reply} after {first}"
            assert reply.error == 0

    def follow(self) -> None:
        """Go on elsewhere when the connection broke, with everything unanswered."""
        if not self.client.connection.closed:
            return
        alive = [node for node, host in self.ensemble.hosts.items() if host.alive]
        if not alive:
            return
        unanswered = sorted(set(self.waiting.values()))
        self.waiting.clear()
        self.client.attach(alive[self.ensemble.world.draw(len(alive))])
        for serial in unanswered:
            self.resent += 1
            self.send(serial)


def commands_over_crashes(seed: int) -> int:
    """Let a client's commands meet crashes; how many of them were sent again."""
    ensemble = started(seed, settings=SMALL_SNAPSHOTS)
    client = Counting(ensemble, 1 + seed % 3)
    serial = 0
    for step in range(3_000):
        ensemble.world.run(1_000)
        client.poll()
        client.follow()
        if serial < COMMANDS and len(client.waiting) < 4:
            serial += 1
            client.send(serial)
        if step % 150 == 20 and step < 900:
            victim = ensemble.leader() if step % 300 == 20 else client.client.connection.node_id
            if victim and ensemble.hosts[victim].alive:
                crash_and_restart(ensemble, victim, 300_000)
        if len(client.answers) == COMMANDS and not client.waiting:
            break
    assert len(client.answers) == COMMANDS
    ensemble.world.run(400_000)  # whoever is down comes back
    settle(ensemble)
    for again in range(COMMANDS - 5, COMMANDS + 1):  # the answers, once more
        client.follow()
        client.send(again)
    ensemble.run_until(lambda: client.poll() or not client.waiting)
    reader = Client(ensemble, others(ensemble, client.client.connection.node_id)[0]).ready()
    reader.call(Part(OpCode.SYNC, get(OpCode.EXISTS, b"/q").body[:-1]))
    names = reader.call(get(OpCode.GET_CHILDREN, b"/q")).names()
    assert len(names) == COMMANDS, "each command happened once"
    assert sorted(reply.path()[3:] for reply in client.answers.values()) == sorted(names)
    return client.resent


def test_ra_7_commands_with_serials_happen_once_whatever_crashes() -> None:
    """RA-7: one znode for each command, and every answer is the first one."""
    assert sum(commands_over_crashes(seed) for seed in range(6)) > 0, "some were sent again"


def test_ra_7_a_node_that_forgets_answers_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """RA-7 can fail: without the table of answers a command happens as often as it is sent."""

    def find(state, session, serial, first_unanswered, checksum):
        answer = original(state, session, serial, first_unanswered, checksum)
        if answer is not None:
            del session.results.by_serial[serial]

    original = once_module.find_answer
    monkeypatch.setattr(once_module, "find_answer", find)
    with pytest.raises(AssertionError):
        for seed in range(6):
            commands_over_crashes(seed)


def test_ra_7_a_command_of_an_expired_session_is_refused() -> None:
    """RA-7: the session is not there any more, on no node, and is not made anew for a retry."""
    ensemble = started(1)
    client = Counting(ensemble, 1)
    client.client.timeout_ms = 4_000
    short = Client(ensemble, 2, timeout_ms=4_000).ready()
    command = once(create(b"/q/n-", b"", SEQUENTIAL), 1, 1)
    assert short.call(command).error == 0
    session_id = short.session_id
    ensemble.network.isolate(2)
    ensemble.world.run(9_000_000)
    ensemble.network.heal()
    settle(ensemble)
    ensemble.run_until(
        lambda: all(
            session_id not in host.core.service.tree.sessions for host in ensemble.hosts.values()
        )
    )
    short.attach(1)
    short.ready()
    assert short.session_id == 0, "the handshake says that it is over"
    names = client.client.call(get(OpCode.GET_CHILDREN, b"/q")).names()
    assert len(names) == 1
