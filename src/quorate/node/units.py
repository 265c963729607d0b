"""Times, sizes and addresses as people write them: ``150ms``, ``64MiB``, ``127.0.0.1:2181``.

Pure text work. A number without a unit is refused: nobody remembers whether ``500`` meant
milliseconds. Every refusal says what to write instead.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from quorate.errors import SettingsError

_NUMBER_AND_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*\Z")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_PORT_MAX = 65535


class Address(NamedTuple):
    """A host and a TCP port."""

    host: str
    port: int

    @property
    def is_wildcard(self) -> bool:
        """Whether this names every interface: one can listen there, but nobody can dial it."""
        return self.host in ("", "0.0.0.0", "::", "*")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_duration_ms(text: str) -> int:
    """Turn ``150ms``, ``2s``, ``1.5s`` or ``1m`` into whole milliseconds.

    Raises:
        SettingsError: no number, no unit, an unknown unit, or a fraction of a millisecond.
    """
    return _scaled(text, _MILLISECONDS, "a time", "150ms or 2s")


def parse_size_bytes(text: str) -> int:
    """Turn ``512B``, ``64KiB`` or ``16MiB`` into bytes.

    Raises:
        SettingsError: no number, no unit, an unknown unit, or a fraction of a byte.
    """
    return _scaled(text, _BYTES, "a size", "512KiB or 64MiB")


def parse_count(text: str) -> int:
    """Turn a whole number without a unit into an int.

    Raises:
        SettingsError: anything else.
    """
    if not text.strip().isdecimal():
        raise SettingsError(f"{text!r} is not a whole number")
    return int(text)


def parse_address(text: str) -> Address:
    """Turn ``HOST:PORT`` or ``[IPv6]:PORT`` into an Address.

    Raises:
        SettingsError: the port is missing or impossible, or an IPv6 address has no brackets.
    """
    host, colon, port_text = text.strip().rpartition(":")
    if not colon or not host:
        raise SettingsError(f"{text!r} is not HOST:PORT; write for example 127.0.0.1:2181")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise SettingsError(f"{text!r}: put an IPv6 address in brackets, as in [::1]:2181")
    if not port_text.isdecimal() or not 0 < int(port_text) <= _PORT_MAX:
        raise SettingsError(f"{text!r}: the port must be a number from 1 to {_PORT_MAX}")
    return Address(host, int(port_text))


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Turn ``HOST:PORT,HOST:PORT`` into addresses.

    Raises:
        SettingsError: one of them is malformed.
    """
    return tuple(parse_address(item) for item in text.split(","))


def parse_cluster(text: str) -> dict[int, Address]:
    """Turn ``1=HOST:PORT,2=HOST:PORT`` into peer addresses by node id.

    Raises:
        SettingsError: malformed, an id below 1, or an id or an address that appears twice.
    """
    members: dict[int, Address] = {}
    for item in text.split(","):
        id_text, equals, address_text = item.strip().partition("=")
        if not equals or not id_text.strip().isdecimal():
            raise SettingsError(
                f"{item.strip()!r} is not ID=HOST:PORT; write for example "
                "1=10.0.0.1:2281,2=10.0.0.2:2281,3=10.0.0.3:2281"
            )
        add_member(members, int(id_text), parse_address(address_text))
    return members


def add_member(members: dict[int, Address], node_id: int, address: Address) -> None:
    """Add one member, refusing what cannot be told apart later.

    Raises:
        SettingsError: the id is below 1, or the id or the address is taken.
    """
    if node_id < 1:
        raise SettingsError(f"node ids start at 1, not {node_id}")
    if node_id in members:
        raise SettingsError(f"node id {node_id} appears twice; every member needs its own")
    for other, taken in members.items():
        if taken == address:
            raise SettingsError(f"nodes {other} and {node_id} share the address {address}")
    members[node_id] = address


def _scaled(text: str, units: dict[str, int], what: str, example: str) -> int:
    match = _NUMBER_AND_UNIT.match(text)
    if match is None:
        raise SettingsError(f"{text!r} is not {what}; write for example {example}")
    number, unit = match.groups()
    if not unit:
        raise SettingsError(f"{text!r} has no unit; write for example {example}")
    if unit not in units:
        known = ", ".join(units)
        raise SettingsError(f"{text!r}: unknown unit {unit!r}; known units: {known}")
    value = float(number) * units[unit]
    if value != int(value):
        raise SettingsError(f"{text!r} is too fine; the smallest step is 1{next(iter(units))}")
    return int(value)
