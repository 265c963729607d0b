"""The five properties of the Raft paper's Fig. 3, checked on every effect of every engine.

Stated on the Engine interface, so they judge any engine: an observer wraps each engine and sees
the events that go in and the effects that come out. What is checked, and how:

    Election Safety        one leader per epoch, ever
    Leader Append-Only     no truncation by a node that leads
    Log Matching           two entries with equal (index, epoch) have equal content and equal
                           predecessors; by induction their logs are equal up to there
    Leader Completeness    who starts to lead has every entry delivered anywhere so far
    State Machine Safety   all nodes deliver the same entry at an index, each index once, in order

Invariant: a violation raises InvariantBroken at the very step that caused it.
"""

from __future__ import annotations

import zlib
from typing import Any

from quorate.consensus.engine import (
    Effects,
    Engine,
    EngineStatistics,
    Event,
    Leadership,
    Message,
)
from quorate.consensus.entry import Entry, Persist, Recovered, SnapshotMeta
from quorate.consensus.membership import Configuration
from quorate.errors import InvariantBroken

Fingerprint = tuple[int, int, int]
"""(epoch, kind, checksum) of an entry."""


def fingerprint(entry: Entry) -> Fingerprint:
    """Reduce an entry to what two equal entries share."""
    return (entry.epoch, entry.kind, zlib.crc32(entry.payload))


class ShadowLog:
    """What one node's log holds, as told by its persistence steps."""

    def __init__(self, recovered: Recovered) -> None:
        self.base = 0  # index of the last entry that only a snapshot covers
        self.base_epoch = 0
        self.entries: list[Fingerprint] = []
        if recovered.snapshot is not None:
            self.base = recovered.snapshot.index
            self.base_epoch = recovered.snapshot.epoch
        first = recovered.entries[0].index if recovered.entries else self.base + 1
        if first <= self.base:
            self.base = first - 1
            self.base_epoch = -1  # unknown: compacted before the restart
        self.entries = [fingerprint(entry) for entry in recovered.entries]

    @property
    def last(self) -> int:
        """Index of the last entry."""
        return self.base + len(self.entries)

    def at(self, index: int) -> Fingerprint | None:
        """Return the entry at ``index``; None when a snapshot covers it or it is not there."""
        if self.base < index <= self.last:
            return self.entries[index - self.base - 1]
        return None

    def epoch_before(self, index: int) -> int:
        """Epoch of the entry before ``index``; -1 when unknown."""
        if index - 1 == self.base:
            return self.base_epoch
        previous = self.at(index - 1)
        return previous[0] if previous is not None else -1

    def truncate(self, index: int) -> None:
        """Drop entries at and after ``index``."""
        del self.entries[max(0, index - self.base - 1) :]

    def reset(self, meta: SnapshotMeta, *, discard: bool) -> None:
        """Take a snapshot's place: keep what lies behind it unless ``discard``."""
        keep = [] if discard else self.entries[meta.index - self.base :]
        self.base, self.base_epoch, self.entries = meta.index, meta.epoch, list(keep)


