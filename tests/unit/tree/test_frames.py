"""Frames that no correct client sends: an answer, never an exception, never a big allocation."""

from __future__ import annotations

import tracemalloc

import pytest

from quorate.errors import RemoteProtocolError
from quorate.protocol import zookeeper_client as wire
from quorate.protocol.jute import INT
from quorate.protocol.zookeeper import WRITES, ErrorCode, OpCode, encode_request

MARSHALLING = ErrorCode.MARSHALLING_ERROR
HUGE = INT.pack(2**31 - 1)

PARTS = [
    wire.create(b"/p", b"data"),
    wire.create(b"/p", b"data", acl=wire.encode_acl((31, "ip", "10.0.0.1"))),
    wire.create(b"/p", b"data", opcode=OpCode.CREATE2),
    wire.create(b"/p", b"data", 5, ttl_ms=5),
    wire.set_data(b"/there", b"data"),
    wire.delete(b"/there"),
    wire.set_acl(b"/there", wire.OPEN_ACL_WIRE),
    wire.multi([wire.create(b"/p"), wire.set_data(b"/there", b"x")]),
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: OpCode(part.opcode).name)
def test_every_truncation_is_a_marshalling_error(client, part):
    """A body cut anywhere is refused, also when the next frame's bytes would complete it."""
    client.create(b"/there")
    following = wire.set_data(b"/there", b"after")
    for size in range(len(part.body)):
        cut = wire.Part(part.opcode, part.body[:size])
        replies = client.send(cut, following)
        assert [reply.error for reply in replies] == [MARSHALLING, 0], size
        assert client.data(b"/there") == b"after"
        assert client.stat(b"/p") is None


@pytest.mark.parametrize("part", PARTS, ids=lambda part: OpCode(part.opcode).name)
def test_trailing_bytes_are_ignored(client, part):
    """As in ZooKeeper: what a newer client appends does no harm."""
    client.create(b"/there")
    assert client.error(wire.Part(part.opcode, part.body + b"extra")) == 0


@pytest.mark.parametrize(
    "part",
    [
        wire.Part(OpCode.SET_DATA, HUGE),
        wire.Part(OpCode.SET_DATA, INT.pack(6) + b"/there" + HUGE),
        wire.Part(OpCode.SET_DATA, INT.pack(6) + b"/there" + INT.pack(-2) + INT.pack(-1)),
        wire.Part(OpCode.SET_DATA, INT.pack(-1) + INT.pack(-1) + INT.pack(-1)),
        wire.Part(OpCode.SET_DATA, INT.pack(-16) + bytes(64)),
        wire.Part(OpCode.CREATE, INT.pack(-1) + bytes(64)),
        wire.Part(OpCode.CREATE, INT.pack(-40) + bytes(64)),
        wire.Part(
            OpCode.CREATE, INT.pack(2) + b"/p" + INT.pack(-2) + wire.OPEN_ACL_WIRE + bytes(4)
        ),
        wire.Part(OpCode.CREATE, INT.pack(2) + b"/p" + INT.pack(0) + HUGE + bytes(64)),
        wire.Part(OpCode.CREATE, INT.pack(2) + b"/p" + INT.pack(0) + INT.pack(-2) + bytes(64)),
        wire.Part(OpCode.DELETE, INT.pack(-1) + INT.pack(-1)),
        wire.Part(OpCode.DELETE, HUGE + bytes(9)),
        wire.Part(OpCode.SET_ACL, INT.pack(6) + b"/there" + HUGE + bytes(90)),
        wire.Part(OpCode.MULTI, INT.pack(1) + b"\0" + HUGE + HUGE + bytes(40)),
    ],
)
def test_absurd_lengths_cost_nothing(client, part):
    """Negative and enormous lengths and counts are refused before anything is allocated."""
    client.create(b"/there")
    tracemalloc.start()
    error = client.error(part)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error == MARSHALLING
    assert peak < 1_000_000


@pytest.mark.parametrize("frames", [b"", b"\0", bytes(11), INT.pack(2**31 - 1) + bytes(20)])
def test_bytes_that_are_no_whole_frames_end_the_run(client, frames):
    """The caller promised whole frames; if not, one answer, and nothing happens."""
    out = []
    before = client.tree.digest()
    good = wire.create(b"/a").frame(7)
    client.tree.apply_frames(client.id, client.owner, good + frames, 1, out)
    errors = [wire.decode_reply(frame).error for frame in out]
    assert errors == [0, MARSHALLING][: len(out)]
    assert client.stat(b"/a") is not None
    assert client.tree.digest() != before
    client.owner = client.owner._replace(node=9)
    client.tree.apply_frames(client.id, client.owner, good + frames, 1, out)
    client.tree.apply_frames(client.id, client.owner, good + frames, 1, None)


def test_opcodes_that_are_no_writes_are_unimplemented(client):
    """Whatever the opcode, apply answers and changes nothing."""
    for opcode in range(-20, 600):
        if opcode not in WRITES:
            part = wire.Part(opcode, bytes(30))
            assert client.error(part) == ErrorCode.UNIMPLEMENTED, opcode


def test_reads_refuse_what_is_no_read(client):
    """A write, a lone check or an unknown opcode as a read ends the connection."""
    for opcode in (OpCode.CREATE, OpCode.CHECK, 999):
        with pytest.raises(RemoteProtocolError):
            client.tree.read(client.session, encode_request(1, opcode, bytes(30)), None, [])
    with pytest.raises(RemoteProtocolError):
        client.tree.read(client.session, b"\0\0", None, [])


@pytest.mark.parametrize(
    "opcode",
    [
        OpCode.EXISTS,
        OpCode.GET_DATA,
        OpCode.GET_ACL,
        OpCode.GET_CHILDREN,
        OpCode.GET_CHILDREN2,
        OpCode.MULTI_READ,
        OpCode.GET_EPHEMERALS,
        OpCode.GET_ALL_CHILDREN_NUMBER,
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"\0", HUGE, INT.pack(-1), INT.pack(-9), INT.pack(3) + b"/a"]
)
def test_malformed_reads_are_answered(client, opcode, body):
    """A body that cannot be read is a marshalling error of that request."""
    out = []
    client.tree.read(client.session, encode_request(5, opcode, body), "me", out)
    assert wire.decode_reply(out[0]).error == MARSHALLING
    assert not client.tree.watches.data


def test_a_multi_read_cannot_ask_for_more_than_we_can_hold(client):
    """Many parts that name one big znode are refused before the answer has grown."""
    client.create(b"/big", bytes(900_000))
    parts = [wire.get(OpCode.GET_DATA, b"/big")] * 50_000
    out = []
    tracemalloc.start()
    client.tree.read(client.session, wire.multi(parts, OpCode.MULTI_READ).frame(1), None, out)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert wire.decode_reply(out[0]).error == ErrorCode.BAD_ARGUMENTS
    assert peak < 100_000_000
