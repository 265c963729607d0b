"""The plan: a seed becomes a scenario. Which faults exist in a run, how strong, and when.

Swarm testing (Groce et al., ISSTA '12): a run that has every fault a little is a weaker test than
one that has a few strongly, because faults hide each other. So each seed first draws which kinds
of fault it has at all, then how often, then the moments.

The plan keeps a budget: what no fault tolerance can undo (damage that a disk cannot tell from
what it should hold, a lost directory) strikes fewer nodes than a majority needs. Everything else
may strike all nodes at once, and does.

Invariant: the same seed and wishes give the same scenario, on any machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from quorate.errors import SettingsError
from quorate.simulation.actions import BLOWS, ROT_KINDS, Action
from quorate.simulation.damage_plots import add_damage_plots
from quorate.simulation.draft import MS, SECOND, Draft
from quorate.simulation.membership_plan import draw_membership
from quorate.simulation.network import LinkQuality
from quorate.simulation.plots import PLOTS, add_plot
from quorate.simulation.scenario import RunSettings, Scenario, Step
from quorate.simulation.workloads.workload import Workload
from quorate.simulation.world import Dice

CHECKED_EVERY = 10
READS_EVERY = 7
"""Of so many seeds, one run has linearizable reads by rounds, one by leases, two have retries."""
ONCE_AT = (0, 4)
ONCE_PERCENT = 50
RETRIES = (0, 4)
"""Every other run retries elections as the paper does."""
LEASE_PERCENT = 123
"""A clock drift bound that the drawn drift (a tenth faster, a tenth slower) keeps within."""
SHARES_OF_KINDS = (0.1, 0.2, 0.4, 0.6)
AMBUSH = "ambush"
AMBUSH_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a caller wants runs to be like; everything left open is drawn from the seed.

    Attributes:
        workload: name of a workload; "": drawn.
        nodes: 0: 3 or 5, drawn.
        clients: how many.
        duration_us: how long faults act.
        faults: kinds that may exist, see KINDS, and single plots of the ambushes, as
            ``ambush:rivals``, which every run then has; None: all kinds.
        leases: whether reads are answered by leases; None: some runs.
        once: whether clients ask for writes exactly once; None: some runs.
    """

    workload: str = ""
    nodes: int = 0
    clients: int = 4
    duration_us: int = 60 * SECOND
    faults: tuple[str, ...] | None = None
    leases: bool | None = None
    once: bool | None = None


# ---- kinds of fault: each adds one occurrence to the draft ---------------------------------------


def _crash(draft: Draft, at_us: int) -> None:
    dice, node = draft.dice, draft.node()
    back_us = at_us + draft.span(5 * MS, 10 * SECOND)
    kind = dice.draw(10)
    if kind < 4:
        draft.add(at_us, "crash", node)
    elif kind < 6:
        draft.add(at_us, "kill", node)
    elif kind < 9:
        draft.add(at_us, "crash-after", node, dice.draw(25))
    else:
        draft.add(at_us, "crash", node)
        draft.add(back_us, "restart-and-crash", node, dice.draw(12))
        back_us += draft.span(5 * MS, 500 * MS)
    draft.add(back_us, "restart", node)


def _blackout(draft: Draft, at_us: int) -> None:
    for node in draft.nodes:
        draft.add(at_us, "crash", node)
        draft.add(at_us + draft.span(5 * MS, 2 * SECOND), "restart", node)


def _pause(draft: Draft, at_us: int) -> None:
    node = draft.node()
    draft.add(at_us, "pause", node)
    draft.add(at_us + draft.span(20 * MS, 3 * SECOND), "resume", node)


