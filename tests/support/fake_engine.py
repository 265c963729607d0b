"""A scripted engine: records events, hands out the effects a test puts in."""

from __future__ import annotations

from ledger import Ledger

from quorate.consensus.engine import Effects, EngineStatistics, Leadership
from quorate.consensus.entry import Entry, EntryKind, Persist, SnapshotMeta
from quorate.consensus.membership import Configuration
from quorate.replication.batch import encode_entry, encode_sub_batch
from quorate.replication.replica import Replica
from quorate.replication.turn import ReplicaSettings


class FakeEngine:
    """Does nothing by itself."""

    def __init__(self, voters=(1, 2, 3)):
        self.events = []
        self.effects = Effects()
        self._configuration = Configuration.of(voters)

    def step(self, event):
        self.events.append(event)

    def take(self):
        effects, self.effects = self.effects, Effects()
        return effects

    def is_quiet(self):
        return self.effects == Effects()

    def encode(self, message):
        return repr(message).encode()

    def decode(self, data):
        return data.decode()

    def snapshot_meta(self, index):
        return SnapshotMeta(index, 1, self._configuration.encode())

    def configuration(self):
        return self._configuration

    def statistics(self):
        return EngineStatistics("fake", "follower", 1, 0, 0, 1, 0, 0, (), {}, {}, 0)

    def describe(self):
        return "fake"

    def of(self, kind):
        """All events of one type so far."""
        return [event for event in self.events if isinstance(event, kind)]


class Bench:
    """A replica on a fake engine, with helpers to deliver what an engine would."""

    def __init__(self, node_id=1, **settings):
        self.engine = FakeEngine()
        self.machine = Ledger()
        self.replica = Replica(
            node_id=node_id,
            incarnation=1,
            engine=self.engine,
            machine=self.machine,
            settings=ReplicaSettings(**settings),
        )
        self.index = 0
        self.sequence = 0

    def lead(self, leader, epoch=1, established=False):
        self.engine.effects.leadership = Leadership(epoch, leader, established)
        return self.replica.take()

    def commit(self, payload, epoch=1):
        """Have the engine deliver one BATCH entry with this payload."""
        self.index += 1
        self.engine.effects.committed.append(Entry(self.index, epoch, EntryKind.BATCH, payload))

    def commit_sub(self, text, node=2, incarnation=1, number=1, time_ms=5):
        self.commit(encode_entry(time_ms, [encode_sub_batch(node, incarnation, number, text)]))

    def persist(self):
        """Have the engine ask for a persistence step."""
        self.sequence += 1
        self.engine.effects.persist = Persist(self.sequence)
