"""Durations and shares as people write them in scenario files: ``1.5s``, ``20ms``, ``5%``.

Exact: what is written reads back as the same integer, so a scenario replays bit for bit.
"""

from __future__ import annotations

import re

_UNITS_US = {"s": 1_000_000, "ms": 1_000, "us": 1}
_DURATION = re.compile(r"(-?)(\d+)(?:\.(\d{1,6}))?(s|ms|us)")


def parse_duration_us(text: str) -> int:
    """Read a duration into microseconds.

    Raises:
        ValueError: no duration, or finer than a microsecond.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no duration: write 1.5s, 20ms or 300us")
    sign, whole, fraction, unit = found.groups()
    scale = _UNITS_US[unit]
    part = int((fraction or "0").ljust(6, "0")) * scale
    if part % 1_000_000:
        raise ValueError(f"{text!r} is finer than a microsecond")
    amount = int(whole) * scale + part // 1_000_000
    return -amount if sign else amount


def format_duration(us: int) -> str:
    """Write a duration in the largest unit that needs at most six digits after the point."""
    for unit in ("s", "ms"):
        scale = _UNITS_US[unit]
        if us % scale == 0 or (unit == "s" and abs(us) >= scale):
            whole, part = divmod(abs(us), scale)
            digits = f".{part * (1_000_000 // scale):06d}".rstrip("0") if part else ""
            return f"{'-' if us < 0 else ''}{whole}{digits}{unit}"
    return f"{us}us"
