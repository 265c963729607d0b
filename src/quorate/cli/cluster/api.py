"""Talking to the admin API from commands: blocking, with time limits, the first node that answers.

Any node takes any request and passes it on, so one that can be reached is enough.
"""

from __future__ import annotations

import errno
import http.client
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from quorate.cli.ask import connect
from quorate.cli.tls_options import client_context, tls_options
from quorate.errors import DidNotHappen, NoQuorum, OutcomeUnknown, SettingsError, UsageError
from quorate.node.units import Address, parse_addresses

DEFAULT_ADMIN = "127.0.0.1:2381,127.0.0.1:2382,127.0.0.1:2383"
_ASK_SECONDS = 5.0
_CHANGE_SECONDS = 30.0
_ANSWER_BYTES_MAX = 1 << 20

_F = TypeVar("_F", bound=Callable[..., Any])
_TLS = "quorate.cli.cluster.tls"


def admin_option(command: _F) -> _F:
    """Add ``--admin``, and the options for TLS, which ``Cluster`` finds by itself."""
    return click.option(
        "--admin",
        envvar="QUORATE_ADMIN",
        default=DEFAULT_ADMIN,
        show_default=True,
        metavar="HOST:PORT,...",
        help="Admin addresses of nodes; one that answers is enough (QUORATE_ADMIN).",
    )(tls_options(command, callback=_remember))


def _remember(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    ctx.meta.setdefault(_TLS, {})[parameter.name] = value


def _context() -> ssl.SSLContext | None:
    ctx = click.get_current_context(silent=True)
    files = ctx.meta.get(_TLS, {}) if ctx is not None else {}
    return client_context(files.get("tls_ca"), files.get("tls_cert"), files.get("tls_key"))


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object and nothing else."
)


class Refused(DidNotHappen):
    """The cluster says no; the message says why."""


class Cluster:
    """The nodes that can be asked.

    Args:
        admin: addresses as the user wrote them.
    """

    def __init__(self, admin: str) -> None:
        self.context = _context()
        try:
            self.addresses = parse_addresses(admin)
        except SettingsError as error:
            raise UsageError(f"--admin: {error}") from None

    def page(self) -> dict[str, Any]:
        """The leader's picture, from whichever node answers.

        Raises:
            NoQuorum: no node answers, or none knows a leader.
        """
        said = []
        for address in self.addresses:
            try:
                code, content = _request(
                    address, "GET", "/cluster", None, _ASK_SECONDS, self.context
                )
            except OSError as error:
                said.append(f"{address}: {error.strerror or error}")
                continue
            if code == 200:
                return content
            said.append(f"{address}: {content.get('words', code)}")
        raise NoQuorum("; ".join(said))

    def post(self, path: str, content: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Ask for something to be done.

        Raises:
            Refused: it did not happen; the message says why.
            NoQuorum: nobody could be asked, or nobody leads; it did not happen.
            OutcomeUnknown: it may or may not have happened.
        """
        said = []
        for address in self.addresses:
            try:
                code, answer = _request(
                    address, "POST", path, content, _CHANGE_SECONDS, self.context
                )
            except ConnectionRefusedError as error:
                said.append(f"{address}: {error.strerror}")
                continue
            except OSError as error:
                raise OutcomeUnknown(
                    f"{address} was asked and did not answer ({error}): look at "
                    "`quorate cluster status` before you ask again"
                ) from None
            words = str(answer.get("words", f"code {code}"))
            if code in (200, 202):
                return code, answer
            if code == 504:
                raise OutcomeUnknown(words)
            if code not in (403, 404, 503) or (code == 404 and "words" in answer):
                raise Refused(words)
            said.append(f"{address}: {words}")
        raise NoQuorum("; ".join(said))


def _request(
    address: Address,
    method: str,
    path: str,
    content: dict[str, Any] | None,
    seconds: float,
    context: ssl.SSLContext | None,
) -> tuple[int, dict[str, Any]]:
    """One request; code and JSON object."""
    connection = http.client.HTTPConnection(*address, timeout=seconds)
    if context is not None:
        try:
            connection.sock = connect(address, seconds, context)
        except ssl.SSLError as error:  # before anything was asked
            words = f"TLS: {error.reason or error}"
            raise ConnectionRefusedError(errno.ECONNREFUSED, words) from None
    body = None if content is None else json.dumps(content)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        found = json.loads(response.read(_ANSWER_BYTES_MAX))
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP answer: {error!r}") from None
    except ValueError:
        return response.status, {}
    finally:
        connection.close()
    return response.status, found if isinstance(found, dict) else {}
