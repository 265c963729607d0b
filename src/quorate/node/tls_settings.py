"""The settings of TLS: which files, and on which doors.

A node has three doors: other nodes, clients, the admin pages. One certificate serves all of them;
clients and the admin pages may have another (``client_tls_*``), from another authority.

Invariants:
    * what a door needs is there, or the node does not start: TLS that was asked for is never
      quietly left out, and files that no door uses are an error too
    * whoever gives a certificate gets mutual TLS between nodes, unless told otherwise
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorate.errors import SettingsError
from quorate.node.setting import Setting, one_of
from quorate.node.units import Address, parse_address

PEER_MODES = ("off", "accept", "dial", "require")
CLIENT_MODES = ("mutual", "on")
ADMIN_MODES = ("off", "on", "mutual")


def parse_listen(text: str) -> Address | None:
    """Read an address to listen on, or ``none``.

    Raises:
        SettingsError: neither.
    """
    return None if text.lower() == "none" else parse_address(text)


TLS_SETTINGS: tuple[Setting, ...] = (
    Setting(
        "tls_cert",
        "tls_cert",
        Path,
        None,
        "FILE",
        "This node's certificate and what leads to its authority, PEM.",
    ),
    Setting(
        "tls_key", "tls_key", Path, None, "FILE", "The key of --tls-cert, PEM, without passphrase."
    ),
    Setting(
        "tls_ca",
        "tls_ca",
        Path,
        None,
        "FILE",
        "Authorities that sign certificates of this cluster, PEM.",
    ),
    Setting(
        "peer_tls",
        "peer_tls",
        one_of(*PEER_MODES),
        None,
        "MODE",
        "TLS between nodes, certificates on both sides: off, accept (take it, dial without), dial "
        "(dial with it, take both), require (default: require with --tls-cert, else off).",
    ),
    Setting(
        "client_tls_listen",
        "client_tls_listen",
        parse_listen,
        None,
        "HOST:PORT",
        "Where clients connect with TLS (default: nowhere).",
    ),
    Setting(
        "client_tls",
        "client_tls",
        one_of(*CLIENT_MODES),
        "mutual",
        "MODE",
        "Whether clients must show a certificate there: mutual, or on (no certificate).",
    ),
    Setting(
        "client_tls_cert",
        "client_tls_cert",
        Path,
        None,
        "FILE",
        "Certificate shown to clients and on the admin address (default: --tls-cert).",
    ),
    Setting(
        "client_tls_key",
        "client_tls_key",
        Path,
        None,
        "FILE",
        "The key of --client-tls-cert.",
    ),
    Setting(
        "client_tls_ca",
        "client_tls_ca",
        Path,
        None,
        "FILE",
        "Authorities that sign clients' certificates (default: --tls-ca).",
    ),
    Setting(
        "admin_tls",
        "admin_tls",
        one_of(*ADMIN_MODES),
        "off",
        "MODE",
        "TLS on --admin-listen: off, on (no certificate asked), mutual.",
    ),
)


@dataclass(frozen=True, slots=True)
class Files:
    """A certificate, its key and the authorities whose certificates are believed.

    Attributes:
        names: the settings that gave them, for error messages.
    """

    cert: Path
    key: Path
    ca: Path | None
    names: tuple[str, str, str] = ("--tls-cert", "--tls-key", "--tls-ca")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The checked settings of TLS; meanings are in ``TLS_SETTINGS``.

    ``peer_files`` and ``client_files`` are None exactly when no door uses them.
    """

    peer_tls: str = "off"
    client_tls_listen: Address | None = None
    client_tls: str = "mutual"
    admin_tls: str = "off"
    peer_files: Files | None = None
    client_files: Files | None = None

    @property
    def is_used(self) -> bool:
        """Whether any door speaks TLS."""
        return self.peer_files is not None or self.client_files is not None

    def in_force(self) -> dict[str, Any]:
        """What each of ``TLS_SETTINGS`` came to, by key; None where nothing is used."""
        found = dict.fromkeys(setting.key for setting in TLS_SETTINGS)
        found |= {"peer_tls": self.peer_tls, "client_tls_listen": self.client_tls_listen}
        found |= {"client_tls": self.client_tls, "admin_tls": self.admin_tls}
        for files in (self.peer_files, self.client_files):
            if files is not None:
                paths = (files.cert, files.key, files.ca)
                for name, path in zip(files.names, paths, strict=True):
                    key = name.removeprefix("--").replace("-", "_")
                    found[key] = path or found[key]
        return found


