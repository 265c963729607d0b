"""ACLs: who may do what, and which lists are no ACLs."""

from __future__ import annotations

import pytest

from quorate.protocol import zookeeper_client as wire
from quorate.protocol.jute import Reader
from quorate.protocol.zookeeper import ErrorCode, OpCode
from quorate.tree.acl import OPEN_ACL, Entry, read_acl

R, W, C, D, A = 1, 2, 4, 8, 16
NO_AUTH = ErrorCode.NO_AUTH


def acl_of(client, path):
    body = client.read(OpCode.GET_ACL, path).body
    return [tuple(entry) for entry in read_acl(Reader(body)) or ()]


def world(permissions):
    return wire.encode_acl((permissions, "world", "anyone"))


@pytest.mark.parametrize(
    ("acl", "code"),
    [
        (wire.encode_acl(), -114),
        (b"\xff\xff\xff\xff", -114),
        (wire.encode_acl((31, "bogus", "x")), -114),
        (wire.encode_acl((31, "auth", "")), -114),
        (wire.encode_acl((31, "ip", "10.0.0.0/33")), -114),
        (wire.encode_acl((31, "ip", "10.0.0.0/255.0.0.0")), -114),
        (wire.encode_acl((31, "ip", "nowhere")), -114),
        (wire.encode_acl((31, "ip", "10.0.0.0/8")), 0),
        (wire.encode_acl((31, "ip", "10.0.0.7")), 0),
        (wire.encode_acl((31, "digest", "u:x")), 0),
        (wire.encode_acl((31, "digest", "u")), -114),
        (wire.encode_acl((31, "digest", "u:x:y")), -114),
        (wire.encode_acl((31, "world", "x")), -114),
        (wire.encode_acl((31, "super", "")), -114),
        (wire.encode_acl((0, "world", "anyone")), 0),
        (wire.encode_acl((255, "world", "anyone")), 0),
        (b"\0\0\0\1\0\0\0\x1f\xff\xff\xff\xff\0\0\0\1x", -114),
        (b"\0\0\0\1\0\0\0\x1f\0\0\0\1\xff\0\0\0\1x", -114),
        (wire.encode_acl((31, "world", "anyone"), (31, "bogus", "")), -114),
    ],
)
def test_what_is_an_acl(client, acl, code):
    """create and setACL take the lists that ZooKeeper takes; the others are InvalidACL."""
    client.create(b"/there")
    assert client.error(wire.create(b"/x", acl=acl)) == code
    assert client.error(wire.set_acl(b"/there", acl)) == code


def test_null_id_is_an_empty_one(new_client):
    """kazoo sends the id of ``auth`` as null; it means the session's identities all the same."""
    null_auth = b"\0\0\0\1\0\0\0\x1f\0\0\0\4auth\xff\xff\xff\xff"
    client = new_client(("digest", "u:hash"))
    assert client.error(wire.create(b"/mine", acl=null_auth)) == 0
    assert acl_of(client, b"/mine") == [(31, "digest", "u:hash")]


def test_the_errors_of_create_have_zookeepers_order(client):
    """Bad flags, then path, then ACL, then the parent, its ACL, the name, and what exists."""
    client.create(b"/ro", acl=world(R))
    bad = wire.encode_acl()
    assert client.error(wire.create(b"x", flags=9, acl=bad)) == ErrorCode.BAD_ARGUMENTS
    assert client.error(wire.create(b"/no/x", acl=bad)) == ErrorCode.INVALID_ACL
    assert client.error(wire.create(b"/no/..")) == ErrorCode.NO_NODE
    assert client.error(wire.create(b"/ro/..")) == NO_AUTH
    assert client.error(wire.set_acl(b"/no", bad)) == ErrorCode.INVALID_ACL


def test_each_permission_guards_its_requests(client, new_client):
    """READ, WRITE, CREATE and DELETE (both at the parent) and ADMIN, one by one."""
    asked = {
        R: lambda c, p: c.read(OpCode.GET_DATA, p).error,
        W: lambda c, p: c.error(wire.set_data(p, b"")),
        C: lambda c, p: c.error(wire.create(p + b"/new")),
        D: lambda c, p: c.error(wire.delete(p + b"/kid")),
        A: lambda c, p: c.error(wire.set_acl(p, wire.encode_acl((31, "digest", "u:h")))),
    }
    for needed, ask in asked.items():
        path = b"/p%d" % needed
        client.create(path)
        client.create(path + b"/kid")
        client.write(wire.set_acl(path, world(31 & ~needed)))
        for permission, other in asked.items():
            if permission not in (needed, A):
                assert other(new_client(), path) == 0, (needed, permission)
        assert ask(new_client(), path) == NO_AUTH, needed


def test_reads_of_children_need_read_and_exists_needs_nothing(client):
    """getChildren, getChildren2 and multi's check need READ; exists answers anybody."""
    client.create(b"/p", acl=world(W))
    assert client.read(OpCode.GET_CHILDREN, b"/p").error == NO_AUTH
    assert client.read(OpCode.GET_CHILDREN2, b"/p").error == NO_AUTH
    assert client.read(OpCode.GET_ALL_CHILDREN_NUMBER, b"/p").error == NO_AUTH
    assert client.read(OpCode.EXISTS, b"/p").error == 0
    reply = client.write(wire.multi([wire.check(b"/p", 0)]))
    assert reply.results() == [(-1, NO_AUTH, None)]


