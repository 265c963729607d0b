"""Runs kazoo's own test-suite in a subprocess, and compares the outcome with what must pass.

The subprocess gets its own pytest settings, temporary directory and process group: kazoo's tests
are written for other settings than ours, and whatever happens to them, nothing stays running.
``kazoo_plugin`` is what happens inside. Bounded: the whole run is killed after ``seconds_max``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
EXPECTED = HERE / "kazoo_expected.txt"
REQUIRED_MODULES = ("kazoo", "OpenSSL", "jks", "gevent", "eventlet", "objgraph", "xdist")
TEST_SECONDS_MAX = 60


@dataclass(frozen=True)
class Outcome:
    """How one test ended: ``passed``, ``failed`` or ``skipped``, and why."""

    outcome: str
    seconds: float
    why: str


@dataclass(frozen=True)
class SuiteRun:
    """What a run of the suite left: outcomes by test name, exit code and the last output lines."""

    outcomes: dict[str, Outcome]
    returncode: int
    output: str


def missing_modules() -> list[str]:
    """Modules of the extra ``conformance`` that are not installed here."""
    return [name for name in REQUIRED_MODULES if importlib.util.find_spec(name) is None]


def run_suite(
    directory: Path, *, expected: Path = EXPECTED, workers: int = 2, seconds_max: float = 240.0
) -> SuiteRun:
    """Run the tests named in ``expected``; never raises for a failing or hanging suite."""
    report = directory / "outcomes.jsonl"
    settings = directory / "pytest.ini"
    settings.write_text("[pytest]\n")
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "PYTEST_ADDOPTS")}
    environment = {k: v for k, v in environment.items() if not k.startswith("PYTEST_XDIST")}
    environment |= {
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "QUORATE_PYTHON": os.environ.get("QUORATE_PYTHON", sys.executable),
        "QUORATE_KAZOO_EXPECTED": str(expected),
        "QUORATE_KAZOO_REPORT": str(report),
        "TMPDIR": str(directory),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(settings), "-p", "kazoo_plugin"]
    command += ["-p", "no:cacheprovider", "--rootdir", str(directory), "--tb=short"]
    command += ["--timeout", str(TEST_SECONDS_MAX), "-n", str(workers), "--dist", "loadscope"]
    command += ["--pyargs", "kazoo.tests"]
    log = directory / "output.txt"
    with log.open("wb") as out:
        suite = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            returncode = suite.wait(seconds_max)
        except subprocess.TimeoutExpired:
            returncode = -signal.SIGKILL
        finally:
            _kill_group(suite.pid)
            suite.wait()
    return SuiteRun(read_outcomes(report), returncode, log.read_text(errors="replace")[-6000:])


def _kill_group(group: int) -> None:
    """End whatever the suite left running: its workers and their servers share its group."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def read_outcomes(report: Path) -> dict[str, Outcome]:
    """Outcomes by test; of several phases of one test the worst counts."""
    outcomes: dict[str, Outcome] = {}
    text = report.read_text(encoding="utf-8") if report.exists() else ""
    for line in text.splitlines():
        record = json.loads(line)
        known = outcomes.get(record["test"])
        if known is None or record["outcome"] == "failed":
            outcomes[record["test"]] = Outcome(record["outcome"], record["seconds"], record["why"])
    return outcomes


def not_passed(expected: list[str], outcomes: dict[str, Outcome]) -> list[str]:
    """One line per expected test that did not pass; a skipped or absent one did not pass."""
    lines = []
    for name in expected:
        found = outcomes.get(name)
        if found is None:
            lines.append(f"{name}: did not run")
        elif found.outcome != "passed":
            reason = found.why.strip().splitlines()[-1:] or [""]
            lines.append(f"{name}: {found.outcome} after {found.seconds} s: {reason[0][:200]}")
    return lines
