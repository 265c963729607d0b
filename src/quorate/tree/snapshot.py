"""Snapshots: the tree at one instant, written out while it goes on changing.

``Capture`` remembers which znodes and sessions existed at the start (their keys: the only work
done at once, 15 ms for a million) and walks them in slices of about 64 KiB, half a ms each. Whoever
changes or removes one first hands it to ``keep_...``, and its record as it was is kept aside;
znodes made later are not among the keys. So the result is exact, and a write pays for a snapshot
only at the first touch of a znode.

Rejected: knowing which keys the walk has passed, to keep fewer records. It takes a dict of all keys
instead of a list and so a stop at the start that is ten times as long. Records kept never outnumber
the znodes at the start either way.

Format, version 1, all big-endian. A snapshot is a sequence of blocks::

    block      = u32 size of payload, u32 CRC-32 of payload, payload
    payload    = u8 kind, content
    kind 1     = "quorate tree", u16 version, i64 zxid              exactly one, first
    kind 2     = session records (``digest.encode_session``)        any number
    kind 3     = znode records (``znode.encode_record``)            any number
    kind 5     = u32 sessions that have results, and records of     any number, before kind 4;
                 some of them (``results.encode_results``)          none in older snapshots
    kind 4     = u64 znodes, u64 sessions                           exactly one, last

Blocks hold whole records. The counts at the end tell a truncated snapshot from a whole one; a
snapshot says nothing about watches, which are local.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from struct import Struct
from typing import Final, Generic, TypeVar
from zlib import crc32

from quorate.tree.digest import encode_session
from quorate.tree.results import encode_results
from quorate.tree.sessions import Session
from quorate.tree.znode import Znode, encode_record

CHUNK_SIZE: Final = 64 * 1024
"""Bytes a block grows to before it is handed out; a single znode may make one larger."""

BLOCK_SIZE_MAX: Final = 64 * 1024 * 1024
"""A block that says it is larger is damaged."""

MAGIC: Final = b"quorate tree"
VERSION: Final = 1

KIND_HEAD: Final = 1
KIND_SESSIONS: Final = 2
KIND_ZNODES: Final = 3
KIND_END: Final = 4
KIND_RESULTS: Final = 5

BLOCK: Final = Struct(">II")
HEAD: Final = Struct(">12sHq")
END: Final = Struct(">QQ")
RESULTS_COUNT: Final = Struct(">I")

Key = TypeVar("Key", bytes, int)
Value = TypeVar("Value", Znode, Session)


class _Table(Generic[Key, Value]):
    """The keys of one dict at an instant, and records kept aside for the walk."""

    __slots__ = ("_encode", "_keys", "_live", "kept")

    def __init__(self, live: dict[Key, Value], encode: Callable[[Key, Value], bytes]) -> None:
        self._live: dict[Key, Value] = live
        self._encode: Callable[[Key, Value], bytes] = encode
        self._keys: list[Key] = list(live)
        self.kept: dict[Key, bytes] = {}

    def keep(self, key: Key, value: Value) -> None:
        if key not in self.kept:
            self.kept[key] = self._encode(key, value)

    def walk(self) -> Iterator[bytes]:
        kept = self.kept
        for key in self._keys:
            record = kept.get(key)
            if record is None:
                record = self._encode(key, self._live[key])
            else:
                kept[key] = b""  # written: only the fact that it was kept is still needed
            yield record


class Capture:
    """A snapshot under way: an iterator of its chunks. ``close`` gives it up.

    Args:
        znodes, sessions, zxid: the state to capture, as it is now.
        on_done: called once, when the last chunk was handed out or the capture was given up.
    """

    def __init__(
        self,
        znodes: dict[bytes, Znode],
        sessions: dict[int, Session],
        zxid: int,
        on_done: Callable[[], None],
    ) -> None:
        self._zxid = zxid
        self._znodes = _Table(znodes, encode_record)
        self._sessions = _Table(sessions, lambda _, session: encode_session(session))
        with_results = {key: each for key, each in sessions.items() if each.results is not None}
        self._with_results = with_results
        self._results = _Table(with_results, _encode_results)
        self._results_head = RESULTS_COUNT.pack(len(with_results))
        self._counts = (len(znodes), len(sessions))
        self._on_done: Callable[[], None] | None = on_done
        self._chunks: Generator[bytes, None, None] = self._walk()

    def keep_znode(self, path: bytes, znode: Znode) -> None:
        """``znode`` is about to change or go: keep what the snapshot needs of it."""
        if znode.czxid <= self._zxid:
            self._znodes.keep(path, znode)

    def keep_session(self, session: Session) -> None:
        """``session`` is about to change or go."""
        self._sessions.keep(session.session_id, session)
        if session.session_id in self._with_results:
            self._results.keep(session.session_id, session)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except StopIteration:
            self.close()
            raise

    def close(self) -> None:
        """Stop; writes pay nothing for this snapshot any more. Harmless when already done."""
        self._chunks.close()
        if self._on_done is not None:
            self._on_done()
            self._on_done = None

    def _walk(self) -> Generator[bytes, None, None]:
        yield _block(KIND_HEAD, [HEAD.pack(MAGIC, VERSION, self._zxid)])
        yield from _blocks(KIND_SESSIONS, self._sessions.walk())
        yield from _blocks(KIND_RESULTS, self._results.walk(), self._results_head)
        yield from _blocks(KIND_ZNODES, self._znodes.walk())
        yield _block(KIND_END, [END.pack(*self._counts)])


def _block(kind: int, records: list[bytes]) -> bytes:
    payload = bytes((kind,)) + b"".join(records)
    return BLOCK.pack(len(payload), crc32(payload)) + payload


def _encode_results(session_id: int, session: Session) -> bytes:
    assert session.results is not None
    return encode_results(session_id, session.results)


def _blocks(kind: int, records: Iterator[bytes], head: bytes = b"") -> Iterator[bytes]:
    """Gather records into blocks of about ``CHUNK_SIZE``, each of which begins with ``head``."""
    gathered: list[bytes] = []
    size = 0
    for record in records:
        gathered.append(record)
        size += len(record)
        if size >= CHUNK_SIZE:
            yield _block(kind, [head, *gathered])
            gathered = []
            size = 0
    if gathered:
        yield _block(kind, [head, *gathered])