def _unrest(draft: Draft, at_us: int) -> None:
    """One election after the other: short blows, each about as long as an election takes.

    Logs part, votes split and leaders fall before they have committed anything of their own only
    if the next blow comes before the last one is forgotten (Raft Fig. 8 needs five in a row).
    """
    dice = draft.dice
    for _ in range(4 + dice.draw(16)):
        kind, over_us = dice.draw(10), draft.span(5 * MS, SECOND)
        if kind < 4:
            draft.add(at_us, "strike-leader", dice.pick(BLOWS), over_us)
        elif kind == 4:  # it stands still, and nobody can tell it what it missed
            still_us = draft.span(200 * MS, 3 * SECOND)
            draft.add(at_us, "strike-leader", "pause", still_us)
            draft.add(at_us, "strike-leader", "isolate", still_us + over_us)
            at_us += still_us
        elif kind < 7:
            node = draft.node()
            draft.add(at_us, dice.pick(("crash", "kill")), node)
            draft.add(at_us + over_us, "restart", node)
        elif kind < 9 and len(draft.nodes) > 1:
            draft.add(at_us, "partition", *draft.halves())
            draft.add(at_us + over_us, "heal")
        else:
            _quick_restarts(draft, at_us)
        at_us += draft.span(2 * MS, SECOND)


def _quick_restarts(draft: Draft, at_us: int) -> None:
    """Processes die and are back in the middle of the same election."""
    for _ in range(2 + draft.dice.draw(8)):
        node, over_us = draft.node(), draft.span(2 * MS, 40 * MS)
        draft.add(at_us, draft.dice.pick(("crash", "kill")), node)
        draft.add(at_us + over_us, "restart", node)
        at_us += draft.span(2 * MS, 60 * MS)


def _partition(draft: Draft, at_us: int) -> None:
    dice, nodes = draft.dice, draft.nodes
    if len(nodes) == 1:
        return
    kind = dice.draw(7)
    if kind < 2:
        draft.add(at_us, "partition", *draft.halves())
    elif kind == 2:
        draft.add(at_us, "isolate", draft.node())
    elif kind == 3:
        draft.add(at_us, "partial", *draft.pair())
    elif kind == 4 and len(nodes) > 2:
        middle, *rest = dice.some(nodes, len(nodes))
        split = 1 + dice.draw(len(rest) - 1)
        draft.add(at_us, "bridge", tuple(rest[:split]), tuple(rest[split:]), middle)
    elif kind == 5 and len(nodes) > 2:
        draft.add(at_us, "chain", tuple(dice.some(nodes, len(nodes))))
    else:
        draft.add(at_us, "partition", *draft.halves())
        draft.add(at_us + draft.span(10 * MS, 300 * MS), "partition", *draft.halves())
    draft.add(at_us + draft.span(50 * MS, 8 * SECOND), "heal")


def _one_way(draft: Draft, at_us: int) -> None:
    kind = draft.dice.draw(3)
    if kind == 0:
        draft.add(at_us, "isolate-inbound", draft.node())
    elif kind == 1:
        draft.add(at_us, "isolate-outbound", draft.node())
    else:
        draft.add(at_us, "cut", *draft.pair())
    draft.add(at_us + draft.span(50 * MS, 8 * SECOND), "heal")


def _flapping(draft: Draft, at_us: int) -> None:
    period_us = draft.span(10 * MS, SECOND)
    draft.add(at_us, "flap", *draft.pair(), period_us, period_us * (2 + draft.dice.draw(8)))


def _clogging(draft: Draft, at_us: int) -> None:
    """Swizzle-clogging (FoundationDB): clog some links one by one, let go in another order."""
    links = [(a, b) for a in draft.nodes for b in draft.nodes if a != b]
    chosen = draft.dice.some(links, 1 + draft.dice.draw(len(links))) if links else []
    for link in chosen:
        draft.add(at_us + draft.span(MS, SECOND), "clog", *link)
    for link in draft.dice.some(chosen, len(chosen)):
        draft.add(at_us + SECOND + draft.span(MS, 2 * SECOND), "unclog", *link)


