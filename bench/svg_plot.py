"""Plots as SVG, written by hand: cumulative distributions over a logarithmic axis.

No library: a plot is a few hundred bytes of text that a browser shows in light and in dark, and
that ``git diff`` can show too. Lines are named beside the panel, in their colour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape

COLOURS = ("#8f5bd7", "#d6456b", "#dd7a1f", "#a39000", "#2f9e57", "#2f83d6")
"""Readable on white and on black."""

XMLNS = "http://www.w3.org/2000/svg"
STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #4d555e; }
.title { font-size: 14px; font-weight: 600; }
.quiet { fill: #6e7781; }
.grid { stroke: #8b949e; stroke-opacity: 0.25; }
.axis { stroke: #6e7781; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.mark { fill: none; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  text { fill: #d7dde3; }
  .quiet { fill: #9aa4ae; }
}
"""


@dataclass
class Line:
    """One distribution.

    ``values`` are in the axis' unit; what is at or above the panel's high end counts, but is not
    drawn. ``mark`` is another's median, drawn as a ring at one half. ``colour`` counts in COLOURS.
    """

    label: str
    values: list[float]
    mark: float | None = None
    colour: int = 0


@dataclass
class Panel:
    """A pair of axes with its lines."""

    title: str
    low: float
    high: float
    unit: str
    lines: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class Box:
    """Where a panel's axes lie, in pixels."""

    left: float
    top: float
    width: float
    height: float


def cdf_plot(panels: list[Panel], *, columns: int = 1, note: str = "") -> str:
    """Draw panels in a grid; return the SVG text."""
    axes_width, label_width, axes_height = 360, 176, 190
    cell_width, cell_height = axes_width + label_width + 50, axes_height + 84
    rows = math.ceil(len(panels) / columns)
    width, height = cell_width * columns + 16, cell_height * rows + (26 if note else 6)
    parts = [
        f'<svg xmlns="{XMLNS}" viewBox="0 0 {width} {height}" width="{width}" role="img">',
        f"<style>{STYLE}</style>",
    ]
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        box = Box(column * cell_width + 48, row * cell_height + 34, axes_width, axes_height)
        parts += _panel(panel, box)
    if note:
        parts.append(f'<text class="quiet" x="48" y="{height - 10}">{escape(note)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, box: Box) -> list[str]:
    parts = [f'<text class="title" x="{box.left}" y="{box.top - 14}">{escape(panel.title)}</text>']
    parts += _axes(panel, box)
    for place, line in enumerate(panel.lines):
        colour = COLOURS[line.colour % len(COLOURS)]
        parts.append(
            f'<path class="line" stroke="{colour}" d="{_steps(panel, box, sorted(line.values))}"/>'
        )
        if line.mark is not None and panel.low <= line.mark <= panel.high:
            x, y = _x(panel, box, line.mark), _y(box, 0.5)
            parts.append(f'<circle class="mark" stroke="{colour}" cx="{x:.1f}" cy="{y}" r="4"/>')
        y = box.top + 14 + place * 18
        x = box.left + box.width + 12
        parts.append(f'<text x="{x}" y="{y}" style="fill: {colour}">{escape(line.label)}</text>')
    return parts


def _axes(panel: Panel, box: Box) -> list[str]:
    bottom, right = box.top + box.height, box.left + box.width
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = _y(box, share)
        parts.append(f'<path class="grid" d="M{box.left} {y}H{right}"/>')
        parts.append(
            f'<text class="quiet" x="{box.left - 6}" y="{y + 4}" text-anchor="end">'
            f"{share:.0%}</text>"
        )
    for value in _ticks(panel.low, panel.high):
        x = _x(panel, box, value)
        parts.append(f'<path class="grid" d="M{x:.1f} {box.top}V{bottom}"/>')
        parts.append(
            f'<text class="quiet" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">'
            f"{value:,.0f}</text>"
        )
    parts.append(f'<path class="axis" d="M{box.left} {bottom}H{right}"/>')
    middle = box.left + box.width / 2
    parts.append(
        f'<text class="quiet" x="{middle}" y="{bottom + 34}" text-anchor="middle">'
        f"{escape(panel.unit)}</text>"
    )
    return parts


def _ticks(low: float, high: float) -> list[float]:
    found = []
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for digit in (1, 2, 5):
            value = digit * 10.0**power
            if low <= value <= high and (digit == 1 or high / low < 400):
                found.append(value)
    return found


def _x(panel: Panel, box: Box, value: float) -> float:
    share = math.log(value / panel.low) / math.log(panel.high / panel.low)
    return box.left + share * box.width


def _y(box: Box, share: float) -> float:
    return box.top + (1 - share) * box.height


def _steps(panel: Panel, box: Box, values: list[float]) -> str:
    """The path of a distribution, with no more points than pixels."""
    points: list[tuple[float, float]] = []
    seen = 0
    for seen, value in enumerate(values, start=1):
        if value >= panel.high:
            seen -= 1
            break
        x = round(_x(panel, box, max(value, panel.low)), 1)
        y = round(_y(box, seen / len(values)), 1)
        if points and x - points[-1][0] < 1:
            points[-1] = (points[-1][0], y)
        else:
            points.append((x, y))
    start = points[0][0] if points else box.left
    path = f"M{box.left} {_y(box, 0)}H{start}"
    path += "".join(f"L{x} {y}" for x, y in points)
    return path + f"H{box.left + box.width}"
