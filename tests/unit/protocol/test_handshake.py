"""The first exchange on a client's connection."""

from contextlib import suppress
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.errors import RemoteProtocolError
from quorate.protocol.handshake import (
    NO_PASSWORD,
    ConnectRequest,
    encode_connected,
    encode_refused,
    parse_connect,
)


def connect(version=0, zxid=7, timeout_ms=9, session_id=5, password=b"p" * 16, tail=b"\0"):
    length = -1 if password is None else len(password)
    return pack(">iqiqi", version, zxid, timeout_ms, session_id, length) + (password or b"") + tail


@pytest.mark.parametrize(("tail", "has_read_only"), [(b"", False), (b"\0", True), (b"\1", True)])
def test_both_forms_are_read(tail, has_read_only):
    """44 bytes are the old form, 45 the new one; the byte's value says nothing to us."""
    request = parse_connect(connect(tail=tail))
    assert request == ConnectRequest(7, 9, 5, b"p" * 16, has_read_only)


@pytest.mark.parametrize("password", [None, b""])
def test_an_absent_password_is_a_password_of_zeros(password):
    """Clients without a session may leave it empty or null."""
    assert parse_connect(connect(password=password)).password == NO_PASSWORD


@pytest.mark.parametrize(
    "body",
    [
        b"",
        connect()[:27],
        connect()[:43],
        connect(version=1),
        connect(password=b"p" * 15, tail=b"\0\0"),
        connect(password=b"", tail=b"\0\0"),
        connect(tail=b"\0\0"),
    ],
)
def test_anything_else_is_refused(body):
    """Wrong lengths, versions and passwords are no handshake."""
    with pytest.raises(RemoteProtocolError):
        parse_connect(body)


@given(st.binary(min_size=20, max_size=50))
def test_random_bytes_are_a_handshake_or_an_error(body):
    """Nothing but ``RemoteProtocolError`` comes out."""
    with suppress(RemoteProtocolError):
        assert len(parse_connect(body).password) == 16


def test_answers_have_the_form_of_the_question():
    """36 or 37 bytes behind a length; a refusal is all zeros but for the password's length."""
    assert encode_connected(1, 2, b"p" * 16, has_read_only=False) == (
        pack(">iiiqi", 36, 0, 1, 2, 16) + b"p" * 16
    )
    assert encode_connected(1, 2, b"p" * 16, has_read_only=True)[-1:] == b"\0"
    assert encode_refused(has_read_only=True) == pack(">iiiqi", 37, 0, 0, 0, 16) + bytes(17)
