"""The pytest plugin: what a user's test run says, and how failures are found again."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

# Imported here so that the inner test runs, which restore sys.modules, import them only once.
import quorate.simulation.farm
import quorate.simulation.shrink
import quorate.simulation.timeline  # noqa: F401
from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.trial import Failure, attempt, workload_of_machine
from quorate.simulation.workloads.machines import load_machine_test

pytest_plugins = ["pytester"]

BANK = Path(__file__).resolve().parents[3] / "examples" / "bank" / "test_bank.py"
COUNTER = """
    from quorate.simulation.workloads.machines import MachineTest

    class Counter:
        def __init__(self):
            self.total = 0
        def apply(self, payload, context):
            self.total += int(payload)
            return self.total
        def snapshot(self):
            return iter([str(self.total).encode()])
        def restore(self, chunks):
            self.total = int(b"".join(chunks))
        def digest(self):
            return self.total

    def amount(dice):
        return str(1 + dice.draw(9)).encode()

    def small(counter):
        return None if counter.total < 20 else f"{counter.total} is too much"
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run pytest on a test file, as at a terminal: under CI pytest says every failure twice."""
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    installed = [point.value for point in entry_points(group="pytest11")]
    options = [] if "quorate.pytest_plugin" in installed else ["-p", "quorate.pytest_plugin"]

    def run(text, *words):
        pytester.makepyfile(test_mine=text)
        return pytester.runpytest_inprocess(*options, "-p", "no:cacheprovider", *words)

    return run


def said(result):
    return "\n".join(result.outlines)


def failing(**arguments):
    extra = "".join(f", {name}={value!r}" for name, value in arguments.items())
    return (
        f"{COUNTER}\n    def test_it(quorate_cluster):\n"
        f"        quorate_cluster.check(Counter, commands=amount, invariant=small{extra})\n"
    )


def test_the_entry_point_is_declared():
    """Whoever installs quorate has the fixture."""
    text = (BANK.parents[2] / "pyproject.toml").read_text()
    assert '[project.entry-points.pytest11]\nquorate = "quorate.pytest_plugin"' in text


def unlucky_seed():
    """The first seed in which the forgetful bank is found out; another one when plans change."""
    test = load_machine_test(f"{BANK}:FORGETFUL")
    workload_of = workload_of_machine(test)
    wishes = Wishes(test.name, duration_us=10_000_000)
    for seed in range(200):
        scenario = draw_scenario(seed, wishes, workload_of)
        if isinstance(attempt(scenario, workload_of=workload_of), Failure):
            return seed
    raise AssertionError("the planted bug is not found any more")


def test_the_example_finds_its_bug(run):
    """The bank passes; the forgetful one is caught, and the plugin's seeds are everybody's."""
    seed = unlucky_seed()
    result = run(BANK.read_text(), "--runxfail", "--quorate-seed", str(seed))
    result.assert_outcomes(passed=1, failed=1)
    assert f"VIOLATION in seed {seed}: " in said(result)
    assert "transfer" in said(result)


def test_a_failure_is_short_and_says_what_to_do(run, pytester):
    """Property, what was seen, a small scenario, its story, two ways back; none of our insides."""
    result = run(failing(duration="3s", seeds=5))
    result.assert_outcomes(failed=1)
    output = said(result)
    assert "VIOLATION in seed 0: your invariant holds (safety; the user's test)" in output
    assert "seen     small: " in output
    assert "is too much (after '" in output
    assert "again    pytest 'test_mine.py::test_it' --quorate-seed 0" in output
    assert "replay   quorate_cluster.replay('quorate-failures/test_it-0.scenario'" in output
    assert re.search(r"^ +client \d at \S+ do \d$", output, re.MULTILINE)
    assert "leads epoch" in output
    assert "Traceback" not in output
    assert "src/quorate" not in output
    assert len(output.splitlines()) < 70
    assert Path(pytester.path, "quorate-failures", "test_it-0.scenario").exists()


def test_options_choose_seeds(run):
    """--quorate-seed tries one, --quorate-seeds that many, --quorate-out says where files go."""
    counting = COUNTER + (
        "\n    def test_it(quorate_cluster):\n"
        "        outcomes = quorate_cluster.check(Counter, commands=amount, duration='1s')\n"
        "        assert [outcome.seed for outcome in outcomes] == {expected}\n"
    )
    run(counting.replace("{expected}", "[0, 1, 2]"), "--quorate-seeds", "3").assert_outcomes(
        passed=1
    )
    run(counting.replace("{expected}", "[9]"), "--quorate-seed", "9").assert_outcomes(passed=1)
    run(failing(duration="3s"), "--quorate-out", "kept").assert_outcomes(failed=1)
    assert Path("kept/test_it-0.scenario").exists()


def test_a_saved_scenario_replays(run):
    """It fails as before, and passes once the bug is gone."""
    run(failing(duration="3s"), "--quorate-out", "kept").assert_outcomes(failed=1)
    again = COUNTER + (
        "\n    def test_again(quorate_cluster):\n"
        "        quorate_cluster.replay('kept/test_it-0.scenario', Counter, commands=amount, "
        "invariant=small)\n"
        "\n    def test_fixed(quorate_cluster):\n"
        "        test = MachineTest(Counter, amount)\n"
        "        outcome = quorate_cluster.replay('kept/test_it-0.scenario', test)\n"
        "        assert outcome.figures['acknowledged'] > 0\n"
    )
    result = run(again)
    result.assert_outcomes(passed=1, failed=1)
    assert "your invariant holds" in said(result)
    assert "what happens:" in said(result)


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        ("check(Counter)", "commands=... is missing"),
        ("check(dict, commands=amount)", "dict is no state machine"),
        ("check(Counter, commands=amount, color=1)", "color"),
        ("check(Counter, commands=amount, duration='soon')", "duration: 'soon' is no duration"),
        ("check(Counter, commands=amount, faults='rain')", "unknown kind of fault 'rain'"),
        ("check(MachineTest(Counter, amount), commands=amount)", "leave commands out"),
        ("check(Counter, commands=amount, clients=0, seeds=1)", "nothing was tested"),
        ("replay('no.scenario', Counter, commands=amount)", "no.scenario"),
    ],
)
def test_what_the_test_gets_wrong_is_one_line(run, call, wrong):
    """The author of the test hears what to write instead."""
    result = run(f"{COUNTER}\n    def test_it(quorate_cluster):\n        quorate_cluster.{call}\n")
    result.assert_outcomes(failed=1)
    assert wrong in said(result)
    assert "Traceback" not in said(result)
