"""``quorate snapshot save``: an online backup into a file.

Asks the admin address of the node that has applied most to take a snapshot now, waits for it, and
fetches it piece by piece. The file gets its name only when it is whole and on the disk.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from quorate.consensus.entry import SnapshotMeta
from quorate.errors import DidNotHappen, SettingsError, UsageError
from quorate.node.units import Address, parse_address
from quorate.storage.backup import BackupHead, write_backup
from quorate.storage.snapshot_file import unfold

_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.1
_TRIES = 3


class _Gone(Exception):
    """A newer snapshot took the place of the one that is being fetched."""


@click.command("save")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--admin",
    "--servers",
    "servers",
    required=True,
    envvar="QUORATE_ADMIN",
    metavar="HOST:PORT,...",
    help="Admin addresses of nodes; the one that has applied most is asked (QUORATE_ADMIN).",
)
@click.option(
    "--wait", "wait_seconds", default=600.0, show_default=True, help="Longest wait, in seconds."
)
def command(file: Path, servers: str, wait_seconds: float) -> None:
    """Save everything that a running cluster holds into FILE, while it goes on.

    The backup holds all writes that were acknowledged before the command was called, if the node
    that is asked had applied them; name all nodes, and the furthest one is asked. It holds all
    data whatever its ACL: keep it as safe as the cluster.
    """
    if file.exists():
        raise UsageError(f"{file} exists; name a new file")
    address = _furthest(servers)
    deadline = time.monotonic() + wait_seconds
    wanted = int(_call(address, "POST", "/snapshot")["index"])
    if wanted == 0:
        raise DidNotHappen(f"{address} has applied nothing yet; there is nothing to save")
    part = file.with_name(file.name + ".part")
    try:
        for attempt in range(_TRIES):
            page = _wait_for(address, wanted, deadline)
            try:
                size = _fetch(address, page, part)
            except _Gone:
                if attempt == _TRIES - 1:
                    raise DidNotHappen(
                        f"{address} takes snapshots faster than they can be fetched"
                    ) from None
            else:
                break
        part.replace(file)
        _sync_directory(file.parent)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    click.echo(f"{file}: everything up to entry {page['index']}, {size} bytes, from {address}")


def _furthest(servers: str) -> Address:
    best: tuple[bool, int, Address] | None = None
    for text in servers.split(","):
        try:
            address = parse_address(text.strip())
        except SettingsError as error:
            raise UsageError(f"--admin: {error}") from None
        with suppress(DidNotHappen):
            page = _call(address, "GET", "/status")
            has_space = not page.get("disk_full")  # else it takes no snapshots
            applied = int(page["applied_index"])
            if best is None or (has_space, applied) > best[:2]:
                best = has_space, applied, address
    if best is None:
        raise DidNotHappen(f"none of {servers} answers; these must be admin addresses")
    return best[2]


def _request(address: Address, method: str, target: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise DidNotHappen(f"{address} does not answer: {error}") from None
    finally:
        connection.close()


def _call(address: Address, method: str, target: str) -> dict[str, Any]:
    status, body = _request(address, method, target)
    if status >= 300:
        raise DidNotHappen(f"{address} refuses {target}: {body.decode(errors='replace').strip()}")
    page: dict[str, Any] = json.loads(body)
    return page


def _wait_for(address: Address, wanted: int, deadline: float) -> dict[str, Any]:
    while True:
        status, body = _request(address, "GET", "/snapshot")
        if status == 200:
            page: dict[str, Any] = json.loads(body)
            if int(page["index"]) >= wanted:
                return page
        if time.monotonic() > deadline:
            raise DidNotHappen(f"{address} has not finished its snapshot in time; nothing is saved")
        time.sleep(_POLL_SECONDS)


def _fetch(address: Address, page: dict[str, Any], part: Path) -> int:
    meta = SnapshotMeta(page["index"], page["epoch"], bytes.fromhex(page["configuration"]))
    taken_at = datetime.now(UTC).isoformat(timespec="seconds")
    head = BackupHead(meta, page["cluster_id"], page["node_id"], taken_at)
    with part.open("wb") as out:
        pieces = _pieces(address, meta, int(page["bytes"]))
        size = write_backup(out, head, _unfold(pieces) if page["compressed"] else pieces)
        out.flush()
        os.fsync(out.fileno())
    return size


def _pieces(address: Address, meta: SnapshotMeta, size: int) -> Iterator[bytes]:
    offset = 0
    while offset < size:
        target = f"/snapshot?index={meta.index}&epoch={meta.epoch}&offset={offset}"
        status, body = _request(address, "GET", target)
        if status == 410:
            raise _Gone
        if status != 200 or not body:
            raise DidNotHappen(f"{address}: {body.decode(errors='replace').strip()}")
        offset += len(body)
        yield body


def _unfold(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What the state machine wrote: a backup does not depend on how nodes store snapshots."""
    return unfold(pieces, _ends_wrongly)


def _ends_wrongly(offset: int, words: str) -> DidNotHappen:
    return DidNotHappen(f"the snapshot is damaged at byte {offset}: {words}; nothing is saved")


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
