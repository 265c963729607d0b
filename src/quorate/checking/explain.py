"""A counter-example as text: what a person needs to see that no order explains it.

From top to bottom: one sentence; the operations drawn as bars, a row per process, time from left
to right; the longest order found with the state after each operation; why nothing can come next.
It knows nothing of the search, of files or of terminals: text comes out, at most ``width`` wide.

Time is compressed to positions: every call and every return has a column of its own, so what is
left of what is real-time order, and bars that overlap are concurrent. How long something took is
not shown (``timeline.py`` tells it).

Invariants:
    * no line is wider than asked for; what is cut is cut in its middle, where values differ least
    * nothing of the history reaches the terminal as a control character
"""

from __future__ import annotations

import textwrap
from typing import Any, Final

from quorate.checking.history import Operation
from quorate.checking.model import Model
from quorate.checking.verdict import Counterexample

WIDTH: Final = 100
_WIDTH_MIN = 60
_DRAWN_MAX = 60  # operations; of longer windows the end is drawn
_LISTED_MAX = 24  # lines of a list
_LABEL_CHARS_MAX = 36
_ASCII: Final = str.maketrans(
    {"├": "|", "┤": "|", "─": "-", "┝": "|", "┥": "|", "━": "=", "┄": ".", "▸": ">", "…": "~"}
)


def explain(
    counterexample: Counterexample, model: Model, *, width: int = WIDTH, ascii_only: bool = False
) -> str:
    """Draw a counter-example.

    Args:
        counterexample: what a checker found.
        model: the model that it was checked against, for words.
        width: columns, at least 60.
        ascii_only: use no box-drawing characters.

    Returns:
        Lines, each ended by a line feed.
    """
    width = max(width, _WIDTH_MIN)
    window = Window(counterexample, model)
    drawn = window.operations[-_DRAWN_MAX:]
    blocks = [
        textwrap.fill(window.sentence, width),
        _heading(window, drawn, width),
        _drawing(window, drawn, width),
        _order(window, width),
        _stuck(window, width),
    ]
    text = "\n\n".join(block for block in blocks if block) + "\n"
    return text.translate(_ASCII) if ascii_only else text


class Window:
    """A counter-example with everything in words, for pictures of any kind.

    Attributes:
        counterexample: as found.
        operations: those of the window, by order of their calls.
        numbers: number of each operation, from 1, by its ``invoked``.
        order: place in the longest order, from 1, by ``invoked``.
        reasons: why it cannot come next, by ``invoked``.
        last: the operation whose return cannot be explained any more; None when not known.
        sentence: the finding in one sentence.
    """

    def __init__(self, counterexample: Counterexample, model: Model) -> None:
        self.counterexample = counterexample
        self._model = model
        self.operations = sorted(counterexample.operations, key=lambda it: it.invoked)
        self.numbers = {it.invoked: number for number, it in enumerate(self.operations, 1)}
        self.order = {it.invoked: place for place, (it, _) in enumerate(counterexample.longest, 1)}
        self.reasons = {it.invoked: plain(why) for it, why in counterexample.stuck}
        self.last = counterexample.last
        self.sentence = self._sentence()

    def label(self, operation: Operation) -> str:
        """What was called and what came back."""
        return plain(self._model.describe_operation(operation))

    def object_name(self) -> str:
        """The object concerned, or "" when the history is about a single one."""
        key = self.counterexample.key
        return "" if key is None else plain(repr(key) if isinstance(key, str) else str(key))

    def _sentence(self) -> str:
        count = len(self.operations)
        name = self.object_name()
        on_object = f" on {name}" if name else ""
        if self.last is None:
            return f"No order of these {count} operations{on_object} explains their results."
        last = self.last
        where = f" (called on line {last.line})" if last.line else ""
        who = f'process {plain(str(last.process))} got: "{shorten(self.label(last), 60)}"{where}'
        if count == 1:
            before = shorten(plain(self.counterexample.before), 60)
            return (
                f"Nothing explains the answer{on_object} that {who}. Before it the state was "
                f"{before}, and nothing that ran at the time can have changed that to fit."
            )
        return (
            f"No order of these {count} operations{on_object} explains the answer that {who}. "
            "Without that answer there is one."
        )


def plain(text: str) -> str:
    """The text without what could move a cursor or cannot be encoded."""
    return "".join(
        char if char.isprintable() and not "\ud800" <= char <= "\udfff" else "?" for char in text
    )


def shorten(text: str, chars_max: int) -> str:
    """The text with its middle cut out if it is too long; both ends stay."""
    if len(text) <= chars_max:
        return text
    head = (chars_max - 1) // 2
    return f"{text[:head]}…{text[len(text) - (chars_max - 1 - head) :]}"


def _heading(window: Window, drawn: list[Operation], width: int) -> str:
    name = window.object_name()
    words = f"{'Object ' + name + ', b' if name else 'B'}efore these operations: "
    text = words + shorten(plain(window.counterexample.before), max(10, width - len(words)))
    left_out = len(window.operations) - len(drawn)
    if left_out:
        text += f"\nDrawn are the last {len(drawn)}; {left_out} called earlier are left out."
    return text


# ---- the drawing --------------------------------------------------------------------------------


