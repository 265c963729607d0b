"""The jute reader: exact within its bounds, an error beyond them."""

from __future__ import annotations

import pytest

from quorate.errors import RemoteProtocolError
from quorate.protocol.jute import NULL, Reader, encode_buffer, encode_strings
from quorate.protocol.zookeeper import (
    SetWatchesRequest,
    Stat,
    decode_auth_request,
    decode_set_watches,
    decode_stat,
    encode_event,
    encode_reply,
)


def test_values_are_read_one_after_another():
    """Each kind of value, in the order in which it was written."""
    data = b"\1" + b"\xff\xff\xff\xfe" + b"\0\0\0\1\0\0\0\0" + encode_buffer(b"ab") + NULL
    data += encode_strings([b"x", b""]) + NULL
    reader = Reader(b"skip" + data + b"rest", 4)
    assert (reader.boolean(), reader.int32(), reader.int64()) == (True, -2, 2**32)
    assert (reader.buffer(), reader.buffer(), reader.strings()) == (b"ab", None, [b"x", b""])
    assert (reader.strings(), reader.at) == ([], len(data) + 4)


@pytest.mark.parametrize("method", ["boolean", "int32", "int64", "buffer", "string", "strings"])
def test_nothing_is_read_beyond_the_end(method):
    """The end given counts, not the end of the bytes behind it."""
    for size in range({"boolean": 1, "int64": 8}.get(method, 4)):
        with pytest.raises(RemoteProtocolError):
            getattr(Reader(bytes(20), 2, 2 + size), method)()


@pytest.mark.parametrize("length", [b"\0\0\0\5", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xfe"])
def test_impossible_lengths_are_refused(length):
    """Longer than what is there, or negative but not -1."""
    for method in ("buffer", "string", "strings"):
        with pytest.raises(RemoteProtocolError):
            getattr(Reader(length + b"abcd"), method)()


def test_a_string_is_never_null():
    """buffer() may be null; string() insists."""
    with pytest.raises(RemoteProtocolError):
        Reader(NULL).string()


def test_counts_are_checked_against_the_bytes_left():
    """A count passes exactly when its elements could fit."""
    assert Reader(b"\0\0\0\2" + bytes(24)).count(12) == 2
    assert Reader(NULL).count(12) == -1
    with pytest.raises(RemoteProtocolError):
        Reader(b"\0\0\0\3" + bytes(24)).count(12)
    with pytest.raises(RemoteProtocolError):
        Reader(b"\xff\xff\xff\xfe").count(12)


def test_small_records_are_read():
    """auth, setWatches, setWatches2 and Stat."""
    body = bytes(4) + encode_buffer(b"digest") + encode_buffer(b"u:p")
    assert decode_auth_request(body) == (0, "digest", b"u:p")
    with pytest.raises(RemoteProtocolError):
        decode_auth_request(bytes(4) + encode_buffer(b"\xff") + NULL)
    lists = [encode_strings([b"/%d" % i]) for i in range(5)]
    body = b"\0" * 7 + b"\x09" + b"".join(lists[:3])
    expected = SetWatchesRequest(9, [b"/0"], [b"/1"], [b"/2"], [], [])
    assert decode_set_watches(body, extended=False) == expected
    with pytest.raises(RemoteProtocolError):
        decode_set_watches(body, extended=True)
    body += b"".join(lists[3:])
    extended = decode_set_watches(body, extended=True)
    assert (extended.persistent, extended.recursive) == ([b"/3"], [b"/4"])
    assert decode_stat(bytes(68)) == Stat(*[0] * 11)
    with pytest.raises(RemoteProtocolError):
        decode_stat(bytes(67))


def test_replies_and_events_are_whole_frames():
    """Length, header and body, as a client expects them."""
    assert encode_reply(1, 2, -101) == b"\0\0\0\x10\0\0\0\1\0\0\0\0\0\0\0\2\xff\xff\xff\x9b"
    assert encode_event(3, b"/a", 9) == (
        b"\0\0\0\x1e\xff\xff\xff\xff\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\3\0\0\0\3\0\0\0\2/a"
    )
