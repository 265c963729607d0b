"""Results of commands that were asked for exactly once: what a retry is answered with.

One ``Results`` per session that asked (dissertation §6.3; RIFL, SOSP '15): by serial number, the
answer as it went to the client the first time, from the zxid on. The client says with every command
which of its serials is the lowest that it has no answer to; what is below is forgotten, and a
command below is refused, because nobody can tell any more whether it happened. The session's end,
which is an entry in the log, takes all of it along.

Replicated state: all bounds are constants, equal on all nodes. Knows neither frames nor trees.

Invariants:
    * every serial kept is at or above ``first_unanswered``, which never falls
    * a serial's answer never changes while it is kept
    * ``size_bytes`` and ``total`` are what the results add up to
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from quorate.errors import RemoteProtocolError
from quorate.tree.znode import hash_record

RESULTS_MAX: Final = 1_024
"""Results kept for one session. A command beyond is refused: it did not happen."""

RESULT_BYTES_MAX: Final = 256 * 1024
"""The same in bytes of answers; the last one admitted may exceed it."""

_MASK: Final = 2**64 - 1
_HEAD: Final = Struct(">qqII")  # session, first unanswered serial, number of results, size
_RESULT: Final = Struct(">qII")  # serial, checksum of the command, length of the answer
_DIGEST: Final = Struct(">qQI")


class Result(NamedTuple):
    """One answer.

    Attributes:
        checksum: CRC-32 of the command, to tell a retry from another command.
        answer: zxid, error and body of the reply.
    """

    checksum: int
    answer: bytes


class Results:
    """What one session may still ask again.

    Attributes:
        first_unanswered: what the client said last; serials below are settled.
        by_serial: results by serial.
        size_bytes: of all answers.
        total: sum of the results' hashes, for the digest.
    """

    __slots__ = ("by_serial", "first_unanswered", "size_bytes", "total")

    def __init__(self) -> None:
        self.first_unanswered = 1
        self.by_serial: dict[int, Result] = {}
        self.size_bytes = 0
        self.total = 0

    @property
    def is_full(self) -> bool:
        """Whether the client must first say that it has answers."""
        return len(self.by_serial) >= RESULTS_MAX or self.size_bytes >= RESULT_BYTES_MAX

    def settle(self, first_unanswered: int) -> None:
        """The client has the answers to everything below; forget them."""
        if first_unanswered <= self.first_unanswered:
            return
        self.first_unanswered = first_unanswered
        for serial in [serial for serial in self.by_serial if serial < first_unanswered]:
            result = self.by_serial.pop(serial)
            self.size_bytes -= len(result.answer)
            self.total = (self.total - _hash(serial, result)) & _MASK

    def keep(self, serial: int, result: Result) -> None:
        """Remember the first answer to a command."""
        assert serial >= self.first_unanswered, "a settled command is refused"
        assert serial not in self.by_serial, "a command is done once"
        self.by_serial[serial] = result
        self.size_bytes += len(result.answer)
        self.total = (self.total + _hash(serial, result)) & _MASK

    def digest_record(self) -> bytes:
        """What stands for these results in the digest of a session."""
        return _DIGEST.pack(self.first_unanswered, self.total, len(self.by_serial))


def _hash(serial: int, result: Result) -> int:
    head = _RESULT.pack(serial, result.checksum, len(result.answer))
    return hash_record(head + result.answer)


def encode_results(session_id: int, results: Results) -> bytes:
    """One session's results as a snapshot has them."""
    parts: list[bytes] = []
    for serial, (checksum, answer) in results.by_serial.items():
        parts += (_RESULT.pack(serial, checksum, len(answer)), answer)
    tail = b"".join(parts)
    count = len(results.by_serial)
    return _HEAD.pack(session_id, results.first_unanswered, count, len(tail)) + tail


def decode_results(data: bytes, at: int) -> tuple[int, Results, int]:
    """Read a record at ``data[at:]``: session, results, and where the next one begins.

    Raises:
        struct.error, RemoteProtocolError: the bytes are no such record.
    """
    session_id, first_unanswered, count, size = _HEAD.unpack_from(data, at)
    at += _HEAD.size
    end = at + size
    if first_unanswered < 1 or end > len(data):
        raise RemoteProtocolError("a record of results has impossible numbers")
    results = Results()
    results.first_unanswered = first_unanswered
    for _ in range(count):
        serial, checksum, length = _RESULT.unpack_from(data, at)
        at += _RESULT.size
        stop = at + length
        if stop > end or serial < first_unanswered or serial in results.by_serial:
            raise RemoteProtocolError("a record of results has an impossible result")
        results.keep(serial, Result(checksum, data[at:stop]))
        at = stop
    if at != end:
        raise RemoteProtocolError("a record of results is longer than its results")
    return session_id, results, end