def _bad_links(draft: Draft, at_us: int) -> None:
    """Loss, duplication, delay with reordering, damage: each in some runs, and strong in some."""
    dice = draft.dice
    quality = LinkQuality(
        loss=dice.draw(30) / 100 if dice.chance(0.6) else 0.0,
        duplication=dice.draw(30) / 100 if dice.chance(0.5) else 0.0,
        delay_probability=dice.draw(50) / 100 if dice.chance(0.5) else 0.0,
        delay_us=draft.span(MS, 300 * MS),
        corruption=dice.draw(50) / 1000 if dice.chance(0.4) else 0.0,
    )
    until_us = at_us + draft.span(500 * MS, 20 * SECOND)
    if dice.chance(0.3):
        slow = LinkQuality(latency_us=(10 * MS, draft.span(20 * MS, 200 * MS)), loss=quality.loss)
        node = draft.node()
        draft.add(at_us, "slow-node", node, slow)
        draft.add(until_us, "slow-node", node, LinkQuality())
    else:
        draft.add(at_us, "link-quality", quality)
        draft.add(until_us, "link-quality", LinkQuality())


def _distance(draft: Draft, at_us: int) -> None:
    """Messages take milliseconds and disks too: whatever breaks breaks in the middle of something.

    On fast links nearly every crash finds a cluster that has just finished what it was asked for.
    """
    dice, low_us = draft.dice, draft.span(MS, 15 * MS)
    far = LinkQuality(latency_us=(low_us, low_us * (2 + dice.draw(3))))
    until_us = at_us + draft.span(2 * SECOND, 60 * SECOND)
    draft.add(at_us, "link-quality", far)
    draft.add(until_us, "link-quality", LinkQuality())
    for node in draft.nodes:
        draft.add(at_us, "slow-disk", node, draft.span(2, 60))
        draft.add(until_us, "slow-disk", node, 1)


def _transfer(draft: Draft, at_us: int) -> None:
    for node in draft.nodes:
        draft.add(at_us, "transfer", node)


def _failing_disk(draft: Draft, at_us: int) -> None:
    node = draft.node()
    fault = draft.dice.pick(("fail-sync", "fail-reads", "fill"))
    if fault == "fill":
        _full_disks(draft, at_us)
        return
    draft.add(at_us, fault, node)
    back_us = at_us + draft.span(100 * MS, 4 * SECOND)
    draft.add(back_us, "heal-disk", node)
    draft.add(back_us + draft.span(MS, 500 * MS), "restart", node)


def _full_disks(draft: Draft, at_us: int) -> None:
    """One disk is full, or several: what fills the one often fills all. Space comes back later."""
    dice = draft.dice
    for node in dice.some(draft.nodes, 1 + dice.draw(len(draft.nodes))):
        full_us = at_us + draft.span(MS, SECOND)
        draft.add(full_us, "fill", node)
        draft.add(full_us + draft.span(200 * MS, 12 * SECOND), "heal-disk", node)


def _slow_disk(draft: Draft, at_us: int) -> None:
    node = draft.node()
    if draft.dice.chance(0.5):
        draft.add(at_us, "stall-disk", node, draft.span(50 * MS, 4 * SECOND))
    else:
        draft.add(at_us, "slow-disk", node, 2 + draft.dice.draw(200))
        draft.add(at_us + draft.span(500 * MS, 10 * SECOND), "slow-disk", node, 1)


def _damage(draft: Draft, at_us: int) -> None:
    """What a disk does not notice: only to as many nodes as the cluster can lose for good."""
    if not draft.victims:
        return
    dice, node = draft.dice, draft.dice.pick(draft.victims)
    kind = dice.draw(6)
    if kind < 3:
        draft.add(at_us, "decay" if kind == 2 else "rot", node, dice.pick(ROT_KINDS))
    elif kind == 3:
        draft.add(at_us, "misdirect-write", node)
    elif kind == 4:
        draft.add(at_us, "lose-write", node)
    else:
        draft.add(at_us, "wipe", node)
    if dice.chance(0.7):
        down_us = at_us + draft.span(MS, 2 * SECOND)
        draft.add(down_us, "crash", node)
        draft.add(down_us + draft.span(MS, SECOND), "restart", node)


