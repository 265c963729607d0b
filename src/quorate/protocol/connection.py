"""A client's connection as bytes: chunks in, pieces out.

Sans-IO: no socket, no clock, no session. Finds frame boundaries, checks lengths and sorts frames
by what has to happen to them; their bodies are somebody else's. A chunk is the unit of work:
neighbouring writes stay one slice of the bytes the client sent, which goes unchanged to the
leader, into the log and to apply. Sketch: 0.25 µs a frame, a tuple per run of writes or per read.

Invariants:
    * the length of a frame is checked before any of it is kept, so a connection never holds more
      than one frame of ``frame_bytes_max`` plus one chunk
    * pieces come in the order of the bytes; frames before a bad one are still delivered
    * after ``BROKEN``, ``WORD`` or ``CLOSE`` nothing more is delivered
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TypeAlias

from quorate.protocol.four_letter import REFUSED_WORDS, WORDS
from quorate.protocol.handshake import CONNECT_BYTES_MAX, CONNECT_BYTES_MIN
from quorate.protocol.zookeeper import FRAME_SIZE_MAX, READS, REQUEST_HEADER, WRITES, OpCode

_LENGTH = Struct(">i")
_HEAD_BYTES = REQUEST_HEADER.size
_FRAME_BYTES_MIN = 8


class Piece(IntEnum):
    """What a piece of a client's bytes is, by what has to happen to it.

    ``WRITES`` holds one frame or more; all frames keep their length prefix.
    """

    WORD = 0  # four letters; answered and closed
    CONNECT = 1  # the handshake, without its length prefix
    WRITES = 2  # goes through the log
    CLOSE = 3  # closeSession: goes through the log, and nothing follows it
    READ = 4  # answered from the local tree
    PING = 5
    SYNC = 6
    AUTH = 7
    WATCH = 8  # sets or removes watches: answered here, but not by the tree
    UNKNOWN = 9  # an opcode we do not have
    BROKEN = 10  # not the protocol; the bytes are the reason, for people


Pieces: TypeAlias = list[tuple[Piece, bytes]]

_WATCH_REQUESTS = (
    OpCode.SET_WATCHES,
    OpCode.SET_WATCHES2,
    OpCode.ADD_WATCH,
    OpCode.CHECK_WATCHES,
    OpCode.REMOVE_WATCHES,
)
_PIECES: dict[int, Piece] = {
    **dict.fromkeys(map(int, sorted(WRITES)), Piece.WRITES),
    **dict.fromkeys(map(int, sorted(READS)), Piece.READ),
    **dict.fromkeys(map(int, _WATCH_REQUESTS), Piece.WATCH),
    int(OpCode.CLOSE_SESSION): Piece.CLOSE,
    int(OpCode.SYNC): Piece.SYNC,
    int(OpCode.PING): Piece.PING,
    int(OpCode.AUTH): Piece.AUTH,
    int(OpCode.CHECK): Piece.BROKEN,  # only inside a multi; ZooKeeper 3.8 hangs up
}


class ClientConnection:
    """Splits one client's bytes into pieces.

    Args:
        frame_bytes_max: longest frame accepted, without its length prefix.
    """

    __slots__ = ("_connected", "_ended", "_held", "_needed_bytes", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int = FRAME_SIZE_MAX) -> None:
        assert frame_bytes_max >= CONNECT_BYTES_MAX
        self.frame_bytes_max = frame_bytes_max
        self._connected = False
        self._ended = False
        self._held = bytearray()  # the beginning of a frame whose rest has not come
        self._needed_bytes = 4

    def receive(self, chunk: bytes) -> Pieces:
        """Take bytes from the wire, whatever they are; give the pieces they complete."""
        if self._held:
            self._held += chunk
            if len(self._held) < self._needed_bytes:
                return []
            chunk = bytes(self._held)
            self._held.clear()
        if self._ended:
            return []
        pieces: Pieces = []
        position = 0
        if not self._connected:
            position = self._connect(chunk, pieces)
            if not self._connected:
                return pieces
        self._split(chunk, position, pieces)
        return pieces

    @property
    def held_bytes(self) -> int:
        """How many bytes wait for the rest of their frame."""
        return len(self._held)

    # ---- before the handshake ------------------------------------------------------------------

    def _connect(self, chunk: bytes, pieces: Pieces) -> int:
        """Read a word or the handshake; return where the bytes behind it begin."""
        if len(chunk) < 4:
            self._hold(chunk, 0, 4)
            return 0
        word = chunk[:4]
        if word in WORDS or word in REFUSED_WORDS:
            self._end(pieces, Piece.WORD, word)
            return 0
        (length,) = _LENGTH.unpack_from(chunk)
        if not CONNECT_BYTES_MIN <= length <= CONNECT_BYTES_MAX:
            self._break(pieces, f"it opened with a frame of {length} bytes; a handshake has 44-45")
            return 0
        stop: int = 4 + length
        if stop > len(chunk):
            self._hold(chunk, 0, stop)
            return 0
        self._connected = True
        pieces.append((Piece.CONNECT, chunk[4:stop]))
        return stop

    # ---- after the handshake -------------------------------------------------------------------

    def _split(self, data: bytes, position: int, pieces: Pieces) -> None:
        """The hot loop: sort the frames of ``data`` from ``position`` on."""
        end = len(data)
        limit = self.frame_bytes_max
        unpack = REQUEST_HEADER.unpack_from
        kind_of = _PIECES.get
        # Locals: looking a member up on its enum takes as long as unpacking the frame's head.
        writes, reads = Piece.WRITES, Piece.READ
        run = -1  # where the present run of writes begins
        while position + _HEAD_BYTES <= end:
            length, _xid, opcode = unpack(data, position)
            if not _FRAME_BYTES_MIN <= length <= limit:
                break
            stop = position + 4 + length
            if stop > end:
                break
            kind = kind_of(opcode)
            if kind is writes:
                if run < 0:
                    run = position
            else:
                if run >= 0:
                    pieces.append((writes, data[run:position]))
                    run = -1
                if kind is reads:
                    pieces.append((reads, data[position:stop]))
                elif self._split_rare(kind, opcode, data[position:stop], pieces):
                    return
            position = stop
        if run >= 0:
            pieces.append((Piece.WRITES, data[run:position]))
        if position < end:
            self._hold_rest(data, position, pieces)

    def _split_rare(self, kind: Piece | None, opcode: int, frame: bytes, pieces: Pieces) -> bool:
        """Add a frame that is neither write nor read; say whether it was the last."""
        if kind is Piece.BROKEN:
            self._break(pieces, f"opcode {opcode} outside a multi")
            return True
        pieces.append((Piece.UNKNOWN if kind is None else kind, frame))
        if kind is Piece.CLOSE:
            self._end(pieces)
        return self._ended

    def _hold_rest(self, data: bytes, position: int, pieces: Pieces) -> None:
        """Keep an incomplete frame, once its length (if that much has come) is known to be fine."""
        if len(data) - position < 4:
            self._hold(data, position, 4)
            return
        (length,) = _LENGTH.unpack_from(data, position)
        if not _FRAME_BYTES_MIN <= length <= self.frame_bytes_max:
            self._break(
                pieces, f"a frame of {length} bytes; 8 to {self.frame_bytes_max} are allowed"
            )
            return
        self._hold(data, position, 4 + length)

    def _hold(self, data: bytes, position: int, needed_bytes: int) -> None:
        assert not self._held
        assert len(data) - position < needed_bytes
        self._held += data[position:] if position else data
        self._needed_bytes = needed_bytes

    def _break(self, pieces: Pieces, reason: str) -> None:
        self._end(pieces, Piece.BROKEN, reason.encode())

    def _end(self, pieces: Pieces, kind: Piece | None = None, piece: bytes = b"") -> None:
        self._ended = True
        assert not self._held
        if kind is not None:
            pieces.append((kind, piece))
