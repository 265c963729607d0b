"""Certificate files into contexts of ``ssl``, tried out before anybody depends on them.

A certificate that is wrong shows when the other side refuses it, perhaps weeks later, in another
machine's log. So whatever is loaded is first rehearsed in memory: a handshake with itself, checked
as another node would check it. What fails there is said at once, with the file's name.

Invariants:
    * a key that others than owner and group can read is refused
    * a key with a passphrase is refused; nothing ever asks for one on a terminal
    * files are bounded before they are read
    * no session is resumed: every connection's certificates are looked at anew
"""

from __future__ import annotations

import ssl
import stat
from collections.abc import Mapping
from typing import Any, NamedTuple

from quorate.errors import SettingsError
from quorate.node.tls_settings import Files
from quorate.node.tls_words import why

_FILE_BYTES_MAX = 1 << 20
_ROUNDS_MAX = 10


class Signature(NamedTuple):
    """What tells a file from a later one under the same name."""

    inode: int
    size_bytes: int
    changed_ns: int


class Material(NamedTuple):
    """Contexts made from one set of files.

    Attributes:
        server: for connections that come in.
        client: for connections that we dial; None where we never dial.
        certificate: our own, as ``getpeercert`` shows it.
    """

    server: ssl.SSLContext
    client: ssl.SSLContext | None
    certificate: Mapping[str, Any]

    @property
    def not_after_seconds(self) -> float:
        """When our certificate expires, in seconds since 1970."""
        return ssl.cert_time_to_seconds(self.certificate["notAfter"])


def load_peer_material(files: Files) -> Material:
    """Load what links between nodes need: each side shows a certificate and checks the other's.

    Raises:
        SettingsError: a file cannot be used; the message says which and why.
    """
    assert files.ca is not None
    _check_files(files)
    # Both ends are ours, so nothing older than TLS 1.3 has to be understood.
    server = _context(files, ssl.PROTOCOL_TLS_SERVER, ssl.TLSVersion.TLSv1_3)
    client = _context(files, ssl.PROTOCOL_TLS_CLIENT, ssl.TLSVersion.TLSv1_3)
    try:
        certificate = _rehearse(server, client)
    except ssl.SSLError as error:
        serving = not isinstance(error, _AtClientError)
        raise SettingsError(
            f"{files.names[0]} {files.cert}: other nodes would refuse this node: "
            f"{why(error.__cause__ or error, serving=serving)}"
        ) from None
    return Material(server, client, certificate)


def load_server_material(files: Files, *, mutual: bool) -> Material:
    """Load what a door for clients needs.

    Args:
        files: certificate, key, and with ``mutual`` the authorities of clients.
        mutual: whether clients must show a certificate.

    Raises:
        SettingsError: a file cannot be used; the message says which and why.
    """
    _check_files(files)
    server = _context(files, ssl.PROTOCOL_TLS_SERVER, ssl.TLSVersion.TLSv1_2, mutual=mutual)
    # Whoever signed it, clients know; here only that it is in date and fit for servers.
    trying = _context(files, ssl.PROTOCOL_TLS_SERVER, ssl.TLSVersion.TLSv1_2, mutual=False)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(files.cert)
    try:
        certificate = _rehearse(trying, client)
    except ssl.SSLError as error:
        raise SettingsError(
            f"{files.names[0]} {files.cert}: clients would refuse this node: "
            f"{why(error.__cause__ or error, serving=False)}"
        ) from None
    return Material(server, None, certificate)


def signatures(files: Files) -> tuple[Signature | None, ...]:
    """What the files look like now; None for one that is not there."""
    found: list[Signature | None] = []
    for path in (files.cert, files.key, files.ca):
        try:
            state = path.stat() if path is not None else None
        except OSError:
            state = None
        found.append(state and Signature(state.st_ino, state.st_size, state.st_mtime_ns))
    return tuple(found)


def _check_files(files: Files) -> None:
    for path, name in zip((files.cert, files.key, files.ca), files.names, strict=True):
        if path is None:
            continue
        try:
            state = path.stat()
        except OSError as error:
            raise SettingsError(f"{name} {path}: {error.strerror}") from None
        if not stat.S_ISREG(state.st_mode) or state.st_size > _FILE_BYTES_MAX:
            raise SettingsError(f"{name} {path} is not a file of at most 1 MiB")
        if path is files.key and state.st_mode & stat.S_IRWXO:
            raise SettingsError(
                f"{name} {path} can be read by everybody on this machine (mode "
                f"{stat.S_IMODE(state.st_mode):03o}): chmod 600 it, and think about a new key"
            )


def _context(
    files: Files, protocol: ssl._SSLMethod, minimum: ssl.TLSVersion, *, mutual: bool = True
) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = minimum
    context.check_hostname = False  # ``tls_identity`` does, on both sides alike
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    name, path = files.names[0], files.cert
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_passphrase)
        if mutual:
            assert files.ca is not None
            name, path = files.names[2], files.ca
            context.load_verify_locations(files.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        else:
            context.verify_mode = ssl.CERT_NONE
    except _PassphraseWantedError:
        raise SettingsError(
            f"{files.names[1]} {files.key} is protected by a passphrase, and nobody is there to "
            "type it: give a key without one, readable by this user alone"
        ) from None
    except ssl.SSLError as error:
        raise SettingsError(f"{name} {path}: {_file_words(error, files)}") from None
    except OSError as error:
        raise SettingsError(f"{name} {path} or its key: {error.strerror or error}") from None
    return context


def _file_words(error: ssl.SSLError, files: Files) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"it does not belong to the key in {files.key}"
    if error.reason in (None, "NO_START_LINE", "BAD_BASE64_DECODE", "NO_CERTIFICATE_OR_CRL_FOUND"):
        return f"no certificate, or no key in {files.key}, can be read: they must be PEM files"
    return f"cannot be used ({error.reason.lower().replace('_', ' ')})"


class _PassphraseWantedError(Exception):
    pass


def _no_passphrase() -> str:
    raise _PassphraseWantedError


class _AtClientError(ssl.SSLError):
    """The rehearsal failed on the dialling side."""


def _rehearse(server: ssl.SSLContext, client: ssl.SSLContext) -> Mapping[str, Any]:
    """Shake hands in memory; return the certificate that the dialling side saw.

    Raises:
        ssl.SSLError: one side refuses the other; ``_AtClientError`` with the cause if the dialler.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialled = server.wrap_bio(to_server, to_client, server_side=True)
    dialler = client.wrap_bio(to_client, to_server, server_side=False)
    waiting = [dialler, dialled]
    for _ in range(_ROUNDS_MAX):
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                if side is dialler:
                    raise _AtClientError(*error.args) from error
                raise
            waiting.remove(side)
        if not waiting:
            break
    assert not waiting
    return dialler.getpeercert() or {}
