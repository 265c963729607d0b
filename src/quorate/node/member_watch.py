"""What a leader's log tells about the members: who lags, who has caught up, what may still fail.

Pure: compares two pictures of the server, a second or so apart, and gives the events that lie
between them. A member lags when it does not answer or is more than ``LAG_ENTRIES`` behind; it has
caught up when it answers and is nearly level. Two bounds, so that a member at the edge is not told
of again and again.

A new leadership is compared with a cluster that is whole.

Invariant: of each member, lagging and caught up alternate while one leadership lasts.
"""

from __future__ import annotations

from typing import Any

from quorate.node.events import (
    MEMBER_CAUGHT_UP,
    MEMBER_LAGGING,
    TOLERANCE_HIGHER,
    TOLERANCE_LOWER,
    Event,
)

LAG_ENTRIES = 1_000
LEVEL_ENTRIES = 100


class MemberWatch:
    """Remembers who lagged at the last look."""

    def __init__(self) -> None:
        self._lagging_since_ms: dict[int, int] = {}
        self._failures: int | None = None
        self._epoch = 0

    def look(self, picture: dict[str, Any], now_ms: int) -> list[tuple[Event, dict[str, Any]]]:
        """What changed since the last look at a leader's ``status()``."""
        failures = picture["failures_tolerated"]
        if failures is None:  # not the leader
            self._lagging_since_ms.clear()
            self._failures = None
            return []
        if picture["epoch"] != self._epoch:
            self._epoch = picture["epoch"]
            self._lagging_since_ms.clear()
            self._failures = None
        found: list[tuple[Event, dict[str, Any]]] = []
        for member in picture["members"]:
            found += self._look_at(member, now_ms)
        whole = picture["failures_tolerated_when_whole"]
        before = whole if self._failures is None else self._failures
        self._failures = failures
        if before != failures:
            event = TOLERANCE_LOWER if failures < before else TOLERANCE_HIGHER
            found.append((event, {"failures": failures, "whole": whole}))
        return found

    def _look_at(self, member: dict[str, Any], now_ms: int) -> list[tuple[Event, dict[str, Any]]]:
        node, lag = member["node_id"], member["lag_entries"]
        since_ms = self._lagging_since_ms.get(node)
        if since_ms is None and (not member["active"] or lag > LAG_ENTRIES):
            self._lagging_since_ms[node] = now_ms
            state = member["state"] if member["active"] else "no answer"
            return [(MEMBER_LAGGING, {"member": node, "lag_entries": lag, "state": state})]
        if since_ms is not None and member["active"] and lag <= LEVEL_ENTRIES:
            del self._lagging_since_ms[node]
            seconds = (now_ms - since_ms) / 1000
            return [(MEMBER_CAUGHT_UP, {"member": node, "seconds": seconds})]
        return []
