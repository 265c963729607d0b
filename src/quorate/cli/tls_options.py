"""The options with which commands reach nodes that speak TLS, and what is made of them."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from quorate.errors import UsageError

_F = TypeVar("_F", bound=Callable[..., Any])
_FILE = click.Path(dir_okay=False, path_type=Path)


def tls_options(command: _F, callback: Callable[..., Any] | None = None) -> _F:
    """Add ``--tls-ca``, ``--tls-cert`` and ``--tls-key``, for ``client_context``.

    With a callback they go to it, and not to the command.
    """
    for name, words in (
        ("--tls-key", "The key of --tls-cert (QUORATE_TLS_KEY)."),
        ("--tls-cert", "Certificate to show, where nodes want one (QUORATE_TLS_CERT)."),
        ("--tls-ca", "Speak TLS, and believe these authorities (QUORATE_TLS_CA)."),
    ):
        variable = "QUORATE_" + name[2:].upper().replace("-", "_")
        command = click.option(
            name,
            type=_FILE,
            envvar=variable,
            metavar="FILE",
            help=words,
            callback=callback,
            expose_value=callback is None,
        )(command)
    return command


def client_context(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Make what a connection to a node needs; None: no TLS.

    Raises:
        UsageError: the files do not fit together or cannot be used.
    """
    if (cert is None) != (key is None):
        raise UsageError("--tls-cert and --tls-key belong together: give both or none")
    if ca is None:
        if cert is not None:
            raise UsageError("--tls-cert needs --tls-ca: whose certificates are to be believed?")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # ``ask.py`` does: nodes may be named by their number
    try:
        context.load_verify_locations(ca)
        if cert is not None:
            context.load_cert_chain(cert, key, password=_no_passphrase)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        words = getattr(error, "strerror", None) or error
        raise UsageError(f"--tls-ca {ca} or --tls-cert {cert} cannot be used: {words}") from None
    return context


def _no_passphrase() -> str:
    raise ValueError("keys with a passphrase are not taken")
