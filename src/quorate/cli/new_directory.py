"""Options of commands that make a data directory for a member of a new cluster."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from quorate.consensus.membership import Configuration
from quorate.errors import SettingsError, UsageError
from quorate.node.settings import cluster_digest, cluster_text
from quorate.node.units import parse_cluster
from quorate.storage.real_disk import RealDisk
from quorate.storage.transplant import NewDirectory, Source, transplant


def member_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--id`` and ``--cluster``, as ``quorate serve`` takes them."""
    function = click.option(
        "--cluster",
        required=True,
        metavar="ID=HOST:PORT,...",
        help="Peer addresses of all members of the new cluster, as for quorate serve.",
    )(function)
    return click.option(
        "--id", "node_id", required=True, type=click.IntRange(1), help="Whose directory is made."
    )(function)


def describe_member(node_id: int, cluster: str) -> NewDirectory:
    """The new directory's identity.

    Raises:
        UsageError: the options contradict each other.
    """
    try:
        members = parse_cluster(cluster)
    except SettingsError as error:
        raise UsageError(f"--cluster: {error}") from None
    if node_id not in members:
        raise UsageError(f"--id is {node_id}, but --cluster names only {sorted(members)}")
    return NewDirectory(
        node_id=node_id,
        cluster_id=cluster_digest(members),
        directory_id=secrets.token_bytes(16),
        # Above any count of starts, and above that of an earlier recovery.
        incarnation=int(time.time()),
        configuration=Configuration.of(
            members, addresses={node: str(address) for node, address in members.items()}
        ).encode(),
        founding=cluster_text(members),
    )


def make_directory(path: Path, new: NewDirectory, source: Source) -> int:
    """Write the directory; returns the index of its last entry.

    Raises:
        UsageError: there is something in the directory already.
        StorageError: it could not be written, or the source is damaged.
    """
    disk = RealDisk(path)
    try:
        return transplant(disk, new, source)
    finally:
        disk.close()
