"""Sessions: owners, passwords, expiry, ephemerals (ZK-6), and what takes a zxid."""

from __future__ import annotations

import pytest

from quorate.protocol import zookeeper_client as wire
from quorate.protocol.zookeeper import ErrorCode, OpCode
from quorate.tree.sessions import Owner

PASSWORD = bytes(range(16))


def test_zk_6_ephemerals_vanish_with_their_session_in_one_transaction(client, new_client):
    """Expiry removes exactly the session's ephemerals, in order, under one zxid."""
    other = new_client()
    other.create(b"/p")
    for name in (b"b", b"a", b"c"):
        client.create(b"/p/" + name, flags=1)
    other.create(b"/p/d", flags=1)
    for name in (b"a", b"b", b"c"):
        other.read(OpCode.EXISTS, b"/p/" + name, watcher="me")
    other.read(OpCode.GET_CHILDREN, b"/p", watcher="me")
    zxid = other.tree.zxid
    assert other.tree.expire_session(client.id, 9_000)
    assert other.tree.zxid == zxid + 1
    assert other.names(b"/p") == [b"d"]
    assert (other.stat(b"/p").pzxid, other.stat(b"/p").cversion) == (zxid + 1, 7)
    assert other.tree.watches.told == [
        ("data", 2, b"/p/a", zxid + 1),
        ("children", 4, b"/p", zxid + 1),
        ("data", 2, b"/p/b", zxid + 1),
        ("data", 2, b"/p/c", zxid + 1),
    ]
    assert not other.tree.expire_session(client.id, 9_000)
    assert other.tree.zxid == zxid + 1


def test_closing_answers_with_its_own_zxid_and_ends_the_run(client, new_client):
    """closeSession takes a zxid; what was pipelined behind it is SessionExpired, unapplied."""
    other = new_client()
    client.create(b"/e", flags=1)
    zxid = client.tree.zxid
    replies = client.send(wire.CLOSE_SESSION, wire.create(b"/x"), wire.delete(b"/e"))
    assert [(r.error, r.zxid) for r in replies] == [
        (0, zxid + 1),
        (ErrorCode.SESSION_EXPIRED, zxid + 1),
        (ErrorCode.SESSION_EXPIRED, zxid + 1),
    ]
    assert client.id not in client.tree.sessions
    assert other.names(b"/") == [b"zookeeper"]
    assert client.error(wire.create(b"/x")) == ErrorCode.SESSION_EXPIRED


def test_an_ephemeral_shows_its_owner_and_bears_no_children(client):
    """ephemeralOwner is the session id; creating below it is NoChildrenForEphemerals."""
    client.create(b"/e", flags=1)
    assert client.stat(b"/e").ephemeral_owner == client.id
    assert client.error(wire.create(b"/e/x")) == ErrorCode.NO_CHILDREN_FOR_EPHEMERALS
    assert client.error(wire.create(b"/e/x", flags=1)) == ErrorCode.NO_CHILDREN_FOR_EPHEMERALS


def test_a_deleted_ephemeral_is_forgotten_by_its_session(client, new_client):
    """Recreated by somebody else, the path survives the first owner's end."""
    other = new_client()
    client.create(b"/e", flags=1)
    other.write(wire.delete(b"/e"))
    other.create(b"/e", b"mine", flags=1)
    client.tree.expire_session(client.id, 1)
    assert other.data(b"/e") == b"mine"
    assert other.read(OpCode.GET_EPHEMERALS, b"/").names() == [b"/e"]
    assert other.read(OpCode.GET_EPHEMERALS, b"/f").names() == []


def test_a_session_id_is_never_used_twice(tree):
    """The id is the zxid that created the session, so it outgrows every id before it."""
    ids = set()
    for _ in range(5):
        session = tree.open_session(PASSWORD, 1, Owner(1, 1, 1), (), 1)
        assert session.session_id == tree.zxid
        assert session.session_id not in ids
        ids.add(session.session_id)
        tree.expire_session(session.session_id, 1)


def test_attaching_needs_the_password(client):
    """A wrong password or unknown id changes nothing, not even the owner."""
    digest = client.tree.digest()
    there = Owner(2, 1, 1)
    assert client.tree.attach_session(client.id, bytes(16), 5, there, ()) is None
    assert client.tree.attach_session(client.id, b"", 5, there, ()) is None
    assert client.tree.attach_session(client.id + 1, PASSWORD, 5, there, ()) is None
    assert client.tree.digest() == digest
    assert client.error(wire.create(b"/a")) == 0


