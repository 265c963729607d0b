"""Writes to a socket now instead of at the end of the loop's round.

uvloop gathers writes and carries them out when all callbacks of a round have run. For messages
between nodes that is late: this node's disk would start, and fight for the interpreter, before
the other nodes even know that there is something to write; for answers it is a few more
microseconds of waiting each. So where nothing is buffered the bytes go to the socket at once;
whatever it does not take goes the usual way. A turn writes once per connection in any case.

A transport with TLS (``tls_transport.py``) encrypts and then does the same with its own socket; it
has no descriptor for others to write to.

Invariant: bytes leave in order, because the short cut is taken only while the transport holds none.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

_PARTS_MAX = 256  # well below IOV_MAX
_NO_DESCRIPTOR = -1


def write_now(transport: asyncio.Transport, descriptor: int, parts: Sequence[bytes]) -> None:
    """Send the parts over an open transport; ``descriptor`` is what ``descriptor_of`` gave for it.

    Errors are not raised: the transport meets them itself and loses its connection.
    """
    if transport.is_closing():
        return
    if descriptor < 0:
        transport.writelines(parts)
        return
    if len(parts) > _PARTS_MAX:
        parts = (b"".join(parts),)
    if transport.get_write_buffer_size() == 0:
        parts = _try(descriptor, parts)
        if not parts:
            return
    transport.writelines(parts)


def _try(descriptor: int, parts: Sequence[bytes]) -> Sequence[bytes]:
    """Write what the socket takes; return the rest."""
    try:
        sent = os.writev(descriptor, parts)
    except OSError:  # full, or broken: the transport finds out which
        return parts
    missing = sum(map(len, parts)) - sent
    if not missing:
        return ()
    return (b"".join(parts)[-missing:],)


def descriptor_of(transport: asyncio.Transport) -> int:
    """The file descriptor to write to; negative when only the transport may write."""
    if transport.get_extra_info("ssl_object") is not None:
        return _NO_DESCRIPTOR
    return socket_of(transport)


def socket_of(transport: asyncio.Transport) -> int:
    """The file descriptor of a transport's socket."""
    descriptor: int = transport.get_extra_info("socket").fileno()
    return descriptor
