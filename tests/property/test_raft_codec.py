"""Raft messages on the wire: nothing is lost, nothing malformed gets in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.consensus.entry import Entry, EntryKind, SnapshotMeta
from quorate.consensus.membership import Configuration
from quorate.consensus.raft import messages as m
from quorate.consensus.raft.codec import decode, decode_hard_state, encode, encode_hard_state
from quorate.errors import RemoteProtocolError

U64 = st.integers(0, (1 << 64) - 1)
BOOL = st.booleans()
CONFIGURATION = Configuration.of([1, 2, 3], [4]).encode()


@st.composite
def appends(draw: st.DrawFn) -> m.Append:
    """Well-formed Appends: epochs rise towards the term."""
    epochs = sorted(draw(st.lists(st.integers(0, 50), max_size=6)))
    previous = draw(st.integers(0, 1000))
    entries = []
    for index, epoch in enumerate(epochs[1:], start=previous + 1):
        kind = draw(st.sampled_from(EntryKind))
        fixed = {EntryKind.CONFIGURATION: CONFIGURATION, EntryKind.WITHHELD: b""}
        payload = fixed.get(kind, draw(st.binary()))
        entries.append(Entry(index, epoch, kind, payload))
    term = draw(st.integers(max(epochs, default=0), 60))
    return m.Append(term, previous, min(epochs, default=0), draw(U64), entries)


CHUNKS = st.builds(
    lambda term, index, offset, data, last: m.InstallChunk(
        term, SnapshotMeta(index, term, CONFIGURATION), offset, data, last
    ),
    st.integers(1, 99),
    st.integers(1, 99),
    U64,
    st.binary(),
    BOOL,
)
MESSAGES = st.one_of(
    appends(),
    CHUNKS,
    st.builds(m.VoteRequest, U64, U64, U64, BOOL, BOOL),
    st.builds(m.VoteReply, U64, U64, BOOL, BOOL),
    st.builds(m.AppendReply, U64, U64),
    st.builds(m.AppendRejected, U64, U64, U64, U64),
    st.builds(m.Heartbeat, U64, U64, U64),
    st.builds(m.HeartbeatReply, U64, U64),
    st.builds(m.LeasePromise, U64, U64, st.integers(0, (1 << 32) - 1)),
    st.builds(m.TermNotice, U64),
    st.builds(m.ReadRequest, U64, U64),
    st.builds(m.ReadReply, U64, U64, U64),
    st.builds(m.InstallReply, U64, U64, U64, BOOL),
    st.builds(m.TimeoutNow, U64),
    st.builds(m.RemovalNotice, U64, U64),
)


@given(MESSAGES)
def test_messages_survive_the_wire(message: m.RaftMessage) -> None:
    """decode(encode(m)) == m, payload bytes included."""
    assert decode(encode(message)) == message


@given(MESSAGES, st.data())
def test_a_cut_message_is_refused_or_shorter_data(
    message: m.RaftMessage, data: st.DataObject
) -> None:
    """A truncated message is never taken for the whole one."""
    encoded = encode(message)
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    try:
        assert decode(cut) != message
        assert isinstance(message, m.InstallChunk), "only raw data has no length of its own"
    except RemoteProtocolError:
        pass


@given(MESSAGES, st.data())
def test_a_damaged_message_never_raises_anything_else(
    message: m.RaftMessage, data: st.DataObject
) -> None:
    """Whatever the other side sends, the only error is RemoteProtocolError."""
    encoded = bytearray(encode(message))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    encoded += data.draw(st.binary(max_size=3))
    try:
        again = decode(bytes(encoded))
    except RemoteProtocolError:
        return
    assert encode(again) == bytes(encoded), "one message has one form"


@given(st.binary())
def test_noise_is_refused_or_well_formed(data: bytes) -> None:
    """Random bytes decode to themselves or not at all."""
    try:
        message = decode(data)
    except RemoteProtocolError:
        return
    assert encode(message) == data


@pytest.mark.parametrize(
    "entries",
    [
        [Entry(6, 9, EntryKind.BATCH, b"")],  # newer than the sender's term
        [Entry(6, 1, EntryKind.BATCH, b"")],  # older than the entry before
        [Entry(6, 3, EntryKind.BATCH, b""), Entry(7, 2, EntryKind.BATCH, b"")],
        [Entry(6, 3, 7, b"")],  # unknown kind
        [Entry(6, 3, EntryKind.CONFIGURATION, b"nonsense")],
    ],
)
def test_entries_that_no_leader_sends_are_refused(entries: list[Entry]) -> None:
    """What would break the log's invariants is refused at the gate."""
    with pytest.raises(RemoteProtocolError):
        decode(encode(m.Append(5, 5, 2, 0, entries)))


def test_a_count_beyond_the_data_is_refused_before_anything_is_built() -> None:
    """A small message cannot make us allocate for four thousand million entries."""
    data = bytearray(encode(m.Append(5, 5, 2, 0, [])))
    data[-4:] = b"\xff\xff\xff\xff"
    with pytest.raises(RemoteProtocolError):
        decode(bytes(data))


@given(U64, st.integers(0, (1 << 32) - 1))
def test_hard_state_survives_the_disk(term: int, vote: int) -> None:
    """Term and vote are one value; anything of another size is none."""
    data = encode_hard_state(term, vote)
    assert decode_hard_state(data) == (term, vote)
    assert decode_hard_state(data[:-1]) is None
