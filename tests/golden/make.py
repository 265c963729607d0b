#!/usr/bin/env python3
"""Makes what every later release must still read: a data directory, and messages between nodes.

    .venv/bin/python tests/golden/make.py NAME

writes ``tests/golden/NAME/``. Run it once for a release, or when a format has got a new version,
and never again for the same name: what is there is what some node out there has on its disk. A
name that exists is refused.

    NAME/data/           a data directory: snapshot, log of several segments, identity
    NAME/expected.json   what a node that opens it must have: digest, index, znodes, sessions
    NAME/messages.json   messages between nodes, hex by name
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lone_node import LoneNode
from samples import encoded_samples

from quorate.protocol.zookeeper import OpCode
from quorate.protocol.zookeeper_client import (
    CLOSE_SESSION,
    check,
    create,
    delete,
    encode_acl,
    multi,
    set_acl,
    set_data,
)

HERE = Path(__file__).parent
_EPHEMERAL, _SEQUENTIAL = 1, 2


def fill(node: LoneNode) -> None:
    """One of everything that a log can hold, in two lives."""
    first = node.open_session(20_000)
    acl = encode_acl((31, "digest", "user:AAAAAAAAAAAAAAAAAAAAAAAAAAA="), (1, "world", "anyone"))
    node.ask(
        first,
        [
            create(b"/plain", b"data"),
            create(b"/empty", b""),
            create(b"/null", None),
            create("/größe/x".encode().rpartition(b"/")[0], b"\x00\xff"),
            create(b"/parent", b"", opcode=OpCode.CREATE2),
            create(b"/parent/s-", b"1", _SEQUENTIAL),
            create(b"/parent/s-", b"2", _SEQUENTIAL),
            create(b"/parent/e", b"mine", _EPHEMERAL),
            create(b"/parent/es-", b"", _EPHEMERAL | _SEQUENTIAL),
            create(b"/container", b"", 4, opcode=OpCode.CREATE_CONTAINER),
            create(b"/kept", b"for a while", 5, ttl_ms=3_600_000),
            create(b"/guarded", b"secret", acl=acl),
            set_data(b"/plain", b"data of the second version"),
            set_data(b"/plain", b"wrong version", 7),
            set_acl(b"/empty", encode_acl((1, "world", "anyone"))),
            delete(b"/null"),
            multi([check(b"/plain", 1), create(b"/m1", b"a"), set_data(b"/plain", b"in a multi")]),
            multi([create(b"/m2", b"never"), delete(b"/no such")]),
        ],
    )
    closing = node.open_session(10_000)
    node.ask(closing, [create(b"/gone with its session", b"", _EPHEMERAL), CLOSE_SESSION])
    second = node.open_session(40_000)
    node.ask(second, [create(f"/n{i:02}".encode(), b"x" * 200) for i in range(40)])
    node.ask(second, [create(b"/second's", b"", _EPHEMERAL), delete(b"/n07")])


def make(directory: Path) -> None:
    """Write everything below ``directory``."""
    data = directory / "data"
    node = LoneNode(data, snapshot_bytes=6000)
    node.run_until_applied()
    fill(node)
    node.close()
    node = LoneNode(data)  # a second start: another term, and no further snapshot
    node.run_until_applied()
    third = node.open_session(30_000)
    node.ask(third, [set_data(b"/plain", b"after the second start"), create(b"/last", b"z")])
    expected = {
        "applied_index": node.server.status()["applied_index"],
        "digest": f"{node.digest():016x}",
        "sessions": sorted(node.server.service.tree.sessions),
        "zxid": node.server.status()["zxid"],
        "znodes": node.picture(),
    }
    node.close()
    (data / "LOCK").unlink()  # holds a process id
    (directory / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    messages = {name: sample.hex() for name, sample in encoded_samples().items()}
    (directory / "messages.json").write_text(json.dumps(messages, indent=1) + "\n")


def main() -> None:
    """Make the golden files of the release named on the command line."""
    (name,) = sys.argv[1:]
    directory = HERE / name
    if directory.exists():
        sys.exit(f"{directory} exists: what is golden is never written again; choose a new name")
    directory.mkdir()
    make(directory)


if __name__ == "__main__":
    main()
