"""``quorate simulate replay`` and ``shrink``: what is done with a scenario file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from quorate.cli.simulate import options as given
from quorate.cli.simulate.progress import ShrinkLine
from quorate.cli.simulate.report import (
    Identity,
    Tally,
    counts,
    show_totals,
    violation_words,
    write_scenario,
)
from quorate.errors import UsageError
from quorate.simulation import shrink as shrinking
from quorate.simulation.run import Run
from quorate.simulation.scenario import Scenario, format_scenario
from quorate.simulation.timeline import Happening, Timeline
from quorate.simulation.trial import Failure, attempt

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _machine_words(machine: str | None) -> list[str]:
    return ["--machine", machine] if machine else []


@click.command("replay", short_help="Run a scenario file again; tell what happens.")
@click.argument("file", type=_FILE)
@click.option("--trace", is_flag=True, help="Tell what happens, line by line.")
@given.machine
@given.as_json
def replay(file: Path, trace: bool, machine: str | None, as_json: bool) -> None:
    """Run the scenario in FILE; exit with 0 only if no property is violated.

    The first and the last line say what ran, and its digest: equal digests mean equal runs.
    """
    scenario = given.read_scenario(file, machine)
    identity = Identity(["replay", str(file), *_machine_words(machine)])
    facts = (f"seed {scenario.seed}", scenario.summary())
    happenings: list[Happening] = []

    def watch(run: Run) -> None:
        Timeline(run, happenings.append)

    verdict = attempt(
        scenario, workload_of=given.workload_of(machine), watch=watch if trace else None
    )
    if as_json:
        found = {**identity.as_dict(), "digest": verdict.digest, **_as_dict(verdict)}
        if trace:
            found["timeline"] = [happening._asdict() for happening in happenings]
        click.echo(json.dumps(found, indent=2))
    else:
        line = identity.line(*facts, f"digest {verdict.digest}")
        click.echo(f"{line}\n")
        for happening in happenings:
            click.echo(str(happening))
        if happenings:
            click.echo()
        _show(verdict)
        click.echo(f"\n{line}")
    raise SystemExit(1 if isinstance(verdict, Failure) else 0)


def _as_dict(verdict: Any) -> dict[str, Any]:
    key = "violation" if isinstance(verdict, Failure) else "outcome"
    return {"violation": None, "outcome": None, key: verdict.as_dict()}


def _show(verdict: Any) -> None:
    if isinstance(verdict, Failure):
        click.echo(violation_words(verdict, ""))
    else:
        tally = Tally()
        tally.add(verdict)
        show_totals(tally)
        click.echo("\nno violation")


@click.command("shrink", short_help="Make a failing scenario small.")
@click.argument("file", type=_FILE, required=False)
@click.option("--seed", type=click.IntRange(0), help="Shrink this seed instead of a file.")
@given.fixing
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the small scenario goes [default: beside FILE, or here].",
)
@click.option(
    "--runs",
    type=click.IntRange(1),
    default=shrinking.RUNS_MAX,
    show_default=True,
    help="Try at most so many scenarios.",
)
@given.as_json
def shrink(
    file: Path | None,
    seed: int | None,
    out: Path | None,
    runs: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Make a failing scenario small: the same property, broken by as little as possible.

    Takes FILE, or what --seed stands for under the same options as in `quorate simulate run`.
    """
    machine = options["machine"]
    workload_of = given.workload_of(machine)
    scenario = _scenario(file, seed, options)
    small_file = out or (
        Path(f"quorate-{seed}-small.scenario")
        if file is None
        else file.with_name(f"{file.stem}-small.scenario")
    )

    def fails(candidate: Scenario) -> Failure | None:
        verdict = attempt(candidate, workload_of=workload_of)
        return verdict if isinstance(verdict, Failure) else None

    with ShrinkLine(quiet=as_json) as line:
        small = shrinking.shrink(scenario, fails, runs_max=runs, progress=line.show)
    identity = Identity(["replay", str(small_file), *_machine_words(machine)])
    path = write_scenario(small_file, small.failure, identity)
    if as_json:
        found = {
            **identity.as_dict(),
            "runs": small.runs,
            "before": _size(scenario),
            "after": _size(small.scenario),
            "file": path,
            "violation": small.failure.as_dict(),
        }
        click.echo(json.dumps(found, indent=2))
        return
    failure = small.failure
    click.echo(f"before: {counts(scenario)}")
    click.echo(f"after:  {counts(small.scenario)} ({small.runs} runs)\n")
    click.echo(f"{format_scenario(small.scenario)}")
    click.echo(failure.describe())
    click.echo(f"  replay   {identity.command}")


def _scenario(file: Path | None, seed: int | None, options: dict[str, Any]) -> Scenario:
    if (file is None) == (seed is None):
        raise UsageError("name a scenario file, or a seed with --seed N")
    if file is not None:
        return given.read_scenario(file, options["machine"])
    errand = given.errand_of(options)
    assert seed is not None
    return errand.scenario(seed, errand.workload_of())


def _size(scenario: Scenario) -> dict[str, int]:
    return {
        "actions": len(scenario.actions),
        "steps": len(scenario.steps),
        "nodes": scenario.nodes,
        "clients": scenario.clients,
        "duration_us": scenario.duration_us,
    }