def _drawing(window: Window, drawn: list[Operation], width: int) -> str:
    """Bars with full labels if they fit, else numbers with a legend, else several strips."""
    names = {it.process: plain(f"process {it.process}") for it in drawn}
    margin = min(24, max(len(name) for name in names.values())) + 2
    room = width - margin
    full = {
        it.invoked: f"[{window.numbers[it.invoked]}] " + shorten(window.label(it), _LABEL_CHARS_MAX)
        for it in drawn
    }
    columns, end = _columns(drawn, full)
    legend = ""
    labels = full
    if end > room:
        labels = {it.invoked: f"[{window.numbers[it.invoked]}]" for it in drawn}
        columns, end = _columns(drawn, labels)
        legend = _legend(window, drawn, width)
    strips = []
    for start in range(0, end, room):
        rows = []
        for process, name in names.items():
            mine = [it for it in drawn if it.process == process]
            row = _row(window, mine, labels, columns, (start, min(start + room, end)))
            if row:
                rows.append(f"{shorten(name, margin - 2):<{margin}}{row}".rstrip())
        strips.append("\n".join(rows))
    key = []
    if window.reasons:
        key.append("━ could come next, but its result does not fit")
    if any(it.is_unknown for it in drawn):
        key.append("┄ outcome unknown")
    note = textwrap.fill("   ".join(key), width)
    return "\n\n".join([*strips, *([note] if note else []), *([legend] if legend else [])])


def _columns(drawn: list[Operation], labels: dict[int, str]) -> tuple[dict[int, int], int]:
    """A column for each call and return, in order, so far apart that each label fits its bar."""
    calls = {it.invoked: it for it in drawn}
    returns = {it.returned: it for it in drawn if not it.is_unknown}
    columns: dict[int, int] = {}
    column = -1
    for position in sorted([*calls, *returns]):
        column += 1
        if position in returns:
            called = returns[position].invoked
            column = max(column, columns[called] + len(labels[called]) + 1)
        columns[position] = column
    end = column + 1
    for it in drawn:
        if it.is_unknown:
            end = max(end, columns[it.invoked] + len(labels[it.invoked]) + 3)
    return columns, end


def _row(
    window: Window,
    operations: list[Operation],
    labels: dict[int, str],
    columns: dict[int, int],
    strip: tuple[int, int],
) -> str:
    """One process within the columns of one strip; "" when it has nothing there."""
    start, end = strip
    cells = [" "] * (end - start)
    is_empty = True
    for it in operations:
        left = columns[it.invoked]
        right = end - 1 if it.is_unknown else columns[it.returned]
        if right < start or left >= end:
            continue
        is_empty = False
        is_stuck = it.invoked in window.reasons
        line = "━" if is_stuck else "┄" if it.is_unknown else "─"
        first, last = max(left, start), min(right, end - 1)
        cells[first - start : last - start + 1] = line * (last - first + 1)
        if left >= start:
            cells[first - start] = "┝" if is_stuck else "├"
        if it.is_unknown:
            cells[last - start] = "▸"
        elif right < end:
            cells[last - start] = "┥" if is_stuck else "┤"
        label = labels[it.invoked]
        place = first - start + (left >= start)
        label = label[: max(0, last - start - place + (right >= end))]
        cells[place : place + len(label)] = label
    return "" if is_empty else "".join(cells)


def _legend(window: Window, drawn: list[Operation], width: int) -> str:
    """What the numbers mean."""
    lines: list[str] = []
    rows = []
    for it in drawn:
        where = f"line {it.line}" if it.line else ""
        rows.append((f"{_number(window, it)} {_who(it)}", where, window.label(it)))
    head_width = max(len(head) for head, _, _ in rows)
    where_width = max(len(where) for _, where, _ in rows)
    for head, where, label in rows:
        start = f"{head:<{head_width}}  " + (f"{where:<{where_width}}  " if where_width else "")
        lines.append(start + shorten(label, max(8, width - len(start))))
    return "\n".join(lines)


# ---- the lists ----------------------------------------------------------------------------------


def _order(window: Window, width: int) -> str:
    longest = window.counterexample.longest
    if not longest:
        return ""
    total = len(window.operations)
    heading = (
        f"The longest order found has {len(longest)} of the {total}, with the state after each:"
    )
    lines = [textwrap.fill(heading, width)]
    left_out = max(0, len(longest) - _LISTED_MAX)
    if left_out:
        lines.append(f"      … {left_out} earlier ones")
    shown = longest[left_out:]
    label_chars = min(_LABEL_CHARS_MAX, width // 3)
    labels = [shorten(window.label(it), label_chars) for it, _ in shown]
    heads = [f"{_number(window, it)} {_who(it)}" for it, _ in shown]
    head_width, label_width = max(map(len, heads)), max(map(len, labels))
    for place, ((_, state), head, label) in enumerate(
        zip(shown, heads, labels, strict=True), left_out + 1
    ):
        line = f"{place:>4}. {head:<{head_width}}  {label:<{label_width}}  -> "
        lines.append(line + shorten(plain(state), max(8, width - len(line))))
    return "\n".join(lines)


def _stuck(window: Window, width: int) -> str:
    stuck = window.counterexample.stuck
    if not stuck:
        return ""
    heading = "After that, one of these would have to come next, and none can:"
    if not window.counterexample.longest:
        heading = "One of these would have to come first, and none can:"
    lines = [textwrap.fill(heading, width)]
    for it, why in stuck[:_LISTED_MAX]:
        where = f" (line {it.line})" if it.line else ""
        head = f"      {_number(window, it)} {_who(it)}  {shorten(window.label(it), 60)}{where}: "
        words = shorten(plain(why), 4 * width)
        lines.append(textwrap.fill(head + words, width, subsequent_indent=" " * 10))
    if len(stuck) > _LISTED_MAX:
        lines.append(f"      … and {len(stuck) - _LISTED_MAX} more")
    return "\n".join(lines)


def _number(window: Window, operation: Operation) -> str:
    digits = len(str(len(window.operations)))
    number = window.numbers.get(operation.invoked, "-")
    return f"{'[' + str(number) + ']':>{digits + 2}}"


def _who(operation: Any) -> str:
    return shorten(plain(f"process {operation.process}"), 24)
