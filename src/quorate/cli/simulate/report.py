"""What ``quorate simulate`` prints: the line that reproduces, totals, violations.

The line is a shell command with a comment behind it. The command fixes the runs; the comment says
of which code, which scenario, and which digest they end with. Running it again prints it again.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zlib import crc32

import click

import quorate
from quorate.simulation.run import Outcome
from quorate.simulation.scenario import Scenario
from quorate.simulation.trial import Failure, Verdict
from quorate.simulation.units import format_duration

_GIT_SECONDS = 5.0
_WIDE = 500  # into a file or a pipe, a row is a line
TROUBLE = {
    "crashes": "processes and machines that died",
    "stops": "nodes that gave up because of their disk",
    "retired": "nodes that could not be started again",
    "partitions": "partitions of any kind",
    "elections": "leaders elected",
    "changes": "changes of members carried out",
    "messages": "messages between nodes",
    "delivered": "entries agreed on",
    "events": "events",
}
FIGURES = {
    "requests": "requests of clients",
    "acknowledged": "writes acknowledged",
    "reads": "reads answered",
    "unknown": "requests whose outcome nobody was told",
    "installs": "snapshots installed",
    "undecided": "histories too hard to judge",
}


def commit() -> str:
    """The commit of the source tree this runs from, "" when it is no checkout."""
    tree = Path(quorate.__file__).resolve().parents[2]
    git = shutil.which("git")
    if git is None or not (tree / ".git").exists():
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - git itself, and no word of it from outside
            [git, "-C", str(tree), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


class Identity:
    """The line that a run begins and ends with."""

    def __init__(self, words: list[str]) -> None:
        self.command = shlex.join(["quorate", "simulate", *words])
        self.version = quorate.__version__
        self.commit = commit()

    def line(self, *facts: str) -> str:
        """The command, and what is known about it."""
        about = [f"quorate {self.version}"]
        about += [f"commit {self.commit}"] if self.commit else []
        return f"{self.command}  # {', '.join([*about, *[fact for fact in facts if fact]])}"

    def as_dict(self) -> dict[str, str]:
        """For programs."""
        return {"version": self.version, "commit": self.commit, "command": self.command}


class Tally:
    """Verdicts of many seeds, added up."""

    def __init__(self) -> None:
        self.digests: dict[int, str] = {}
        self.outcomes: list[Outcome] = []
        self.failures: list[Failure] = []
        self.virtual_us = self.events = 0

    def add(self, verdict: Verdict) -> None:
        """One more."""
        self.digests[verdict.seed] = verdict.digest
        self.events += verdict.events
        if isinstance(verdict, Failure):
            self.failures.append(verdict)
            self.virtual_us += verdict.at_us
        else:
            self.outcomes.append(verdict)
            self.virtual_us += verdict.virtual_us

    @property
    def digest(self) -> str:
        """Over all digests, by seed; of a single run its own."""
        if len(self.digests) == 1:
            return next(iter(self.digests.values()))
        text = "".join(f"{seed} {digest}\n" for seed, digest in sorted(self.digests.items()))
        return f"{crc32(text.encode()):08x}"

    def totals(self) -> dict[str, int]:
        """What happened in all runs that came to their end."""
        return {name: sum(getattr(one, name) for one in self.outcomes) for name in TROUBLE}

    def figures(self) -> dict[str, int]:
        """What clients did in them; known names first."""
        sums: dict[str, int] = {}
        for outcome in self.outcomes:
            for name, figure in outcome.figures.items():
                sums[name] = sums.get(name, 0) + figure
        return {name: sums[name] for name in (*FIGURES, *sums) if name in sums}

    def speed(self, seconds: float) -> dict[str, float]:
        """How fast it went."""
        seconds = max(seconds, 1e-9)
        return {
            "seconds": round(seconds, 3),
            "seeds_s": round(len(self.digests) / seconds, 2),
            "times_real_time": round(self.virtual_us / 1e6 / seconds, 1),
            "events_s": round(self.events / seconds),
        }

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "tried": len(self.digests),
            "digest": self.digest,
            "totals": self.totals(),
            "figures": self.figures(),
            "violations": [failure.as_dict() for failure in by_seed(self.failures)],
            "runs": [asdict(outcome) for outcome in sorted(self.outcomes, key=lambda o: o.seed)],
        }


def by_seed(failures: list[Failure]) -> list[Failure]:
    """In the order of their seeds."""
    return sorted(failures, key=lambda failure: failure.seed)


def speed_words(tally: Tally, seconds: float) -> str:
    """How fast, in words."""
    speed = tally.speed(seconds)
    return (
        f"{speed['seeds_s']:g} seeds/s, {speed['times_real_time']:,.0f} times real time, "
        f"{speed['events_s']:,.0f} events/s"
    )


def show_table(
    rows: Sequence[tuple[str, ...]], headings: tuple[str, ...], *, right: str = ""
) -> None:
    """Print a table; the columns named in ``right`` are numbers."""
    from rich.console import Console  # noqa: PLC0415 - not needed for --json
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415 - words are words, not markup

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right.split() else "left")
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def show_totals(tally: Tally) -> None:
    """What happened, in all runs together."""
    counts = [(f"{count:,}", TROUBLE[name]) for name, count in tally.totals().items()]
    counts += [(f"{count:,}", FIGURES.get(name, name)) for name, count in tally.figures().items()]
    show_table(counts, ("total", "of"), right="total")


def violation_words(failure: Failure, again: str, file: str = "") -> str:
    """What was broken, what was seen, and what to do next."""
    lines = [failure.describe()]
    lines += [f"  again    {again}"] if again else []
    if file:
        lines += [
            f"  replay   quorate simulate replay {file}",
            f"  smaller  quorate simulate shrink {file}",
        ]
    return "\n".join(lines)


def write_scenario(path: Path, failure: Failure, identity: Identity) -> str:
    """Write a failing scenario with what is known about it on top; its path as text."""
    line = identity.line(f"seed {failure.seed}", f"digest {failure.digest}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(failure.to_file(line), encoding="utf-8")
    return str(path)


def counts(scenario: Scenario) -> str:
    """How big a scenario is."""
    sizes = [
        (len(scenario.actions), "action"),
        (len(scenario.steps), "step"),
        (scenario.nodes, "node"),
        (scenario.clients, "client"),
    ]
    words = [f"{size} {word}{'' if size == 1 else 's'}" for size, word in sizes]
    return ", ".join([*words, format_duration(scenario.duration_us)])
