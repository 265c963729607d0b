"""Snapshots are exact, survive concurrent writes, and damage is never taken for state (ZK-10)."""

from __future__ import annotations

import random

import pytest

from quorate.errors import CorruptData, InvariantBroken
from quorate.protocol import zookeeper_client as wire
from quorate.protocol.zookeeper import OpCode
from quorate.tree import snapshot as snapshot_module
from quorate.tree.sessions import Owner
from quorate.tree.state import check_state
from quorate.tree.tree import Tree


def fill(client):
    """Every kind of znode, ACL, data and session."""
    client.create(b"/p", b"data")
    client.create(b"/p/null", None)
    client.create(b"/p/e-", b"", 3)
    client.create(b"/closed", acl=wire.encode_acl((1, "digest", "u:h"), (31, "ip", "10.0.0.0/8")))
    client.write(wire.create(b"/box", flags=4, opcode=OpCode.CREATE_CONTAINER))
    client.write(wire.create(b"/ttl", flags=5, ttl_ms=9_000))
    client.write(wire.set_data(b"/p", b"new"))
    client.write(wire.create(b"/p/gone"))
    client.write(wire.delete(b"/p/gone"))
    client.write(wire.set_acl(b"/p/null", wire.encode_acl((3, "world", "anyone"))))
    client.tree.add_identity(client.id, client.owner, "digest", "\u00fc:h")
    client.tree.open_session(bytes(16), 1, Owner(3, 2**40, 7), (), 1)


def restored(chunks):
    tree = Tree()
    tree.restore(chunks)
    check_state(tree._state)
    return tree


def dump(tree):
    """Everything that is state, as plain values."""
    fields = [name for name in tree.znodes[b"/"].__slots__ if name not in ("folded", "acl")]
    znodes = {
        path: (
            znode.acl.wire,
            *(
                sorted(value or ()) if name == "children" else value
                for name, value in ((name, getattr(znode, name)) for name in fields)
            ),
        )
        for path, znode in tree.znodes.items()
    }
    names = [n for n in next(iter(tree.sessions.values())).__slots__ if n != "folded"]
    sessions = {
        i: [sorted(getattr(s, n)) if n == "ephemerals" else getattr(s, n) for n in names]
        for i, s in tree.sessions.items()
    }
    return tree.zxid, znodes, sessions, sorted(tree._state.containers)


def test_zk_10_a_restored_tree_is_the_same_tree(client):
    """All fields, children, ephemerals, containers, sessions, the zxid and the digest come back."""
    fill(client)
    copy = restored(client.tree.snapshot())
    assert dump(copy) == dump(client.tree)
    assert copy.digest() == client.tree.digest()
    assert copy.reapable(10**6) == client.tree.reapable(10**6)


def test_a_restored_tree_goes_on_as_the_original_does(client):
    """Sequence numbers, sessions and counters continue where the snapshot was taken."""
    fill(client)
    copy = restored(client.tree.snapshot())
    frames = (
        wire.create(b"/p/s-", flags=3).frame(1)
        + wire.delete(b"/p/null").frame(2)
        + wire.CLOSE_SESSION.frame(3)
    )
    outs = ([], [])
    for tree, out in zip((client.tree, copy), outs, strict=True):
        tree.apply_frames(client.id, client.owner, frames, 5, out)
    assert outs[0] == outs[1]
    assert copy.digest() == client.tree.digest()
    assert dump(copy) == dump(client.tree)


def test_piece_boundaries_mean_nothing(client):
    """Byte by byte or all at once: the same tree."""
    fill(client)
    data = b"".join(client.tree.snapshot())
    for size in (1, 7, 1000, len(data)):
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        assert restored(pieces).digest() == client.tree.digest()


@pytest.mark.parametrize("seed", range(8))
def test_a_snapshot_is_exact_while_writes_go_on(client, monkeypatch, seed):
    """Whatever is created, changed, deleted, undone or expired meanwhile does not show."""
    monkeypatch.setattr(snapshot_module, "CHUNK_SIZE", 64)
    draw = random.Random(seed)
    fill(client)
    for i in range(30):
        client.create(b"/p/n%d" % i, b"x" * i, draw.choice([0, 1]))
    expected = (dump(client.tree), client.tree.digest())
    capture = client.tree.snapshot()
    chunks = []
    for i, chunk in enumerate(capture):
        chunks.append(chunk)
        path = b"/p/n%d" % draw.randrange(40)
        part = draw.choice(
            [
                wire.set_data(path, b"changed %d" % i),
                wire.delete(path),
                wire.create(path, b"recreated"),
                wire.set_acl(path, wire.encode_acl((31, "digest", "a:b"))),
                wire.multi([wire.delete(path), wire.create(path, b"multi")]),
                wire.multi([wire.set_data(path, b""), wire.delete(path), wire.check(b"/no", 0)]),
            ]
        )
        client.write(part)
        if i == 12:
            client.tree.add_identity(client.id, client.owner, "digest", "late:h")
            other = min(set(client.tree.sessions) - {client.id})
            client.tree.expire_session(other, 1)
        if i == 25:
            client.tree.open_session(bytes(16), 1, client.owner, (), 1)
    assert len(chunks) > 30
    copy = restored(chunks)
    assert (dump(copy), copy.digest()) == expected
    assert client.tree._state.capture is None


