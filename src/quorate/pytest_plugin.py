"""The pytest plugin: a fixture that puts a user's own state machine under faults.

    def test_money_is_neither_made_nor_lost(quorate_cluster):
        quorate_cluster.check(Bank, commands=transfer, invariant=money_is_constant, seeds=50)

A failure is reported as a user wants to read it: which property, what was seen, the smallest
scenario that shows it and what happens in it. The simulator is imported when a test asks for the
fixture, so that it costs nobody else anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from quorate.errors import UsageError

if TYPE_CHECKING:
    from quorate.simulation.run import Outcome
    from quorate.simulation.scenario import Scenario
    from quorate.simulation.trial import Failure
    from quorate.simulation.workloads.machines import MachineTest

SEEDS = 50
SHRINK_RUNS_MAX = 300
TIMELINE_LINES_MAX = 30
DIRECTORY = "quorate-failures"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options that reproduce, and that test longer."""
    group = parser.getgroup("quorate", "state machines under faults (fixture quorate_cluster)")
    group.addoption(
        "--quorate-seeds",
        type=int,
        metavar="N",
        help="try N seeds in each test instead of what the test asks for",
    )
    group.addoption(
        "--quorate-seed", type=int, metavar="N", help="try this one seed only: reproduces a failure"
    )
    group.addoption(
        "--quorate-out",
        metavar="DIR",
        default=DIRECTORY,
        help="where scenarios of failures are written (default: %(default)s)",
    )


@pytest.fixture
def quorate_cluster(request: pytest.FixtureRequest) -> QuorateCluster:
    """Simulated clusters that replicate a state machine of yours, under faults."""
    option = request.config.getoption
    return QuorateCluster(
        name=request.node.nodeid,
        seeds=option("--quorate-seeds"),
        only_seed=option("--quorate-seed"),
        out=Path(option("--quorate-out")),
    )


class QuorateCluster:
    """What the fixture ``quorate_cluster`` gives.

    Args:
        name: of the test.
        seeds: how many, instead of what the test asks for.
        only_seed: the only one.
        out: where scenarios of failures go.
    """

    def __init__(self, name: str, seeds: int | None, only_seed: int | None, out: Path) -> None:
        self._name = name
        self._seeds = seeds
        self._only_seed = only_seed
        self._out = out

    def check(
        self,
        machine: Callable[[], Any] | MachineTest,
        *,
        seeds: int = SEEDS,
        first_seed: int = 0,
        duration: str = "10s",
        nodes: int = 0,
        clients: int = 4,
        faults: str = "all",
        **test: Any,
    ) -> list[Outcome]:
        """Try seeds; the test fails at the first in which a property does not hold.

        Args:
            machine: your state machine's class, or a ``MachineTest``.
            seeds: how many runs.
            first_seed: the first of them.
            duration: virtual time in which faults strike, in each run.
            nodes: how many; 0: 3 or 5, drawn.
            clients: how many ask for something at the same time.
            faults: as for ``quorate simulate run --faults``.
            **test: ``commands`` and what else a ``MachineTest`` takes: ``invariant``,
                ``questions`` and ``read``, ``operation`` and ``model``.

        Returns:
            What happened in each run, for tests that want to be sure that something did.
        """
        __tracebackhide__ = True
        from quorate.simulation.farm import Errand  # noqa: PLC0415 - only for those who use it
        from quorate.simulation.plan import Wishes, parse_kinds  # noqa: PLC0415
        from quorate.simulation.trial import Failure, attempt, workload_of_machine  # noqa: PLC0415
        from quorate.simulation.units import parse_duration_us  # noqa: PLC0415

        with _usage_errors_are_short():
            tested = _machine_test(machine, test)
            wishes = Wishes(
                f"{tested.name}", nodes, clients, _duration(parse_duration_us, duration),
                parse_kinds(faults),
            )  # fmt: skip
            workload_of = workload_of_machine(tested)
            outcomes: list[Outcome] = []
            for seed in self._chosen(first_seed, seeds):
                scenario = Errand(wishes).scenario(seed, workload_of)
                verdict = attempt(scenario, workload_of=workload_of)
                if isinstance(verdict, Failure):
                    self._fail(tested, verdict)
                outcomes.append(verdict)
        if not any(outcome.figures["acknowledged"] for outcome in outcomes):
            pytest.fail(
                f"no command was ever carried out in {len(outcomes)} runs: nothing was tested",
                pytrace=False,
            )
        return outcomes

    def replay(
        self, file: str | Path, machine: Callable[[], Any] | MachineTest, **test: Any
    ) -> Outcome:
        """Run a scenario file; the test fails if a property does not hold.

        Keep the file beside the test, and a bug that was fixed stays fixed.

        Args:
            file: as written by a failure.
            machine: as for ``check``.
            **test: as for ``check``.
        """
        __tracebackhide__ = True
        from quorate.simulation.scenario import parse_scenario  # noqa: PLC0415 - see check
        from quorate.simulation.trial import Failure, attempt, workload_of_machine  # noqa: PLC0415

        with _usage_errors_are_short():
            tested = _machine_test(machine, test)
            text = Path(file).read_text(encoding="utf-8")
            scenario = parse_scenario(text, str(file))
            verdict = attempt(scenario, workload_of=workload_of_machine(tested))
        if isinstance(verdict, Failure):
            story = "\n".join(_timeline(scenario, tested))
            pytest.fail(f"{verdict.describe()}\n\nwhat happens:\n\n{story}\n", pytrace=False)
        return verdict

    def _chosen(self, first_seed: int, seeds: int) -> Iterator[int]:
        if self._only_seed is not None:
            yield self._only_seed
        else:
            yield from range(first_seed, first_seed + (self._seeds or seeds))

    def _fail(self, tested: MachineTest, failure: Failure) -> NoReturn:
        from quorate.simulation.shrink import shrink  # noqa: PLC0415 - see check
        from quorate.simulation.trial import Failure, attempt, workload_of_machine  # noqa: PLC0415

        __tracebackhide__ = True
        workload_of = workload_of_machine(tested)

        def fails(scenario: Scenario) -> Failure | None:
            verdict = attempt(scenario, workload_of=workload_of)
            return verdict if isinstance(verdict, Failure) else None

        small = shrink(failure.scenario, fails, runs_max=SHRINK_RUNS_MAX)
        again = f"pytest '{self._name}' --quorate-seed {failure.seed}"
        path = self._out / f"{_file_name(self._name)}-{failure.seed}.scenario"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(small.failure.to_file(again), encoding="utf-8")
        story = _timeline(small.scenario, tested)
        before = f"{len(failure.scenario.actions)} actions, {len(failure.scenario.steps)} steps"
        lines = [
            small.failure.describe(),
            f"  again    {again}",
            f"  replay   quorate_cluster.replay({str(path)!r}, {tested.name}, ...)",
            "",
            f"The smallest scenario found in {small.runs} runs (before: {before}):",
            "",
            *[f"    {line}" for line in _essence(small.scenario)],
            "",
            "What happens in it:",
            "",
            *story,
        ]
        pytest.fail("\n".join(lines), pytrace=False)


