"""Which paths may exist. Paths are bytes, exactly as the client sent them.

A path is a key: nothing here splits it into parts. Validity is decided once, when a znode is
created; afterwards a successful lookup *is* the proof of validity. And since a parent that exists
proves everything before the last slash, only the last name needs to be looked at (one exception,
noted in ``is_valid_name``'s caller: the root is a parent that ends in a slash).

The rules are those of ZooKeeper's ``PathUtils``, which speaks of UTF-16 units: characters outside
the basic plane are surrogate pairs to it, so they are refused, and so is the private use area.
"""

from __future__ import annotations

import re
from typing import Final

_PLAIN: Final = bytes(range(0x20, 0x2E)) + bytes(range(0x30, 0x7F))
"""Printable ASCII but for the dot and the slash: valid anywhere in a name."""

_FORBIDDEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff\U00010000-\U0010ffff/]"
)


def is_valid_name(name: bytes) -> bool:
    """Whether ``name`` may stand between two slashes."""
    if not name.translate(None, _PLAIN):
        return name != b""
    if name in {b".", b".."}:
        return False
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return False
    return _FORBIDDEN.search(text) is None


def is_valid_path(path: bytes) -> bool:
    """Whether ``path`` is absolute and consists of valid names."""
    if path == b"/":
        return True
    return path.startswith(b"/") and all(map(is_valid_name, path[1:].split(b"/")))


def parent_of(path: bytes) -> bytes:
    """The path of the parent; for ``/`` itself and for paths without a slash ``/`` too."""
    slash = path.rfind(b"/")
    return path[:slash] if slash > 0 else b"/"
