"""``quorate check``: is a recorded history linearizable, and if not, why?

Reads files, bounds time and memory, prints. What a history is, what is right and how that is
drawn is ``checking/``'s business.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from quorate.checking.explain import explain
from quorate.checking.history import History
from quorate.checking.linearizability import AUTO, SEARCHES, check
from quorate.checking.model import Model
from quorate.checking.models import MODEL_NAMES, model_named
from quorate.checking.reading import FILE_BYTES_MAX, model_for, read_history
from quorate.checking.timeline import render_timeline
from quorate.checking.verdict import Answer, Budget, Verdict
from quorate.errors import BadInput, SettingsError, UsageError
from quorate.node.units import parse_duration_ms, parse_size_bytes

_TIMEOUT_DEFAULT = "60s"
_MEMORY_DEFAULT = "2GiB"
_PARAMETERS = (
    "\nsemaphore:N has N permits, 2 unless said; register:V, cas-register:V and multi-register:V\n"
    "begin with V, with nothing unless said."
)
_TABLE_WIDTH_MAX = 10_000  # a row is never folded, so that grep finds it
_UNUSABLE = "unusable"
_EXIT_CODES: Final = {
    Answer.LINEARIZABLE.value: 0,
    Answer.NOT_LINEARIZABLE.value: 1,
    _UNUSABLE: 2,
    Answer.UNDECIDED.value: 3,
}
_WORST_FIRST: Final = (1, 2, 3, 0)
_STYLES: Final = {0: "green", 1: "red", 2: "red", 3: "yellow"}


@dataclass(slots=True)
class Checked:
    """One file and what became of it; ``verdict`` is None when it could not be used."""

    source: str
    seconds: float = 0.0
    history: History | None = None
    model: Model | None = None
    verdict: Verdict | None = None
    limit: str = ""
    error: BadInput | None = None

    @property
    def answer(self) -> str:
        """The verdict in a word."""
        return _UNUSABLE if self.verdict is None else self.verdict.answer.value

    @property
    def exit_code(self) -> int:
        """0 linearizable, 1 not, 2 unusable, 3 undecided."""
        return _EXIT_CODES[self.answer]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may cost; None: no limit."""

    timeout_ms: int | None
    memory_bytes: int | None
    configurations: int | None