@contextmanager
def _usage_errors_are_short() -> Iterator[None]:
    """What the test's author did wrong is said in a line, without our insides."""
    __tracebackhide__ = True
    wrong = ""
    try:
        yield
    except (UsageError, OSError) as error:
        wrong = str(error)
    if wrong:
        pytest.fail(f"quorate_cluster: {wrong}", pytrace=False)


def _machine_test(machine: Any, test: dict[str, Any]) -> MachineTest:
    from quorate.simulation.workloads.machines import MachineTest  # noqa: PLC0415 - see check

    if isinstance(machine, MachineTest):
        if test:
            raise UsageError(f"a MachineTest says it all: leave {', '.join(sorted(test))} out")
        return machine
    if "commands" not in test:
        raise UsageError("commands=... is missing: a function from dice to the bytes of a command")
    try:
        return MachineTest(machine, **test)
    except TypeError as error:
        raise UsageError(str(error)) from error


def _duration(parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"duration: {error}") from error


def _essence(scenario: Scenario) -> list[str]:
    """The scenario without its settings, which are in the file."""
    from quorate.simulation.scenario import format_scenario  # noqa: PLC0415 - see check

    lines = format_scenario(scenario).splitlines()[1:]
    return [line for line in lines if line and not line.startswith("set ")]


def _timeline(scenario: Scenario, tested: MachineTest) -> list[str]:
    """What happens in a scenario, its end if it is long."""
    from quorate.simulation.timeline import Happening, Timeline  # noqa: PLC0415 - see check
    from quorate.simulation.trial import attempt, workload_of_machine  # noqa: PLC0415

    happenings: list[Happening] = []
    attempt(
        scenario,
        workload_of=workload_of_machine(tested),
        watch=lambda run: _listen(Timeline, run, happenings),
    )
    lines = [f"    {happening}" for happening in happenings]
    left_out = len(lines) - TIMELINE_LINES_MAX
    if left_out > 0:
        lines = [f"    ... {left_out} lines before", *lines[left_out:]]
    return lines


def _listen(timeline: Any, run: Any, happenings: list[Any]) -> None:
    timeline(run, happenings.append)


def _file_name(name: str) -> str:
    """A test's name as a file's."""
    return re.sub(r"[^\w.-]+", "-", name.rpartition("::")[2]).strip("-")
