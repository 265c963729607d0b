"""Links between nodes: bytes in, (channel, payload) out.

Sans-IO, like ``connection.py``: no socket, no clock. Knows frames and the hello that opens a link;
what travels on a channel is its user's business.

    frame    length u32 (channel and payload) | crc32 u32 (of the same) | channel u8 | payload
    hello    the first frame of either side, on channel 0: who speaks, and which cluster it means

Invariants:
    * a length is checked against its bound before a byte of the frame is kept; until the hello
      has come the bound is a few hundred bytes, because anybody may connect
    * a frame whose checksum is wrong is never delivered: the link is closed and opened anew
    * after an error a ``PeerConnection`` delivers nothing more
"""

from __future__ import annotations

import struct
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from quorate.errors import RemoteProtocolError

HELLO_CHANNEL = 0
PEER_FRAME_BYTES_MAX = 64 << 20
HELLO_BYTES_MAX = 640
ASKER_FRAME_BYTES_MAX = 64 << 10
PEER_PROTOCOL_VERSION = 2

_MAGIC = b"QUORATE\n"
_HEAD = Struct(">IIB")
_HELLO = Struct(">8sHIQQ")
_NAME_LENGTH = Struct(">H")
_NAME_BYTES_MAX = 128
_ADDRESS_BYTES_MAX = 262  # a host name of 255 bytes, a colon and a port
# The checksum starts with the channel, which is known before the payload: no copy is needed.
_CHANNEL_CRC = tuple(crc32(bytes((channel,))) for channel in range(256))


class Hello(NamedTuple):
    """Who speaks on a link. Both sides send it first.

    Attributes:
        cluster_id: the cluster this node belongs to; links never cross clusters. Empty: whoever
            speaks belongs to none (yet) and only asks; it is never linked.
        node_id: the node that speaks, at least 1.
        directory_id: its data directory; two directories with one node id are an operator's error.
        incarnation: which start of that directory.
        boot_nonce: drawn at start; tells two processes apart that claim to be the same node.
        address: where this node can be dialled, ``HOST:PORT``; empty: nowhere. A node that is
            reached by one it has not heard of yet (it was away while members changed) answers
            there.
        version: of this protocol.
    """

    cluster_id: str
    node_id: int
    directory_id: str
    incarnation: int
    boot_nonce: int
    address: str = ""
    version: int = PEER_PROTOCOL_VERSION

    def encode(self) -> bytes:
        """Give the hello as the payload of a frame on ``HELLO_CHANNEL``."""
        cluster, directory = self.cluster_id.encode(), self.directory_id.encode()
        address = self.address.encode()
        assert max(len(cluster), len(directory)) <= _NAME_BYTES_MAX
        assert len(address) <= _ADDRESS_BYTES_MAX
        head = _HELLO.pack(_MAGIC, self.version, self.node_id, self.incarnation, self.boot_nonce)
        return b"".join(
            (
                head,
                _NAME_LENGTH.pack(len(cluster)),
                cluster,
                _NAME_LENGTH.pack(len(directory)),
                directory,
                _NAME_LENGTH.pack(len(address)),
                address,
            )
        )

    @classmethod
    def decode(cls, payload: bytes) -> Hello:
        """Read a hello.

        Raises:
            RemoteProtocolError: whoever connected is no node of ours, or of another version.
        """
        if not payload.startswith(_MAGIC):
            raise RemoteProtocolError(
                "the link did not open with a hello: is this port given to something else?"
            )
        try:
            _magic, version, node_id, incarnation, nonce = _HELLO.unpack_from(payload)
            if version != PEER_PROTOCOL_VERSION:
                raise RemoteProtocolError(
                    f"node {node_id} speaks version {version} of the peer protocol, this node "
                    f"{PEER_PROTOCOL_VERSION}: bring both to releases that share one"
                )
            cluster, position = _read_name(payload, _HELLO.size)
            directory, position = _read_name(payload, position)
            address, position = _read_name(payload, position, _ADDRESS_BYTES_MAX)
        except (struct.error, UnicodeDecodeError):
            raise RemoteProtocolError("a hello with damaged fields") from None
        if position != len(payload) or node_id < 1:
            raise RemoteProtocolError("a hello with damaged fields")
        return cls(cluster, node_id, directory, incarnation, nonce, address, version)