def test_sessions_that_change_or_end_during_a_snapshot_are_in_it_as_they_were(client, monkeypatch):
    """Attached, authenticated and expired sessions that the walk has not reached are kept aside."""
    monkeypatch.setattr(snapshot_module, "CHUNK_SIZE", 64)
    fill(client)
    tree = client.tree
    ending = tree.open_session(bytes(16), 1, Owner(1, 1, 3), (), 1).session_id
    moving = tree.open_session(bytes(16), 1, Owner(1, 1, 4), (), 1).session_id
    expected = (dump(tree), tree.digest())
    capture = tree.snapshot()
    chunks = [next(capture)]
    assert tree.attach_session(moving, bytes(16), 2, Owner(2, 1, 1), (("ip", "::1"),))
    assert tree.add_identity(client.id, client.owner, "digest", "late:h")
    assert tree.expire_session(ending, 2)
    assert tree.expire_session(client.id, 2)
    chunks += capture
    copy = restored(chunks)
    assert (dump(copy), copy.digest()) == expected


def test_without_the_barrier_the_snapshot_would_be_fuzzy(client, monkeypatch):
    """The exactness comes from keeping records aside: without that the same run shows changes."""
    monkeypatch.setattr(snapshot_module, "CHUNK_SIZE", 64)
    fill(client)
    expected = client.tree.digest()
    capture = client.tree.snapshot()
    monkeypatch.setattr(snapshot_module.Capture, "keep_znode", lambda *_: None)
    chunks = [next(capture)]
    client.write(wire.set_data(b"/closed", b""))
    client.write(wire.set_data(b"/p", b"too late"))
    chunks += capture
    tree = Tree()
    with pytest.raises(CorruptData, match="future"):
        tree.restore(chunks)
    assert tree.digest() != expected


def test_a_new_snapshot_gives_up_the_one_before(client):
    """At most one is under way; the abandoned one ends and costs nothing any more."""
    fill(client)
    first = client.tree.snapshot()
    next(first)
    second = client.tree.snapshot()
    assert list(first) == []
    assert client.tree._state.capture is second
    second.close()
    assert client.tree._state.capture is None
    second.close()
    third = client.tree.snapshot()
    client.tree.restore(list(third))
    assert client.tree._state.capture is None


def test_every_truncation_is_noticed(client):
    """A snapshot cut anywhere, also between blocks, is CorruptData."""
    fill(client)
    data = b"".join(client.tree.snapshot())
    for size in range(len(data)):
        with pytest.raises(CorruptData):
            Tree().restore([data[:size]])


def test_every_flipped_bit_is_noticed(client):
    """Damage in any byte is CorruptData, never another exception and never another tree."""
    fill(client)
    data = b"".join(client.tree.snapshot())
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        with pytest.raises(CorruptData):
            Tree().restore([bytes(damaged)])


def test_blocks_out_of_place_are_noticed(client, monkeypatch):
    """Missing, repeated and swapped blocks are CorruptData although each checksum is right."""
    monkeypatch.setattr(snapshot_module, "CHUNK_SIZE", 64)
    fill(client)
    blocks = list(client.tree.snapshot())
    end = blocks[-1]
    wrong = [
        [],
        blocks[1:],
        blocks[:-1],
        [*blocks, end],
        [blocks[0], *blocks],
        [*blocks[:-1], blocks[-2], end],
        [end, *blocks[:-1]],
    ]
    wrong += [blocks[:i] + blocks[i + 1 :] for i in range(1, len(blocks) - 1)]
    for chunks in wrong:
        with pytest.raises(CorruptData):
            Tree().restore(chunks)


def test_a_znode_without_its_parent_before_it_is_noticed(client, monkeypatch):
    """Links are rebuilt on the way, so order is part of the format; nothing is made up."""
    monkeypatch.setattr(snapshot_module, "CHUNK_SIZE", 1)
    client.create(b"/p")
    client.create(b"/p/c")
    head, *middle, end = client.tree.snapshot()
    parent = next(i for i, block in enumerate(middle) if block.endswith(b"/p"))
    child = next(i for i, block in enumerate(middle) if block.endswith(b"/p/c"))
    assert restored([head, *middle, end]).znodes[b"/p"].children == {b"/p/c": None}
    middle[parent], middle[child] = middle[child], middle[parent]
    with pytest.raises(CorruptData, match="parent"):
        Tree().restore([head, *middle, end])


def test_a_block_that_claims_to_be_huge_is_refused_at_once():
    """The size is judged before anything is gathered."""
    with pytest.raises(CorruptData, match="use another snapshot"):
        Tree().restore([b"\xff" * 8, b"x"])


def test_the_invariants_of_the_state_can_fail(client):
    """check_state sees each kind of disagreement it is there for."""
    client.create(b"/p")
    client.create(b"/p/e", flags=1)
    state = client.tree._state

    def broken():
        with pytest.raises(InvariantBroken):
            check_state(state)

    check_state(state)
    del state.znodes[b"/p"].children[b"/p/e"]
    broken()
    state.znodes[b"/p"].children[b"/p/e"] = None
    client.session.ephemerals.clear()
    broken()
    client.session.ephemerals.add(b"/p/e")
    state.containers[b"/p"] = None
    broken()
    state.containers.clear()
    state.znodes[b"/p"].pzxid = state.zxid + 1
    broken()
    state.znodes[b"/p"].pzxid = state.zxid
    check_state(state)
