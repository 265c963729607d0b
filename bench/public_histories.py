"""Check histories whose verdicts are known, and say which came out wrong.

    PYTHONPATH=src python bench/public_histories.py DIRECTORY...

Walks the directories for ``.edn``, ``.log``, ``.txt`` and ``.jsonl`` files. What a verdict has to
be follows from the name: Knossos sorts its data into ``good`` and ``bad``; Porcupine's key-value
logs end in ``-ok`` and ``-bad``; which of its 102 etcd logs are linearizable is in the table below
(``etcd_095.log`` is empty, so unusable: that cluster never started). Files with other names are
checked without an opinion. Exits with 1 when a verdict is wrong or undecided.

The data are public and not part of this repository: ``test_data`` of
https://github.com/anishathalye/porcupine and ``data`` of https://github.com/jepsen-io/knossos.
"""

from __future__ import annotations

import gc
import re
import sys
import time
from pathlib import Path

from quorate.cli.check import Checked, Limits, check_file

SUFFIXES = (".edn", ".log", ".txt", ".jsonl")
ETCD_LOG = re.compile(r"etcd_(\d{3})\.log\Z")
ETCD_LINEARIZABLE = frozenset(
    [2, 5, 7, 18, 25, 31, 38, 45, 48, 49, 51, 53, 56, 67, 75, 76, 80, 87, 92, 98, 100, 101, 102]
)
ETCD_EMPTY = 95
MODELS = {"multi-register": "multi-register:0"}  # by directory; its registers begin with 0
LIMITS = Limits(timeout_ms=60_000, memory_bytes=None, configurations=None)


def expected(path: Path) -> str:
    """The verdict that the file has to get; "" when nobody says."""
    etcd = ETCD_LOG.match(path.name)
    if etcd:
        number = int(etcd[1])
        if number == ETCD_EMPTY:
            return "unusable"
        return "linearizable" if number in ETCD_LINEARIZABLE else "not linearizable"
    if path.stem.endswith("-ok") or path.parent.name == "good":
        return "linearizable"
    if path.stem.endswith("-bad") or path.parent.name == "bad":
        return "not linearizable"
    return ""


def histories(directories: list[str]) -> list[Path]:
    """Every history below the directories, by name."""
    found = [
        path
        for directory in directories
        for path in Path(directory).rglob("*")
        if path.suffix in SUFFIXES and path.is_file() and path.name != "README.txt"
    ]
    return sorted(found)


def check_all(paths: list[Path], *, is_quiet: bool = False) -> list[tuple[Path, str]]:
    """Check each, print a line each, and return those that came out wrong with their verdict."""
    wrong = []
    total_ms = 0.0
    known = 0
    for path in paths:
        gc.collect()
        started = time.process_time()
        model = MODELS.get(path.parent.parent.name, "")
        checked = check_file(str(path), model, "auto", LIMITS)
        cpu_ms = (time.process_time() - started) * 1000
        total_ms += cpu_ms
        wanted = expected(path)
        known += bool(wanted)
        if wanted and checked.answer != wanted:
            wrong.append((path, checked.answer))
        if not is_quiet:
            print(_row(path, checked, wanted, cpu_ms))
    if not is_quiet:
        print(
            f"{len(paths)} histories, {known} with a known verdict, {len(wrong)} of them wrong; "
            f"{total_ms / 1000:.2f} s of CPU, reading included"
        )
    return wrong


def _row(path: Path, checked: Checked, wanted: str, cpu_ms: float) -> str:
    verdict = checked.verdict
    operations = verdict.operations if verdict else 0
    configurations = verdict.configurations if verdict else 0
    mark = "?" if not wanted else "" if wanted == checked.answer else f"WRONG: it is {wanted}"
    name = "/".join(path.parts[-3:])
    row = f"{name:<52} {operations:>6} ops  {checked.answer:<16} {configurations:>9} conf "
    return f"{row} {cpu_ms:>8.1f} ms  {mark}".rstrip()


def main() -> None:
    """Check what lies in the directories named."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        raise SystemExit(2)
    paths = histories(sys.argv[1:])
    if not paths:
        print(f"no history in {', '.join(sys.argv[1:])}", file=sys.stderr)
        raise SystemExit(2)
    raise SystemExit(1 if check_all(paths) else 0)


if __name__ == "__main__":
    main()
