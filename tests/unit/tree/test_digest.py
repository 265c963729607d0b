"""The digest: equal for equal trees, different for any difference, cheap to keep up."""

from __future__ import annotations

import pytest

from quorate.protocol import zookeeper_client as wire
from quorate.tree.sessions import Owner
from quorate.tree.tree import Tree
from quorate.tree.znode import encode_record, hash_record


def fresh(client):
    """The digest computed from nothing."""
    tree = Tree()
    tree.restore(client.tree.snapshot())
    return tree.digest()


def test_a_restored_tree_has_its_digest_without_hashing_again(client):
    """It was hashed while it was read, whatever its ACLs and sessions: nothing is due at a turn."""
    client.create(b"/p", b"x")
    client.create(b"/p/e", b"", 1)
    client.create(b"/acl", acl=wire.encode_acl((1, "digest", "u:h")))
    tree = Tree()
    tree.restore(client.tree.snapshot())
    state = tree._state
    assert not state.digest_notes.znodes
    assert not state.digest_notes.sessions
    digest = tree.digest()
    for path, znode in state.znodes.items():
        assert znode.folded == hash_record(encode_record(path, znode))
        state.touch(path, znode)
    for session in state.sessions.values():
        state.touch_session(session)
    assert tree.digest() == digest == client.tree.digest()


def test_incremental_and_from_scratch_agree(client):
    """However often it is asked for in between, the digest is that of the state alone."""
    client.create(b"/p")
    assert client.tree.digest() == fresh(client)
    client.create(b"/p/a")
    client.write(wire.delete(b"/p/a"))
    client.create(b"/p/a")
    assert client.tree.digest() == client.tree.digest() == fresh(client)
    client.write(wire.delete(b"/p/a"))
    client.create(b"/p/a")
    client.write(wire.delete(b"/p/a"))
    assert client.tree.digest() == fresh(client)
    client.write(wire.multi([wire.delete(b"/p"), wire.check(b"/p", 0)]))
    client.write(wire.multi([wire.create(b"/p/b"), wire.check(b"/p", 9)]))
    assert client.tree.digest() == fresh(client)
    client.tree.expire_session(client.id, 1)
    assert client.tree.digest() == fresh(client)


@pytest.mark.parametrize(
    "part",
    [
        wire.set_data(b"/p", b"x"),
        wire.set_acl(b"/p", wire.encode_acl((31, "digest", "u:h"))),
        wire.create(b"/p/b"),
        wire.delete(b"/p/a"),
        wire.multi([wire.set_data(b"/p", b"x"), wire.delete(b"/p/a")]),
        wire.CLOSE_SESSION,
    ],
)
def test_every_write_is_noted(client, part):
    """A znode that was already in the sum is looked at again after each kind of write."""
    client.create(b"/p")
    client.create(b"/p/a", flags=1)
    before = client.tree.digest()
    client.write(part)
    assert before != client.tree.digest() == fresh(client)


def test_every_field_of_a_znode_counts(client):
    """No field can differ unseen."""
    client.create(b"/p", b"data")
    znode = client.tree.znodes[b"/p"]
    seen = {client.tree.digest()}
    for name in znode.__slots__:
        if name in ("children", "folded", "acl"):
            continue
        client.tree._state.touch(b"/p", znode)
        before = getattr(znode, name)
        setattr(znode, name, before + (b"!" if name == "data" else 1))
        seen.add(client.tree.digest())
        client.tree._state.touch(b"/p", znode)
        setattr(znode, name, before)
    znode.data = None
    client.tree._state.touch(b"/p", znode)
    seen.add(client.tree.digest())
    client.write(wire.set_acl(b"/p", wire.encode_acl((31, "digest", "u:h"))))
    seen.add(client.tree.digest())
    assert len(seen) == len(znode.__slots__) - 3 + 3


@pytest.mark.parametrize(
    "change",
    [
        {"timeout_ms": 1},
        {"owner": Owner(1, 1, 2)},
        {"identities": (("ip", "10.0.0.8"),)},
        {"identities": (("ip", "10.0.0.7"), ("digest", "u:h"))},
        {"identities": (("i", "p10.0.0.7"),)},
    ],
)
def test_every_field_of_a_session_counts(client, change):
    """Replicas that disagree on a session disagree on the digest."""
    before = client.tree.digest()
    session = client.session
    now = {"timeout_ms": session.timeout_ms, "owner": session.owner}
    now["identities"] = session.identities
    client.tree.attach_session(client.id, session.password, **(now | change))
    assert client.tree.digest() != before
    client.tree.attach_session(client.id, session.password, **now)
    assert client.tree.digest() == before


def test_znodes_that_come_and_go_leave_no_notes(client):
    """Without a digest in between, a busy lock directory does not make the notes grow."""
    client.create(b"/locks")
    client.tree.digest()
    for _ in range(100):
        path = client.create(b"/locks/l-", flags=3)
        client.write(wire.multi([wire.create(path + b"x"), wire.check(b"/no", 0)]))
        client.write(wire.delete(path))
    assert set(client.tree._state.digest_notes.znodes) == {b"/locks"}


def test_a_forgotten_note_would_show(client):
    """The agreement is not an accident: a change without its note makes the digests differ."""
    client.create(b"/p")
    assert client.tree.digest() == fresh(client)
    client.tree.znodes[b"/p"].data = b"unnoticed"
    assert client.tree.digest() != fresh(client)


def test_changes_are_folded_before_they_pile_up(client, tree):
    """Asked after each batch, the digest never has more than a few thousand znodes to hash."""
    for number in range(2_500):
        client.create(b"/p%d" % number)
        tree.fold_changes()
        assert len(tree._state.digest_notes.znodes) <= 2_000
    folded = tree.digest()
    tree._state.digest_notes.znodes.update({p: z.folded for p, z in tree.znodes.items()})
    assert tree.digest() == folded
