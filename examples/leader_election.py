"""Two candidates, one office: when the leader leaves, the other takes over.

Each candidate's znode is ephemeral: it is gone when its session ends, however that happens. So a
crashed leader is followed after its session timeout, and one that leaves properly at once.
"""

from __future__ import annotations

import sys
import threading

from kazoo.client import KazooClient

HOSTS = "127.0.0.1:2181,127.0.0.1:2182,127.0.0.1:2183"


def candidate(name: str, hosts: str, elected: threading.Event, leave: threading.Event) -> None:
    """Run for office; once elected, stay until told to leave."""

    def lead() -> None:
        print(f"{name} leads")
        elected.set()
        leave.wait()
        print(f"{name} leaves")

    client = KazooClient(hosts)
    client.start()
    client.Election("/examples/leader", name).run(lead)
    client.stop()
    client.close()


def main(hosts: str) -> None:
    """Elect ann, let her go, see bob follow."""
    candidates = []
    for name in ("ann", "bob"):
        elected, leave = threading.Event(), threading.Event()
        thread = threading.Thread(target=candidate, args=(name, hosts, elected, leave))
        thread.start()
        candidates.append((thread, elected, leave))
        if name == "ann":
            elected.wait()  # so that the story is the same every time
    for thread, elected, leave in candidates:
        elected.wait()
        leave.set()
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else HOSTS)
