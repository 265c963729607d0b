"""``quorate simulate run``: try seeds, one or thousands, on all cores."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from quorate.cli.simulate import options as given
from quorate.cli.simulate.progress import Bar
from quorate.cli.simulate.report import (
    Identity,
    Tally,
    show_totals,
    speed_words,
    violation_words,
    write_scenario,
)
from quorate.simulation.farm import Errand, Farm, cores
from quorate.simulation.trial import Failure, Verdict, attempt


class _Runs:
    """Seeds being tried."""

    def __init__(self, errand: Errand, first_seed: int, seeds: int, fixed: list[str]) -> None:
        self.errand = errand
        self.first_seed = first_seed
        self.seeds = seeds
        self.tally = Tally()
        self.facts = [f"seeds {first_seed} to {first_seed + seeds - 1}"]
        self._fixed = fixed
        self.identity = self._identity(first_seed, seeds)
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Of real time, so far."""
        return time.monotonic() - self._start

    @property
    def is_whole(self) -> bool:
        """Whether every seed gave a verdict; otherwise the digest is that of whoever was first."""
        return len(self.tally.digests) == self.seeds

    def _identity(self, first_seed: int, seeds: int) -> Identity:
        words = ["run", "--first-seed", str(first_seed), "--seeds", str(seeds)]
        return Identity([*words, *self._fixed])

    def line(self, digest: str = "") -> str:
        """What reproduces it all."""
        return self.identity.line(*self.facts, f"digest {digest}" if digest else "")

    def alone(self) -> Iterator[Verdict]:
        """The only seed, in this process."""
        workload_of = self.errand.workload_of()
        scenario = self.errand.scenario(self.first_seed, workload_of)
        self.facts = [f"seed {scenario.seed}", scenario.summary()]
        yield attempt(scenario, workload_of=workload_of)

    def many(self, jobs: int, *, keep_going: bool) -> Iterator[Verdict]:
        """All seeds, on a farm."""
        seeds = range(self.first_seed, self.first_seed + self.seeds)
        with Farm(self.errand, min(jobs, self.seeds)) as farm:
            for verdict in farm.run(seeds):
                if isinstance(verdict, Failure) and not keep_going:
                    farm.stop()
                yield verdict

    def broken(self, failure: Failure, out: Path) -> str:
        """Keep the scenario of a violation; what to say about it."""
        path = out / f"quorate-{failure.seed}.scenario"
        again = self._identity(failure.seed, 1)
        file = shlex.quote(write_scenario(path, failure, again))
        if self.errand.machine:
            file += f" --machine {shlex.quote(self.errand.machine)}"
        return violation_words(failure, again.command, file)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            **self.identity.as_dict(),
            "first_seed": self.first_seed,
            "seeds": self.seeds,
            "about": ", ".join(self.facts),
            **self.tally.speed(self.seconds),
            **self.tally.as_dict(),
            "digest": self.tally.digest if self.is_whole else None,
        }


@click.command("run", short_help="Try seeds on all cores.")
@click.option(
    "--first-seed", type=click.IntRange(0), default=0, show_default=True, help="The first seed."
)
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="How many seeds."
)
@given.fixing
@click.option("--jobs", type=click.IntRange(1), help="Processes [default: one for each core].")
@click.option("--keep-going", is_flag=True, help="Go on after a violation.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    help="Where the scenarios of violations are written [default: here].",
)
@given.as_json
def command(
    first_seed: int,
    seeds: int,
    jobs: int | None,
    keep_going: bool,
    out: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Try seeds; exit with 0 only if no property is violated.

    The first and the last line are a command that does it all again, with what is known about it
    behind a #: version, commit, scenario, digest. Equal digests mean equal runs, bit for bit.
    """
    given.stand_here()
    runs = _Runs(given.errand_of(options), first_seed, seeds, given.words_of(options))
    verdicts = runs.alone() if seeds == 1 else runs.many(jobs or cores(), keep_going=keep_going)
    if seeds > 1 and not as_json:
        click.echo(runs.line())
    notes: list[str] = []
    try:
        with Bar(seeds, quiet=as_json) as bar:
            for verdict in verdicts:
                runs.tally.add(verdict)
                bar.show(runs.tally)
                if isinstance(verdict, Failure):
                    notes.append(runs.broken(verdict, out))
    except KeyboardInterrupt:
        click.echo(f"interrupted after {len(runs.tally.digests)} of {seeds} seeds", err=True)
        _report(runs, notes, as_json=as_json)
        raise click.Abort from None
    _report(runs, notes, as_json=as_json)
    raise SystemExit(1 if runs.tally.failures else 0)


def _report(runs: _Runs, notes: list[str], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(runs.as_dict(), indent=2))
        return
    tally = runs.tally
    last = runs.line(tally.digest if runs.is_whole else "")
    if runs.seeds == 1:
        click.echo(last)
    click.echo()
    if tally.outcomes:
        show_totals(tally)
        click.echo()
    for note in notes:
        click.echo(f"{note}\n")
    click.echo(f"{_verdict(runs)} in {runs.seconds:.1f} s: {speed_words(tally, runs.seconds)}")
    click.echo(last)


def _verdict(runs: _Runs) -> str:
    tried, broken = len(runs.tally.digests), len(runs.tally.failures)
    seeds = "1 seed" if tried == 1 else f"{tried:,} seeds"
    if not runs.is_whole:
        seeds += f" (of {runs.seeds:,})"
    if not broken:
        return f"{seeds}, no violation"
    return f"{seeds}, {broken:,} with a violation"
