"""Access control lists: who may do what to one znode.

An ACL is a list of ``(permission bits, scheme, id)``; it is not inherited. Nearly every znode in
the world carries the same list (everybody may do everything), so ACLs are interned and that one is
the constant ``OPEN_ACL``: the hot paths compare identity first and never come here.

Schemes: ``world`` (only ``anyone``), ``digest`` (``user:hash``), ``ip`` (``address`` or
``address/bits``), ``sasl`` and ``x509`` (compared as they are), and ``auth``, which stands for "the
identities I have now" and is expanded when the ACL is set. A session with an identity of scheme
``super`` passes every check. How a connection proves an identity is not known here.

Invariant: two interned ACLs with the same ``wire`` mean the same; the open one is always
``OPEN_ACL`` itself, also after a snapshot was restored.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple, TypeAlias

from quorate.protocol.jute import INT, Reader, encode_buffer
from quorate.protocol.zookeeper import ErrorCode, Permission
from quorate.tree.refused import Refused

Identities: TypeAlias = tuple[tuple[str, str], ...]
"""What a connection has proved: pairs of scheme and id, such as ``("ip", "10.0.0.7")``."""

ENTRY_SIZE_MIN: Final = 12
"""Bytes of the smallest entry on the wire: the bits and two empty strings."""

INTERNED_MAX: Final = 4096
"""Interning saves memory and nothing else, so its table is simply cleared at this size."""


class Entry(NamedTuple):
    """One line of an ACL."""

    permissions: int
    scheme: str
    id: str


class Acl:
    """An immutable list of entries together with its wire form (a jute vector)."""

    __slots__ = ("entries", "wire")

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        assert entries
        self.entries = entries
        self.wire = _encode(entries)

    def __repr__(self) -> str:
        return f"Acl({', '.join(f'{e.scheme}:{e.id}={e.permissions}' for e in self.entries)})"

    def permits(self, permission: int, identities: Identities) -> bool:
        """Whether a session with these identities has any of the bits in ``permission``."""
        for scheme, _ in identities:
            if scheme == "super":
                return True
        for entry in self.entries:
            if entry.permissions & permission and _matches(entry, identities):
                return True
        return False

    def without_secrets(self) -> Acl:
        """What somebody without ADMIN may see: hashes of digest ids are replaced by ``x``."""
        if all(entry.scheme != "digest" for entry in self.entries):
            return self
        return Acl(
            tuple(
                entry._replace(id=entry.id.split(":", 1)[0] + ":x")
                if entry.scheme == "digest"
                else entry
                for entry in self.entries
            )
        )


def _encode(entries: tuple[Entry, ...]) -> bytes:
    parts = [INT.pack(len(entries))]
    for entry in entries:
        parts.append(INT.pack(entry.permissions))
        parts.append(encode_buffer(entry.scheme.encode()))
        parts.append(encode_buffer(entry.id.encode()))
    return b"".join(parts)


OPEN_ACL: Final = Acl((Entry(int(Permission.ALL), "world", "anyone"),))
READ_ONLY_ACL: Final = Acl((Entry(int(Permission.READ), "world", "anyone"),))


def _matches(entry: Entry, identities: Identities) -> bool:
    if entry.scheme == "world":
        return True
    if entry.scheme == "ip":
        return any(scheme == "ip" and _contains(entry.id, id_) for scheme, id_ in identities)
    return (entry.scheme, entry.id) in identities


def _contains(expression: str, address: str) -> bool:
    """Whether ``address`` lies in ``expression``, which was valid when the ACL was set."""
    try:
        return ip_address(address) in ip_network(expression, strict=False)
    except ValueError:  # the service could not tell the address, or the ACL came from elsewhere
        return False


def _is_valid(entry: Entry) -> bool:
    """Whether an entry of any scheme but ``auth`` makes sense."""
    if entry.scheme == "world":
        return entry.id == "anyone"
    if entry.scheme == "digest":
        user, colon, password_hash = entry.id.partition(":")
        return bool(colon and user and password_hash) and ":" not in password_hash
    if entry.scheme == "ip":
        return _is_valid_network(entry.id)
    return entry.scheme in {"sasl", "x509"} and entry.id != ""


def _is_valid_network(expression: str) -> bool:
    address, slash, bits = expression.partition("/")
    if slash and not (bits.isascii() and bits.isdecimal()):  # no netmask notation
        return False
    try:
        ip_address(address)
        ip_network(expression, strict=False)
    except ValueError:
        return False
    return True


def read_acl(reader: Reader) -> tuple[Entry, ...] | None:
    """Read an ACL from the wire; ``None`` when it holds something no ACL can hold (no UTF-8).

    A null id is an empty one: kazoo sends ``auth:`` so.

    Raises:
        RemoteProtocolError: the bytes are no vector of entries; nothing happened.
    """
    count = reader.count(ENTRY_SIZE_MIN)
    entries: list[Entry] = []
    is_text = True
    for _ in range(count):
        permissions, scheme, id_ = reader.int32(), reader.buffer(), reader.buffer()
        try:
            entries.append(Entry(permissions, (scheme or b"").decode(), (id_ or b"").decode()))
        except UnicodeDecodeError:
            is_text = False
    return tuple(entries) if is_text else None


def resolve_acl(
    entries: tuple[Entry, ...] | None, identities: Identities, interned: dict[bytes, Acl]
) -> Acl:
    """The ACL to store for a request: checked, ``auth`` expanded, duplicates removed, interned.

    Raises:
        Refused: INVALID_ACL; nothing happened.
    """
    if not entries:
        raise Refused(ErrorCode.INVALID_ACL)
    resolved: dict[Entry, None] = {}
    for entry in entries:
        if entry.scheme == "auth":
            # An address is where you are and "super" is not an id that can be granted: neither
            # counts as who you are.
            mine = [identity for identity in identities if identity[0] not in {"ip", "super"}]
            if not mine:
                raise Refused(ErrorCode.INVALID_ACL)
            resolved.update((Entry(entry.permissions, scheme, id_), None) for scheme, id_ in mine)
        elif _is_valid(entry):
            resolved[entry] = None
        else:
            raise Refused(ErrorCode.INVALID_ACL)
    return intern_acl(tuple(resolved), interned)


def intern_acl(entries: tuple[Entry, ...], interned: dict[bytes, Acl]) -> Acl:
    """The one object that stands for these entries."""
    if entries == OPEN_ACL.entries:
        return OPEN_ACL
    acl = Acl(entries)
    if len(interned) >= INTERNED_MAX:
        interned.clear()
    return interned.setdefault(acl.wire, acl)
