"""Where settings meet the parts: the one module that knows which server and which store.

Everything else in ``node/`` is written against ``ports.py``.
"""

from __future__ import annotations

import os
import secrets

from quorate.consensus.entry import Recovered
from quorate.consensus.registry import EngineSettings
from quorate.errors import CorruptData
from quorate.node.beginning import Beginning
from quorate.node.clock import Clock
from quorate.node.read_ahead import read_ahead
from quorate.node.server_info import make_server_info
from quorate.node.settings import NodeSettings
from quorate.node.versions import spoken_versions
from quorate.protocol.peer import Hello
from quorate.replication.turn import ReplicaSettings
from quorate.storage.identity import load_identity
from quorate.storage.real_disk import RealDisk
from quorate.storage.settings import StorageSettings
from quorate.storage.store import Store
from quorate.tree.server import CoordinationServer, ServerSettings
from quorate.tree.service_settings import ServiceSettings

_BOOT_NONCE_BITS = 63


def make_hello(settings: NodeSettings, store: Store, beginning: Beginning) -> Hello:
    """What this process says about itself on every link."""
    identity = store.identity
    version_min, version = spoken_versions(os.environ)
    return Hello(
        cluster_id=identity.cluster_id.hex(),
        node_id=settings.node_id,
        directory_id=identity.directory_id.hex(),
        incarnation=identity.incarnation,
        boot_nonce=secrets.randbits(_BOOT_NONCE_BITS),
        address=str(beginning.peer_address) if beginning.peer_address is not None else "",
        version=version,
        version_min=version_min,
    )


def open_store(
    settings: NodeSettings, disk: RealDisk, beginning: Beginning, directory_id: bytes
) -> tuple[Store, Recovered]:
    """Open (or make) the data directory.

    Args:
        settings: sizes.
        disk: the directory.
        beginning: whose it is, or is to be.
        directory_id: its name, if it is new.

    Raises:
        StorageError: it cannot be trusted or used; the message says what to do.
    """
    identity = load_identity(disk)
    has_company = len(beginning.founders) != 1 or bool(identity and identity.peers)
    store, recovered = Store.open(
        disk,
        node_id=settings.node_id,
        cluster_id=beginning.cluster_id,
        new_directory_id=directory_id,
        settings=StorageSettings(
            segment_bytes=settings.segment_bytes, reserve_bytes=settings.disk_reserve_bytes
        ),
        may_repair=has_company,
        founding=beginning.founding,
    )
    damage = recovered.damage
    if damage is not None and not damage.is_hard_state_known:
        # consensus/raft/repair.py could ask all voters; but which ones, after changes of members
        # that are among what was lost, is not settled. So a person decides.
        raise CorruptData(
            "hard state",
            0,
            f"{damage.words}. Its last vote may be lost, too, so it must not come back under its "
            "id: remove this node from the cluster and let it join as a new one",
        )
    return store, recovered


def make_server(
    settings: NodeSettings,
    store: Store,
    recovered: Recovered,
    beginning: Beginning,
    clock: Clock,
) -> CoordinationServer:
    """Build the pure server from settings and what the disk held."""
    server = CoordinationServer(
        node_id=settings.node_id,
        incarnation=store.identity.incarnation,
        configuration=beginning.first_configuration(),
        recovered=recovered,
        restore=lambda meta: read_ahead(store.open_snapshot(meta)),
        settings=_server_settings(settings),
        draw=secrets.randbelow,
        random_bytes=secrets.token_bytes,
        now_ms=clock.now_ms(),
        wall_ms=clock.wall_ms(),
    )
    server.service.info = make_server_info(settings, server.status, clock)
    return server


def _server_settings(settings: NodeSettings) -> ServerSettings:
    return ServerSettings(
        engine=EngineSettings(
            election_timeout_ms=settings.election_timeout_ms,
            heartbeat_ms=settings.heartbeat_ms,
            announce_at_once=False,
            snapshot_send_bytes_per_second=settings.snapshot_bytes_per_second,
            lease_reads=settings.reads == "lease",
            clock_drift_percent=settings.clock_drift_percent,
        ),
        replica=ReplicaSettings(snapshot_bytes_min=settings.snapshot_every_bytes),
        service=ServiceSettings(
            session_timeout_min_ms=settings.session_timeout_min_ms,
            session_timeout_max_ms=settings.session_timeout_max_ms,
            frame_bytes_max=settings.request_bytes_max,
            connection_outstanding_bytes_max=max(4 << 20, settings.request_bytes_max),
            connections_max=settings.connections_max,
            connections_per_address_max=(
                settings.connections_per_address_max or settings.connections_max
            ),
            fresh_reads=settings.reads != "local",
            super_digest=settings.super_digest,
        ),
    )
