"""What clients do while nodes die, and how it is judged afterwards.

``FailoverWriter`` writes one at a time through one node and measures the longest gap between
successes. ``CrashLedger`` keeps what was acknowledged and what is in doubt, and compares it with
what a restarted cluster holds.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NodeExistsError

logging.getLogger("kazoo").setLevel(logging.CRITICAL)
_WINDOW = 16


@contextlib.contextmanager
def client(servers: str, timeout: float = 10.0) -> Iterator[KazooClient]:
    """A connected kazoo client, closed at the end."""
    kazoo = KazooClient(hosts=servers, timeout=timeout)
    kazoo.start(timeout=15)
    try:
        yield kazoo
    finally:
        kazoo.stop()
        kazoo.close()


class FailoverWriter:
    """Sets one znode again and again through one server; notes gaps and every exception."""

    def __init__(self, server: str, path: str = "/failover") -> None:
        self._kazoo = KazooClient(hosts=server, timeout=10.0)
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="failover-writer")
        self._gap_seconds = 0.0
        self.writes = 0
        self.errors: list[str] = []

    def __enter__(self) -> Self:
        self._kazoo.start(timeout=15)
        self._kazoo.ensure_path(self._path)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self._kazoo.stop()
        self._kazoo.close()

    def reset(self) -> None:
        """Forget the gaps so far."""
        self._gap_seconds = 0.0

    @property
    def longest_gap_ms(self) -> float:
        return self._gap_seconds * 1000

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stop.is_set():
            try:
                self._kazoo.set(self._path, b"%d" % self.writes)
            except KazooException as error:
                self.errors.append(repr(error))
                continue
            now = time.monotonic()
            self._gap_seconds = max(self._gap_seconds, now - last)
            last = now
            self.writes += 1


@dataclass
class Writer:
    """What one writer knows: acknowledged and doubtful creates, and its counter's sets."""

    name: str
    created: dict[bytes, str] = field(default_factory=dict)  # payload -> acknowledged path
    doubtful: set[bytes] = field(default_factory=set)
    sets_acknowledged: int = 0
    sets_doubtful: int = 0
    version: int = 0
    serial: int = 0
    problems: list[str] = field(default_factory=list)


class CrashLedger:
    """Sequential creates and versioned sets under crashes: counted, then compared.

    Every create carries a payload that no other create has. Every set names the version that it
    expects, so one that is applied twice shows as a version too high.
    """

    def __init__(self, writers: int) -> None:
        self.writers = [Writer(f"w{number}") for number in range(writers)]

    def prepare(self, servers: str) -> None:
        """Make the znodes that writers use."""
        with client(servers) as kazoo:
            kazoo.ensure_path("/crash/creates")
            for writer in self.writers:
                with contextlib.suppress(NodeExistsError):
                    kazoo.create(f"/crash/{writer.name}", b"0")

    def write_until(self, stop: threading.Event, servers: list[str]) -> list[threading.Thread]:
        """Start one thread per writer; each ends at ``stop`` or when its connection breaks."""
        threads = [
            threading.Thread(target=_write, args=(writer, servers[i % len(servers)], stop))
            for i, writer in enumerate(self.writers)
        ]
        for thread in threads:
            thread.start()
        return threads

    def check(self, servers: str) -> list[str]:
        """Compare with what the cluster holds; settles what was in doubt. Returns the problems."""
        problems: list[str] = []
        with client(servers) as kazoo:
            kazoo.sync("/crash")
            found: dict[bytes, list[str]] = {}
            names = kazoo.get_children("/crash/creates")
            pending = [(name, kazoo.get_async(f"/crash/creates/{name}")) for name in names]
            for name, answer in pending:
                found.setdefault(answer.get(10)[0], []).append(f"/crash/creates/{name}")
            for writer in self.writers:
                problems += writer.problems
                problems += _check_creates(writer, found)
                data, stat = kazoo.get(f"/crash/{writer.name}")
                problems += _check_sets(writer, data, stat.version)
            known = {payload for writer in self.writers for payload in writer.created}
            problems += [f"{payload!r} was never written" for payload in set(found) - known]
        return problems

    @property
    def acknowledged(self) -> int:
        return sum(len(writer.created) + writer.sets_acknowledged for writer in self.writers)


def _write(writer: Writer, server: str, stop: threading.Event) -> None:
    """Keep a window of creates and sets in flight."""
    kazoo = KazooClient(hosts=server, timeout=10.0)
    window: deque[tuple[bytes | None, Any]] = deque()
    try:
        kazoo.start(timeout=15)
        while not stop.is_set() and kazoo.connected:
            writer.serial += 1
            if writer.serial % 2:
                payload = b"%s-%d" % (writer.name.encode(), writer.serial)
                asked = kazoo.create_async("/crash/creates/n-", payload, sequence=True)
                window.append((payload, asked))
            else:
                version = writer.version + sum(1 for kept, _ in window if kept is None)
                asked = kazoo.set_async(f"/crash/{writer.name}", b"%d" % (version + 1), version)
                window.append((None, asked))
            if len(window) >= _WINDOW:
                _settle(writer, *window.popleft())
    except (KazooException, kazoo.handler.timeout_exception, ConnectionError) as error:
        if "BadVersion" in repr(error):
            writer.problems.append(f"{writer.name}: a set was applied that nobody sent")
    finally:
        for kept, asked in window:
            with contextlib.suppress(KazooException, kazoo.handler.timeout_exception):
                _settle(writer, kept, asked, stopped=True)
        kazoo.stop()
        kazoo.close()


def _settle(writer: Writer, payload: bytes | None, asked: Any, *, stopped: bool = False) -> None:
    """Wait for one answer and note whether it was acknowledged or is in doubt."""
    try:
        answer = asked.get(timeout=2 if stopped else 10)
    except BaseException:
        if payload is not None:
            writer.doubtful.add(payload)
        else:
            writer.sets_doubtful += 1
        raise
    if payload is not None:
        writer.created[payload] = answer
    else:
        writer.sets_acknowledged += 1
        writer.version += 1


def _check_creates(writer: Writer, found: dict[bytes, list[str]]) -> list[str]:
    problems = []
    for payload, path in writer.created.items():
        if found.get(payload, []) != [path]:
            problems.append(f"{payload!r} acknowledged as {path}, found {found.get(payload)}")
    for payload in sorted(writer.doubtful):
        paths = found.get(payload, [])
        if len(paths) > 1:
            problems.append(f"{payload!r} was applied {len(paths)} times: {paths}")
        if paths:
            writer.created[payload] = paths[0]
    writer.doubtful.clear()
    return problems


def _check_sets(writer: Writer, data: bytes, version: int) -> list[str]:
    problems = []
    most = writer.version + writer.sets_doubtful
    if not writer.version <= version <= most:
        problems.append(
            f"{writer.name}: version {version}, but {writer.version} sets were acknowledged "
            f"and {writer.sets_doubtful} are in doubt"
        )
    if data != b"%d" % version:
        problems.append(f"{writer.name}: version {version} holds {data!r}")
    writer.version, writer.sets_doubtful = version, 0
    return problems
