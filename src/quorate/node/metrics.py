"""Prometheus' text format, written from numbers that exist already.

A metric is declared once, with a function that reads its samples from a picture of the node; a
scrape reads all of them and writes text (exposition format 0.0.4). Nothing is registered,
incremented or locked in between: the hot path does not know that it is watched.

Refuses to know where numbers come from (``metric_catalogue.py``) and who asks (``admin.py``).

Invariants:
    * samples of a metric stand together, under one HELP and one TYPE line
    * a counter's name ends in ``_total``, a time is in seconds, a size in bytes
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

from quorate.node.measures import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
KINDS = ("counter", "gauge", "histogram")

Value: TypeAlias = int | float | Histogram | None
Samples: TypeAlias = Value | Iterable[tuple[tuple[str, ...], Value]]
"""One value, or one per combination of labels. None: not known here, and not exported."""

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: with its unit.
        kind: counter, gauge or histogram.
        help: one sentence.
        read: picture to samples.
        labels: names of labels; samples give their values in this order.
    """

    name: str
    kind: str
    help: str
    read: Callable[[Any], Samples]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert _NAME.match(self.name), self.name
        assert self.kind in KINDS, self.kind
        assert (self.kind == "counter") == self.name.endswith("_total"), self.name


def render(metrics: Sequence[Metric], picture: Any) -> str:
    """The page: every metric that has samples in this picture."""
    lines: list[str] = []
    for metric in metrics:
        samples = _samples(metric, picture)
        if samples:
            lines.append(f"# HELP {metric.name} {metric.help}")
            lines.append(f"# TYPE {metric.name} {metric.kind}")
            for labels, value in samples:
                lines += _lines(metric.name, labels, value)
    return "\n".join(lines) + "\n"


def _samples(metric: Metric, picture: Any) -> list[tuple[list[str], int | float | Histogram]]:
    read = metric.read(picture)
    if read is None or isinstance(read, int | float | Histogram):
        read = [((), read)]
    found = []
    for values, value in read:
        if value is not None:
            pairs = zip(metric.labels, values, strict=True)
            found.append(([f'{name}="{text.translate(_ESCAPES)}"' for name, text in pairs], value))
    return found


def _lines(name: str, labels: list[str], value: float | Histogram) -> list[str]:
    if not isinstance(value, Histogram):
        return [f"{name}{_braces(labels)} {_number(value)}"]
    bounds = [f'le="{_number(bound)}"' for bound in value.bounds] + ['le="+Inf"']
    counts = list(accumulate(value.counts))
    return [
        *(
            f"{name}_bucket{_braces([*labels, bound])} {count}"
            for bound, count in zip(bounds, counts, strict=True)
        ),
        f"{name}_sum{_braces(labels)} {_number(value.total)}",
        f"{name}_count{_braces(labels)} {counts[-1]}",
    ]


def _braces(labels: list[str]) -> str:
    return "{" + ",".join(labels) + "}" if labels else ""


def _number(value: float) -> str:
    return str(int(value)) if isinstance(value, bool | int) else repr(value)