def test_a_refused_read_arms_no_watch(client):
    """Who may not read is not told either."""
    client.create(b"/p", acl=world(W))
    client.read(OpCode.GET_DATA, b"/p", watcher="me")
    client.read(OpCode.GET_CHILDREN, b"/p", watcher="me")
    assert not client.tree.watches.data
    assert not client.tree.watches.children


def test_acls_are_not_inherited(client):
    """A child of a closed znode is as open as its own ACL."""
    client.create(b"/p", acl=world(C))
    client.create(b"/p/a")
    assert client.read(OpCode.GET_DATA, b"/p").error == NO_AUTH
    assert client.read(OpCode.GET_DATA, b"/p/a").error == 0


def test_auth_becomes_the_identities_of_the_moment(client, new_client):
    """auth with any id expands to what the session has proved, addresses excepted."""
    me = new_client(("ip", "10.0.0.7"), ("digest", "u:h"), ("sasl", "joe"))
    me.create(b"/p", acl=wire.encode_acl((31, "auth", "ignored"), (R, "world", "anyone")))
    assert acl_of(me, b"/p") == [
        (31, "digest", "u:h"),
        (31, "sasl", "joe"),
        (R, "world", "anyone"),
    ]
    assert client.error(wire.set_data(b"/p", b"")) == NO_AUTH
    assert me.error(wire.set_data(b"/p", b"")) == 0
    assert client.error(wire.set_acl(b"/p", wire.encode_acl((31, "auth", "")))) == -114


def test_duplicates_are_removed(client):
    """The same line twice is stored once, in the order of first mention."""
    line = (R, "digest", "u:h")
    client.create(b"/p", acl=wire.encode_acl(line, (31, "world", "anyone"), line))
    assert acl_of(client, b"/p") == [line, (31, "world", "anyone")]


def test_addresses_match_by_prefix(client, new_client):
    """addr/bits admits the network, a bare address only itself; IPv6 works the same."""
    client.create(b"/net", acl=wire.encode_acl((31, "ip", "10.1.2.3/8")))
    client.create(b"/one", acl=wire.encode_acl((31, "ip", "10.1.2.3")))
    client.create(b"/six", acl=wire.encode_acl((31, "ip", "fe80::/10")))
    for address, allowed in [
        ("10.9.9.9", [True, False, False]),
        ("10.1.2.3", [True, True, False]),
        ("11.1.2.3", [False, False, False]),
        ("fe80::1", [False, False, True]),
        ("odd", [False, False, False]),
    ]:
        who = new_client(("ip", address))
        got = [who.error(wire.set_data(p, b"")) == 0 for p in (b"/net", b"/one", b"/six")]
        assert got == allowed, address


def test_super_passes_everything(client, new_client):
    """An identity of scheme super is asked nothing, but it is no identity for auth."""
    client.create(b"/p", acl=world(0))
    boss = new_client(("super", ""))
    assert boss.error(wire.set_data(b"/p", b"")) == 0
    assert boss.error(wire.create(b"/p/a")) == 0
    assert boss.error(wire.set_data(b"/zookeeper/config", b"")) == 0
    assert boss.error(wire.set_acl(b"/p", wire.encode_acl((31, "auth", "")))) == -114


def test_get_acl_hides_hashes_from_those_without_admin(client, new_client):
    """READ or ADMIN opens getACL; only ADMIN shows the hashes."""
    lines = [(A, "digest", "u:hash"), (R, "world", "anyone")]
    client.create(b"/p", acl=wire.encode_acl(*lines))
    assert acl_of(client, b"/p") == [(A, "digest", "u:x"), (R, "world", "anyone")]
    assert acl_of(new_client(("digest", "u:hash")), b"/p") == lines
    client.create(b"/shut", acl=world(W))
    assert client.read(OpCode.GET_ACL, b"/shut").error == NO_AUTH


def test_set_acl_counts_aversion_only(client):
    """setACL compares and bumps aversion, keeps mzxid and version, and fires nothing."""
    client.create(b"/p")
    before = client.stat(b"/p")
    client.read(OpCode.GET_DATA, b"/p", watcher="me")
    reply = client.write(wire.set_acl(b"/p", world(31), 0))
    assert reply.stat() == before._replace(aversion=1)
    assert client.error(wire.set_acl(b"/p", world(31), 0)) == ErrorCode.BAD_VERSION
    assert client.error(wire.set_acl(b"/p", world(31), 1)) == 0
    assert client.tree.watches.told == []


def test_the_open_acl_is_one_object(client):
    """Identity is what the hot paths compare, so every way of saying it gives the same object."""
    client.create(b"/a")
    client.create(b"/b", acl=wire.encode_acl((31, "world", "anyone"), (31, "world", "anyone")))
    client.create(b"/c", acl=world(R))
    client.create(b"/d", acl=world(R))
    client.write(wire.multi([wire.create(b"/e")]))
    znodes = client.tree.znodes
    for path in (b"/a", b"/b", b"/e"):
        assert znodes[path].acl is OPEN_ACL
    assert znodes[b"/c"].acl is znodes[b"/d"].acl
    assert OPEN_ACL.entries == (Entry(31, "world", "anyone"),)
