"""Codecs and queues of replication against the obvious models."""

from hypothesis import given
from hypothesis import strategies as st

from quorate.errors import CorruptData, RemoteProtocolError
from quorate.replication.batch import (
    decode_entry,
    encode_entry,
    encode_sub_batch,
    iterate_sub_batches,
)
from quorate.replication.intake import Intake
from quorate.replication.origins import AppliedBatches
from quorate.replication.outbox import Outbox
from quorate.replication.snapshots import encode_header, split_header

sub_batches = st.tuples(
    st.integers(1, 2**32 - 1),
    st.integers(1, 2**64 - 1),
    st.integers(1, 2**64 - 1),
    st.binary(max_size=50),
)


@given(st.integers(0, 2**64 - 1), st.lists(sub_batches, max_size=8))
def test_entry_round_trip(time_ms, subs):
    """What goes into an entry comes out of it, frames untouched."""
    payload = encode_entry(time_ms, [encode_sub_batch(*sub) for sub in subs])
    decoded_time, decoded = decode_entry(payload)
    assert decoded_time == time_ms
    assert [tuple(sub[:4]) for sub in decoded] == subs


@given(st.binary(max_size=80))
def test_garbage_is_refused_or_decoded_never_anything_else(data):
    """Random bytes raise RemoteProtocolError or decode; nothing else escapes."""
    for decode in (lambda: list(iterate_sub_batches(data)), lambda: AppliedBatches.decode(data)):
        try:
            decode()
        except RemoteProtocolError:
            continue


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4)), max_size=60))
def test_applied_batches_against_a_naive_set(attempts):
    """Exactly the next number of the newest incarnation applies; the table survives encoding."""
    table = AppliedBatches()
    newest: dict[int, int] = {}
    applied: dict[tuple[int, int], int] = {}
    for node, incarnation, number in attempts:
        expected = incarnation >= newest.get(node, 0) and number == (
            applied.get((node, incarnation), 0) + 1
        )
        assert table.is_next(node, incarnation, number) == expected
        if expected:
            table.record(node, incarnation, number)
            newest[node] = incarnation
            applied[node, incarnation] = number
    again = AppliedBatches.decode(table.encode())
    assert again.encode() == table.encode()


@given(st.integers(0, 2**63), st.lists(st.binary(max_size=9), max_size=9), st.integers(1, 9))
def test_snapshot_header_survives_any_piece_boundaries(time_ms, pieces, size):
    """A snapshot may arrive in other pieces than it was written in."""
    applied = AppliedBatches()
    applied.record(2, 1, 1)
    data = encode_header(time_ms, applied) + b"".join(pieces)
    cut = [data[at : at + size] for at in range(0, len(data), size)]
    got_time, got_applied, rest = split_header(cut)
    assert (got_time, got_applied.encode()) == (time_ms, applied.encode())
    assert b"".join(rest) == b"".join(pieces)


@given(st.binary(max_size=40))
def test_garbage_snapshot_header_is_corrupt_data(data):
    """Bytes that are no snapshot of ours raise CorruptData."""
    try:
        split_header([data])
    except CorruptData:
        return
    assert data.startswith(b"QSNP")


@given(st.lists(st.sampled_from(["submit", "apply", "take", "resend"]), max_size=60))
def test_outbox_sends_everything_in_order_to_each_leader(actions):
    """Since the last resend, what was taken is exactly what is pending, in order."""
    outbox = Outbox(1, 1)
    submitted, applied, taken = 0, 0, []
    for action in actions:
        if action == "submit":
            submitted = outbox.submit(b"p")
        elif action == "apply" and applied < submitted:
            applied += 1
            outbox.applied(applied)
        elif action == "resend":
            outbox.resend()
            taken = list(range(1, applied + 1))
        elif action == "take":
            fresh = [
                sub.number for _, raw in outbox.take_unsent() for sub in iterate_sub_batches(raw)
            ]
            assert fresh == [n for n in range(applied + 1, submitted + 1) if n not in taken]
            taken += fresh
    assert len(outbox) == submitted - applied == (outbox.number_last - outbox.number_settled)


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(1, 6)), max_size=40))
def test_intake_admits_each_number_once_and_in_order(arrivals):
    """Whatever is resent, reordered or lost, the log gets 1, 2, 3 ... of each origin."""
    intake = Intake(1 << 20)
    intake.open(AppliedBatches())
    for node, number in arrivals:
        intake.admit(encode_sub_batch(node, 1, number, b""))
    out = [sub for raw in intake.take(1 << 20) for sub in iterate_sub_batches(raw)]
    for node in (1, 2):
        numbers = [sub.number for sub in out if sub.node == node]
        assert numbers == list(range(1, len(numbers) + 1))
    assert not intake
    assert intake.bytes_gathered == 0
