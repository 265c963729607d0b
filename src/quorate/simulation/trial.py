"""A trial: one scenario tried, with an Outcome or a Failure for an answer and no exception.

What farms send between processes, what shrinking asks over and over, what the command line and
the pytest plugin report. It knows nothing of many seeds, of files and of terminals.

Invariant: a Failure holds all that is needed to see it again: its scenario.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from quorate.simulation.host import WrapEngine
from quorate.simulation.properties import Kind, Property, Violation, liveness
from quorate.simulation.run import Outcome, Run
from quorate.simulation.scenario import Scenario, format_scenario, parse_scenario
from quorate.simulation.units import format_duration
from quorate.simulation.workloads.catalogue import workload_named
from quorate.simulation.workloads.machines import MachineTest, MachineWorkload
from quorate.simulation.workloads.workload import Workload

SEEN_LINES_MAX = 40
WorkloadOf: TypeAlias = Callable[[str], Workload]


@dataclass(frozen=True, slots=True)
class Failure:
    """A run in which a property did not hold.

    Attributes:
        scenario: of the run.
        broken: the property.
        detail: what was seen.
        at_us: when, in virtual time.
        events: how much had happened by then.
        trace: checksum over everything that happened: equal runs, equal traces.
    """

    scenario: Scenario
    broken: Property
    detail: str
    at_us: int
    events: int
    trace: str

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.scenario.seed

    @property
    def digest(self) -> str:
        """In the place of an outcome's digest."""
        return f"{self.trace}-{self.broken.name.replace(' ', '_')}"

    def describe(self) -> str:
        """Which property, what it claims, what was seen and when, in a few lines."""
        broken = self.broken
        what = f"{broken.name} ({broken.kind.value}; {broken.source})"
        return (
            f"VIOLATION in seed {self.seed}: {what}\n"
            f"  claim    {broken.claim}\n"
            f"  seen     {_below(self.detail)}\n"
            f"  when     {self.moment()}, {self.events:,} events"
        )

    def moment(self) -> str:
        """When it was seen, in words."""
        late_us = self.at_us - self.scenario.duration_us
        if late_us < 0:
            return f"after {format_duration(self.at_us)}"
        return (
            f"{format_duration(late_us)} after the faults had stopped" if late_us else "at the end"
        )

    def to_file(self, about: str) -> str:
        """The scenario as a file that says on top what it shows."""
        head = [f"{self.broken.name}: {self.broken.claim}"]
        head += self.detail.splitlines()[:SEEN_LINES_MAX]
        return format_scenario(self.scenario, "\n".join([*head, about]))

    def as_dict(self) -> dict[str, Any]:
        """For programs; ``failure_of`` reads it back."""
        return {
            "seed": self.seed,
            "property": self.broken.name,
            "kind": self.broken.kind.value,
            "claim": self.broken.claim,
            "source": self.broken.source,
            "detail": self.detail,
            "at_us": self.at_us,
            "events": self.events,
            "trace": self.trace,
            "digest": self.digest,
            "scenario": format_scenario(self.scenario),
        }


def _below(text: str) -> str:
    """Further lines below the first; not too many of them."""
    lines = text.splitlines()
    if len(lines) > SEEN_LINES_MAX:
        lines = [*lines[:SEEN_LINES_MAX], f"... and {len(lines) - SEEN_LINES_MAX} more lines"]
    return "\n           ".join(lines)


def failure_of(fields: dict[str, Any]) -> Failure:
    """Read back what ``Failure.as_dict`` wrote."""
    broken = Property(fields["property"], Kind(fields["kind"]), fields["claim"], fields["source"])
    scenario = parse_scenario(fields["scenario"], "failure")
    at_us, events, trace = fields["at_us"], fields["events"], fields["trace"]
    return Failure(scenario, broken, fields["detail"], at_us, events, trace)


Verdict: TypeAlias = Outcome | Failure


class Overdue(BaseException):
    """Real time is up for a run. No Exception: nobody on the way may take it for one of his."""


class PatienceJudge:
    """The judge of runs as such."""

    @liveness("the simulator's bound on real time")
    def runs_come_to_an_end(self, events: int, now_us: int) -> str | None:
        """A run ends before the patience of whoever started it."""
        return f"broken off after {events} events, at {now_us / 1e6:.3f} s of virtual time"


def attempt(
    scenario: Scenario,
    *,
    workload_of: WorkloadOf = workload_named,
    wrap_engine: WrapEngine | None = None,
    watch: Callable[[Run], None] | None = None,
) -> Verdict:
    """Run a scenario.

    Args:
        scenario: what happens.
        workload_of: makes the scenario's workload by name.
        wrap_engine: puts something around each engine: a mutation, for example.
        watch: gets the run before it begins.

    ``Overdue``, raised by a signal for example, breaks the run off and makes it a Failure.

    Raises:
        UsageError: the scenario cannot be run; nothing was.
    """
    run = Run(scenario, workload=workload_of(scenario.workload), wrap_engine=wrap_engine)
    if watch is not None:
        watch(run)
    world = run.world
    try:
        try:
            return run.run()
        except Overdue:
            PatienceJudge().runs_come_to_an_end(world.events, world.now_us)
            raise
    except Violation as error:
        broken, detail, trace = error.property, error.detail, f"{world.trace:08x}"
        return Failure(scenario, broken, detail, world.now_us, world.events, trace)


def workload_of_machine(test: MachineTest) -> WorkloadOf:
    """Make workloads of a user's machine, whatever the scenario calls it."""
    return lambda _: MachineWorkload(test)
