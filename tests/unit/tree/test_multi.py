"""multi: all or nothing, one zxid, later parts see earlier ones (ZK-1, ZK-9)."""

from __future__ import annotations

import pytest

from quorate.protocol import zookeeper_client as wire
from quorate.protocol.jute import INT
from quorate.protocol.zookeeper import ErrorCode, OpCode

OK_PARTS = [
    wire.create(b"/p/m1", b"d"),
    wire.create(b"/p/m2", b"d", opcode=OpCode.CREATE2),
    wire.check(b"/p/m1", 0),
    wire.set_data(b"/p/m1", b"x", 0),
    wire.delete(b"/p/m2"),
]


def test_golden_multi_success_is_byte_for_byte_that_of_zookeeper_3_8(client):
    """Results of all kinds of parts as a real server framed them; create2 answers as create."""
    client.create(b"/p")
    client.time_ms = 0x1A2090955AA
    while client.tree.zxid < 0x80:
        client.write(wire.set_data(b"/p", b""))
    reply = client.write(wire.multi(OK_PARTS))
    assert (reply.zxid, reply.error) == (0x81, 0)
    assert reply.body == (
        b"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x05/p/m1"
        b"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x05/p/m2"
        b"\x00\x00\x00\r\x00\x00\x00\x00\x00"
        b"\x00\x00\x00\x05\x00\x00\x00\x00\x00"
        b"\x00\x00\x00\x00\x00\x00\x00\x81\x00\x00\x00\x00\x00\x00\x00\x81"
        b"\x00\x00\x01\xa2\t\tU\xaa\x00\x00\x01\xa2\t\tU\xaa\x00\x00\x00\x01\x00\x00\x00\x00"
        b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"
        b"\x00\x00\x00\x00\x00\x00\x00\x81"
        b"\x00\x00\x00\x02\x00\x00\x00\x00\x00"
        b"\xff\xff\xff\xff\x01\xff\xff\xff\xff"
    )


def test_golden_multi_failure_is_byte_for_byte_that_of_zookeeper_3_8(client):
    """Header error 0; 0 for parts before the failed one, its code, -2 for those after."""
    client.create(b"/p")
    parts = [wire.create(b"/p/m3"), wire.delete(b"/p/nope"), wire.set_data(b"/p", b"")]
    before = (client.tree.zxid, client.tree.digest())
    reply = client.write(wire.multi(parts))
    assert (reply.error, reply.zxid) == (0, before[0])
    assert reply.body == (
        b"\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        b"\xff\xff\xff\xff\x00\xff\xff\xff\x9b\xff\xff\xff\x9b"
        b"\xff\xff\xff\xff\x00\xff\xff\xff\xfe\xff\xff\xff\xfe"
        b"\xff\xff\xff\xff\x01\xff\xff\xff\xff"
    )
    assert (client.tree.zxid, client.tree.digest()) == before


def test_the_empty_multi_succeeds_and_takes_a_zxid(client):
    """No parts is a success with only the end mark."""
    zxid = client.tree.zxid
    reply = client.write(wire.multi([]))
    assert (reply.error, reply.zxid, reply.body) == (
        0,
        zxid + 1,
        b"\xff\xff\xff\xff\x01" + b"\xff" * 4,
    )


def test_a_container_in_a_multi_is_answered_like_create2(client):
    """createContainer as a part has the result type 15, path and Stat (measured)."""
    part = wire.create(b"/c", flags=4, opcode=OpCode.CREATE_CONTAINER)
    reply = client.write(wire.multi([part]))
    assert reply.results() == [(OpCode.CREATE2, 0, b"/c")]


def test_all_parts_share_one_zxid(client):
    """Every znode that a multi touches carries the number of the multi."""
    client.write(wire.multi([wire.create(b"/a"), wire.create(b"/a/b"), wire.create(b"/a/c")]))
    zxid = client.tree.zxid
    assert {client.stat(p).czxid for p in (b"/a", b"/a/b", b"/a/c")} == {zxid}
    assert (client.stat(b"/a").cversion, client.stat(b"/a").pzxid) == (2, zxid)


