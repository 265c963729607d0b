"""Random schedules for a Raft cluster; the seed is the whole identity of a run."""

from __future__ import annotations

from raft_cluster import Generator, Letter, RaftCluster

from quorate.consensus.engine import PeerClosed, PeerOpened
from quorate.consensus.registry import EngineSettings

STEPS = 350


def settings_for(draw: Generator, *, lease_reads: bool = False) -> EngineSettings:
    """Small windows and pieces, so that their edges are met all the time."""
    return EngineSettings(
        election_timeout_ms=100,
        heartbeat_ms=20,
        append_bytes_max=1 + draw.draw(40),
        inflight_bytes_max=1 + draw.draw(80),
        inflight_messages_max=1 + draw.draw(4),
        snapshot_chunk_bytes=1 + draw.draw(40),
        log_keep_entries=draw.draw(4),
        lease_reads=lease_reads,
    )


class Schedule:
    """One random run."""

    def __init__(self, seed: int, *, lease_reads: bool = False) -> None:
        self.random = Generator(seed)
        draw = self.random.draw
        self.cluster = RaftCluster(
            (3, 4, 5)[draw(3)],
            learners=draw(2),
            seed=seed,
            settings=settings_for(self.random, lease_reads=lease_reads),
            instant_disk=False,
        )
        self.loss_percent = (0, 5, 20)[draw(3)]
        self.crash_percent = (0, 1, 3)[draw(3)]
        self.disk_percent = (90, 50, 20)[draw(3)]
        self.proposed = 0
        self.asked = 0
        self.cluster.drop_if = self._is_lost

    def _is_lost(self, _: Letter) -> bool:
        return self.random.draw(100) < self.loss_percent

    def step(self) -> None:
        """Do one random thing."""
        cluster, draw = self.cluster, self.random.draw
        up = [node_id for node_id, node in cluster.nodes.items() if node.is_up]
        dice = draw(100)
        if draw(100) < 90:
            self._deliver()
        for node_id in up:
            if draw(100) < self.disk_percent:
                cluster.persist(node_id)
        if dice < 45:
            return
        if dice < 72:
            cluster.advance(1 + draw(40), only=[n for n in up if draw(8)], step_ms=50)
        elif up:
            self._act(up[draw(len(up))], dice)
        if draw(100) < self.crash_percent:
            self._crash_or_start()

    def _deliver(self) -> None:
        cluster, draw = self.cluster, self.random.draw
        for _ in range(1 + draw(20)):
            if cluster.network:
                # Mostly in order: chaos alone would never elect anybody.
                position = 0 if draw(4) else draw(len(cluster.network))
                cluster.deliver_one(position, copy=draw(12) == 0)

    def _act(self, node_id: int, dice: int) -> None:
        cluster, draw = self.cluster, self.random.draw
        node = cluster.nodes[node_id]
        if dice < 88:
            target = cluster.leader() if draw(4) else node_id
            for _ in range(1 + draw(3) if target else 0):
                self.proposed += 1
                cluster.propose(target, f"p{self.proposed}")
        elif dice < 93:
            self.asked += 1
            cluster.read(node_id, f"r{self.asked}")
        elif dice < 95:
            if node.applied_index > (node.disk.snapshot.index if node.disk.snapshot else 0):
                cluster.take_snapshot(node_id)
        elif dice < 96:
            cluster.transfer(node_id, draw(len(cluster.nodes) + 1))
        elif dice < 98:
            other = 1 + draw(len(cluster.nodes))
            cluster.step(node_id, (PeerOpened if draw(2) else PeerClosed)(other))
        elif draw(4) == 0:
            group = [n for n in cluster.nodes if draw(2)]
            cluster.isolate(group, [n for n in cluster.nodes if n not in group])
        else:
            cluster.heal()

    def _crash_or_start(self) -> None:
        cluster, draw = self.cluster, self.random.draw
        node_id = 1 + draw(len(cluster.nodes))
        node = cluster.nodes[node_id]
        if node.is_up:
            cluster.crash(node_id, keep=draw(len(node.pending) + 1))
        else:
            cluster.start(node_id)

    def calm(self) -> None:
        """Stop all faults; safety was checked on the way, now liveness must follow."""
        cluster = self.cluster
        cluster.heal()
        cluster.drop_if = lambda _: False
        cluster.instant_disk = True
        for node_id, node in cluster.nodes.items():
            if not node.is_up:
                cluster.start(node_id)
            while cluster.persist(node_id):
                pass
        for _ in range(40):
            cluster.run(50)
            leader = cluster.leader()
            if leader:
                cluster.propose(leader, "last words")
                cluster.read(leader, "last read")
                cluster.run(300)
                return
        raise AssertionError("no leader after the faults stopped:\n" + cluster.describe())

    def run(self) -> None:
        for _ in range(STEPS):
            self.step()
        self.calm()
        nodes = list(self.cluster.nodes.values())
        assert nodes[0].applied[-1] == "last words"
        for node in nodes:
            assert node.applied == nodes[0].applied, self.cluster.describe()
            assert node.state.durable_index == node.state.log.last_index
        answered = len(self.cluster.reads_done) + len(self.cluster.reads_failed)
        assert "last read" in self.cluster.reads_done
        assert answered <= self.asked + 1
