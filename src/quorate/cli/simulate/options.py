"""The options that fix a run, shared by the subcommands that draw scenarios from seeds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from quorate.errors import SettingsError, UsageError
from quorate.simulation.farm import Errand
from quorate.simulation.plan import Wishes, parse_kinds
from quorate.simulation.scenario import CLIENTS_MAX, NODES_MAX, Scenario, parse_scenario
from quorate.simulation.trial import WorkloadOf
from quorate.simulation.units import format_duration, parse_duration_us
from quorate.simulation.workloads.catalogue import workload_names

Command = Callable[..., None]
_FIXING = ("nodes", "clients", "duration", "faults", "workload", "machine")


class Duration(click.ParamType[int]):
    """Virtual time, in microseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read ``60s`` or ``500ms``."""
        if isinstance(value, int):
            return value
        try:
            duration_us = parse_duration_us(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if duration_us <= 0:
            self.fail(f"{value!r}: a run takes longer than nothing", param, ctx)
        return duration_us


machine = click.option(
    "--machine",
    metavar="MODULE:NAME",
    help="A state machine of your own: a MachineTest in a module, or FILE.py:NAME.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_wishes = [
    click.option("--nodes", type=click.IntRange(1, NODES_MAX), help="Voters [default: 3 or 5]."),
    click.option(
        "--clients",
        type=click.IntRange(0, CLIENTS_MAX),
        default=4,
        show_default=True,
        help="Clients; each asks one thing after the other.",
    ),
    click.option(
        "--duration",
        type=Duration(),
        default="60s",
        show_default=True,
        help="Virtual time in which faults strike; after it all must get well.",
    ),
    click.option(
        "--faults",
        default="all",
        show_default=True,
        metavar="KINDS",
        help="all, none, crash,disk or all,-clocks: the kinds each seed draws from; "
        "`quorate simulate faults` lists them.",
    ),
    click.option(
        "--workload",
        type=click.Choice(list(workload_names())),
        help="What runs on the nodes and what clients ask [default: drawn].",
    ),
    machine,
]


def fixing(function: Command) -> Command:
    """Add all options that fix a run."""
    for option in reversed(_wishes):
        function = option(function)
    return function


def errand_of(options: dict[str, Any]) -> Errand:
    """What the options ask for.

    Raises:
        UsageError: options that do not fit together, unknown faults.
    """
    try:
        faults = parse_kinds(options["faults"])
    except SettingsError as error:
        raise UsageError(f"--faults: {error}") from None
    where = options["machine"] or ""
    if where and options["workload"]:
        raise UsageError("--machine is a workload of its own: leave --workload out")
    wishes = Wishes(
        workload=where or options["workload"] or "",
        nodes=options["nodes"] or 0,
        clients=options["clients"],
        duration_us=options["duration"],
        faults=faults,
    )
    return Errand(wishes, where)


def words_of(options: dict[str, Any]) -> list[str]:
    """The options as they are typed."""
    words: list[str] = []
    for name in _FIXING:
        value = options.get(name)
        if value is not None:
            words += [f"--{name}", format_duration(value) if name == "duration" else str(value)]
    return words


def stand_here() -> None:
    """Look for the user's modules where he stands, as ``python -m`` does."""
    if "" not in sys.path:
        sys.path.insert(0, "")


def workload_of(machine: str | None) -> WorkloadOf:
    """Makes workloads, or those of a user's machine.

    Raises:
        UsageError: there is no such machine.
    """
    stand_here()
    return Errand(machine=machine or "").workload_of()


def read_scenario(path: Path, machine: str | None) -> Scenario:
    """Read a scenario file.

    Raises:
        UsageError: it is none, or is of a machine that was not given.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    scenario = parse_scenario(text, str(path))
    if machine is None and scenario.workload not in workload_names():
        raise UsageError(
            f"{path}: its workload {scenario.workload!r} is none of ours "
            f"({', '.join(workload_names())}); if it is a state machine of yours, "
            f"say where its MachineTest is: --machine MODULE:NAME"
        )
    return scenario
