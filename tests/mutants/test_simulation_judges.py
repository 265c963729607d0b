"""The judges are judged: each rule of replication and driving is removed once and must be missed.

Every mutant runs over seeds until some property reports it; none may survive.
"""

import pytest

from quorate.errors import InvariantBroken
from quorate.replication import intake, origins, outbox, replica
from quorate.simulation import host, ledger
from quorate.simulation.cluster import SimulatedCluster

SEEDS = range(60)


def caught(wrap_engine=None):
    """The first seed whose run reports a violation, and what was reported."""
    for seed in SEEDS:
        cluster = SimulatedCluster(seed, nodes=3, wrap_engine=wrap_engine)
        try:
            cluster.run()
        except (InvariantBroken, AssertionError) as error:
            return seed, str(error)
    return None


def acknowledge_before_fsync(monkeypatch):
    """The disk says "durable" before it wrote anything."""

    def pump(self):
        if self._disk_busy or not self._queue:
            return
        self._disk_busy = True
        life, sequence = self.life, self._queue[-1].sequence
        self._world.after(0, lambda: early(self, life, sequence))
        self._world.after(50_000, lambda: self._disk_done(life))

    def early(self, life, sequence):
        if self.alive and life == self.life and self.core._durable < sequence:
            self.core.persisted(sequence)
            self.drive()

    def done(self, life):
        if self.alive and life == self.life:
            steps, self._queue = self._queue, []
            self._store.persist(steps)
            self._disk_busy = False
            self._pump_disk()

    monkeypatch.setattr(host.Host, "_pump_disk", pump)
    monkeypatch.setattr(host.Host, "_disk_done", done)


def apply_resent_batches_again(monkeypatch):
    """Nobody remembers which batches were applied."""
    monkeypatch.setattr(origins.AppliedBatches, "is_next", lambda *_: True)
    monkeypatch.setattr(outbox.Outbox, "applied", _forget_if_pending)


def forget_to_resend(monkeypatch):
    """A batch lost on the way stays lost."""
    monkeypatch.setattr(outbox.Outbox, "resend", lambda _: None)


def read_without_asking_a_quorum(monkeypatch):
    """A read barrier is released at once, from local state."""

    def read_barrier(self, token):
        self._out.released.append(token)

    monkeypatch.setattr(replica.Replica, "read_barrier", read_barrier)


def snapshot_without_the_applied_table(monkeypatch):
    """Snapshots forget which batches they hold."""
    real = replica.encode_header
    monkeypatch.setattr(
        replica, "encode_header", lambda time_ms, _: real(time_ms, origins.AppliedBatches())
    )


def snapshot_not_exact(monkeypatch):
    """A snapshot shows what was applied after it began."""

    def snapshot(self):
        for line in self.lines:
            yield len(line).to_bytes(4, "big") + line

    monkeypatch.setattr(ledger.Ledger, "snapshot", snapshot)


def nondeterministic_apply(monkeypatch):
    """One node's state machine goes its own way."""
    real = ledger.Ledger.apply

    def apply(self, payload, context):
        position = real(self, payload, context)
        if context.local and context.index % 50 == 0:
            self._digest ^= 1
        return position

    monkeypatch.setattr(ledger.Ledger, "apply", apply)


def propose_twice(monkeypatch):
    """The leader proposes what it already admitted, and apply does not look."""
    monkeypatch.setattr(intake.Intake, "open", _open_blind)
    monkeypatch.setattr(origins.AppliedBatches, "is_next", lambda *_: True)
    monkeypatch.setattr(outbox.Outbox, "applied", _forget_if_pending)


def _forget_if_pending(self, number):
    while self._pending and self._pending[0][0] <= number:
        self._pending.popleft()
        self._sent = max(0, self._sent - 1)


def _open_blind(self, applied):
    self._ahead = origins.AppliedBatches()
    held, self._held, self._held_bytes = self._held, [], 0
    for data in held:
        self.admit(data)


@pytest.mark.parametrize(
    "mutant",
    [
        acknowledge_before_fsync,
        apply_resent_batches_again,
        forget_to_resend,
        read_without_asking_a_quorum,
        snapshot_without_the_applied_table,
        snapshot_not_exact,
        nondeterministic_apply,
        propose_twice,
    ],
)
def test_mutant_is_caught(mutant, monkeypatch):
    """Removing this rule is noticed within the seeds."""
    mutant(monkeypatch)
    found = caught()
    assert found is not None, f"{mutant.__name__} survived {len(SEEDS)} seeds"
