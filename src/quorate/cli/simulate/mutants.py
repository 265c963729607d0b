"""``quorate simulate mutants``: is a missing rule missed, by which property, after how many seeds?

Removes the rules one by one from the real code and hunts each such mutant with seeds; see
``simulation/mutants``. Exit code 0 only if every mutant was caught and the code as it is passed.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Self

import click

from quorate.cli.simulate import options as given
from quorate.cli.simulate.report import show_table
from quorate.errors import SettingsError, UsageError
from quorate.simulation.mutants.campaign import Campaign, Effort, Standing
from quorate.simulation.mutants.catalogue import mutant_named, mutants
from quorate.simulation.mutants.hunt import UNMUTATED, Caught, Found
from quorate.simulation.mutants.mutant import Mutant


@click.command("mutants", short_help="Take every rule away, once: is it missed?")
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Seeds for each mutant, at most.",
)
@click.option(
    "--first-seed", type=click.IntRange(0), default=1, show_default=True, help="The first seed."
)
@click.option(
    "--duration",
    type=given.Duration(),
    default="20s",
    show_default=True,
    help="Virtual time in which faults strike; after it all must get well.",
)
@click.option("--only", default="", metavar="NAME,...", help="Only these mutants.")
@click.option("--jobs", type=click.IntRange(1), help="Processes [default: one for each core].")
@given.as_json
def command(
    seeds: int, first_seed: int, duration: int, only: str, jobs: int | None, as_json: bool
) -> None:
    """Take every rule that keeps the cluster safe out of the code, one at a time; is it missed?

    Each such mutant runs seeds until a property is broken. Then the code as it is runs the same
    seeds. Exit with 0 only if every mutant was caught and the code as it is was not.
    """
    chosen = _chosen(only)
    effort = Effort(duration, seeds, first_seed, jobs or 0)
    with _Line(len(chosen), quiet=as_json) as line:
        standing = Campaign(chosen, effort, line.show).run()
    if as_json:
        click.echo(json.dumps(_as_dict(chosen, standing), indent=2))
    else:
        _show(chosen, standing)
    raise SystemExit(0 if standing.is_good else 1)


def _chosen(only: str) -> list[Mutant]:
    names = [name.strip() for name in only.split(",") if name.strip()]
    try:
        return [mutant_named(name) for name in names] or mutants()
    except SettingsError as error:
        raise UsageError(f"--only: {error}") from None


class _Line:
    """How far it is, in one line that is written over and over; a context manager."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total = total
        self._is_on = not quiet and sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._say("")

    def show(self, standing: Standing) -> None:
        """One more run."""
        done = f"{len(standing.found)} of {self._total} mutants"
        self._say(f"{done}, {standing.runs} runs, {len(standing.survivors)} survived")

    def _say(self, words: str) -> None:
        if self._is_on:
            sys.stderr.write(f"\r\x1b[K{words}")
            sys.stderr.flush()


def _as_dict(chosen: list[Mutant], standing: Standing) -> dict[str, Any]:
    assert standing.unmutated is not None
    return {
        "good": standing.is_good,
        "runs": standing.runs,
        "mutants": [
            {
                **_found_as_dict(standing.found[mutant.name]),
                "removes": mutant.removes,
                "source": mutant.source,
                "workload": mutant.workload,
                "faults": mutant.faults,
            }
            for mutant in chosen
        ],
        "unmutated": _found_as_dict(standing.unmutated),
    }


def _found_as_dict(found: Found) -> dict[str, Any]:
    return {**found._asdict(), "caught": isinstance(found, Caught)}


def _show(chosen: list[Mutant], standing: Standing) -> None:
    assert standing.unmutated is not None
    rows = [_row(mutant, standing.found[mutant.name]) for mutant in chosen]
    rows.append(_row(None, standing.unmutated))
    show_table(rows, ("mutant", "removes", "caught by", "seeds"), right="seeds")
    caught = len(chosen) - len(standing.survivors)
    click.echo(f"\n{caught} of {len(chosen)} mutants caught in {standing.runs:,} runs")
    if standing.survivors:
        click.echo(f"survived: {', '.join(standing.survivors)}")
    known = standing.unmutated
    if isinstance(known, Caught):
        click.echo(f"the code as it is breaks a promise in seed {known.seed}: {known.detail}")


def _row(mutant: Mutant | None, found: Found) -> tuple[str, str, str, str]:
    name, removes = (mutant.name, mutant.removes) if mutant else (UNMUTATED, "nothing")
    by = f"{found.property} ({found.kind})" if isinstance(found, Caught) else "nothing"
    return name, removes, by, str(found.seeds)
