"""Talks to systemd: ready, stopping, what it is doing, and that it is alive (sd_notify(3)).

A few datagrams to the socket named in ``NOTIFY_SOCKET``; without one nothing is sent. With
``WatchdogSec`` systemd ends and restarts a process that does not report for that long: whoever
calls ``alive`` does so only when progress was made, from the loop that makes it.

Invariant: nothing here can stop or delay a node: a socket that is full or gone is no error.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

_STATUS_CHARACTERS_MAX = 200


class ServiceManager:
    """The service manager that started this process, if one did.

    Args:
        environ: the process's environment.
        pid: the process's id: a watchdog is meant for one process.
    """

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        self._socket: socket.socket | None = None
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        if self._address:
            flags = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_UNIX, flags)
        self.watchdog_seconds = _watchdog_seconds(environ, pid) if self._socket else 0.0
        self._status = ""

    def ready(self) -> None:
        """The node listens; what depends on it may start."""
        self._send("READY=1")

    def stopping(self) -> None:
        """A clean stop has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Progress was made since the last time."""
        if self.watchdog_seconds:
            self._send("WATCHDOG=1")

    def status(self, words: str) -> None:
        """What ``systemctl status`` shows; sent when it changed."""
        words = words[:_STATUS_CHARACTERS_MAX].replace("\n", " ")
        if words != self._status:
            self._status = words
            self._send(f"STATUS={words}")

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            return  # the manager is busy or gone; it will miss the next report too, and act


def _watchdog_seconds(environ: Mapping[str, str], pid: int) -> float:
    """How long the manager waits for a report; 0: it does not wait for any."""
    meant_for, microseconds = environ.get("WATCHDOG_PID", ""), environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or (meant_for and meant_for != str(pid)):
        return 0.0
    return int(microseconds) / 1_000_000
