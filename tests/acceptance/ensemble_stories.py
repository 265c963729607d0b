"""What acceptance tests do with a virtual ensemble again and again."""

from __future__ import annotations

from collections.abc import Callable

from quorate.consensus.registry import EngineSettings
from quorate.replication.turn import ReplicaSettings
from quorate.simulation.ensemble import SimulatedEnsemble
from quorate.simulation.links import LinkQuality
from quorate.tree.server import ServerSettings

BUSY = ServerSettings(replica=ReplicaSettings(resend_ms=20, digest_interval=16))
"""Digests are compared often, and what was lost goes again soon."""

SMALL_SNAPSHOTS = ServerSettings(
    engine=EngineSettings(log_keep_entries=5, snapshot_chunk_bytes=500),
    replica=ReplicaSettings(
        resend_ms=20, snapshot_bytes_min=4_000, snapshot_factor=0.5, digest_interval=16
    ),
)
"""A log that is compacted many times in a short run, and digests that are compared often."""


def started(seed: int, *, nodes: int = 3, settings: ServerSettings = BUSY) -> SimulatedEnsemble:
    """An ensemble with an established leader that every node follows; links keep order, as TCP."""
    ensemble = SimulatedEnsemble(seed, nodes=nodes, settings=settings)
    ensemble.cluster.link_quality(LinkQuality(ordered=True))
    ensemble.start()
    settle(ensemble)
    return ensemble


def settle(ensemble: SimulatedEnsemble) -> None:
    """Let time pass until there is a leader and every living node serves."""
    ensemble.run_until(lambda: ensemble.leader() != 0)
    ensemble.run_until(lambda: all(h.core.is_serving() for h in ensemble.hosts.values() if h.alive))


def others(ensemble: SimulatedEnsemble, *nodes: int) -> list[int]:
    """All nodes but these."""
    return [node for node in ensemble.hosts if node not in nodes]


def followers(ensemble: SimulatedEnsemble) -> list[int]:
    """All nodes but the leader."""
    return others(ensemble, ensemble.leader())


def cut_off(ensemble: SimulatedEnsemble, *nodes: int) -> None:
    """These on one side of a partition, all others on the other."""
    ensemble.network.partition(list(nodes), others(ensemble, *nodes))


def stop_the_clock(ensemble: SimulatedEnsemble, node: int) -> None:
    """From now on this process sees no time pass, until it is started again."""
    ensemble.hosts[node].core.tick = lambda *_: None


def crash_and_restart(ensemble: SimulatedEnsemble, node: int, after_us: int) -> None:
    """Take a node's power, if it has any; give it back later, unless somebody did so before."""
    ensemble.crash(node)
    ensemble.world.after(after_us, lambda: ensemble.restart(node))


def digests(ensemble: SimulatedEnsemble) -> set[int]:
    """The digests of all nodes' states: one when they agree."""
    return {host.core.replica.digest() for host in ensemble.hosts.values()}


def agree(ensemble: SimulatedEnsemble) -> None:
    """Heal and restart everything, and let time pass until all nodes hold the same state."""
    ensemble.network.heal()
    for node in ensemble.hosts:
        ensemble.restart(node)
    settle(ensemble)
    ensemble.run_until(
        lambda: (
            len(digests(ensemble)) == 1
            and not any(host.is_being_repaired for host in ensemble.hosts.values())
        )
    )


def run_steps(ensemble: SimulatedEnsemble, steps: int, act: Callable[[int], None]) -> None:
    """Let a millisecond pass and act, ``steps`` times."""
    for step in range(steps):
        ensemble.world.run(1_000)
        act(step)
