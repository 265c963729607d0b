"""Settings that every process of a fleet sees change, and that are changed only on purpose.

A watcher is told of every new state it has not seen. The writer names the version it has read, so
that two people who edit at the same time cannot overwrite each other unnoticed.
"""

from __future__ import annotations

import queue
import sys

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError
from kazoo.protocol.states import ZnodeStat

HOSTS = "127.0.0.1:2181,127.0.0.1:2182,127.0.0.1:2183"
PATH = "/examples/settings"


def main(hosts: str) -> None:
    """Change a setting twice, watch it, and refuse a change that was made from an old copy."""
    watcher, writer = KazooClient(hosts), KazooClient(hosts)
    watcher.start()
    writer.start()
    writer.ensure_path(PATH)
    seen: queue.Queue[str] = queue.Queue()

    @watcher.DataWatch(PATH)
    def changed(data: bytes | None, stat: ZnodeStat | None) -> None:
        if stat is not None and data:
            seen.put(data.decode())

    _, first = writer.get(PATH)
    second = writer.set(PATH, b"workers=4", version=first.version)
    print("a process sees", seen.get(timeout=10))
    writer.set(PATH, b"workers=8", version=second.version)
    print("a process sees", seen.get(timeout=10))
    try:
        writer.set(PATH, b"workers=2", version=first.version)
    except BadVersionError:
        print("a change from an old copy was refused")
    writer.delete(PATH)
    for client in (watcher, writer):
        client.stop()
        client.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else HOSTS)
