"""docs/simulation.md says what the code does: its tables, its scenario, its commands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from quorate.cli.main import cli
from quorate.simulation.scenario import parse_scenario
from quorate.simulation.trial import Failure, attempt, workload_of_machine
from quorate.simulation.workloads.machines import load_machine_test

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "simulation.md"
BANK = ROOT / "examples" / "bank" / "test_bank.py"


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page(), re.MULTILINE | re.DOTALL)


def test_tables_are_those_of_the_code() -> None:
    """Kinds, actions and properties are as the code declares them.

    Asked in a process of its own, where no test has declared any.
    """
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import simulation_page as p;"
        "sys.exit(p.renewed(p.PAGE.read_text()) != p.PAGE.read_text())"
    )
    done = subprocess.run([sys.executable, "-c", script, str(Path(__file__).parent)], check=False)
    assert done.returncode == 0, "write the tables again: python tests/docs/simulation_page.py"


def test_the_scenario_on_the_page_fails_as_it_says() -> None:
    """The small scenario breaks the property that the page names, and not for the sound bank."""
    (text,) = blocks("scenario")
    scenario = parse_scenario(text, "page")
    verdicts = [
        attempt(scenario, workload_of=workload_of_machine(load_machine_test(f"{BANK}:{name}")))
        for name in ("FORGETFUL", "BANK")
    ]
    assert isinstance(verdicts[0], Failure)
    assert f"VIOLATION in seed 17: {verdicts[0].broken.name}" in page()
    assert not isinstance(verdicts[1], Failure)


def test_commands_on_the_page_exist() -> None:
    """Every command shown has these options."""
    shown = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(shown) >= 6
    for line in shown:
        words = shlex.split(line, comments=True)
        assert words[:2] == ["quorate", "simulate"]
        usage = CliRunner().invoke(cli, [*words[1:3], "--help"]).output
        for word in words[3:]:
            if word.startswith("--"):
                assert word in usage, line