def _read_name(payload: bytes, position: int, bytes_max: int = _NAME_BYTES_MAX) -> tuple[str, int]:
    (length,) = _NAME_LENGTH.unpack_from(payload, position)
    position += _NAME_LENGTH.size
    end = position + length
    if length > bytes_max or end > len(payload):
        raise RemoteProtocolError("a hello with damaged fields")
    return payload[position:end].decode(), end


def encode_frame(channel: int, payload: bytes) -> list[bytes]:
    """Frame a payload; two buffers for one vectored write, so that the payload is not copied."""
    assert len(payload) < PEER_FRAME_BYTES_MAX
    return [_HEAD.pack(len(payload) + 1, crc32(payload, _CHANNEL_CRC[channel]), channel), payload]


class PeerConnection:
    """The receiving half of one link between nodes.

    Args:
        frame_bytes_max: longest frame accepted once the hello has come.
    """

    __slots__ = ("_held", "_held_bytes", "_limit", "_needed_bytes", "frame_bytes_max", "hello")

    def __init__(self, frame_bytes_max: int = PEER_FRAME_BYTES_MAX) -> None:
        assert frame_bytes_max >= HELLO_BYTES_MAX
        self.frame_bytes_max = frame_bytes_max
        self.hello: Hello | None = None
        self._limit = HELLO_BYTES_MAX
        self._held: list[bytes] = []  # the beginning of a frame whose rest has not come
        self._held_bytes = 0
        self._needed_bytes = _HEAD.size

    def receive(self, chunk: bytes) -> list[tuple[int, bytes]]:
        """Take bytes from the wire; give the frames they complete. The hello is kept, not given.

        Raises:
            RemoteProtocolError: the bytes are damaged or foreign. Nothing of this chunk was
                delivered; close the link.
        """
        if self._held_bytes + len(chunk) < self._needed_bytes:
            if chunk:
                self._held.append(chunk)
                self._held_bytes += len(chunk)
            return []
        if self._held:
            self._held.append(chunk)
            chunk = b"".join(self._held)
            self._held = []
            self._held_bytes = 0
        try:
            return self._split(chunk)
        except RemoteProtocolError:
            self._limit = 0  # no frame has this length: the link stays closed for good
            raise

    def _split(self, data: bytes) -> list[tuple[int, bytes]]:
        frames: list[tuple[int, bytes]] = []
        position, end = 0, len(data)
        needed = _HEAD.size
        while end - position >= _HEAD.size:
            length, checksum, channel = _HEAD.unpack_from(data, position)
            if not 1 <= length <= self._limit:
                raise RemoteProtocolError(f"a peer frame of {length} bytes; at most {self._limit}")
            stop = position + 8 + length
            if stop > end:
                needed = 8 + length
                break
            payload = data[position + _HEAD.size : stop]
            if crc32(payload, _CHANNEL_CRC[channel]) != checksum:
                raise RemoteProtocolError("a peer frame was damaged on the way (wrong checksum)")
            if self.hello is None:
                self._open(channel, payload)
            elif channel == HELLO_CHANNEL:
                raise RemoteProtocolError("a second hello on one link")
            else:
                frames.append((channel, payload))
            position = stop
        if position < end:
            self._held.append(data[position:])
            self._held_bytes = end - position
        self._needed_bytes = needed
        assert self._held_bytes < needed
        return frames

    def _open(self, channel: int, payload: bytes) -> None:
        if channel != HELLO_CHANNEL:
            raise RemoteProtocolError("the link did not open with a hello")
        self.hello = Hello.decode(payload)
        self._limit = self.frame_bytes_max
        if not self.hello.cluster_id:
            self._limit = min(self._limit, ASKER_FRAME_BYTES_MAX)