def test_a_failed_multi_undoes_everything(client):
    """Deleted ephemerals, counters, sequence numbers, data and containers all come back."""
    client.create(b"/p", b"old")
    client.create(b"/p/e", b"mine", flags=1)
    client.write(wire.create(b"/p/box", flags=4, opcode=OpCode.CREATE_CONTAINER))
    stats = [client.stat(p) for p in (b"/p", b"/p/e", b"/p/box")]
    digest = client.tree.digest()
    parts = [
        wire.delete(b"/p/e"),
        wire.create(b"/p/e", b"other"),
        wire.set_data(b"/p", b"new", 0),
        wire.set_data(b"/p", b"newer", 1),
        wire.delete(b"/p/box"),
        wire.create(b"/p/s-", flags=3),
        wire.create(b"/p/s-", flags=3),
        wire.create(b"/p/e/below"),
        wire.check(b"/p", 1),
    ]
    reply = client.write(wire.multi(parts))
    assert [error for _, error, _ in reply.results()] == [0] * 8 + [ErrorCode.BAD_VERSION]
    assert [client.stat(p) for p in (b"/p", b"/p/e", b"/p/box")] == stats
    assert client.session.ephemerals == {b"/p/e"}
    assert client.tree.digest() == digest
    assert client.create(b"/p/s-", flags=2) == b"/p/s-0000000002"


def test_a_failed_multi_tells_nobody(client):
    """No watch fires and none is used up by parts that were undone."""
    client.create(b"/p")
    client.read(OpCode.GET_DATA, b"/p", watcher="me")
    client.read(OpCode.GET_CHILDREN, b"/p", watcher="me")
    client.read(OpCode.EXISTS, b"/p/new", watcher="me")
    parts = [wire.set_data(b"/p", b"x"), wire.create(b"/p/new"), wire.check(b"/p", 7)]
    client.write(wire.multi(parts))
    assert client.tree.watches.told == []
    client.write(wire.multi(parts[:2]))
    zxid = client.tree.zxid
    assert client.tree.watches.told == [
        ("data", 3, b"/p", zxid),
        ("data", 1, b"/p/new", zxid),
        ("children", 4, b"/p", zxid),
    ]


def test_a_watch_fires_once_for_a_multi_that_changes_its_znode_twice(client):
    """One-shot stays one-shot, also when one transaction offers two events."""
    client.create(b"/p")
    client.read(OpCode.GET_DATA, b"/p", watcher="me")
    client.write(wire.multi([wire.set_data(b"/p", b"1"), wire.set_data(b"/p", b"2")]))
    assert len(client.tree.watches.told) == 1


@pytest.mark.parametrize("last", [wire.check(b"/p", 0), wire.check(b"/p", 9)])
def test_writes_behind_a_multi_in_the_same_run_tell_at_once(client, last):
    """Holding events back ends with the multi, whether it succeeded or not."""
    client.create(b"/p")
    client.read(OpCode.GET_DATA, b"/p", watcher="me")
    client.send(wire.multi([last]), wire.set_data(b"/p", b"x"))
    assert client.tree.watches.told == [("data", 3, b"/p", client.tree.zxid)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        wire.multi([wire.get(OpCode.EXISTS, b"/")]).body,  # no part for a multi
        wire.multi([wire.CLOSE_SESSION]).body,
        wire.multi([wire.delete(b"/p")]).body[:-9],  # no end mark
        wire.multi([wire.delete(b"/p")]).body[:12],
        INT.pack(5) + b"\0" + INT.pack(-1) + INT.pack(2**31 - 1),
    ],
)
def test_an_unreadable_multi_is_a_marshalling_error_and_applies_no_part(client, body):
    """Everything is read before anything is applied."""
    good = wire.multi([wire.create(b"/first")]).body[:-9]
    assert client.error(wire.Part(OpCode.MULTI, good + body)) == ErrorCode.MARSHALLING_ERROR
    assert client.stat(b"/first") is None


def test_check_outside_a_multi_is_unimplemented(client):
    """As a write of its own it changes nothing; the connection decides what to do about it."""
    client.create(b"/p")
    assert client.error(wire.check(b"/p", 0)) == ErrorCode.UNIMPLEMENTED


def test_multi_read_parts_fail_alone(client):
    """Each part of a multiRead has its own result or error."""
    client.create(b"/p", b"data")
    client.create(b"/p/a")
    parts = [
        wire.get(OpCode.GET_DATA, b"/p"),
        wire.get(OpCode.GET_DATA, b"/nope"),
        wire.get(OpCode.GET_CHILDREN, b"/p"),
    ]
    out = []
    client.tree.read(client.session, wire.multi(parts, OpCode.MULTI_READ).frame(9), None, out)
    body = wire.decode_reply(out[0]).body
    stat = client.read(OpCode.EXISTS, b"/p").body
    assert body == (
        b"\0\0\0\4\0\0\0\0\0\0\0\0\4data"
        + stat
        + b"\xff\xff\xff\xff\0\xff\xff\xff\x9b\xff\xff\xff\x9b"
        + b"\0\0\0\x08\0\0\0\0\0\0\0\0\1\0\0\0\1a"
        + b"\xff\xff\xff\xff\1\xff\xff\xff\xff"
    )
