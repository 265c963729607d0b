"""Bytes that were once valid frames: never an exception, and the same result on every replica."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.errors import CorruptData, RemoteProtocolError
from quorate.protocol import zookeeper_client as wire
from quorate.protocol.jute import INT
from quorate.protocol.zookeeper import OpCode
from quorate.tree.sessions import Owner
from quorate.tree.state import check_state
from quorate.tree.tree import Tree

OWNER = Owner(1, 1, 1)
ACL = wire.encode_acl((31, "ip", "10.0.0.0/8"), (1, "digest", "u:h"), (31, "auth", ""))
VALID = [
    wire.create(b"/a/b", b"data"),
    wire.create(b"/a/s-", None, 3),
    wire.create(b"/a/c", b"", acl=ACL, opcode=OpCode.CREATE2),
    wire.create(b"/a/t", b"", 6, ttl_ms=5),
    wire.set_data(b"/a", b"data", 0),
    wire.set_acl(b"/a", ACL),
    wire.delete(b"/a/x"),
    wire.multi([wire.create(b"/a/m"), wire.check(b"/a", 0), wire.delete(b"/a/x")]),
    wire.multi([wire.set_data(b"/a", b""), wire.create(b"/a/n", acl=ACL), wire.delete(b"/no")]),
    wire.CLOSE_SESSION,
]
READS = [
    wire.get(opcode, b"/a", watch=True)
    for opcode in (3, 4, 6, 8, 12, OpCode.GET_EPHEMERALS, OpCode.GET_ALL_CHILDREN_NUMBER)
]
READS.append(wire.multi([wire.get(4, b"/a"), wire.get(8, b"/no")], OpCode.MULTI_READ))

INTERESTING = [INT.pack(n) for n in (-1, -2, 0, 1, 5, 13, 14, 21, 255, 2**31 - 1, -(2**31))]
MUTATIONS = st.lists(
    st.tuples(st.integers(0, 400), st.one_of(st.binary(max_size=4), st.sampled_from(INTERESTING))),
    max_size=4,
)


def mutate(frame, mutations):
    """Overwrite bytes behind the frame length, which the connection has checked before."""
    changed = bytearray(frame)
    for at, value in mutations:
        at = 4 + at % (len(frame) - 4)
        changed[at : at + len(value)] = value
    changed = changed[: len(frame)]
    return bytes(changed)


def prepared():
    tree = Tree()
    session = tree.open_session(bytes(16), 1, OWNER, (("digest", "me:h"),), 1)
    frames = wire.create(b"/a").frame(1) + wire.create(b"/a/x").frame(2)
    tree.apply_frames(session.session_id, OWNER, frames, 1, None)
    return tree, session


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(VALID), MUTATIONS), min_size=1, max_size=5))
def test_mutated_writes_are_answered_alike_everywhere(frames):
    """One reply for each frame, no exception, and the same digest with replies and without."""
    run = b"".join(mutate(part.frame(i), changes) for i, (part, changes) in enumerate(frames))
    (ours, session), (theirs, _) = prepared(), prepared()
    out = []
    ours.apply_frames(session.session_id, OWNER, run, 2, out)
    theirs.apply_frames(session.session_id, OWNER, run, 2, None)
    assert len(out) == len(frames)
    for frame in out:
        wire.decode_reply(frame)
    check_state(ours._state)
    assert ours.digest() == theirs.digest()
    copy = Tree()
    copy.restore(ours.snapshot())
    assert copy.digest() == ours.digest()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise(run):
    """Not even frames whose lengths lie."""
    tree, session = prepared()
    out = []
    tree.apply_frames(session.session_id, OWNER, run, 2, out)
    for frame in out:
        wire.decode_reply(frame)
    check_state(tree._state)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(READS), MUTATIONS)
def test_mutated_reads_are_answered_or_end_the_connection(part, mutations):
    """A reply or RemoteProtocolError, and the state is as before."""
    tree, session = prepared()
    digest = tree.digest()
    out = []
    with contextlib.suppress(RemoteProtocolError):
        tree.read(session, mutate(part.frame(1), mutations), "me", out)
        wire.decode_reply(out[0])
    assert tree.digest() == digest


@settings(max_examples=200, deadline=None, derandomize=True)
@given(MUTATIONS)
def test_mutated_snapshots_are_corrupt_data(mutations):
    """Any change of a snapshot's bytes is noticed as such."""
    tree, _ = prepared()
    data = b"".join(tree.snapshot())
    damaged = mutate(data, mutations)
    copy = Tree()
    try:
        copy.restore([damaged])
    except CorruptData:
        assert damaged != data
    else:
        assert damaged == data
        assert copy.digest() == tree.digest()