class SafetyChecker:
    """Judge of one simulated cluster; knows everything that any node ever said."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}  # epoch -> node
        self.delivered: dict[int, Fingerprint] = {}  # index -> entry
        self.known: dict[tuple[int, int], tuple[Fingerprint, int]] = {}
        self.logs: dict[int, ShadowLog] = {}
        self.elections = 0

    def observe(self, node_id: int, engine: Engine, recovered: Recovered) -> ObservedEngine:
        """Wrap a node's engine (again after each restart)."""
        self.logs[node_id] = ShadowLog(recovered)
        delivered = recovered.snapshot.index if recovered.snapshot is not None else 0
        return ObservedEngine(node_id, engine, self, delivered)

    def on_persist(self, node_id: int, persist: Persist, *, leads: bool) -> None:
        """Check a persistence step against Leader Append-Only and Log Matching."""
        log = self.logs[node_id]
        if persist.truncate_from is not None and persist.truncate_from <= log.last:
            if leads:
                self._broken("Leader Append-Only", node_id, f"truncates {persist.truncate_from}")
            covered = self.delivered.get(persist.truncate_from)
            if covered is not None and log.at(persist.truncate_from) == covered:
                self._broken("State Machine Safety", node_id, "truncates a delivered entry")
            log.truncate(persist.truncate_from)
        for entry in persist.entries:
            if entry.index != log.last + 1:
                self._broken("Log Matching", node_id, f"{entry.index} follows {log.last}")
            mark = (fingerprint(entry), log.epoch_before(entry.index))
            known = self.known.setdefault((entry.index, entry.epoch), mark)
            if known[0] != mark[0] or (-1 not in (known[1], mark[1]) and known[1] != mark[1]):
                self._broken("Log Matching", node_id, f"{entry.index}: {mark} but known {known}")
            log.entries.append(mark[0])
        chunk = persist.chunk
        if chunk is not None and chunk.last:
            log.reset(chunk.meta, discard=chunk.discard_log)

    def on_committed(self, node_id: int, entries: list[Entry], previous: int) -> int:
        """Check deliveries against State Machine Safety; return the last index."""
        for entry in entries:
            if entry.index != previous + 1:
                self._broken("State Machine Safety", node_id, f"{entry.index} after {previous}")
            previous = entry.index
            mark = fingerprint(entry)
            known = self.delivered.setdefault(entry.index, mark)
            if known != mark:
                self._broken("State Machine Safety", node_id, f"{entry.index}: {mark} vs {known}")
        return previous

    def on_leadership(self, node_id: int, leadership: Leadership) -> None:
        """Check Election Safety and, for who starts to lead, Leader Completeness."""
        if not leadership.leader:
            return
        known = self.leaders.setdefault(leadership.epoch, leadership.leader)
        if known != leadership.leader:
            self._broken("Election Safety", node_id, f"{leadership} but node {known} led it")
        if leadership.leader != node_id or leadership.established:
            return
        self.elections += 1
        log = self.logs[node_id]
        for index in sorted(self.delivered):
            if index > log.base and log.at(index) != self.delivered[index]:
                self._broken(
                    "Leader Completeness", node_id, f"epoch {leadership.epoch} lacks entry {index}"
                )

    def _broken(self, name: str, node_id: int, detail: str) -> None:
        raise InvariantBroken(f"{name} broken by node {node_id}: {detail}")


class ObservedEngine:
    """An engine with the checker looking over its shoulder."""

    def __init__(
        self, node_id: int, engine: Engine, checker: SafetyChecker, delivered: int
    ) -> None:
        self.inner = engine
        self._node_id = node_id
        self._checker = checker
        self._delivered = delivered
        self._leads = False

    def step(self, event: Event) -> None:
        """Pass the event in."""
        self.inner.step(event)

    def take(self) -> Effects:
        """Pass the effects out, checked."""
        effects = self.inner.take()
        checker = self._checker
        if effects.leadership is not None:
            self._leads = effects.leadership.leader == self._node_id
        if effects.persist is not None:
            checker.on_persist(self._node_id, effects.persist, leads=self._leads)
        if effects.install is not None:
            self._delivered = effects.install.index
        if effects.committed:
            self._delivered = checker.on_committed(
                self._node_id, effects.committed, self._delivered
            )
        if effects.leadership is not None:
            checker.on_leadership(self._node_id, effects.leadership)
        return effects

    def is_quiet(self) -> bool:
        """Pass through."""
        return self.inner.is_quiet()

    def encode(self, message: Message) -> bytes:
        """Pass through."""
        return self.inner.encode(message)

    def decode(self, data: bytes) -> Message:
        """Pass through."""
        return self.inner.decode(data)

    def snapshot_meta(self, index: int) -> SnapshotMeta:
        """Pass through."""
        return self.inner.snapshot_meta(index)

    def configuration(self) -> Configuration:
        """Pass through."""
        return self.inner.configuration()

    def statistics(self) -> EngineStatistics:
        """Pass through."""
        return self.inner.statistics()

    def describe(self) -> str:
        """Pass through."""
        return self.inner.describe()

    def __getattr__(self, name: str) -> Any:
        """Let tests reach the engine behind."""
        return getattr(self.inner, name)