def take_tls_settings(known: dict[str, Any]) -> TlsSettings:
    """Take the fields of ``TLS_SETTINGS`` out of ``known`` and check them.

    Raises:
        SettingsError: something is missing or contradicts something else.
    """
    values = {setting.field: known.pop(setting.field, None) for setting in TLS_SETTINGS}
    _check_pair(values, "tls_cert", "tls_key")
    _check_pair(values, "client_tls_cert", "client_tls_key")
    is_given = any(values[key] for key in ("tls_cert", "tls_key", "tls_ca"))
    peer_tls = values["peer_tls"] or ("require" if values["tls_cert"] else "off")
    client_listen, admin_tls = values["client_tls_listen"], values["admin_tls"] or "off"
    peer_files = client_files = None
    if peer_tls != "off":
        _check_there(values, f"--peer-tls {peer_tls}", "tls_cert", "tls_key", "tls_ca")
        peer_files = Files(values["tls_cert"], values["tls_key"], values["tls_ca"])
    client_tls = values["client_tls"] or "mutual"
    if admin_tls != "off" and known.get("admin_listen") is None:
        raise SettingsError(f"--admin-tls is {admin_tls}, but --admin-listen is not given")
    if client_listen is not None or admin_tls != "off":
        is_mutual = (client_listen is not None and client_tls == "mutual") or admin_tls == "mutual"
        user = "--client-tls-listen" if client_listen is not None else f"--admin-tls {admin_tls}"
        client_files = _client_files(values, user, is_mutual)
    elif values["client_tls_cert"] or values["client_tls_ca"]:
        raise SettingsError(
            "--client-tls-cert or --client-tls-ca is given, but neither --client-tls-listen nor "
            "--admin-tls is: clients would find no TLS; say where it is to be spoken"
        )
    if is_given and peer_files is None and client_files is None:
        raise SettingsError(
            "files for TLS are given, but it is spoken nowhere: --peer-tls is off and neither "
            "--client-tls-listen nor --admin-tls is given"
        )
    return TlsSettings(peer_tls, client_listen, client_tls, admin_tls, peer_files, client_files)


def _client_files(values: Mapping[str, Any], user: str, is_mutual: bool) -> Files:
    own = "client_tls_cert" if values["client_tls_cert"] else "tls_cert"
    key = own.replace("cert", "key")
    ca = "client_tls_ca" if values["client_tls_ca"] else "tls_ca"
    _check_there(values, user, own, key)
    if is_mutual:
        _check_there(values, f"{user} with certificates of clients", ca)
    names = tuple("--" + name.replace("_", "-") for name in (own, key, ca))
    assert len(names) == 3
    return Files(values[own], values[key], values[ca] if is_mutual else None, names)


def _check_there(values: Mapping[str, Any], user: str, *fields: str) -> None:
    for field in fields:
        if not values[field]:
            raise SettingsError(
                f"{user} needs --{field.replace('_', '-')}; `quorate certs dev` makes files to "
                "try it with"
            )


def _check_pair(values: Mapping[str, Any], cert: str, key: str) -> None:
    given = [field for field in (cert, key) if values[field]]
    if len(given) == 1:
        missing = key if given == [cert] else cert
        raise SettingsError(
            f"--{given[0].replace('_', '-')} is given without --{missing.replace('_', '-')}; "
            "a certificate and its key belong together"
        )