class Watch:
    """Asked by the search now and then: says when to give up, and on a terminal how far it is.

    Args:
        source: the file, for people.
        limits: when to give up.
    """

    def __init__(self, source: str, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._started = time.monotonic()
        self._shown = self._started
        self._is_terminal = sys.stderr.isatty()
        self.limit = ""

    def is_over(self) -> bool:
        """Whether a limit is reached; ``limit`` then says which."""
        now = time.monotonic()
        limits = self._limits
        if limits.timeout_ms is not None and (now - self._started) * 1000 > limits.timeout_ms:
            self.limit = f"--timeout {limits.timeout_ms / 1000:g}s"
        elif limits.memory_bytes is not None and memory_bytes() > limits.memory_bytes:
            self.limit = f"--memory {limits.memory_bytes / (1 << 20):g}MiB"
        if self._is_terminal and now - self._shown >= 1:
            self._shown = now
            used = memory_bytes() >> 20
            words = f"checking {self._source}: {now - self._started:.0f} s, {used} MiB"
            click.echo(f"\r\x1b[K{words}", nl=False, err=True)
        return bool(self.limit)

    def close(self) -> None:
        """Wipe the line of progress."""
        if self._is_terminal and self._shown != self._started:
            click.echo("\r\x1b[K", nl=False, err=True)


def memory_bytes() -> int:
    """What this process keeps in memory now; where that is not told, the most it ever kept."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used * 1024
    return pages * resource.getpagesize()


def check_file(path: str, model_name: str, search: str, limits: Limits) -> Checked:
    """Read and check one file; what is wrong with it is an answer too."""
    source = "stdin" if path == "-" else path
    started = time.perf_counter()
    checked = Checked(source)
    watch = Watch(source, limits)
    try:
        checked.history = read_history(_read(path, source), source)
        checked.model = model_for(checked.history, model_name)
        most = (
            {} if limits.configurations is None else {"configurations_max": limits.configurations}
        )
        budget = Budget(is_over=watch.is_over, **most)
        checked.verdict = check(checked.history, checked.model, budget=budget, search=search)
        checked.limit = watch.limit or f"--configurations {budget.configurations_max}"
    except BadInput as error:
        checked.error = error
    finally:
        watch.close()
    checked.seconds = time.perf_counter() - started
    return checked


def _read(path: str, source: str) -> bytes:
    try:
        if path == "-":
            return sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        with Path(path).open("rb") as file:
            return file.read(FILE_BYTES_MAX + 1)
    except IsADirectoryError:
        raise BadInput(source, 0, "a directory; name the history files inside it") from None
    except OSError as error:
        raise BadInput(source, 0, f"cannot be read: {error.strerror}") from None


# ---- what is printed ----------------------------------------------------------------------------


def as_object(checked: Checked) -> dict[str, Any]:
    """One file for ``--json``."""
    fields: dict[str, Any] = {"file": checked.source, "answer": checked.answer}
    if checked.error is not None:
        return fields | {"line": checked.error.line, "reason": str(checked.error)}
    history, model, verdict = checked.history, checked.model, checked.verdict
    assert history is not None and model is not None and verdict is not None
    fields |= {
        "model": verdict.model,
        "operations": verdict.operations,
        "failed": history.failed,
        "unknown": sum(operation.is_unknown for operation in history.operations),
        "objects": verdict.partitions,
        "configurations": verdict.configurations,
        "search": verdict.search,
        "seconds": round(checked.seconds, 6),
    }
    if verdict.answer is Answer.UNDECIDED:
        fields |= {"limit": checked.limit, "undecided": [_plain(key) for key in verdict.undecided]}
    found = verdict.counterexample
    if found is not None:
        fields["counterexample"] = {
            "object": _plain(found.key),
            "before": found.before,
            "operations": [_operation(it, model) for it in found.operations],
            "longest": [_operation(it, model) | {"state": state} for it, state in found.longest],
            "stuck": [_operation(it, model) | {"reason": why} for it, why in found.stuck],
        }
    return fields


def _operation(operation: Any, model: Model) -> dict[str, Any]:
    return {
        "process": operation.process,
        "line": operation.line,
        "words": model.describe_operation(operation),
        "unknown": operation.is_unknown,
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, type(None))) else str(value)


def figures(checked: Checked) -> str:
    """Everything that was counted, in one line."""
    history, verdict = checked.history, checked.verdict
    assert history is not None and verdict is not None
    parts = [f"model {verdict.model}", _count(verdict.operations, "operation")]
    if verdict.partitions != 1:
        parts[1] += f" on {_count(verdict.partitions, 'object')}"
    if history.failed:
        parts.append(f"{_count(history.failed, 'failed one')} left out")
    unknown = sum(operation.is_unknown for operation in history.operations)
    if unknown:
        parts.append(f"{unknown:,} of unknown outcome")
    parts.append(f"{_count(verdict.configurations, 'configuration')} visited {verdict.search}")
    return ", ".join(parts) + f"; {checked.seconds:.2f} s"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _show_one(checked: Checked) -> None:
    verdict, model = checked.verdict, checked.model
    if verdict is None or model is None:
        return
    answer = click.style(checked.answer, fg=_STYLES[checked.exit_code], bold=True)
    click.echo(f"{checked.source}: {answer}")
    click.echo(figures(checked))
    if not verdict.operations:
        click.echo("nothing was asked of the system, so nothing was shown: no operation happened")
    if verdict.answer is Answer.UNDECIDED:
        keys = [str(key) for key in verdict.undecided if key is not None]
        names = ", ".join(keys[:5]) + (", ..." if len(keys) > 5 else "")
        about = f" on {_count(len(keys), 'object')} ({names})" if keys else ""
        click.echo(f"gave up{about} at {checked.limit}; a higher limit may decide it")
    if verdict.counterexample is not None:
        click.echo()
        click.echo(explain(verdict.counterexample, model, ascii_only=not _can_draw()), nl=False)


def _can_draw() -> bool:
    try:
        "├─┤".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _show_many(all_checked: list[Checked]) -> None:
    from rich.console import Console  # noqa: PLC0415 - not needed for one file or --json
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for heading in ("file", "verdict", "model"):
        table.add_column(heading)
    for heading in ("operations", "objects", "configurations", "seconds"):
        table.add_column(heading, justify="right")
    for checked in all_checked:
        row = [Text(checked.source), Text(checked.answer, style=_STYLES[checked.exit_code])]
        verdict = checked.verdict
        if verdict is not None:
            row += [Text(verdict.model), Text(f"{verdict.operations:,}")]
            row += [Text(f"{verdict.partitions:,}"), Text(f"{verdict.configurations:,}")]
            row += [Text(f"{checked.seconds:.2f}")]
        table.add_row(*row)
    Console(highlight=False, width=_TABLE_WIDTH_MAX).print(table, soft_wrap=True)
    counts = {word: sum(it.answer == word for it in all_checked) for word in _EXIT_CODES}
    words = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    click.echo(f"{len(all_checked)} histories: {words}")
    if counts[Answer.NOT_LINEARIZABLE.value]:
        click.echo("to see why one is not, check it alone")


def _show_models() -> None:
    for name in MODEL_NAMES:
        model = model_named(name)
        click.echo(click.style(name, bold=True))
        width = max(len(function) for function in model.functions)
        for function, words in model.functions.items():
            click.echo(f"  {function:<{width}}  {words}")
    click.echo(_PARAMETERS)


# ---- the command --------------------------------------------------------------------------------

_HELP = """Check whether recorded histories are linearizable.

FILE is a history: JSONL as quorate writes it, EDN as Jepsen and Knossos do, or the text log of
Jepsen's etcd tests; which one is seen from its content. "-" is standard input. When there is no
order of the operations that explains every result, the shortest part of the history for which
there is none is drawn, with the reason.

\b
  quorate check history.jsonl
  quorate check history.edn --model cas-register --html why.html
  quorate check runs/*.jsonl --json

\b
Exit codes:
  0  linearizable
  1  not linearizable
  2  unusable: the call, or a file (the message names file and line)
  3  undecided: a limit ended the search first
Of several files the first of 1, 2, 3, 0 that occurs.
"""


@click.command("check", help=_HELP)
@click.argument("files", metavar="FILE...", nargs=-1)
@click.option("--model", "model_name", default="", metavar="NAME", help="What a correct object "
              "does, as lock or semaphore:3; default: what the file says or its functions "
              "allow.")  # fmt: skip
@click.option("--models", "list_models", is_flag=True, help="List the models and their functions.")
@click.option("--html", "page", type=click.Path(dir_okay=False, path_type=Path), metavar="PAGE",
              help="Also write the verdict as a self-contained page.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--search", type=click.Choice([AUTO, *SEARCHES]), default=AUTO, show_default=True,
              help="Which search; auto lets both run where one takes long.")  # fmt: skip
@click.option("--timeout", metavar="TIME", help="Give up on a file after this time.  "
              f"[default: {_TIMEOUT_DEFAULT}]")  # fmt: skip
@click.option("--memory", metavar="SIZE", help="Give up when the process holds this much.  "
              f"[default: {_MEMORY_DEFAULT}]")  # fmt: skip
@click.option("--configurations", type=click.IntRange(1), metavar="N", help="Give up after this "
              "many steps of search: unlike time and memory, the same everywhere. Without "
              "--timeout and --memory, it replaces them.")  # fmt: skip
def command(
    files: tuple[str, ...],
    model_name: str,
    list_models: bool,
    page: Path | None,
    as_json: bool,
    search: str,
    timeout: str | None,
    memory: str | None,
    configurations: int | None,
) -> None:
    """Check every file, print, and exit with what was found."""
    if list_models:
        _show_models()
        return
    if not files:
        raise click.UsageError("name a history: quorate check FILE (or - for standard input)")
    if page is not None and len(files) > 1:
        raise UsageError("--html writes the page of one history; name one FILE")
    if model_name:
        model_named(model_name)
    limits = _limits(timeout, memory, configurations)
    all_checked = []
    for path in files:
        checked = check_file(path, model_name, search, limits)
        all_checked.append(checked)
        if checked.error is not None:
            click.echo(f"quorate: {checked.error}", err=True)
    if as_json:
        code = _worst(all_checked)
        histories = [as_object(checked) for checked in all_checked]
        click.echo(json.dumps({"exit_code": code, "histories": histories}, indent=2))
    elif len(all_checked) == 1:
        _show_one(all_checked[0])
    else:
        _show_many(all_checked)
    if page is not None:
        _write_page(page, all_checked[0], is_quiet=as_json)
    raise SystemExit(_worst(all_checked))


def _limits(timeout: str | None, memory: str | None, configurations: int | None) -> Limits:
    """Limits as given; a number of configurations alone switches the defaults off."""
    if configurations is None:
        timeout, memory = timeout or _TIMEOUT_DEFAULT, memory or _MEMORY_DEFAULT
    try:
        timeout_ms = None if timeout is None else parse_duration_ms(timeout)
    except SettingsError as error:
        raise UsageError(f"--timeout: {error}") from None
    try:
        memory_max = None if memory is None else parse_size_bytes(memory)
    except SettingsError as error:
        raise UsageError(f"--memory: {error}") from None
    return Limits(timeout_ms, memory_max, configurations)


def _worst(all_checked: list[Checked]) -> int:
    codes = {checked.exit_code for checked in all_checked}
    return next(code for code in _WORST_FIRST if code in codes)


def _write_page(page: Path, checked: Checked, *, is_quiet: bool) -> None:
    if checked.verdict is None or checked.model is None:
        return
    try:
        text = render_timeline(checked.verdict, checked.model, checked.source)
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--html {page}: cannot be written: {error.strerror}") from None
    if not is_quiet:
        click.echo(f"\nwritten: {page}")
