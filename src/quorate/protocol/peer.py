"""Links between nodes: bytes in, (channel, payload) out.

Sans-IO, like ``connection.py``: no socket, no clock. Knows frames and the hello that opens a link;
what travels on a channel is its user's business.

    frame    length u32 (channel and payload) | crc32 u32 (of the same) | channel u8 | payload
    hello    the first frame of either side, on channel 0: who speaks, and which cluster it means

    hello = magic 8 | highest version u16 | node u32 | incarnation u64 | nonce u64
            | cluster: length u16, text | directory: length u16, text | fields
    field = tag u8 | length u16 | bytes       1: lowest version u16    2: address, text

The hello's own layout never changes again, because it is read before anything is agreed: later
releases add fields, and fields that are not known are passed over. Each side says which versions
of everything else it speaks, and both use the highest that they share (``common_version``).

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
HELLO_BYTES_MAX = 1024
ASKER_FRAME_BYTES_MAX = 64 << 10
PEER_PROTOCOL_VERSION = 2
"""The newest version that this release speaks. History: docs/compatibility.md."""
PEER_PROTOCOL_VERSION_MIN = 2
"""The oldest one."""

_MAGIC = b"QUORATE\n"
_TLS_RECORD = 0x16  # as a frame's first byte it would mean hundreds of megabytes
_HEAD = Struct(">IIB")
_HELLO = Struct(">8sHIQQ")
_NAME_LENGTH = Struct(">H")
_NAME_BYTES_MAX = 128
_ADDRESS_BYTES_MAX = 262  # a host name of 255 bytes, a colon and a port
_FIELD = Struct(">BH")
_VERSION = Struct(">H")
_LOWEST_VERSION, _ADDRESS = 1, 2
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
        version: the highest version of this protocol that it speaks.
        version_min: the lowest.
    """

    cluster_id: str
    node_id: int
    directory_id: str
    incarnation: int
    boot_nonce: int
    address: str = ""
    version: int = PEER_PROTOCOL_VERSION
    version_min: int = PEER_PROTOCOL_VERSION_MIN

    @property
    def versions(self) -> str:
        """The versions it speaks, for people."""
        if self.version == self.version_min:
            return f"version {self.version}"
        return f"versions {self.version_min} to {self.version}"

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
                _FIELD.pack(_LOWEST_VERSION, _VERSION.size),
                _VERSION.pack(self.version_min),
                *((_FIELD.pack(_ADDRESS, len(address)), address) if address else ()),
            )
        )

    @classmethod
    def decode(cls, payload: bytes) -> Hello:
        """Read a hello, of whatever version its sender is.

        Raises:
            RemoteProtocolError: whoever connected is no node of ours.
        """
        if not payload.startswith(_MAGIC):
            raise RemoteProtocolError(
                "the link did not open with a hello: is this port given to something else?"
            )
        try:
            _magic, version, node_id, incarnation, nonce = _HELLO.unpack_from(payload)
            cluster, position = _read_name(payload, _HELLO.size)
            directory, position = _read_name(payload, position)
            fields = _read_fields(payload, position)
            address = fields.get(_ADDRESS, b"").decode()
            # Whoever does not say is of before there were ranges, and speaks one version.
            lowest = fields.get(_LOWEST_VERSION, _VERSION.pack(version))
            (version_min,) = _VERSION.unpack(lowest)
        except (struct.error, UnicodeDecodeError):
            raise RemoteProtocolError("a hello with damaged fields") from None
        if node_id < 1 or version_min > version or len(address) > _ADDRESS_BYTES_MAX:
            raise RemoteProtocolError("a hello with damaged fields")
        return cls(cluster, node_id, directory, incarnation, nonce, address, version, version_min)


def common_version(one: Hello, other: Hello) -> int | None:
    """The highest version that both speak; None if there is none."""
    version = min(one.version, other.version)
    return version if version >= max(one.version_min, other.version_min) else None


def _read_fields(payload: bytes, position: int) -> dict[int, bytes]:
    """The fields at the end of a hello, by tag; each tag once."""
    fields: dict[int, bytes] = {}
    while position < len(payload):
        tag, length = _FIELD.unpack_from(payload, position)
        position += _FIELD.size
        if position + length > len(payload) or tag in fields:
            raise RemoteProtocolError("a hello with damaged fields")
        fields[tag] = payload[position : position + length]
        position += length
    return fields


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
                if self.hello is None and data[position] == _TLS_RECORD:
                    raise RemoteProtocolError(
                        "it speaks TLS, and --peer-tls is off here: give all nodes the same setting"
                    )
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
