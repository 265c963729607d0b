"""A lock that is safe even when its holder is slow: every grant comes with a fencing token.

Three workers append to one store. Only the holder of the lock may write, but a holder that paused
too long no longer holds it and does not know. So the store checks a *fence*: the czxid of the
holder's znode, which rises with every grant, and refuses an older one.
"""

from __future__ import annotations

import sys
import threading

from kazoo.client import KazooClient

HOSTS = "127.0.0.1:2181,127.0.0.1:2182,127.0.0.1:2183"


class Store:
    """What the lock protects. It only has to remember the highest fence it has seen."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.fence = 0

    def append(self, line: str, fence: int) -> None:
        """Add a line, unless somebody with a later grant was here already."""
        if fence < self.fence:
            raise RuntimeError(f"fence {fence} is older than {self.fence}: the lock moved on")
        self.fence = fence
        self.lines.append(line)


def work(name: str, hosts: str, store: Store) -> None:
    """Take the lock once and write one line under its fence."""
    client = KazooClient(hosts)
    client.start()
    lock = client.Lock("/examples/lock", name)
    with lock:
        fence = client.exists(f"{lock.path}/{lock.node}").czxid
        store.append(f"{name} wrote with a fence of its own", fence)
    client.stop()
    client.close()


def main(hosts: str) -> None:
    """Let three workers compete, then show what an outdated holder would meet."""
    store = Store()
    names = ("ann", "bob", "cay")
    workers = [threading.Thread(target=work, args=(name, hosts, store)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for line in sorted(store.lines):
        print(line)
    try:
        store.append("dan was paused too long", store.fence - 1)
    except RuntimeError:
        print("an outdated holder was refused")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else HOSTS)
