"""create, create2 and delete: results, counters, errors and their order (ZK-1)."""

from __future__ import annotations

import pytest

from quorate.protocol import zookeeper_client as wire
from quorate.protocol.zookeeper import ErrorCode, OpCode, Stat

OPEN = wire.OPEN_ACL_WIRE


def test_zk_1_create_answers_the_path_and_sets_every_field_of_the_stat(client):
    """A new znode has versions 0, all three zxids those of its creation, and its data."""
    client.time_ms = 77
    reply = client.write(wire.create(b"/a", b"hello"))
    assert (reply.error, reply.path(), reply.zxid) == (0, b"/a", client.tree.zxid)
    zxid = reply.zxid
    assert client.stat(b"/a") == Stat(zxid, zxid, 77, 77, 0, 0, 0, 0, 5, 0, zxid)
    assert client.data(b"/a") == b"hello"


def test_create2_answers_path_and_stat(client):
    """create2 and createContainer answer the path and the Stat of the new znode."""
    reply = client.write(wire.create(b"/a", b"xy", opcode=OpCode.CREATE2))
    assert (reply.path(), reply.stat()) == (b"/a", client.stat(b"/a"))
    reply = client.write(wire.create(b"/c", b"", 4, opcode=OpCode.CREATE_CONTAINER))
    assert (reply.path(), reply.stat()) == (b"/c", client.stat(b"/c"))


def test_golden_create2_reply_is_byte_for_byte_that_of_zookeeper_3_8(client):
    """The body of a create2 reply, recorded from a real server, comes out of the same request."""
    client.create(b"/p")
    client.time_ms = 0x1A2090954B0
    reply = client.write(wire.create(b"/p/c2", b"d", opcode=OpCode.CREATE2))
    assert reply.zxid == 3
    assert reply.body == (
        b"\x00\x00\x00\x05/p/c2\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x03"
        b"\x00\x00\x01\xa2\t\tT\xb0\x00\x00\x01\xa2\t\tT\xb0\x00\x00\x00\x00\x00\x00\x00\x00"
        b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"
        b"\x00\x00\x00\x00\x00\x00\x00\x03"
    )


def test_null_data_comes_back_as_null(client):
    """Data of length -1 round-trips as -1, with data length 0 in the Stat; empty stays empty."""
    client.create(b"/null", None)
    client.create(b"/empty", b"")
    assert client.data(b"/null") is None
    assert client.data(b"/empty") == b""
    assert client.stat(b"/null").data_length == 0
    client.write(wire.set_data(b"/empty", None))
    assert client.data(b"/empty") is None


def test_the_parent_counts_creates_and_deletes(client):
    """cversion shows creates + deletes, both set pzxid, and mzxid and version stay."""
    client.create(b"/p")
    born = client.stat(b"/p")
    client.create(b"/p/a")
    client.create(b"/p/b")
    client.write(wire.delete(b"/p/a"))
    stat = client.stat(b"/p")
    assert (stat.cversion, stat.num_children, stat.pzxid) == (3, 1, client.tree.zxid)
    assert stat[:5] == born[:5]


def test_set_data_and_set_acl_of_a_child_leave_the_parent_alone(client):
    """Neither cversion nor pzxid of the parent moves when a child is modified."""
    client.create(b"/p")
    client.create(b"/p/a")
    before = client.stat(b"/p")
    client.write(wire.set_data(b"/p/a", b"x"))
    client.write(wire.set_acl(b"/p/a", OPEN))
    assert client.stat(b"/p") == before


def test_the_sequence_suffix_counts_creates_ever(client):
    """Every create counts, sequential or not, and deletes give no number back."""
    client.create(b"/p")
    assert client.create(b"/p/s-", flags=2) == b"/p/s-0000000000"
    client.create(b"/p/plain")
    client.write(wire.delete(b"/p/plain"))
    assert client.create(b"/p/s-", flags=2) == b"/p/s-0000000002"
    assert client.create(b"/p/", flags=2) == b"/p/0000000003"
    assert client.error(wire.create(b"/p/s-0000000002")) == ErrorCode.NODE_EXISTS
    assert client.create(b"/p/s-", flags=3) == b"/p/s-0000000004"


def test_the_sequence_outlives_java_ints(client):
    """After 2^31 creates the suffix goes on growing and the wrapped cversion still fits a Stat."""
    client.create(b"/p")
    znode = client.tree.znodes[b"/p"]
    znode.sequence = 2**31 - 1
    znode.cversion = 2**31 - 1
    znode.version = 2**31 - 1
    assert client.create(b"/p/", flags=2) == b"/p/2147483647"
    assert client.create(b"/p/", flags=2) == b"/p/2147483648"
    assert client.stat(b"/p").cversion == -(2**31) + 1
    client.write(wire.set_data(b"/p", b""))
    assert client.stat(b"/p").version == -(2**31)


