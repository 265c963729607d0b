"""The payload of a batch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.errors import RemoteProtocolError
from quorate.tree.batch import (
    AddIdentities,
    Attach,
    Expire,
    Frames,
    Held,
    Open,
    Reap,
    check_batch,
    encode_run,
    read_runs,
)

SESSION = st.integers(-(2**63), 2**63 - 1)
U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)
PASSWORD = st.binary(min_size=16, max_size=16)
IDENTITIES = st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=4).map(tuple)
RUNS = st.lists(
    st.builds(Frames, SESSION, U64, st.binary(max_size=50))
    | st.builds(Open, U64, U32, PASSWORD, IDENTITIES)
    | st.builds(Attach, SESSION, U64, U32, PASSWORD, IDENTITIES)
    | st.builds(AddIdentities, SESSION, U64, IDENTITIES)
    | st.builds(
        Expire,
        SESSION,
        st.lists(st.builds(Held, SESSION, U32, U64, U64), max_size=4).map(tuple),
        U64,
    )
    | st.builds(Reap, st.lists(st.binary(max_size=9), max_size=4).map(tuple)),
    max_size=6,
)


@given(RUNS)
def test_what_was_encoded_is_read_back(runs):
    """Every run comes back as it was, in order."""
    assert list(read_runs(b"".join(map(encode_run, runs)))) == runs


@given(RUNS.filter(bool), st.data())
def test_a_batch_cut_inside_a_run_is_refused(runs, data):
    """No prefix that ends inside a run passes for a batch."""
    encoded = [encode_run(run) for run in runs]
    payload = b"".join(encoded)
    start = len(payload) - len(encoded[-1])
    cut = data.draw(st.integers(start + 1, len(payload) - 1))
    with pytest.raises(RemoteProtocolError):
        check_batch(payload[:cut])


@given(st.binary(max_size=80))
def test_random_bytes_are_a_batch_or_an_error(payload):
    """Nothing but ``RemoteProtocolError`` comes out of the check."""
    try:
        check_batch(payload)
    except RemoteProtocolError:
        return
    assert b"".join(map(encode_run, read_runs(payload))) == payload
