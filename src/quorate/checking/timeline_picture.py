"""The picture of a counter-example as SVG: a row per process, and the states below.

Time is compressed as in ``explain.py``: calls and returns stand in their order, just far enough
apart for the words on the bars. The operations of the longest order carry their place in it as a
numbered point, somewhere between call and return, so that the points from left to right are the
order; the ribbon below shows the state after each. What could have come next and cannot is red.

It knows nothing of pages: colours are classes that ``timeline.py`` gives a meaning. Everything
from the history is escaped here.
"""

from __future__ import annotations

from html import escape
from typing import Final

from quorate.checking.explain import Window, plain, shorten
from quorate.checking.history import Operation

_CHAR_PX: Final = 6.7
_ROW_PX: Final = 46
_BAR_PX: Final = 28
_TOP_PX: Final = 14
_GAP_PX: Final = 16
_EDGE_PX: Final = 18
_POINT_PX: Final = 9
_RIBBON_PX: Final = 26
_LABEL_CHARS_MAX: Final = 34
_STATE_CHARS_MAX: Final = 22
_TITLE_CHARS_MAX: Final = 2000
_NOTHING: Final = "nothing fits next"
_WIDTH_MIN_PX: Final = 980
_STRETCH_MAX: Final = 2.2


class Picture:
    """One drawing, computed once.

    Args:
        window: the counter-example in words.
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self._processes = list(dict.fromkeys(it.process for it in window.operations))
        self._events = sorted(
            [it.invoked for it in window.operations]
            + [it.returned for it in window.operations if not it.is_unknown]
        )
        self._x: dict[int, float] = {}
        self._points: list[tuple[float, Operation, str]] = []
        self._place()
        ribbon = self._ribbon_y()
        self.height = ribbon + _RIBBON_PX + _TOP_PX

    def names(self) -> str:
        """The column of process names, as an SVG of its own that stays when the rest scrolls."""
        rows = [shorten(plain(f"process {process}"), 20) for process in self._processes]
        width = max(len(name) for name in [*rows, "state"]) * _CHAR_PX + 2 * _EDGE_PX
        texts = [
            f'<text class="name" x="{_EDGE_PX}" y="{self._row_y(row) + _BAR_PX / 2 + 4:.0f}">'
            f"{escape(name)}</text>"
            for row, name in enumerate(rows)
        ]
        y = self._ribbon_y() + _RIBBON_PX / 2 + 4
        texts.append(f'<text class="name muted" x="{_EDGE_PX}" y="{y:.0f}">state</text>')
        return self._svg(width, "".join(texts), "processes")

    def bars(self) -> str:
        """The operations, the points and the ribbon of states."""
        parts = [self._lanes()]
        parts += [self._thread(x, it) for x, it, _ in self._points]
        parts += [self._bar(it) for it in self._window.operations]
        parts += [
            self._point(x, it, str(place), state)
            for place, (x, it, state) in enumerate(self._points, 1)
        ]
        parts += [self._cross(it) for it, _ in self._window.counterexample.stuck]
        parts.append(self._ribbon())
        return self._svg(self._width, "".join(parts), "operations over time")

    # ---- where things stand ---------------------------------------------------------------------

    def _place(self) -> None:
        """Give every call and return its x, and every point of the longest order."""
        calls = {it.invoked: it for it in self._window.operations}
        returns = {it.returned: it for it in self._window.operations}
        counts, slots = self._slots()
        x = float(_EDGE_PX + self._state_px(self._window.counterexample.before))
        for rank, position in enumerate(self._events):
            if position in calls:
                self._x[position] = x
            else:
                it = returns[position]
                x = max(x, self._x[it.invoked] + self._label_px(it))
                self._x[position] = x
            x += max(_GAP_PX, counts.get(rank, 0.0))
        self._width = x + 2 * _EDGE_PX
        for it in self._window.operations:
            if it.is_unknown:
                need = self._x[it.invoked] + self._label_px(it) + _EDGE_PX
                self._width = max(self._width, need)
        self._place_points(slots)
        tail = (len(_NOTHING) + 1) * _CHAR_PX if self._window.reasons else 0
        self._width = max(self._width, self._end_of_points() + tail + _EDGE_PX)
        self._stretch()

    def _stretch(self) -> None:
        """Use the page's width where the words need less."""
        factor = min(_STRETCH_MAX, max(1.0, _WIDTH_MIN_PX / self._width))
        self._x = {position: x * factor for position, x in self._x.items()}
        self._points = [(x * factor, it, state) for x, it, state in self._points]
        self._width *= factor

    def _slots(self) -> tuple[dict[int, float], list[int]]:
        """Between which two events each point stands, and the width that each gap needs for it."""
        rank_of = {position: rank for rank, position in enumerate(self._events)}
        slot = 0
        slots = []
        widths: dict[int, float] = {}
        for it, state in self._window.counterexample.longest:
            slot = max(slot, rank_of.get(it.invoked, 0))
            slots.append(slot)
            widths[slot] = widths.get(slot, float(_GAP_PX)) + self._state_px(state)
        return widths, slots

    def _place_points(self, slots: list[int]) -> None:
        last_slot, x = -1, 0.0
        for slot, (it, state) in zip(slots, self._window.counterexample.longest, strict=True):
            begin = self._x[self._events[slot]] + _POINT_PX + 4
            x = max(begin, x) if slot != last_slot else x
            last_slot = slot
            self._points.append((x, it, state))
            x += self._state_px(state)

    def _end_of_points(self) -> float:
        if not self._points:
            return float(_EDGE_PX + self._state_px(self._window.counterexample.before))
        x, _, state = self._points[-1]
        return x + self._state_px(state) + 2 * _EDGE_PX

    def _row_y(self, row: int) -> float:
        return float(_TOP_PX + row * _ROW_PX)

    def _y(self, operation: Operation) -> float:
        return self._row_y(self._processes.index(operation.process))

    def _ribbon_y(self) -> float:
        return self._row_y(len(self._processes)) + 6

    def _span(self, operation: Operation) -> tuple[float, float]:
        left = self._x[operation.invoked]
        return left, self._width - 14 if operation.is_unknown else self._x[operation.returned]

    def _label(self, operation: Operation) -> str:
        return shorten(self._window.label(operation), _LABEL_CHARS_MAX)

    def _label_px(self, operation: Operation) -> float:
        room_for_point = 2 * _POINT_PX + 8
        return len(self._label(operation)) * _CHAR_PX + 2 * 9 + room_for_point

    def _state_px(self, state: str) -> float:
        return max(34.0, len(shorten(plain(state), _STATE_CHARS_MAX)) * _CHAR_PX + 20)

    # ---- what is drawn --------------------------------------------------------------------------

    def _svg(self, width: float, body: str, label: str) -> str:
        return (
            f'<svg width="{width:.0f}" height="{self.height:.0f}" role="img" '
            f'aria-label="{label}" viewBox="0 0 {width:.0f} {self.height:.0f}">{body}</svg>'
        )

    def _lanes(self) -> str:
        lines = []
        for row in range(len(self._processes)):
            y = self._row_y(row) + _BAR_PX / 2
            lines.append(
                f'<line class="lane" x1="0" x2="{self._width:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
        return "".join(lines)

    def _bar(self, operation: Operation) -> str:
        left, right = self._span(operation)
        y = self._y(operation)
        names = ["bar"]
        if operation.invoked in self._window.reasons:
            names.append("stuck")
        elif operation.invoked in self._window.order:
            names.append("done")
        if operation.is_unknown:
            names.append("unknown")
        text_x, label = self._words(operation, left, right)
        return (
            f'<g class="{" ".join(names)}"><title>{escape(self._title(operation))}</title>'
            f'<rect x="{left:.1f}" y="{y:.1f}" width="{right - left:.1f}" height="{_BAR_PX}" '
            f'rx="6"/><text x="{text_x:.1f}" y="{y + _BAR_PX / 2 + 4:.1f}">'
            f"{escape(label)}</text></g>"
        )

    def _words(self, operation: Operation, left: float, right: float) -> tuple[float, str]:
        """Where on the bar its words go, and which: beside the point, if it carries one."""
        label = self._label(operation)
        sides = [(left + 9, right - 6)]
        for x, it, _ in self._points:
            if it.invoked == operation.invoked:
                sides = [(left + 9, x - _POINT_PX - 5), (x + _POINT_PX + 6, right - 6)]
        width = len(label) * _CHAR_PX
        for begin, end in sides:
            if end - begin >= width:
                return begin, label
        begin, end = max(sides, key=lambda side: side[1] - side[0])
        return begin, shorten(label, max(1, int((end - begin) / _CHAR_PX)))

    def _title(self, operation: Operation) -> str:
        lines = [
            f"process {plain(str(operation.process))}: {self._window.label(operation)}",
        ]
        if operation.line:
            lines.append(f"called on line {operation.line}")
        if operation.invoked_ns and operation.returned_ns:
            took = (operation.returned_ns - operation.invoked_ns) / 1e6
            lines.append(f"took {took:,.3f} ms")
        if operation.invoked in self._window.order:
            lines.append(f"place {self._window.order[operation.invoked]} in the longest order")
        if operation.invoked in self._window.reasons:
            lines.append(f"cannot come next: {self._window.reasons[operation.invoked]}")
        return shorten("\n".join(lines), _TITLE_CHARS_MAX)

    def _thread(self, x: float, operation: Operation) -> str:
        y = self._y(operation) + _BAR_PX / 2
        return (
            f'<line class="thread" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" '
            f'y2="{self._ribbon_y():.1f}"/>'
        )

    def _point(self, x: float, operation: Operation, text: str, state: str) -> str:
        y = self._y(operation) + _BAR_PX / 2
        title = f"{text}. {self._window.label(operation)}; then the state is {plain(state)}"
        return (
            f'<g class="point"><title>{escape(shorten(title, _TITLE_CHARS_MAX))}</title>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_POINT_PX}"/>'
            f'<text x="{x:.1f}" y="{y + 3.5:.1f}">{text}</text></g>'
        )

    def _cross(self, operation: Operation) -> str:
        """The mark at the end of a bar that cannot come next."""
        if operation.invoked not in self._x:
            return ""
        _, right = self._span(operation)
        x, y = right, self._y(operation) + _BAR_PX / 2
        return (
            f'<g class="cross"><circle cx="{x:.1f}" cy="{y:.1f}" r="{_POINT_PX - 1}"/>'
            f'<path d="M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6"/></g>'
        )

    def _ribbon(self) -> str:
        """The state from point to point."""
        y = self._ribbon_y()
        states = [(float(_EDGE_PX), self._window.counterexample.before)]
        states += [(x, state) for x, _, state in self._points]
        ends = [x for x, _ in states[1:]] + [self._end_of_points() - _EDGE_PX]
        parts = []
        for number, ((x, state), end) in enumerate(zip(states, ends, strict=True)):
            text = plain(state)
            room = max(1, int((end - x - 10) / _CHAR_PX))
            parts.append(
                f'<g class="state{" odd" if number % 2 else ""}"><title>'
                f"{escape(shorten(text, _TITLE_CHARS_MAX))}</title>"
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(1.0, end - x - 1):.1f}" '
                f'height="{_RIBBON_PX}" rx="3"/><text x="{x + 7:.1f}" '
                f'y="{y + _RIBBON_PX / 2 + 4:.1f}">{escape(shorten(text, room))}</text></g>'
            )
        if self._window.reasons:
            parts.append(
                f'<text class="nothing" x="{ends[-1] + 8:.1f}" '
                f'y="{y + _RIBBON_PX / 2 + 4:.1f}">{_NOTHING}</text>'
            )
        return "".join(parts)
