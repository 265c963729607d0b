"""Frames between nodes."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.errors import RemoteProtocolError
from quorate.protocol.peer import (
    ASKER_FRAME_BYTES_MAX,
    HELLO_BYTES_MAX,
    HELLO_CHANNEL,
    Hello,
    PeerConnection,
    common_version,
    encode_frame,
)

HELLO = Hello("cluster", 3, "directory", 7, 99, "host:2281")


def frame(channel, payload):
    return b"".join(encode_frame(channel, payload))


def opened(frame_bytes_max=10_000):
    connection = PeerConnection(frame_bytes_max)
    assert connection.receive(frame(HELLO_CHANNEL, HELLO.encode())) == []
    return connection


def test_the_hello_is_kept_and_not_given():
    """Who speaks is known before anything is delivered."""
    assert opened().hello == HELLO


@given(
    frames=st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=60)), max_size=8),
    cuts=st.lists(st.integers(1, 80), max_size=30),
)
def test_frames_come_out_as_they_went_in_wherever_they_are_cut(frames, cuts):
    """Chunks have no meaning."""
    stream = frame(HELLO_CHANNEL, HELLO.encode()) + b"".join(frame(*f) for f in frames)
    connection = PeerConnection()
    received = []
    for cut in [*cuts, len(stream)]:
        received += connection.receive(stream[:cut])
        stream = stream[cut:]
    assert received == frames


@given(position=st.integers(0, 40), bit=st.integers(0, 7))
def test_a_flipped_bit_is_never_delivered(position, bit):
    """A damaged frame is an error or waits for more; it is never taken for another."""
    damaged = bytearray(frame(5, b"x" * 32))
    damaged[position] ^= 1 << bit
    connection = opened()
    try:
        assert connection.receive(bytes(damaged)) == []
    except RemoteProtocolError:
        with pytest.raises(RemoteProtocolError):
            connection.receive(frame(5, b"good"))


@given(st.binary(min_size=9, max_size=700))
def test_strangers_get_an_error_and_little_memory(data):
    """Bytes that open with no hello raise, or wait within the hello's bound."""
    connection = PeerConnection()
    try:
        assert connection.receive(data) == []
    except RemoteProtocolError:
        return
    assert connection._held_bytes < HELLO_BYTES_MAX + 8


def test_a_long_frame_is_refused_before_it_is_kept():
    """The length is enough to say no: before the hello a small one, afterwards the setting."""
    with pytest.raises(RemoteProtocolError, match="at most 1024"):
        PeerConnection().receive(frame(HELLO_CHANNEL, bytes(1100))[:12])
    with pytest.raises(RemoteProtocolError, match="at most 10000"):
        opened().receive(frame(1, bytes(10_000))[:12])
    assert opened().receive(frame(1, bytes(9_999))) == [(1, bytes(9_999))]


def test_whoever_only_asks_may_say_little():
    """A hello without a cluster, which anybody can send, buys 64 KiB and not 64 MiB."""
    asker = HELLO._replace(cluster_id="", address="")
    connection = PeerConnection()
    assert connection.receive(frame(HELLO_CHANNEL, asker.encode())) == []
    assert connection.hello == asker
    with pytest.raises(RemoteProtocolError, match=f"at most {ASKER_FRAME_BYTES_MAX}"):
        connection.receive(frame(1, bytes(ASKER_FRAME_BYTES_MAX))[:12])


def test_only_one_hello_opens_a_link():
    """A first frame that is none and a second hello are errors."""
    with pytest.raises(RemoteProtocolError, match="open with a hello"):
        PeerConnection().receive(frame(1, HELLO.encode()))
    with pytest.raises(RemoteProtocolError, match="second hello"):
        opened().receive(frame(HELLO_CHANNEL, HELLO.encode()))


def hello_of_the_first_release(version=1):
    """As quorate wrote it before there were ranges: nothing behind the names."""
    head = struct.pack(">8sHIQQ", b"QUORATE\n", version, 3, 7, 99)
    return head + b"\x00\x07cluster" + b"\x00\x09directory"


def test_hellos_of_other_versions_can_be_read():
    """Before anything is agreed: older ones, newer ones, and newer ones with unknown fields."""
    old = Hello.decode(hello_of_the_first_release())
    assert (old.node_id, old.version_min, old.version) == (3, 1, 1)
    assert old.versions == "version 1"
    new = HELLO._replace(version=900, version_min=800, address="b.example:2281")
    assert Hello.decode(new.encode()) == new
    assert new.versions == "versions 800 to 900"
    unknown = b"\xc8\x00\x04what"
    assert Hello.decode(new.encode() + unknown) == new


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ((2, 2), (2, 2), 2),
        ((2, 5), (3, 4), 4),
        ((2, 3), (3, 4), 3),
        ((1, 1), (2, 2), None),
        ((5, 9), (1, 4), None),
    ],
)
def test_the_highest_common_version_is_used(one, other, common):
    """Both sides come to the same version, or to none."""
    first = HELLO._replace(version_min=one[0], version=one[1])
    second = HELLO._replace(version_min=other[0], version=other[1])
    assert common_version(first, second) == common
    assert common_version(second, first) == common


@pytest.mark.parametrize(
    "tail",
    [
        b"\x01",
        b"\x01\x00\x02\x00",
        b"\x01\x00\x02\x00\x02\x01\x00\x02\x00\x02",  # one tag twice
        b"\x01\x00\x02\x00\x09",  # lowest above highest
        b"\x01\x00\x01\x01",  # a version of one byte
        b"\x02\x00\x02\xff\xff",  # no text
        b"\x02\x01\xf4" + b"x" * 500,  # an address too long
    ],
)
def test_damaged_fields_are_errors(tail):
    """Fields that do not fit their lengths, come twice or contradict each other are refused."""
    with pytest.raises(RemoteProtocolError, match="damaged fields"):
        Hello.decode(hello_of_the_first_release(2) + tail)


@given(st.binary(max_size=80))
def test_damaged_hellos_are_errors(tail):
    """Nothing but ``RemoteProtocolError`` comes out of ``decode``."""
    with suppress(RemoteProtocolError):
        Hello.decode(HELLO.encode()[:20] + tail)
