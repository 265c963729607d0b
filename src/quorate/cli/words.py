"""How many failures are left, in words; the same words wherever they are said."""

from __future__ import annotations


def tolerance(left: int) -> str:
    """``tolerates 1 more failure``."""
    if left == 0:
        return "tolerates no more failure"
    return f"tolerates {left} more failure{'' if left == 1 else 's'}"


def verdict(leader: str, voters: int, left: int) -> str:
    """The one sentence that matters about a cluster with a quorum."""
    if voters == 1:
        return f"{leader} serves alone; {tolerance(0)}"
    return f"{leader} leads {voters} voters; {tolerance(left)}"


NO_QUORUM = "no quorum: writes and new sessions wait"
