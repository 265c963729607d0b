"""The table that ``quorate up`` keeps in place on a terminal."""

from __future__ import annotations

from collections import deque
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from quorate.cli.local_cluster import LocalCluster, LocalNode

_EVENTS_SHOWN = 8
_STYLES = {"leader": "bold green", "follower": "green", "dead": "red"}


class TableScreen:
    """A table of nodes, the last events below it."""

    def __init__(self) -> None:
        self._events: deque[str] = deque(maxlen=_EVENTS_SHOWN)
        self._live = Live(auto_refresh=False)
        self._live.start()

    def say(self, words: str) -> None:
        """Keep the event for the next picture."""
        self._events.append(words)

    def show(self, cluster: LocalCluster, pages: dict[int, dict[str, Any] | None]) -> None:
        """Draw everything anew."""
        serving = sum(1 for page in pages.values() if page and page.get("serving"))
        if serving == len(cluster.nodes):
            line = Text(f"ready: connect with {cluster.servers}", style="bold")
        elif serving:
            line = Text(f"{serving} of {len(cluster.nodes)} nodes serve: {cluster.servers}")
        else:
            line = Text("no node serves (yet)")
        events = Text("\n".join(self._events), style="dim")
        hint = Text("Ctrl-C stops all nodes", style="dim")
        self._live.update(Group(_table(cluster, pages), line, events, hint), refresh=True)

    def close(self) -> None:
        """Leave the last picture on the screen."""
        self._live.stop()


def _table(cluster: LocalCluster, pages: dict[int, dict[str, Any] | None]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("node", "role", "client", "admin", "pid", "state", "zxid", "lag", "data"):
        table.add_column(heading, justify="right" if heading in ("zxid", "lag") else "left")
    newest = max((int(page["commit_index"]) for page in pages.values() if page), default=0)
    for node in cluster.nodes:
        role, state, zxid, lag = _row(node, pages.get(node.node_id), newest)
        table.add_row(
            str(node.node_id),
            Text(role, style=_STYLES.get(role, "")),
            str(node.client),
            str(node.admin),
            str(node.pid),
            Text(state, style="red" if state.startswith("dead") else ""),
            zxid,
            lag,
            str(node.directory / "data"),
        )
    return table


def _row(node: LocalNode, page: dict[str, Any] | None, newest: int) -> tuple[str, str, str, str]:
    """Role, state, zxid and lag of one node, as text."""
    if not node.is_running:
        return "", f"dead ({node.cause_of_death()})", "", ""
    if page is None:
        return "", "no answer", "", ""
    state = "serving" if page.get("serving") else "waiting for a leader"
    lag = max(0, newest - int(page["applied_index"]))
    return str(page["role"]), state, f"0x{int(page.get('zxid', 0)):x}", str(lag)