def _clocks(draft: Draft, at_us: int) -> None:
    node, sign = draft.node(), draft.dice.pick((-1, 1))
    if draft.dice.chance(0.5):
        draft.add(at_us, "jump-clock", node, sign * MS * draft.span(1, 4_000_000))
    else:
        draft.add(at_us, "drift-clock", node, sign * draft.span(10, 100_000))
        draft.add(at_us + draft.span(SECOND, 20 * SECOND), "drift-clock", node, 0)


_KINDS: dict[str, tuple[Callable[[Draft, int], None], str]] = {
    "crash": (_crash, "power loss at any operation of the disk, kill, restart"),
    "blackout": (_blackout, "power loss of all nodes at once"),
    "unrest": (_unrest, "crashes, pauses, cuts and slow disks, one election after the other"),
    "pause": (_pause, "a process stands still and goes on"),
    "partition": (_partition, "two groups, one node alone, one pair, bridge, chain"),
    "one-way": (_one_way, "links dead in one direction"),
    "flapping": (_flapping, "links that come and go"),
    "clogging": (_clogging, "links that hold everything back and let go at once"),
    "links": (_bad_links, "loss, duplication, delay, reordering, damage; slow nodes"),
    "distance": (_distance, "long ways and slow disks everywhere"),
    "transfer": (_transfer, "leadership handed over on purpose"),
    "disk": (_failing_disk, "failed syncs, unreadable files, no space"),
    "slow-disk": (_slow_disk, "slow and stalled disks"),
    "damage": (
        _damage,
        "rot, unreadable sectors, misdirected and lost writes, lost directories",
    ),
    "clocks": (_clocks, "wall clocks that jump, clocks that drift"),
    AMBUSH: (add_plot, "blows at the very moment of an election, a promise, a commit, a read"),
}

MEMBERSHIP = "membership"
"""The kind that is drawn apart (``membership_plan.py``), so that the others stay as they are."""

MEMBERSHIP_SHARE = 0.35

REPAIR = "repair"
"""Another kind that is drawn apart (``damage_plots.py``)."""

KINDS = {name: words for name, (_, words) in _KINDS.items()} | {
    REPAIR: "damage to what a majority stands on, while the others are away or ask for votes",
    MEMBERSHIP: "members added, removed, replaced, promoted and preferred, several at once",
}
"""Kinds of fault, with a word on each."""

PLOT_KINDS = {f"{AMBUSH}:{name}": name for name in PLOTS}
"""What may be wished for instead of all ambushes: one plot each."""


def parse_kinds(text: str) -> tuple[str, ...] | None:
    """Read ``all``, ``none``, ``crash,disk``, ``all,-clocks`` or ``ambush:rivals,distance``.

    Raises:
        SettingsError: an unknown kind.
    """
    chosen: list[str] = []
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for number, part in enumerate(parts):
        name = part.removeprefix("-")
        if name not in KINDS and part not in PLOT_KINDS and part not in ("all", "none"):
            known = ", ".join(("all", "none", *KINDS, *PLOT_KINDS))
            raise SettingsError(f"unknown kind of fault {name!r}; known: {known}")
        if part == "all" or (part.startswith("-") and number == 0):
            chosen = list(KINDS)
        if part.startswith("-"):
            chosen = [kind for kind in chosen if kind != name]
        elif part not in ("all", "none") and part not in chosen:
            chosen.append(part)
    return None if parts == ["all"] else tuple(chosen)


