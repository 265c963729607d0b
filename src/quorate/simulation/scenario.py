"""Scenarios: everything that fixes a run, as a value and as a text file that people can read.

A scenario is what a seed is turned into (``plan.py``), what shrinking makes smaller
(``shrink.py``) and what a run is made from (``run.py``): the cluster, its settings, what happens
to it and when, and what each client wants to do. Only small things stay with the seed's dice: how
long this message takes, whether that one is lost.

    quorate scenario 1
    seed 42
    workload cells
    nodes 3
    clients 4
    duration 60s
    calm 30s
    set election_timeout_ms 150
    at 1.25s crash 2
    at 2.5s restart 2
    client 1 at 0.31s write a 17

Empty lines and everything after ``#`` mean nothing. Actions are in ``actions.py``; what clients
can do is the workload's business.

Invariants: writing and reading back gives an equal scenario; equal scenarios run alike, bit for
bit, in any process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from quorate.errors import BadInput
from quorate.simulation.actions import Action, format_action, nodes_of, parse_action
from quorate.simulation.units import format_duration, parse_duration_us

FORMAT = "quorate scenario 1"
NODES_MAX = 9
CLIENTS_MAX = 64


class Step(NamedTuple):
    """Something a client wants to do: not before ``at_us``, and after its previous step."""

    at_us: int
    client: int
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Settings of the nodes in a run; whole numbers, so that files are exact.

    Attributes:
        election_timeout_ms: see EngineSettings.
        election_retries: see EngineSettings.
        heartbeat_ms: see EngineSettings.
        log_keep_entries: entries kept behind a snapshot.
        append_bytes_max: see EngineSettings; 1: every entry travels alone.
        announce_at_once: 1: commits are announced at once.
        snapshot_bytes_min: a snapshot is due after so many bytes of log.
        hints: 1: closed connections are noticed at once.
        fresh_reads: 1: all reads of a tree's clients are linearizable; of cells they always are.
        lease_percent: 0: no leases; else reads are answered by leases whose clock drift bound is
            this many hundredths.
        once_percent: how many writes of a tree's clients are asked for exactly once.
        checked: 1: the engine's own invariants, with deltas, are checked around every step.
    """

    election_timeout_ms: int = 150
    election_retries: int = 4
    heartbeat_ms: int = 50
    log_keep_entries: int = 20
    append_bytes_max: int = 2_000
    announce_at_once: int = 1
    snapshot_bytes_min: int = 5_000
    hints: int = 1
    fresh_reads: int = 0
    lease_percent: int = 0
    once_percent: int = 0
    checked: int = 0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A run, fixed.

    Attributes:
        seed: of all dice of the run.
        workload: what runs on the nodes and what clients do: a name of ``workloads/``.
        nodes: how many voters.
        spares: machines beside them, numbered on, that may be added while the run lasts.
        clients: how many clients.
        duration_us: how long faults and clients act.
        calm_us: bound on getting well afterwards: the liveness half.
        settings: of the nodes.
        actions: what happens to the cluster, by time.
        steps: what clients do, by time.
    """

    seed: int
    workload: str
    nodes: int = 3
    spares: int = 0
    clients: int = 4
    duration_us: int = 60_000_000
    calm_us: int = 30_000_000
    settings: RunSettings = field(default_factory=RunSettings)
    actions: tuple[Action, ...] = ()
    steps: tuple[Step, ...] = ()

    def summary(self) -> str:
        """The scenario in a few words, for the line that a run begins and ends with."""
        return (
            f"{self.workload}/{self.nodes} nodes/{self.clients} clients/"
            f"{format_duration(self.duration_us)}/{len(self.actions)} actions/"
            f"{len(self.steps)} steps"
        )


_SETTINGS = fields(RunSettings)
_HEAD: dict[str, tuple[str, Callable[[str], Any], Callable[[Any], str]]] = {
    "seed": ("seed", int, str),
    "workload": ("workload", str, str),
    "nodes": ("nodes", int, str),
    "spares": ("spares", int, str),
    "clients": ("clients", int, str),
    "duration": ("duration_us", parse_duration_us, format_duration),
    "calm": ("calm_us", parse_duration_us, format_duration),
}


def format_scenario(scenario: Scenario, comment: str = "") -> str:
    """Write a scenario file; ``comment`` goes on top."""
    lines = [FORMAT, *(f"# {line}" for line in comment.splitlines())]
    for word, (name, _, write) in _HEAD.items():
        if word != "spares" or scenario.spares:
            lines.append(f"{word} {write(getattr(scenario, name))}")
    lines += [f"set {each.name} {getattr(scenario.settings, each.name)}" for each in _SETTINGS]
    lines.append("")
    timed: list[tuple[int, int, str]] = []
    for number, action in enumerate(scenario.actions):
        line = f"at {format_duration(action.at_us)} {format_action(action)}"
        timed.append((action.at_us, number, line))
    for number, step in enumerate(scenario.steps, len(timed)):
        when = format_duration(step.at_us)
        timed.append((step.at_us, number, f"client {step.client} at {when} {' '.join(step.words)}"))
    lines += [line for _, _, line in sorted(timed)]
    return "\n".join(lines) + "\n"


def parse_scenario(text: str, source: str) -> Scenario:
    """Read a scenario file.

    Raises:
        BadInput: not a scenario; names the line and what would be right.
    """
    lines = text.splitlines()
    if not lines or lines[0].strip() != FORMAT:
        raise BadInput(source, 1, f"the first line of a scenario is {FORMAT!r}")
    head: dict[str, Any] = {}
    settings: dict[str, int] = {}
    actions: list[Action] = []
    steps: list[Step] = []
    for number, line in enumerate(lines[1:], 2):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            _parse_line(words, head, settings, actions, steps)
        except (ValueError, IndexError) as error:
            reason = str(error) if isinstance(error, ValueError) else "the line ends too early"
            raise BadInput(source, number, reason) from None
    for needed in ("seed", "workload"):
        if needed not in head:
            raise BadInput(source, 0, f"the scenario has no line {needed!r}")
    scenario = Scenario(**head)
    scenario = replace(scenario, settings=replace(scenario.settings, **settings))
    scenario = replace(scenario, actions=tuple(actions), steps=tuple(steps))
    _check(scenario, source)
    return scenario


def _parse_line(
    words: list[str],
    head: dict[str, Any],
    settings: dict[str, int],
    actions: list[Action],
    steps: list[Step],
) -> None:
    match words:
        case [word, value] if word in _HEAD:
            name, read, _ = _HEAD[word]
            head[name] = read(value)
        case ["set", name, value]:
            known = [field.name for field in _SETTINGS]
            if name not in known:
                raise ValueError(f"unknown setting {name!r}; known: {', '.join(known)}")
            settings[name] = int(value)
        case ["at", time, *rest] if rest:
            actions.append(parse_action(parse_duration_us(time), rest))
        case ["client", client, "at", time, *rest] if rest:
            steps.append(Step(parse_duration_us(time), int(client), tuple(rest)))
        case _:
            raise ValueError(
                f"{' '.join(words)!r} means nothing; a line is `{' X`, `'.join(_HEAD)} X`, "
                "`set NAME N`, `at TIME ACTION ...` or `client N at TIME ...`"
            )


def _check(scenario: Scenario, source: str) -> None:
    if not 1 <= scenario.nodes <= NODES_MAX:
        raise BadInput(source, 0, f"nodes must be 1 to {NODES_MAX}, not {scenario.nodes}")
    if not 0 <= scenario.spares <= NODES_MAX:
        raise BadInput(source, 0, f"spares must be 0 to {NODES_MAX}, not {scenario.spares}")
    if not 0 <= scenario.clients <= CLIENTS_MAX:
        raise BadInput(source, 0, f"clients must be 0 to {CLIENTS_MAX}, not {scenario.clients}")
    if scenario.duration_us < 0 or scenario.calm_us < 0:
        raise BadInput(source, 0, "duration and calm must not be negative")
    for action in scenario.actions:
        if max(nodes_of(action), default=0) > scenario.nodes + scenario.spares:
            raise BadInput(
                source,
                0,
                f"`{format_action(action)}` names a node that does not exist: there are "
                f"{scenario.nodes + scenario.spares}",
            )
    for step in scenario.steps:
        if not 1 <= step.client <= scenario.clients:
            raise BadInput(
                source, 0, f"client {step.client} acts, but there are {scenario.clients}"
            )