PLACES = [
    # path, create, sequential create, setData, delete, exists (as ZooKeeper 3.8 answers)
    (b"abc", -8, -8, -8, -8, -101),
    (b"", -8, -8, -8, -8, -101),
    (b"/", -110, 0, -103, -8, 0),
    (b"//a", -8, -8, -8, -101, -101),
    (b"/p/", -8, 0, -8, -101, -101),
    (b"/p/.", -8, 0, -8, -101, -101),
    (b"/p/..", -8, 0, -8, -101, -101),
    (b"/p/a\0", -8, -8, -8, -8, -8),
    (b"/p/a\x01", -8, -8, -8, -101, -101),
    (b"/p/\x7f", -8, -8, -8, -101, -101),
    ("/p/\U0001f600".encode(), -8, -8, -8, -101, -101),
    ("/p/\ue000".encode(), -8, -8, -8, -101, -101),
    (b"/p/\xff", -8, -8, -8, -101, -101),
    (b"/p/\xed\xa0\x80", -8, -8, -8, -101, -101),  # an encoded surrogate
    (b"/nope/x", -101, -101, -101, -101, -101),
    (b"/p/there", -110, 0, -103, -103, 0),
    ("/p/\u00e9\u4e2d ok..fine.".encode(), 0, 0, -103, -103, 0),
]


@pytest.mark.parametrize(("path", "create", "sequential", "set_data", "delete", "exists"), PLACES)
def test_malformed_paths_are_refused_as_in_zookeeper(
    client, path, create, sequential, set_data, delete, exists
):
    """Each kind of bad path gets, from each request, the code that a real server gave."""
    client.create(b"/p")
    client.create(b"/p/there")
    assert client.error(wire.create(path)) == create
    assert client.error(wire.create(path, flags=2)) == sequential
    assert client.error(wire.set_data(path, b"", 7)) == set_data
    assert client.error(wire.delete(path, 7)) == delete
    assert client.read(OpCode.EXISTS, path).error == exists


@pytest.mark.parametrize("path", [b"/", b"/zookeeper", b"/zookeeper/config", b"/zookeeper/quota"])
def test_system_znodes_exist_and_cannot_be_deleted(client, path):
    """They are there from the start, as ZooKeeper shows them, and deleting them is refused."""
    stat = client.stat(path)
    assert stat.czxid == 0
    assert stat.cversion == -stat.num_children
    assert client.error(wire.delete(path)) == ErrorCode.BAD_ARGUMENTS


def test_config_is_written_by_the_system_only(client):
    """Clients may read /zookeeper/config; the system writes it and its watch fires."""
    assert client.error(wire.set_data(b"/zookeeper/config", b"x")) == ErrorCode.NO_AUTH
    assert client.stat(b"/zookeeper/config").aversion == -1
    client.read(OpCode.GET_DATA, b"/zookeeper/config", watcher="me")
    client.tree.set_config(b"server.1=...", 5)
    assert client.data(b"/zookeeper/config") == b"server.1=..."
    assert client.tree.watches.told == [("data", 3, b"/zookeeper/config", client.tree.zxid)]


def test_delete_checks_version_before_children(client):
    """A wrong version is BadVersion even of a znode with children; the right one is NotEmpty."""
    client.create(b"/p")
    client.create(b"/p/a")
    assert client.error(wire.delete(b"/p", 5)) == ErrorCode.BAD_VERSION
    assert client.error(wire.delete(b"/p", 0)) == ErrorCode.NOT_EMPTY
    assert client.error(wire.delete(b"/p", -1)) == ErrorCode.NOT_EMPTY
    assert client.error(wire.delete(b"/p/a", 0)) == 0
    assert client.error(wire.delete(b"/p", 0)) == 0


@pytest.mark.parametrize(
    ("flags", "code"), [(4, 0), (5, -8), (6, -8), (7, -8), (-1, -8), (100, -8), (2**31 - 1, -8)]
)
def test_create_flags_without_meaning_are_bad_arguments(client, flags, code):
    """Mode 4 is a container; TTL modes need createTTL; everything else is refused."""
    assert client.error(wire.create(b"/x", flags=flags)) == code


def test_names_are_listed_without_their_parent(client):
    """getChildren gives names, also below the root; getChildren2 adds the Stat."""
    client.create(b"/p")
    client.create(b"/p/b")
    client.create(b"/p/a")
    assert client.names(b"/p") == [b"a", b"b"]
    assert client.names(b"/") == [b"p", b"zookeeper"]
    assert client.names(b"/p/a") == []
    reply = client.read(OpCode.GET_CHILDREN2, b"/p")
    assert (sorted(reply.names()), reply.stat()) == ([b"a", b"b"], client.stat(b"/p"))


def test_descendants_are_counted_at_all_depths(client):
    """getAllChildrenNumber counts the whole subtree without its top."""
    for path in (b"/p", b"/p/a", b"/p/a/b", b"/p/c", b"/pq"):
        client.create(path)
    assert client.read(OpCode.GET_ALL_CHILDREN_NUMBER, b"/p").body == b"\0\0\0\3"
    assert client.read(OpCode.GET_ALL_CHILDREN_NUMBER, b"/nope").error == ErrorCode.NO_NODE
