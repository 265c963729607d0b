"""What a node tells about itself in four-letter words: mode, version, settings, figures.

The words' layout is ZooKeeper's (``protocol/four_letter.py``). The figures named ``quorate_*`` in
``mntr`` are ours: who leads, how far this node has come, how many failures are still tolerated.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import Any

from quorate import __version__
from quorate.node.clock import Clock
from quorate.node.settings import NodeSettings
from quorate.protocol.four_letter import ServerInfo


def make_server_info(
    settings: NodeSettings, status: Callable[[], dict[str, Any]], clock: Clock
) -> Callable[[], ServerInfo]:
    """Give the function that describes the node as it is whenever a word is asked.

    Args:
        settings: for ``conf``.
        status: the server's picture.
        clock: for the uptime, which starts now.
    """
    started_ms = clock.now_ms()
    configuration = _configuration(settings)
    environment = _environment()

    def describe() -> ServerInfo:
        picture = status()
        others = set(picture["voters"]) - {settings.node_id}
        synced = [
            member
            for member in picture["members"]
            if member["node_id"] in others
            and member["active"]
            and member["match_index"] >= picture["commit_index"]
        ]
        return ServerInfo(
            mode=picture["mode"] if picture["serving"] else "",
            node_id=settings.node_id,
            version=__version__,
            uptime_ms=clock.now_ms() - started_ms,
            peers=len(others),
            peers_synced=len(synced),
            configuration=configuration,
            environment=environment,
            figures=_figures(picture),
        )

    return describe


def _figures(picture: dict[str, Any]) -> dict[str, int | str]:
    figures: dict[str, int | str] = {
        "quorate_node_id": picture["node_id"],
        "quorate_leader": picture["leader"],
        "quorate_epoch": picture["epoch"],
        "quorate_voters": len(picture["voters"]),
        "quorate_commit_index": picture["commit_index"],
        "quorate_applied_index": picture["applied_index"],
    }
    if picture["failures_tolerated"] is not None:  # the leader's knowledge
        figures["quorate_failures_tolerated"] = picture["failures_tolerated"]
    return figures


def _configuration(settings: NodeSettings) -> dict[str, str]:
    ports: dict[str, str] = {}
    for name, address in (
        ("clientPort", settings.listen),
        ("secureClientPort", settings.tls.client_tls_listen),
    ):
        if address is not None:
            ports |= {name: str(address.port), f"{name}Address": address.host}
    return {
        **ports,
        "dataDir": str(settings.data),
        "tickTime": str(settings.tick_ms),
        "maxClientCnxns": str(settings.connections_per_address_max),
        "minSessionTimeout": str(settings.session_timeout_min_ms),
        "maxSessionTimeout": str(settings.session_timeout_max_ms),
    }


def _environment() -> dict[str, str]:
    return {
        "host.name": platform.node(),
        "python.version": platform.python_version(),
        "python.implementation": platform.python_implementation(),
        "os.name": platform.system(),
        "os.arch": platform.machine(),
        "os.version": platform.release(),
        "user.dir": os.getcwd(),  # noqa: PTH109 - text for people
    }
