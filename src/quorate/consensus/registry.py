"""Engines by name: the only place that knows which engines exist.

``replication/`` asks for an engine by the name in the settings and sees nothing but the Engine
interface; a new engine is one line here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from quorate.consensus.engine import Draw, Engine
from quorate.consensus.entry import Recovered
from quorate.consensus.membership import Configuration
from quorate.errors import SettingsError

DRIFT_PERCENT_MIN = 100
DRIFT_PERCENT_MAX = 200
"""Clocks worse than this are of no use to anybody."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Timing and bounds that every engine understands.

    Attributes:
        election_timeout_ms: a member that hears no leader for one to two times this campaigns.
            Too short: elections during a garbage collection or a slow fsync. Too long: a hung
            leader is noticed late (a *killed* one is noticed by its closed connection).
        election_timeout_spread_ms: each wait is drawn from ``election_timeout_ms`` and up to this
            much more. None: as much more as the timeout itself. Little or none makes members
            campaign at once, again and again (docs/theory.md): for experiments.
        election_retries: an election that nobody won is tried again after a short, growing, drawn
            time, so often; then after a whole timeout, as in the paper. 0: always so. It bounds
            how long a split vote is felt (docs/theory.md).
        heartbeat_ms: an idle leader speaks this often; at most a third of the election timeout.
        append_bytes_max: most payload bytes in one replication message, so that a catch-up never
            starves heartbeats (dissertation §10.2.2).
        inflight_bytes_max: most bytes sent to one member and not yet acknowledged.
        inflight_messages_max: the same in messages.
        snapshot_chunk_bytes: size of the pieces in which a snapshot travels.
        snapshot_send_bytes_per_second: how fast a leader sends snapshots, to all members together,
            so that a member that catches up takes neither disk nor network from the others. Too
            little: it never catches up with a log that grows faster. 0: no bound.
        log_keep_entries: entries kept in memory behind a snapshot, so that a member that is only
            a little behind needs no snapshot.
        log_keep_bytes: the same in payload bytes; the smaller of the two bounds holds.
        lease_reads: a leader answers linearizable reads without a round while it holds a lease.
            Then losing a leader's process costs an election timeout: voters keep their promise.
        clock_drift_percent: the clock drift bound: how fast the fastest clock of the cluster
            runs, at most, in hundredths of the slowest one's speed; a read by lease is right only
            if that is so (docs/reads.md).
        catch_up_patience_ms: a new member that gets no further for so long ends the change that
            would have added it.
        announce_at_once: a leader with nothing else to send tells the members of each commit at
            once. Off: on ``Announce``, with its next message, or with the next tick.
    """

    election_timeout_ms: int = 500
    election_timeout_spread_ms: int | None = None
    election_retries: int = 4
    heartbeat_ms: int = 100
    append_bytes_max: int = 1 << 20
    inflight_bytes_max: int = 8 << 20
    inflight_messages_max: int = 256
    snapshot_chunk_bytes: int = 256 << 10
    snapshot_send_bytes_per_second: int = 32 << 20
    log_keep_entries: int = 1000
    log_keep_bytes: int = 16 << 20
    catch_up_patience_ms: int = 30_000
    announce_at_once: bool = True
    lease_reads: bool = False
    clock_drift_percent: int = 110

    def __post_init__(self) -> None:
        if self.heartbeat_ms < 1 or self.heartbeat_ms * 3 > self.election_timeout_ms:
            raise SettingsError(
                f"heartbeat {self.heartbeat_ms} ms must be at least 1 ms and at most a third of "
                f"the election timeout ({self.election_timeout_ms} ms): one lost heartbeat must "
                "not cost a leader"
            )
        spread_ms = self.election_timeout_spread_ms
        if spread_ms is not None and spread_ms < 0:
            raise SettingsError(f"election timeout spread {spread_ms} ms must not be negative")
        if self.election_retries < 0:
            raise SettingsError(f"election retries {self.election_retries} must not be negative")
        if self.snapshot_send_bytes_per_second < 0 or self.snapshot_chunk_bytes < 1:
            raise SettingsError(
                "snapshots are sent in pieces of at least 1 byte, and not slower than not at all"
            )
        if not DRIFT_PERCENT_MIN <= self.clock_drift_percent <= DRIFT_PERCENT_MAX:
            raise SettingsError(
                f"the clock drift bound {self.clock_drift_percent} must be {DRIFT_PERCENT_MIN} to "
                f"{DRIFT_PERCENT_MAX} percent: the fastest clock's speed against the slowest's"
            )


def create_engine(
    name: str,
    *,
    node_id: int,
    configuration: Configuration,
    recovered: Recovered,
    settings: EngineSettings,
    draw: Draw,
    now_ms: int,
) -> Engine:
    """Make the engine called ``name`` for one node, from what its disk held.

    ``configuration`` is the bootstrap membership, in force until the log or a snapshot says more.

    Raises:
        SettingsError: no engine has this name.
    """
    if name == "raft":
        from quorate.consensus.raft.engine import RaftEngine  # noqa: PLC0415 - registry

        return RaftEngine(
            node_id=node_id,
            configuration=configuration,
            recovered=recovered,
            settings=settings,
            draw=draw,
            now_ms=now_ms,
        )
    raise SettingsError(f"unknown engine {name!r}; known engines: raft")


def check_steps(name: str, engine: Engine) -> Engine:
    """Wrap an engine in its own invariants, checked around every step: slow, for tests.

    Raises:
        SettingsError: no engine has this name.
    """
    if name == "raft":
        from quorate.consensus.raft.invariants import CheckedRaft  # noqa: PLC0415 - registry

        return cast("Engine", CheckedRaft(engine))
    raise SettingsError(f"unknown engine {name!r}; known engines: raft")


def describe_hard_state(data: bytes | None) -> str:
    """An engine's private durable state in words, for people who look at a data directory."""
    if data is None:
        return "no vote yet"
    from quorate.consensus.raft import codec  # noqa: PLC0415 - registry

    words = codec.describe_hard_state(data)
    return words or f"a state of {len(data)} bytes that no known engine wrote"
