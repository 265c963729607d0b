"""What an ``auth`` request proves: an identity that ACLs can name.

Invariant: the clear password goes no further than this module; logs, snapshots and other nodes
see digests only.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1
from hmac import compare_digest

from quorate.errors import RemoteProtocolError
from quorate.protocol.zookeeper import REQUEST_HEADER, decode_auth_request
from quorate.tree.batch import Identity

_CREDENTIALS_BYTES_MAX = 4096


def identities_of_auth(frame: bytes, super_digest: str) -> tuple[Identity, ...]:
    """Read an ``auth`` request and say who its sender is now; empty: authentication fails.

    The scheme ``digest`` never fails for a wrong password: it proves another identity. Malformed
    requests fail.
    """
    try:
        request = decode_auth_request(frame, REQUEST_HEADER.size)
        user = request.auth.partition(b":")[0].decode()
    except (RemoteProtocolError, UnicodeDecodeError):
        return ()
    if request.scheme != "digest" or len(request.auth) > _CREDENTIALS_BYTES_MAX:
        return ()
    # SHA-1 is the protocol's choice: these very digests stand in ACLs.
    digest = b64encode(sha1(request.auth, usedforsecurity=False).digest()).decode()
    identity = f"{user}:{digest}"
    if super_digest and compare_digest(identity.encode(), super_digest.encode()):
        return (("super", ""), ("digest", identity))
    return (("digest", identity),)
