"""Whether clients may be sent to this node, and if not, why, in words.

More than "it serves": a node that is far behind serves too, but old answers; and whoever restarts
nodes one by one must wait for it, because a majority that needs it waits for it as well. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

BEHIND_ENTRIES_MAX = 1_000


def why_not_ready(
    health: dict[str, Any],
    *,
    peers: Collection[int],
    linked: Collection[int],
    disk_busy_seconds: float,
) -> str:
    """The reason; empty when the node is ready.

    Args:
        health: the server's picture.
        peers: the other members.
        linked: those to which a link stands.
        disk_busy_seconds: how long a write has hung; 0 when none does.
    """
    reason: str = health["why_not_serving"]
    if not reason:
        behind = health["behind_entries"]
        is_behind = behind > BEHIND_ENTRIES_MAX
        return f"catching up: {behind} entries behind the leader" if is_behind else ""
    if peers:
        names = ", ".join(map(str, linked)) or "nobody"
        reason += f"; linked to {names} of {', '.join(map(str, peers))}"
    if disk_busy_seconds:
        reason += f"; the disk has been busy with one write for {disk_busy_seconds:.1f} s"
    return reason