def draw_scenario(seed: int, wishes: Wishes, workload_of: Callable[[str], Workload]) -> Scenario:
    """Turn a seed into a scenario.

    Args:
        seed: the only source of choice.
        wishes: what is given.
        workload_of: makes a workload by name.
    """
    dice = Dice(seed, "plan")
    nodes = wishes.nodes or dice.pick((3, 3, 5))
    name = wishes.workload or dice.pick(("cells", "cells", "tree"))
    settings = RunSettings(
        election_timeout_ms=dice.pick((150, 300, 500)),
        election_retries=RETRIES[seed % len(RETRIES)],
        heartbeat_ms=50,
        log_keep_entries=dice.pick((0, dice.draw(30))),
        append_bytes_max=dice.pick((1, 300, 2_000, 2_000)),
        announce_at_once=dice.draw(2),
        snapshot_bytes_min=dice.pick((500, 2_000, 8_000, 30_000)),
        hints=0 if dice.chance(0.3) else 1,
        checked=1 if seed % CHECKED_EVERY == 0 else 0,
    )
    settings = _draw_reads(seed, wishes, settings)
    scenario = Scenario(
        seed=seed,
        workload=name,
        nodes=nodes,
        clients=wishes.clients,
        duration_us=wishes.duration_us,
        settings=settings,
    )
    allowed = list(KINDS) if wishes.faults is None else list(wishes.faults)
    actions = _draw_actions(dice, scenario, [kind for kind in allowed if kind != MEMBERSHIP])
    if MEMBERSHIP in allowed:
        scenario, actions = _with_membership(scenario, actions, is_all=allowed == [MEMBERSHIP])
    steps: Iterable[Step] = workload_of(name).plan(Dice(seed, "workload"), scenario)
    return replace(scenario, actions=tuple(actions), steps=tuple(steps))


def _draw_reads(seed: int, wishes: Wishes, settings: RunSettings) -> RunSettings:
    """How clients read and whether they retry; by the seed itself, so that no other draw moves."""
    place = seed % READS_EVERY
    by_lease = place == READS_EVERY - 1 if wishes.leases is None else wishes.leases
    retries = place in ONCE_AT if wishes.once is None else wishes.once
    if by_lease or place == 0:
        settings = replace(settings, fresh_reads=1, lease_percent=LEASE_PERCENT if by_lease else 0)
    return replace(settings, once_percent=ONCE_PERCENT) if retries else settings


def _with_membership(
    scenario: Scenario, actions: list[Action], *, is_all: bool
) -> tuple[Scenario, list[Action]]:
    dice = Dice(scenario.seed, MEMBERSHIP)
    if not is_all and not dice.chance(MEMBERSHIP_SHARE):
        return scenario, actions
    spares, more = draw_membership(dice, scenario.nodes, scenario.duration_us)
    by_time = sorted([*actions, *more], key=lambda action: action.at_us)
    return replace(scenario, spares=spares), by_time


def _draw_actions(dice: Dice, scenario: Scenario, allowed: list[str]) -> list[Action]:
    election_us = scenario.settings.election_timeout_ms * MS
    draft = Draft(dice, scenario.nodes, scenario.duration_us, election_us)
    share = dice.pick(SHARES_OF_KINDS)
    ordinary = [kind for kind in allowed if kind in _KINDS and kind not in (AMBUSH, REPAIR)]
    plots = tuple(PLOT_KINDS[kind] for kind in allowed if kind in PLOT_KINDS)
    chosen = [kind for kind in ordinary if dice.chance(share)]
    if not chosen and ordinary:
        chosen = [dice.pick(ordinary)]
    gap_us = dice.pick((250 * MS, 500 * MS, 1500 * MS, 4 * SECOND))
    at_us = dice.between(0, SECOND)
    while chosen and at_us < scenario.duration_us:
        _KINDS[dice.pick(chosen)][0](draft, at_us)
        at_us += dice.between(10 * MS, 2 * gap_us)
    if AMBUSH in allowed or plots:
        dice = Dice(scenario.seed, AMBUSH)
        if plots or not ordinary or dice.chance(AMBUSH_SHARE):
            draft.dice = dice
            _lay_ambushes(draft, plots)
    if REPAIR in allowed:
        add_damage_plots(draft, Dice(scenario.seed, REPAIR), certain=not ordinary)
    return sorted(draft.actions, key=lambda action: action.at_us)


def _lay_ambushes(draft: Draft, plots: tuple[str, ...]) -> None:
    """Add ambushes, from dice of their own: the rest of a scenario is the same without them."""
    dice = draft.dice
    gap_us = dice.pick((500 * MS, 1500 * MS, 4 * SECOND))
    at_us = dice.between(0, SECOND)
    while at_us < draft.duration_us:
        add_plot(draft, at_us, plots)
        at_us += dice.between(100 * MS, 2 * gap_us)
