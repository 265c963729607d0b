"""A local cluster started as README.md says (``quorate up``), but on free ports.

Waiting is done by asking: kazoo's ``start`` returns when a node serves, or says that none does.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kazoo.client import KazooClient

ROOT = Path(__file__).resolve().parents[2]
QUORATE = [sys.executable, "-m", "quorate"]
START_SECONDS_MAX = 20
STOP_SECONDS_MAX = 20
PORT_OFFSETS = (0, 100, 200)
PORTS_BETWEEN_CLUSTERS = 300
README_PORTS = re.compile(r":(2[123]8[1-4])\b")  # clients', nodes' and admin ports of four nodes


def environment() -> dict[str, str]:
    """Our sources first, for children too; nothing of the caller's quorate settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("QUORATE_")}
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [kept.get("PYTHONPATH")])])
    return kept | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def free_base_port() -> int:
    """A base port whose cluster finds all its ports free (client, peer and admin ports).

    Below the ports that the kernel hands out itself, and not the same in neighbouring processes.
    """
    candidates = list(range(12000, 20000, PORTS_BETWEEN_CLUSTERS))
    first = os.getpid() % len(candidates)
    for base in candidates[first:] + candidates[:first]:
        if all(_is_free(base + k + use) for k in range(4) for use in PORT_OFFSETS):
            return base
    raise RuntimeError("no free ports between 12000 and 20000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def on_ports(text: str, base_port: int) -> str:
    """``text`` with the ports of README.md replaced by those of this cluster."""
    return README_PORTS.sub(lambda port: f":{base_port + int(port[1]) - 2181}", text)


@contextmanager
def local_cluster(directory: Path) -> Iterator[int]:
    """Run ``quorate up`` until the block ends; gives the base port. It must stop cleanly."""
    base_port = free_base_port()
    log = directory / "up.log"
    command = [*QUORATE, "up", "--dir", str(directory / "data"), "--base-port", str(base_port)]
    with log.open("wb") as out:
        up = subprocess.Popen(
            command,
            cwd=directory,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_it_serves(base_port, log)
        yield base_port
        os.kill(up.pid, signal.SIGINT)  # Ctrl-C
        assert up.wait(STOP_SECONDS_MAX) in (0, 130), log.read_text(errors="replace")[-3000:]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(up.pid, signal.SIGKILL)
        up.wait()


def _wait_until_it_serves(base_port: int, log: Path) -> None:
    client = KazooClient(on_ports("127.0.0.1:2181,127.0.0.1:2182,127.0.0.1:2183", base_port))
    try:
        client.start(timeout=START_SECONDS_MAX)
    except client.handler.timeout_exception:
        words = log.read_text(errors="replace")[-3000:]
        raise AssertionError(
            f"no node serves after {START_SECONDS_MAX} s; `quorate up` said:\n{words}"
        ) from None
    finally:
        client.stop()
        client.close()
