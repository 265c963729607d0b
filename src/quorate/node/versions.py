"""Which versions of the protocol between nodes this process says that it speaks.

Those of the release (``protocol/peer.py``), unless ``QUORATE_TEST_PEER_VERSIONS`` says otherwise:
with it tests put nodes that seem older or newer into one cluster. It is no setting, because a node
must not claim what it cannot do; docs/compatibility.md tells how to write such a test.
"""

from __future__ import annotations

from collections.abc import Mapping

from quorate.errors import SettingsError
from quorate.node.events import VERSIONS_PRETENDED
from quorate.protocol.peer import PEER_PROTOCOL_VERSION, PEER_PROTOCOL_VERSION_MIN

VARIABLE = "QUORATE_TEST_PEER_VERSIONS"
_VERSION_MAX = 0xFFFF


def spoken_versions(environ: Mapping[str, str]) -> tuple[int, int]:
    """The lowest and the highest version to offer.

    Raises:
        SettingsError: the variable is set and is no range.
    """
    text = environ.get(VARIABLE)
    if not text:
        return PEER_PROTOCOL_VERSION_MIN, PEER_PROTOCOL_VERSION
    lowest, dash, highest = text.partition("-")
    if not lowest.isdecimal() or not (highest.isdecimal() or not dash):
        raise SettingsError(f"environment {VARIABLE}: {text!r} is not like 2 or 2-3")
    low, high = int(lowest), int(highest or lowest)
    if not 1 <= low <= high <= _VERSION_MAX:
        raise SettingsError(f"environment {VARIABLE}: {text!r} is no range of versions")
    VERSIONS_PRETENDED.say(variable=VARIABLE, low=low, high=high)
    return low, high
