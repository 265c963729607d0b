"""A virtual cluster: hosts, the network between them, and every fault as a method.

It puts nodes on virtual disks and clocks into one World and carries out what scenarios and tests
want to happen to them. It refuses to know what runs on the nodes, what clients do, and when a
fault is due: faults are drawn by ``plan.py`` and named by ``actions.py``, whose vocabulary is the
methods here.

Invariants:
    * a fault is undone by its counterpart (``restart``, ``heal``, ``free`` ...) or by ``mend``,
      which undoes everything that can be undone
    * what no fault tolerance can undo (a damaged, wiped or lying disk) happens to no more nodes
      than the cluster can lose, unless a scenario says otherwise: the plan sees to that
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from quorate.consensus.change import Change, MemberRole
from quorate.errors import WrongDirectory
from quorate.simulation.actions import ROT_AT_END
from quorate.simulation.ambush import ELECTED, Ambush, Ambushes
from quorate.simulation.host import SMALL_STORAGE, Build, Host, HostSettings, WrapEngine
from quorate.simulation.judges.court import Court
from quorate.simulation.network import LinkQuality, VirtualNetwork
from quorate.simulation.operator import Operator
from quorate.simulation.world import World

REDIAL_US = 20_000
FILLED_SLACK_BYTES = 2_000


class VirtualCluster:
    """Nodes ``1 .. nodes`` in one World.

    Args:
        world: time and dice.
        court: who judges.
        nodes: how many.
        build: makes a node's core.
        cluster_id: 16 bytes.
        hints: whether a closed connection is noticed at once.
        wrap_engine: puts something around each engine: its own invariants, or a mutation.
        spares: machines after the last node that are no members and are not started at first.
    """

    def __init__(
        self,
        world: World,
        court: Court,
        *,
        nodes: int,
        build: Build,
        cluster_id: bytes,
        hints: bool = True,
        wrap_engine: WrapEngine | None = None,
        spares: int = 0,
    ) -> None:
        self.world = world
        self.court = court
        self.hints = hints
        self.network = VirtualNetwork(world, self._deliver)
        self.network.on_broken = self._link_broken
        self.on_down: Callable[[Host], None] = lambda _: None
        self.crashes = self.partitions = self.stops = 0
        self._ambushes = Ambushes(world, self._strike)
        court.engine.on_moment = court.durability.on_moment = self._reached
        settings = HostSettings(SMALL_STORAGE, cluster_id, may_repair=nodes + spares > 1)
        self.hosts = {
            node: Host(node, world, court, settings, build, wrap_engine)
            for node in range(1, nodes + spares + 1)
        }
        self._nodes = nodes
        self.operator = Operator(self, court, spares)
        for host in self.hosts.values():
            host.send = self.network.send
            host.on_down = self._host_down
            host.on_moment = self._reached

    # ---- looking -------------------------------------------------------------------------------

    def living(self) -> list[Host]:
        """Hosts whose process runs (or stands still)."""
        return [host for host in self.hosts.values() if host.alive]

    def usable(self) -> list[Host]:
        """Hosts that run or can be started again."""
        return [host for host in self.hosts.values() if host.retired is None]

    # ---- processes and machines ----------------------------------------------------------------

    def start(self) -> None:
        """Start all nodes and open the links between them; spares wait until they are added."""
        members = [host for node, host in self.hosts.items() if node <= self._nodes]
        for host in members:
            host.start()
        for host in members:
            self._introduce(host)

    def crash(self, node: int) -> None:
        """Power is lost."""
        host = self.hosts[node]
        if host.alive:
            self.crashes += 1
            host.crash()

    def crash_after(self, node: int, operations: int) -> None:
        """Power is lost in the middle of what the disk does next."""
        if self.hosts[node].alive:
            self.hosts[node].crash_after(operations)

    def kill(self, node: int) -> None:
        """The process dies, the machine lives on."""
        host = self.hosts[node]
        if host.alive:
            self.crashes += 1
            host.kill()

    def restart(self, node: int) -> None:
        """Start a node that is down."""
        self._start_again(node, None)

    def restart_and_crash(self, node: int, operations: int) -> None:
        """Start a node that is down; power is lost again while it recovers, or soon after."""
        self._start_again(node, operations)

    def _start_again(self, node: int, power_lost_after: int | None) -> None:
        host = self.hosts[node]
        if host.alive or host.retired is not None:
            return
        if host.start(power_lost_after=power_lost_after):
            self._introduce(host)

    def pause(self, node: int) -> None:
        """The process stands still."""
        self.hosts[node].pause()

    def resume(self, node: int) -> None:
        """The process goes on."""
        self.hosts[node].resume()

    def transfer(self, node: int) -> None:
        """Leadership is handed over on purpose, if this node has it."""
        self.hosts[node].call(_transfer)

    def strike_leader(self, blow: str, duration_us: int) -> None:
        """Whoever was elected last is crashed, killed, paused or cut off, and gets over it."""
        leaders = self.court.engine.leaders
        if not leaders:
            return
        self._strike(blow, leaders[max(leaders)], duration_us)

    def strike_when(
        self, moment: str, nodes: tuple[int, ...], blow: str, delay_us: int, duration_us: int
    ) -> None:
        """Whoever of these nodes reaches this moment first is struck, so long after it, once."""
        self._ambushes.lay(Ambush(moment, nodes, blow, delay_us, duration_us))

    def _reached(self, moment: str, node: int) -> None:
        self._ambushes.reached(moment, node)
        if moment == ELECTED and self.operator.is_waiting:
            self.world.after(0, self.operator.on_elected)

    def _strike(self, blow: str, node: int, duration_us: int) -> None:
        if blow == "stall-disk":
            self.stall_disk(node, duration_us)
            return
        if blow == "reset-links":
            self.reset_links(node)
            return
        strike: Callable[[int], None] = getattr(self, blow.replace("-", "_"))
        strike(node)
        self.world.after(duration_us, partial(self._get_over, blow, node))

    def _get_over(self, blow: str, node: int) -> None:
        if blow in ("crash", "kill"):
            self.restart(node)
        elif blow == "pause":
            self.resume(node)
        elif blow == "clog-inbound":
            self._unclog_inbound(node)
        else:
            self.network.rejoin(node)

    # ---- members -------------------------------------------------------------------------------

    def members(self) -> list[Host]:
        """Living hosts that belong and keep data, as far as whoever was elected last knows."""
        leaders = self.court.engine.leaders
        if not leaders:
            return [host for host in self.living() if host.node_id <= self._nodes]
        configuration = self.court.membership.in_force(leaders[max(leaders)])
        ids = set(configuration.members) - set(configuration.witnesses)
        return [host for host in self.living() if host.node_id in ids]

    def add_member(self, node: int) -> None:
        """A machine is started and added as a voter."""
        self.operator.add(node, MemberRole.VOTER)

    def add_learner(self, node: int) -> None:
        """A machine is started and added as a learner."""
        self.operator.add(node, MemberRole.LEARNER)

    def add_witness(self, node: int) -> None:
        """A machine is started and added as a witness."""
        self.operator.add(node, MemberRole.WITNESS)

    def remove_member(self, node: int) -> None:
        """A member is removed; its machine runs on."""
        self.operator.change(Change(remove=(node,)))

    def promote_member(self, node: int) -> None:
        """A learner is made a voter."""
        self.operator.change(Change(promote=(node,)))

    def demote_member(self, node: int) -> None:
        """A voter is made a learner."""
        self.operator.change(Change(demote=(node,)))

    def replace_members(self, old: Sequence[int], new: Sequence[int]) -> None:
        """Members are replaced by machines that are no members yet, all at once."""
        self.operator.replace(old, new)

    def prefer(self, node: int, priority: int) -> None:
        """A member is given a priority to lead."""
        self.operator.change(Change(priorities=((node, priority),)))

    # ---- network -------------------------------------------------------------------------------

    def link_quality(self, quality: LinkQuality) -> None:
        """All links are this bad from now on."""
        self.network.quality = quality

    def slow_node(self, node: int, quality: LinkQuality) -> None:
        """All links from and to this node are this bad."""
        self.network.slow_node(node, quality)

    def cut(self, sender: int, receiver: int) -> None:
        """A link goes dead in one direction."""
        self.network.cut(sender, receiver)

    def partial(self, one: int, other: int) -> None:
        """Two nodes no longer reach each other; the others reach both."""
        self.partitions += 1
        self.network.partial(one, other)

    def partition(self, left: Sequence[int], right: Sequence[int]) -> None:
        """Two groups no longer reach each other."""
        self.partitions += 1
        self.network.partition(list(left), list(right))

    def isolate(self, node: int) -> None:
        """A node reaches nobody and is reached by nobody."""
        self.partitions += 1
        self.network.isolate(node)

    def isolate_inbound(self, node: int) -> None:
        """A node is heard but hears nobody."""
        self.partitions += 1
        self.network.isolate_inbound(node)

    def isolate_outbound(self, node: int) -> None:
        """A node hears but is heard by nobody."""
        self.partitions += 1
        self.network.isolate_outbound(node)

    def clog_inbound(self, node: int) -> None:
        """All links to a node hold everything back."""
        for other in self.hosts:
            if other != node:
                self.network.clog(other, node)

    def reset_links(self, node: int) -> None:
        """A node's connections are closed, as by a proxy that restarts, and opened again."""
        for other in self.hosts:
            if other != node:
                self.network.break_link(node, other)
                if self.hints:
                    self._hint_closed(self.hosts[other], node)
                self.world.after(REDIAL_US, partial(self._redial, other, node))

    def _unclog_inbound(self, node: int) -> None:
        for other in self.hosts:
            if other != node:
                self.network.unclog(other, node)

    def bridge(self, left: Sequence[int], right: Sequence[int], node: int) -> None:
        """Two groups reach each other only through a node that reaches both."""
        self.partitions += 1
        self.network.bridge(list(left), list(right), node)

    def chain(self, nodes: Sequence[int]) -> None:
        """Each node reaches only its neighbours in this row."""
        self.partitions += 1
        self.network.chain(list(nodes))

    def clog(self, sender: int, receiver: int) -> None:
        """A link holds everything back."""
        self.network.clog(sender, receiver)

    def unclog(self, sender: int, receiver: int) -> None:
        """A clogged link lets everything go at once."""
        self.network.unclog(sender, receiver)

    def flap(self, sender: int, receiver: int, period_us: int, duration_us: int) -> None:
        """A link goes up and down."""
        self.network.flap(sender, receiver, period_us, self.world.now_us + duration_us)

    def heal(self) -> None:
        """All links work again; how bad they are stays."""
        self.network.heal()

    # ---- disks ---------------------------------------------------------------------------------

    def rot(self, node: int, what: str) -> None:
        """Bits of a stored file change: ``wal``, ``snapshot``, ``identity`` or ``any``.

        ``end-of-wal``: of the newest two groups of the log, so that the last vote may be lost.
        """
        if not self.operator.may_harm(node):
            return
        if what != ROT_AT_END:
            host = self._harm(node)
            host.disk.rot(host.dice.draw, what)
        elif len(self.hosts) == self._nodes:
            # With changes of members a lost vote is a matter for people: nodes refuse to start.
            self._harm(node).disk.rot_end_of_log()

    def decay(self, node: int, what: str) -> None:
        """Some sectors of a stored file cannot be read until they are written again."""
        if not self.operator.may_harm(node):
            return
        host = self._harm(node)
        host.disk.decay(host.dice.draw, what)

    def misdirect_write(self, node: int) -> None:
        """The next write lands somewhere else, and is confirmed."""
        if not self.operator.may_harm(node):
            return
        self._harm(node).disk.misdirect_next_write(self.hosts[node].dice.draw)

    def lose_write(self, node: int) -> None:
        """The next write is confirmed and never done."""
        if not self.operator.may_harm(node):
            return
        self._harm(node).disk.lose_next_write()

    def wipe(self, node: int) -> None:
        """The whole directory is lost, while the node is down."""
        if not self.operator.may_harm(node):
            return
        host = self._harm(node)
        if host.alive:
            self.crash(node)
        host.disk.wipe()
        self.court.durability.forget(node)
        if len(self.hosts) > self._nodes and host.retired is None:
            # Members that never met the old directory would take the new one for it.
            host.retired = "its directory is lost, and others are to be added in its place"

    def _harm(self, node: int) -> Host:
        host = self.hosts[node]
        host.is_harmed = True
        return host

    def fail_sync(self, node: int) -> None:
        """The next sync fails, and the kernel forgets what was to be written."""
        self.hosts[node].may_stop = True
        self.hosts[node].disk.fail_next_sync()

    def fail_reads(self, node: int) -> None:
        """Reading fails from now on, as over bad sectors."""
        self.hosts[node].may_stop = True
        self.hosts[node].disk.fail_reads()

    def fill(self, node: int) -> None:
        """The disk is nearly full: the node goes on, and takes no writes."""
        host = self.hosts[node]
        host.disk.fill(host.dice.draw(FILLED_SLACK_BYTES))

    def heal_disk(self, node: int) -> None:
        """The disk has space, reads and syncs again."""
        self.hosts[node].disk.calm()

    def slow_disk(self, node: int, factor: int) -> None:
        """The disk takes so many times as long as usual; 1 is as usual."""
        self.hosts[node].timing.slow(max(1, factor))

    def stall_disk(self, node: int, duration_us: int) -> None:
        """The disk answers nothing for a while."""
        self.hosts[node].timing.stall(self.world.now_us + duration_us)

    # ---- clocks --------------------------------------------------------------------------------

    def jump_clock(self, node: int, duration_us: int) -> None:
        """A node's wall clock is set forward, or back."""
        self.hosts[node].clock.jump(duration_us // 1000)

    def drift_clock(self, node: int, ppm: int) -> None:
        """A node's clocks run fast, or slow, by so many millionths."""
        self.hosts[node].clock.drift(ppm)

    # ---- the end of all faults -----------------------------------------------------------------

    def mend(self) -> None:
        """Undo everything that can be undone: from here on the cluster must get well."""
        self._ambushes.lift()
        self.operator.leave()
        self.network.heal()
        self.network.quality = LinkQuality()
        for host in self.hosts.values():
            if host.alive and host.disk.is_dead:
                host.crash()
            host.disk.calm()
            host.timing.calm()
            host.clock.drift(0)
            host.resume()
        for host in self.hosts.values():
            if host.life or host.node_id <= self._nodes:
                self.restart(host.node_id)
        for host in self.living():
            self._introduce(host)
        self._retire_the_mute()

    def _retire_the_mute(self) -> None:
        """A node that may have lost its vote needs a word of all others: else people must help."""
        mute = [host for host in self.living() if _is_mute(host)]
        if len(mute) > 1 or (mute and len(self.usable()) < len(self.hosts)):
            for host in mute:
                host.retire("it may have lost its vote, and not every other voter can be asked")

    # ---- links ---------------------------------------------------------------------------------

    def _deliver(self, sender: int, receiver: int, channel: int, payload: bytes) -> None:
        self.world.mark(payload)
        self.hosts[receiver].receive(sender, channel, payload)

    def _introduce(self, host: Host) -> None:
        """A node that starts dials all others, and they dial it; each checks who the other is."""
        node = host.node_id
        for other in self.living():
            if other is host:
                continue
            known = _accepts(other, host) and _accepts(host, other)
            if not host.alive:
                return
            if known:
                other.call(partial(_opened, peer=node))
                host.call(partial(_opened, peer=other.node_id))

    def _host_down(self, host: Host) -> None:
        if host.stopped is not None:
            self.stops += 1
        self.on_down(host)
        if not self.hints:
            return
        for other in self.living():
            if not self.network.is_cut(host.node_id, other.node_id):
                delay = self.world.between(0, 5_000)
                self.world.after(delay, partial(self._hint_closed, other, host.node_id))

    def _hint_closed(self, other: Host, peer: int) -> None:
        other.call(partial(_closed, peer=peer))

    def _link_broken(self, sender: int, receiver: int) -> None:
        """A receiver closed a link for damage: the sender notices, and dials again."""
        self._hint_closed(self.hosts[sender], receiver)
        self.world.after(REDIAL_US, partial(self._redial, sender, receiver))

    def _redial(self, sender: int, receiver: int) -> None:
        if self.hosts[receiver].alive and not self.network.is_cut(sender, receiver):
            self.hosts[sender].call(partial(_opened, peer=receiver))


def _accepts(host: Host, peer: Host) -> bool:
    """Whether the host talks to the peer; one whose directory is not the known one is retired."""
    if not host.alive or not peer.alive:
        return False
    try:
        return host.check_peer(peer.node_id, peer.directory_id)
    except WrongDirectory as error:
        peer.retire(str(error))
        return False


def _is_mute(host: Host) -> bool:
    return host.damage is not None and not host.damage.is_hard_state_known


def _opened(core: Any, peer: int) -> None:
    core.peer_opened(peer)


def _closed(core: Any, peer: int) -> None:
    core.peer_closed(peer)


def _transfer(core: Any) -> None:
    core.transfer_leadership()
