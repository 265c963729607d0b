"""Shrinking: a failing scenario is made as small as it gets while it still fails the same way.

Delta debugging (Zeller & Hildebrandt 2002) over what happens and what clients do, then simpler
values for what is left. Cheap cuts come first: most of a run comes after the moment of the failure
or belongs to clients and faults that have nothing to do with it, and every later attempt is as
fast as what is left.

    1. nothing after the failure; shorter runs; snapshots sooner; no faults, no requests, fewer
       clients, fewer kinds
    2. actions together with what undoes them, then single actions; then requests
    3. fewer nodes, usual settings, better links, rounder times

This works because dice have names (``world.py``): what is left draws what it drew before.

Pure: it asks a function whether a scenario fails and knows nothing of how that is found out.

Invariants:
    * the result fails with the same property as the original
    * the same scenario and answers give the same result; at most ``runs_max`` questions are asked,
      none twice
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from itertools import count
from typing import Any, NamedTuple, TypeVar

from quorate.errors import UsageError
from quorate.simulation.actions import Action, nodes_of
from quorate.simulation.network import LinkQuality
from quorate.simulation.properties import Kind
from quorate.simulation.scenario import RunSettings, Scenario, Step
from quorate.simulation.trial import Failure

RUNS_MAX = 600
GRIDS_US = (1_000_000, 100_000, 10_000, 1_000)
GAPS_US = (100_000, 500_000, 1_000_000)
CALM_US = 5_000_000  # for the attempts that never get well; how long matters to liveness only
EAGER_BYTES = (1, 200)
PROVOKED_ROUNDS = 3
ROUNDED_MAX = 12
MARGIN_US = 1_000
_T = TypeVar("_T")

_UNDOES = {
    "restart": ("crash", "crash-after", "kill", "restart-and-crash", "wipe", "fail-sync"),
    "restart-and-crash": ("crash", "crash-after", "kill"),
    "resume": ("pause",),
    "unclog": ("clog",),
    "heal-disk": ("fail-sync", "fail-reads", "fill"),
    "slow-disk": ("slow-disk",),
    "slow-node": ("slow-node",),
    "drift-clock": ("drift-clock",),
    "link-quality": ("link-quality",),
    "heal": (
        "partition", "partial", "isolate", "isolate-inbound", "isolate-outbound", "bridge",
        "chain", "cut",
    ),
}  # fmt: skip


class Shrunk(NamedTuple):
    """How far shrinking has come.

    Attributes:
        scenario: the smallest that failed so far.
        failure: how it fails.
        runs: questions asked so far.
    """

    scenario: Scenario
    failure: Failure
    runs: int


Fails = Callable[[Scenario], Failure | None]


def shrink(
    scenario: Scenario,
    fails: Fails,
    *,
    runs_max: int = RUNS_MAX,
    progress: Callable[[Shrunk], None] | None = None,
) -> Shrunk:
    """Make a failing scenario small.

    Args:
        scenario: fails.
        fails: runs a scenario; None when all is well.
        runs_max: bound on the runs; the smallest found by then is the result.
        progress: hears after each run.

    Raises:
        UsageError: the scenario does not fail.
    """
    failure = fails(scenario)
    if failure is None:
        raise UsageError("this scenario does not fail: there is nothing to shrink")
    shrinker = _Shrinker(Shrunk(scenario, failure, 1), fails, runs_max, progress)
    with suppress(_Enough):
        shrinker.work()
    return shrinker.state


class _Enough(Exception):
    """All runs are used up."""


class _Shrinker:
    """The smallest failing scenario so far, and the attempts to make it smaller."""

    def __init__(
        self,
        state: Shrunk,
        fails: Fails,
        runs_max: int,
        progress: Callable[[Shrunk], None] | None,
    ) -> None:
        self.state = state
        self._fails = fails
        self._runs_max = runs_max
        self._progress = progress
        self._tried = {state.scenario}

    @property
    def _best(self) -> Scenario:
        return self.state.scenario

    def work(self) -> None:
        """Make everything smaller until nothing gets smaller any more."""
        self._cut_time()
        for round_number in count():
            before = self._best
            if round_number < PROVOKED_ROUNDS:
                self._provoke()
            self._cut_time()
            self._cut_groups()
            self._cut_actions()
            self._cut_steps()
            self._simplify()
            if self._best == before:
                return

    def _try(self, scenario: Scenario) -> bool:
        """Whether it fails the same way; then it is the new best."""
        if scenario in self._tried:
            return False
        if self.state.runs >= self._runs_max:
            raise _Enough
        self._tried.add(scenario)
        try:
            found = self._fails(scenario)
        except UsageError:  # what is left makes no scenario
            found = None
        is_same = found is not None and found.broken.name == self.state.failure.broken.name
        if found is not None and is_same:
            self.state = Shrunk(scenario, found, self.state.runs + 1)
        else:
            self.state = self.state._replace(runs=self.state.runs + 1)
        if self._progress is not None:
            self._progress(self.state)
        return is_same

    def _with(self, **changes: Any) -> bool:
        return self._try(replace(self._best, **changes))

    def _provoke(self) -> None:
        """Snapshots are due after little log: then little needs to be asked for to have one."""
        usual = self._best.settings.snapshot_bytes_min
        for size in (*EAGER_BYTES, max(1, usual // 4), max(1, usual // 2)):
            if self._with(settings=replace(self._best.settings, snapshot_bytes_min=size)):
                return

    # ---- less of it ----------------------------------------------------------------------------

    def _cut_time(self) -> None:
        """Nothing after the failure; if only the end of the run shows it, shorter runs."""
        failure = self.state.failure
        self._until(failure.at_us + MARGIN_US)
        if failure.broken.kind is Kind.SAFETY:
            self._with(calm_us=min(CALM_US, self._best.calm_us))
        for share in (0.05, 0.1, 0.25, 0.5, 0.75, 0.9):
            if self._until(int(self._best.duration_us * share)):
                break
        times = [action.at_us for action in self._best.actions]
        times += [step.at_us for step in self._best.steps]
        self._until(max(times, default=0) + MARGIN_US)

    def _until(self, end_us: int) -> bool:
        best = self._best
        if end_us >= best.duration_us:
            return False
        return self._with(
            duration_us=end_us,
            actions=tuple(action for action in best.actions if action.at_us <= end_us),
            steps=tuple(step for step in best.steps if step.at_us < end_us),
        )

    def _cut_groups(self) -> None:
        """No faults at all; no requests; then without each client and each name of an action."""
        self._with(actions=())
        self._with(steps=())
        for client in sorted({step.client for step in self._best.steps}):
            self._with(steps=tuple(step for step in self._best.steps if step.client != client))
        self._with(clients=max((step.client for step in self._best.steps), default=0))
        for name in sorted({action.name for action in self._best.actions}):
            rest = tuple(action for action in self._best.actions if action.name != name)
            self._with(actions=rest)

    def _cut_actions(self) -> None:
        """Delta debugging over causes with what undoes them, then over single actions."""
        self._reduce(_pairs(self._best.actions), self._try_pairs)
        self._reduce(list(self._best.actions), self._try_actions)

    def _try_pairs(self, pairs: Sequence[tuple[Action, ...]]) -> bool:
        return self._try_actions([action for pair in pairs for action in pair])

    def _try_actions(self, actions: Sequence[Action]) -> bool:
        return self._with(actions=tuple(sorted(actions, key=lambda action: action.at_us)))

    def _cut_steps(self) -> None:
        self._reduce(list(self._best.steps), self._try_steps)

    def _try_steps(self, steps: Sequence[Step]) -> bool:
        return self._with(steps=tuple(sorted(steps, key=lambda step: step.at_us)))

    def _reduce(self, items: list[_T], fails: Callable[[Sequence[_T]], bool]) -> None:
        """Leave out ever smaller parts for as long as what is left fails (ddmin)."""
        parts = 2
        while items:
            size = max(1, len(items) // parts)
            is_smaller = False
            at = len(items)
            while at > 0:  # from the end: what is late depends on what is early
                start = max(0, at - size)
                rest = items[:start] + items[at:]
                if fails(rest):
                    items, is_smaller = rest, True
                at = start
            if size == 1 and not is_smaller:
                return
            parts = min(max(2, len(items)), parts * 2)

    # ---- simpler -------------------------------------------------------------------------------

    def _simplify(self) -> None:
        # Spares are numbered after the nodes: with fewer nodes they would be others.
        for nodes in range(1, self._best.nodes if not self._best.spares else 1):
            if self._try(_with_nodes(self._best, nodes)):
                break
        usual = RunSettings()
        if not self._with(settings=usual):
            for field in fields(RunSettings):
                value = getattr(usual, field.name)
                self._with(settings=replace(self._best.settings, **{field.name: value}))
        for position in range(len(self._best.actions)):
            self._simplify_action(position)
        self._close_gaps()
        self._round_all()

    def _simplify_action(self, position: int) -> None:
        done = False
        while not done:
            action = self._best.actions[position]
            done = not any(self._put(position, simpler) for simpler in _simpler(action))

    def _put(self, position: int, action: Action) -> bool:
        actions = list(self._best.actions)
        actions[position] = action
        return self._try_actions(actions)

    def _close_gaps(self) -> None:
        """No long waits in which nothing is asked for and nothing breaks."""
        for gap_us in GAPS_US:
            if self._try(_with_gaps_closed(self._best, gap_us)):
                return

    def _round_all(self) -> None:
        """Rounder times: all at once, then each for itself on the roughest grid that will do."""
        for grid_us in GRIDS_US:
            if self._try(_rounded(self._best, grid_us)):
                break
        for position, action in enumerate(self._best.actions[:ROUNDED_MAX]):
            for at_us in _rounder(action.at_us):
                if self._put(position, action._replace(at_us=at_us)):
                    break
        for position, step in enumerate(self._best.steps[:ROUNDED_MAX]):
            for at_us in _rounder(step.at_us):
                steps = list(self._best.steps)
                steps[position] = step._replace(at_us=at_us)
                if self._try_steps(steps):
                    break


def _pairs(actions: Iterable[Action]) -> list[tuple[Action, ...]]:
    """Each action together with what undoes it, by the time of the first."""
    groups: list[list[Action]] = []
    for action in actions:
        undone = _UNDOES.get(action.name, ())
        for group in reversed(groups):
            if group[0].name in undone and _is_about_the_same(group[0], action):
                group.append(action)
                break
        else:
            groups.append([action])
    return [tuple(group) for group in groups]


def _is_about_the_same(cause: Action, cure: Action) -> bool:
    return not nodes_of(cure) or nodes_of(cause)[:2] == nodes_of(cure)[:2]


def _with_nodes(scenario: Scenario, nodes: int) -> Scenario:
    """The scenario on fewer nodes: what names others leaves them out, or is left out."""
    kept: list[Action] = []
    for action in scenario.actions:
        arguments = tuple(
            tuple(node for node in value if node <= nodes) if isinstance(value, tuple) else value
            for value in action.arguments
        )
        slimmer = action._replace(arguments=arguments)
        if max(nodes_of(slimmer), default=0) <= nodes and () not in arguments:
            kept.append(slimmer)
    return replace(scenario, nodes=nodes, actions=tuple(kept))


def _with_gaps_closed(scenario: Scenario, gap_us: int) -> Scenario:
    """Nothing waits longer than this for what comes next."""
    times = {action.at_us for action in scenario.actions} | {step.at_us for step in scenario.steps}
    earlier: dict[int, int] = {}
    before_us = now_us = 0
    for at_us in sorted(times):
        now_us += min(gap_us, at_us - before_us)
        earlier[at_us] = now_us
        before_us = at_us
    return replace(
        scenario,
        duration_us=now_us + min(gap_us, scenario.duration_us - before_us),
        actions=tuple(each._replace(at_us=earlier[each.at_us]) for each in scenario.actions),
        steps=tuple(each._replace(at_us=earlier[each.at_us]) for each in scenario.steps),
    )


def _simpler(action: Action) -> Iterator[Action]:
    """The action with one of its arguments simpler: milder links, round numbers."""
    for place, value in enumerate(action.arguments):
        if isinstance(value, LinkQuality):
            simpler: Iterable[Any] = _milder(value)
        elif isinstance(value, int) and abs(value) > 9 and place > 0:
            simpler = (rounded for rounded in _rounder(value) if rounded != value)
        else:
            continue
        for new in simpler:
            arguments = (*action.arguments[:place], new, *action.arguments[place + 1 :])
            yield action._replace(arguments=arguments)


def _milder(quality: LinkQuality) -> Iterator[LinkQuality]:
    perfect = LinkQuality()
    for field in fields(LinkQuality):
        value = getattr(perfect, field.name)
        if getattr(quality, field.name) != value:
            yield replace(quality, **{field.name: value})


def _rounder(value: int) -> Iterator[int]:
    """Values near this one with fewer digits, the roundest first; nothing once it is round."""
    power = 1
    while power * 10 <= abs(value):
        power *= 10
    while power > 1:
        rounded = value // power * power
        if rounded == value:
            return
        yield rounded
        power //= 10


def _rounded(scenario: Scenario, grid_us: int) -> Scenario:
    """All times on a grid; what happened in some order still does."""

    def down(at_us: int) -> int:
        return at_us // grid_us * grid_us

    return replace(
        scenario,
        duration_us=-(-scenario.duration_us // grid_us) * grid_us,
        actions=tuple(each._replace(at_us=down(each.at_us)) for each in scenario.actions),
        steps=tuple(each._replace(at_us=down(each.at_us)) for each in scenario.steps),
    )
