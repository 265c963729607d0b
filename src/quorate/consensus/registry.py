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
        heartbeat_ms: an idle leader speaks this often; at most a third of the election timeout.
        append_bytes_max: most payload bytes in one replication message, so that a catch-up never
            starves heartbeats (dissertation §10.2.2).
        inflight_bytes_max: most bytes sent to one member and not yet acknowledged.
        inflight_messages_max: the same in messages.
        snapshot_chunk_bytes: size of the pieces in which a snapshot travels.
        log_keep_entries: entries kept in memory behind a snapshot, so that a member that is only
            a little behind needs no snapshot.
        log_keep_bytes: the same in payload bytes; the smaller of the two bounds holds.
        catch_up_patience_ms: a new member that gets no further for so long ends the change that
            would have added it.
        announce_at_once: a leader with nothing else to send tells the members of each commit at
            once. Off: on ``Announce``, with its next message, or with the next tick.
    """

    election_timeout_ms: int = 500
    election_timeout_spread_ms: int | None = None
    heartbeat_ms: int = 100
    append_bytes_max: int = 1 << 20
    inflight_bytes_max: int = 8 << 20
    inflight_messages_max: int = 256
    snapshot_chunk_bytes: int = 256 << 10
    log_keep_entries: int = 1000
    log_keep_bytes: int = 16 << 20
    catch_up_patience_ms: int = 30_000
    announce_at_once: bool = True

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
