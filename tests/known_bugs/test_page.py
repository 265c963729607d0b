"""docs/known-bugs.md and the scenarios keep step: each claim is run, and each run is listed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "known-bugs.md"
NUMBERS = [*(str(number) for number in range(1, 67)), *(f"F{number}" for number in range(1, 10))]


def rows() -> dict[str, str]:
    """The last column of each row, by number; a number that comes twice fails."""
    found: dict[str, str] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        match = re.match(r"\| (F?\d+) \|", line)
        if match:
            assert match[1] not in found, f"number {match[1]} has two rows"
            cells = line.strip("|").split(" | ")
            assert len(cells) == 5, line
            found[match[1]] = cells[4]
    return found


def functions() -> dict[str, ast.FunctionDef]:
    """All functions at the top of the scenario files, by name."""
    return {
        node.name: node
        for path in sorted(HERE.glob("test_*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }


def number_of(scenario: str) -> str:
    """``test_kb_07_...`` is about number 7, ``test_kb_f1_...`` about F1."""
    match = re.match(r"test_kb_(\d\d|f\d)_", scenario)
    assert match, f"{scenario}: which known bug?"
    return match[1].lstrip("0").upper()


def breaks(function: ast.FunctionDef) -> list[str]:
    """The scenarios that a mutant is registered to break."""
    return [
        argument.id
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call) and getattr(decorator.func, "attr", "") == "breaks"
        for argument in decorator.args
        if isinstance(argument, ast.Name)
    ]


def test_every_number_has_one_row() -> None:
    """The list is complete and in order."""
    assert list(rows()) == NUMBERS


def test_every_scenario_is_on_the_page_in_its_row_and_the_reverse() -> None:
    """A row names exactly the scenarios with its number."""
    named = {number: set(re.findall(r"`(test_kb_\w+)`", cell)) for number, cell in rows().items()}
    written: dict[str, set[str]] = {number: set() for number in NUMBERS}
    for name in functions():
        if name.startswith("test_kb_"):
            written[number_of(name)].add(name)
    assert named == written


def test_every_mutant_named_exists_and_breaks_a_scenario_of_its_row() -> None:
    """ "Fails with" is no figure of speech; and every mutant of a numbered scenario is named."""
    known = functions()
    named = {
        (number, name)
        for number, cell in rows().items()
        for name in re.findall(r"`([a-z]\w+)`", cell.partition("fails with ")[2].split(". ")[0])
    }
    registered = set()
    for name, function in known.items():
        for scenario in breaks(function):
            if scenario.startswith("test_kb_"):
                registered.add((number_of(scenario), name))
            elif scenario == "half_of_four":
                registered.add(("11", name))
    assert named == registered
    assert len({number for number, _ in named}) >= 25, "a test must be able to fail"


def test_a_row_without_a_scenario_says_why_not_yet() -> None:
    """What cannot exist in today's code says what has to come first."""
    for number, cell in rows().items():
        if "`test_kb_" not in cell:
            assert cell.startswith("not yet: "), number
