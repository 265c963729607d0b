"""``quorate simulate mutants``: is a broken rule noticed, by which property, after how many seeds?

Removes the rules one by one from the real code and hunts each such mutant with ordinary seeds; see
``simulation/mutants``. Exit code 0 only if every mutant was caught and the code as it is passed.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from quorate.errors import SettingsError
from quorate.simulation.mutants.campaign import Effort, Standing, run_campaign
from quorate.simulation.mutants.catalogue import mutant_named, mutants
from quorate.simulation.mutants.hunt import Caught, Verdict
from quorate.simulation.mutants.mutant import Mutant
from quorate.simulation.plan import Wishes
from quorate.simulation.units import parse_duration_us


@click.command("mutants", short_help="Remove each safety rule once; is it missed?")
@click.option("--seeds", default=500, show_default=True, help="Seeds per mutant, at most.")
@click.option("--first-seed", default=1, show_default=True, help="Where to begin.")
@click.option("--duration", default="20s", show_default=True, help="How long faults act in a run.")
@click.option("--only", default="", metavar="NAME,...", help="Only these mutants.")
@click.option("--jobs", default=0, help="Processes; 0: one per core.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table.")
def command(seeds: int, first_seed: int, duration: str, only: str, jobs: int, as_json: bool) -> int:
    """Remove each rule that keeps the cluster safe, once, from the real code, and run seeds until
    a property notices; then run the code as it is over the same seeds.

    Exit code 0: every mutant was caught and the code as it is passed; 1: not so.
    """
    chosen = [mutant_named(name.strip()) for name in only.split(",") if name.strip()] or mutants()
    if seeds < 1 or jobs < 0:
        raise SettingsError("--seeds must be at least 1 and --jobs not negative")
    try:
        wishes = replace(Wishes(), duration_us=parse_duration_us(duration))
    except ValueError as error:
        raise SettingsError(f"--duration: {error}") from None
    effort = Effort(wishes, seeds, first_seed, jobs or os.cpu_count() or 1)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("mutants", total=len(chosen))

        def watch(standing: Standing) -> None:
            words = f"mutants, {standing.seeds_done} runs"
            bar.update(task, completed=len(standing.verdicts), description=words)

        standing = run_campaign(chosen, effort, watch)
    if as_json:
        click.echo(json.dumps(_as_dict(chosen, standing), indent=2))
    else:
        _show(chosen, standing)
    return 0 if standing.is_good else 1


def _as_dict(chosen: list[Mutant], standing: Standing) -> dict[str, Any]:
    assert standing.unmutated is not None
    return {
        "mutants": [
            {"removes": mutant.removes, "source": mutant.source}
            | _verdict_as_dict(standing.verdicts[mutant.name])
            for mutant in chosen
        ],
        "unmutated": _verdict_as_dict(standing.unmutated),
        "runs": standing.seeds_done,
        "good": standing.is_good,
    }


def _verdict_as_dict(verdict: Verdict) -> dict[str, Any]:
    return {**verdict._asdict(), "caught": isinstance(verdict, Caught)}


def _show(chosen: list[Mutant], standing: Standing) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("mutant", "removes", "caught by", "seeds"):
        table.add_column(heading, justify="right" if heading == "seeds" else "left")
    assert standing.unmutated is not None
    rows = [(mutant.name, mutant.removes, standing.verdicts[mutant.name]) for mutant in chosen]
    for name, removes, verdict in rows:
        by = verdict.property if isinstance(verdict, Caught) else "[bold red]nothing[/]"
        table.add_row(name, removes, by, str(verdict.seeds))
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table)
    caught = len(chosen) - len(standing.survivors)
    console.print(f"\n{caught} of {len(chosen)} mutants caught in {standing.seeds_done} runs")
    known = standing.unmutated
    if isinstance(known, Caught):
        console.print(
            f"the code as it is breaks {known.property} in seed {known.seed}: {known.detail}",
            markup=False,
        )
    else:
        console.print(f"the code as it is: no property broken in {known.seeds} seeds")