def test_the_newest_attachment_wins_and_earlier_ones_are_refused(client):
    """Delayed frames of the old connection are SessionMoved and leave no trace."""
    zxid = client.tree.zxid
    there = Owner(2, 1, 1)
    session = client.tree.attach_session(client.id, PASSWORD, 5_000, there, (("ip", "::1"),))
    assert session is client.session
    assert (session.owner, session.timeout_ms, session.identities) == (
        there,
        5_000,
        (("ip", "::1"),),
    )
    assert client.tree.zxid == zxid, "attaching takes no zxid"
    replies = client.send(wire.create(b"/a"), wire.CLOSE_SESSION, wire.delete(b"/zz"))
    assert [r.error for r in replies] == [ErrorCode.SESSION_MOVED] * 3
    assert {r.zxid for r in replies} == {zxid}
    client.owner = there
    assert client.error(wire.create(b"/a")) == 0


@pytest.mark.parametrize("stale", [Owner(2, 1, 1), Owner(1, 2, 1), Owner(1, 1, 2)])
def test_every_field_of_the_owner_counts(client, stale):
    """Another node, another start of the node or another connection: all are strangers."""
    client.owner = stale
    assert client.error(wire.create(b"/a")) == ErrorCode.SESSION_MOVED
    assert not client.tree.add_identity(client.id, stale, "digest", "u:h")


def test_identities_are_added_once_and_replaced_by_attaching(client):
    """Identities belong to the connection: attaching starts from those of the new one."""
    add = client.tree.add_identity
    assert add(client.id, client.owner, "digest", "u:h")
    digest = client.tree.digest()
    assert add(client.id, client.owner, "digest", "u:h")
    assert client.tree.digest() == digest
    assert client.session.identities == (("ip", "10.0.0.7"), ("digest", "u:h"))
    client.tree.attach_session(client.id, PASSWORD, 1, client.owner, ())
    assert client.session.identities == ()
    assert not add(client.id + 1, client.owner, "digest", "u:h")


def test_only_what_happened_takes_a_zxid(client):
    """Successful writes ascend by one; failures and reads carry the last applied number."""
    zxid = client.tree.zxid
    replies = client.send(
        wire.create(b"/a"),
        wire.create(b"/a"),
        wire.set_data(b"/a", b"", 9),
        wire.set_data(b"/a", b"", 0),
        wire.multi([wire.check(b"/a", 7)]),
        wire.multi([]),
        wire.delete(b"/a"),
    )
    assert [r.zxid - zxid for r in replies] == [1, 1, 1, 2, 2, 3, 4]
    assert client.read(OpCode.EXISTS, b"/a").zxid == zxid + 4


def test_who_am_i_hides_secrets(client):
    """The identities of the session, digests without their hashes."""
    client.tree.add_identity(client.id, client.owner, "digest", "u:secret")
    body = client.read(OpCode.WHO_AM_I, b"").body
    assert b"secret" not in body
    assert body.startswith(b"\0\0\0\2\0\0\0\2ip\0\0\0\x0810.0.0.7")
    assert body.endswith(b"\0\0\0\x06digest\0\0\0\1u")


def test_containers_are_reaped_after_their_last_child(client):
    """A container is over when it had children and has none; reaping fires like a delete."""
    tree = client.tree
    client.write(wire.create(b"/c", flags=4, opcode=OpCode.CREATE_CONTAINER))
    assert client.stat(b"/c").ephemeral_owner == 0
    assert tree.reapable(10**9) == []
    client.create(b"/c/x")
    assert tree.reapable(10**9) == []
    client.write(wire.delete(b"/c/x"))
    assert tree.reapable(10**9) == [b"/c"]
    client.read(OpCode.EXISTS, b"/c", watcher="me")
    assert tree.reap(b"/c", 10**9)
    assert tree.watches.told == [("data", 2, b"/c", tree.zxid)]
    assert not tree.reap(b"/c", 10**9)
    assert not tree.reap(b"/zookeeper", 10**9)


def test_a_ttl_counts_from_the_last_change_and_spares_parents(client):
    """A TTL znode is over when childless and unmodified for longer than its TTL."""
    client.time_ms = 1_000
    assert client.error(wire.create(b"/t", flags=5, ttl_ms=500)) == 0
    assert client.stat(b"/t").ephemeral_owner == 0
    assert client.tree.reapable(1_500) == []
    assert client.tree.reapable(1_501) == [b"/t"]
    client.time_ms = 2_000
    client.write(wire.set_data(b"/t", b""))
    assert client.tree.reapable(2_500) == []
    client.create(b"/t/x")
    assert client.tree.reapable(9_999) == []


@pytest.mark.parametrize(
    ("flags", "ttl_ms", "code"),
    [(5, 0, -8), (5, -1, -8), (5, 2**40, -8), (5, 2**40 - 1, 0), (6, 1, 0), (0, 5, -8), (7, 1, -8)],
)
def test_ttls_out_of_range_are_bad_arguments(client, flags, ttl_ms, code):
    """A TTL is positive, fits five bytes, and stands only with the TTL modes."""
    assert client.error(wire.create(b"/t", flags=flags, ttl_ms=ttl_ms)) == code
